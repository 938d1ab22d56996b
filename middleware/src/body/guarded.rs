use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

/// How a body came to its end.
#[derive(Debug)]
pub enum Ending<'a, E> {
    /// Everything was handed over: the end was returned, or the body said after its last frame that
    /// nothing follows.
    Complete,
    /// The body failed.
    Error(&'a E),
    /// The reader let go of it before the end.
    Dropped,
}

/// Rides in a body and is told what passes and how it ends.
pub trait Guard<E> {
    /// A data frame is about to be handed over; `last` if the body says that nothing follows it.
    fn frame(&mut self, data: &Bytes, last: bool) {
        let _ = (data, last);
    }

    /// The end, exactly once. What was taken for the request is given back here.
    ///
    /// It may run while a task is being dropped: it must not panic.
    fn end(self, ending: Ending<'_, E>);
}

pin_project! {
    /// A body with a [`Guard`]: frames, trailers and hints pass untouched.
    ///
    /// The guard is told of the first of: the end of the stream, the hint that nothing follows, an
    /// error, or being dropped. A reader that stops at the hint (as hyper does for an answer with a
    /// length) has therefore completed the body.
    #[derive(Debug)]
    pub struct Guarded<B, G>
    where
        B: Body,
        G: Guard<B::Error>,
    {
        // None only while it is being dropped.
        #[pin]
        inner: Option<B>,
        guard: Option<G>,
    }

    impl<B, G> PinnedDrop for Guarded<B, G>
    where
        B: Body,
        G: Guard<B::Error>,
    {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let ended = this.inner.as_ref().as_pin_ref().is_none_or(|inner| inner.is_end_stream());
            // First, so that what the inner body publishes when it is dropped is seen by the guard.
            this.inner.set(None);
            if let Some(guard) = this.guard.take() {
                guard.end(if ended { Ending::Complete } else { Ending::Dropped });
            }
        }
    }
}

impl<B, G> Guarded<B, G>
where
    B: Body,
    G: Guard<B::Error>,
{
    /// Puts `guard` into `inner`.
    pub fn new(inner: B, guard: G) -> Self {
        Self {
            inner: Some(inner),
            guard: Some(guard),
        }
    }
}

impl<B, G> Body for Guarded<B, G>
where
    B: Body<Data = Bytes>,
    G: Guard<B::Error>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        let Some(mut inner) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let frame = ready!(inner.as_mut().poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                let last = inner.is_end_stream();
                if let (Some(guard), Some(data)) = (this.guard.as_mut(), frame.data_ref()) {
                    guard.frame(data, last);
                }
                if last && let Some(guard) = this.guard.take() {
                    guard.end(Ending::Complete);
                }
            }
            Some(Err(error)) => {
                if let Some(guard) = this.guard.take() {
                    guard.end(Ending::Error(error));
                }
            }
            None => {
                if let Some(guard) = this.guard.take() {
                    guard.end(Ending::Complete);
                }
            }
        }
        Poll::Ready(frame)
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
