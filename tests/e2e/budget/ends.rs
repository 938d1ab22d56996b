//! Who pays, and once: through retries, and for a caller that is no more.

use serde_json::Value;
use tollgate_testing::upstream::{Framing, Gate, Script, Seen, Upstream};

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

/// The webhook is told of each share once, of the caller's budget and of that of all.
#[tokio::test]
async fn shares_of_a_budget_are_told_once() {
    let (upstream, receiver, dir) = (upstream(3, 1).await, Upstream::start().await, folder());
    receiver.serve_default(Script::answer(200, "text/plain", "thanks"));
    let more = format!(
        "layers: {{ budget: {{ global: 8usd/month }} }}\ntelemetry: {{ webhook: {{ url: 'http://{}/' }} }}\n",
        receiver.addr()
    );
    let stage = Stage::start(&file(&upstream, "budget: 5usd/month", dir.path(), &more));
    for at in 0..5 {
        let id = format!("share-{at}");
        assert_eq!(ask(&stage, &id, BODY).await.status(), 200);
        stage.line(&id).await;
    }
    let shares = |seen: &Seen| {
        let events = seen.exchanges.iter().flat_map(|post| {
            let events = post.json()["events"].as_array().cloned();
            events.unwrap_or_default()
        });
        let shares = events.filter(|event| event["type"] == "budget.threshold");
        let told = |it: Value| {
            (
                it["caller"].clone(),
                it["percent"].clone(),
                it["spent_usd"].clone(),
            )
        };
        shares.map(told).collect::<Vec<_>>()
    };
    // Those of requests come behind them.
    let told = receiver.wait_for(|seen| shares(seen).len() >= 4).await;
    let mut told = shares(&told);
    told.sort_by_key(|(who, percent, _)| (who.is_null(), percent.as_u64()));
    let own = |percent: u8, spent: u8| (Value::from("a"), percent.into(), f64::from(spent).into());
    assert_eq!(
        told,
        [
            own(50, 3),
            own(80, 4),
            own(100, 5),
            (Value::Null, 50.into(), 4.0.into()),
        ]
    );
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
