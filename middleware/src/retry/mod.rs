//! Second chances and fallback, in one layer: before the first byte of an answer has gone out, and never after it.
//!
//! Contract
//! - *Reads*: [`Deadline`](crate::facts::Deadline): no wait goes beyond it; [`Intent`](crate::facts::Intent), for
//!   [`Commit::FirstEvent`]; [`Record`](crate::record::Record).
//! - *Writes*: [`Attempt`](crate::attempt::Attempt). Into the `Record`: that an answer was thrown away.
//! - *Refuses*: nothing of its own: the last answer, or the last failure, is what the caller gets.
//! - *Bodies*: a request's is kept, as the frames that came, until an answer counts; one that was not read whole, or is longer than
//!   [`replay`](Policy::replay), is sent once. An answer's passes as it comes.
//! - *Ready*: forwards, and again before each further attempt.
//! - *Place*: inside the deadline of the whole; outside whatever exists once per target.
//!
//! | what happened | what follows |
//! |---|---|
//! | no connection, 408, 429, 5xx: what [`On`] lists | another target at once; the same one, if no untried one is left, after a wait |
//! | the connection closed without an answer, the first byte late | nothing, unless `On` lists it: the request may have been served |
//! | 401, 402, 403, 429 to a credential of ours | another credential of the target, else another target |
//! | open circuit, no room at the target, a prompt that is too long for the model | another target, at once; never the same |
//! | a certificate that is no good | another target; that one never again for this request |
//! | under [`Commit::FirstEvent`]: an error, or the end, before any output; a document that is nothing but an error | as after a 5xx |
//! | any other 4xx | it is the answer |
//!
//! Which target is next is known to whoever picks targets ([`Ahead`](crate::attempt::Ahead)); without, it is the same service. The
//! wait before the same target is by chance from nothing to [`base`](Policy::base), which doubles each time, and never shorter than
//! the target's own Retry-After ([`wait`](crate::health::wait())). If that is longer than
//! [`max_retry_after`](Policy::max_retry_after), or the deadline would come first, the answer is passed on with its header.
//!
//! [`ratio`](Policy::ratio) bounds what all of this costs a target that is down. Another try at the same target always takes from its
//! budget; going on to another one only while more than half of that one's late answers were failures.
//!
//! An error that is thrown away is read to its end first, if that is within 64 KiB and 20 milliseconds: a meter inside learns what it
//! used, and its connection can serve the next attempt.
//!
//! When nothing is tried any more, the last answer that a provider gave is passed on, as it is: also where those that were asked behind
//! it could not be reached or did not answer in time. What may have been served without an answer, and is not tried again for that, is
//! told as it is.
//!
//! After a second call the last answer carries `x-should-retry: false`, but beside a Retry-After of a minute at most.
//!
//! ```
//! use std::sync::atomic::{AtomicUsize, Ordering};
//! use bytes::Bytes;
//! use http::{Request, Response, StatusCode};
//! use http_body_util::{BodyExt, Empty};
//! use tollgate_middleware::{body::Held, error::BoxError, retry::{Policy, RetryLayer}};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! static CALLS: AtomicUsize = AtomicUsize::new(0);
//! let service = ServiceBuilder::new().layer(RetryLayer::new(Policy::default())).service(service_fn(
//!     async |req: Request<Held<Empty<Bytes>>>| {
//!         assert_eq!(req.into_body().collect().await.unwrap().to_bytes(), "hello");
//!         let mut answer = Response::new(Empty::<Bytes>::new().map_err(BoxError::from));
//!         if CALLS.fetch_add(1, Ordering::Relaxed) == 0 {
//!             *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
//!         }
//!         Ok::<_, BoxError>(answer)
//!     },
//! ));
//! let req = Request::post("/v1/chat/completions").body(Held::whole([Bytes::from("hello")])).unwrap();
//! assert_eq!(service.oneshot(req).await.unwrap().status(), StatusCode::OK);
//! assert_eq!(CALLS.load(Ordering::Relaxed), 2);
//! # });
//! ```

mod body;
mod course;
mod leaving;
mod policy;
mod reading;
mod service;

#[cfg(test)]
mod tests;

pub use self::{
    body::ResponseBody,
    policy::{Commit, On, Policy},
    service::{ResponseFuture, Retry, RetryLayer},
};
