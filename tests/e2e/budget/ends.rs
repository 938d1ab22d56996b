//! Who pays, and once: through retries, and for a caller that is no more.

use serde_json::Value;
use tollgate_testing::upstream::{Framing, Gate, Script, Upstream};

use super::{BODY, CHAT, answer, ask, file, folder, upstream};
use crate::harness::{Ask, CALLER, Stage};

const STREAM: &[u8] = br#"{"model":"m1","stream":true,"max_tokens":3,"messages":[]}"#;

/// B10: there is no cache and nothing coalesces; what is made once more is charged once, for the answer that was delivered, and the line
/// says whose number it is.
#[tokio::test]
async fn what_is_made_once_more_is_charged_once() {
    let (upstream, dir) = (upstream(3, 1).await, folder());
    let stage = Stage::start(&file(&upstream, "budget: 3usd/month", dir.path(), ""));
    let json = "application/json";
    for at in 0..3 {
        let id = format!("again-{at}");
        let fails = Script::answer(500, json, "{}");
        upstream.serve(&id, vec![fails, Script::answer(200, json, answer(3, 1))]);
        assert_eq!(ask(&stage, &id, BODY).await.status(), 200, "{id}");
        assert_eq!(upstream.attempts(&id), 2, "{id}");
        let line: Value = stage.line(&id).await;
        assert_eq!(line["charged"]["source"], "provider");
        assert_eq!(line["cost_usd"], 1.0);
    }
    assert_eq!(ask(&stage, "none", BODY).await.status(), 429);
    stage.stop().await;
}

/// C11: a caller that is taken out of the file is nobody at once; what runs goes on, and is settled in its account.
#[tokio::test]
async fn what_a_revoked_caller_runs_goes_on_and_is_charged() {
    let (upstream, dir, gate) = (Upstream::start().await, folder(), Gate::new("it is gone"));
    let event = |text: &str, more: &str| {
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]{more}}}\n\n"
        )
    };
    let last = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5}}\n\ndata: [DONE]\n\n";
    let sse = [("content-type", "text/event-stream")];
    upstream.serve(
        "runs",
        Script::new()
            .head(200, &sse, Framing::Chunked)
            .body(event("a", ""))
            .wait(&gate)
            .body(event("b", ""))
            .body(last)
            .end(),
    );
    upstream.serve_default(Script::answer(200, "application/json", answer(3, 1)));
    let with = file(&upstream, "budget: 5usd/month", dir.path(), "");
    let other = format!("callers:\n  other: {{ key: {CALLER}-other }}\n");
    let with = with.replace("callers:\n", &other);
    let without: String = with
        .lines()
        .filter(|line| !line.starts_with("  a:"))
        .map(|line| format!("{line}\n"))
        .collect();
    let stage = Stage::start(&with);
    let bearer = format!("Bearer {CALLER}");
    let headers = [
        ("content-type", "application/json"),
        ("authorization", bearer.as_str()),
    ];
    let runs = Ask {
        headers: &headers,
        ..Ask::post("runs", CHAT, STREAM)
    };
    let conn = stage.open(runs.bytes()).await;
    assert!(
        conn.until(|message| message.body.starts_with(b"data:"))
            .await
    );
    stage.reload(&without);
    assert_eq!(ask(&stage, "gone", BODY).await.status(), 401);
    gate.open_for_all();
    let message = conn.response().await;
    assert!(message.text().ends_with("data: [DONE]\n\n"));
    let line = stage.line("runs").await;
    assert_eq!(
        (&line["caller"], &line["ended"]),
        (&"a".into(), &"complete".into())
    );
    assert_eq!(
        (&line["cost_usd"], &line["generation"]),
        (&2.into(), &1.into())
    );
    // Back again, it has three of five left.
    stage.reload(&with);
    let mut seen = Vec::new();
    for at in 0..4 {
        seen.push(ask(&stage, &format!("back-{at}"), BODY).await.status());
    }
    assert_eq!(seen, [200, 200, 200, 429]);
    stage.stop().await;
}
