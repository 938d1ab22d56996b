//! What an answer cost, as the request log and the metrics tell it.

use serde_json::{Value, json};
use tollgate_testing::{
    client::{Conn, Message, call, request},
    recordings::Recording,
    upstream::{Exchange, Framing, Gate, Plan, SCRIPT, Script, Upstream},
};

use crate::{
    binary::{CHAT, chat, until},
    inside::{Inside, config, one},
};

mod rows;
mod waste;

/// The line of a replayed recording: its numbers are those of the ground truth, and the charge names its source.
pub(crate) fn agrees(what: &str, recording: &Recording, line: &Value) {
    let want = &recording.expected;
    let usage = |field: &str| line["usage"][field].as_u64();
    let fields = [
        "prompt",
        "completion",
        "total",
        "cached",
        "cache_write",
        "reasoning",
    ];
    if !recording.known {
        // Right, or silent.
        for field in fields.into_iter().filter(|field| usage(field).is_some()) {
            assert_eq!(
                usage(field),
                want["usage"][field].as_u64(),
                "{what}: {field}"
            );
        }
        return;
    }
    for field in fields {
        assert_eq!(
            usage(field),
            want["usage"][field].as_u64(),
            "{what}: {field} of {line}"
        );
    }
    let names: Vec<&Value> = want["tool_calls"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|call| &call["name"])
        .collect();
    let told: Vec<&Value> = line["tool_calls"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(told, names, "{what}");
    let reasons = want["finish_reasons"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    assert_eq!(
        line["finish_reasons"]
            .as_array()
            .cloned()
            .unwrap_or_default(),
        reasons,
        "{what}"
    );
    let counts = [
        ("sse", "events"),
        ("ndjson", "lines"),
        ("json_array", "elements"),
        ("eventstream", "messages"),
    ];
    let events = counts
        .into_iter()
        .find_map(|(kind, count)| want[kind][count].as_u64());
    assert_eq!(line["events"].as_u64(), events, "{what}");
    let first = want["first_content_index"].is_u64() && recording.stream;
    assert_eq!(line["first_token_ms"].is_number(), first, "{what}: {line}");
    let source = line["charged"]["source"].as_str().unwrap_or_default();
    if fields.into_iter().any(|field| usage(field).is_some()) {
        assert_eq!(source, "provider", "{what}");
    } else {
        assert!(["estimated", "none"].contains(&source), "{what}: {line}");
    }
    for field in ["prompt", "completion"] {
        let charged = line["charged"][field].as_u64().unwrap_or_default();
        assert!(charged >= usage(field).unwrap_or(0), "{what}: {line}");
    }
}

const EXTRA: &str =
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":23}}\n\n";
const DONE: &str = "data: [DONE]\n\n";
const FINISHED: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";

fn word(text: &str) -> String {
    format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n"
    )
}

/// The only line, once it is there.
async fn line(inside: &Inside) -> Value {
    inside.lines(1).await.swap_remove(0)
}

/// A stream of which the client has read two words; the rest waits at the gate.
async fn begun(inside: &Inside, upstream: &Upstream, gate: &Gate) -> Conn {
    upstream.serve_default(
        Script::events([word("two"), word(" words")])
            .wait(gate)
            .body([FINISHED, EXTRA, DONE].concat())
            .end(),
    );
    let conn = Conn::open(inside.data()).await;
    conn.send(request("POST", CHAT, &[], chat("m", true)))
        .await
        .expect("the gateway reads the request");
    let both = word("two").len() + word(" words").len();
    assert!(conn.until(|answer| answer.body.len() >= both).await);
    conn
}

#[tokio::test]
async fn who_leaves_in_the_middle_is_charged_for_what_was_delivered() {
    let (upstream, gate) = (Upstream::start().await, Gate::new("rest"));
    let inside = Inside::start(&config(&one(upstream.addr(), "")));
    begun(&inside, &upstream, &gate).await.close().await;
    let line = line(&inside).await;
    assert_eq!(line["ended"], "client_gone");
    assert_eq!(
        (&line["usage"], &line["charged"]["source"]),
        (&Value::Null, &"estimated".into())
    );
    assert_eq!(line["charged"]["completion"], 2, "{line}");
    assert!(
        line["charged"]["prompt"]
            .as_u64()
            .is_some_and(|tokens| tokens > 5),
        "{line}"
    );
}

#[tokio::test]
async fn a_drain_reads_on_and_charges_what_the_provider_says() {
    let (upstream, gate) = (Upstream::start().await, Gate::new("rest"));
    let text = one(
        upstream.addr(),
        "layers: { meter: { on_disconnect: drain } }",
    );
    let inside = Inside::start(&config(&text));
    begun(&inside, &upstream, &gate).await.close().await;
    gate.open();
    let line = line(&inside).await;
    assert_eq!(line["ended"], "client_gone");
    assert_eq!(
        line["charged"],
        json!({"prompt": 11, "completion": 23, "source": "drained"})
    );
    assert_eq!(line["finish_reasons"], json!(["stop"]));
    // The client was given two words, and nothing of the rest.
    assert_eq!(line["bytes_out"], word("two").len() + word(" words").len());
}

#[tokio::test]
async fn a_route_may_have_its_own_meter() {
    let upstream = Upstream::start().await;
    let text = one(upstream.addr(), "").replace(
        "targets: [one] }]",
        "targets: [one], layers: { meter: off } }]",
    );
    let inside = Inside::start(&config(&text));
    call(inside.data(), "POST", CHAT, &[], chat("m", false)).await;
    let line = line(&inside).await;
    for field in ["usage", "charged", "events", "finish_reasons"] {
        assert_eq!(line[field], Value::Null, "{field}");
    }
}

/// What the provider saw, what the client got, and the line.
async fn injected(body: &str, events: &str) -> (Exchange, Message, Value) {
    let upstream = Upstream::start().await;
    upstream.serve_default(Script::events([events.to_owned()]).end());
    let inside = Inside::start(&config(&one(
        upstream.addr(),
        "layers: { meter: { inject: true } }",
    )));
    let answer = call(inside.data(), "POST", CHAT, &[], body).await;
    let line = line(&inside).await;
    let seen = upstream.snapshot().exchanges.swap_remove(0);
    (seen, answer, line)
}

#[tokio::test]
async fn usage_is_asked_for_in_the_callers_stead_and_the_extra_chunk_taken_out() {
    let body = chat("m", true);
    let direct = [&word("a"), FINISHED, DONE].concat();
    let events = [&word("a"), FINISHED, EXTRA, DONE].concat();
    let (seen, answer, line) = injected(&body, &events).await;
    let mut want: Value = serde_json::from_str(&body).unwrap();
    want["stream_options"] = json!({"include_usage": true});
    assert_eq!(seen.json(), want);
    assert_eq!(answer.text(), direct);
    assert!(answer.whole());
    assert_eq!(line["usage"]["completion"], 23);
    assert_eq!(line["edited_by"], json!(["meter"]));
    assert_ne!(line["digest"]["upstream"], line["digest"]["client"]);

    // A provider that does not know the member changes nothing.
    let (_, answer, line) = injected(&body, &direct).await;
    assert_eq!(answer.text(), direct);
    assert_eq!(line["edited_by"], json!([]));
    assert_eq!(line["digest"]["upstream"], line["digest"]["client"]);

    // Who asked is given it.
    let asked = want.to_string();
    let (seen, answer, line) = injected(&asked, &events).await;
    assert_eq!(seen.body, asked.as_bytes());
    assert_eq!(answer.text(), events);
    assert_eq!(line["edited_by"], json!([]));
}

#[tokio::test]
async fn prices_are_the_files_the_tables_or_none() {
    let upstream = Upstream::start().await;
    upstream.serve_default(Script::chat("hello"));
    let text = one(
        upstream.addr(),
        "prices: { overrides: { mine: { input: 0.5, output: 1.5 } } }",
    );
    let inside = Inside::start(&config(&text));
    for model in ["mine", "gpt-4o-mini-2024-07-18", "nobody-prices-this"] {
        call(inside.data(), "POST", CHAT, &[], chat(model, false)).await;
    }
    let lines = inside.lines(3).await;
    let cost = |model: &str| {
        let line = lines.iter().find(|line| line["model"] == model);
        line.unwrap_or_else(|| panic!("no line of {model}"))["cost_usd"].clone()
    };
    assert_eq!(cost("mine"), 0.000_011);
    assert_eq!(cost("gpt-4o-mini-2024-07-18"), 0.000_004_05);
    assert_eq!(cost("nobody-prices-this"), Value::Null);
}

#[tokio::test]
async fn tokens_and_times_are_counted_by_names_that_the_configuration_knows() {
    let upstream = Upstream::start().await;
    upstream.serve_default(Script::chat("hello"));
    let events = [word("a"), FINISHED.to_owned(), DONE.to_owned()].concat();
    upstream.serve("stream", Script::events([events]).end());
    let text = one(upstream.addr(), "").replace(
        "credentials: [] }",
        "credentials: [], models: [known, '*'] }",
    );
    let inside = Inside::start(&config(&text));
    for (model, script) in [("known", ""), ("made-up", ""), ("known", "stream")] {
        let body = chat(model, script == "stream");
        call(inside.data(), "POST", CHAT, &[(SCRIPT, script)], body).await;
    }
    let metrics = until("the metrics of three requests", async || {
        let page = call(inside.admin(), "GET", "/metrics", &[], "")
            .await
            .text();
        let counts = page.lines().filter_map(|line| {
            let count = line
                .strip_prefix("tollgate_requests_total{")?
                .rsplit_once(' ')?
                .1;
            count.parse::<u64>().ok()
        });
        (counts.sum::<u64>() == 3).then_some(page)
    })
    .await;
    for line in [
        r#"tollgate_tokens_total{provider="one",model="known",direction="input",source="reported"} 7"#,
        r#"tollgate_tokens_total{provider="one",model="other",direction="output",source="reported"} 5"#,
        r#"tollgate_tokens_total{provider="one",model="known",direction="output",source="estimated"} 1"#,
        r#"tollgate_request_duration_seconds_count{route="all",provider="one",model="known"} 2"#,
        r#"tollgate_time_to_first_token_seconds_count{route="all",provider="one",model="known"} 1"#,
        r#"gen_ai_client_token_usage_sum{gen_ai_operation_name="chat",gen_ai_provider_name="one",gen_ai_request_model="known",gen_ai_token_type="output"} 5.0"#,
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line}\n{metrics}"
        );
    }
    assert!(!metrics.contains("made-up"), "a client made a series");
}

/// Bytes that no meter should choke on: they pass, and the record says that nothing is known.
#[tokio::test]
async fn what_is_no_stream_passes_as_it_is() {
    for (kind, coding, body) in [
        (
            "text/event-stream",
            "gzip",
            &b"\x1f\x8b\x08\0\0\0\0\0\xff\xfe"[..],
        ),
        ("text/event-stream", "identity", b"<html>busy</html>"),
        (
            "text/event-stream",
            "identity",
            b"\xef\xbb\xbfdata: \xff\xfe\0\n\ndata: [DONE]\n\n",
        ),
        ("application/json", "identity", b"{\"usage\":"),
    ] {
        let upstream = Upstream::start().await;
        let headers = [("content-type", kind), ("content-encoding", coding)];
        upstream.serve_default(
            Script::new()
                .head(200, &headers, Framing::Chunked)
                .body(body)
                .end(),
        );
        let inside = Inside::start(&config(&one(upstream.addr(), "")));
        let answer = call(inside.data(), "POST", CHAT, &[], chat("m", true)).await;
        assert_eq!(answer.body, body);
        let line = line(&inside).await;
        assert_eq!(line["usage"], Value::Null, "{line}");
        assert!(
            ["estimated", "none"].contains(&line["charged"]["source"].as_str().unwrap()),
            "{line}"
        );
    }
}

#[tokio::test]
async fn who_wants_to_know_is_told_of_each_request_in_signed_batches() {
    let (upstream, receiver) = (Upstream::start().await, Upstream::start().await);
    upstream.serve_default(Script::chat("hello"));
    upstream.serve("cut", Script::events([word("a")]).rst());
    let taken = std::sync::atomic::AtomicUsize::new(0);
    // The first post fails: its events come again.
    receiver.serve_default(Plan::by(move |_| {
        match taken.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => Script::answer(503, "text/plain", "later"),
            _ => Script::answer(200, "text/plain", "thanks"),
        }
    }));
    let webhook = format!(
        "telemetry: {{ webhook: {{ url: 'http://{}/hook?x=1', secret: sesame }} }}",
        receiver.addr()
    );
    let inside = Inside::start(&config(&one(upstream.addr(), &webhook)));
    call(inside.data(), "POST", CHAT, &[], chat("m", false)).await;
    call(
        inside.data(),
        "POST",
        CHAT,
        &[(SCRIPT, "cut")],
        chat("m", true),
    )
    .await;
    let lines = inside.lines(2).await;
    let told = receiver
        .wait_for(|seen| {
            let taken = seen.exchanges.iter().skip(1);
            let events: usize = taken.map(|post| told(post).len()).sum();
            events >= 2
        })
        .await;
    let posts: Vec<_> = told.exchanges.iter().skip(1).collect();
    let events: Vec<Value> = posts.iter().flat_map(|post| self::told(post)).collect();
    for (line, kind) in lines.iter().zip(["request.finished", "request.failed"]) {
        let mut want = line.clone();
        want["type"] = kind.into();
        assert!(events.contains(&want), "{want} is not in {events:#?}");
    }
    for post in told.exchanges {
        assert_eq!(post.target(), "/hook?x=1");
        assert_eq!(post.header("content-type"), Some("application/json"));
        let signature = post.header("tollgate-signature").expect("it is signed");
        let (time, mac) = signature
            .strip_prefix("t=")
            .unwrap()
            .split_once(",v1=")
            .unwrap();
        let signed = [time.as_bytes(), b".", &post.body].concat();
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"sesame");
        let want = aws_lc_rs::hmac::sign(&key, &signed);
        let want: String = want
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(mac, want);
    }
}

/// The events of a post.
fn told(post: &Exchange) -> Vec<Value> {
    post.json()["events"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

/// Requests are answered while a receiver hangs; what does not fit into the queue is counted and not waited for.
#[tokio::test]
async fn a_receiver_that_hangs_holds_nobody_up() {
    let (upstream, receiver) = (Upstream::start().await, Upstream::start().await);
    upstream.serve_default(Script::chat("hello"));
    receiver.serve_default(Script::new().stall());
    let webhook = format!(
        "telemetry: {{ webhook: {{ url: 'http://{}' }} }}",
        receiver.addr()
    );
    let inside = Inside::start(&config(&one(upstream.addr(), &webhook)));
    for _ in 0..50 {
        let answer = call(inside.data(), "POST", CHAT, &[], chat("m", false)).await;
        assert_eq!(answer.status(), 200);
    }
    assert_eq!(inside.lines(50).await.len(), 50);
    let page = call(inside.admin(), "GET", "/metrics", &[], "")
        .await
        .text();
    assert!(
        page.contains("tollgate_webhook_events_dropped_total 0"),
        "{page}"
    );
    // The end does not wait for it either.
    inside.stop().await;
}
