//! The request log: a line for every request however it ends, and nobody waits for who reads it.

use std::{collections::BTreeSet, fs, net::SocketAddr};

use serde_json::Value;
use tempfile::tempdir;
use tollgate_middleware::{json, record::Ended};
use tollgate_testing::{
    client::{Conn, call, request},
    upstream::{ID, Refusing, SCRIPT, Script, Upstream},
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

/// The fields of a line, in their groups as the documentation lists them.
const FIELDS: [&str; 34] = [
    "time",
    "request_id",
    "generation",
    "method",
    "path",
    "status",
    "caller",
    "route",
    "provider",
    "target",
    "label",
    "dialect",
    "model",
    "upstream_model",
    "stream",
    "attempts",
    "duration_ms",
    "first_byte_ms",
    "first_token_ms",
    "gateway_ms",
    "usage",
    "charged",
    "waste",
    "cost_usd",
    "finish_reasons",
    "tool_calls",
    "events",
    "bytes_in",
    "bytes_out",
    "digest",
    "ended",
    "refused_by",
    "error",
    "edited_by",
];

/// Programs read these names: each line has all of them, once, and no other, however its request ended.
#[tokio::test]
async fn each_line_has_exactly_the_fields_that_are_documented() {
    let upstream = Upstream::start().await;
    upstream.serve("well", Script::events([EVENT, "data: [DONE]\n\n"]).end());
    upstream.serve("cut", Script::events([EVENT]).fin());
    let inside = Inside::start(&config(&one(upstream.addr(), "")));
    for (id, body) in [
        ("well", chat("m", true)),
        ("cut", chat("m", true)),
        ("torn", "{".to_owned()),
    ] {
        call(inside.data(), "POST", CHAT, &[(ID, id), (SCRIPT, id)], body).await;
    }
    let conn = Conn::open(inside.data()).await;
    // A line that is none: refused below the server.
    conn.send("POST /v1/chat/completions HTTP/1.1\nhost: x\n\n")
        .await
        .unwrap();
    assert_eq!(conn.response().await.status(), 400);
    inside.lines(4).await;

    let names = |object: json::Value<'_>| {
        let names = object
            .members()
            .map(|(name, _)| name.as_str().unwrap().into_owned());
        names.collect::<BTreeSet<_>>()
    };
    let expected = |fields: &[&str]| {
        fields
            .iter()
            .map(|&name| name.to_owned())
            .collect::<BTreeSet<_>>()
    };
    let text = inside.log_text();
    let mut ended = BTreeSet::new();
    for line in text.lines() {
        // The gateway's own reader refuses a member that stands there twice.
        let line = json::check(line.as_bytes(), &json::Limits::default()).expect(line);
        assert_eq!(names(line), expected(&FIELDS), "{text}");
        ended.insert(line.get("ended").unwrap().as_str().unwrap().into_owned());
        for attempt in line.get("attempts").unwrap().items() {
            let told = names(attempt);
            let known = ["provider", "model", "status", "error", "ms"];
            assert!(told.is_subset(&expected(&known)), "{told:?}");
            assert!(
                told.is_superset(&expected(&["provider", "model", "status", "ms"])),
                "{told:?}"
            );
        }
        let digest = line.get("digest").unwrap();
        if !digest.is_null() {
            assert_eq!(names(digest), expected(&["upstream", "client"]));
        }
    }
    assert_eq!(
        ended,
        expected(&["complete", "refused", "upstream_truncated"])
    );
}

/// One word was missing for a while.
#[test]
fn the_readme_lists_each_way_to_end() {
    let readme = include_str!("../../../README.md");
    let (_, list) = readme.split_once("`ended` is one of ").expect("it is told");
    let (list, _) = list.split_once('.').expect("the sentence ends");
    let listed: BTreeSet<_> = list
        .split(',')
        .map(|word| word.trim().trim_matches('`'))
        .collect();
    let all: BTreeSet<_> = Ended::ALL.iter().map(|ended| ended.as_str()).collect();
    assert_eq!(listed, all);
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
