use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::elapsed;
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
    pub(super) first_token: Option<Instant>,
    /// Some while the first output is waited for.
    pub(super) judge: Option<Box<Judge>>,
    pub(super) record: Option<Record>,
}

impl Clocks {
    fn feed(&mut self, frame: &[u8]) {
        if let Some(judge) = &mut self.judge {
            judge.feed(frame);
            // Where output cannot be seen, the first bytes are taken for it.
            if judge.first_output() || !judge.sees_output() {
                self.judge = None;
            }
        }
    }

    /// When the body is out of time, if nothing comes after `waiting` began.
    fn deadline(&self, waiting: Instant) -> Option<Instant> {
        let first = self.judge.as_ref().and(self.first_token);
        [self.idle.map(|idle| waiting + idle), self.total, first]
            .into_iter()
            .flatten()
            .min()
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
        let Some(deadline) = this.clocks.deadline(waiting) else {
            return Poll::Pending;
        };
        loop {
            let (Some(armed), Some(timer)) = (*this.armed, this.timer.as_mut()) else {
                *this.timer = Some(Box::pin(this.clock.sleep_until(deadline)));
                *this.armed = Some(deadline);
                continue;
            };
            if armed <= deadline {
                std::task::ready!(timer.as_mut().poll(cx));
                if armed == deadline {
                    return Poll::Ready(());
                }
            }
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
                *this.waiting = None;
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
