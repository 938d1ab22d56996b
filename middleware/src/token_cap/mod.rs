//! Bounds what a request may ask for: output tokens, messages, text.
//!
//! Contract
//! - *Reads*: [`Intent`](crate::facts::Intent), [`Route`](crate::facts::Route) for the model, the held body.
//! - *Writes*: [`OutputLimit`](crate::facts::OutputLimit).
//! - *Refuses*: [`TokenCap`](crate::error::Reason::TokenCap); [`UnsupportedCoding`](crate::error::Reason::UnsupportedCoding) for a body
//!   that cannot be read, on a surface that the cap is about.
//! - *Bodies*: the request's is edited by span; the answer's is untouched.
//! - *Ready*: forwards.
//! - *Place*: inside `peek` and `route`, outside whatever reserves what may be spent.
//!
//! A limit counts in whichever spelling it is written, and for each alternative: `n`, `best_of`, `candidateCount` times. `null` is as good as
//! absent. A limit that is no whole number, or less than none, is refused; only Ollama's `-1` and `-2` mean *without end*.
//!
//! | the limit | what happens |
//! |---|---|
//! | fits | nothing: not a byte changes |
//! | exceeds the cap | [`OnExceed::Clamp`]: the value becomes the cap ÷ alternatives, and nothing else changes; [`OnExceed::Reject`]: refused |
//! | is absent | it is inserted in the spelling of the surface ([`Insert`]) |
//!
//! A body in a model's own words (Bedrock's invoke, Vertex's predict) is read where the model is Anthropic's. Elsewhere nobody knows how
//! its limit is spelled: with a cap it is refused as one that cannot be read. A member that differs from a limit's in its case only is refused:
//! some providers read it as the limit.
//!
//! A cap that is not above `thinking.budget_tokens` is refused, also under [`OnExceed::Clamp`].
//!
//! Without an `Intent` (compressed, unlabelled, unread) the surface is found in the head. Surfaces that generate no text have no output
//! cap; those without text have no cap at all.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Empty, Full};
//! use tollgate_middleware::{
//!     body::Held,
//!     error::BoxError,
//!     peek::{Limited, PeekLayer},
//!     token_cap::{Caps, TokenCapLayer},
//! };
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let caps = Caps { max_tokens: Some(100), ..Caps::off() };
//! let service = ServiceBuilder::new()
//!     .layer(PeekLayer::new(1024 * 1024))
//!     .layer(TokenCapLayer::new(caps))
//!     .service(service_fn(async |req: Request<Held<Limited<Full<Bytes>>>>| {
//!         let sent = req.into_body().collect().await?.to_bytes();
//!         assert_eq!(sent, r#"{"model": "m",  "max_tokens": 100, "messages": []}"#);
//!         Ok::<_, BoxError>(Response::new(Empty::<Bytes>::new()))
//!     }));
//! let body = r#"{"model": "m",  "max_tokens": 4e3, "messages": []}"#;
//! let request = Request::post("/v1/chat/completions").body(Full::from(body)).unwrap();
//! service.oneshot(request).await.unwrap();
//! # });
//! ```

mod policy;
mod service;

#[cfg(test)]
mod tests;

pub use self::{
    policy::{Caps, Insert, OnExceed},
    service::{ResponseFuture, TokenCap, TokenCapLayer},
};
