//! Laws; then what is tried again, when, and what is not: under a paused clock, with scripted services.

mod credentials;
mod first_event;
mod held;
mod leaving;
mod targets;

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::time::Instant;
use tollgate_testing::{
    body::Script,
    laws::{self, Outcome},
    splits::Split,
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

use super::{Commit, On, Policy, ResponseBody, RetryLayer};
use crate::{
    body::Held,
    chance::Chance,
    error::{BoxError, Reason, Rejection},
    facts::Deadline,
    health::Ratio,
};

type Sent = Request<Held<Full<Bytes>>>;

/// What a scripted service does with one call.
#[derive(Clone, Debug)]
enum Act {
    Status(u16, &'static [(&'static str, &'static str)], &'static str),
    Fail(Reason),
}

const OK: Act = Act::Status(200, &[], "fine");

fn status(code: u16) -> Act {
    Act::Status(code, &[], "no")
}

/// When a call came, its body, and its headers.
type Call = (Instant, Vec<u8>, HeaderMap);

/// A service that does one act after the other, the last one again and again; and when it was called, with what.
#[derive(Clone, Default)]
struct Stage {
    acts: Arc<Mutex<VecDeque<Act>>>,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Stage {
    fn of(acts: impl IntoIterator<Item = Act>) -> Self {
        let stage = Self::default();
        stage.acts.lock().unwrap().extend(acts);
        stage
    }

    fn calls(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    /// The waits between the calls.
    fn waits(&self) -> Vec<Duration> {
        let calls = self.calls.lock().unwrap();
        calls.windows(2).map(|pair| pair[1].0 - pair[0].0).collect()
    }
}

impl Service<Sent> for Stage {
    type Response = Response<Script>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Script>, BoxError>> + Send>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), BoxError>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Sent) -> Self::Future {
        let stage = self.clone();
        let now = Instant::now();
        Box::pin(async move {
            let (head, body) = req.into_parts();
            let body = body.collect().await.unwrap().to_bytes().to_vec();
            stage.calls.lock().unwrap().push((now, body, head.headers));
            let act = {
                let mut acts = stage.acts.lock().unwrap();
                match acts.len() {
                    1 => acts[0].clone(),
                    _ => acts.pop_front().unwrap(),
                }
            };
            match act {
                Act::Fail(reason) => Err(Rejection::new(reason, "client", "scripted").into()),
                Act::Status(code, headers, body) => {
                    let body = Script::data(body.as_bytes(), &Split::Bytes(3));
                    let mut response = Response::new(body);
                    *response.status_mut() = StatusCode::from_u16(code).unwrap();
                    for (name, value) in headers {
                        response.headers_mut().append(*name, value.parse().unwrap());
                    }
                    Ok(response)
                }
            }
        })
    }
}

fn layer(policy: Policy) -> RetryLayer {
    RetryLayer::with_chance(policy, Chance::seeded(7))
}

fn post(text: &'static str) -> Sent {
    let req = Request::post("/v1/chat/completions").header("x-one", "1");
    req.body(Held::whole([
        Bytes::from(&text[..1]),
        Bytes::from(&text[1..]),
    ]))
    .unwrap()
}

async fn ask(policy: Policy, stage: &Stage) -> Result<Response<ResponseBody<Script>>, BoxError> {
    layer(policy)
        .layer(stage.clone())
        .oneshot(post("hello"))
        .await
}

fn reason<R>(answer: Result<R, BoxError>) -> Reason {
    let error = answer.map(|_| ()).expect_err("a failure");
    Rejection::find(&*error).expect("a rejection").reason()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The layer over a service, for a body that is not held yet.
type Over = tower::util::MapRequest<
    super::Retry<laws::Inner>,
    fn(Request<Script>) -> Request<Held<Script>>,
>;

/// The service inside takes any body; the layer wants one that is held.
fn over(policy: Policy) -> impl Fn(laws::Inner) -> Over {
    move |inner| {
        let hold: fn(Request<Script>) -> Request<Held<Script>> = |req| req.map(Held::unread);
        ServiceBuilder::new()
            .map_request(hold)
            .layer(layer(policy.clone()))
            .service(inner)
    }
}

#[tokio::test(start_paused = true)]
async fn keeps_the_laws() {
    for policy in [Policy::off(), Policy::default()] {
        laws::transparent_over(over(policy.clone()), laws::cases()).await;
        laws::ready_over(over(policy.clone()), || Request::new(Script::empty())).await;
        laws::absent_facts_over(over(policy), |outcome| {
            matches!(outcome, Outcome::Answered(..))
        })
        .await;
    }
}

/// U04: what is tried again by default, and what never is.
#[tokio::test(start_paused = true)]
async fn u04_408_429_and_5xx_are_tried_again_and_no_other_4xx() {
    for code in [408, 429, 500, 502, 503, 504, 529] {
        let stage = Stage::of([status(code), OK]);
        assert_eq!(
            ask(Policy::default(), &stage).await.unwrap().status(),
            200,
            "{code}"
        );
        let calls = stage.calls.lock().unwrap();
        assert!(
            calls
                .iter()
                .all(|(_, body, headers)| body == b"hello" && headers["x-one"] == "1")
        );
        assert_eq!(calls.len(), 2);
    }
    for code in [
        400, 401, 402, 403, 404, 405, 409, 410, 413, 415, 422, 425, 451,
    ] {
        let stage = Stage::of([status(code)]);
        let answer = ask(Policy::default(), &stage).await.unwrap();
        assert_eq!((answer.status().as_u16(), stage.calls()), (code, 1));
        assert!(!answer.headers().contains_key("x-should-retry"));
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "no");
    }
}

/// U04: full jitter: anything from nothing to a base that doubles.
#[tokio::test(start_paused = true)]
async fn u04_waits_are_by_chance_under_a_base_that_doubles() {
    let mut longest = [Duration::ZERO; 3];
    let mut shortest = [seconds(9); 3];
    for seed in 0..200 {
        let stage = Stage::of([status(500)]);
        let policy = Policy {
            attempts: 4,
            ..Policy::default()
        };
        let layer = RetryLayer::with_chance(policy, Chance::seeded(seed));
        layer
            .layer(stage.clone())
            .oneshot(post("hello"))
            .await
            .unwrap();
        for (at, wait) in stage.waits().into_iter().enumerate() {
            longest[at] = longest[at].max(wait);
            shortest[at] = shortest[at].min(wait);
        }
    }
    // A timer counts in milliseconds, and rounds up.
    for (at, most) in [100, 200, 400].into_iter().enumerate() {
        let most = Duration::from_millis(most);
        assert!(
            longest[at] <= most + Duration::from_millis(1) && longest[at] > most * 9 / 10,
            "{longest:?}"
        );
        assert!(shortest[at] < most / 10, "{shortest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_answer_says_that_it_was_tried_again() {
    let stage = Stage::of([
        status(500),
        Act::Status(503, &[("x-own", "kept")], "the last"),
    ]);
    let answer = ask(Policy::default(), &stage).await.unwrap();
    assert_eq!((answer.status().as_u16(), stage.calls()), (503, 3));
    assert_eq!(answer.headers()["x-should-retry"], "false");
    assert_eq!(answer.headers()["x-own"], "kept");
    assert_eq!(
        answer.into_body().collect().await.unwrap().to_bytes(),
        "the last"
    );
    let stage = Stage::of([Act::Fail(Reason::Connect)]);
    let error = ask(Policy::default(), &stage)
        .await
        .map(|_| ())
        .unwrap_err();
    let why = Rejection::find(&*error).unwrap();
    assert!(why.is_hopeless() && why.reason() == Reason::Connect);
    assert_eq!(stage.calls(), 3);
}

/// Nothing was tried again: then nothing is said of it.
#[tokio::test(start_paused = true)]
async fn what_was_tried_once_does_not_say_so() {
    let off = Policy::off();
    let stage = Stage::of([status(500)]);
    let answer = ask(off, &stage).await.unwrap();
    assert!(!answer.headers().contains_key("x-should-retry"));
    let none = Policy {
        ratio: Ratio { share: 0 },
        ..Policy::default()
    };
    let layer = layer(none);
    let stage = Stage::of([status(500)]);
    let answers: Vec<_> = {
        let mut all = Vec::new();
        for _ in 0..30 {
            all.push(
                layer
                    .layer(stage.clone())
                    .oneshot(post("hello"))
                    .await
                    .unwrap(),
            );
        }
        all
    };
    // The floor of the budget has room for ten, and gets one a second.
    let said = answers
        .iter()
        .filter(|answer| answer.headers().contains_key("x-should-retry"));
    assert!(
        said.count() <= 15 && stage.calls() <= 45,
        "{}",
        stage.calls()
    );
    assert!(
        !answers
            .last()
            .unwrap()
            .headers()
            .contains_key("x-should-retry")
    );
}

/// U06: each form of Retry-After, and what follows from it.
#[tokio::test(start_paused = true)]
async fn u06_retry_after_is_waited_for_within_its_bound_and_else_passed_on() {
    type Case = (&'static [(&'static str, &'static str)], Option<Duration>);
    let cases: [Case; 7] = [
        (&[("retry-after", "1")], Some(seconds(1))),
        (&[("retry-after", "30")], Some(seconds(30))),
        (
            &[("retry-after-ms", "250")],
            Some(Duration::from_millis(250)),
        ),
        (
            &[
                ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
                ("retry-after", "Sun, 06 Nov 1994 08:49:39 GMT"),
            ],
            Some(seconds(2)),
        ),
        (&[("retry-after", "60")], None),
        (&[("retry-after", "999999999")], None),
        (
            &[
                ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
                ("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT"),
            ],
            None,
        ),
    ];
    for (headers, expected) in cases {
        let stage = Stage::of([Act::Status(429, headers, "busy"), OK]);
        let answer = ask(Policy::default(), &stage).await.unwrap();
        match expected {
            Some(wait) => {
                let waited = stage.waits()[0];
                assert!(
                    waited >= wait && waited < wait + Duration::from_millis(102),
                    "{headers:?}: {waited:?}"
                );
                assert_eq!(answer.status(), 200);
            }
            None => {
                assert_eq!(
                    (answer.status().as_u16(), stage.calls()),
                    (429, 1),
                    "{headers:?}"
                );
                assert!(answer.headers().contains_key("retry-after"));
                assert!(!answer.headers().contains_key("x-should-retry"));
            }
        }
    }
    for garbage in ["-5", "soon", "0", "1e9"] {
        let headers = Box::leak(Box::new([("retry-after", garbage)]));
        let stage = Stage::of([Act::Status(503, headers, "busy"), OK]);
        assert_eq!(ask(Policy::default(), &stage).await.unwrap().status(), 200);
        assert!(
            stage.waits()[0] <= Duration::from_millis(101),
            "{garbage}: our own wait"
        );
    }
}

/// Beside a Retry-After of a minute at most, the client's own wait may still succeed.
#[tokio::test(start_paused = true)]
async fn x_should_retry_never_stands_beside_a_short_retry_after() {
    let cases: [(&[(&str, &str)], bool); 3] = [
        (&[("retry-after", "1")], false),
        (&[("retry-after", "61")], true),
        (&[], true),
    ];
    for (headers, says) in cases {
        let headers: &'static [_] = headers;
        let stage = Stage::of([status(503), Act::Status(429, headers, "busy")]);
        let policy = Policy {
            attempts: 2,
            ..Policy::default()
        };
        let answer = ask(policy, &stage).await.unwrap();
        assert_eq!(stage.calls(), 2);
        assert_eq!(
            answer.headers().contains_key("x-should-retry"),
            says,
            "{headers:?}"
        );
    }
}

/// U08: where the deadline comes before the end of the wait, there is no wait.
#[tokio::test(start_paused = true)]
async fn u08_no_wait_goes_beyond_the_deadline() {
    let stage = Stage::of([Act::Status(429, &[("retry-after", "2")], "busy"), OK]);
    let before = Instant::now();
    let mut req = post("hello");
    req.extensions_mut()
        .insert(Deadline(before.into_std() + Duration::from_millis(1500)));
    let answer = layer(Policy::default())
        .layer(stage.clone())
        .oneshot(req)
        .await
        .unwrap();
    assert_eq!((answer.status().as_u16(), stage.calls()), (429, 1));
    assert_eq!(
        before.elapsed(),
        Duration::ZERO,
        "the answer is there at once"
    );
}

/// U03: read, then closed without a byte: it may have been served, and is not made again unless the policy says so.
#[tokio::test(start_paused = true)]
async fn u03_closed_without_an_answer_is_tried_again_only_on_request() {
    let stage = Stage::of([Act::Fail(Reason::Closed), OK]);
    assert_eq!(reason(ask(Policy::default(), &stage).await), Reason::Closed);
    assert_eq!(stage.calls(), 1);
    let policy = Policy {
        on: On {
            closed: true,
            ..On::default()
        },
        ..Policy::default()
    };
    assert!(ask(policy, &stage).await.is_ok());
    assert_eq!(stage.calls(), 2, "the second script of the first request");
}

#[tokio::test(start_paused = true)]
async fn a_late_first_byte_is_tried_again_only_on_request() {
    let stage = Stage::of([Act::Fail(Reason::UpstreamTimeout), OK]);
    assert_eq!(
        reason(ask(Policy::default(), &stage).await),
        Reason::UpstreamTimeout
    );
    let policy = Policy {
        on: On {
            first_byte_timeout: true,
            ..On::default()
        },
        ..Policy::default()
    };
    let stage = Stage::of([Act::Fail(Reason::UpstreamTimeout), OK]);
    assert!(ask(policy, &stage).await.is_ok());
}

/// U01: no connection is tried again; a certificate that is no good is not, and neither is a broken protocol.
#[tokio::test(start_paused = true)]
async fn u01_no_connection_is_tried_again_and_a_bad_certificate_never() {
    let stage = Stage::of([Act::Fail(Reason::Connect), OK]);
    assert!(ask(Policy::default(), &stage).await.is_ok());
    for reason_of in [
        Reason::Tls,
        Reason::Protocol,
        Reason::Malformed,
        Reason::TooLarge,
        Reason::Internal,
    ] {
        let stage = Stage::of([Act::Fail(reason_of), OK]);
        assert_eq!(reason(ask(Policy::default(), &stage).await), reason_of);
        assert_eq!(stage.calls(), 1);
    }
}

/// U10: a body beyond the limit, or one that was not read whole, is sent once, and that is no error.
#[tokio::test(start_paused = true)]
async fn u10_a_body_that_cannot_be_kept_is_sent_once() {
    let short = Policy {
        replay: 4,
        ..Policy::default()
    };
    let stage = Stage::of([status(500), OK]);
    let answer = ask(short, &stage).await.unwrap();
    assert_eq!((answer.status().as_u16(), stage.calls()), (500, 1));
    assert!(!answer.headers().contains_key("x-should-retry"));
    let stage = Stage::of([status(500), OK]);
    let unread = Held::begun([Bytes::from("he")], Full::new(Bytes::from("llo")));
    let req = Request::post("/v1/chat/completions").body(unread).unwrap();
    let answer = layer(Policy::default())
        .layer(stage.clone())
        .oneshot(req)
        .await
        .unwrap();
    assert_eq!((answer.status().as_u16(), stage.calls()), (500, 1));
    assert_eq!(stage.calls.lock().unwrap()[0].1, b"hello");
}

/// U09: a body is held once, whatever number of attempts it is sent by, and let go of once an answer counts.
#[tokio::test(start_paused = true)]
async fn u09_a_body_is_held_once_and_let_go_of() {
    struct Watched {
        text: Vec<u8>,
        _life: Arc<()>,
    }
    impl AsRef<[u8]> for Watched {
        fn as_ref(&self) -> &[u8] {
            &self.text
        }
    }
    let life = Arc::new(());
    let frame = Bytes::from_owner(Watched {
        text: vec![7; 64 << 10],
        _life: life.clone(),
    });
    let stage = Stage::of([status(500), status(500), OK]);
    let req = Request::post("/v1/chat/completions")
        .body(Held::whole([frame]))
        .unwrap();
    let answer = layer(Policy::default())
        .layer(stage.clone())
        .oneshot(req)
        .await
        .unwrap();
    assert_eq!((answer.status().as_u16(), stage.calls()), (200, 3));
    assert!(
        stage
            .calls
            .lock()
            .unwrap()
            .iter()
            .all(|(_, body, _)| body.len() == 64 << 10)
    );
    assert_eq!(
        Arc::strong_count(&life),
        1,
        "while the answer is still there"
    );
    drop(answer);
}

/// U05: at 100 % failure, attempts are at most 1.10 times the requests and the floor, and 99 of 100 failures are told at once; once the
/// provider is back, all succeed.
#[tokio::test(start_paused = true)]
async fn u05_a_dead_provider_costs_a_tenth_more() {
    let layer = layer(Policy::default());
    let stage = Stage::of([status(500)]);
    let (mut requests, start) = (0, Instant::now());
    let mut running = tokio::task::JoinSet::new();
    for second in 0..60 {
        for _ in 0..1000 {
            requests += 1;
            let mut service = layer.layer(stage.clone());
            // Waits run beside each other: here they must not hold up the arrivals.
            running.spawn(async move {
                let before = Instant::now();
                let answer = service.ready().await.unwrap().call(post("hello")).await;
                assert_eq!(answer.unwrap().status(), 500);
                before.elapsed()
            });
        }
        tokio::time::sleep_until(start + seconds(second + 1)).await;
    }
    let mut took = running.join_all().await;
    took.sort_unstable();
    let (attempts, late) = (stage.calls(), took[took.len() * 99 / 100]);
    println!(
        "{requests} requests, {attempts} attempts, 99 of 100 within {late:?}, all within {:?}",
        took[took.len() - 1]
    );
    // Two waits of full jitter at the most; a provider's own time is none here.
    let most = Duration::from_millis(100) + Duration::from_millis(200);
    assert!(late <= most && took[took.len() - 1] <= most);
    let floor = 10 + 65;
    assert!(
        attempts <= requests + requests / 10 + floor,
        "{attempts} for {requests}"
    );
    assert!(attempts > requests, "some are tried again");
    stage.acts.lock().unwrap().push_back(OK);
    stage.acts.lock().unwrap().pop_front();
    for _ in 0..100 {
        let answer = layer
            .layer(stage.clone())
            .oneshot(post("hello"))
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
    }
}

/// Facts that are not copied have to come back; a request that lost them is not made once more.
#[tokio::test(start_paused = true)]
async fn facts_that_do_not_come_back_end_the_trying() {
    #[derive(Clone, Debug, PartialEq)]
    struct Mine(&'static str);
    for (gives, calls) in [(true, 2), (false, 1)] {
        let stage = Stage::of([status(500), OK]);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (inner, facts) = (stage.clone(), seen.clone());
        let between = tower::service_fn(move |mut req: Sent| {
            facts
                .lock()
                .unwrap()
                .push(req.extensions().get::<Mine>().cloned());
            if gives {
                crate::attempt::Attempt::give_back(req.extensions_mut());
            }
            inner.clone().oneshot(req)
        });
        let mut req = post("hello");
        req.extensions_mut().insert(Mine("a fact"));
        let answer = layer(Policy::default())
            .facts_come_back()
            .layer(between)
            .oneshot(req)
            .await
            .unwrap();
        assert_eq!((answer.status() == 200, stage.calls()), (gives, calls));
        assert!(
            seen.lock()
                .unwrap()
                .iter()
                .all(|fact| *fact == Some(Mine("a fact")))
        );
    }
}
