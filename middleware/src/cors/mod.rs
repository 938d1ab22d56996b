//! Answers what browsers ask before a page may ask, and lets pages read the answers.
//!
//! Contract
//! - *Reads*: the head.
//! - *Writes*: nothing; the headers of CORS into answers for pages that may ask.
//! - *Refuses*: nothing. A page that may not ask gets an answer that its browser does not show it.
//! - *Bodies*: relayed answers untouched.
//! - *Ready*: forwards.
//! - *Place*: outside `auth`, since browsers send no key with the question whether they may send one; outside `respond`, so that a page
//!   can read why it was refused; inside `record`.
//!
//! A question (`OPTIONS` with `origin` and `access-control-request-method`) from one of the pages is answered here: 204, for ten
//! minutes. Whatever else it asks for gets `access-control-allow-origin`, and the headers that a gateway writes are named in
//! `access-control-expose-headers`, beside those that the provider names. A provider's own word on who may read an answer is replaced: it
//! cannot know. Cookies are no part of this: keys travel in headers, and `access-control-allow-credentials` is never sent.
//!
//! [`CorsLayer::default`] names no page and changes nothing.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Empty;
//! use tollgate_middleware::{cors::CorsLayer, origin::OriginPattern};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let pages = OriginPattern::new("https://*.example.com").unwrap();
//! let service = ServiceBuilder::new().layer(CorsLayer::new([pages])).service(service_fn(async |_| {
//!     Ok::<_, std::convert::Infallible>(Response::new(Empty::<Bytes>::new()))
//! }));
//! let may = Request::options("/v1/chat/completions")
//!     .header("origin", "https://app.example.com")
//!     .header("access-control-request-method", "POST")
//!     .header("access-control-request-headers", "authorization");
//! let answer = service.oneshot(may.body(()).unwrap()).await.unwrap();
//! assert_eq!(answer.status(), 204);
//! assert_eq!(answer.headers()["access-control-allow-origin"], "https://app.example.com");
//! assert_eq!(answer.headers()["access-control-allow-headers"], "authorization");
//! # });
//! ```

mod policy;
mod service;

#[cfg(test)]
mod tests;

pub use self::service::{Cors, CorsLayer, ResponseFuture};
