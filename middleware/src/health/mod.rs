//! What is known of a target while requests run: one shared value per provider and upstream model.
//!
//! The embedder keeps one [`Board`] for the process, over every reload, and hands each layer that asks or writes a [`Source`]:
//! it says which [`Health`] a request is about. Who writes what:
//!
//! | part | writer | readers |
//! |---|---|---|
//! | the circuit | `breaker` | whoever picks targets; metrics |
//! | its [`Pulse`]: load, speed, failures, until when it is parked; the budget for second attempts | `balance` | `balance`, and `retry` through it |
//! | its [`Keys`]: which credentials are parked | `upstream` | `upstream`, `balance` |
//!
//! Reading is lock-free, but for the one moment in which a probe has run out of its time: whoever asks next settles it.
//! Writing takes a lock of this one value, twice in the life of a request at the most.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use tollgate_middleware::health::{Board, Policy, State, Verdict};
//!
//! # let now = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async { tokio::time::Instant::now().into_std() });
//! let board = Board::new(now);
//! let health = board.health("openai", Some("gpt-4o"));
//! let policy = Policy { consecutive: Some(1), ..Policy::default() };
//! let pass = health.enter(&policy, None, now).unwrap();
//! health.settle(pass, Verdict::Failure, &policy, now);
//! let until = now + Duration::from_secs(30);
//! assert_eq!(health.state(now), State::Open { until });
//! assert!(!health.admits(now) && health.admits(until));
//! // Whoever asks for the same target finds the same value.
//! assert!(!board.health("openai", Some("gpt-4o")).admits(now));
//! ```

mod board;
mod circuit;
mod keys;
mod policy;
mod pulse;
mod refusals;
mod sync;
mod wait;
mod window;

#[cfg(test)]
mod tests;

pub use self::{
    board::{Board, Change, Health, Load, Source, State},
    circuit::{Pass, Verdict},
    keys::{Key, Keys, Refused, Wallet, Want},
    policy::Policy,
    pulse::{LONGEST_PARK, Parked, Pulse, Ratio, Reading},
    refusals::Begun,
    wait::wait,
};
