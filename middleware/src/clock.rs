//! Time as an argument: what a layer asks instead of the operating system.
//!
//! Layers never read a clock themselves. They hold a [`Clock`], [`SystemClock`] by default, so that
//! tests pause time and embedders bring their own.

use std::{
    future::Future,
    time::{Instant, SystemTime},
};

/// Monotonic time, wall time and timers.
pub trait Clock: Clone + Send + Sync + 'static {
    /// Completes at the moment it was made for.
    type Sleep: Timer;

    /// The monotonic present.
    fn now(&self) -> Instant;

    /// The wall clock, for what people read (log lines, calendar windows); never for durations.
    fn wall(&self) -> SystemTime;

    /// A timer for this moment. A moment in the past completes at the first poll.
    fn sleep_until(&self, at: Instant) -> Self::Sleep;
}

/// A timer that can be moved without being made anew.
pub trait Timer: Future<Output = ()> + Send + 'static {
    /// Moves the timer to another moment, also after it has completed.
    fn reset(self: std::pin::Pin<&mut Self>, at: Instant);
}

/// The clock of the tokio runtime that polls the layer; follows `tokio::time::pause`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    type Sleep = tokio::time::Sleep;

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn wall(&self) -> SystemTime {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place that reads the wall clock"
        )]
        SystemTime::now()
    }

    fn sleep_until(&self, at: Instant) -> Self::Sleep {
        tokio::time::sleep_until(at.into())
    }
}

impl Timer for tokio::time::Sleep {
    fn reset(self: std::pin::Pin<&mut Self>, at: Instant) {
        Self::reset(self, at.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn the_system_clock_follows_a_paused_runtime() {
        let start = SystemClock.now();
        SystemClock
            .sleep_until(start + Duration::from_secs(3600))
            .await;
        assert_eq!(SystemClock.now() - start, Duration::from_secs(3600));
    }
}
