use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::{
    body::Incoming,
    rt::{Read, Write},
};

use super::{LAYER, link::Link, pool::Shared};
use crate::{
    clock::Clock,
    error::{BoxError, Reason, Rejection},
};

/// The body of an upstream's answer, which drives the connection that it comes over.
///
/// At its end the connection goes back to the pool; dropping it earlier closes the connection.
pub struct ResponseBody<T, B, K>
where
    T: Read + Write,
    B: Body + 'static,
{
    incoming: Incoming,
    // None once the answer has ended, well or not.
    link: Option<Box<Link<T, B>>>,
    pool: Arc<Shared<T, B, K>>,
}

impl<T, B, K> ResponseBody<T, B, K>
where
    T: Read + Write + Unpin + 'static,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
    K: Clock,
{
    pub(super) fn new(
        incoming: Incoming,
        link: Box<Link<T, B>>,
        pool: Arc<Shared<T, B, K>>,
    ) -> Self {
        Self {
            incoming,
            link: Some(link),
            pool,
        }
    }

    /// An answer without a body ends with its head.
    pub(super) fn settle_if_ended(&mut self) {
        if self.incoming.is_end_stream() {
            self.settle();
        }
    }

    /// The answer has ended well: keep the connection if nothing is left on it.
    fn settle(&mut self) {
        if let Some(mut link) = self.link.take()
            && link.is_free()
        {
            self.pool.give(link);
        }
    }

    fn poll_incoming(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(link) = &mut self.link else {
            return Pin::new(&mut self.incoming).poll_frame(cx);
        };
        let mut incoming = Pin::new(&mut self.incoming);
        link.poll(cx, |cx| incoming.as_mut().poll_frame(cx))
    }
}

impl<T, B, K> Body for ResponseBody<T, B, K>
where
    T: Read + Write + Unpin + 'static,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
    K: Clock,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        loop {
            return match std::task::ready!(this.poll_incoming(cx)) {
                // Trailers are the provider's last word and would be merged with nothing.
                Some(Ok(frame)) if !frame.is_data() => continue,
                Some(Ok(frame)) => {
                    if this.incoming.is_end_stream() {
                        this.settle();
                    }
                    Poll::Ready(Some(Ok(frame)))
                }
                Some(Err(error)) => {
                    this.link = None;
                    Poll::Ready(Some(Err(broken(error).into())))
                }
                None => {
                    this.settle();
                    Poll::Ready(None)
                }
            };
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// The answer broke off, by a close, a reset, a TLS alert or broken framing.
fn broken(error: hyper::Error) -> Rejection {
    let told = "the provider's answer broke off before its end";
    Rejection::new(Reason::Truncated, LAYER, told).because(error)
}

impl<T, B, K> fmt::Debug for ResponseBody<T, B, K>
where
    T: Read + Write,
    B: Body + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("ended", &self.link.is_none())
            .finish_non_exhaustive()
    }
}
