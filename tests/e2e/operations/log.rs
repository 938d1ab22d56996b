//! The request log: a line for every request however it ends, and nobody waits for who reads it.

use std::{fs, net::SocketAddr};

use serde_json::Value;
use tempfile::tempdir;
use tollgate_testing::{
    client::{Conn, call, request},
    upstream::{Refusing, Script, Upstream},
};

use super::{EVENT, MOCK, get};
use crate::{
    binary::{CHAT, DEADLINE, chat, serve, shown, until},
    inside::{Inside, config, one},
};

#[tokio::test]
async fn a_log_in_a_file_is_appended_to() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("requests.jsonl");
    fs::write(&path, "{\"before\":true}\n").unwrap();
    let config_file = folder.path().join("gateway.yaml");
    let to = format!(
        "{MOCK}telemetry: {{ log: {{ to: '{}' }} }}\n",
        path.display()
    );
    fs::write(&config_file, to).unwrap();

    let program = serve(&config_file).start();
    let answer = call(program.data().await, "POST", CHAT, &[], chat("echo", true)).await;
    assert!(answer.whole());
    let ended = program.terminate().await;
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), ""));
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!((lines.len(), &lines[0]["before"]), (2, &Value::Bool(true)));
    assert_eq!(
        (&lines[1]["ended"], &lines[1]["status"]),
        (&"complete".into(), &200.into())
    );
}

#[tokio::test]
async fn a_refusal_is_told_with_the_layer_and_the_reason() {
    let refusing = Refusing::bind();
    let text = one(refusing.addr(), "").replace("match: {}", "match: { model: m }");
    let inside = Inside::start(&config(&text));
    let (other, torn) = (chat("other", false), "{\"model\":".to_owned());
    let tries = [
        ((CHAT, other), (404, "refused", "route", "model_not_found")),
        (
            ("/nowhere", torn.clone()),
            (404, "refused", "route", "not_found"),
        ),
        ((CHAT, torn), (400, "refused", "peek", "malformed_request")),
        (
            (CHAT, chat("m", true)),
            (502, "upstream_error", "upstream", "connect"),
        ),
    ];
    for (at, ((path, body), told)) in tries.into_iter().enumerate() {
        let answer = call(inside.data(), "POST", path, &[], body).await;
        let (status, ended, layer, reason) = told;
        assert_eq!(answer.status(), status, "{}", shown(&answer));
        assert_eq!(answer.header("tollgate-refused-by"), Some(layer));
        let line = inside.lines(at + 1).await.swap_remove(at);
        let id = answer.header("x-request-id").expect("an id");
        for (name, value) in [
            ("ended", ended),
            ("refused_by", layer),
            ("error", reason),
            ("request_id", id),
        ] {
            assert_eq!(line[name], value, "{name}: {line}");
        }
        assert_eq!(line["status"], status, "{line}");
        assert!(line["digest"].is_null(), "{line}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_told_and_its_provider_is_left() {
    let upstream = Upstream::start().await;
    upstream.serve_default(Script::events([EVENT]).stall());
    let inside = Inside::start(&config(&one(upstream.addr(), "")));
    let conn = Conn::open(inside.data()).await;
    conn.send(request("POST", CHAT, &[], chat("m", true)))
        .await
        .unwrap();
    assert!(conn.until(|message| message.body == EVENT.as_bytes()).await);
    conn.close().await;

    let line = inside.lines(1).await.remove(0);
    assert_eq!(
        (&line["ended"], &line["status"]),
        (&"client_gone".into(), &200.into()),
        "{line}"
    );
    assert_eq!(line["bytes_out"], EVENT.len(), "{line}");
    assert!(upstream.finished("", 1).await.peer_closed.is_some());
}

/// The pipe of standard output fills and is never read.
#[tokio::test]
async fn a_log_that_nobody_reads_holds_up_no_request() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("gateway.yaml");
    fs::write(&path, format!("{MOCK}server: {{ workers: 1 }}\n")).unwrap();
    let program = serve(&path).unread().start();
    let (data, admin) = (program.data().await, program.admin().await);
    let conn = Conn::open(data).await;
    // Long names make long lines: about 2 KiB each, and the buffers take some two MiB.
    let long = format!("{}/{}", "n".repeat(500), "count-1");
    let mut sent = 0;
    while sent < 4000 && (sent % 200 > 0 || dropped(admin).await == 0) {
        conn.next("POST");
        conn.send(request("POST", CHAT, &[], chat(&long, false)))
            .await
            .unwrap();
        assert!(conn.response().await.whole(), "request {sent}");
        sent += 1;
    }
    let lost = dropped(admin).await;
    assert!(lost > 0, "nothing was held up by {sent} lines");
    conn.next("POST");
    conn.send(request("POST", CHAT, &[], chat("echo", true)))
        .await
        .unwrap();
    assert!(conn.response().await.whole());
}

/// Lines that were dropped, as the metrics say.
async fn dropped(admin: SocketAddr) -> u64 {
    until("the metrics", async || {
        let text = get(admin, "/metrics").await.text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("tollgate_log_lines_dropped_total "));
        line?.parse().ok()
    })
    .await
}

/// D10: what a client writes breaks no line, moves no cursor, and fills no disk.
#[tokio::test]
async fn a_line_stays_a_line_whatever_the_client_writes() {
    /// The longest line: its four texts of a client's, all of whose bytes need an escape, and the rest.
    const LONGEST: usize = 4 * 6 * 512 + 2048;
    let folder = tempdir().unwrap();
    let path = folder.path().join("gateway.yaml");
    let limits = "server: { limits: { head: 512KiB, target: 65534B } }\n";
    fs::write(&path, format!("{MOCK}{limits}")).unwrap();
    let program = serve(&path).start();
    let data = program.data().await;

    // CR, LF, escape, the escape of eight bits, delete, NUL; as JSON says them.
    let odd = r"a\r\nb\u001b[31mc\u009b31md\u007fe\u0000f";
    let long = "m".repeat(100 * 1024);
    let all_odd = r"\u001b".repeat(100 * 1024);
    let raw = "a\u{1b}[31m";
    let (percent, long_path) = (
        "/v1/models/%0d%0a%1b%5b31m%c2%9b".to_owned(),
        format!("/v1/{}", "p".repeat(60 * 1024)),
    );
    let gemini = "/v1beta/models/a%1b%5b31m%c2%9b31m:generateContent".to_owned();
    let mut sent: Vec<Vec<u8>> = Vec::new();
    for model in [odd, &long, &all_odd, raw] {
        sent.push(request("POST", CHAT, &[], chat(model, false)));
    }
    for text in [
        "a\rb",
        "a\nb",
        "a\r\nb",
        raw,
        "a\u{7f}b",
        "a\u{9b}31mb",
        &long,
    ] {
        for name in ["x-request-id", "user-agent", "x-forwarded-for"] {
            let headers = [(name, text)];
            sent.push(request("POST", CHAT, &headers, chat("echo", false)));
        }
        sent.push(request("POST", &format!("/v1/{text}"), &[], "{}"));
        sent.push(request(
            "POST",
            &format!("{CHAT}?a={text}"),
            &[],
            chat("echo", false),
        ));
        sent.push(request(&format!("A{text}"), CHAT, &[], "{}"));
    }
    for path in [percent, long_path, gemini] {
        sent.push(request("POST", &path, &[], r#"{"contents":[]}"#));
    }
    for bytes in &sent {
        let conn = Conn::open(data).await.deadline(DEADLINE);
        // A head that is refused may be answered before all of it was sent.
        let _took = conn.send(bytes).await;
        let answer = conn.response().await;
        assert!(answer.status() > 0, "{}", shown(&answer));
        let told = answer
            .headers
            .iter()
            .all(|(_, value)| !value.contains(char::is_control));
        assert!(told, "{}", shown(&answer));
    }

    let ended = program.terminate().await;
    let lines: Vec<_> = ended.out.split_terminator('\n').collect();
    assert_eq!(lines.len(), sent.len());
    for line in lines {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        assert!(
            value.is_object() && value["request_id"].is_string(),
            "{line}"
        );
        assert!(!line.contains(char::is_control), "{line:?}");
        assert!(line.len() <= LONGEST, "{} bytes: {line}", line.len());
    }
    let said = ended.err.replace('\n', "");
    assert!(!said.contains(char::is_control), "{said:?}");
}
