//! The laws that every layer keeps, each called with one line from the layer's own tests.
//!
//! 1. [`transparent`]: with an empty policy nothing of request or response changes, for any split into frames.
//! 2. [`ready`]: the inner service is never called without having been ready; a clone starts unready.
//! 3. [`types`]: service, future and body are `Send`, the service `Clone + Sync + 'static`.
//! 4. [`endings`]: each of the six ways a body can end is reported exactly once.
//! 5. [`absent_facts`]: without the facts it reads, a layer does what it documents: no panic, no internal error.
//!
//! Those that wait are called under `#[tokio::test(start_paused = true)]`, so that a layer that hangs fails at once.
//! Each has a sibling ending in `_over` that takes a closure in place of a layer: for a layer whose inner service must be
//! [`Infallible`](std::convert::Infallible), or that needs adapters around it.
//!
//! ```
//! use tollgate_testing::laws;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! # let layer = tower_layer::Identity::new();
//! laws::types_of(&layer);
//! laws::transparent(&layer, laws::cases()).await;
//! laws::ready(&layer).await;
//! laws::absent_facts(&layer, |outcome| matches!(outcome, laws::Outcome::Answered(..))).await;
//! # }
//! ```

mod absent;
mod endings;
mod inner;
mod ready;
mod transparent;
mod types;

#[cfg(test)]
mod tests;

pub use self::{
    absent::{Outcome, absent_facts, absent_facts_over},
    endings::{Ending, endings},
    inner::{Calls, Failure, Inner},
    ready::{ready, ready_over},
    transparent::{Case, cases, transparent, transparent_over},
    types::{Answer, types, types_of},
};

/// Fails a law instead of hanging with it.
async fn in_time<T>(law: &str, run: impl Future<Output = T>) -> T {
    match tokio::time::timeout(crate::DEADLINE, run).await {
        Ok(out) => out,
        Err(_) => panic!("{law}: the layer never came to an end"),
    }
}
