//! With targets to go on to: `balance` inside, as in a stack.

use super::*;
use crate::{
    balance::{Balance, Strategy, Target},
    clock::{Clock, SystemClock},
    facts::Endpoint,
    health::{Board, Source},
    record::Record,
};

type Whole = super::super::Retry<Balance<Stage>>;

/// Two targets, first and second.
fn two(policy: Policy, first: &Stage, second: &Stage) -> Whole {
    let board = Board::new(SystemClock.now());
    let target = |name: &'static str, stage: &Stage| {
        let source = Source::fixed(&board, name, "m");
        Target::new(Endpoint::new(name, name, None), source, stage.clone())
    };
    let targets = [target("first", first), target("second", second)];
    layer(policy).layer(Balance::new(targets, Strategy::Fallback).unwrap())
}

async fn calls(policy: Policy, first: Act, second: Act) -> (Option<u16>, usize, usize, Duration) {
    let stages = [Stage::of([first]), Stage::of([second])];
    let before = Instant::now();
    let answer = two(policy, &stages[0], &stages[1])
        .oneshot(post("hello"))
        .await;
    let status = answer.ok().map(|answer| answer.status().as_u16());
    (
        status,
        stages[0].calls(),
        stages[1].calls(),
        before.elapsed(),
    )
}

#[tokio::test(start_paused = true)]
async fn another_target_is_asked_at_once() {
    for first in [status(500), status(429), Act::Fail(Reason::Connect)] {
        let got = calls(Policy::default(), first, OK).await;
        assert_eq!(got, (Some(200), 1, 1, Duration::ZERO));
    }
}

/// Retry-After binds its sender only.
#[tokio::test(start_paused = true)]
async fn u06_retry_after_binds_nobody_but_its_sender() {
    let busy = Act::Status(429, &[("retry-after", "20")], "busy");
    assert_eq!(
        calls(Policy::default(), busy, OK).await,
        (Some(200), 1, 1, Duration::ZERO)
    );
    // Both are busy: the one that returns first is waited for.
    let soon = Act::Status(503, &[("retry-after", "3")], "busy");
    let (status, first, second, took) = calls(
        Policy::default(),
        Act::Status(429, &[("retry-after", "20")], "busy"),
        soon,
    )
    .await;
    assert_eq!((status, first, second), (Some(503), 1, 2));
    assert!(took >= seconds(3) && took < seconds(4), "{took:?}");
}

/// No room and an open circuit are no calls: another target at once, and never the same one.
#[tokio::test(start_paused = true)]
async fn saturation_and_an_open_circuit_go_on_at_once_and_never_come_back() {
    for reason in [Reason::Overloaded, Reason::NoTarget] {
        assert_eq!(
            calls(Policy::default(), Act::Fail(reason), OK).await,
            (Some(200), 1, 1, Duration::ZERO)
        );
        let got = calls(Policy::default(), Act::Fail(reason), Act::Fail(reason)).await;
        assert_eq!(got, (None, 1, 1, Duration::ZERO));
    }
    // They do not count as attempts.
    let policy = Policy {
        attempts: 2,
        ..Policy::default()
    };
    let (status, first, second, _) =
        calls(policy, Act::Fail(Reason::Overloaded), status(500)).await;
    assert_eq!((status, first, second), (Some(500), 1, 2));
}

/// What a provider said is better than that nobody else could be asked, or has answered; where it said to wait, so is that.
#[tokio::test(start_paused = true)]
async fn the_last_real_answer_is_the_one_that_is_passed_on() {
    let first = Act::Status(429, &[("retry-after", "50")], "the first one's words");
    let on = On {
        closed: true,
        first_byte_timeout: true,
        ..On::default()
    };
    for (reason, calls) in [
        (Reason::Overloaded, 1),
        (Reason::NoTarget, 1),
        (Reason::Tls, 1),
        (Reason::Connect, 2),
        (Reason::Closed, 2),
        (Reason::UpstreamTimeout, 2),
    ] {
        let stages = [Stage::of([first.clone()]), Stage::of([Act::Fail(reason)])];
        let policy = Policy {
            on: on.clone(),
            ..Policy::default()
        };
        let mut req = post("hello");
        let head = (req.method(), req.uri(), req.headers());
        let now = Instant::now().into_std();
        let record = Record::new("-".parse().unwrap(), head, now, std::time::UNIX_EPOCH);
        req.extensions_mut().insert(record.clone());
        // As a meter inside would have told of the first one's.
        record.begin_metering();
        record.update_metered(|metered| metered.charge.prompt = 5);
        let answer = two(policy, &stages[0], &stages[1])
            .oneshot(req)
            .await
            .unwrap();
        assert_eq!(
            (stages[0].calls(), stages[1].calls()),
            (1, calls),
            "{reason}"
        );
        assert_eq!(answer.status(), 429, "{reason}");
        assert_eq!(answer.headers()["retry-after"], "50", "{reason}");
        assert_eq!(
            answer.into_body().collect().await.unwrap().to_bytes(),
            "the first one's words"
        );
        // It was thrown away, and is no waste after all.
        let told = record.with_metered(|metered| metered.map(|it| it.charge.prompt));
        assert_eq!((told, record.waste()), (Some(5), None), "{reason}");
    }
    // What may have been served is told as it is.
    let stages = [Stage::of([first]), Stage::of([Act::Fail(Reason::Closed)])];
    let answer = two(Policy::default(), &stages[0], &stages[1])
        .oneshot(post("hello"))
        .await;
    assert_eq!(reason(answer), Reason::Closed);
}

/// What is waited between two attempts, and for a provider that fails, is no time of the gateway's own.
#[tokio::test(start_paused = true)]
async fn waits_between_attempts_are_not_ours() {
    let busy = || Stage::of([Act::Status(429, &[("retry-after", "7")], "")]);
    let stages = [busy(), busy()];
    let mut req = post("hello");
    let head = (req.method(), req.uri(), req.headers());
    let began = Instant::now().into_std();
    let record = Record::new("-".parse().unwrap(), head, began, std::time::UNIX_EPOCH);
    req.extensions_mut().insert(record.clone());
    let answer = two(Policy::default(), &stages[0], &stages[1])
        .oneshot(req)
        .await;
    assert!(answer.is_ok());
    let now = Instant::now().into_std();
    assert!(now - began >= Duration::from_secs(7), "it has waited");
    record.mark(crate::record::Mark::Head, now);
    let own = record.gateway_time().expect("it has a head");
    assert!(own < Duration::from_millis(10), "{own:?}");
}

/// U01: a certificate that is no good is never tried again at its target; others are.
#[tokio::test(start_paused = true)]
async fn u01_a_bad_certificate_bars_its_target_and_no_other() {
    let got = calls(Policy::default(), Act::Fail(Reason::Tls), status(500)).await;
    assert_eq!((got.0, got.1, got.2), (Some(500), 1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_prompt_that_is_too_long_goes_on_and_any_other_400_does_not() {
    let overflow = r#"{"error":{"message":"too long","type":"invalid_request_error","code":"context_length_exceeded"}}"#;
    let json: &[(&str, &str)] = &[("content-type", "application/json")];
    let got = calls(Policy::default(), Act::Status(400, json, overflow), OK).await;
    assert_eq!(got, (Some(200), 1, 1, Duration::ZERO));
    let got = calls(
        Policy::default(),
        Act::Status(400, json, overflow),
        Act::Status(400, json, overflow),
    )
    .await;
    assert_eq!(got, (Some(400), 1, 1, Duration::ZERO));
    let stages = [
        Stage::of([Act::Status(
            400,
            json,
            r#"{"error":{"message":"bad","code":null}}"#,
        )]),
        Stage::of([OK]),
    ];
    let answer = two(Policy::default(), &stages[0], &stages[1])
        .oneshot(post("hello"))
        .await
        .unwrap();
    assert_eq!((answer.status().as_u16(), stages[1].calls()), (400, 0));
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(
        body, r#"{"error":{"message":"bad","code":null}}"#,
        "what was read is handed over whole"
    );
}

#[tokio::test(start_paused = true)]
async fn attempts_count_every_call_whatever_the_target() {
    let (status, first, second, _) = calls(Policy::default(), status(500), status(502)).await;
    assert_eq!((status, first + second), (Some(500), 3));
}

/// What a provider keeps is not made again elsewhere; but for reading, only what never reached it is made again at all.
#[tokio::test(start_paused = true)]
async fn state_at_a_provider_is_never_failed_over() {
    let of = |method: &str, act: Act| {
        let stages = [Stage::of([act]), Stage::of([OK])];
        let req = Request::builder()
            .method(method)
            .uri("/v1/files")
            .body(Held::whole([]))
            .unwrap();
        let whole = two(Policy::default(), &stages[0], &stages[1]);
        async move {
            let _ = whole.oneshot(req).await;
            (stages[0].calls(), stages[1].calls())
        }
    };
    assert_eq!(of("POST", status(500)).await, (1, 0));
    assert_eq!(of("DELETE", status(503)).await, (1, 0));
    assert_eq!(of("POST", Act::Fail(Reason::Connect)).await, (3, 0));
    assert_eq!(of("GET", status(500)).await, (3, 0));
}

/// U05: a dead pair costs a tenth more, and what the floors give.
#[tokio::test(start_paused = true)]
async fn u05_a_dead_pair_costs_a_tenth_more() {
    let stages = [Stage::of([status(500)]), Stage::of([status(502)])];
    let whole = two(Policy::default(), &stages[0], &stages[1]);
    let (mut requests, start) = (0, Instant::now());
    let mut running = tokio::task::JoinSet::new();
    for second in 0..30 {
        for _ in 0..200 {
            requests += 1;
            let whole = whole.clone();
            running.spawn(async move { whole.oneshot(post("hello")).await.map(|_| ()) });
        }
        tokio::time::sleep_until(start + seconds(second + 1)).await;
    }
    while running.join_next().await.is_some() {}
    let attempts = stages[0].calls() + stages[1].calls();
    println!("{requests} requests, {attempts} attempts at two dead providers");
    // Each target has a floor, and the second is found out after five answers.
    assert!(
        attempts <= requests + requests / 10 + 2 * (10 + 32) + 5,
        "{attempts} for {requests}"
    );
    assert!(attempts > requests);
}
