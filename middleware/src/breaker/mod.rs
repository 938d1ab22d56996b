//! Stops asking a target that fails, and finds out when it can be asked again.
//!
//! Contract
//! - *Reads*: [`Route`](crate::facts::Route) and [`Intent`](crate::facts::Intent): which model is asked for, and whether a stream is
//!   (absent: no model, a document); [`Attempt`](crate::attempt::Attempt): what failed before in this request (absent: nothing did).
//! - *Writes*: the circuit of the target's [`Health`](crate::health::Health); [`Record`](crate::record::Record): an attempt with the word
//!   `circuit`, where it refuses.
//! - *Refuses*: [`NoTarget`](crate::error::Reason::NoTarget), while the circuit is open or as many try as may, with the time of the next
//!   probe.
//! - *Bodies*: watched, untouched; of a probe, a stream is read until its first output.
//! - *Ready*: forwards.
//! - *Place*: once per target; outside the clocks and all else whose failures are the target's, inside whoever tries another one.
//!
//! There is one verdict for each attempt:
//!
//! | how it ended | verdict |
//! |---|---|
//! | no connection, no TLS, no head, no head in time, a broken answer | failure, at once |
//! | a status of 500 or more | failure, at the head |
//! | cut, silent for too long | failure, at once |
//! | an error event of the provider's in a stream | failure, at its end or when nobody reads on; of a probe, at once |
//! | any other status below 400 | success, at the end of the body; of a probe, at its first output |
//! | a status of 400 to 499, a client that left, a limit or clock of ours outside, a bug | none: the place of a probe is given back |
//!
//! What opens and closes a circuit: [`Policy`](crate::health::Policy). A probe has a clock of its own for its first output
//! ([`BreakerLayer::probes_within`]): where it runs out the circuit is open again, whatever becomes of the request. What an attempt finds
//! that began before the last change of the circuit is not asked any more. The circuit belongs to a provider and a model,
//! whatever routes lead there; layers with different policies share it, and each judges by its own.
//!
//! ```
//! use std::time::Duration;
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Empty, combinators::BoxBody};
//! use tollgate_middleware::{
//!     breaker::BreakerLayer,
//!     clock::{Clock, SystemClock},
//!     error::{BoxError, Reason, Rejection},
//!     health::{Board, Policy, Source},
//! };
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! let board = Board::new(SystemClock.now());
//! let source = Source::fixed(&board, "openai", "gpt-4o");
//! let policy = Policy { consecutive: Some(2), ..Policy::default() };
//! let service = ServiceBuilder::new().layer(BreakerLayer::new(source, policy)).service(service_fn(
//!     async |_: Request<()>| {
//!         let down = Response::builder().status(503);
//!         Ok::<_, BoxError>(down.body(Empty::<Bytes>::new().map_err(|never| match never {}).boxed()).unwrap())
//!     },
//! ));
//! let ask = || service.clone().oneshot(Request::new(()));
//! assert_eq!(ask().await.unwrap().status(), 503);
//! assert_eq!(ask().await.unwrap().status(), 503);
//! // Two in a row: for 30 seconds nobody is asked.
//! let error = ask().await.unwrap_err();
//! let refused = Rejection::find(&*error).unwrap();
//! assert_eq!(refused.reason(), Reason::NoTarget);
//! assert_eq!(refused.wait(), Some(Duration::from_secs(30)));
//! # let _: Option<BoxBody<Bytes, BoxError>> = None;
//! # });
//! ```

mod attempt;
mod service;

#[cfg(test)]
mod tests;

pub use self::{
    attempt::Attempt,
    service::{Breaker, BreakerLayer, ResponseFuture},
};
