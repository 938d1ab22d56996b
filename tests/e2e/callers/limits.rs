//! How often a caller may come, and how much of it may run at once.

use tollgate_testing::{
    client::{self, Conn, Message},
    upstream::{Gate, Script, Upstream},
};

use super::{BODY, CHAT, OTHER, stage};
use crate::{
    binary::until,
    harness::{Ask, CALLER, Stage, error, provider},
};

const BY_KEY: &[(&str, &str)] = &[("content-type", "application/json"), ("x-api-key", CALLER)];

/// A stream that keeps its place until the gate is open.
async fn held(stage: &Stage, upstream: &Upstream, id: &str) -> (Conn, Gate) {
    let gate = Gate::new(id);
    let script = Script::events(["data: {}\n\n"])
        .wait(&gate)
        .body("data: [DONE]\n\n")
        .end();
    upstream.serve(id, script);
    let ask = Ask {
        headers: BY_KEY,
        ..Ask::post(id, CHAT, br#"{"model":"m1","stream":true}"#)
    };
    let conn = stage.open(ask.bytes()).await;
    assert!(conn.until(|it| it.body.starts_with(b"data:")).await);
    (conn, gate)
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_again_and_others_are_not() {
    let (stage, _upstream) = stage(", requests: { rate: 2/hour, burst: 2 }", "").await;
    for id in ["one", "two"] {
        let answer = stage.ask_by(id, CALLER, BODY).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(
            answer.header("ratelimit-policy"),
            Some("\"requests\";q=2;w=3600")
        );
        assert_eq!(answer.header("x-ratelimit-limit-requests"), None);
    }
    let answer = stage.ask_by("three", CALLER, BODY).await;
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.header("tollgate-refused-by"), Some("rate_limit"));
    assert_eq!(error(&answer)["code"], "rate_limit_exceeded");
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=1800).contains(&wait), "{wait}");
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some("0"));
    let other = stage.ask_by("other", OTHER, BODY).await;
    assert_eq!((other.status(), other.header("ratelimit")), (200, None));
    let line = stage.line("three").await;
    assert_eq!(
        (&line["caller"], &line["refused_by"]),
        (&"a".into(), &"rate_limit".into())
    );
    stage.stop().await;
}

#[tokio::test]
async fn an_address_is_bounded_before_its_key_is_looked_for() {
    let (stage, _upstream) = stage("", "rate_limit: { per_ip: 2/hour }").await;
    for id in ["one", "two"] {
        assert_eq!(stage.ask_by(id, "nonsense", BODY).await.status(), 401);
    }
    assert_eq!(stage.ask_by("three", CALLER, BODY).await.status(), 429);
    stage.stop().await;
}

/// D13: a permit is held to the end of the body.
#[tokio::test]
async fn a_caller_with_as_many_streams_as_it_may_have_waits_for_its_own() {
    let (stage, upstream) = stage(", concurrency: 1", "").await;
    let (conn, gate) = held(&stage, &upstream, "held").await;
    let second = stage.ask_by("second", CALLER, BODY).await;
    assert_eq!(second.status(), 429);
    assert_eq!(second.header("tollgate-refused-by"), Some("concurrency"));
    assert!(second.header("retry-after").is_some());
    let page = client::call(stage.admin(), "GET", "/metrics", &[], "").await;
    for line in [
        "tollgate_concurrency_held 1",
        "tollgate_concurrency_queued 0",
        "tollgate_limited_total{limit=\"concurrency\",kind=\"rate_limit_exceeded\"} 1",
    ] {
        assert!(
            page.text().contains(line),
            "{line} is not in {}",
            page.text()
        );
    }
    assert_eq!(stage.ask_by("other", OTHER, BODY).await.status(), 200);
    gate.open();
    assert_eq!(conn.response().await.status(), 200);
    // The permit is back when the line is written.
    stage.line("held").await;
    assert_eq!(stage.ask_by("third", CALLER, BODY).await.status(), 200);
    stage.stop().await;
}

/// What is left of each rate that the file names is told by its name, to whoever has the least of it; no caller is named.
#[tokio::test]
async fn what_is_left_of_rates_is_told_at_the_scrape() {
    let layers = "rate_limit: { global: 10/hour, per_model: { \"m1*\": 4/hour, m2: 4/hour }, per_ip: 9/hour }";
    let (stage, _upstream) = stage(", requests: 8/hour", layers).await;
    let all = [
        "global 1.0",
        "requests 1.0",
        "model m1* 1.0",
        "model m2 1.0",
    ];
    assert_eq!(left(&stage).await, all);
    for id in ["one", "two"] {
        assert_eq!(stage.ask_by(id, CALLER, BODY).await.status(), 200);
    }
    assert_eq!(stage.ask_by("three", OTHER, BODY).await.status(), 200);
    let some = [
        "global 0.7",
        "requests 0.75",
        "model m1* 0.25",
        "model m2 1.0",
    ];
    assert_eq!(left(&stage).await, some);
    stage.stop().await;
}

/// Who has gone with a reload has nothing left, and nobody is told of it: the figure was that of a caller who was no more.
#[tokio::test]
async fn what_is_left_to_a_caller_goes_with_it() {
    let upstream = Upstream::start().await;
    upstream.serve_default(Script::answer(200, "application/json", r#"{"object":"x"}"#));
    let provider = provider("acme", "openai", &upstream, "/v1", "");
    let with = |callers: &str| format!("providers:\n{provider}callers:\n{callers}");
    let goes = format!("  a: {{ key: {CALLER}, requests: 2/hour }}\n");
    let stays = format!("  b: {{ key: {OTHER}, requests: 4/hour }}\n");
    let stage = Stage::start(&with(&format!("{goes}{stays}")));
    for (id, key) in [("one", CALLER), ("two", CALLER), ("three", OTHER)] {
        assert_eq!(stage.ask_by(id, key, BODY).await.status(), 200);
    }
    assert_eq!(left(&stage).await, ["requests 0.0"]);
    stage.reload(&with(&stays));
    assert_eq!(left(&stage).await, ["requests 0.75"]);
    // What it has spent is not forgotten meanwhile.
    stage.reload(&with(&format!("{goes}{stays}")));
    assert_eq!(left(&stage).await, ["requests 0.0"]);
    stage.stop().await;
}

/// What is left of the rates, by their names.
pub(crate) async fn left(stage: &Stage) -> Vec<String> {
    let page = client::call(stage.admin(), "GET", "/metrics", &[], "").await;
    let text = page.text();
    let of_rates = "tollgate_limit_remaining_ratio{limit=\"rate_limit\",kind=\"";
    let lines = text.lines().filter_map(|line| line.strip_prefix(of_rates));
    lines.map(|line| line.replace("\"} ", " ")).collect()
}

/// What waits for a place says so on the head of its answer, and what does not wait says nothing of it. The wait is no time of ours,
/// of a request with a body or without: of one without it was.
#[tokio::test]
async fn time_in_the_queue_is_told_on_the_head() {
    let (stage, upstream) = stage("", "concurrency: { max: 1, queue: 1, wait: 60s }").await;
    for (runs, waits, method, path, body) in [
        ("runs", "waits", "POST", CHAT, BODY),
        ("runs-too", "reads", "GET", "/v1/files/f", b""),
    ] {
        let (first, gate) = held(&stage, &upstream, runs).await;
        let ask = Ask {
            method,
            headers: BY_KEY,
            ..Ask::post(waits, path, body)
        };
        let second = stage.open(ask.bytes()).await;
        until("the second one stands in the queue", async || {
            let page = client::call(stage.admin(), "GET", "/metrics", &[], "").await;
            let queued = "tollgate_concurrency_queued 1";
            page.text().lines().any(|line| line == queued).then_some(())
        })
        .await;
        gate.open();
        let (first, second) = (first.response().await, second.response().await);
        assert_eq!((first.status(), second.status()), (200, 200), "{waits}");
        assert_eq!(shares(&first).2, None);
        let (own, provider, queued) = shares(&second);
        let queued = queued.expect("it stood in the queue");
        let line = stage.line(waits).await;
        let first_byte = line["first_byte_ms"].as_f64().expect("a number");
        // Each is a part of its own, and rounded.
        let parts = own + provider + queued;
        assert!(
            queued > 0.0 && parts < first_byte + 0.01,
            "{waits}: {own} + {provider} + {queued} > {first_byte}"
        );
        let told = line["gateway_ms"].as_f64().expect("a number");
        assert!((told - own).abs() < 0.01, "{told} is not {own}");
    }
    stage.stop().await;
}

/// What the head says of the time before it, in milliseconds: ours, the provider's, and that in queues.
fn shares(answer: &Message) -> (f64, f64, Option<f64>) {
    let told = answer.header("server-timing").unwrap_or_default();
    let of = |name: &str| {
        let parts = told.split(", ");
        let part = parts.filter_map(|part| part.strip_prefix(name)).next();
        part.map(|time| time.parse().expect("a number"))
    };
    let whole = || panic!("not all of them are in {told}");
    (
        of("tollgate;dur=").unwrap_or_else(whole),
        of("up;dur=").unwrap_or_else(whole),
        of("q;dur="),
    )
}

/// D07, over the wire.
#[tokio::test]
async fn the_cap_changes_the_number_and_nothing_else() {
    let caps = "token_cap: { max_tokens: 10 }";
    let (stage, upstream) = stage("", caps).await;
    let body = br#"{ "model":"m1", "max_tokens" : 4e3,"x":[1.0] }"#;
    assert_eq!(stage.ask_by("clamped", OTHER, body).await.status(), 200);
    let seen = upstream.finished("clamped", 1).await;
    assert_eq!(
        seen.body,
        br#"{ "model":"m1", "max_tokens" : 10,"x":[1.0] }"#
    );
    let answer = stage
        .ask_by("odd", OTHER, br#"{"model":"m1","max_tokens":"100"}"#)
        .await;
    assert_eq!(
        (answer.status(), error(&answer)["code"].clone()),
        (400, "token_cap".into())
    );
    stage.stop().await;
}

/// What was counted outlives a reload, and what was changed holds at once.
#[tokio::test]
async fn a_reload_keeps_what_was_counted() {
    let config = |hour: u32| {
        crate::harness::load(&format!(
            "providers: {{ m: {{ dialect: mock }} }}\ncallers:\n  a: {{ key: {CALLER}, requests: {hour}/hour }}\n"
        ))
    };
    let before = config(1);
    let log = tollgate::telemetry::log::Sink::writer(std::io::sink());
    let gateway = tollgate::gateway::Gateway::start_with(&before, log).unwrap();
    let address = gateway.addresses()[0].socket_addr().unwrap();
    let bearer = format!("Bearer {CALLER}");
    let asks = async || {
        let conn = Conn::open(address).await;
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let body = r#"{"model":"echo","messages":[{"role":"user","content":"x"}]}"#;
        let _took = conn
            .send(client::request("POST", CHAT, &headers, body))
            .await;
        conn.response().await.status()
    };
    assert_eq!((asks().await, asks().await), (200, 429));
    gateway.reload(config(2)).unwrap();
    assert_eq!((asks().await, asks().await), (200, 429));
    let stopped = tokio::task::spawn_blocking(|| gateway.stop());
    assert_eq!(stopped.await.unwrap().lost, 0);
}
