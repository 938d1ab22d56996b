use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::clocks::Clocks;
use crate::{clock::Clock, error::BoxError};

pin_project! {
    /// The response body of [`Timeout`](super::Timeout).
    pub struct ResponseBody<B, C: Clock> {
        // Dropped when its time is up.
        #[pin]
        inner: Option<B>,
        // None where nothing is measured.
        clocks: Option<Pin<Box<Clocks<C>>>>,
    }
}

impl<B, C: Clock> ResponseBody<B, C> {
    pub(super) fn new(inner: B, clocks: Option<Pin<Box<Clocks<C>>>>) -> Self {
        Self {
            inner: Some(inner),
            clocks,
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
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let frame = inner.poll_frame(cx).map_err(Into::into);
        let Some(clocks) = this.clocks else {
            return frame;
        };
        match frame {
            Poll::Ready(frame) => {
                if let Some(Ok(frame)) = &frame
                    && !clocks.as_mut().came(frame.data_ref())
                {
                    this.inner.set(None);
                    return Poll::Ready(Some(Err(clocks.elapsed().into())));
                }
                Poll::Ready(frame)
            }
            Poll::Pending => {
                std::task::ready!(clocks.as_mut().poll_body(cx));
                this.inner.set(None);
                Poll::Ready(Some(Err(clocks.elapsed().into())))
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
