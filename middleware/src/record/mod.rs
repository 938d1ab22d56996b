//! The record of a request, and the layer that makes it, names it and tells when it has ended.
//!
//! [`Record`] is part of the floor: any layer may write to it. The layer is behind the feature
//! `record`.
//!
//! Contract of the layer
//! - *Reads*: `x-request-id`; [`Conn`](crate::conn::Conn), for who ended an answer that was dropped.
//! - *Writes*: [`Record`], into the request's extensions; its name, times, byte counts, digest, status
//!   and ending.
//! - *Refuses*: nothing.
//! - *Bodies*: request and response are watched, untouched.
//! - *Ready*: forwards.
//! - *Place*: outermost. What it does not enclose, it does not record.
//!
//! The [`Sink`] is told once per request, when the body of the answer has ended, or when the client
//! has left before there was one. That is the moment at which the request is over. A [`Queue`] is a sink that calls back on
//! another thread.
//!
//! Names: the caller's `x-request-id` if it is 1 to 128 of `[A-Za-z0-9._-]`, else a UUIDv7. An
//! answer that brings its own `x-request-id` keeps it and carries ours as `tollgate-request-id`.
//!
//! An answer says in `server-timing` how long it was held up, in milliseconds: `tollgate`, by the gateway itself; `up`, by the
//! provider until its head; `q`, in queues for a place, where it had to wait in one.
//!
//! Where the caller has limits of its own, each answer says in `ratelimit` and `ratelimit-policy` how they stand, beside
//! what the provider says in them.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use tollgate_middleware::{error::BoxError, record::{Ended, Record, RecordLayer, Sink}};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! #[derive(Clone, Default)]
//! struct Endings(Arc<Mutex<Vec<Ended>>>);
//!
//! impl Sink for Endings {
//!     fn ended(&self, record: &Record) {
//!         self.0.lock().unwrap().extend(record.ended());
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let seen = Endings::default();
//! let service = ServiceBuilder::new().layer(RecordLayer::new(seen.clone())).service(service_fn(
//!     async |_: Request<_>| {
//!         let body = Full::<Bytes>::from("hello").map_err(|never| -> BoxError { match never {} });
//!         Ok::<_, BoxError>(Response::new(body))
//!     },
//! ));
//! let answer = service.oneshot(Request::new(Full::<Bytes>::default())).await.unwrap();
//! assert!(answer.headers().contains_key("x-request-id"));
//! assert!(seen.0.lock().unwrap().is_empty(), "the body has not ended yet");
//! answer.into_body().collect().await.unwrap();
//! assert_eq!(*seen.0.lock().unwrap(), [Ended::Complete]);
//! # });
//! ```

mod cell;
#[cfg(feature = "record")]
mod drain;
mod gaps;
#[cfg(feature = "record")]
mod layer;
mod metered;
mod outcome;
#[cfg(feature = "record")]
mod queue;
mod running;
mod trace;
#[cfg(feature = "record")]
mod watch;

pub use self::{
    cell::Record,
    gaps::Gaps,
    metered::{Charge, Discarded, Metered, Source, Waste},
    outcome::{Attempt, Digest, Ended, Found, Mark, Refused, Standing, Unit},
    running::Running,
    trace::TraceId,
};
#[cfg(feature = "record")]
pub use self::{
    drain::{Drain, DrainBody, DrainFuture, DrainLayer},
    layer::{RecordLayer, Recorded, ResponseFuture, new_request_id},
    queue::{Events, Queue},
    watch::{RequestBody, ResponseBody, Sink},
};
#[cfg(feature = "record")]
#[cfg(test)]
mod tests;
