//! Who may call, how often, and how much at once.

use serde_json::Value;
use tollgate_testing::{
    client::Message,
    upstream::{Gate, Script, Upstream},
};

use crate::{
    binary::until,
    harness::{Ask, CALLER, KEY, Stage, error, provider},
};

const CHAT: &str = "/v1/chat/completions";
const BODY: &[u8] = br#"{"model":"m1","max_tokens":100,"messages":[]}"#;
const OTHER: &str = "sk-caller-other-91c0d2";

/// A gateway with two callers, and its provider.
async fn stage(callers: &str, layers: &str) -> (Stage, Upstream) {
    let upstream = Upstream::start().await;
    upstream.serve_default(Script::answer(200, "application/json", r#"{"object":"x"}"#));
    let provider = provider("acme", "openai", &upstream, "/v1", "");
    let yaml = format!(
        "providers:\n{provider}callers:\n  a: {{ key: {CALLER}{callers} }}\n  b: {{ key: {OTHER} }}\n\
         aliases: {{ other: m2 }}\nlayers: {{ {layers} }}\n"
    );
    (Stage::start(&yaml), upstream)
}

#[tokio::test]
async fn a_caller_is_known_by_its_key_which_stays_here() {
    let (stage, upstream) = stage("", "").await;
    let answer = stage.ask_by("good", CALLER, BODY).await;
    assert_eq!(answer.status(), 200);
    let seen = upstream.finished("good", 1).await;
    assert_eq!(
        seen.header("authorization"),
        Some(format!("Bearer {KEY}").as_str())
    );
    let line = stage.line("good").await;
    assert_eq!(line["caller"], "a");
    stage.stop().await;
    let told = format!(
        "{line} {} {}",
        String::from_utf8_lossy(&seen.head),
        answer.text()
    );
    assert!(!told.contains(CALLER), "{told}");
}

/// C04, C09, C18: the same answer, whatever is wrong, and nothing in it.
#[tokio::test]
async fn whoever_is_not_known_gets_one_constant_answer() {
    let callers = ", expires: 2020-01-01";
    let (stage, upstream) = stage(callers, "").await;
    let mut first: Option<Value> = None;
    for (index, key) in ["", "nonsense", CALLER, "' OR '1'='1", "*"]
        .into_iter()
        .enumerate()
    {
        let id = format!("bad-{index}");
        let answer = stage.ask_by(&id, key, BODY).await;
        assert_eq!(answer.status(), 401);
        assert_eq!(answer.header("tollgate-refused-by"), Some("auth"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let error = error(&answer);
        assert_eq!(error["code"], "invalid_api_key");
        assert_eq!(error["type"], "authentication_error");
        assert_eq!(*first.get_or_insert_with(|| error.clone()), error);
        let line = stage.line(&id).await;
        assert_eq!(
            (&line["caller"], &line["refused_by"]),
            (&Value::Null, &Value::from("auth"))
        );
        assert_eq!(upstream.attempts(&id), 0);
    }
    stage.stop().await;
}

/// With callers, `tollgate-key` names who calls; the usual slots carry the provider's own key, for a provider that wants it.
#[tokio::test]
async fn a_callers_own_credential_goes_to_the_provider_that_it_is_for() {
    let upstream = Upstream::start().await;
    let port = upstream.port();
    let own = provider("ours", "openai", &upstream, "/v1", ", models: [ours]");
    let yaml = format!(
        "providers:\n  theirs: {{ dialect: openai, base_url: \"http://127.0.0.1:{port}/v1\", credentials: passthrough, models: [m1] }}\n{own}\
         callers:\n  a: {{ key: {CALLER} }}\n"
    );
    let stage = Stage::start(&yaml);
    let asks = async |id: &str, model: &str, headers: &[(&str, &str)]| {
        let body = format!(r#"{{"model":"{model}","messages":[]}}"#);
        let ask = Ask {
            headers,
            ..Ask::post(id, CHAT, body.as_bytes())
        };
        stage.ask(&ask).await.status()
    };
    let bearer = ("authorization", "Bearer sk-callers-own-0d1e");
    let organization = ("openai-organization", "org-of-the-caller");
    let named = [("tollgate-key", CALLER), bearer, organization];
    assert_eq!(asks("theirs", "m1", &named).await, 200);
    let seen = upstream.finished("theirs", 1).await;
    assert_eq!(seen.header("authorization"), Some(bearer.1));
    assert_eq!(seen.header("openai-organization"), Some(organization.1));
    assert_eq!(seen.header("tollgate-key"), None);
    assert_eq!(stage.line("theirs").await["caller"], "a");
    // It never leaves the provider that it is for.
    assert_eq!(asks("ours", "ours", &named).await, 200);
    let seen = upstream.finished("ours", 1).await;
    assert_eq!(
        seen.header("authorization"),
        Some(format!("Bearer {KEY}").as_str())
    );
    let head = String::from_utf8_lossy(&seen.head).into_owned();
    assert!(
        !head.contains("callers-own") && !head.contains(organization.1),
        "{head}"
    );
    // The provider's key names nobody here, and ours is none for the provider.
    assert_eq!(asks("unnamed", "m1", &[bearer]).await, 401);
    assert_eq!(upstream.attempts("unnamed"), 0);
    let ours = format!("Bearer {CALLER}");
    assert_eq!(asks("bare", "m1", &[("authorization", &ours)]).await, 200);
    let seen = upstream.finished("bare", 1).await;
    assert_eq!(seen.header("authorization"), None);
    stage.stop().await;
}

/// Labels stand in the lines of their caller and of nobody else, and a route may be for a caller.
#[tokio::test]
async fn a_caller_has_labels_and_routes_of_its_own() {
    let upstream = Upstream::start().await;
    upstream.serve_default(Script::answer(200, "application/json", r#"{"object":"x"}"#));
    let provider = provider("acme", "openai", &upstream, "/v1", "");
    let yaml = format!(
        "providers:\n{provider}callers:\n  a: {{ key: {CALLER}, labels: {{ cost_center: \"42\", \"te\\\"am\": x }} }}\n  b: {{ key: {OTHER} }}\n\
         routes:\n  - {{ name: own, match: {{ caller: a }}, targets: [{{ provider: acme, model: better }}] }}\n  \
         - {{ name: rest, match: {{}}, targets: [acme] }}\n"
    );
    let stage = Stage::start(&yaml);
    for (id, key, route, model) in [("a", CALLER, "own", "better"), ("b", OTHER, "rest", "m1")] {
        assert_eq!(stage.ask_by(id, key, BODY).await.status(), 200);
        let line = stage.line(id).await;
        assert_eq!(
            (&line["route"], &line["upstream_model"]),
            (&Value::from(route), &Value::from(model))
        );
        let labels = serde_json::json!({"cost_center": "42", "te\"am": "x"});
        let labels = if id == "a" { labels } else { Value::Null };
        assert_eq!(line["caller_labels"], labels);
    }
    stage.stop().await;
}

/// What nobody could tell by itself is told here: which models there are at two providers.
#[tokio::test]
async fn the_models_of_several_providers_are_one_list() {
    let upstream = Upstream::start().await;
    let one = provider("one", "openai", &upstream, "/v1", ", models: [m1, \"x-*\"]");
    let two = provider(
        "two",
        "openai",
        &upstream,
        "/v1",
        ", models: { m2: theirs }",
    );
    let yaml = format!(
        "providers:\n{one}{two}callers:\n  a: {{ key: {CALLER}, models: [m2] }}\n  b: {{ key: {OTHER} }}\n"
    );
    let stage = Stage::start(&yaml);
    let asks = async |id: &str, path: &str, key: &str| {
        let headers = [("x-api-key", key)];
        let ask = Ask {
            method: "GET",
            headers: &headers,
            ..Ask::post(id, path, b"")
        };
        stage.ask(&ask).await
    };
    for (id, key, models) in [
        ("list-a", CALLER, &["m2"][..]),
        ("list-b", OTHER, &["m1", "m2"]),
    ] {
        let list: Value = serde_json::from_slice(&asks(id, "/v1/models", key).await.body).unwrap();
        let names = list["data"].as_array().unwrap().iter();
        let names: Vec<_> = names.map(|it| it["id"].as_str().unwrap()).collect();
        assert_eq!(names, models);
    }
    let there = asks("m2", "/v1/models/m2", CALLER).await;
    let there: Value = serde_json::from_slice(&there.body).unwrap();
    assert_eq!(
        (&there["id"], &there["owned_by"]),
        (&"m2".into(), &"two".into())
    );
    let hidden = asks("m1", "/v1/models/m1", CALLER).await;
    assert_eq!(
        (hidden.status(), error(&hidden)["code"].clone()),
        (404, "model_not_found".into())
    );
    // A name that no list can hold is the provider's to tell.
    assert_eq!(asks("x-1", "/v1/models/x-1", OTHER).await.status(), 200);
    assert_eq!(upstream.attempts("x-1"), 1);
    assert_eq!(upstream.attempts("m2") + upstream.attempts("m1"), 0);
    stage.stop().await;
}

/// A page's browser asks without a key, and the page reads why it was refused.
#[tokio::test]
async fn pages_may_ask_and_read_what_they_are_answered() {
    let upstream = Upstream::start().await;
    upstream.serve_default(Script::answer(200, "application/json", r#"{"object":"x"}"#));
    let provider = provider("acme", "openai", &upstream, "/v1", "");
    let yaml = format!(
        "server: {{ cors: {{ origins: [\"https://*.example.com\"] }} }}\nproviders:\n{provider}callers:\n  a: {{ key: {CALLER} }}\n"
    );
    let stage = Stage::start(&yaml);
    let page = ("origin", "https://app.example.com");
    let bearer = format!("Bearer {CALLER}");
    let key = ("authorization", bearer.as_str());
    let method = ("access-control-request-method", "POST");
    let names = ("access-control-request-headers", "authorization");
    let asks = async |id: &str, verb: &str, headers: &[(&str, &str)]| {
        let body = if verb == "POST" { BODY } else { b"" };
        let ask = Ask {
            method: verb,
            headers,
            ..Ask::post(id, CHAT, body)
        };
        stage.ask(&ask).await
    };
    let allowed = |message: &Message| {
        message
            .header("access-control-allow-origin")
            .map(str::to_owned)
    };
    let may = asks("may", "OPTIONS", &[page, method, names]).await;
    assert_eq!((may.status(), may.body.len()), (204, 0));
    assert_eq!(allowed(&may).as_deref(), Some(page.1));
    assert_eq!(
        may.header("access-control-allow-headers"),
        Some("authorization")
    );
    assert_eq!(stage.line("may").await["ended"], "complete");
    let other = [("origin", "https://evil.test"), method];
    let other = asks("other", "OPTIONS", &other).await;
    assert_eq!((other.status(), allowed(&other)), (401, None));
    let refused = asks("refused", "POST", &[page]).await;
    assert_eq!(
        (refused.status(), allowed(&refused).as_deref()),
        (401, Some(page.1))
    );
    let served = asks("served", "POST", &[page, key]).await;
    assert_eq!(
        (served.status(), allowed(&served).as_deref()),
        (200, Some(page.1))
    );
    let exposed = served
        .header("access-control-expose-headers")
        .unwrap_or_default();
    assert!(
        exposed.contains("tollgate-request-id") && exposed.contains("ratelimit"),
        "{exposed}"
    );
    assert_eq!(upstream.attempts("may") + upstream.attempts("refused"), 0);
    stage.stop().await;
}

/// C13: by the name that the alias leads to.
#[tokio::test]
async fn a_model_that_is_not_granted_is_not_there() {
    let (stage, upstream) = stage(", models: [m1, \"x-*\"]", "").await;
    let with = |model: &str| format!(r#"{{"model":"{model}"}}"#).into_bytes();
    for (id, key, model) in [
        ("m1", CALLER, "m1"),
        ("star", CALLER, "x-1"),
        ("any", OTHER, "other"),
    ] {
        assert_eq!(
            stage.ask_by(id, key, &with(model)).await.status(),
            200,
            "{id}"
        );
    }
    for (index, model) in ["m2", "other", "M1", " m1", "m1/../m2"]
        .into_iter()
        .enumerate()
    {
        let id = format!("no-{index}");
        let answer = stage.ask_by(&id, CALLER, &with(model)).await;
        assert_eq!(
            (answer.status(), error(&answer)["code"].clone()),
            (404, "model_not_found".into())
        );
        assert_eq!(upstream.attempts(&id), 0);
    }
    stage.stop().await;
}

#[tokio::test]
async fn a_caller_with_listed_models_reads_its_own_list() {
    let (stage, upstream) = stage(", models: [m2]", "").await;
    let headers = [("x-api-key", CALLER)];
    let list = Ask {
        method: "GET",
        headers: &headers,
        ..Ask::post("list", "/v1/models", b"")
    };
    let answer = stage.ask(&list).await;
    assert_eq!((answer.status(), upstream.attempts("list")), (200, 0));
    let list: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(list["data"][0]["id"], "other");
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
    stage.stop().await;
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
    let gate = Gate::new("the end of the stream");
    let held = Script::events(["data: {}\n\n"])
        .wait(&gate)
        .body("data: [DONE]\n\n")
        .end();
    upstream.serve("held", held);
    let bearer = format!("Bearer {CALLER}");
    let headers = [
        ("content-type", "application/json"),
        ("authorization", bearer.as_str()),
    ];
    let streams = Ask {
        headers: &headers,
        ..Ask::post("held", CHAT, br#"{"model":"m1","stream":true}"#)
    };
    let conn = stage.open(streams.bytes()).await;
    assert!(
        conn.until(|message| message.body.starts_with(b"data:"))
            .await
    );
    let second = stage.ask_by("second", CALLER, BODY).await;
    assert_eq!(second.status(), 429);
    assert_eq!(second.header("tollgate-refused-by"), Some("concurrency"));
    assert!(second.header("retry-after").is_some());
    let page = tollgate_testing::client::call(stage.admin(), "GET", "/metrics", &[], "").await;
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
    let page = tollgate_testing::client::call(stage.admin(), "GET", "/metrics", &[], "").await;
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
    let bearer = format!("Bearer {CALLER}");
    let headers = [
        ("content-type", "application/json"),
        ("authorization", bearer.as_str()),
    ];
    let of = |method, id, path, body: &'static [u8]| Ask {
        method,
        headers: &headers,
        ..Ask::post(id, path, body)
    };
    for (held, waits, method, path, body) in [
        ("held", "waits", "POST", CHAT, BODY),
        ("held-again", "reads", "GET", "/v1/files/f", b""),
    ] {
        let gate = Gate::new("the place is free");
        let script = Script::events(["data: {}\n\n"])
            .wait(&gate)
            .body("data: [DONE]\n\n")
            .end();
        upstream.serve(held, script);
        let streams = of("POST", held, CHAT, br#"{"model":"m1","stream":true}"#);
        let first = stage.open(streams.bytes()).await;
        assert!(
            first
                .until(|message| message.body.starts_with(b"data:"))
                .await
        );
        let second = stage.open(of(method, waits, path, body).bytes()).await;
        until("the second one stands in the queue", async || {
            let page =
                tollgate_testing::client::call(stage.admin(), "GET", "/metrics", &[], "").await;
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
        let conn = tollgate_testing::client::Conn::open(address).await;
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let body = r#"{"model":"echo","messages":[{"role":"user","content":"x"}]}"#;
        let _took = conn
            .send(tollgate_testing::client::request(
                "POST", CHAT, &headers, body,
            ))
            .await;
        conn.response().await.status()
    };
    assert_eq!((asks().await, asks().await), (200, 429));
    gateway.reload(config(2)).unwrap();
    assert_eq!((asks().await, asks().await), (200, 429));
    let stopped = tokio::task::spawn_blocking(|| gateway.stop());
    assert_eq!(stopped.await.unwrap().lost, 0);
}

/// Callers are in the metrics only where the file says so, and only those of the file.
#[tokio::test]
async fn callers_are_told_apart_in_the_metrics_where_that_is_asked_for() {
    for label in [false, true] {
        let upstream = Upstream::start().await;
        let answer = r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}"#;
        upstream.serve_default(Script::answer(200, "application/json", answer));
        let provider = provider("acme", "openai", &upstream, "/v1", "");
        let stage = Stage::start(&format!(
            "providers:\n{provider}callers:\n  a: {{ key: {CALLER} }}\n  b: {{ key: {OTHER} }}\n\
             telemetry: {{ metrics: {{ label_callers: {label} }} }}\n"
        ));
        for (id, key, status) in [("one", CALLER, 200), ("two", "sk-nobodys-key-1f2e3d", 401)] {
            assert_eq!(stage.ask_by(id, key, BODY).await.status(), status);
            stage.line(id).await;
        }
        let page = tollgate_testing::client::call(stage.admin(), "GET", "/metrics", &[], "").await;
        let page = page.text();
        for line in [
            r#"tollgate_caller_requests_total{caller="a",outcome="complete"} 1"#,
            r#"tollgate_caller_requests_total{caller="",outcome="refused"} 1"#,
            r#"tollgate_caller_tokens_total{caller="a",direction="input",source="reported"} 7"#,
        ] {
            let told = page.lines().any(|it| it == line);
            assert_eq!(told, label, "{line} in {page}");
        }
        assert_eq!(page.contains("tollgate_caller"), label, "{page}");
        stage.stop().await;
    }
}
