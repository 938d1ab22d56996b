//! Who may call, and what a caller has of its own.

pub(crate) mod limits;

use serde_json::Value;
use tollgate_testing::{
    client::Message,
    upstream::{Script, Upstream},
};

use crate::harness::{Ask, CALLER, KEY, Stage, error, provider};

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
