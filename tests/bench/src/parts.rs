//! What single parts of the stack cost, in this process and without a socket: nanoseconds of a request and of an event.
//!
//! Each part is measured in turns with the same work without it; what is told is the difference of the medians.

mod choice;
mod guards;
mod shared;
mod words;

use std::convert::Infallible;
use std::hint::black_box;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body::Body;
use http_body_util::combinators::MapErr;
use http_body_util::{BodyExt, Empty, Full};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tollgate_middleware::breaker::BreakerLayer;
use tollgate_middleware::clock::{Clock, SystemClock};
use tollgate_middleware::concurrency::{ConcurrencyLayer, Limits, Permits};
use tollgate_middleware::conn::Conn;
use tollgate_middleware::error::BoxError;
use tollgate_middleware::health::{Board, Policy, Source};
use tollgate_middleware::hygiene::HygieneLayer;
use tollgate_middleware::record::Attempt;
use tollgate_middleware::wire::Wire;
use tower_layer::Layer;
use tower_service::Service;

use crate::payload::{self, Text};
use crate::stats::median;

/// Measures all parts, or the word filter only, and prints tables.
pub(crate) fn run(words: bool) {
    if !words {
        layers();
        println!();
    }
    filter();
}

fn layers() {
    println!("| part | ns per request | ns per event |");
    println!("| --- | ---: | ---: |");
    let (request, event) = wire();
    println!("| wire | {request:.0} | {event:.0} |");
    println!("| hygiene | {:.0} | none of its code runs |", hygiene());
    guards::each(|part, request| println!("| {part} | {request:.0} | none of its code runs |"));
    shared::each(|part, request| println!("| {part} | {request:.0} | none of its code runs |"));
    let (request, event) = breaker();
    println!("| breaker, closed | {request:.0} | {event:.0} |");
    let (request, event) = concurrency();
    println!("| concurrency, of a target | {request:.0} | {event:.0} |");
    choice::each(|part, (request, event)| println!("| {part} | {request:.0} | {event:.0} |"));
}

fn filter() {
    println!("| word_filter, a request of 1 MB | GB/s | times as long as 10 words |");
    println!("| --- | ---: | ---: |");
    words::requests(|part, speed, ratio| println!("| {part} | {speed:.2} | {ratio:.2} |"));
    println!("\n| word_filter, an answer | ns per event, metered | times that, filtered too |");
    println!("| --- | ---: | ---: |");
    words::answers(|part, event, ratio| println!("| {part} | {event:.0} | {ratio:.2} |"));
}

/// A head and its body as a client sends them.
fn request() -> Vec<u8> {
    payload::request(([127, 0, 0, 1], 8080).into(), Text::Chat, 1000, None)
}

/// A stream that has the same bytes for each read, and takes each write whole.
struct Endless(Vec<u8>);

impl AsyncRead for Endless {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        buf.put_slice(&self.0);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Endless {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(black_box(buf).len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(black_box(bufs).iter().map(|buf| buf.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Of a request: one read of its head and body. Of an event: one write of it and one flush.
fn wire() -> (f64, f64) {
    let bytes = request();
    let mut plain = Endless(bytes.clone());
    let mut wired = Wire::new(Endless(bytes.clone()), Conn::new());
    let request = added(
        || read(&mut plain, bytes.len()),
        || read(&mut wired, bytes.len()),
    );
    let event = payload::events(1).next().expect("there is one");
    let event = added(
        || write(&mut plain, event.as_bytes()),
        || write(&mut wired, event.as_bytes()),
    );
    (request, event)
}

fn read(io: &mut (impl AsyncRead + Unpin), expected: usize) {
    let mut space = [0; 8192];
    let mut buf = ReadBuf::new(&mut space);
    let mut cx = Context::from_waker(Waker::noop());
    let read = Pin::new(io).poll_read(&mut cx, &mut buf);
    assert!(matches!(read, Poll::Ready(Ok(()))) && buf.filled().len() == expected);
    black_box(buf.filled());
}

fn write(io: &mut (impl AsyncWrite + Unpin), event: &[u8]) {
    let mut cx = Context::from_waker(Waker::noop());
    let parts = [
        IoSlice::new(b"12c\r\n"),
        IoSlice::new(event),
        IoSlice::new(b"\r\n"),
    ];
    let written = Pin::new(&mut *io).poll_write_vectored(&mut cx, &parts);
    assert!(matches!(written, Poll::Ready(Ok(7..))));
    assert!(Pin::new(io).poll_flush(&mut cx).is_ready());
}

/// Stands for everything inside, whatever body a layer makes of the request's.
#[derive(Clone)]
struct Inside;

impl<B> Service<Request<B>> for Inside {
    type Response = Response<Empty<Bytes>>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Request<B>) -> Self::Future {
        black_box(&req);
        std::future::ready(Ok(Response::new(Empty::new())))
    }
}

/// Of a request: one call, with the head of a client in common use.
fn hygiene() -> f64 {
    let made = head();
    let again = || {
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = made.method().clone();
        *request.uri_mut() = made.uri().clone();
        *request.headers_mut() = made.headers().clone();
        request
    };
    let mut bare = Inside;
    let mut clean = HygieneLayer::new().local_only(true).layer(Inside);
    added(
        || drop(black_box(bare.call(again()))),
        || drop(black_box(clean.call(again()))),
    )
}

/// An answer of one event, as a body that may fail.
#[derive(Clone)]
struct OneEvent(Bytes);

type Fallible = MapErr<Full<Bytes>, fn(Infallible) -> BoxError>;

impl<B> Service<Request<B>> for OneEvent {
    type Response = Response<Fallible>;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Request<B>) -> Self::Future {
        black_box(&req);
        let never: fn(Infallible) -> BoxError = |never| match never {};
        let body = Full::new(self.0.clone()).map_err(never);
        std::future::ready(Ok(Response::new(body)))
    }
}

impl OneEvent {
    fn new() -> Self {
        let event = payload::events(1).next().expect("there is one");
        Self(Bytes::from(event))
    }
}

/// A call whose answer is dropped, and one whose event is taken: the difference of the two is the event.
fn called<S, B>(service: &mut S, takes: bool)
where
    S: Service<Request<()>, Response = Response<B>>,
    B: Body<Data = Bytes> + Unpin,
{
    let mut cx = Context::from_waker(Waker::noop());
    let mut call = std::pin::pin!(service.call(Request::new(())));
    let Poll::Ready(Ok(answer)) = call.as_mut().poll(&mut cx) else {
        panic!("nothing here waits or fails");
    };
    let mut body = answer.into_body();
    if takes {
        assert!(Pin::new(&mut body).poll_frame(&mut cx).is_ready());
    }
    drop(black_box(body));
}

/// Nanoseconds of a request whose answer is dropped, and those that its event adds.
fn of_layer<S, B>(layered: &mut S) -> (f64, f64)
where
    S: Service<Request<()>, Response = Response<B>>,
    B: Body<Data = Bytes> + Unpin,
{
    let mut bare = OneEvent::new();
    let mut cost = |takes| added(|| called(&mut bare, takes), || called(layered, takes));
    let (request, both) = (cost(false), cost(true));
    (request, both - request)
}

/// A circuit that is closed and stays so; its event is a success, counted at the end.
fn breaker() -> (f64, f64) {
    let board = Board::new(SystemClock.now());
    let source = Source::fixed(&board, "p", "m");
    of_layer(&mut BreakerLayer::new(source, Policy::default()).layer(OneEvent::new()))
}

/// A place that is always there.
fn concurrency() -> (f64, f64) {
    let permits = Permits::new(Limits::default());
    let layer = ConcurrencyLayer::new(permits).of_target(Attempt::default());
    of_layer(&mut layer.layer(OneEvent::new()))
}

fn head() -> Request<()> {
    let bytes = request();
    let text = String::from_utf8(bytes).expect("it is text");
    let (head, _) = text.split_once("\r\n\r\n").expect("it has a head");
    let mut lines = head.split("\r\n");
    let mut line = lines.next().unwrap_or_default().split(' ');
    let mut next = || line.next().unwrap_or_default();
    let mut request = Request::builder().method(next()).uri(next());
    for line in lines {
        let (name, value) = line.split_once(": ").expect("a name and a value");
        let name = HeaderName::try_from(name).expect("a name");
        request = request.header(name, HeaderValue::try_from(value).expect("a value"));
    }
    request.body(()).expect("it was one before")
}

/// Nanoseconds that `with` takes more than `without`.
fn added(mut without: impl FnMut(), mut with: impl FnMut()) -> f64 {
    let (mut base, mut more) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let (one, other) = (timed(&mut without), timed(&mut with));
        // The first round only warms.
        if round > 0 {
            base.push(one);
            more.push(other);
        }
    }
    let median = |times: &[f64]| median(times).expect("there are rounds");
    median(&more) - median(&base)
}

fn timed(run: &mut impl FnMut()) -> f64 {
    timed_by(TIMES, run)
}

/// Nanoseconds of one of so many.
fn timed_by(times: u32, run: &mut impl FnMut()) -> f64 {
    let began = Instant::now();
    for _ in 0..times {
        run();
    }
    began.elapsed().as_nanos() as f64 / f64::from(times)
}

// A test asks only whether all of it runs.
const ROUNDS: usize = if cfg!(test) { 1 } else { 31 };
const TIMES: u32 = if cfg!(test) { 1 } else { 20_000 };
