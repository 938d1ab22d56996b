//! Reserves what a request may cost before it is sent, and settles what it did cost when its answer has ended.
//!
//! Contract
//! - *Reads*: [`Caller`](crate::facts::Caller), [`Intent`](crate::facts::Intent), [`OutputLimit`](crate::facts::OutputLimit),
//!   [`Route`](crate::facts::Route) for the model; at the end the [`Record`](crate::record::Record): what was
//!   [metered](crate::record::Metered).
//! - *Writes*: [`Record`](crate::record::Record): how the caller's tokens stand. [`PricedOnly`](crate::facts::PricedOnly), if targets
//!   without a price must not be asked; a lower `OutputLimit`, with [`OnShort::Clamp`].
//! - *Refuses*: [`RateLimit`](crate::error::Reason::RateLimit) where tokens are short, with the time after which the same request is
//!   admitted if nobody else is meanwhile; [`InsufficientQuota`](crate::error::Reason::InsufficientQuota) where money is;
//!   [`ModelUnpriced`](crate::error::Reason::ModelUnpriced); [`Overloaded`](crate::error::Reason::Overloaded) where nothing can be
//!   written down, and where a shared store is away. Never after anything was generated.
//! - *Bodies*: the request's is looked at, and its output limit is lowered by a splice with [`OnShort::Clamp`]; the answer's is
//!   watched, untouched.
//! - *Ready*: forwards; a request that waits takes the service that is ready along.
//! - *Place*: inside `token_cap`, outside whatever tries again: reserved last, once for all attempts.
//!
//! **Reserved** is the worst case: the input (the estimate of an [`Estimator`](crate::estimate::Estimator), which the meter may teach, and a
//! quarter more, 1,000 tokens for each image or file, at the dearer of the input's and the cache's price) and the output (what the request
//! limits it to, else the most that the model may answer, else 4,096 tokens, for each alternative), at the target where that
//! comes to most, of those that may be asked. More tokens than the rate has are all of them. [`Policy::reckon`] tells it.
//!
//! **Settled** is what the [meter](crate::record::Metered) charges, at the price of the model that served, when the body has ended:
//! whichever way. What failed, or was answered with an error, costs nothing. Without a meter, an answer that is no error costs all
//! that was reserved. What is used beyond what was reserved is owed: over any time no more is spent than agreed, but for
//! the sum of these excesses of the requests that ran.
//!
//! **Windows.** Tokens are a GCRA in whole numbers, by the monotonic clock. Money counts up in calendar windows (UTC, weeks from
//! Monday), or once and for all; a request counts in the window in which it was admitted, and a clock that goes back opens no
//! window a second time.
//!
//! **What survives.** A [`Journal`] is told of each admission and each end, and a [`Ledger`] can be
//! [restored](Ledger::restored). With a journal, a request under a budget of money is sent when its admission is written down; others do
//! not wait.
//!
//! **Several processes.** With [`Shared`] the accounts are in a store that all of them ask: windows and rates are of its time, and a
//! request under limits waits for its answer.
//!
//! ```
//! use std::time::Duration;
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use tollgate_middleware::{
//!     body::Held,
//!     budget::{BudgetLayer, Ledger, Policy, Rate, Terms},
//!     error::{BoxError, Reason, Rejection},
//!     facts,
//! };
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let rate = Rate::new(5000, Duration::from_secs(60));
//! let terms = Terms { tokens: rate, ..Terms::default() };
//! let policy = Policy { callers: [("team-a".into(), terms)].into(), ..Policy::off() };
//! let service = ServiceBuilder::new()
//!     .layer(BudgetLayer::new(policy, Ledger::new(0)))
//!     .service(service_fn(async |_: Request<Held<Full<Bytes>>>| {
//!         let body = Full::<Bytes>::from("hello").map_err(|never| -> BoxError { match never {} });
//!         Ok::<_, BoxError>(Response::new(body))
//!     }));
//! let ask = || {
//!     let mut request = Request::post("/v1/chat/completions").body(Held::whole([])).unwrap();
//!     request.extensions_mut().insert(facts::Caller::new("team-a", facts::Terms::default()));
//!     service.clone().oneshot(request)
//! };
//! // It says no limit: 4,096 tokens of output are reserved, and nobody meters what is used of them.
//! ask().await.unwrap().into_body().collect().await.unwrap();
//! let refused = ask().await.unwrap_err();
//! assert_eq!(Rejection::find(&*refused).unwrap().reason(), Reason::RateLimit);
//! # });
//! ```

mod account;
mod admit;
mod asked;
mod asking;
mod clamp;
mod journal;
mod ledger;
mod money;
mod policy;
mod reckoned;
mod riding;
mod service;
mod shared;
mod tokens;

#[cfg(test)]
mod tests;

pub use self::{
    account::{Account, Reserve, Reserved, Short, THRESHOLDS, Terms, Worst},
    journal::{Admission, Journal, Receipt, Settlement, Threshold, Unwritten},
    ledger::Ledger,
    money::{Budget, Dates, Period, Sums, Usd},
    policy::{Offer, Offers, OnShort, Policy, Question, USUAL_OUTPUT, Unpriced, Waste},
    reckoned::{Bound, Part, Reckoned},
    riding::Riding,
    service::{BudgetLayer, Budgeted, ResponseBody, ResponseFuture},
    shared::{Happened, Shared},
    tokens::{Bucket, Rate, Taken},
};
