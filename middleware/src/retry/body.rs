use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The response body of [`Retry`](super::Retry): as it comes, but for what was read before the answer counted, which is
    /// handed over first.
    pub struct ResponseBody<B: Body> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<B: Body> {
        Plain { #[pin] inner: B },
        // Boxed: of most answers nothing is read, and each body would be as large.
        Begun { begun: Box<Begun<B>> },
    }
}

/// A body that was begun.
pub(super) struct Begun<B: Body> {
    inner: Pin<Box<B>>,
    frames: VecDeque<Frame<Bytes>>,
    bytes: u64,
    /// What comes behind the frames, if that is known.
    end: Option<Option<B::Error>>,
}

impl<B: Body> ResponseBody<B> {
    pub(super) fn new(inner: B) -> Self {
        Self {
            kind: Kind::Plain { inner },
        }
    }

    pub(super) fn begun(begun: Box<Begun<B>>) -> Self {
        Self {
            kind: Kind::Begun { begun },
        }
    }

    /// The body, to be read from here.
    pub(super) fn begin(self) -> Box<Begun<B>> {
        match self.kind {
            Kind::Plain { inner } => Box::new(Begun {
                inner: Box::pin(inner),
                frames: VecDeque::new(),
                bytes: 0,
                end: None,
            }),
            Kind::Begun { begun } => begun,
        }
    }

    /// The failure that was read, and not handed over.
    pub(super) fn failure(&self) -> Option<&B::Error> {
        match &self.kind {
            Kind::Plain { .. } => None,
            Kind::Begun { begun } => begun.end.as_ref()?.as_ref(),
        }
    }
}

impl<B> Begun<B>
where
    B: Body<Data = Bytes>,
{
    /// Reads on without handing over: the data that came; `None` at the end and at a failure.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.end.is_some() {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(self.inner.as_mut().poll_frame(cx)) {
            Some(Ok(frame)) => {
                let data = frame.data_ref().cloned().unwrap_or_default();
                self.bytes += data.len() as u64;
                self.frames.push_back(frame);
                if self.inner.is_end_stream() {
                    self.end = Some(None);
                }
                Some(data)
            }
            Some(Err(error)) => {
                self.end = Some(Some(error));
                None
            }
            None => {
                self.end = Some(None);
                None
            }
        })
    }

    /// All data that were read, in one piece.
    pub(super) fn text(&self) -> Vec<u8> {
        let data = self.frames.iter().filter_map(Frame::data_ref);
        data.flatten().copied().collect()
    }

    /// Whether what was read ended with a failure.
    pub(super) fn is_cut(&self) -> bool {
        matches!(self.end, Some(Some(_)))
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(frame) = self.frames.pop_front() {
            self.bytes -= frame.data_ref().map_or(0, Bytes::len) as u64;
            return Poll::Ready(Some(Ok(frame)));
        }
        match &mut self.end {
            Some(end) => Poll::Ready(end.take().map(Err)),
            None => self.inner.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        let nothing_follows = match &self.end {
            Some(end) => end.is_none(),
            None => self.inner.is_end_stream(),
        };
        self.frames.is_empty() && nothing_follows
    }

    fn size_hint(&self) -> SizeHint {
        let inner = match &self.end {
            Some(None) => SizeHint::with_exact(0),
            Some(Some(_)) => SizeHint::default(),
            None => self.inner.size_hint(),
        };
        let mut hint = SizeHint::new();
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(self.bytes));
        }
        hint.set_lower(inner.lower().saturating_add(self.bytes));
        hint
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProj::Plain { inner } => inner.poll_frame(cx),
            KindProj::Begun { begun } => begun.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Plain { inner } => inner.is_end_stream(),
            Kind::Begun { begun } => begun.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Plain { inner } => inner.size_hint(),
            Kind::Begun { begun } => begun.size_hint(),
        }
    }
}

impl<B: Body> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let read = match &self.kind {
            Kind::Plain { .. } => 0,
            Kind::Begun { begun } => begun.bytes,
        };
        f.debug_struct("ResponseBody")
            .field("read", &read)
            .finish_non_exhaustive()
    }
}
