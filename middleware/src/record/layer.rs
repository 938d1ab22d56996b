use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    Ended, Mark, Record, Standing, Unit,
    drain::Draining,
    watch::{Open, Passing, RequestBody, ResponseBody, Sink, Waiting},
};
use crate::{
    body::Guarded,
    clock::{Clock, SystemClock},
    conn::Conn,
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
    /// Whether answers say who served them: `tollgate-provider`, `tollgate-model`, `tollgate-label`,
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
            conn: req.extensions().get::<Conn>().cloned(),
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
    /// Dropping it before it is ready settles the request as `client_gone`; an error, which should
    /// have become an answer inside, as `internal`.
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
        let answer = ready!(this.inner.poll(cx));
        let open = this
            .waiting
            .take()
            .expect("a future is not polled after it was ready");
        let mut response = match answer {
            Ok(response) => response,
            Err(error) => {
                // What nobody answered is a bug, and no client that left.
                open.settle(Ended::Internal, open.clock.now());
                return Poll::Ready(Err(error));
            }
        };
        open.record.mark(Mark::Head, open.clock.now());
        open.record.set_status(response.status().as_u16());
        name(response.headers_mut(), &open.record);
        open.record
            .with_standings(|standings| limits(response.headers_mut(), standings));
        if open.record.drains() {
            // For a drain outside of this.
            response.extensions_mut().insert(Draining {
                record: open.record.clone(),
                conn: open.conn.clone(),
            });
        }
        if *this.expose {
            expose(response.headers_mut(), &open.record);
        }
        Poll::Ready(Ok(
            response.map(|body| Guarded::new(body, Passing::new(open)))
        ))
    }
}

/// The caller's own id if it is harmless, else one that sorts by time.
fn request_id(headers: &HeaderMap, wall: SystemTime) -> HeaderValue {
    let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    if let Some(id) = headers.get(REQUEST_ID)
        && (1..=128).contains(&id.len())
        && id.as_bytes().iter().all(harmless)
    {
        // Copied: a slice of the head would keep the server's whole read buffer.
        return HeaderValue::from_bytes(id.as_bytes()).unwrap_or_else(|_| id.clone());
    }
    new_request_id(wall)
}

/// A name for a request that brings none: a UUID of version 7, which sorts by time.
pub fn new_request_id(wall: SystemTime) -> HeaderValue {
    let since = wall
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    let time = uuid::Timestamp::from_unix(uuid::NoContext, since.as_secs(), since.subsec_nanos());
    let mut text = [0; 36];
    let id = uuid::Uuid::new_v7(time)
        .hyphenated()
        .encode_lower(&mut text);
    HeaderValue::from_str(id).expect("hexadecimal digits and hyphens are visible ASCII")
}

/// Names the answer, and says how long we held the request up before its head.
fn name(headers: &mut HeaderMap, record: &Record) {
    let id = record.request_id_header().clone();
    let theirs = headers.contains_key(&REQUEST_ID);
    headers.insert(if theirs { OUR_REQUEST_ID } else { REQUEST_ID }, id);
    if let Some(own) = record.gateway_time() {
        let sent = record.at(Mark::Sent).zip(record.at(Mark::UpstreamHead));
        let waited = sent.map(|(sent, head)| head.saturating_sub(sent));
        headers.append(SERVER_TIMING, timing(own, waited, record.queued()));
    }
}

/// How the caller's limits stand, beside what the provider says of its own (draft-ietf-httpapi-ratelimit-headers): units are
///
/// requests unless a parameter of ours says that they are tokens.
fn limits(headers: &mut HeaderMap, standings: &[Standing]) {
    let seconds = |time: Duration| time.as_secs() + u64::from(time.subsec_nanos() > 0);
    let mut say = |name, text: String| {
        // A name of another kind than the limits have is not told.
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.append(HeaderName::from_static(name), value);
        }
    };
    for it in standings {
        let (limit, window, reset) = (&it.limit, seconds(it.window), seconds(it.reset));
        let unit = match it.unit {
            Unit::Requests => "",
            // No unit that is registered.
            Unit::Tokens => ";tollgate-unit=\"tokens\"",
        };
        say(
            "ratelimit-policy",
            format!("\"{limit}\";q={};w={window}{unit}", it.quota),
        );
        say("ratelimit", format!("\"{limit}\";r={};t={reset}", it.left));
    }
}

/// `tollgate;dur=0.045, up;dur=812.003, q;dur=3.120`: milliseconds of ours, of the provider's until its head, and of queues.
fn timing(own: Duration, waited: Option<Duration>, queued: Option<Duration>) -> HeaderValue {
    // Three names and three numbers of at most 21 digits each; a vector with room to spare would become a header by two
    // allocations.
    let mut text = [0; 112];
    let mut free = &mut text[..];
    put(&mut free, b"tollgate;dur=");
    millis(&mut free, own);
    if let Some(waited) = waited {
        put(&mut free, b", up;dur=");
        millis(&mut free, waited);
    }
    if let Some(queued) = queued {
        put(&mut free, b", q;dur=");
        millis(&mut free, queued);
    }
    let left = free.len();
    HeaderValue::from_bytes(&text[..text.len() - left])
        .expect("letters, digits and punctuation are visible ASCII")
}

/// Milliseconds with three decimals.
fn millis(free: &mut &mut [u8], time: Duration) {
    let micros = time.saturating_add(Duration::from_nanos(500)).as_micros();
    let micros = u64::try_from(micros).unwrap_or(u64::MAX);
    put(free, itoa::Buffer::new().format(micros / 1000).as_bytes());
    let rest = (micros % 1000) as u16;
    let digit = |value: u16| b'0' + (value % 10) as u8;
    let rest = [b'.', digit(rest / 100), digit(rest / 10), digit(rest)];
    put(free, &rest);
}

/// Writes `text` to the beginning of `free`, and leaves what is behind it.
fn put(free: &mut &mut [u8], text: &[u8]) {
    let (to, left) = std::mem::take(free).split_at_mut(text.len());
    to.copy_from_slice(text);
    *free = left;
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
    let attempts = record.with_attempts(<[_]>::len);
    say("tollgate-attempts", &attempts.to_string());
    record.with_answered(|answered| {
        let Some(answered) = answered else { return };
        say("tollgate-provider", &answered.provider);
        if let Some(model) = &answered.model {
            say("tollgate-model", model);
        }
        if let Some(label) = &answered.label {
            say("tollgate-label", label);
        }
    });
}
