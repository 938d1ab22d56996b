//! Lets in only heads that everybody behind reads alike, and takes out of them what a client has no say in.
//!
//! Contract
//! - *Reads*: the head; [`Conn`](crate::conn::Conn): who is at the other end; [`Record`](crate::record::Record) (or the
//!   head itself) for the surface, where a path is written in an unusual way.
//! - *Writes*: [`ClientAddress`](crate::facts::ClientAddress), where a trusted hop names another address than its own.
//! - *Refuses*: [`Malformed`](crate::error::Reason::Malformed) for a path, an authority or a `connection` header that two
//!   readers could understand differently; [`MethodNotAllowed`](crate::error::Reason::MethodNotAllowed);
//!   [`UpgradeRequired`](crate::error::Reason::UpgradeRequired) for a WebSocket;
//!   [`Forbidden`](crate::error::Reason::Forbidden) for strangers, where only this machine is served. All but the last
//!   close the connection.
//! - *Bodies*: the request's loses its trailers and is otherwise untouched, the answer's is untouched. A refusal reads no
//!   body, so that a client that waits for `100 Continue` is never told to go on.
//! - *Ready*: forwards.
//! - *Place*: directly inside `respond`, outside everything that decides by path, names or addresses.
//!
//! # The path
//!
//! A path has one normal form: it passes as it is, or it is refused. Nothing is rewritten, so that what was judged is what
//! the provider reads, whether it undoes percent-encoding once, twice or never. What is refused:
//!
//! | in the path | because |
//! |---|---|
//! | `.` and `..` as segments, also encoded, also before a `;` | a provider would resolve them to another path |
//! | an empty segment, `//` | some merge slashes, some read an authority |
//! | `\`, `;`, control characters, raw or encoded; raw characters beyond ASCII | some servers take the first for `/`, and cut at the second |
//! | encoded `?` and `#` | decoded, they end the path |
//! | `%` that begins no escape, escapes that hide other escapes or what is not UTF-8 | each server does something else with them |
//! | encoded `/`, letters, digits, `-`, `.`, `_`, `~` outside of a model's name | they stand for themselves, and no client encodes them |
//! | what is another surface once it is decoded, in lower case or without its last slash | the provider may be less strict than we are |
//!
//! A model's name may hold `/` and `:`, as they are or encoded (`org%2Fname`, Bedrock's ARNs), and what else its own client
//! encodes: the name that is decoded is the name that counts. Nothing is said about the query.
//!
//! # Headers
//!
//! | header | becomes |
//! |---|---|
//! | `tollgate-*`, `x-tollgate-*` | removed, but for `tollgate-key` and `x-tollgate-metadata`, which are the client's to send |
//! | names with `_` that are, with `-`, a name of the same head, or one of credentials, framing, forwarding or ours | removed: some servers read both as one |
//! | `x-original-url`, `x-rewrite-url` | removed: some servers take their path for the request's |
//! | `x-http-method-override` and its kin | refused: the method is the request line's |
//! | `upgrade: websocket` | refused; any other protocol is left to `upstream`, which removes the header |
//! | `connection` that names `host`, framing or a credential | refused; other names are removed by `upstream`, when all have read them |
//! | two `host`, or one that is not the target's authority | refused |
//! | `x-forwarded-*`, `forwarded`, `x-real-ip` | pass as they came; whom they name counts only if a trusted hop says so |
//!
//! # Whom a hop speaks for
//!
//! Without trusted hops the client is the peer. The list of a trusted peer is read from its right end, where the peer itself
//! wrote: an address that is trusted too gives the word to the one before it, the first that is not is the client.
//! What cannot be read ends the walk. `x-forwarded-for` counts before `forwarded`, and that before `x-real-ip`: a hop that
//! writes one of the latter has to remove the former. A peer over a unix socket, and `::1`, count as 127.0.0.1.
//!
//! # This machine only
//!
//! With [`local_only`](HygieneLayer::local_only) a request is served if its peer is on loopback or a unix socket, its one `host` is
//! `localhost`, in 127.0.0.0/8 or `[::1]`, it carries no header of a proxy, and neither `origin` nor `sec-fetch-site` says that it
//! comes from another site: a page in a browser can reach loopback by a name that it controls. Without a `Conn` nobody
//! says who the peer is, and nothing is served.
//!
//! ```
//! use http::{Request, Response};
//! use http_body_util::Empty;
//! use tollgate_middleware::{error::{BoxError, Reason, Rejection}, hygiene::HygieneLayer};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let service = ServiceBuilder::new().layer(HygieneLayer::new()).service(service_fn(async |_| {
//!     Ok::<_, BoxError>(Response::new("served"))
//! }));
//! let ask = |path: &str| Request::post(path).body(Empty::<&[u8]>::new()).unwrap();
//! assert!(service.clone().oneshot(ask("/v1/models/org%2Fname:generateContent")).await.is_ok());
//! let error = service.oneshot(ask("/v1/files/%2e%2e/admin")).await.unwrap_err();
//! assert_eq!(Rejection::find(&*error).unwrap().reason(), Reason::Malformed);
//! # });
//! ```
//!
//! A proxy on the same machine is believed:
//!
//! ```
//! use http::{Request, Response};
//! use http_body_util::Empty;
//! use tollgate_middleware::{conn::Conn, error::BoxError, facts::ClientAddress, hygiene::{HygieneLayer, RequestBody}};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let layer = HygieneLayer::new().trusted_hops(|address| address.is_loopback());
//! let service = ServiceBuilder::new().layer(layer).service(service_fn(
//!     async |req: Request<RequestBody<Empty<&[u8]>>>| Ok::<_, BoxError>(Response::new(ClientAddress::of(req.extensions()))),
//! ));
//! let mut req = Request::post("/v1/messages").header("x-forwarded-for", "198.51.100.7, 203.0.113.9");
//! req.extensions_mut().unwrap().insert(Conn::of(Some(([127, 0, 0, 1], 50_000).into())));
//! let told = service.oneshot(req.body(Empty::new()).unwrap()).await.unwrap();
//! assert_eq!(told.into_body(), Some([203, 0, 113, 9].into()));
//! # });
//! ```

mod body;
mod forwarded;
mod head;
mod local;
mod path;
mod service;

#[cfg(test)]
mod tests;

pub use self::local::is_loopback;
pub use self::{
    body::RequestBody,
    service::{Hygiene, HygieneLayer, ResponseFuture},
};
use crate::error::{Reason, Rejection};

/// A head that is not let in; nothing more is read from its connection.
#[cold]
fn malformed(told: &'static str) -> Rejection {
    Rejection::new(Reason::Malformed, "hygiene", told).close()
}
