//! F14: bodies that nobody reads, with a request in them. The connection is drained or closed, and what is inside is never a
//! request.

use tollgate_testing::{
    client::Conn,
    upstream::{Framing, Reads, Script, Upstream},
};

use super::{BODY, CHAT, stage};
use crate::harness::{Ask, Stage};

/// A request, as it might stand in a body.
const INNER: &str =
    "GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\nx-request-id: inner\r\nx-test-id: inner\r\n\r\n";

/// A request whose body is one: it is refused by its head.
fn refused(id: &str, path: &str, host: &str, chunked: bool) -> String {
    let size = INNER.len();
    let (framing, body) = if chunked {
        (
            "transfer-encoding: chunked".to_owned(),
            format!("{size:x}\r\n{INNER}\r\n0\r\n\r\n"),
        )
    } else {
        (format!("content-length: {size}"), INNER.to_owned())
    };
    format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\nx-request-id: {id}\r\ncontent-type: text/plain\r\n{framing}\r\n\r\n{body}"
    )
}

/// The connection serves another request, and its log has these two and no other.
async fn serves_on(stage: Stage, upstream: Upstream, conn: Conn, ids: [&str; 2]) {
    conn.next("POST");
    let second = Ask {
        script: "second",
        ..Ask::post(ids[1], CHAT, BODY)
    };
    conn.send(second.bytes()).await.expect("it is kept");
    let answer = conn.response().await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "{}"));
    conn.close().await;
    let seen = upstream.snapshot().exchanges;
    assert!(seen.len() == 1 && seen[0].id == ids[1], "{seen:#?}");
    let log = stage.log();
    stage.stop().await;
    assert_eq!(log.requests(), ids);
}

#[tokio::test]
async fn a_small_body_behind_a_refusal_is_read_and_the_next_request_is_served() {
    for (path, host, status) in [("/nowhere", "127.0.0.1", 404), (CHAT, "evil.example", 403)] {
        let (stage, upstream) = stage("").await;
        upstream.serve("second", Script::answer(200, "application/json", "{}"));
        let conn = stage.open(refused("first", path, host, false)).await;
        let answer = conn.response().await;
        assert_eq!(answer.status(), status, "{}", answer.text());
        assert_eq!(answer.header("connection"), None, "{path}: it is kept");
        serves_on(stage, upstream, conn, ["first", "second"]).await;
    }
}

/// hyper reads of it what a single chunk holds, and no more.
#[tokio::test]
async fn chunks_behind_a_refusal_end_the_connection() {
    for (path, host, status) in [("/nowhere", "127.0.0.1", 404), (CHAT, "evil.example", 403)] {
        let (stage, upstream) = stage("").await;
        let conn = stage.open(refused("only", path, host, true)).await;
        let answer = conn.response().await;
        assert_eq!(answer.status(), status, "{}", answer.text());
        conn.next("GET");
        conn.closed().await;
        assert!(conn.message().head.is_empty(), "{:?}", conn.message());
        let log = stage.log();
        stage.stop().await;
        assert_eq!(log.requests(), ["only"]);
        assert_eq!(upstream.connections(), 0);
    }
}

/// What has not come when the answer has gone is not waited for.
#[tokio::test]
async fn a_body_that_comes_behind_its_answer_is_no_request() {
    let (stage, upstream) = stage("").await;
    let whole = refused("late", "/nowhere", "127.0.0.1", false);
    let (head, body) = whole.split_at(whole.len() - INNER.len());
    let conn = stage.open(head).await;
    assert_eq!(conn.response().await.status(), 404);
    // It may be closed already.
    let _took = conn.send(body).await;
    conn.next("GET");
    conn.closed().await;
    assert!(conn.message().head.is_empty(), "{:?}", conn.message());
    let log = stage.log();
    stage.stop().await;
    assert_eq!(log.requests(), ["late"]);
    assert_eq!(upstream.connections(), 0);
}

/// The provider answers by the head, and reads no more or throws away what comes; the client goes on.
#[tokio::test]
async fn an_upload_full_of_requests_that_its_provider_does_not_read_is_none() {
    let early = Script::new().head(
        413,
        &[("content-type", "application/json")],
        Framing::Length(None),
    );
    let early = early.body(r#"{"error":"too large"}"#);
    for (name, script) in [
        ("reads", early.clone().end().reads(Reads::Beside)),
        ("stalls", early.stall().reads(Reads::Head)),
    ] {
        let (stage, upstream) = stage("").await;
        upstream.serve(name, script);
        let ask = Ask {
            headers: &[("content-type", "application/octet-stream")],
            ..Ask::post(name, "/v1/files", b"")
        };
        let body = INNER.repeat(200_000 / INNER.len());
        let conn = stage.open(ask.head(body.len() as u64)).await;
        let _took = conn.send(&body[..body.len() / 2]).await;
        let answer = conn.response().await;
        assert_eq!(answer.status(), 413, "{name}: {}", answer.text());
        let _took = conn.send(&body[body.len() / 2..]).await;
        conn.next("GET");
        let second = Ask::post("second", CHAT, BODY).bytes();
        // Where the connection was closed there is no other answer, and no part of one.
        let _took = conn.send(second).await;
        let next = conn.response().await;
        let kept = next.begun();
        if kept {
            assert_eq!(next.status(), 200, "{name}: {}", next.text());
        }
        conn.close().await;
        let seen = upstream.snapshot().exchanges;
        let expected: &[&str] = if kept { &[name, "second"] } else { &[name] };
        let ids: Vec<_> = seen.iter().map(|it| &*it.id).collect();
        assert_eq!(ids, expected);
        let log = stage.log();
        stage.stop().await;
        assert_eq!(log.requests(), expected);
    }
}
