use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{RATE_OVER, elapsed};
use crate::{
    clock::{Clock, Timer},
    dialect::Judge,
    error::BoxError,
    record::Record,
};

/// The clocks that run on a body.
#[derive(Debug)]
pub(super) struct Clocks {
    pub(super) idle: Option<Duration>,
    pub(super) total: Option<Instant>,
    /// Some while the first output is waited for. Boxed, as the rate is: few bodies have one, and each would be as large.
    pub(super) first: Option<Box<First>>,
    pub(super) rate: Option<Box<Rate>>,
    pub(super) record: Option<Record>,
}

/// The first output of a stream, and until when it has to come.
#[derive(Debug)]
pub(super) struct First {
    pub(super) judge: Judge,
    pub(super) until: Instant,
}

/// Bytes that have to come in each [`RATE_OVER`] of waiting for the provider.
#[derive(Debug)]
pub(super) struct Rate {
    least: u64,
    got: u64,
    // Of this span, but for the wait that lasts.
    waited: Duration,
    // Since when something is waited for in this span.
    since: Option<Instant>,
}

impl Clocks {
    fn feed(&mut self, frame: &[u8]) {
        if let Some(first) = &mut self.first {
            first.judge.feed(frame);
            // Where output cannot be seen, the first bytes are taken for it.
            if first.judge.first_output() || !first.judge.sees_output() {
                self.first = None;
            }
        }
        if let Some(rate) = &mut self.rate {
            rate.got = rate.got.saturating_add(frame.len() as u64);
        }
    }

    /// When the body is out of time, if nothing comes after `waiting` began.
    fn deadline(&self, waiting: Instant) -> Option<Instant> {
        let rate = self.rate.as_ref().and_then(|rate| rate.over());
        self.others(waiting).into_iter().chain(rate).min()
    }

    /// The same, but for the rate.
    fn others(&self, waiting: Instant) -> Option<Instant> {
        let first = self.first.as_ref().map(|first| first.until);
        [self.idle.map(|idle| waiting + idle), self.total, first]
            .into_iter()
            .flatten()
            .min()
    }

    /// A clock has run out at `now`: whether it was but the end of a span in which enough has come. The next one begins then.
    fn goes_on(&mut self, waiting: Instant, now: Instant) -> bool {
        if self.others(waiting).is_some_and(|other| other <= now) {
            return false;
        }
        self.rate.as_mut().is_some_and(|rate| rate.next(now))
    }
}

// ===== impl Rate =====

impl Rate {
    /// So many bytes a second.
    pub(super) fn new(least: u64) -> Self {
        Self {
            least: least.saturating_mul(RATE_OVER.as_secs()),
            got: 0,
            waited: Duration::ZERO,
            since: None,
        }
    }

    fn waits(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    fn came(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            self.waited += now.saturating_duration_since(since);
        }
    }

    /// The end of the span, if nothing comes before.
    fn over(&self) -> Option<Instant> {
        Some(self.since? + RATE_OVER.saturating_sub(self.waited))
    }

    fn next(&mut self, now: Instant) -> bool {
        let enough = self.got >= self.least;
        (self.got, self.waited, self.since) = (0, Duration::ZERO, Some(now));
        enough
    }
}

pin_project! {
    /// The response body of [`Timeout`](super::Timeout).
    pub struct ResponseBody<B, C: Clock> {
        // Dropped when its time is up.
        #[pin]
        inner: Option<B>,
        clocks: Clocks,
        clock: C,
        // Since when there has been nothing to hand over.
        waiting: Option<Instant>,
        armed: Option<Instant>,
        // Boxed: most bodies are never waited for, and each would be as large as its timer.
        timer: Option<Pin<Box<C::Sleep>>>,
    }
}

impl<B, C: Clock> ResponseBody<B, C> {
    pub(super) fn new(inner: B, clocks: Clocks, clock: C) -> Self {
        Self {
            inner: Some(inner),
            clocks,
            clock,
            waiting: None,
            armed: None,
            timer: None,
        }
    }

    /// Ready when time is up. A timer is made at the first wait and moved on when it fires early.
    fn poll_clocks(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let waiting = *this.waiting.get_or_insert_with(|| this.clock.now());
        if let Some(rate) = &mut this.clocks.rate {
            rate.waits(waiting);
        }
        loop {
            let Some(deadline) = this.clocks.deadline(waiting) else {
                return Poll::Pending;
            };
            let (Some(armed), Some(timer)) = (*this.armed, this.timer.as_mut()) else {
                *this.timer = Some(Box::pin(this.clock.sleep_until(deadline)));
                *this.armed = Some(deadline);
                continue;
            };
            if armed <= deadline {
                std::task::ready!(timer.as_mut().poll(cx));
                if armed == deadline && !this.clocks.goes_on(waiting, deadline) {
                    return Poll::Ready(());
                }
            }
            let deadline = this.clocks.deadline(waiting).unwrap_or(deadline);
            timer.as_mut().reset(deadline);
            *this.armed = Some(deadline);
        }
    }
}

impl<B, C> Body for ResponseBody<B, C>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
    C: Clock,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.as_mut().project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        match inner.poll_frame(cx) {
            Poll::Ready(frame) => {
                if this.waiting.take().is_some()
                    && let Some(rate) = &mut this.clocks.rate
                {
                    rate.came(this.clock.now());
                }
                // A body that always has more is never waited for.
                if matches!(frame, Some(Ok(_)))
                    && let Some(total) = this.clocks.total
                    && let now = this.clock.now()
                    && now >= total
                {
                    this.inner.set(None);
                    let error = elapsed(this.clocks.record.as_ref(), now);
                    return Poll::Ready(Some(Err(error.into())));
                }
                if let Some(Ok(frame)) = &frame
                    && let Some(data) = frame.data_ref()
                {
                    this.clocks.feed(data);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => {
                std::task::ready!(self.as_mut().poll_clocks(cx));
                let mut this = self.project();
                this.inner.set(None);
                let error = elapsed(this.clocks.record.as_ref(), this.clock.now());
                Poll::Ready(Some(Err(error.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl<B, C: Clock> fmt::Debug for ResponseBody<B, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("clocks", &self.clocks)
            .finish_non_exhaustive()
    }
}
