use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::watch::Watch;
use crate::error::{BoxError, Reason, Rejection};

pin_project! {
    /// The response body of [`WordFilter`](super::super::WordFilter).
    ///
    /// Dropping it drops the body inside, and what it keeps of it.
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        #[pin]
        inner: Inner<B>,
        // None: nothing is looked at. Boxed: most answers of a service that filters have none, and each would be as large.
        watch: Option<Box<Watch>>,
        // Boxed: hardly an answer has any.
        trailers: Option<Box<HeaderMap>>,
        error: Option<BoxError>,
    }
}

pin_project! {
    #[project = InnerProj]
    #[derive(Debug)]
    enum Inner<B> {
        Here { #[pin] body: B },
        // One that was read before its head was handed on.
        Read { body: Pin<Box<B>> },
        // It has ended.
        Over,
    }
}

impl<B> ResponseBody<B> {
    /// A body that nobody looks at.
    pub(in super::super) fn passed(inner: B) -> Self {
        Self::new(Inner::Here { body: inner }, None)
    }

    pub(super) fn watched(inner: B, watch: Box<Watch>) -> Self {
        Self::new(Inner::Here { body: inner }, Some(watch))
    }

    /// A body of which something has been read.
    pub(super) fn begun(body: Pin<Box<B>>, watch: Box<Watch>) -> Self {
        Self::new(Inner::Read { body }, Some(watch))
    }

    /// A body that was read to its end.
    pub(super) fn whole(watch: Box<Watch>, trailers: Option<HeaderMap>) -> Self {
        Self {
            trailers: trailers.map(Box::new),
            ..Self::new(Inner::Over, Some(watch))
        }
    }

    fn new(inner: Inner<B>, watch: Option<Box<Watch>>) -> Self {
        Self {
            inner,
            watch,
            trailers: None,
            error: None,
        }
    }
}

impl<B: Body> Inner<B> {
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Here { body } => body.is_end_stream(),
            Self::Read { body } => body.is_end_stream(),
            Self::Over => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Here { body } => body.size_hint(),
            Self::Read { body } => body.size_hint(),
            Self::Over => SizeHint::with_exact(0),
        }
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        let Some(watch) = this.watch else {
            let polled = match this.inner.project() {
                InnerProj::Here { body } => ready!(body.poll_frame(cx)),
                InnerProj::Read { body } => ready!(body.as_mut().poll_frame(cx)),
                InnerProj::Over => None,
            };
            return Poll::Ready(polled.map(|frame| frame.map_err(Into::into)));
        };
        loop {
            if let Some(frame) = watch.next() {
                return Poll::Ready(Some(Ok(Frame::data(frame))));
            }
            if let Some(stopped) = watch.take_stop() {
                // Nothing of it is wanted any more.
                this.inner.set(Inner::Over);
                *this.error = None;
                *this.trailers = None;
                return Poll::Ready(Some(Err(stopped)));
            }
            if let Some(error) = this.error.take() {
                return Poll::Ready(Some(Err(error)));
            }
            if let Some(trailers) = this.trailers.take() {
                return Poll::Ready(Some(Ok(Frame::trailers(*trailers))));
            }
            if watch.is_cut() {
                this.inner.set(Inner::Over);
                watch.cut_off();
                *this.error = Some(ended().into());
                continue;
            }
            // Where it ends, the body inside goes first: what it publishes then comes before what is said here.
            let polled = match this.inner.as_mut().project() {
                InnerProj::Here { body } => ready!(body.poll_frame(cx)),
                InnerProj::Read { body } => ready!(body.as_mut().poll_frame(cx)),
                InnerProj::Over => return Poll::Ready(None),
            };
            match polled {
                Some(Ok(frame)) => {
                    match frame.into_data() {
                        Ok(data) => watch.feed(data),
                        Err(frame) => *this.trailers = frame.into_trailers().ok().map(Box::new),
                    }
                    let last = this.inner.is_end_stream();
                    if last {
                        this.inner.set(Inner::Over);
                    }
                    if last || this.trailers.is_some() {
                        watch.finish();
                    }
                }
                Some(Err(error)) => {
                    this.inner.set(Inner::Over);
                    watch.cut_off();
                    *this.error = Some(error.into());
                }
                None => {
                    this.inner.set(Inner::Over);
                    watch.finish();
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let nothing_waits = self.watch.as_ref().is_none_or(|watch| watch.is_done())
            && self.trailers.is_none()
            && self.error.is_none();
        nothing_waits && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let Some(watch) = &self.watch else {
            return self.inner.size_hint();
        };
        match self.inner {
            Inner::Over => SizeHint::with_exact(watch.remaining()),
            _ => watch.size_hint(self.inner.size_hint()),
        }
    }
}

/// The server ends the answer. Where `seal` stands outside, it says so in its own words.
fn ended() -> Rejection {
    let told = "the gateway is to end this answer";
    Rejection::new(Reason::Draining, "word_filter", told)
}
