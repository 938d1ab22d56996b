use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{HeaderMap, Request, Response, StatusCode, Version, header};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{body::ResponseBody, seam::Seam};
use crate::{
    clock::{Clock, SystemClock},
    conn::{Answering, Conn},
    dialect::{self, Surface},
    record::Record,
};

/// Ends broken answers so that nobody takes them for whole.
#[derive(Clone, Copy, Debug, Default)]
pub struct SealLayer<C = SystemClock> {
    every: Option<Duration>,
    clock: C,
}

impl SealLayer {
    /// The layer; it adds nothing to an answer that is silent.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<C> SealLayer<C> {
    /// Puts a frame of the dialect into a stream that has been silent for so long at an event boundary, and again after as long; none
    /// where it is `None`.
    #[must_use]
    pub fn keepalive(mut self, every: Option<Duration>) -> Self {
        self.every = every;
        self
    }

    /// Takes the time from another clock.
    pub fn clock<D: Clock>(self, clock: D) -> SealLayer<D> {
        SealLayer {
            every: self.every,
            clock,
        }
    }
}

impl<S, C: Clone> Layer<S> for SealLayer<C> {
    type Service = Seal<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Seal {
            inner,
            every: self.every,
            clock: self.clock.clone(),
        }
    }
}

/// The service of [`SealLayer`].
#[derive(Clone, Debug)]
pub struct Seal<S, C = SystemClock> {
    inner: S,
    every: Option<Duration>,
    clock: C,
}

impl<S, C, ReqBody, ResBody> Service<Request<ReqBody>> for Seal<S, C>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: Body,
    C: Clock,
{
    type Response = Response<ResponseBody<ResBody, C>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<ReqBody>) -> Self::Future {
        let record = req.extensions().get::<Record>().cloned();
        let surface = match &record {
            Some(_) => None,
            None => dialect::surface_of(&req).map(Box::new),
        };
        let asked = Asked {
            conn: req.extensions().get::<Conn>().map(Conn::answer),
            unframed: req.version() < Version::HTTP_11,
            record,
            surface,
        };
        let clock = self.clock.clone();
        ResponseFuture {
            inner: self.inner.call(req),
            asked: Some(asked),
            every: self.every,
            clock,
        }
    }
}

/// What a request said about the answer that it can take.
#[derive(Debug)]
struct Asked {
    conn: Option<Answering>,
    record: Option<Record>,
    /// Where there is no record.
    surface: Option<Box<Surface>>,
    /// The client knows no chunks.
    unframed: bool,
}

impl Asked {
    fn seam(self, status: StatusCode, headers: &HeaderMap) -> Seam {
        let surface = match &self.record {
            Some(record) => record.surface(),
            None => self.surface.as_deref(),
        };
        let stream = surface
            .and_then(|surface| surface.stream)
            .unwrap_or_else(|| {
                self.record
                    .as_ref()
                    .and_then(Record::intent)
                    .is_none_or(|intent| intent.stream())
            });
        let framing = dialect::framing_of(surface, stream, status, headers);
        let length = headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
        // A client that knows no chunks reads to the close where no length is announced.
        let unframed = self.unframed && length.is_none();
        Seam::new(
            self.conn,
            self.record,
            self.surface,
            framing,
            length,
            unframed,
        )
    }
}

pin_project! {
    /// The future of [`Seal`].
    #[derive(Debug)]
    pub struct ResponseFuture<F, C> {
        #[pin]
        inner: F,
        asked: Option<Asked>,
        every: Option<Duration>,
        clock: C,
    }
}

impl<F, C, B, E> Future for ResponseFuture<F, C>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
    C: Clock,
{
    type Output = Result<Response<ResponseBody<B, C>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx))?;
        let asked = this
            .asked
            .take()
            .expect("a future is not polled after it was ready");
        let seam = asked.seam(response.status(), response.headers());
        let (every, clock) = (*this.every, this.clock.clone());
        Poll::Ready(Ok(
            response.map(|body| ResponseBody::new(body, seam, every, clock))
        ))
    }
}
