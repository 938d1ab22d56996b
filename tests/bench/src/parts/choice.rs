//! What it costs to choose a target and to be ready to try again: nanoseconds of a request and of an event.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Body;
use http_body_util::Full;
use tollgate_middleware::{
    balance::{Balance, Strategy, Target},
    body::Held,
    clock::{Clock, SystemClock},
    dialect::{self, Recognised},
    facts::{Endpoint, Intent},
    health::{Board, Source},
    json,
    retry::{Commit, Policy, RetryLayer},
};
use tower_layer::Layer;
use tower_service::Service;

use super::{OneEvent, added, head};

/// The body of a request, which asks for a stream.
const ASKED: &[u8] = br#"{"model":"bench-model","stream":true,"messages":[{"role":"user","content":"What is the toll?"}]}"#;

/// Tells of each part what it costs a request, and an event.
pub(super) fn each(mut tell: impl FnMut(&str, (f64, f64))) {
    let retry = |policy| of(&mut RetryLayer::new(policy).layer(OneEvent::new()));
    tell("retry, an answer at once", retry(Policy::default()));
    let first_event = Policy {
        commit: Commit::FirstEvent,
        ..Policy::default()
    };
    tell("retry, commit: first_event", retry(first_event));
    tell("retry, off", retry(Policy::off()));
    tell("balance, one target", balance(Strategy::Fallback, 1));
    tell("balance, fallback of three", balance(Strategy::Fallback, 3));
    tell("balance, weighted of three", balance(Strategy::Weighted, 3));
    tell("balance, p2c of three", balance(Strategy::P2c, 3));
    tell(
        "balance, least_latency of three",
        balance(Strategy::LeastLatency, 3),
    );
}

/// A choice between targets that all are well.
fn balance(strategy: Strategy, targets: usize) -> (f64, f64) {
    let board = Board::new(SystemClock.now());
    let target = |name: &'static str| {
        let source = Source::fixed(&board, name, "bench-model");
        Target::new(Endpoint::new(name, name, None), source, OneEvent::new())
    };
    let targets = ["one", "two", "three"]
        .into_iter()
        .take(targets)
        .map(target);
    of(&mut Balance::new(targets, strategy).expect("they can be chosen from"))
}

/// Nanoseconds of a request whose answer is dropped, and those that its event adds.
fn of<S, B>(layered: &mut S) -> (f64, f64)
where
    S: Service<Request<Held<Full<Bytes>>>, Response = Response<B>>,
    B: Body<Data = Bytes>,
{
    let (made, intent) = (head(), intent());
    let make = || {
        let mut request = Request::new(Held::whole([Bytes::from_static(ASKED)]));
        *request.method_mut() = made.method().clone();
        *request.uri_mut() = made.uri().clone();
        request.headers_mut().clone_from(made.headers());
        request.extensions_mut().insert(intent.clone());
        request
    };
    let mut bare = OneEvent::new();
    let mut cost = |takes| {
        added(
            || called(&mut bare, make(), takes),
            || called(layered, make(), takes),
        )
    };
    let (request, both) = (cost(false), cost(true));
    (request, both - request)
}

/// A call whose answer is dropped, or whose event is taken before.
fn called<S, B>(service: &mut S, request: Request<Held<Full<Bytes>>>, takes: bool)
where
    S: Service<Request<Held<Full<Bytes>>>, Response = Response<B>>,
    B: Body<Data = Bytes>,
{
    let mut cx = Context::from_waker(Waker::noop());
    let mut call = pin!(service.call(request));
    let Poll::Ready(Ok(answer)) = call.as_mut().poll(&mut cx) else {
        panic!("nothing here waits or fails");
    };
    let mut body = pin!(answer.into_body());
    if takes {
        assert!(Pin::as_mut(&mut body).poll_frame(&mut cx).is_ready());
    }
}

/// What [`ASKED`] asks for.
fn intent() -> Intent {
    let path = "/v1/chat/completions";
    let recognised = dialect::recognise(&Method::POST, path, None, &http::HeaderMap::new());
    let Recognised::Surface(surface) = recognised else {
        unreachable!("it is a surface");
    };
    let root = json::check(ASKED, &json::Limits::default()).expect("it is JSON");
    let asked = dialect::read(&surface, root).expect("it asks for something");
    Intent::new(surface, None, asked, root.span())
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_part_lets_its_requests_through() {
        let mut parts = Vec::new();
        super::each(|part, (request, event)| {
            assert!(request.is_finite() && event.is_finite(), "{part}");
            parts.push(part.to_owned());
        });
        assert_eq!(parts.len(), 8);
    }
}
