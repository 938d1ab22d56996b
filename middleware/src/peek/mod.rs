//! Reads a request body once and says what it asks for.
//!
//! Contract
//! - *Reads*: [`Record`](crate::record::Record) (or the head itself), the body.
//! - *Writes*: [`Intent`](crate::facts::Intent), into the request and its `Record`.
//! - *Refuses*: [`Malformed`](crate::error::Reason::Malformed) with the place of the fault,
//!   [`TooLarge`](crate::error::Reason::TooLarge), [`RequestTimeout`](crate::error::Reason::RequestTimeout);
//!   [`Overloaded`](crate::error::Reason::Overloaded) where the bodies of all requests have no room left.
//! - *Bodies*: the request's becomes [`Held`](crate::body::Held); the answer's is untouched.
//! - *Ready*: forwards.
//! - *Place*: inside what needs the head alone, outside what asks what is wanted.
//!
//! | body | what happens |
//! |---|---|
//! | JSON on a known surface | read whole, checked, held; `Intent` with spans |
//! | multipart on a surface that takes forms | read until its part `model` is known, then streamed; `Intent` with the model and its span |
//! | compressed, another type, an unknown surface | streamed, counted against the limit; no `Intent` |
//! | of a GET, HEAD or OPTIONS | not read; no `Intent` |
//!
//! An empty body is no JSON: on a JSON surface it is refused. Trailers of a body that is read whole
//! are let go of; those of a streamed one pass.
//!
//! What is on a JSON surface is taken for JSON whatever its label says (`curl -d` labels it a form),
//! unless the label is one of multipart, audio, image or octets. Checked means: UTF-8, the grammar,
//! no byte order mark, depth at most 128, at most 10,000 members in one object, and no member twice,
//! an escaped spelling being the same member; nor `model` in other letters. So what was read here is what any provider reads.
//!
//! A form must be one that all readers read alike, as [`Parts`](crate::dialect::Parts) says, or it is refused. That is judged
//! to its end: what turns out to be unclear behind the model breaks the upload off, so that no provider has a whole form of
//! which another part could be the model.
//!
//! The body's limit holds for every body. An announced length above it is refused before a byte is
//! read. A body must come whole within [`PeekLayer::timeout`] and never pause longer than
//! [`PeekLayer::silence`]. Where it is read further inside, only the time counts in which it is waited for.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{Empty, Full};
//! use tollgate_middleware::{body::Held, facts::Intent, peek::{Limited, PeekLayer}, error::BoxError};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let service = ServiceBuilder::new().layer(PeekLayer::new(1024 * 1024)).service(service_fn(
//!     async |req: Request<Held<Limited<Full<Bytes>>>>| {
//!         let intent: &Intent = req.extensions().get().expect("a JSON body on a known surface");
//!         assert_eq!(intent.model(), Some("echo"));
//!         assert!(intent.stream());
//!         Ok::<_, BoxError>(Response::new(Empty::<Bytes>::new()))
//!     },
//! ));
//! let body = r#"{"model":"echo","stream":true,"messages":[]}"#;
//! let request = Request::post("/v1/chat/completions").body(Full::from(body)).unwrap();
//! service.oneshot(request).await.unwrap();
//! # });
//! ```

mod limited;
mod read;
mod service;

#[cfg(test)]
mod tests;

pub use self::{
    limited::Limited,
    read::intent,
    service::{Peek, PeekLayer, ResponseFuture},
};
