//! Refuses requests that come more often than was agreed.
//!
//! Contract
//! - *Reads*: what its [`Key`]s ask for: headers, [`ClientAddress`](crate::facts::ClientAddress), [`Caller`](crate::facts::Caller),
//!   [`Intent`](crate::facts::Intent), [`Route`](crate::facts::Route).
//! - *Writes*: [`Record`](crate::record::Record): how the limits stand that are the caller's own.
//! - *Refuses*: [`RateLimit`](crate::error::Reason::RateLimit), with the time after which the same request is admitted if nobody else is
//!   meanwhile.
//! - *Bodies*: untouched.
//! - *Ready*: forwards.
//! - *Place*: wherever its keys are known; by address outside of all that a stranger could exhaust.
//!
//! A limit is a [`Key`], which says whose requests count together and against which [`Quota`]s, and the [`Cells`] in which they are counted.
//! All limits of a layer decide as one: all admit, or none is charged. A request that a limit further inside refuses
//! ([`RateLimit`](crate::error::Reason::RateLimit), [`InsufficientQuota`](crate::error::Reason::InsufficientQuota),
//! [`Overloaded`](crate::error::Reason::Overloaded)) has not counted, but for limits that say so: those by address.
//!
//! The algorithm is GCRA, in whole numbers of parts of a nanosecond: over any time *t* at most *burst + rate × t* requests are admitted,
//! to the request, whichever threads ask. Time is the [`Clock`](crate::clock::Clock)'s monotonic one; no wall clock has a say.
//!
//! | key | counts together | without the fact |
//! |---|---|---|
//! | [`ByAddress`] | a client's IPv4 address, or its IPv6 network of 64 bits | not counted |
//! | [`ByCaller`] | a caller, against its own quotas | not counted |
//! | [`ByUser`] | an end user within the caller | not counted |
//! | [`ByModel`] | all requests for some models | not counted |
//! | [`Everyone`] | all requests | – |
//!
//! **Memory.** [`Cells`] hold so many keys and no more. A listed key (a caller, a model pattern) always has its own. A stranger's cell
//! goes only when it is full again, when nobody can tell it from a new one; while there is no room, those who
//! find none share a cell, one of 16.
//!
//! ```
//! use std::time::Duration;
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Empty;
//! use tollgate_middleware::{
//!     conn::Conn,
//!     error::{BoxError, Reason, Rejection},
//!     rate_limit::{ByAddress, Cells, Limit, Quota, RateLimitLayer},
//! };
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let two_a_minute = Quota::new(2, Duration::from_secs(60)).unwrap();
//! let limit = Limit::new("address", ByAddress(two_a_minute.into()), Cells::new(65_536)).gives_back(false);
//! let service = ServiceBuilder::new().layer(RateLimitLayer::new([limit])).service(service_fn(
//!     async |_: Request<()>| Ok::<_, BoxError>(Response::new(Empty::<Bytes>::new())),
//! ));
//! let from = |ip: [u8; 4]| {
//!     let mut request = Request::new(());
//!     request.extensions_mut().insert(Conn::of(Some((ip, 50_000).into())));
//!     request
//! };
//! for _ in 0..2 {
//!     service.clone().oneshot(from([192, 0, 2, 1])).await.unwrap();
//! }
//! let error = service.clone().oneshot(from([192, 0, 2, 1])).await.unwrap_err();
//! let refused = Rejection::find(&*error).unwrap();
//! assert_eq!(refused.reason(), Reason::RateLimit);
//! assert!(refused.wait().is_some_and(|wait| wait <= Duration::from_secs(30)));
//! service.oneshot(from([192, 0, 2, 2])).await.unwrap();
//! # });
//! ```

mod cell;
mod key;
mod lease;
mod quota;
mod script;
mod service;
mod sharing;
mod table;

#[cfg(test)]
mod tests;

pub use self::{
    key::{Asked, ByAddress, ByCaller, ByModel, ByUser, Counted, Everyone, Id, Key, UserSource},
    quota::{BadQuota, Quota, Quotas},
    service::{Limit, RateLimit, RateLimitLayer, ResponseFuture},
    table::Cells,
};
