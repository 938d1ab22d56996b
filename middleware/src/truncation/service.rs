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

use super::body::ResponseBody;
use crate::{
    dialect::{self, Framing, Judge, Surface},
    facts::Intent,
    record::Record,
    sse::CAP,
};

/// Finds streams that end before they are complete.
#[derive(Clone, Copy, Debug)]
pub struct TruncationLayer {
    transport_marks: bool,
    event: usize,
}

impl TruncationLayer {
    /// The dialect's own marks decide.
    pub fn new() -> Self {
        Self::default()
    }

    /// For a provider whose streams carry no mark of their end: the transport decides.
    #[must_use]
    pub fn transport_marks(mut self, yes: bool) -> Self {
        self.transport_marks = yes;
        self
    }

    /// Keeps so many bytes of one event at most, in place of 1 MiB: a longer one is passed on unread.
    #[must_use]
    pub fn event(mut self, bytes: usize) -> Self {
        self.event = bytes;
        self
    }
}

impl Default for TruncationLayer {
    fn default() -> Self {
        Self {
            transport_marks: false,
            event: CAP,
        }
    }
}

impl<S> Layer<S> for TruncationLayer {
    type Service = Truncation<S>;

    fn layer(&self, inner: S) -> Truncation<S> {
        Truncation {
            inner,
            policy: *self,
        }
    }
}

/// The service of [`TruncationLayer`].
#[derive(Clone, Debug)]
pub struct Truncation<S> {
    inner: S,
    policy: TruncationLayer,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Truncation<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: Body,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<ReqBody>) -> Self::Future {
        let asked = Asked::of(&req);
        ResponseFuture {
            inner: self.inner.call(req),
            asked,
            policy: self.policy,
        }
    }
}

#[derive(Debug)]
struct Asked {
    record: Option<Record>,
    intent: Option<Intent>,
    /// Where there is neither. Boxed: that is rare, and each future would be as large.
    surface: Option<Box<Surface>>,
    stream: bool,
}

impl Asked {
    fn of<B>(req: &Request<B>) -> Self {
        let record = req.extensions().get::<Record>().cloned();
        let intent = req.extensions().get::<Intent>().cloned();
        let unknown = intent.is_none() && record.is_none();
        let surface = unknown.then(|| dialect::surface_of(req)).flatten();
        let mut asked = Self {
            record,
            intent,
            surface: surface.map(Box::new),
            stream: false,
        };
        // Unread, a body may have asked for a stream: the answer's label then says.
        asked.stream = match (&asked.intent, asked.surface()) {
            (Some(intent), _) => intent.stream(),
            (None, Some(surface)) => surface.stream.unwrap_or(true),
            (None, None) => false,
        };
        asked
    }

    fn surface(&self) -> Option<&Surface> {
        match (&self.intent, &self.record) {
            (Some(intent), _) => Some(intent.surface()),
            (None, Some(record)) => record.surface(),
            (None, None) => self.surface.as_deref(),
        }
    }

    fn choices(&self) -> u32 {
        self.intent.as_ref().map_or(1, Intent::choices)
    }
}

pin_project! {
    /// The future of [`Truncation`].
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        asked: Asked,
        policy: TruncationLayer,
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx))?;
        let (surface, stream) = (this.asked.surface(), this.asked.stream);
        let framing = dialect::framing_of(surface, stream, response.status(), response.headers());
        // What is one document, or cannot be read, ends as its transport says. A stream that was
        // asked for may be labelled a document: its first bytes tell.
        let watch = match framing {
            Framing::Opaque | Framing::EventStream => false,
            Framing::Document => this.asked.stream && response.status().is_success(),
            Framing::Sse | Framing::Lines | Framing::Array => true,
        };
        let choices = this.asked.choices();
        let TruncationLayer {
            transport_marks,
            event,
        } = *this.policy;
        let judge = || Judge::new(surface, framing, choices, transport_marks).with_cap(event);
        let judge = watch.then(|| Box::new(judge()));
        let record = this.asked.record.take();
        Poll::Ready(Ok(
            response.map(|body| ResponseBody::new(body, judge, record))
        ))
    }
}
