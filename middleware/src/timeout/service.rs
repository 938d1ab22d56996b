use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    Timeouts,
    body::ResponseBody,
    clocks::{Clocks, Set},
};
use crate::{
    clock::{Clock, SystemClock},
    error::BoxError,
    facts::{Deadline, Intent},
    record::Record,
    sse::CAP,
};

/// Runs the clocks of [`Timeouts`] on each answer.
#[derive(Clone, Copy, Debug)]
pub struct TimeoutLayer<C = SystemClock> {
    limits: Timeouts,
    event: usize,
    clock: C,
}

impl TimeoutLayer {
    /// A layer with these limits.
    pub fn new(limits: Timeouts) -> Self {
        Self {
            limits,
            event: CAP,
            clock: SystemClock,
        }
    }
}

impl<C> TimeoutLayer<C> {
    /// Keeps so many bytes of one event at most, in place of 1 MiB, where the first output is looked for.
    #[must_use]
    pub fn event(mut self, bytes: usize) -> Self {
        self.event = bytes;
        self
    }

    /// Takes the time from another clock.
    pub fn clock<D: Clock>(self, clock: D) -> TimeoutLayer<D> {
        TimeoutLayer {
            limits: self.limits,
            event: self.event,
            clock,
        }
    }
}

impl<S, C: Clone> Layer<S> for TimeoutLayer<C> {
    type Service = Timeout<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Timeout {
            inner,
            limits: self.limits,
            event: self.event,
            clock: self.clock.clone(),
        }
    }
}

/// The service of [`TimeoutLayer`].
#[derive(Clone, Debug)]
pub struct Timeout<S, C = SystemClock> {
    inner: S,
    limits: Timeouts,
    event: usize,
    clock: C,
}

impl<S, C, ReqBody, ResBody> Service<Request<ReqBody>> for Timeout<S, C>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    S::Error: Into<BoxError>,
    ResBody: Body,
    C: Clock,
{
    type Response = Response<ResponseBody<ResBody, C>>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut req: Request<ReqBody>) -> Self::Future {
        let limits = self.limits;
        if limits == Timeouts::off() {
            // Nothing to measure: the time is not asked for.
            return ResponseFuture {
                inner: Some(self.inner.call(req)),
                clocks: None,
            };
        }
        let record = req.extensions().get::<Record>().cloned();
        let intent = req.extensions().get::<Intent>();
        let streams = intent.is_some_and(Intent::stream);
        let first_byte = if streams {
            limits.first_byte_stream
        } else {
            limits.first_byte_document
        };
        let counts_output = streams && limits.first_token.is_some();
        let intent = intent.filter(|_| counts_output).cloned();
        let head = [
            first_byte,
            limits.total,
            limits.first_token.filter(|_| streams),
        ];
        let start = self.clock.now();
        let deadline = head.into_iter().flatten().min().map(|limit| start + limit);
        if let Some(total) = limits.total {
            let sooner = req.extensions().get().map(|Deadline(at)| *at);
            let own = start + total;
            let at = sooner.map_or(own, |sooner| sooner.min(own));
            req.extensions_mut().insert(Deadline(at));
        }
        let set = Set {
            idle: limits.idle,
            total: limits.total.map(|limit| start + limit),
            first_token: limits.first_token.map(|limit| start + limit),
            min_rate: limits.min_rate,
            intent,
            event: self.event,
        };
        let clocks = Clocks::new(set, deadline, record, self.clock.clone());
        ResponseFuture {
            inner: Some(self.inner.call(req)),
            clocks: Some(Box::pin(clocks)),
        }
    }
}

pin_project! {
    /// The future of [`Timeout`].
    pub struct ResponseFuture<F, C: Clock> {
        // Dropped when its time is up.
        #[pin]
        inner: Option<F>,
        // One piece of memory for all that is measured, which goes on to the body: a request is moved through every layer.
        clocks: Option<Pin<Box<Clocks<C>>>>,
    }
}

impl<F, C, B, E> Future for ResponseFuture<F, C>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
    B: Body,
    C: Clock,
{
    type Output = Result<Response<ResponseBody<B, C>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let inner = this.inner.as_mut().as_pin_mut();
        let inner = inner.expect("a future is not polled after it was ready");
        match inner.poll(cx).map_err(Into::into)? {
            Poll::Ready(response) => {
                let mut clocks = this.clocks.take();
                if let Some(clocks) = &mut clocks {
                    clocks.as_mut().answered(&response);
                }
                Poll::Ready(Ok(response.map(|body| ResponseBody::new(body, clocks))))
            }
            Poll::Pending => {
                let Some(clocks) = this.clocks else {
                    return Poll::Pending;
                };
                ready!(clocks.as_mut().poll_head(cx));
                this.inner.set(None);
                Poll::Ready(Err(clocks.elapsed().into()))
            }
        }
    }
}

impl<F, C: Clock> std::fmt::Debug for ResponseFuture<F, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("clocks", &self.clocks)
            .finish_non_exhaustive()
    }
}
