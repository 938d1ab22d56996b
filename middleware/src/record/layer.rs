use std::{
    fmt::Write as _,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header::Entry};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    Mark, Record,
    watch::{Open, Passing, RequestBody, ResponseBody, Sink, Waiting},
};
use crate::{
    body::Guarded,
    clock::{Clock, SystemClock},
    error::BoxError,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const OUR_REQUEST_ID: HeaderName = HeaderName::from_static("tollgate-request-id");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Makes a [`Record`] for each request and tells a [`Sink`] when it is over.
#[derive(Clone, Debug)]
pub struct RecordLayer<K, C = SystemClock> {
    sink: K,
    expose: bool,
    clock: C,
}

impl<K: Sink> RecordLayer<K> {
    /// A layer that tells `sink`.
    pub fn new(sink: K) -> Self {
        Self {
            sink,
            expose: false,
            clock: SystemClock,
        }
    }
}

impl<K, C> RecordLayer<K, C> {
    /// Whether answers say who served them: `tollgate-provider`, `tollgate-model`,
    /// `tollgate-attempts` and `tollgate-route`. Off unless set: they tell of what is inside.
    #[must_use]
    pub fn expose(mut self, yes: bool) -> Self {
        self.expose = yes;
        self
    }

    /// Takes the time from another clock.
    pub fn clock<D: Clock>(self, clock: D) -> RecordLayer<K, D> {
        RecordLayer {
            sink: self.sink,
            expose: self.expose,
            clock,
        }
    }
}

impl<S, K: Clone, C: Clone> Layer<S> for RecordLayer<K, C> {
    type Service = Recorded<S, K, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Recorded {
            inner,
            sink: self.sink.clone(),
            expose: self.expose,
            clock: self.clock.clone(),
        }
    }
}

/// The service of [`RecordLayer`].
#[derive(Clone, Debug)]
pub struct Recorded<S, K, C = SystemClock> {
    inner: S,
    sink: K,
    expose: bool,
    clock: C,
}

impl<S, K, C, ReqBody, ResBody> Service<Request<ReqBody>> for Recorded<S, K, C>
where
    S: Service<Request<RequestBody<ReqBody, C>>, Response = Response<ResBody>>,
    K: Sink,
    C: Clock,
    ReqBody: Body<Data = Bytes>,
    ResBody: Body<Data = Bytes, Error = BoxError>,
{
    type Response = Response<ResponseBody<ResBody, K, C>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, K, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut req: Request<ReqBody>) -> Self::Future {
        let (clock, sink) = (self.clock.clone(), self.sink.clone());
        let (now, wall) = (clock.now(), clock.wall());
        let id = request_id(req.headers(), wall);
        let record = Record::new(id, (req.method(), req.uri(), req.headers()), now, wall);
        sink.began();
        req.extensions_mut().insert(record.clone());
        let counted = record.clone();
        let req = req.map(|body| RequestBody::new(body, counted, clock.clone()));
        let waiting = Waiting::new(Open {
            record,
            sink,
            clock,
        });
        ResponseFuture {
            inner: self.inner.call(req),
            waiting,
            expose: self.expose,
        }
    }
}

pin_project! {
    /// The future of [`Recorded`].
    ///
    /// Dropping it before it is ready settles the request as `client_gone`.
    #[derive(Debug)]
    pub struct ResponseFuture<F, K: Sink, C: Clock> {
        #[pin]
        inner: F,
        waiting: Waiting<K, C>,
        expose: bool,
    }
}

impl<F, K, C, B, E> Future for ResponseFuture<F, K, C>
where
    F: Future<Output = Result<Response<B>, E>>,
    K: Sink,
    C: Clock,
    B: Body<Data = Bytes, Error = BoxError>,
{
    type Output = Result<Response<ResponseBody<B, K, C>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        // An error leaves `waiting` in place: it settles when the future is dropped.
        let mut response = ready!(this.inner.poll(cx))?;
        let open = this
            .waiting
            .take()
            .expect("a future is not polled after it was ready");
        open.record.mark(Mark::Head, open.clock.now());
        open.record.set_status(response.status().as_u16());
        name(response.headers_mut(), &open.record);
        if *this.expose {
            expose(response.headers_mut(), &open.record);
        }
        Poll::Ready(Ok(
            response.map(|body| Guarded::new(body, Passing::new(open)))
        ))
    }
}

/// The caller's own id if it is harmless, else one that sorts by time.
fn request_id(headers: &HeaderMap, wall: SystemTime) -> Box<str> {
    let theirs = headers
        .get(REQUEST_ID)
        .map(HeaderValue::as_bytes)
        .filter(|id| {
            let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
            (1..=128).contains(&id.len()) && id.iter().all(harmless)
        });
    if let Some(Ok(id)) = theirs.map(std::str::from_utf8) {
        return id.into();
    }
    let since = wall
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    let time = uuid::Timestamp::from_unix(uuid::NoContext, since.as_secs(), since.subsec_nanos());
    uuid::Uuid::new_v7(time)
        .hyphenated()
        .encode_lower(&mut [0; 36])
        .into()
}

/// Names the answer, and says how long we held the request up before its head.
fn name(headers: &mut HeaderMap, record: &Record) {
    let Ok(id) = HeaderValue::from_str(record.request_id()) else {
        return;
    };
    match headers.entry(REQUEST_ID) {
        Entry::Vacant(free) => {
            free.insert(id);
        }
        Entry::Occupied(_) => {
            headers.insert(OUR_REQUEST_ID, id);
        }
    }
    let mut timing = String::with_capacity(48);
    if let Some(own) = record.gateway_time() {
        let _ = write!(timing, "tollgate;dur={:.3}", own.as_secs_f64() * 1e3);
    }
    if let (Some(sent), Some(head)) = (record.at(Mark::Sent), record.at(Mark::UpstreamHead)) {
        let waited = head.saturating_sub(sent);
        let _ = write!(timing, ", up;dur={:.3}", waited.as_secs_f64() * 1e3);
    }
    if let Ok(timing) = HeaderValue::from_str(&timing)
        && !timing.is_empty()
    {
        headers.append(SERVER_TIMING, timing);
    }
}

/// Says who served the request.
fn expose(headers: &mut HeaderMap, record: &Record) {
    let mut say = |name, text: &str| {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    if let Some(route) = record.route() {
        say("tollgate-route", route);
    }
    record.with_attempts(|attempts| {
        say("tollgate-attempts", &attempts.len().to_string());
        let Some(last) = attempts.last() else { return };
        say("tollgate-provider", &last.provider);
        if let Some(model) = &last.model {
            say("tollgate-model", model);
        }
    });
}
