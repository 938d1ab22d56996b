use std::{pin::pin, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use tollgate_testing::{
    body::{Item, Script, collect},
    laws::{self, Outcome},
    splits::Split,
};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::{Attempt, BreakerLayer};
use crate::{
    attempt,
    body::{Guarded, heard},
    clock::{Clock, SystemClock},
    dialect::{self, Recognised},
    error::{BoxError, Reason, Rejection},
    facts::Intent,
    health::{Board, Health, Policy, Source, State},
    json,
    record::{Ended, Metered, Record},
};

const SECOND: Duration = Duration::from_secs(1);
const CHAT: &str = "/v1/chat/completions";
const PING: &str = ": ping\n\n";
const TOKEN: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
const ERROR: &str = "data: {\"error\":{\"message\":\"busy\",\"type\":\"server_error\"}}\n\n";

/// One failure opens it.
fn strict() -> Policy {
    Policy {
        consecutive: Some(1),
        error_rate: None,
        ..Policy::default()
    }
}

fn layer(policy: Policy) -> (BreakerLayer, Health) {
    let board = Board::new(SystemClock.now());
    let source = Source::fixed(&board, "openai", "gpt-4o");
    let layer = BreakerLayer::new(source, policy).probes_within(Some(5 * SECOND), Some(9 * SECOND));
    (layer, board.health("openai", Some("gpt-4o")))
}

fn open(health: &Health) -> bool {
    matches!(health.state(SystemClock.now()), State::Open { .. })
}

/// A service that gives this answer, or fails so.
fn answers(
    answer: impl Fn() -> Result<Response<Script>, BoxError> + Clone,
) -> impl Service<Request<()>, Response = Response<Script>, Error = BoxError> + Clone {
    service_fn(move |_: Request<()>| std::future::ready(answer()))
}

fn status(status: u16) -> Result<Response<Script>, BoxError> {
    Ok(Response::builder()
        .status(status)
        .body(Script::data(b"text", &Split::Whole))
        .unwrap())
}

fn rejected(reason: Reason) -> BoxError {
    Rejection::new(reason, "upstream", "told").into()
}

/// Whether an attempt that ends so, at the head or in the body, has opened the circuit.
async fn opens(answer: impl Fn() -> Result<Response<Script>, BoxError> + Clone) -> bool {
    let (layer, health) = layer(strict());
    let answered = layer.layer(answers(answer)).oneshot(Request::new(())).await;
    if let Ok(answer) = answered {
        collect(answer.into_body()).await;
    }
    open(&health)
}

#[tokio::test(start_paused = true)]
async fn keeps_the_laws() {
    laws::types::<BreakerLayer>();
    for layer in [BreakerLayer::off(), layer(Policy::default()).0] {
        laws::transparent(&layer, laws::cases()).await;
        laws::ready(&layer).await;
        laws::absent_facts(&layer, |outcome| matches!(outcome, Outcome::Answered(..))).await;
    }
}

#[tokio::test(start_paused = true)]
async fn each_ending_of_a_body_is_told_once() {
    heard::passes_each_ending(|body| {
        let attempt = Attempt::unjudged(SystemClock);
        Guarded::new(body, attempt)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_does_not_answer_or_says_500_has_failed() {
    for code in [500, 502, 503, 504, 529, 599] {
        assert!(opens(|| status(code)).await, "{code}");
    }
    for reason in [
        Reason::Closed,
        Reason::Connect,
        Reason::Protocol,
        Reason::Tls,
        Reason::UpstreamTimeout,
    ] {
        assert!(opens(|| Err(rejected(reason))).await, "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_the_provider_s_doing_says_nothing() {
    for code in [200, 204, 304, 400, 401, 403, 404, 408, 413, 422, 429, 499] {
        assert!(!opens(|| status(code)).await, "{code}");
    }
    for reason in [
        Reason::ClientGone,
        Reason::Draining,
        Reason::Internal,
        Reason::Malformed,
        Reason::Overloaded,
        Reason::RateLimit,
        Reason::ResponseRejected,
        Reason::SlowReader,
        Reason::TooLarge,
    ] {
        assert!(!opens(|| Err(rejected(reason))).await, "{reason}");
    }
    assert!(!opens(|| Err("a bug".into())).await);
}

/// A body that gives a frame and then fails for this reason.
struct Breaks(Option<&'static str>, Reason);

impl Body for Breaks {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        let frame = self
            .0
            .take()
            .map(|text| Bytes::from_static(text.as_bytes()));
        let frame = frame.map(http_body::Frame::data);
        std::task::Poll::Ready(Some(frame.ok_or_else(|| rejected(self.1))))
    }
}

/// Row U13: the status was 200.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_cut_or_stalls_after_its_head_has_failed() {
    for (reason, failed) in [
        (Reason::Truncated, true),
        (Reason::Closed, true),
        (Reason::UpstreamTimeout, true),
        (Reason::ResponseRejected, false),
        (Reason::SlowReader, false),
        (Reason::Draining, false),
    ] {
        let (layer, health) = layer(strict());
        let service = layer.layer(service_fn(move |_: Request<()>| {
            let broken = Breaks(Some(TOKEN), reason);
            std::future::ready(Ok::<_, BoxError>(Response::new(broken)))
        }));
        let body = service.oneshot(Request::new(())).await.unwrap().into_body();
        assert!(health.admits(SystemClock.now()), "nothing is known yet");
        collect(body).await;
        assert_eq!(open(&health), failed, "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_says_nothing_and_gives_the_place_of_a_probe_back() {
    let (layer, health) = layer(strict());
    let fails = layer.layer(answers(|| status(500)));
    fails.oneshot(Request::new(())).await.unwrap();
    tokio::time::advance(30 * SECOND).await;
    // Before the head.
    let waits =
        service_fn(|_: Request<()>| std::future::pending::<Result<Response<Script>, BoxError>>());
    let mut waiting = Box::pin(layer.layer(waits).oneshot(Request::new(())));
    assert!(futures_pending(&mut waiting));
    assert_eq!(health.state(SystemClock.now()), State::HalfOpen { free: 0 });
    drop(waiting);
    assert_eq!(health.state(SystemClock.now()), State::HalfOpen { free: 1 });
    // After it.
    let answer = layer.layer(answers(|| status(200)));
    let answer = answer.oneshot(Request::new(())).await.unwrap();
    assert_eq!(health.state(SystemClock.now()), State::HalfOpen { free: 0 });
    drop(answer);
    assert_eq!(health.state(SystemClock.now()), State::HalfOpen { free: 1 });
    // And a 4xx.
    let answer = layer.layer(answers(|| status(429)));
    answer.oneshot(Request::new(())).await.unwrap();
    assert_eq!(health.state(SystemClock.now()), State::HalfOpen { free: 1 });
}

fn futures_pending<F: Future + Unpin>(future: &mut F) -> bool {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    pin!(future).poll(&mut cx).is_pending()
}

/// Row U15: at once, and with the time of the next probe, which is not after the first one that passes.
#[tokio::test(start_paused = true)]
async fn an_open_circuit_refuses_with_the_time_of_the_next_probe() {
    let (layer, _) = layer(strict());
    let fails = layer.layer(answers(|| status(500)));
    fails.clone().oneshot(Request::new(())).await.unwrap();
    tokio::time::advance(10 * SECOND).await;
    let mut req = Request::new(());
    let record = record();
    req.extensions_mut().insert(record.clone());
    let error = fails.clone().oneshot(req).await.unwrap_err();
    let refused = Rejection::find(&*error).unwrap();
    assert_eq!(
        (refused.reason(), refused.layer(), refused.wait()),
        (Reason::NoTarget, "breaker", Some(20 * SECOND))
    );
    let attempts = record.attempts();
    let [attempt] = &attempts[..] else {
        panic!("{attempts:?}")
    };
    assert_eq!(attempt.error, Some("circuit"));
    assert_eq!((&*attempt.provider, &*attempt.target), ("openai", "openai"));
    assert_eq!(attempt.model.as_deref(), Some("gpt-4o"));
    tokio::time::advance(20 * SECOND).await;
    assert!(fails.oneshot(Request::new(())).await.is_ok(), "it is true");
}

fn record() -> Record {
    let uri = CHAT.parse().unwrap();
    let clock = SystemClock;
    Record::new(
        "id".parse().unwrap(),
        (&Method::POST, &uri, &HeaderMap::new()),
        clock.now(),
        clock.wall(),
    )
}

fn streamed() -> Request<()> {
    let mut req = Request::post(CHAT).body(()).unwrap();
    let root = json::check(b"{\"stream\":true}", &json::Limits::default()).unwrap();
    let Recognised::Surface(surface) =
        dialect::recognise(&Method::POST, CHAT, None, &HeaderMap::new())
    else {
        panic!("a known path");
    };
    let asked = dialect::read(&surface, root).unwrap();
    let intent = Intent::new(surface, None, asked, root.span());
    req.extensions_mut().insert(intent);
    req
}

/// A probe's stream, frame by frame: the state of the circuit after each.
async fn probed(frames: &'static [&'static str]) -> Vec<State> {
    let (layer, health) = layer(strict());
    let fails = layer.layer(answers(|| status(500)));
    fails.oneshot(Request::new(())).await.unwrap();
    tokio::time::advance(30 * SECOND).await;
    let stream = layer.layer(answers(move || {
        let items = frames
            .iter()
            .map(|it| Item::Data(Bytes::from_static(it.as_bytes())));
        let head = Response::builder().header("content-type", "text/event-stream");
        Ok(head.body(Script::new(items)).unwrap())
    }));
    let mut body = stream.oneshot(streamed()).await.unwrap().into_body();
    let mut states = Vec::new();
    while let Some(frame) = body.frame().await {
        frame.unwrap();
        states.push(health.state(SystemClock.now()));
    }
    states
}

#[tokio::test(start_paused = true)]
async fn a_probe_has_succeeded_with_its_first_output() {
    let half = State::HalfOpen { free: 0 };
    let states = probed(&[PING, PING, TOKEN, PING]).await;
    assert_eq!(states, [half, half, State::Closed, State::Closed]);
    let states = probed(&[PING, ERROR]).await;
    assert_eq!(states[0], half);
    assert!(matches!(states[1], State::Open { .. }), "{states:?}");
}

/// Row U11: it hangs behind its head, and nobody else's clock runs.
#[tokio::test(start_paused = true)]
async fn a_probe_without_output_in_its_time_opens_the_circuit_again() {
    for (req, within) in [(streamed(), 5), (Request::new(()), 9)] {
        let (layer, health) = layer(strict());
        let fails = layer.layer(answers(|| status(500)));
        fails.oneshot(Request::new(())).await.unwrap();
        tokio::time::advance(30 * SECOND).await;
        let began = SystemClock.now();
        let hangs = service_fn(|_: Request<()>| {
            std::future::pending::<Result<Response<Script>, BoxError>>()
        });
        let mut hangs = Box::pin(layer.layer(hangs).oneshot(req));
        assert!(futures_pending(&mut hangs));
        tokio::time::advance(within * SECOND - Duration::from_millis(1)).await;
        assert_eq!(health.state(SystemClock.now()), State::HalfOpen { free: 0 });
        tokio::time::advance(Duration::from_millis(1)).await;
        let until = began + within * SECOND + 30 * SECOND;
        assert_eq!(health.state(SystemClock.now()), State::Open { until });
    }
}

/// As a meter tells it.
fn metered(record: &Record, failed: bool) {
    record.begin_metering();
    record.update_metered(|it| {
        *it = Metered {
            failed,
            ..Metered::default()
        }
    });
}

/// A client that reads an error closes its connection, and who tries elsewhere reads no further either: that the end was not
/// waited for hid every such error.
#[tokio::test(start_paused = true)]
async fn who_leaves_behind_an_error_takes_it_not_along() {
    for failed in [true, false] {
        let (layer, health) = layer(strict());
        let record = record();
        let mut req = streamed();
        req.extensions_mut().insert(record.clone());
        let answer = layer.layer(answers(|| status(200))).oneshot(req).await;
        metered(&record, failed);
        drop(answer);
        assert_eq!(open(&health), failed);
    }
}

/// Row S10, for who judges the provider: an error in a stream that ends well is one.
#[tokio::test(start_paused = true)]
async fn an_error_of_the_provider_s_in_a_stream_is_a_failure() {
    let judged = async |tell: fn(&Record)| {
        let (layer, health) = layer(strict());
        let record = record();
        let mut req = streamed();
        req.extensions_mut().insert(record.clone());
        let answer = layer.layer(answers(|| status(200))).oneshot(req).await;
        tell(&record);
        collect(answer.unwrap().into_body()).await;
        open(&health)
    };
    assert!(!judged(|_| {}).await);
    assert!(judged(|record| record.set_ended(Ended::UpstreamError)).await);
    assert!(judged(|record| metered(record, true)).await);
    // What an earlier attempt has met is not this one's.
    let before = |record: &Record| {
        record.set_ended(Ended::UpstreamError);
        metered(record, false);
    };
    assert!(!judged(before).await);
}

#[tokio::test(start_paused = true)]
async fn the_attempts_of_one_request_count_as_one() {
    let (layer, health) = layer(Policy {
        consecutive: Some(2),
        ..strict()
    });
    let service = layer.layer(answers(|| status(503)));
    let ask = |tries: &attempt::Attempt| {
        let mut req = Request::new(());
        req.extensions_mut().insert(tries.clone());
        service.clone().oneshot(req)
    };
    let one = attempt::Attempt::new();
    for _ in 0..3 {
        ask(&one).await.unwrap();
    }
    assert!(!open(&health));
    ask(&attempt::Attempt::new()).await.unwrap();
    assert!(open(&health));
}
