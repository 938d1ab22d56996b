use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::read::{too_large, too_slow, unclear};
use crate::{
    clock::{Clock, SystemClock, Timer},
    dialect::Parts,
    error::BoxError,
};

pin_project! {
    /// A request body that fails once it is over its limit, comes too slowly, or is a form that turns out to be unclear.
    pub struct Limited<B, C: Clock = SystemClock> {
        #[pin]
        inner: B,
        left: u64,
        limit: u64,
        // None while it is read by the layer, which has clocks of its own.
        patience: Option<Patience<C>>,
        // How long it has been waited for before, and since when it is now. Time in which nobody asks for more is the
        // reader's, not the sender's.
        waited: Duration,
        waiting: Option<Instant>,
        // Boxed, and made at the first wait: most bodies are there.
        timer: Option<Pin<Box<C::Sleep>>>,
        // Of a form that goes on behind its model: judged until its end, so that none is whole at the provider that could
        // be read in another way.
        form: Option<Box<Parts>>,
    }
}

/// How long a body is waited for.
#[derive(Debug)]
pub(super) struct Patience<C> {
    pub(super) timeout: Duration,
    pub(super) silence: Duration,
    pub(super) clock: C,
}

impl<B, C: Clock> Limited<B, C> {
    pub(super) fn new(inner: B, limit: u64) -> Self {
        Self {
            inner,
            left: limit,
            limit,
            patience: None,
            waited: Duration::ZERO,
            waiting: None,
            timer: None,
            form: None,
        }
    }

    /// It is a form, read so far by these parts.
    pub(super) fn form(mut self, parts: Box<Parts>) -> Self {
        self.form = Some(parts);
        self
    }

    /// From now on it must not come too slowly.
    pub(super) fn patient(mut self, patience: Patience<C>) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Nothing is there: ready when that has lasted too long.
    fn poll_late(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let Some(patience) = this.patience else {
            return Poll::Pending;
        };
        let fresh = this.waiting.is_none();
        let waiting = *this.waiting.get_or_insert_with(|| patience.clock.now());
        let left = patience.timeout.saturating_sub(*this.waited);
        let deadline = waiting + left.min(patience.silence);
        let timer = match this.timer {
            Some(timer) => {
                if fresh {
                    timer.as_mut().reset(deadline);
                }
                timer
            }
            None => this
                .timer
                .insert(Box::pin(patience.clock.sleep_until(deadline))),
        };
        timer.as_mut().poll(cx)
    }
}

impl<B, C> Body for Limited<B, C>
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
        let Poll::Ready(frame) = this.inner.as_mut().poll_frame(cx) else {
            ready!(self.poll_late(cx));
            return Poll::Ready(Some(Err(too_slow().into())));
        };
        if let (Some(since), Some(patience)) = (this.waiting.take(), &*this.patience) {
            *this.waited += patience.clock.now().saturating_duration_since(since);
        }
        let frame = frame.transpose().map_err(Into::into)?;
        if let Some(data) = frame.as_ref().and_then(Frame::data_ref) {
            match this.left.checked_sub(data.len() as u64) {
                Some(left) => *this.left = left,
                None => return Poll::Ready(Some(Err(too_large(*this.limit).into()))),
            }
        }
        if let Some(parts) = this.form {
            // The end is judged before the last byte goes on: behind it, it would be too late.
            let data = frame.as_ref().and_then(Frame::data_ref);
            let ends = data.is_none() || this.inner.is_end_stream();
            let judged = parts.feed(data.map_or(&[], |data| &data[..]));
            let judged = judged.and_then(|()| if ends { parts.finish() } else { Ok(()) });
            judged.map_err(unclear)?;
        }
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B: std::fmt::Debug, C: Clock> std::fmt::Debug for Limited<B, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limited")
            .field("inner", &self.inner)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}
