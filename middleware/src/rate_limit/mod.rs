//! Refuses requests that come more often than was agreed.
//!
//! Contract
//! - *Reads*: what its [`Key`]s ask for: headers, [`ClientAddress`](crate::facts::ClientAddress), [`Caller`](crate::facts::Caller),
//!   [`Intent`](crate::facts::Intent), [`Route`](crate::facts::Route).
//! - *Writes*: [`Record`](crate::record::Record): how the limits stand that are the caller's own.
//! - *Refuses*: [`RateLimit`](crate::error::Reason::RateLimit), with the time after which the same request is admitted if nobody else is
//!   meanwhile; [`Overloaded`](crate::error::Reason::Overloaded) where a shared store is away and nothing is to pass without it.
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
//! # Shared limits
//!
//! With a [`Store`](crate::store::Store) ([`RateLimitLayer::shared`]) several processes count together: by the same algorithm as one
//! script, in the store's own time, whose microseconds round each period up. A process holds a *lease* of requests that are counted already,
//! so that a request seldom waits for the store: at most a tenth of the limit (of rate and burst, the smaller) divided among the
//! processes, and at most what comes in a second, for at most a second; where that is less than one, each request asks for itself.
//! Leases grow with what is asked. Together the processes admit at most *burst + rate × t* and one lease each.
//!
//! | the store | what holds |
//! |---|---|
//! | is [away](crate::store::Contact), or has never been there | [`Local`](crate::store::OnError::Local): this process alone, at rate and burst divided by the number of processes, less what it has used already; [`Refuse`](crate::store::OnError::Refuse): nothing passes |
//! | does not answer a call, or refuses it | the same, for this request |
//! | is back | what was admitted without it is told with the second call for each key: the first shows that it is there |
//! | forgot everything, or came back older | what a process knows to be spent stays spent, but for what others may have given back since: their leases |
//! | says that none is left | that is believed for a second at most; its wait is told meanwhile |
//!
//! What a limit further inside refuses is at hand again, and what is left of a lease when its second is over is given back with the next call, if
//! that comes within another second: later it stays counted. What was asked for a request whose client left is there for those that come.
//! A limit that [gives nothing back](Limit::gives_back) keeps what is refused inside. When a quota changes, its count in the store begins
//! anew, with what the processes know to be spent.
//!
//! The store sees digests of names only. Limits of one name are told apart there by [`Limit::apart`].
//!
//! # Memory
//!
//! [`Cells`] hold so many keys and no more. A listed key (a caller, a model pattern) always has its own. A stranger's cell
//! goes only when it is full again, when nobody can tell it from a new one; while there is no room, those who
//! find none share a cell, one of 16; with a store that is a part of what this process may do by itself.
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
