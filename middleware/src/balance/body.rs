use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::{
    clock::Clock,
    dialect::Refusal,
    health::{Begun, Health, Load},
    record::{Mark, Record},
};

pin_project! {
    /// The response body of [`Balance`](super::Balance): as it comes, with the load of its target in it.
    pub struct ResponseBody<B, C: Clock> {
        #[pin]
        inner: B,
        // Last: what runs inside is let go of before the load is taken back. Boxed: few strategies measure, and each body would be as
        // large.
        measured: Option<Box<Measured<C>>>,
    }
}

/// What is measured of an answer: its load, and how long its first output takes; and what is heard of a refusal.
pub(super) struct Measured<C: Clock> {
    pub(super) timing: Option<Timing<C>>,
    pub(super) refusal: Option<Spoken<C>>,
    pub(super) load: Option<Load>,
}

/// A refusal that may say that nothing is left to spend.
pub(super) struct Spoken<C: Clock> {
    pub(super) text: Vec<u8>,
    pub(super) begun: Begun,
    pub(super) health: Health,
    pub(super) clock: C,
}

/// No refusal that somebody wrote is longer.
const MOST: usize = 64 << 10;

/// A first output that is waited for.
pub(super) struct Timing<C: Clock> {
    pub(super) since: Instant,
    /// The first data, which count where nobody says what is output.
    pub(super) first: Option<Instant>,
    pub(super) record: Option<Record>,
    pub(super) health: Health,
    pub(super) clock: C,
}

impl<B, C: Clock> ResponseBody<B, C> {
    pub(super) fn new(inner: B, measured: Option<Measured<C>>) -> Self {
        Self {
            inner,
            measured: measured.map(Box::new),
        }
    }
}

impl<C: Clock> Measured<C> {
    /// Reads along in a refusal; it is judged at its end.
    #[cold]
    fn hear<E>(&mut self, frame: Option<&Result<Frame<Bytes>, E>>, last: bool) {
        let Some(refusal) = &mut self.refusal else {
            return;
        };
        let data = frame.and_then(|frame| frame.as_ref().ok()?.data_ref());
        if let Some(data) = data {
            refusal.text.extend_from_slice(data);
        }
        let over = matches!(frame, Some(Err(_))) || refusal.text.len() > MOST;
        if !over && (last || frame.is_none()) && Refusal::of(&refusal.text) == Some(Refusal::Quota)
        {
            let now = refusal.clock.now();
            refusal.health.pulse().spent(refusal.begun, now);
        }
        if over || last || frame.is_none() {
            self.refusal = None;
        }
    }
}

impl<C: Clock> Timing<C> {
    /// Data have come; true once the first output is among them.
    fn saw(&mut self) -> bool {
        if self.first.is_none() {
            self.first = Some(self.clock.now());
        }
        let marked = |record: &Record| record.at(Mark::FirstToken).is_some();
        if !self.record.as_ref().is_some_and(marked) {
            return false;
        }
        let now = self.clock.now();
        self.tell(now);
        true
    }

    fn tell(&mut self, at: Instant) {
        self.first = None;
        let took = at.saturating_duration_since(self.since);
        self.health.pulse().took(took, at);
    }
}

impl<C: Clock> Drop for Timing<C> {
    fn drop(&mut self) {
        // Nobody has said which data were the first output.
        if let Some(first) = self.first.take() {
            self.tell(first);
        }
    }
}

impl<B, C> Body for ResponseBody<B, C>
where
    B: Body<Data = Bytes>,
    C: Clock,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        if let Some(measured) = this.measured
            && measured.refusal.is_some()
        {
            measured.hear(frame.as_ref(), this.inner.is_end_stream());
        }
        if let Some(measured) = this.measured
            && let Some(timing) = &mut measured.timing
            && matches!(&frame, Some(Ok(frame)) if frame.is_data())
            && timing.saw()
        {
            measured.timing = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B, C: Clock> fmt::Debug for ResponseBody<B, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let load = self.measured.as_ref().and_then(|it| it.load.as_ref());
        f.debug_struct("ResponseBody")
            .field("load", &load)
            .finish_non_exhaustive()
    }
}
