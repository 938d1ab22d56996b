//! What never becomes a request, and what is seen below the HTTP server: the rows F01 to F07 and F15, hang-ups behind
//! pipelined bytes, clients that take nothing.

pub(crate) mod malformed;
mod unread;

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use tollgate_testing::{
    client::{Conn, call},
    upstream::{Framing, Reads, Script, Upstream},
};

use crate::harness::{Ask, Stage, cancelled, leave, provider};

const CHAT: &str = "/v1/chat/completions";
const BODY: &[u8] = br#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
const STREAM: &[u8] = br#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

/// A gateway before one provider; `server` are keys of that part.
async fn stage(server: &str) -> (Stage, Upstream) {
    let upstream = Upstream::start().await;
    let main = provider("main", "openai", &upstream, "/v1", "");
    let yaml = format!("version: 1\nserver: {{ {server} }}\nproviders:\n{main}");
    (Stage::start(&yaml), upstream)
}

/// An endless stream of small events.
fn stream() -> Script {
    let kind = [("content-type", "text/event-stream")];
    let head = Script::new().head(200, &kind, Framing::Chunked);
    head.body("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n")
        .stall()
}

#[tokio::test]
async fn what_the_wire_refuses_has_an_answer_that_any_sdk_reads_and_a_line_in_the_log() {
    let (stage, upstream) = stage("").await;
    let conn = stage
        .open(format!(
            "POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n"
        ))
        .await;
    let answer = conn.response().await;
    assert_eq!(answer.status(), 400);
    assert_eq!(answer.header("tollgate-refused-by"), Some("wire"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let told: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(
        (&told["type"], &told["error"]["code"]),
        (&"error".into(), &"malformed_request".into())
    );
    let message = told["error"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("tollgate: ") && message.contains("Content-Length"),
        "{message}"
    );
    let line = stage.line(answer.header("x-request-id").unwrap()).await;
    assert_eq!(
        (&line["refused_by"], &line["error"]),
        (&"wire".into(), &"malformed_request".into())
    );
    assert_eq!(
        (&line["status"], &line["ended"]),
        (&400.into(), &"refused".into())
    );
    assert!(line["method"].is_null() && line["path"].is_null(), "{line}");
    conn.closed().await;
    assert_eq!(upstream.connections(), 0);
    stage.stop().await;
}

/// F05, F12: a head may come in any pieces, two requests in one, and an empty line before the first.
#[tokio::test]
async fn good_requests_pass_however_they_are_cut() {
    let (stage, upstream) = stage("").await;
    upstream.serve("ok", Script::answer(200, "application/json", "{}"));
    let one = Ask {
        script: "ok",
        ..Ask::post("cut-1", CHAT, BODY)
    }
    .bytes();
    let two = Ask {
        script: "ok",
        ..Ask::post("cut-2", CHAT, BODY)
    }
    .bytes();
    for step in [1, 2, 3, 7, 64, 4096] {
        let conn = stage.connect().await;
        let all = [b"\r\n", &one[..], &two[..]].concat();
        conn.next("POST");
        for piece in all.chunks(step) {
            conn.send(piece).await.unwrap();
        }
        assert_eq!(conn.response().await.status(), 200, "in pieces of {step}");
        conn.next("POST");
        assert_eq!(
            conn.response().await.status(),
            200,
            "the second, in pieces of {step}"
        );
        conn.close().await;
    }
    for id in ["cut-1", "cut-2"] {
        let seen = upstream.seen(id);
        assert_eq!(seen.len(), 6, "{id}");
        assert!(seen.iter().all(|exchange| exchange.body == BODY), "{id}");
    }
    drop(stage);
}

/// A refusal behind a running answer comes after it, and never instead of it.
#[tokio::test]
async fn a_bad_request_behind_a_good_one_is_answered_after_it() {
    let (stage, upstream) = stage("").await;
    upstream.serve("first", Script::answer(200, "application/json", "{}"));
    let mut both = Ask::post("first", CHAT, BODY).bytes();
    both.extend_from_slice(b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n");
    let conn = stage.open(both).await;
    let first = conn.response().await;
    assert_eq!((first.status(), &first.body[..]), (200, &b"{}"[..]));
    conn.next("GET");
    assert_eq!(conn.response().await.status(), 400);
    conn.closed().await;
    assert_eq!(upstream.snapshot().exchanges.len(), 1);
    stage.stop().await;
}

/// F04: a body that cannot be read is never delivered as a whole one, and nothing behind it is a request.
#[tokio::test]
async fn malformed_chunks_end_the_request_and_the_connection() {
    let (stage, upstream) = stage("").await;
    upstream.serve_default(Script::answer(200, "application/json", "{}"));
    let size = format!("{:x}", BODY.len());
    let text = String::from_utf8_lossy(BODY);
    let bad = [
        format!("0x{size}\r\n{text}\r\n0\r\n\r\n"),
        format!("-1\r\n{text}\r\n0\r\n\r\n"),
        format!("+{size}\r\n{text}\r\n0\r\n\r\n"),
        format!("{size} \r\n{text}\r\n0\r\n\r\n"),
        format!(" {size}\r\n{text}\r\n0\r\n\r\n"),
        format!("{size}\n{text}\r\n0\r\n\r\n"),
        format!("{size}\r\n{text}0\r\n\r\n"),
        format!("{size}\r\n{text}\n0\r\n\r\n"),
        format!("{size}\r\n{text}\r\n0\n\n"),
        format!("{size};a\nb\r\n{text}\r\n0\r\n\r\n"),
        format!("{size};a\0b\r\n{text}\r\n0\r\n\r\n"),
        format!("{size};{}\r\n{text}\r\n0\r\n\r\n", "a".repeat(64 * 1024)),
        format!("0000000000000000{size}\r\n{text}\r\n0\r\n\r\n"),
        format!("{size}\r\n{text}\r\n0\r\nx: \u{1}\r\n\r\n"),
        format!("{size}\r\n{text}\r\n\r\n\r\n"),
        format!("\r\n{text}\r\n0\r\n\r\n"),
        format!("g\r\n{text}\r\n0\r\n\r\n"),
        format!("{}_{}\r\n{text}\r\n0\r\n\r\n", &size[..1], &size[1..]),
        // 2^64 and the size: a reader that wraps takes it for the size.
        format!("1{size:0>16}\r\n{text}\r\n0\r\n\r\n"),
    ];
    for (number, body) in bad.iter().enumerate() {
        let id = format!("chunks-{number}");
        let head = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\nx-request-id: {id}\r\n\
             x-test-id: {id}\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        let smuggled = format!(
            "GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\nx-request-id: inner-{number}\r\n\r\n"
        );
        let conn = stage.open(&head).await;
        if number % 2 == 1 {
            // The head alone is a request; with its body it never becomes one.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let _taken = conn.send(body.clone() + &smuggled).await;
        let answer = conn.response().await;
        assert!(
            answer.head.is_empty() || answer.status() == 400,
            "{number}: {} {}",
            answer.status(),
            String::from_utf8_lossy(&answer.body)
        );
        conn.closed().await;
        // Seen with the head it never became a request, and has a name of ours.
        let line = stage
            .line(answer.header("x-request-id").unwrap_or(&id))
            .await;
        assert_eq!(line["error"], "malformed_request", "{number}: {line}");
    }
    assert!(upstream.snapshot().exchanges.is_empty());
    stage.stop().await;
}

/// S03, F13: bytes behind the request must not hide that the client has left (finding 2 of the handbook).
#[tokio::test]
async fn a_hang_up_behind_pipelined_bytes_cancels_the_provider_at_once() {
    let (stage, upstream) = stage("").await;
    let mut slowest = Duration::ZERO;
    for reset in [false, true] {
        for (number, behind) in [&b""[..], b"G", b"GET / HTTP/1.1\r\n", &[b'x'; 9000]]
            .iter()
            .enumerate()
        {
            let id = format!("gone-{reset}-{number}");
            upstream.serve(&id, stream());
            let conn = stage.open(Ask::post(&id, CHAT, STREAM).bytes()).await;
            assert!(
                conn.until(|answer| answer.body.ends_with(b"\n\n")).await,
                "{id}"
            );
            conn.send(behind).await.unwrap();
            // They must have come before the end does, or a reset would outrun them.
            tokio::time::sleep(Duration::from_millis(50)).await;
            let left = leave(conn, reset).await;
            let took = cancelled(&upstream, &id, left).await;
            slowest = slowest.max(took);
            assert_eq!(stage.line(&id).await["ended"], "client_gone", "{id}");
        }
    }
    println!("slowest cancellation: {slowest:?}");
    stage.stop().await;
}

/// More than 16 KiB behind a running request is not held for anybody.
#[tokio::test]
async fn a_client_that_pipelines_too_much_is_given_up() {
    let (stage, upstream) = stage("").await;
    upstream.serve("flood", stream());
    let conn = stage.open(Ask::post("flood", CHAT, STREAM).bytes()).await;
    assert!(conn.until(|answer| answer.body.ends_with(b"\n\n")).await);
    let _taken = conn.send(vec![b'x'; 256 * 1024]).await;
    conn.closed().await;
    upstream.finished("flood", 1).await;
    assert_eq!(stage.line("flood").await["ended"], "client_gone");
    stage.stop().await;
}

/// S25: a client that shuts its sending side is taken for one that has left, as hyper takes it.
#[tokio::test]
async fn a_half_close_is_a_hang_up() {
    let (stage, upstream) = stage("").await;
    upstream.serve("half", stream());
    let conn = stage.open(Ask::post("half", CHAT, STREAM).bytes()).await;
    assert!(conn.until(|answer| answer.body.ends_with(b"\n\n")).await);
    conn.half_close().unwrap();
    upstream.finished("half", 1).await;
    assert_eq!(stage.line("half").await["ended"], "client_gone");
    stage.stop().await;
}

/// S14: who takes nothing is cut, and nobody else.
#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_and_others_are_not() {
    let (stage, upstream) = stage("limits: { slow_reader: 300ms }").await;
    let kind = [("content-type", "text/event-stream")];
    let event = format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n",
        "a".repeat(4000)
    );
    let flood = (0..20_000).fold(
        Script::new().head(200, &kind, Framing::Chunked),
        |script, _| script.body(event.clone()),
    );
    upstream.serve("stuck", flood);
    upstream.serve("well", stream());
    let stuck = Conn::open_small(stage.addr(), 4096).await;
    stuck
        .send(Ask::post("stuck", CHAT, STREAM).bytes())
        .await
        .unwrap();
    let well = stage.open(Ask::post("well", CHAT, STREAM).bytes()).await;
    assert!(stuck.until(|answer| !answer.body.is_empty()).await);
    stuck.pause();
    let seen = upstream.finished("stuck", 1).await;
    assert!(seen.peer_closed.is_some(), "the provider is cancelled");
    let line = stage.line("stuck").await;
    assert_eq!(line["ended"], "slow_reader", "{line}");
    let page = call(stage.admin(), "GET", "/metrics", &[], "").await.text();
    let counted = page
        .lines()
        .filter(|line| line.contains(r#"outcome="slow_reader""#));
    let counted: Vec<_> = counted.collect();
    assert!(counted.len() == 1 && counted[0].ends_with(" 1"), "{page}");
    assert!(well.lost().is_none(), "the other stream was cut");
    well.close().await;
    upstream.finished("well", 1).await;
    drop(stuck);
    stage.stop().await;
}

/// The clock of a later head runs from its first byte, also if that was sent behind the request before.
#[tokio::test]
async fn half_a_head_behind_a_request_has_the_clock_of_heads() {
    let (stage, upstream) = stage("limits: { head_timeout: 300ms, keep_alive: 60s }").await;
    upstream.serve("whole", Script::answer(200, "application/json", "{}"));
    let mut bytes = Ask::post("whole", CHAT, BODY).bytes();
    bytes.extend_from_slice(b"POST / HTT");
    let conn = stage.open(bytes).await;
    assert_eq!(conn.response().await.status(), 200);
    conn.next("POST");
    let late = conn.response().await;
    assert_eq!(late.status(), 408);
    let line = stage.line(late.header("x-request-id").unwrap()).await;
    assert_eq!(
        (&line["refused_by"], &line["error"]),
        (&"wire".into(), &"request_timeout".into())
    );
    conn.closed().await;
    stage.stop().await;
}

/// F14: what was to be a body is drained or dropped, and is never taken for a request.
#[tokio::test]
async fn an_upload_that_the_answer_overtakes_is_still_no_request() {
    let (stage, upstream) = stage("limits: { body: 1KiB }").await;
    let ask = Ask::post("large", CHAT, BODY);
    let mut bytes = ask.head(64 << 20);
    bytes.extend_from_slice(b"GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
    let conn = stage.open(bytes).await;
    assert_eq!(conn.response().await.status(), 413);
    conn.closed().await;
    assert_eq!(upstream.connections(), 0);
    stage.stop().await;
}

/// L4: bodies that are held share the memory; what finds no room is asked to come again.
#[tokio::test]
async fn bodies_beyond_what_may_be_held_are_asked_to_come_again() {
    let (stage, upstream) = stage("workers: 2, limits: { held_bodies: 100KiB }").await;
    upstream.serve("holds", Script::new().stall().reads(Reads::Head));
    upstream.serve("free", Script::answer(200, "application/json", "{}"));
    let text = "a".repeat(80 * 1024);
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}]}}"#);
    let mut tries = 0;
    let (holds, conn, refused) = loop {
        tries += 1;
        let id = format!("holds-{tries}");
        let ask = Ask {
            script: "holds",
            ..Ask::post(&id, CHAT, body.as_bytes())
        };
        // All of the body but its last byte: it is held as long as the client takes.
        let conn = stage.open(ask.head(body.len() as u64)).await;
        conn.send(&body[..body.len() - 1]).await.unwrap();
        let more = Ask {
            script: "free",
            ..Ask::post("more", CHAT, body.as_bytes())
        };
        let answer = stage.ask(&more).await;
        // Whichever came second found no room, or the first was gone before.
        if answer.status() != 200 {
            break (id, conn, answer);
        }
        conn.close().await;
    };
    assert_eq!(
        (refused.status(), refused.header("retry-after")),
        (503, Some("1"))
    );
    assert_eq!(refused.header("tollgate-refused-by"), Some("peek"));
    assert!(conn.message().head.is_empty());
    conn.close().await;
    assert_eq!(stage.line(&holds).await["ended"], "client_gone");
    let free = stage.ask(&Ask::post("free", CHAT, body.as_bytes())).await;
    assert_eq!(free.status(), 200, "{}", free.text());
    drop(stage);
}

/// Two requests in one write, of which no provider is asked: nothing but the end of the first answer says that the
/// second may begin.
#[tokio::test]
async fn a_request_behind_one_that_is_answered_here_does_not_wait() {
    let (stage, upstream) = stage("limits: { keep_alive: 60s }").await;
    for (second, status) in [
        ("GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", 200),
        ("GET /nowhere HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", 404),
        ("GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nhost: b\r\n\r\n", 400),
    ] {
        let first = "GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";
        let conn = stage.open(format!("{first}{second}")).await;
        conn.next("GET");
        assert_eq!(conn.response().await.status(), 200);
        conn.next("GET");
        let begun = Instant::now();
        assert_eq!(conn.response().await.status(), status);
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "it waited for a clock"
        );
        conn.close().await;
    }
    assert_eq!(upstream.connections(), 0);
    stage.stop().await;
}

/// The empty line that some clients send behind a body is no head that comes slowly.
#[tokio::test]
async fn an_empty_line_behind_a_body_is_no_head() {
    let (stage, upstream) = stage("limits: { head_timeout: 200ms, keep_alive: 60s }").await;
    upstream.serve("line", Script::answer(200, "application/json", "{}"));
    let mut bytes = Ask::post("line", CHAT, BODY).bytes();
    bytes.extend_from_slice(b"\r\n");
    let conn = stage.open(bytes).await;
    assert_eq!(conn.response().await.status(), 200);
    conn.next("POST");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(conn.lost().is_none(), "it was taken for a head");
    conn.send(
        Ask {
            script: "line",
            ..Ask::post("again", CHAT, BODY)
        }
        .bytes(),
    )
    .await
    .unwrap();
    assert_eq!(conn.response().await.status(), 200);
    conn.close().await;
    drop(stage);
}

/// An answer that its client takes late is whole, whatever the clock between two requests says: it runs from the last
/// byte that was written. How much kernel and hyper take before that is not known, so answers of many sizes wait.
#[tokio::test]
async fn an_answer_that_is_still_being_written_is_no_idle_connection() {
    let (stage, upstream) = stage("limits: { keep_alive: 100ms }").await;
    let mut waiting = Vec::new();
    for kib in (32..512).step_by(16) {
        let id = format!("late-{kib}");
        let document = format!(r#"{{"text":"{}"}}"#, "a".repeat(kib << 10));
        upstream.serve(
            &id,
            Script::answer(200, "application/json", document.clone()),
        );
        let conn = Conn::open_small(stage.addr(), 4096).await;
        conn.next("POST");
        conn.pause();
        conn.send(Ask::post(&id, CHAT, BODY).bytes()).await.unwrap();
        waiting.push((conn, document.len(), id));
    }
    tokio::time::sleep(Duration::from_millis(800)).await;
    for (conn, length, id) in waiting {
        conn.resume();
        assert_eq!(conn.response().await.body.len(), length, "{id}");
        conn.closed().await;
        assert_eq!(stage.line(&id).await["ended"], "complete", "{id}");
    }
    stage.stop().await;
}

/// Who takes little, but takes it, is no slow reader.
#[tokio::test]
async fn a_client_that_reads_slowly_is_not_cut() {
    let (stage, upstream) = stage("limits: { slow_reader: 1s }").await;
    let document = format!(r#"{{"text":"{}"}}"#, "a".repeat(3 << 20));
    upstream.serve(
        "steady",
        Script::answer(200, "application/json", document.clone()),
    );
    let conn = Conn::open_small(stage.addr(), 16 * 1024).await;
    conn.next("POST");
    conn.send(Ask::post("steady", CHAT, BODY).bytes())
        .await
        .unwrap();
    assert!(conn.until(|answer| !answer.body.is_empty()).await);
    for _ in 0..12 {
        conn.pause();
        tokio::time::sleep(Duration::from_millis(250)).await;
        let had = conn.message().body.len();
        conn.resume();
        assert!(
            conn.until(|answer| answer.body.len() > had || answer.ended.is_some())
                .await
        );
    }
    let answer = conn.response().await;
    assert_eq!(answer.body.len(), document.len(), "it was cut");
    assert_eq!(stage.line("steady").await["ended"], "complete");
    conn.close().await;
    drop(stage);
}

/// L3, D01: an upload that nobody has to read here has the clock of bodies too, and its provider is let go.
#[tokio::test]
async fn an_upload_that_stops_is_refused_and_its_provider_let_go() {
    let (stage, upstream) = stage("limits: { body_timeout: 400ms }").await;
    upstream.serve("drip", Script::new().stall());
    let ask = Ask {
        headers: &[("content-type", "application/octet-stream")],
        ..Ask::post("drip", "/v1/files", b"")
    };
    let conn = stage.open(ask.head(1000)).await;
    conn.send(b"some of it").await.unwrap();
    let answer = conn.response().await;
    assert_eq!(answer.status(), 408, "{}", answer.text());
    assert_eq!(answer.header("tollgate-refused-by"), Some("peek"));
    conn.closed().await;
    let line = stage.line("drip").await;
    assert_eq!(
        (&line["error"], &line["ended"]),
        (&"request_timeout".into(), &"refused".into())
    );
    stage.stop().await;
}
