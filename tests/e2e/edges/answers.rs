//! Answers of a provider that are more than one, less than one, or no HTTP at all (F19, F20): a 502, or exactly the first
//! message, over a connection that serves nobody else.

use tollgate_testing::upstream::{Framing, Gate, Script};

use super::{BODY, CHAT, all_dialects, assert_line, assert_told};
use crate::harness::Ask;

const OK: &str = "200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

#[tokio::test]
async fn an_answer_that_is_not_plain_is_none() {
    let (stage, upstream) = all_dialects("").await;
    let length = "content-length: 4\r\n";
    let chunked = "transfer-encoding: chunked\r\n";
    let cases = [
        (
            "two-lengths",
            format!("HTTP/1.1 200 OK\r\n{length}content-length: 5\r\n\r\nevil!"),
        ),
        (
            "length-twice",
            format!("HTTP/1.1 200 OK\r\n{length}{length}\r\nevil"),
        ),
        (
            "length-and-chunks",
            format!("HTTP/1.1 200 OK\r\n{length}{chunked}\r\n4\r\nevil\r\n0\r\n\r\n"),
        ),
        (
            "coded-chunks",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n"
                .into(),
        ),
        (
            "old-chunks",
            format!("HTTP/1.0 200 OK\r\n{chunked}\r\n4\r\nevil\r\n0\r\n\r\n"),
        ),
        (
            "status-099",
            format!("HTTP/1.1 099 Low\r\n{length}\r\nevil"),
        ),
        (
            "status-677",
            format!("HTTP/1.1 677 High\r\n{length}\r\nevil"),
        ),
        (
            "status-101",
            "HTTP/1.1 101 Switching\r\nupgrade: foo\r\nconnection: upgrade\r\n\r\nevil".into(),
        ),
        (
            "folded",
            format!("HTTP/1.1 200 OK\r\nx: a\r\n b\r\n{length}\r\nevil"),
        ),
        ("not-http", "SSH-2.0-evil\r\n\r\n".into()),
        (
            "flood",
            "HTTP/1.1 103 Early\r\nlink: <evil>\r\n\r\n".repeat(10_000),
        ),
    ];
    for (id, wire) in cases {
        upstream.serve(id, Script::new().raw(wire).stall());
        let answer = stage.ask(&Ask::post(id, CHAT, BODY)).await;
        let told = assert_told(id, &answer, "openai", 502, "upstream_error", "upstream");
        assert!(!told.contains("evil"), "{id}: {told}");
        let line = stage.line(id).await;
        assert_line(&line, "upstream_error", "upstream", "protocol");
        assert_eq!(upstream.attempts(id), 1, "{id}");
        // The connection is gone: whatever else was on it answers nobody.
        assert!(upstream.finished(id, 1).await.peer_closed.is_some(), "{id}");
    }
    stage.stop().await;
}

#[tokio::test]
async fn of_several_messages_the_first_is_the_answer() {
    let (stage, upstream) = all_dialects("").await;
    let evil = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    let early = "HTTP/1.1 103 Early\r\nlink: <evil>\r\n\r\n";
    let chunks = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    // These two are one message each: the provider would be asked again over their connection, and its script is over.
    let closing = OK.replace("content-type", "connection: close\r\ncontent-type");
    let cases = [
        ("past-the-length", format!("HTTP/1.1 {OK}evil")),
        ("two-at-once", format!("HTTP/1.1 {OK}{evil}")),
        ("chunks-and-more", format!("{chunks}{evil}")),
        (
            "early-hints",
            format!("{}HTTP/1.1 {closing}", early.repeat(20)),
        ),
        (
            "no-reason",
            "HTTP/1.1 200\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}".into(),
        ),
    ];
    let whole = upstream.connections();
    for (number, (id, wire)) in cases.into_iter().enumerate() {
        upstream.serve(id, Script::new().raw(wire).stall());
        let mut answer = stage.ask(&Ask::post(id, CHAT, BODY)).await;
        assert_eq!(
            (answer.status(), answer.text().as_str()),
            (200, "{}"),
            "{id}"
        );
        assert!(answer.whole() && answer.rest().is_empty(), "{id}");
        assert_eq!(answer.header("link"), None, "{id}");
        // The next client gets what was meant for it.
        let next = format!("{id}-next");
        upstream.serve(&next, Script::answer(200, "text/plain", "good"));
        let answer = stage.ask(&Ask::post(&next, CHAT, BODY)).await;
        assert_eq!(answer.text(), "good", "{next}");
        assert!(upstream.connections() > whole + number, "{id}");
    }
    let bodiless = "HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\nevil";
    upstream.serve("bodiless", Script::new().raw(bodiless).stall());
    let mut answer = stage.ask(&Ask::post("bodiless", CHAT, BODY)).await;
    assert_eq!((answer.status(), answer.body.len()), (204, 0));
    assert!(answer.rest().is_empty());
    stage.stop().await;
}

/// What comes while a connection is idle, an answer or the farewell of a provider that closes, answers nobody.
#[tokio::test]
async fn what_comes_while_idle_answers_nobody() {
    let (stage, upstream) = all_dialects("").await;
    let late = "HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 4\r\n\r\nevil";
    let evil = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    for (id, more, close) in [("evil", evil, false), ("late", late, true)] {
        let gate = Gate::new("the answer was read");
        let script = Script::new()
            .raw(format!("HTTP/1.1 {OK}"))
            .wait(&gate)
            .raw(more);
        upstream.serve(id, if close { script.fin() } else { script.stall() });
        let answer = stage.ask(&Ask::post(id, CHAT, BODY)).await;
        assert_eq!(answer.text(), "{}");
        let before = upstream.seen(id)[0].sent;
        gate.open();
        upstream
            .wait_for(|seen| seen.of(id).any(|it| it.sent == before + more.len()))
            .await;
        for worker in 0..4 {
            let next = format!("{id}-next-{worker}");
            upstream.serve(&next, Script::answer(200, "text/plain", "good"));
            let answer = stage.ask(&Ask::post(&next, CHAT, BODY)).await;
            assert_eq!(
                (answer.status(), answer.text().as_str()),
                (200, "good"),
                "{next}"
            );
        }
    }
    stage.stop().await;
}

/// F20: what belongs to the provider's connection, and what it sets on its client, stops here.
#[tokio::test]
async fn what_is_between_the_provider_and_us_stays_there() {
    let (stage, upstream) = all_dialects("").await;
    let headers = [
        ("connection", "x-secret, keep-alive"),
        ("x-secret", "1"),
        ("keep-alive", "timeout=9"),
        ("proxy-authenticate", "Basic"),
        ("proxy-connection", "keep-alive"),
        ("upgrade", "foo"),
        ("trailer", "x-trailer"),
        ("set-cookie", "sid=1"),
        ("set-cookie", "other=2"),
        ("server", "theirs"),
        ("x-fine", "yes"),
    ];
    let script = Script::new()
        .head(200, &headers, Framing::Chunked)
        .body("{}")
        .raw("0\r\nx-trailer: 1\r\nset-cookie: sid=3\r\n\r\n")
        .stall();
    upstream.serve("hops", script);
    let mut ask = Ask::post("hops", CHAT, BODY);
    // A client that would take trailers.
    let asked = [("content-type", "application/json"), ("te", "trailers")];
    ask.headers = &asked;
    let answer = stage.ask(&ask).await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "{}"));
    for (name, _) in &headers[..9] {
        assert!(
            *name == "connection" || answer.header(name).is_none(),
            "{name}"
        );
    }
    assert!(
        !answer
            .header("connection")
            .unwrap_or_default()
            .contains("x-secret")
    );
    assert_eq!(
        (answer.header("server"), answer.header("x-fine")),
        (Some("theirs"), Some("yes"))
    );
    assert!(answer.trailers.is_empty(), "{:?}", answer.trailers);
    assert_eq!(stage.line("hops").await["ended"], "complete");
    stage.stop().await;
}
