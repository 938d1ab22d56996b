//! Hands the requests of one connection to its worker's stack.

use std::{
    cell::RefCell,
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
use tollgate_middleware::error::BoxError;
use tower::util::Oneshot;
use tower_service::Service;

use super::{
    connection::Shared,
    renew::{Own, Place},
};

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

/// The service of one connection. It keeps a clone of the stack from its first request on: its requests come one after
/// the other. A clone that a reload has outdated is replaced when the next request comes.
#[derive(Debug)]
pub(super) struct Requests<S> {
    place: Arc<Place<S>>,
    own: RefCell<Option<Own<S>>>,
    shared: Arc<Shared>,
}

impl<S> Requests<S> {
    pub(super) fn new(place: Arc<Place<S>>, shared: Arc<Shared>) -> Self {
        let own = RefCell::new(None);
        Self { place, own, shared }
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
        let mut own = self.own.borrow_mut();
        let stack = match &mut *own {
            Some(own) if self.place.is_current(own) => &mut own.stack,
            outdated => &mut outdated.insert(self.place.own()).stack,
        };
        // A stack that is ready, as ours always is, is called without moving the request again.
        let step = match stack.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => Step::Called {
                inner: stack.call(req),
            },
            Poll::Pending => Step::Waiting {
                inner: Oneshot::new(stack.clone(), req),
            },
        };
        let busy = Some(Busy::new(self.shared.clone()));
        ResponseFuture { step, busy }
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
        Poll::Ready(Ok(response.map(|inner| ResponseBody { inner, busy })))
    }
}

pin_project! {
    /// The stack's body; when it is dropped, the connection is between two requests.
    pub(super) struct ResponseBody<B> {
        #[pin]
        inner: B,
        busy: Option<Busy>,
    }
}

impl<B: Body> Body for ResponseBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().inner.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
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
