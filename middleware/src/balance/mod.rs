//! Picks the target of a request among those of its route.
//!
//! Contract
//! - *Reads*: [`Attempt`](crate::attempt::Attempt): what was tried before (absent: nothing);
//!   [`Intent`](crate::facts::Intent), [`Route`](crate::facts::Route), [`Caller`](crate::facts::Caller),
//!   [`ClientAddress`](crate::facts::ClientAddress), [`OutputLimit`](crate::facts::OutputLimit), as far as the strategy goes by
//!   them; [`PricedOnly`](crate::facts::PricedOnly): targets whose price nobody knows are left out; [`Record`](crate::record::Record): when the head and the first output came (absent: its clock, and the first bytes).
//! - *Writes*: [`Endpoint`](crate::facts::Endpoint); what it picked into the `Attempt`.
//! - *Refuses*: [`NoTarget`](crate::error::Reason::NoTarget), at once, if every circuit is open, with the time of the next probe.
//! - *Bodies*: untouched. The load of a target is held to their end; under strategies that go by speed, the first output is waited
//!   for.
//! - *Ready*: always; the picked service is made ready inside the future.
//! - *Place*: inside `retry`; everything inside exists once per target.
//!
//! A target is left out while its circuit is open, while it is parked (it said when to come again), and while all of its
//! credentials are. If all that could be asked are parked, the one that returns first is asked: parking is a wish, an open circuit
//! is none. Where there is but one, it is asked, and its own breaker has the last word. Who refuses without a word of when to come again, or has
//! nothing left to spend, is parked for twice as long each time; attempts that ran at once are refused once. A weight of 0 drains a target under every strategy.
//!
//! | strategy | picks |
//! |---|---|
//! | [`Fallback`](Strategy::Fallback) | the first in order |
//! | [`Weighted`](Strategy::Weighted) | by chance, as the weights say; with [`sticky`](Balance::sticky) the same one for the same key |
//! | [`RoundRobin`](Strategy::RoundRobin) | one after the other |
//! | [`LeastInflight`](Strategy::LeastInflight) | where the fewest requests run |
//! | [`P2c`](Strategy::P2c) | of two by chance, the one with the lesser product of peak EWMA and running requests |
//! | [`LeastLatency`](Strategy::LeastLatency) | the shortest time to first token; whom nobody has measured first, by one request; 1 in 10 explores; forgotten after 5 minutes |
//! | [`Cheapest`](Strategy::Cheapest) | the least price of input and output together; unpriced last |
//! | [`Sticky`](Strategy::Sticky) | by weighted rendezvous over the targets' names, with a fixed seed: replicas agree |
//! | [`Own`](Strategy::Own) | whatever [`Choose`] says |
//!
//! Where the strategy goes by load or speed, a target that fails is as bad as its share of failures says: failing fast is not
//! being fast.
//!
//! What a provider keeps (files, batches, stored responses, a request that goes on from one, cached content) goes to the
//! [`state_target`](Balance::state_target), whatever the strategy, and nowhere else.
//!
//! ```
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use bytes::Bytes;
//! use tollgate_middleware::{
//!     balance::{Balance, Strategy, Target}, clock::{Clock, SystemClock}, error::BoxError, facts::Endpoint,
//!     health::{Board, Source},
//! };
//! use tower::{ServiceExt, service_fn};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let board = Board::new(SystemClock.now());
//! let target = |name: &'static str, weight| {
//!     let service = service_fn(move |_: Request<()>| {
//!         std::future::ready(Ok::<_, BoxError>(Response::new(Full::<Bytes>::from(name))))
//!     });
//!     Target::new(Endpoint::new(name, name, None), Source::fixed(&board, name, "m"), service).weight(weight)
//! };
//! let balance = Balance::new([target("one", 0), target("two", 1)], Strategy::Weighted).unwrap();
//! let mut req = Request::post("/v1/chat/completions").body(()).unwrap();
//! let answer = balance.oneshot(req).await.unwrap();
//! use http_body_util::BodyExt;
//! assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "two");
//! # });
//! ```

mod ask;
mod body;
mod field;
mod service;
mod strategy;
mod target;
mod watch;

#[cfg(test)]
mod tests;

pub use self::{
    ask::StickyOn,
    body::ResponseBody,
    service::{Balance, ResponseFuture, Unusable},
    strategy::{Candidate, Choose, Strategy},
    target::Target,
};
