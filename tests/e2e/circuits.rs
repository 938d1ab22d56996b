//! A target that fails is not asked for a while, and one that runs as much as it may is not asked either.

use serde_json::Value;
use tollgate_testing::{
    client::{Conn, call, request},
    http1::Message,
    upstream::{Framing, Gate, SCRIPT, Script, Upstream},
};

use crate::{
    binary::{CHAT, chat, until},
    inside::{Inside, config, one},
};

/// Opens with the second failure in a row.
fn layers(open_for: &str) -> String {
    format!("layers: {{ breaker: {{ consecutive: 2, open_for: {open_for} }}, retry: off }}")
}

async fn ask(inside: &Inside, stream: bool, script: &str) -> Message {
    let rows = [(SCRIPT, script)];
    call(inside.data(), "POST", CHAT, &rows, chat("m", stream)).await
}

fn failing() -> Script {
    Script::answer(500, "application/json", "{\"error\":{}}")
}

/// The errors of the attempts of a request, by its log line.
fn errors(line: &Value) -> Vec<&str> {
    let attempts = line["attempts"].as_array().expect("a list");
    attempts
        .iter()
        .map(|it| it["error"].as_str().unwrap_or("none"))
        .collect()
}

/// Row U15: at once, with the time of the next probe; in the log, in the metrics, and told to whoever wants to know.
#[tokio::test]
async fn a_target_that_fails_in_a_row_is_not_asked_and_everybody_can_see_it() {
    let (upstream, receiver) = (Upstream::start().await, Upstream::start().await);
    upstream.serve("fails", failing());
    receiver.serve_default(Script::answer(200, "text/plain", "thanks"));
    let more = format!(
        "{}\ntelemetry: {{ webhook: {{ url: 'http://{}' }} }}",
        layers("30s"),
        receiver.addr()
    );
    let inside = Inside::start(&config(&one(upstream.addr(), &more)));
    for _ in 0..2 {
        assert_eq!(ask(&inside, false, "fails").await.status(), 500);
    }
    let refused = ask(&inside, false, "fails").await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.header("tollgate-refused-by"), Some("breaker"));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait}");
    let body: Value = serde_json::from_str(&refused.text()).unwrap();
    assert_eq!(body["error"]["code"], "no_target");
    assert_eq!(upstream.snapshot().exchanges.len(), 2);
    let lines = inside.lines(3).await;
    // Two workers write as they come.
    let line = lines.iter().find(|line| line["status"] == 503);
    let line = line.expect("the refusal has a line");
    assert_eq!(errors(line), ["circuit"]);
    assert_eq!(line["error"], "no_target");
    let page = call(inside.admin(), "GET", "/metrics", &[], "").await;
    let state = "tollgate_circuit_state{provider=\"one\",model=\"other\"} 2";
    assert!(page.text().contains(state), "{}", page.text());
    receiver
        .wait_for(|seen| {
            let told = seen.exchanges.iter().flat_map(|post| {
                let events = post.json()["events"].as_array().cloned();
                events.unwrap_or_default()
            });
            let mut changes = told.filter(|it| it["type"] == "circuit.changed");
            changes.any(|it| {
                (&it["provider"], &it["model"], &it["from"], &it["to"])
                    == (&"one".into(), &"m".into(), &"closed".into(), &"open".into())
                    && it["until"].is_string()
            })
        })
        .await;
}

/// Row U13: truncated and with an error event, both under a 200.
#[tokio::test]
async fn streams_that_break_under_a_200_open_it_and_one_that_flows_closes_it() {
    for broken in [
        Script::events(["data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n"])
            .fin(),
        Script::events(["data: {\"error\":{\"message\":\"busy\",\"type\":\"server_error\"}}\n\n"]),
    ] {
        let upstream = Upstream::start().await;
        upstream.serve("broken", broken);
        upstream.serve_default(Script::chat("hello"));
        let inside = Inside::start(&config(&one(upstream.addr(), &layers("100ms"))));
        for _ in 0..2 {
            assert_eq!(ask(&inside, true, "broken").await.status(), 200);
        }
        assert_eq!(ask(&inside, true, "broken").await.status(), 503);
        until("a probe that is let in", async || {
            (ask(&inside, true, "").await.status() == 200).then_some(())
        })
        .await;
        // Closed again: one failure is none.
        ask(&inside, true, "broken").await;
        assert_eq!(ask(&inside, true, "").await.status(), 200);
    }
}

#[tokio::test]
async fn what_callers_do_wrong_opens_nothing() {
    let upstream = Upstream::start().await;
    for status in [400, 401, 403, 404, 413, 422, 429] {
        let name = status.to_string();
        upstream.serve(&name, Script::answer(status, "application/json", "{}"));
    }
    let inside = Inside::start(&config(&one(upstream.addr(), &layers("30s"))));
    for _ in 0..3 {
        for status in [400, 401, 403, 404, 413, 422, 429] {
            let answer = ask(&inside, false, &status.to_string()).await;
            assert_eq!(answer.status(), status);
        }
    }
}

/// A stream holds its place to the end of its body, for all routes; that a provider is full is no failure of it.
#[tokio::test]
async fn a_provider_runs_as_much_as_it_may_whatever_leads_to_it() {
    let upstream = Upstream::start().await;
    let gate = Gate::new("the stream goes on");
    let first = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
    let held = Script::new()
        .head(
            200,
            &[("content-type", "text/event-stream")],
            Framing::Chunked,
        )
        .body(first)
        .wait(&gate)
        .body("data: [DONE]\n\n")
        .end();
    upstream.serve("held", held);
    upstream.serve_default(Script::chat("hello"));
    let text = format!(
        "version: 1\n{}\n\
         providers: {{ one: {{ dialect: openai, base_url: http://{}/v1, credentials: [], \
           concurrency: {{ max: 1, queue: 0, wait: 1s }} }} }}\n\
         routes:\n  - {{ name: a, match: {{ model: m }}, targets: [one] }}\n  - {{ name: b, match: {{}}, targets: [one] }}\n",
        layers("30s"),
        upstream.addr(),
    );
    let inside = Inside::start(&config(&text));
    let conn = Conn::open(inside.data()).await;
    let rows = [(SCRIPT, "held")];
    let asked = request("POST", CHAT, &rows, chat("m", true));
    conn.send(asked).await.unwrap();
    assert!(conn.until(|answer| answer.body.len() >= first.len()).await);
    for _ in 0..3 {
        let full = call(inside.data(), "POST", CHAT, &[], chat("other", false)).await;
        assert_eq!(full.status(), 503);
        assert_eq!(full.header("tollgate-refused-by"), Some("concurrency"));
        assert_eq!(full.header("retry-after"), Some("1"));
    }
    let lines = inside.lines(3).await;
    assert_eq!(errors(&lines[2]), ["saturated"]);
    assert_eq!(
        (&lines[2]["route"], &lines[2]["target"]),
        (&"b".into(), &"one".into())
    );
    gate.open();
    assert!(conn.response().await.whole());
    until(
        "a place, and no circuit that the refusals opened",
        async || {
            let answer = call(inside.data(), "POST", CHAT, &[], chat("other", false)).await;
            (answer.status() == 200).then_some(())
        },
    )
    .await;
}
