//! What stands in front of a target: its circuit, and how much its provider runs at once.

use std::time::Duration;

/// When a circuit opens, and when it closes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// Whether there is one at all.
    pub on: bool,
    /// Failures in a row that open it.
    pub consecutive: u32,
    /// The share of failures that opens it, in hundredths of a percent; more than zero.
    pub error_rate: u32,
    /// The time over which the share is taken.
    pub window: Duration,
    /// Requests in that time before the share says anything.
    pub min_requests: u32,
    /// How long it stays open.
    pub open_for: Duration,
    /// Requests that try at once whether it can be closed.
    pub probes: u32,
    /// How many of them have to succeed.
    pub successes: u32,
}

/// What a route or a target sets itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BreakerOverride {
    /// See [`Breaker::on`].
    pub on: Option<bool>,
    /// See [`Breaker::consecutive`].
    pub consecutive: Option<u32>,
    /// See [`Breaker::error_rate`].
    pub error_rate: Option<u32>,
    /// See [`Breaker::window`].
    pub window: Option<Duration>,
    /// See [`Breaker::min_requests`].
    pub min_requests: Option<u32>,
    /// See [`Breaker::open_for`].
    pub open_for: Option<Duration>,
    /// See [`Breaker::probes`].
    pub probes: Option<u32>,
    /// See [`Breaker::successes`].
    pub successes: Option<u32>,
}

/// What a provider runs for us at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Requests that run.
    pub max: usize,
    /// Requests that wait.
    pub queue: usize,
    /// How long one waits.
    pub wait: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            on: true,
            consecutive: 5,
            error_rate: 5000,
            window: Duration::from_secs(30),
            min_requests: 20,
            open_for: Duration::from_secs(30),
            probes: 1,
            successes: 1,
        }
    }
}

impl BreakerOverride {
    /// `base` with what is set here put over it.
    #[must_use]
    pub fn over(&self, base: Breaker) -> Breaker {
        Breaker {
            on: self.on.unwrap_or(base.on),
            consecutive: self.consecutive.unwrap_or(base.consecutive),
            error_rate: self.error_rate.unwrap_or(base.error_rate),
            window: self.window.unwrap_or(base.window),
            min_requests: self.min_requests.unwrap_or(base.min_requests),
            open_for: self.open_for.unwrap_or(base.open_for),
            probes: self.probes.unwrap_or(base.probes),
            successes: self.successes.unwrap_or(base.successes),
        }
    }
}
