//! How an answer ends: whole, cut, or let go of.

use http_body::Body;
use tollgate_testing::{
    body::collect,
    upstream::{Framing, Script},
};

use super::*;

#[tokio::test]
async fn a_body_that_is_cut_is_truncated_in_every_framing() {
    let length = || {
        Script::new()
            .head(200, &[], Framing::Length(Some(10)))
            .body("12345")
    };
    let chunked = || Script::events(["data: 1\n\n"]);
    let half = Script::new()
        .head(200, &[], Framing::Chunked)
        .raw("5\r\nab");
    let broken = Script::new()
        .head(200, &[], Framing::Chunked)
        .raw("2\r\nab\r\nzz\r\n")
        .stall();
    let close = Script::new().head(200, &[], Framing::Close).body("12345");
    for (name, script) in [
        ("length, fin", length().fin()),
        ("length, reset", length().rst()),
        ("chunked, fin", chunked().fin()),
        ("chunked, reset", chunked().rst()),
        ("inside a chunk", half.fin()),
        ("broken chunks", broken),
        ("until close, reset", close.rst()),
    ] {
        let upstream = Upstream::start().await;
        upstream.serve_default(script);
        let client = sockets(&upstream);
        let answer = call(&client, post("x", "{}")).await.unwrap();
        let seen = collect(answer.into_body()).await;
        let error = seen.error.unwrap_or_else(|| panic!("{name}: ended well"));
        assert_eq!(reason(&error), Reason::Truncated, "{name}");
        assert_eq!(client.idle(), 0, "{name}");
    }
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_ends_well_and_frees_nothing() {
    let upstream = Upstream::start().await;
    let script = Script::new()
        .head(200, &[], Framing::Close)
        .body("all")
        .fin();
    upstream.serve_default(script);
    let client = sockets(&upstream);
    assert_eq!(text(&client, post("x", "{}")).await.unwrap(), "all");
    assert_eq!(client.idle(), 0);
}

#[tokio::test]
async fn a_connection_that_is_to_be_closed_is_not_kept() {
    let upstream = Upstream::start().await;
    let script = Script::new()
        .head(200, &[("connection", "close")], Framing::Length(None))
        .body("all")
        .end();
    upstream.serve_default(script);
    let client = sockets(&upstream);
    assert_eq!(text(&client, post("x", "{}")).await.unwrap(), "all");
    assert_eq!(client.idle(), 0);
}

#[tokio::test]
async fn dropping_the_body_closes_the_connection() {
    let upstream = Upstream::start().await;
    upstream.serve_default(Script::events(["data: 1\n\n"]).stall());
    let client = sockets(&upstream);
    let mut body = call(&client, post("x", "{}")).await.unwrap().into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "data: 1\n\n");
    assert!(!body.is_end_stream());
    drop(body);
    let seen = upstream.finished("x", 1).await;
    assert!(seen.peer_closed.is_some());
    assert_eq!(client.idle(), 0);
}

#[tokio::test]
async fn dropping_the_future_closes_the_connection() {
    let upstream = Upstream::start().await;
    upstream.serve_default(Script::new().stall());
    let client = sockets(&upstream);
    let mut future = Box::pin(call(&client, post("x", "{}")));
    tokio::select! {
        _ = &mut future => panic!("nothing was answered"),
        _ = upstream.wait_for(|seen| seen.attempts("x") == 1) => {}
    }
    drop(future);
    assert!(upstream.finished("x", 1).await.peer_closed.is_some());
    assert_eq!(client.idle(), 0);
}

#[tokio::test]
async fn a_request_body_that_fails_keeps_the_reason_of_its_failure() {
    let upstream = Upstream::start().await;
    let client = sockets(&upstream);
    for (error, expected) in [
        (
            Rejection::new(Reason::TooLarge, "peek", "too large").into(),
            (Reason::TooLarge, "peek"),
        ),
        (BoxError::from("gone"), (Reason::Malformed, "upstream")),
    ] {
        let mut frames = vec![
            Err(error),
            Ok(http_body::Frame::data(Bytes::from_static(b"begun"))),
        ];
        let mut asked = post("x", "");
        *asked.body_mut() = Frames(std::mem::take(&mut frames)).boxed();
        let error = call(&client, asked).await.unwrap_err();
        let found = Rejection::find(&*error).unwrap();
        assert_eq!((found.reason(), found.layer()), expected);
    }
    assert_eq!(client.idle(), 0);
}

/// Frames in reverse order.
#[derive(Debug)]
struct Frames(Vec<Result<http_body::Frame<Bytes>, BoxError>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.0.pop())
    }
}
