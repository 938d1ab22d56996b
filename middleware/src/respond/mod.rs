//! The edge: turns a refusal into an answer in the caller's dialect.
//!
//! Contract
//! - *Reads*: [`Record`](crate::record::Record) (or the head itself), for the dialect and the name.
//! - *Writes*: [`Record`](crate::record::Record): who refused, and why.
//! - *Refuses*: nothing; its error is [`Infallible`](std::convert::Infallible). A service built
//!   without it does not fit a server, so it cannot be forgotten.
//! - *Bodies*: relayed answers untouched.
//! - *Ready*: forwards; an error of the inner service's readiness becomes the next answer.
//! - *Place*: outside every layer that refuses, inside `seal`.
//!
//! Only this layer knows status codes. Every answer of ours says who refused in
//! `tollgate-refused-by`, is `cache-control: no-store`, and tells how long to wait in
//! `retry-after` where that is known; behind a head that ends who knows where, `connection` is `close`. An error that no layer explained is a bug: it is a 500 without
//! detail, and its chain of causes goes to the process's own log.
//!
//! Where the caller has limits of its own, it also reads how they stand, in the dialect's own `x-ratelimit-*` or
//! `anthropic-ratelimit-*`.
//!
//! `GET /` and `HEAD /` can be answered here too, with an empty 200: see [`RespondLayer::root`].
//!
//! | reason | status | OpenAI `type` / `code` |
//! |---|---|---|
//! | malformed | 400 | `invalid_request_error` / `malformed_request` |
//! | content blocked, token cap, unpriced | 400 | `invalid_request_error` / … |
//! | unauthenticated | 401 | `authentication_error` / `invalid_api_key` |
//! | forbidden | 403 | `permission_error` / `forbidden` |
//! | unknown model, no route | 404 | `invalid_request_error` / `model_not_found`, `not_found` |
//! | method, time, size, target, coding, upgrade, head | 405, 408, 413, 414, 415, 426, 431 | `invalid_request_error` / … |
//! | rate limit | 429 | `rate_limit_error` / `rate_limit_exceeded` |
//! | spent budget | 429 | `insufficient_quota` / `insufficient_quota` |
//! | internal | 500 | `server_error` / `internal` |
//! | connect, closed, protocol, TLS, truncated | 502 | `server_error` / `upstream_error` |
//! | answer refused | 502 | `server_error` / `response_rejected` |
//! | overloaded, draining, no target | 503 (Anthropic: 529) | `server_error` / `overloaded`, `no_target` |
//! | clock ran out | 504 | `server_error` / `upstream_timeout` |
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Empty};
//! use tollgate_middleware::{error::{BoxError, Reason, Rejection}, respond::RespondLayer};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let service = ServiceBuilder::new().layer(RespondLayer::new()).service(service_fn(async |_| {
//!     let error = Rejection::new(Reason::ModelNotFound, "route", "no provider lists this model");
//!     Err::<Response<Empty<Bytes>>, BoxError>(error.into())
//! }));
//! let request = Request::post("/v1/messages").body(()).unwrap();
//! let answer = service.oneshot(request).await.unwrap();
//! assert_eq!(answer.status(), 404);
//! assert_eq!(answer.headers()["tollgate-refused-by"], "route");
//! let text = answer.into_body().collect().await.unwrap().to_bytes();
//! assert!(text.starts_with(br#"{"type":"error","error":{"type":"not_found_error","#));
//! # });
//! ```

mod answer;
mod service;
mod standing;

#[cfg(test)]
mod tests;

pub use self::service::{Respond, RespondLayer, ResponseFuture};
