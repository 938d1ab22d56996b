use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{charge::End, inject::Removal, watch::Watch};
use crate::{body::Guarded, clock::Clock};

pin_project! {
    /// The response body of [`Meter`](super::Meter).
    #[derive(Debug)]
    pub struct ResponseBody<B, C>
    where
        B: Body,
        C: Clock,
    {
        #[pin]
        inner: Guarded<B, Watch<C>>,
        // Boxed: few answers are edited, and each would be as large.
        removal: Option<Box<Removal<B::Error>>>,
    }
}

impl<B, C> ResponseBody<B, C>
where
    B: Body,
    C: Clock,
{
    pub(super) fn new(
        inner: B,
        mut watch: Watch<C>,
        removal: Option<Box<Removal<B::Error>>>,
    ) -> Self {
        // An answer that is announced as empty may never be polled.
        if inner.is_end_stream() {
            watch.settle(End::Clean);
        }
        Self {
            inner: Guarded::new(inner, watch),
            removal,
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
        let Some(removal) = this.removal else {
            return this.inner.poll_frame(cx);
        };
        loop {
            if let Some(frame) = removal.next() {
                return Poll::Ready(frame);
            }
            match ready!(this.inner.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => removal.take(frame),
                Some(Err(error)) => removal.fail(error),
                None => removal.end(),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.removal {
            None => self.inner.is_end_stream(),
            Some(removal) => removal.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.removal {
            None => self.inner.size_hint(),
            Some(_) => SizeHint::default(),
        }
    }
}
