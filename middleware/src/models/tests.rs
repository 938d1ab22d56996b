use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tollgate_testing::{
    body::{BoxError, Script},
    laws::{self, Inner, Outcome},
};
use tower::{Layer, ServiceExt};

use super::{Listed, ModelsLayer};
use crate::facts::{Caller, Terms};

fn layer() -> ModelsLayer {
    ModelsLayer::new([
        Listed::new("gpt-4o", "gpt-4o", "openai"),
        Listed::new("fast", "gpt-4o-mini", "openai"),
        Listed::new("o3", "o3", "openai"),
        Listed::new("gpt-4o", "gpt-4o", "azure"),
        Listed::new("a\"b", "a\"b", "local"),
    ])
}

/// The answer of ours; `None` if the request went on.
async fn asks(req: Request<Script>, models: Option<&[&str]>) -> Option<Value> {
    let inner = Inner::<BoxError>::answering(Response::new(Script::empty()));
    let calls = inner.calls();
    let mut req = req;
    let models = models.map(|all| all.iter().map(|it| (*it).into()).collect());
    let terms = Terms {
        models,
        ..Terms::default()
    };
    req.extensions_mut().insert(Caller::new("a", terms));
    let response = layer().layer(inner).oneshot(req).await.unwrap();
    if !calls.take().is_empty() {
        return None;
    }
    assert_eq!(response.headers()["cache-control"], "no-store");
    let text = response.into_body().collect().await.unwrap().to_bytes();
    Some(serde_json::from_slice(&text).unwrap())
}

fn get(path: &str) -> Request<Script> {
    Request::get(path).body(Script::empty()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn keeps_the_laws() {
    laws::types::<ModelsLayer>();
    laws::transparent(&layer(), laws::cases()).await;
    laws::ready(&layer()).await;
    laws::absent_facts(&layer(), |outcome| matches!(outcome, Outcome::Answered(..))).await;
}

#[tokio::test]
async fn each_dialect_reads_what_its_caller_may_use_and_each_name_once() {
    let granted = Some(&["gpt-4o*", "a\"b"][..]);
    let openai = asks(get("/v1/models"), granted).await.unwrap();
    let names = |list: &Value, key: &str| -> Vec<String> {
        let items = list.as_array().unwrap().iter();
        items
            .map(|it| it[key].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&openai["data"], "id"), ["gpt-4o", "fast", "a\"b"]);
    assert_eq!(openai["data"][0]["owned_by"], "openai");
    let mut anthropic = get("/v1/models");
    let version = "2023-06-01".parse().unwrap();
    anthropic.headers_mut().insert("anthropic-version", version);
    let anthropic = asks(anthropic, granted).await.unwrap();
    assert_eq!(names(&anthropic["data"], "id"), ["gpt-4o", "fast", "a\"b"]);
    assert_eq!(
        (&anthropic["first_id"], &anthropic["last_id"]),
        (&json!("gpt-4o"), &json!("a\"b"))
    );
    let gemini = asks(get("/v1beta/models"), granted).await.unwrap();
    assert_eq!(
        names(&gemini["models"], "name"),
        ["models/gpt-4o", "models/fast", "models/a\"b"]
    );
    let ollama = asks(get("/api/tags"), granted).await.unwrap();
    assert_eq!(
        names(&ollama["models"], "model"),
        ["gpt-4o", "fast", "a\"b"]
    );
    let none = asks(get("/v1/models"), Some(&[])).await.unwrap();
    assert_eq!(none, json!({"object": "list", "data": []}));
}

#[tokio::test]
async fn each_model_that_a_caller_may_use_is_there() {
    let granted = Some(&["gpt-4o*"][..]);
    let openai = asks(get("/v1/models/fast"), granted).await.unwrap();
    assert_eq!(
        openai,
        json!({"id": "fast", "object": "model", "created": 0, "owned_by": "openai"})
    );
    let mut anthropic = get("/v1/models/gpt-4o");
    let version = "2023-06-01".parse().unwrap();
    anthropic.headers_mut().insert("anthropic-version", version);
    let anthropic = asks(anthropic, granted).await.unwrap();
    assert_eq!(
        (&anthropic["type"], &anthropic["id"]),
        (&json!("model"), &json!("gpt-4o"))
    );
    let gemini = asks(get("/v1beta/models/gpt-4o"), granted).await.unwrap();
    assert_eq!(gemini["name"], "models/gpt-4o");
    // What is not granted is refused further inside, and what nobody lists may be there.
    for other in ["/v1/models/o3", "/v1/models/gpt-4o-other"] {
        assert_eq!(asks(get(other), granted).await, None, "{other}");
    }
}

#[tokio::test]
async fn everybody_is_answered_here_where_no_provider_knows_all() {
    let whole = layer().everybody(true);
    let ask = async |req: Request<Script>| {
        let inner = Inner::<BoxError>::answering(Response::new(Script::empty()));
        let calls = inner.calls();
        let response = whole.clone().layer(inner).oneshot(req).await.unwrap();
        let text = response.into_body().collect().await.unwrap().to_bytes();
        (
            calls.take().len(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    };
    let (calls, list) = ask(get("/v1/models")).await;
    assert_eq!(calls, 0);
    for name in ["gpt-4o", "fast", "o3"] {
        assert!(list.contains(&format!("{{\"id\":\"{name}\"")), "{list}");
    }
    let mut req = get("/v1/models/o3");
    req.extensions_mut()
        .insert(Caller::new("a", Terms::default()));
    assert_eq!(ask(req).await.0, 0);
    assert_eq!(ask(get("/v1/models/unknown")).await.0, 1);
}

#[tokio::test]
async fn every_other_question_goes_on() {
    assert_eq!(asks(get("/v1/models"), None).await, None);
    assert_eq!(asks(get("/v1/models/o3"), None).await, None);
    let head = Request::head("/v1/models").body(Script::empty()).unwrap();
    assert_eq!(asks(head, Some(&["o3"])).await, None);
}
