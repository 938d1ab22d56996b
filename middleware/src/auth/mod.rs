//! Says who is calling, and lets in nobody else.
//!
//! Contract
//! - *Reads*: the head; [`ClientAddress`](crate::facts::ClientAddress); [`Record`](crate::record::Record) (or the head itself), for the surface.
//! - *Writes*: [`Caller`](crate::facts::Caller), into the request; its name into the `Record`. Takes the caller's key out of the head.
//! - *Refuses*: [`Unauthenticated`](crate::error::Reason::Unauthenticated), in one sentence whatever is wrong with the key;
//!   [`Malformed`](crate::error::Reason::Malformed) for two different keys; [`Forbidden`](crate::error::Reason::Forbidden) for a caller that may not do
//!   this, or not from here; [`Overloaded`](crate::error::Reason::Overloaded) while nobody can say who it is.
//! - *Bodies*: untouched; a stranger's is not read.
//! - *Ready*: forwards.
//! - *Place*: inside `hygiene`, which knows the client's address, and inside what bounds strangers; outside all that asks who is calling.
//!
//! A key is looked for wherever clients put one. Equal copies are one key; of two different ones nobody could say which one counts.
//!
//! | slot | form |
//! |---|---|
//! | `authorization` | `Bearer …` |
//! | `x-api-key`, `api-key`, `x-goog-api-key` | the key |
//! | `?key=` | the key, percent-encoded; on Gemini's paths only |
//! | `sec-websocket-protocol` | an element `openai-insecure-api-key.…` |
//! | `tollgate-key` | the key; then the other slots hold the caller's own key of the provider, and are not looked at |
//!
//! The slots that the key was found in are emptied, so it goes no further, whatever stands behind. What [`Keys`] keep of a key is its SHA-256:
//! it is found by that, and then compared in constant time.
//!
//! With the feature `jwt`, bearer tokens that a third party signs name callers too: `auth::jwt`.
//!
//! [`AuthLayer::open`] lets everybody in and writes nothing. Who has keys elsewhere brings their own [`Verify`].
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Empty;
//! use tollgate_middleware::{
//!     auth::{AuthLayer, Digest, Grant, Keys},
//!     error::{BoxError, Reason, Rejection},
//!     facts::{Caller, Terms},
//! };
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let grant = Grant::new(Caller::new("team-a", Terms::default()));
//! let keys = Keys::new([(Digest::of("secret").unwrap(), grant)]).unwrap();
//! let service = ServiceBuilder::new().layer(AuthLayer::new(keys)).service(service_fn(async |req: Request<()>| {
//!     assert_eq!(&**req.extensions().get::<Caller>().unwrap().name(), "team-a");
//!     assert!(!req.headers().contains_key("authorization"));
//!     Ok::<_, BoxError>(Response::new(Empty::<Bytes>::new()))
//! }));
//! let request = Request::get("/v1/models").header("authorization", "Bearer secret").body(()).unwrap();
//! service.clone().oneshot(request).await.unwrap();
//! let error = service.oneshot(Request::get("/v1/models").body(()).unwrap()).await.unwrap_err();
//! assert_eq!(Rejection::find(&*error).unwrap().reason(), Reason::Unauthenticated);
//! # });
//! ```

#[cfg(feature = "jwt")]
pub mod jwt;
mod keys;
mod origin;
mod service;
mod slots;

#[cfg(test)]
mod tests;

pub use self::{
    keys::{BadKey, Digest, Grant, Keys, SharedKey},
    service::{Auth, AuthLayer, Known, Presented, ResponseFuture, Unknown, Verify},
};
