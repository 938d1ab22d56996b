//! Hands the requests of one connection to its worker's stack.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::CONNECTION};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tollgate_middleware::{conn::Conn, error::BoxError};
use tower::util::Oneshot;
use tower_service::Service;

use super::{connection::Shared, renew::Place};

/// A worker's stack, in one word. Implemented for all that fit.
pub(super) trait Stack:
    Service<Request<Incoming>, Response = Response<Self::ResBody>, Error = Infallible> + Clone
{
    type ResBody: Body<Data = Bytes, Error = BoxError> + 'static;
}

impl<S, B> Stack for S
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone,
    B: Body<Data = Bytes, Error = BoxError> + 'static,
{
    type ResBody = B;
}

/// The service of one connection: it calls its worker's stack.
#[derive(Debug)]
pub(super) struct Requests<S> {
    place: Arc<Place<S>>,
    shared: Arc<Shared>,
    window: usize,
}

impl<S> Requests<S> {
    /// Of an answer no more is taken from the stack while `window` bytes wait to be written.
    pub(super) fn new(place: Arc<Place<S>>, shared: Arc<Shared>, window: usize) -> Self {
        Self {
            place,
            shared,
            window,
        }
    }
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Requests<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone,
{
    type Response = Response<ResponseBody<B>>;
    type Error = Infallible;
    type Future = ResponseFuture<S>;

    fn call(&self, mut req: Request<Incoming>) -> Self::Future {
        req.extensions_mut().insert(self.shared.conn.clone());
        let step = self.place.with(|stack| {
            // A stack that is ready, as ours always is, is called without moving the request again.
            match stack.poll_ready(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(())) => Step::Called {
                    inner: stack.call(req),
                },
                Poll::Pending => Step::Waiting {
                    inner: Oneshot::new(stack.clone(), req),
                },
            }
        });
        let busy = Some(Busy::new(self.shared.clone()));
        let window = self.window;
        ResponseFuture { step, busy, window }
    }
}

pin_project! {
    /// Waits until the stack is ready, and calls it.
    pub(super) struct ResponseFuture<S>
    where
        S: Service<Request<Incoming>>,
    {
        #[pin]
        step: Step<Oneshot<S, Request<Incoming>>, S::Future>,
        busy: Option<Busy>,
        window: usize,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<W, F> {
        Waiting { #[pin] inner: W },
        Called { #[pin] inner: F },
    }
}

impl<S, B> Future for ResponseFuture<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
{
    type Output = Result<Response<ResponseBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(mut response) = ready!(match this.step.project() {
            StepProj::Waiting { inner } => inner.poll(cx),
            StepProj::Called { inner } => inner.poll(cx),
        });
        let busy = this.busy.take();
        if busy.as_ref().is_some_and(|busy| busy.0.asked_to_finish()) {
            // HTTP would say so by itself only if it had been told before this request began.
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        let window = Window::new(*this.window);
        Poll::Ready(Ok(response.map(|inner| ResponseBody {
            inner,
            window,
            busy,
        })))
    }
}

pin_project! {
    /// The stack's body; when it is dropped, the connection is between two requests.
    pub(super) struct ResponseBody<B> {
        #[pin]
        inner: B,
        window: Window,
        busy: Option<Busy>,
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let conn = this.busy.as_ref().map(|busy| &busy.0.conn);
        if let Some(conn) = conn {
            ready!(this.window.poll_room(conn, cx));
        }
        let polled = this.inner.poll_frame(cx);
        if let (Some(conn), Poll::Ready(Some(Ok(frame)))) = (conn, &polled)
            && let Some(data) = frame.data_ref()
        {
            this.window.take(data.len(), conn);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Bounds what of an answer waits to be written: HTTP itself takes as much as it may read, and that is more.
#[derive(Debug)]
struct Window {
    room: usize,
    /// What was handed over since the flushes before it were so many.
    handed: usize,
    mark: u64,
}

impl Window {
    fn new(room: usize) -> Self {
        Self {
            room,
            handed: 0,
            mark: 0,
        }
    }

    /// Ready when there is room for another frame.
    fn poll_room(&mut self, conn: &Conn, cx: &mut Context<'_>) -> Poll<()> {
        if self.handed >= self.room {
            ready!(conn.poll_flushed(self.mark, cx));
            self.handed = 0;
        }
        Poll::Ready(())
    }

    fn take(&mut self, bytes: usize, conn: &Conn) {
        let mark = conn.mark();
        if mark != self.mark {
            (self.mark, self.handed) = (mark, 0);
        }
        self.handed = self.handed.saturating_add(bytes);
    }
}

/// Lives as long as a request is answered.
struct Busy(Arc<Shared>);

impl Busy {
    fn new(shared: Arc<Shared>) -> Self {
        shared.phase.request_began();
        Self(shared)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.answer_ended();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_that_is_full_opens_with_the_next_flush() {
        let (conn, mut window) = (Conn::new(), Window::new(10));
        let mut cx = Context::from_waker(Waker::noop());
        for bytes in [4, 5, 200] {
            assert!(
                window.poll_room(&conn, &mut cx).is_ready(),
                "before {bytes}"
            );
            window.take(bytes, &conn);
        }
        assert!(window.poll_room(&conn, &mut cx).is_pending());
        conn.flushed();
        assert!(window.poll_room(&conn, &mut cx).is_ready());
        window.take(9, &conn);
        // What a flush has taken along counts no more.
        conn.flushed();
        window.take(9, &conn);
        assert!(window.poll_room(&conn, &mut cx).is_ready());
    }
}
