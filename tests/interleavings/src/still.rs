//! A clock that stands, so that nothing but the order of the threads decides.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::{Instant, SystemTime},
};

use tollgate_middleware::clock::{Clock, Timer};

#[derive(Clone, Copy)]
pub(crate) struct Still(Instant);

impl Still {
    #[expect(clippy::disallowed_methods, reason = "it only has to be some moment")]
    pub(crate) fn now() -> Self {
        Self(Instant::now())
    }
}

impl Clock for Still {
    type Sleep = Never;

    fn now(&self) -> Instant {
        self.0
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn sleep_until(&self, _: Instant) -> Never {
        Never
    }
}

/// What never comes.
pub(crate) struct Never;

impl Future for Never {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Timer for Never {
    fn reset(self: Pin<&mut Self>, _: Instant) {}
}
