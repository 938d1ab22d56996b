//! Frames for a stream that is silent.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::seam::Seam;
use crate::clock::{Clock, Timer};

/// How long a stream has been silent, and what it gets.
pub(super) struct Alive<C: Clock> {
    every: Duration,
    frame: &'static str,
    // Since when there has been nothing to hand over.
    quiet: Option<Instant>,
    armed: Option<Instant>,
    // Made at the first silence, and moved on when it fires early.
    timer: Option<Pin<Box<C::Sleep>>>,
}

impl<C: Clock> Alive<C> {
    pub(super) fn new(every: Duration, frame: &'static str) -> Self {
        Self {
            every,
            frame,
            quiet: None,
            armed: None,
            timer: None,
        }
    }

    /// Something came.
    pub(super) fn heard(&mut self) {
        self.quiet = None;
    }

    /// Ready with a frame when the silence has lasted, and one may stand here.
    pub(super) fn poll(&mut self, seam: &mut Seam, clock: &C, cx: &mut Context<'_>) -> Poll<Bytes> {
        loop {
            let quiet = *self.quiet.get_or_insert_with(|| clock.now());
            let due = quiet + self.every;
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(clock.sleep_until(due)));
            let armed = *self.armed.get_or_insert(due);
            if armed <= due {
                std::task::ready!(timer.as_mut().poll(cx));
            }
            if armed == due {
                // The next silence begins, also where nothing may stand.
                self.quiet = Some(clock.now());
                if let Some(frame) = seam.put_in(self.frame) {
                    return Poll::Ready(frame);
                }
                continue;
            }
            timer.as_mut().reset(due);
            self.armed = Some(due);
        }
    }
}

impl<C: Clock> fmt::Debug for Alive<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alive")
            .field("every", &self.every)
            .finish_non_exhaustive()
    }
}
