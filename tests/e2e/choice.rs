//! Routes with several targets: which of them is asked, what follows a failure, and what is told of it.

mod answers;
mod changes;
mod credentials;
mod faults;
mod identity;
mod refusals;
mod sdk;

use std::time::Duration;

use serde_json::Value;
use tollgate_testing::{
    client::{self, Message},
    upstream::{Framing, Plan, Script, Upstream},
};

use crate::harness::{Ask, Stage};

const CHAT: &str = "/v1/chat/completions";
const BODY: &[u8] = br#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;

/// Two providers, `first` and `second`, and what is configured beside them.
struct Pair {
    stage: Stage,
    first: Upstream,
    second: Upstream,
}

impl Pair {
    /// `route` are the keys of the one route beside its name and match, `more` whatever else the file says.
    async fn start(route: &str, more: &str) -> Self {
        Self::with_keys("k-first-0001", "k-second-001", route, more).await
    }

    async fn with_keys(first_keys: &str, second_keys: &str, route: &str, more: &str) -> Self {
        let of = |keys| format!("credentials: [{keys}]");
        Self::of(&of(first_keys), &of(second_keys), route, more).await
    }

    /// `of_first` and `of_second` are the keys of the two providers beside where they are.
    async fn of(of_first: &str, of_second: &str, route: &str, more: &str) -> Self {
        let (first, second) = (Upstream::start().await, Upstream::start().await);
        let (one, two) = (first.port(), second.port());
        let yaml = format!(
            "server: {{ expose: debug, workers: 1 }}\nproviders:\n  \
             first: {{ dialect: openai, base_url: \"http://127.0.0.1:{one}/v1\", {of_first} }}\n  \
             second: {{ dialect: openai, base_url: \"http://127.0.0.1:{two}/v1\", {of_second} }}\n\
             routes:\n  - {{ name: both, match: {{}}, {route} }}\n{more}"
        );
        let stage = Stage::start(&yaml);
        Self {
            stage,
            first,
            second,
        }
    }

    fn answers(&self, first: impl Into<Plan>, second: impl Into<Plan>) {
        self.first.serve_default(first);
        self.second.serve_default(second);
    }

    async fn ask(&self, id: &str) -> Message {
        self.stage.ask(&Ask::post(id, CHAT, BODY)).await
    }

    /// How often each was asked for a request.
    fn asked(&self, id: &str) -> (usize, usize) {
        (self.first.attempts(id), self.second.attempts(id))
    }
}

const BOTH: &str = "targets: [first, { provider: second, model: m2, label: spare }]";

fn fine() -> Script {
    Script::chat("hello")
}

fn failing(status: u16) -> Script {
    Script::answer(
        status,
        "application/json",
        r#"{"error":{"message":"no","type":"server_error"}}"#,
    )
}

fn said(status: u16, headers: &[(&str, &str)]) -> Script {
    let body = r#"{"error":{"message":"busy","code":"rate_limit_exceeded"}}"#;
    let mut all = vec![("content-type", "application/json")];
    all.extend(headers);
    Script::new()
        .head(status, &all, Framing::Length(None))
        .body(body)
        .end()
}

/// U04: what fails is made once more at the next target, and everything is told.
#[tokio::test]
async fn u04_a_failure_goes_on_to_the_next_target_and_is_told() {
    let pair = Pair::start(BOTH, "").await;
    pair.answers(failing(503), fine());
    let answer = pair.ask("on").await;
    assert_eq!((answer.status(), pair.asked("on")), (200, (1, 1)));
    let named = [
        "tollgate-provider",
        "tollgate-model",
        "tollgate-label",
        "tollgate-attempts",
        "tollgate-route",
    ];
    assert_eq!(
        named.map(|name| answer.header(name)),
        [
            Some("second"),
            Some("m2"),
            Some("spare"),
            Some("2"),
            Some("both")
        ]
    );
    let line = pair.stage.line("on").await;
    let told =
        ["provider", "target", "label", "upstream_model", "route"].map(|key| line[key].as_str());
    assert_eq!(
        told,
        [
            Some("second"),
            Some("second/m2"),
            Some("spare"),
            Some("m2"),
            Some("both")
        ]
    );
    let attempts = line["attempts"].as_array().expect("a list");
    let told: Vec<_> = attempts
        .iter()
        .map(|it| (it["provider"].as_str(), it["status"].as_u64()))
        .collect();
    assert_eq!(
        told,
        [(Some("first"), Some(503)), (Some("second"), Some(200))]
    );
    assert!(attempts.iter().all(|it| it["ms"].is_number()));
    let sent = &pair.second.finished("on", 1).await;
    assert_eq!(sent.json()["model"], "m2");
    let first = pair.first.finished("on", 1).await;
    assert_eq!(
        (first.body.as_slice(), first.json()["model"].as_str()),
        (BODY, Some("m"))
    );
    assert_eq!(first.header("authorization"), Some("Bearer k-first-0001"));
    assert_eq!(sent.header("authorization"), Some("Bearer k-second-001"));
    let page = client::call(pair.stage.admin(), "GET", "/metrics", &[], "").await;
    let labels = r#"route="both",provider="second",model="m2",label="spare""#;
    let counted = format!("tollgate_request_duration_seconds_count{{{labels}}} 1");
    assert!(page.text().lines().any(|line| line == counted), "{counted}");
    pair.stage.stop().await;
}

/// U01: a refused connection goes on.
#[tokio::test]
async fn u01_a_refused_connection_goes_on_to_the_next_target() {
    let pair = Pair::start(BOTH, "").await;
    let Pair {
        stage,
        first,
        second,
    } = pair;
    second.serve_default(fine());
    drop(first);
    let answer = stage.ask(&Ask::post("refused", CHAT, BODY)).await;
    assert_eq!((answer.status(), second.attempts("refused")), (200, 1));
    let line = stage.line("refused").await;
    assert_eq!(line["attempts"][0]["error"], "connect");
    stage.stop().await;
}

/// U06: Retry-After binds its sender, which is left alone; the other is asked at once.
#[tokio::test]
async fn u06_a_target_that_said_when_is_left_alone_and_the_other_asked_at_once() {
    let pair = Pair::start(BOTH, "").await;
    pair.answers(said(429, &[("retry-after", "50")]), fine());
    for id in ["one", "two", "three"] {
        assert_eq!(pair.ask(id).await.status(), 200);
    }
    assert_eq!(
        [pair.asked("one"), pair.asked("two"), pair.asked("three")],
        [(1, 1), (0, 1), (0, 1)]
    );
    pair.second
        .serve_default(said(429, &[("retry-after", "45")]));
    let answer = pair.ask("all").await;
    assert_eq!(
        (answer.status(), answer.header("retry-after")),
        (429, Some("45"))
    );
    assert_eq!(
        answer.header("x-should-retry"),
        None,
        "the client's own wait may succeed"
    );
    pair.stage.stop().await;
}

/// Files, batches, stored responses and what goes on from one: at the state target, and nowhere else.
#[tokio::test]
async fn what_a_provider_keeps_goes_to_the_state_target_alone() {
    let route = "strategy: round_robin, state_target: second, targets: [first, second]";
    let pair = Pair::start(route, "").await;
    pair.answers(fine(), failing(503));
    let next = br#"{"model":"m","input":"hi","previous_response_id":"resp_1"}"#;
    let cases = [
        ("files", "POST", "/v1/files", &b"x"[..], 1),
        ("read", "GET", "/v1/files/f", b"", 3),
        ("stored", "DELETE", "/v1/responses/resp_1", b"", 1),
        ("next", "POST", "/v1/responses", next, 1),
    ];
    for (id, method, path, body, expected) in cases {
        let ask = Ask {
            method,
            ..Ask::post(id, path, body)
        };
        assert_eq!(pair.stage.ask(&ask).await.status(), 503, "{id}");
        assert_eq!(pair.asked(id), (0, expected), "{id}");
    }
    pair.stage.stop().await;
}

/// Without routes, a model goes to the providers that list it, in file order.
#[tokio::test]
async fn without_routes_the_providers_that_list_a_model_stand_in_file_order() {
    let (one, two, three) = (
        Upstream::start().await,
        Upstream::start().await,
        Upstream::start().await,
    );
    let provider = |name: &str, upstream: &Upstream, models: &str| {
        let port = upstream.port();
        format!(
            "  {name}: {{ dialect: openai, base_url: \"http://127.0.0.1:{port}/v1\", credentials: [], models: {models} }}\n"
        )
    };
    let providers = [
        provider("one", &one, "[other]"),
        provider("two", &two, "[m]"),
        provider("three", &three, "{ m: theirs }"),
    ];
    let stage = Stage::start(&format!("providers:\n{}", providers.concat()));
    for upstream in [&one, &two, &three] {
        upstream.serve_default(fine());
    }
    assert_eq!(
        stage.ask(&Ask::post("first", CHAT, BODY)).await.status(),
        200
    );
    two.serve_default(failing(500));
    assert_eq!(
        stage.ask(&Ask::post("second", CHAT, BODY)).await.status(),
        200
    );
    let named = br#"{"model":"two/m","messages":[]}"#;
    assert_eq!(
        stage.ask(&Ask::post("named", CHAT, named)).await.status(),
        500
    );
    let asked = |id: &str| [&one, &two, &three].map(|upstream| upstream.attempts(id));
    assert_eq!(asked("first"), [0, 1, 0]);
    assert_eq!(asked("second"), [0, 1, 1]);
    assert_eq!(
        asked("named"),
        [0, 3, 0],
        "who is asked by name is asked alone"
    );
    assert_eq!(three.finished("second", 1).await.json()["model"], "theirs");
    stage.stop().await;
}

/// U15: nobody waits for a circuit: the answer says when the next probe is.
#[tokio::test]
async fn u15_all_circuits_open_is_answered_at_once_with_the_next_probe() {
    let pair = Pair::start(
        BOTH,
        "layers: { breaker: { consecutive: 1, open_for: 40s }, retry: { attempts: 2 } }\n",
    )
    .await;
    pair.answers(failing(500), failing(500));
    assert_eq!(pair.ask("breaks").await.status(), 500);
    let before = tokio::time::Instant::now();
    let answer = pair.ask("open").await;
    assert_eq!(
        (answer.status(), answer.header("tollgate-refused-by")),
        (503, Some("balance"))
    );
    let wait: u64 = answer
        .header("retry-after")
        .and_then(|it| it.parse().ok())
        .expect("a wait");
    assert!((30..=40).contains(&wait) && before.elapsed() < Duration::from_secs(5));
    let body: Value = serde_json::from_slice(&answer.body).expect("an error body is JSON");
    assert_eq!(body["error"]["code"], "no_target");
    assert_eq!(pair.asked("open"), (0, 0));
    let line = pair.stage.line("open").await;
    assert_eq!(
        (&line["ended"], &line["error"]),
        (&Value::from("refused"), &Value::from("no_target"))
    );
    pair.stage.stop().await;
}

/// U03: read whole, then closed without a byte: once, unless the file says otherwise.
#[tokio::test]
async fn u03_closed_without_a_byte_is_made_again_only_where_the_file_says_so() {
    for (more, status, asked) in [
        ("", 502, (1, 0)),
        ("layers: { retry: { on: [closed] } }\n", 200, (1, 1)),
    ] {
        let pair = Pair::start(BOTH, more).await;
        pair.answers(Script::new().fin(), fine());
        assert_eq!(pair.ask("closed").await.status(), status);
        assert_eq!(pair.asked("closed"), asked);
        pair.stage.stop().await;
    }
}

/// U10: a body beyond `replay` is sent once, and that is no error.
#[tokio::test]
async fn u10_a_body_beyond_replay_is_sent_once() {
    let pair = Pair::start(BOTH, "layers: { retry: { replay: 1KiB } }\n").await;
    pair.answers(failing(500), fine());
    let long = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"{}"}}]}}"#,
        "x".repeat(2000)
    );
    let answer = pair
        .stage
        .ask(&Ask::post("long", CHAT, long.as_bytes()))
        .await;
    assert_eq!((answer.status(), pair.asked("long")), (500, (1, 0)));
    assert_eq!(pair.first.finished("long", 1).await.body, long.as_bytes());
    pair.stage.stop().await;
}

/// U18: each provider has connections of its own; another credential is a header of its request, and never another's connection.
#[tokio::test]
async fn u18_no_connection_serves_two_providers() {
    let pair = Pair::start("strategy: round_robin, targets: [first, second]", "").await;
    pair.answers(fine(), fine());
    for n in 0..10 {
        assert_eq!(pair.ask(&format!("turn-{n}")).await.status(), 200);
    }
    for (upstream, key) in [
        (&pair.first, "Bearer k-first-0001"),
        (&pair.second, "Bearer k-second-001"),
    ] {
        let seen = upstream.snapshot();
        let keys = (0..10).filter_map(|n| {
            let id = format!("turn-{n}");
            seen.of(&id)
                .next()
                .map(|it| it.header("authorization").map(str::to_owned))
        });
        let keys: Vec<_> = keys.collect();
        assert!(
            keys.len() == 5 && keys.iter().all(|it| it.as_deref() == Some(key)),
            "{keys:?}"
        );
    }
    pair.stage.stop().await;
}
