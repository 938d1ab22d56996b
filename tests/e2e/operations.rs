//! What operators see and choose: health, metrics, the configuration, workers, the log, names of requests.

mod log;
mod names;

use std::net::SocketAddr;

use serde_json::Value;
use tollgate::config::Listen;
use tollgate_testing::{
    client::{Conn, Message, call, request},
    upstream::{Gate, SCRIPT, Script, Upstream},
};

use crate::{
    binary::{CHAT, chat, shown, until},
    inside::{Inside, config, one},
    program::MOCK,
};

const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
const PAGES: [&str; 5] = ["/livez", "/healthz", "/readyz", "/metrics", "/config"];

async fn get(addr: SocketAddr, path: &str) -> Message {
    call(addr, "GET", path, &[], "").await
}

#[tokio::test]
async fn the_admin_listener_has_its_pages_and_nothing_else() {
    let inside = Inside::start(&config(MOCK));
    let admin = inside.admin();
    for path in PAGES {
        let page = get(admin, path).await;
        assert_eq!(page.status(), 200, "{path}: {}", shown(&page));
        assert!(
            page.whole() && !page.body.is_empty(),
            "{path}: {}",
            shown(&page)
        );
        assert_eq!(page.header("cache-control"), Some("no-store"), "{path}");
        let posted = call(admin, "POST", path, &[], "{}").await;
        assert_eq!(
            (posted.status(), posted.header("allow")),
            (405, Some("GET, HEAD")),
            "{path}"
        );
        let headed = call(admin, "HEAD", path, &[], "").await;
        assert_eq!((headed.status(), headed.body.len()), (200, 0), "{path}");
    }
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/v1/models"),
        ("POST", CHAT),
        ("POST", "/livez/x"),
    ] {
        let page = call(admin, method, path, &[], chat("echo", false)).await;
        assert_eq!(page.status(), 404, "{method} {path}: {}", shown(&page));
    }
}

#[tokio::test]
async fn the_data_listener_has_none_of_the_admin_pages() {
    let upstream = Upstream::start().await;
    for text in [MOCK.to_owned(), one(upstream.addr(), "")] {
        let inside = Inside::start(&config(&text));
        for path in PAGES {
            let page = get(inside.data(), path).await;
            assert_eq!(page.status(), 404, "{path}: {}", shown(&page));
        }
    }
    assert!(upstream.snapshot().exchanges.is_empty());
}

#[tokio::test]
async fn readiness_goes_with_the_drain_and_life_stays() {
    let (upstream, gate) = (Upstream::start().await, Gate::new("drain"));
    upstream.serve_default(
        Script::events([EVENT])
            .wait(&gate)
            .body("data: [DONE]\n\n")
            .end(),
    );
    let inside = Inside::start(&config(&one(upstream.addr(), "")));
    let conn = Conn::open(inside.data()).await;
    conn.send(request("POST", CHAT, &[], chat("m", true)))
        .await
        .unwrap();
    assert!(conn.until(|message| !message.body.is_empty()).await);
    let ready = get(inside.admin(), "/readyz").await;
    assert_eq!((ready.status(), ready.text().as_str()), (200, "ok"));

    inside.drain();
    let ready = get(inside.admin(), "/readyz").await;
    assert_eq!((ready.status(), ready.text().as_str()), (503, "draining"));
    assert_eq!(get(inside.admin(), "/livez").await.status(), 200);
    gate.open();
    assert!(conn.response().await.whole());
    assert_eq!(inside.stop().await.cut, 0);
}

#[tokio::test]
async fn requests_are_counted_by_route_class_and_outcome_and_bytes_both_ways() {
    let upstream = Upstream::start().await;
    upstream.serve(
        "fail",
        Script::answer(500, "application/json", "{\"error\":{}}"),
    );
    upstream.serve("cut", Script::events([EVENT]).rst());
    let text = one(upstream.addr(), "").replace("match: {}", "match: { model: 'm*' }");
    let inside = Inside::start(&config(&text));
    let (mut bytes_in, mut bytes_out) = (0, 0);
    for (model, script) in [
        ("m1", ""),
        ("m2", ""),
        ("m3", "fail"),
        ("m4", "cut"),
        ("other", ""),
    ] {
        let body = chat(model, script == "cut");
        bytes_in += body.len();
        let answer = call(inside.data(), "POST", CHAT, &[(SCRIPT, script)], body).await;
        bytes_out += answer.body.len();
    }
    let metrics = until("the metrics of five requests", async || {
        let page = get(inside.admin(), "/metrics").await;
        assert!(
            page.header("content-type")
                .unwrap()
                .starts_with("text/plain; version=0.0.4")
        );
        let text = page.text();
        (text.matches("tollgate_requests_total{").count() == 4).then_some(text)
    })
    .await;
    for line in [
        r#"tollgate_requests_total{route="all",provider="one",operation="chat",model="other",status_class="2xx",outcome="complete"} 2"#
            .to_owned(),
        r#"tollgate_requests_total{route="all",provider="one",operation="chat",model="other",status_class="5xx",outcome="complete"} 1"#
            .to_owned(),
        r#"tollgate_requests_total{route="all",provider="one",operation="chat",model="other",status_class="2xx",outcome="upstream_truncated"} 1"#
            .to_owned(),
        r#"tollgate_requests_total{route="",provider="",operation="chat",model="",status_class="4xx",outcome="refused"} 1"#.to_owned(),
        format!(r#"tollgate_body_bytes_total{{direction="in"}} {bytes_in}"#),
        format!(r#"tollgate_body_bytes_total{{direction="out"}} {bytes_out}"#),
        r#"tollgate_requests_in_flight{route="all"} 0"#.to_owned(),
        r#"tollgate_streams_in_flight{route="all"} 0"#.to_owned(),
        r#"tollgate_upstream_attempts_total{provider="one",reason="5xx"} 3"#.to_owned(),
        "tollgate_connections_accepted_total 5".to_owned(),
        "tollgate_log_lines_dropped_total 0".to_owned(),
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line}\n{metrics}"
        );
    }
}

/// OpenMetrics for who asks for it, with the traces that callers named; the older text for all others.
#[tokio::test]
async fn openmetrics_is_there_for_who_asks_and_names_the_traces_of_requests() {
    let upstream = Upstream::start().await;
    upstream.serve_default(Script::events([EVENT, EVENT, EVENT, "data: [DONE]\n\n"]));
    let inside = Inside::start(&config(&one(upstream.addr(), "")));
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{trace}-b7ad6b7169203331-01");
    for headers in [
        &[("traceparent", parent.as_str())][..],
        &[],
        &[("traceparent", "00-x")],
    ] {
        let answer = call(inside.data(), "POST", CHAT, headers, chat("m", true)).await;
        assert!(answer.whole(), "{}", shown(&answer));
    }
    inside.lines(3).await;
    let accept = [(
        "accept",
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3",
    )];
    let page = call(inside.admin(), "GET", "/metrics", &accept, "").await;
    assert_eq!(
        page.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    let text = page.text();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let example = format!(" # {{trace_id=\"{trace}\"}} ");
    for family in [
        "tollgate_request_duration_seconds_bucket{",
        "tollgate_time_to_first_token_seconds_bucket{",
    ] {
        let lines = text.lines().filter(|line| line.starts_with(family));
        let named = lines.filter(|line| line.contains(&example)).count();
        assert_eq!(named, 1, "{family}\n{text}");
    }
    assert_eq!(text.matches("trace_id").count(), 2, "{text}");
    // Two of each of the three streams come after the first.
    let chunks = r#"gen_ai_client_operation_time_per_output_chunk_seconds_count{gen_ai_operation_name="chat",gen_ai_provider_name="one",gen_ai_request_model="other"} 6"#;
    assert!(text.lines().any(|line| line == chunks), "{text}");

    let page = get(inside.admin(), "/metrics").await;
    let text = page.text();
    assert_eq!(
        page.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    assert!(!text.contains("trace_id") && !text.contains("# EOF"));
    assert!(text.contains("# TYPE tollgate_requests_total counter\n"));
}

#[tokio::test]
async fn the_configuration_is_shown_whole_but_for_its_secrets() {
    let text = "version: 1
admin: { token: the-admin-token }
providers:
  one: { dialect: openai, base_url: http://127.0.0.1:1/v1, credentials: [the-provider-s-key], headers: { openai-organization: org-1, x-api-token: the-header } }
";
    let inside = Inside::start(&config(text));
    let page = get(inside.admin(), "/config").await.text();
    for part in [
        "version: 1",
        "«literal»",
        "org-1",
        "http://127.0.0.1:1/v1",
        "first_byte",
        "expose: none",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    for secret in ["the-admin-token", "the-provider-s-key", "the-header"] {
        assert!(!page.contains(secret), "{page}");
    }
    // With secrets in their places again it is a file that loads.
    let again = config(&page.replace("«literal»", "another"));
    assert_eq!(
        again.providers[0].name, "one",
        "what is shown is a configuration"
    );
}

#[tokio::test]
async fn beyond_loopback_the_configuration_needs_the_token() {
    let admin = |token: &str| {
        let mut config = config(&format!("{MOCK}admin: {{ token: '{token}' }}\n"));
        config.admin.listen = Listen::Tcp(([0, 0, 0, 0], 0).into());
        config
    };
    let inside = Inside::start(&admin("the-admin-token"));
    let local = SocketAddr::from(([127, 0, 0, 1], inside.admin().port()));
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(get(local, path).await.status(), 200, "{path}");
    }
    for (bearer, status) in [
        ("", 401),
        ("Bearer the-admin-toke", 401),
        ("Bearer the-admin-token", 200),
    ] {
        let page = call(local, "GET", "/config", &[("authorization", bearer)], "").await;
        assert_eq!(page.status(), status, "{bearer:?}: {}", shown(&page));
        assert_eq!(page.header("www-authenticate").is_some(), status == 401);
    }
}

/// Each worker has its own connections to the provider: two of them, though no two requests meet, are two workers.
#[tokio::test]
async fn two_workers_both_get_connections() {
    let upstream = Upstream::start().await;
    let inside = Inside::start(&config(&one(upstream.addr(), "server: { workers: 2 }")));
    let mut clients = Vec::new();
    for _ in 0..64 {
        let conn = Conn::open(inside.data()).await;
        conn.send(request("POST", CHAT, &[], chat("m", false)))
            .await
            .unwrap();
        assert_eq!(conn.response().await.status(), 200);
        clients.push(conn);
    }
    // Of 64 connections all go to the same one once in 2^63 runs.
    assert_eq!(upstream.connections(), 2);
}

#[tokio::test]
async fn one_runtime_for_all_workers_serves_and_drains_too() {
    let upstream = Upstream::start().await;
    let text = one(
        upstream.addr(),
        "server: { runtime: multi_thread, workers: 2 }",
    );
    let inside = Inside::start(&config(&text));
    let mut clients = Vec::new();
    for _ in 0..16 {
        let conn = Conn::open(inside.data()).await;
        conn.send(request("POST", CHAT, &[], chat("m", false)))
            .await
            .unwrap();
        clients.push(conn);
    }
    for conn in &clients {
        let answer = conn.response().await;
        assert!(
            answer.status() == 200 && answer.whole(),
            "{}",
            shown(&answer)
        );
    }
    let lines: Vec<Value> = inside.lines(16).await;
    assert!(
        lines.iter().all(|line| line["ended"] == "complete"),
        "{lines:?}"
    );
    assert_eq!(
        inside.stop().await,
        tollgate::server::Outcome { cut: 0, lost: 0 }
    );
}
