//! The limits of `server.limits` are those of the file: what the defaults let pass is refused where the file says less.

use std::time::Duration;

use tokio::{io::AsyncReadExt, net::TcpStream};
use tollgate_testing::{
    client::call,
    splits::Split,
    tls::Authority,
    upstream::{Framing, Script, Upstream},
};

use super::{BODY, CHAT};
use crate::harness::{Ask, Stage, provider};

const STREAM: &[u8] = br#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

async fn stage(limits: &str, upstream: &Upstream) -> Stage {
    let main = provider("main", "openai", upstream, "/v1", "");
    Stage::start(&format!(
        "version: 1\nserver: {{ workers: 1, limits: {{ {limits} }} }}\nproviders:\n{main}"
    ))
}

/// L1, L6, L10: heads, documents and answers.
#[tokio::test]
async fn each_limit_of_size_and_number_is_the_one_of_the_file() {
    let upstream = Upstream::start().await;
    upstream.serve("plain", Script::answer(200, "application/json", "{}"));
    let large = "a".repeat(9000);
    let head = [("x-large", &large[..])];
    let large = Script::new().head(200, &head, Framing::Length(None));
    upstream.serve("large", large.body("{}").end());
    let many: Vec<_> = (0..20).map(|number| (format!("x-{number}"), "a")).collect();
    let many: Vec<_> = many
        .iter()
        .map(|(name, value)| (&name[..], *value))
        .collect();
    let many = Script::new().head(200, &many, Framing::Length(None));
    upstream.serve("many", many.body("{}").end());
    let long = format!("{CHAT}?q={}", "a".repeat(200));
    let deep: &[u8] = br#"{"model":"m","messages":[{"role":"user","content":[[1]]}]}"#;
    for (limit, script, path, body, status) in [
        ("head: 128B", "plain", CHAT, BODY, 431),
        ("headers: 3", "plain", CHAT, BODY, 431),
        ("target: 100B", "plain", &long[..], BODY, 414),
        ("json_depth: 4", "plain", CHAT, deep, 400),
        ("json_members: 1", "plain", CHAT, BODY, 400),
        ("answer_head: 8KiB", "large", CHAT, BODY, 502),
        ("answer_headers: 20", "many", CHAT, BODY, 502),
    ] {
        for (limits, status) in [("", 200), (limit, status)] {
            let stage = stage(limits, &upstream).await;
            let ask = Ask {
                script,
                ..Ask::post("limited", path, body)
            };
            let answer = stage.ask(&ask).await;
            assert_eq!(answer.status(), status, "{limit}: {}", answer.text());
            stage.stop().await;
        }
    }
}

/// L9: an event over the limit passes unread. Whether it was the last of its stream is not known then, and the provider is
/// believed.
#[tokio::test]
async fn an_event_is_read_up_to_the_size_of_the_file() {
    let upstream = Upstream::start().await;
    let text = "a".repeat(4096);
    let chunk = format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"{text}"}}}}]}}"#);
    let sent = format!("data: {chunk}\n\n");
    for (piece, id) in [(sent.len(), "whole"), (100, "split")] {
        let split = Split::Bytes(piece);
        let kind = [("content-type", "text/event-stream")];
        let head = Script::new().head(200, &kind, Framing::Chunked);
        upstream.serve(id, head.body_in(sent.clone(), split).end());
        for (limits, ended) in [("", "upstream_truncated"), ("event: 1KiB", "complete")] {
            let stage = stage(limits, &upstream).await;
            let answer = stage.ask(&Ask::post(id, CHAT, STREAM)).await;
            assert!(answer.text().starts_with(&sent), "{}", answer.text());
            assert_eq!(stage.line(id).await["ended"], ended, "{limits} {id}");
            stage.stop().await;
        }
    }
}

/// L9 where the first output is looked for: what is over the limit is not found to be any.
#[tokio::test]
async fn the_first_output_is_looked_for_in_events_up_to_the_size_of_the_file() {
    let upstream = Upstream::start().await;
    let text = "a".repeat(4096);
    let chunk = format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"{text}"}}}}]}}"#);
    upstream.serve(
        "first",
        Script::events([format!("data: {chunk}\n\n")]).stall(),
    );
    upstream.serve("silent", Script::new().stall());
    let main = provider("main", "openai", &upstream, "/v1", "");
    for (limits, ended) in [("", "client_gone"), ("event: 1KiB", "timeout")] {
        let stage = Stage::start(&format!(
            "version: 1\nserver: {{ workers: 1, limits: {{ {limits} }} }}\n\
             layers: {{ timeout: {{ first_token: 1s }} }}\nproviders:\n{main}"
        ));
        let conn = stage.open(Ask::post("first", CHAT, STREAM).bytes()).await;
        assert!(conn.until(|answer| answer.body.len() > text.len()).await);
        // A clock of the same length, which begins later.
        let silent = stage.ask(&Ask::post("silent", CHAT, STREAM)).await;
        assert_eq!(silent.status(), 504, "{}", silent.text());
        if ended == "timeout" {
            conn.response().await;
        } else {
            assert!(conn.message().ended.is_none(), "{limits}");
        }
        conn.close().await;
        assert_eq!(stage.line("first").await["ended"], ended, "{limits}");
        stage.stop().await;
    }
}

/// L16: the label `other` stands for the routes beyond.
#[tokio::test]
async fn as_many_labels_are_told_apart_as_the_file_says() {
    let upstream = Upstream::start().await;
    upstream.serve_default(Script::answer(200, "application/json", "{}"));
    let main = provider("main", "openai", &upstream, "/v1", "");
    let routes: String = (0..4)
        .map(|n| format!("  - {{ name: r{n}, match: {{ model: m{n} }}, targets: [main] }}\n"))
        .collect();
    for (telemetry, told) in [
        ("", &["r0", "r1", "r2", "r3"][..]),
        (
            "telemetry: { metrics: { label_values: 2 } }",
            &["other", "r0", "r1"],
        ),
    ] {
        let stage = Stage::start(&format!(
            "version: 1\n{telemetry}\nproviders:\n{main}routes:\n{routes}"
        ));
        for n in 0..4 {
            let body = format!(r#"{{"model":"m{n}","messages":[]}}"#);
            let id = format!("labels-{n}");
            let answer = stage.ask(&Ask::post(&id, CHAT, body.as_bytes())).await;
            assert_eq!(answer.status(), 200, "{}", answer.text());
            stage.line(&id).await;
        }
        let page = call(stage.admin(), "GET", "/metrics", &[], "").await.text();
        let mut labels: Vec<_> = page
            .lines()
            .filter_map(|line| {
                line.strip_prefix("tollgate_requests_total{route=\"")?
                    .split('"')
                    .next()
            })
            .collect();
        labels.sort_unstable();
        assert_eq!(labels, told, "{page}");
        stage.stop().await;
    }
}

/// L3: a body that pauses, and nothing else, is over when the file says.
#[tokio::test]
async fn a_body_may_pause_as_long_as_the_file_says() {
    let upstream = Upstream::start().await;
    let stage = stage("body_silence: 300ms", &upstream).await;
    let ask = Ask::post("pauses", CHAT, BODY);
    let conn = stage.open(ask.head(BODY.len() as u64)).await;
    conn.send(&BODY[..5]).await.unwrap();
    let answer = conn.response().await;
    assert_eq!(answer.status(), 408, "{}", answer.text());
    assert_eq!(upstream.connections(), 0);
    stage.stop().await;
}

/// What is sent behind a running request is read ahead as far as the file says.
#[tokio::test]
async fn what_is_read_ahead_is_as_much_as_the_file_says() {
    let upstream = Upstream::start().await;
    let events = Script::events(["data: {\"choices\":[]}\n\n"]).stall();
    upstream.serve_default(events);
    for (limits, gone) in [("ahead: 1KiB", true), ("", false)] {
        let stage = stage(limits, &upstream).await;
        let conn = stage.open(Ask::post("ahead", CHAT, BODY).bytes()).await;
        assert!(conn.until(|answer| answer.body.ends_with(b"\n\n")).await);
        conn.send([b'x'; 2048]).await.unwrap();
        if gone {
            conn.closed().await;
            assert_eq!(stage.line("ahead").await["ended"], "client_gone");
        } else {
            // Another exchange takes longer than the bytes take to be read.
            let answer = stage.ask(&Ask::post("other", "/", b"")).await;
            assert_eq!(answer.status(), 404);
            assert!(conn.lost().is_none());
            conn.close().await;
        }
        stage.stop().await;
    }
}

/// L2: a client that begins no handshake is let go when the file says.
#[tokio::test]
async fn a_handshake_may_take_as_long_as_the_file_says() {
    let (folder, authority) = (tempfile::tempdir().expect("a folder"), Authority::new());
    let pair = authority.issue(&["127.0.0.1"]);
    let [cert, key] = [("cert.pem", &pair.cert), ("key.pem", &pair.key)].map(|(name, text)| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    });
    let stage = Stage::start(&format!(
        "version: 1\nserver: {{ limits: {{ handshake: 300ms }}, tls: {{ cert: \"{}\", key: \"{}\" }} }}\nproviders: {{ m: {{ dialect: mock }} }}",
        cert.display(),
        key.display()
    ));
    let mut silent = TcpStream::connect(stage.addr()).await.unwrap();
    // The default is 10 s.
    let read = tokio::time::timeout(Duration::from_secs(9), silent.read(&mut [0])).await;
    assert!(matches!(read, Ok(Ok(0) | Err(_))), "{read:?}");
    stage.stop().await;
}
