//! Over real sockets, against the scripted upstream.

use tollgate_testing::upstream::{Framing, Gate, Reads, Refusing, Script};

use super::*;

#[tokio::test]
async fn two_requests_use_one_connection_and_the_bytes_arrive_as_they_were() {
    let upstream = Upstream::start().await;
    upstream.serve_default(Script::answer(200, "text/plain", "hello"));
    let client = sockets(&upstream);
    assert_eq!(text(&client, post("one", "first")).await.unwrap(), "hello");
    assert_eq!(client.idle(), 1);
    assert_eq!(text(&client, post("two", "second")).await.unwrap(), "hello");
    assert_eq!((upstream.connections(), client.idle()), (1, 1));
    let seen = upstream.finished("two", 1).await;
    assert_eq!(seen.target(), "/v1/chat/completions?a=%2F");
    assert_eq!(seen.body, b"second");
}

#[tokio::test]
async fn a_chunked_answer_is_reused_after_its_end_was_read() {
    let upstream = Upstream::start().await;
    upstream.serve_default(Script::events(["data: 1\n\n", "data: 2\n\n"]).end());
    let client = sockets(&upstream);
    for id in ["a", "b"] {
        let told = text(&client, post(id, "{}")).await.unwrap();
        assert_eq!(told, "data: 1\n\ndata: 2\n\n");
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn an_answer_without_a_body_gives_its_connection_back_with_its_head() {
    let upstream = Upstream::start().await;
    let empty = Script::new().head(204, &[], Framing::None).end();
    upstream.serve("empty", empty);
    let head = Script::new().raw("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n");
    let gate = Gate::new("the connection is still open");
    upstream.serve("head", head.wait(&gate).end());
    let client = sockets(&upstream);

    let mut asked = post("head", "");
    (*asked.method_mut(), *asked.body_mut()) = (http::Method::HEAD, nothing());
    let answer = call(&client, asked).await.unwrap();
    assert_eq!(answer.headers()["content-length"], "9");
    assert_eq!(client.idle(), 1);
    assert!(answer.into_body().frame().await.is_none());

    let client = sockets(&upstream);
    let answer = call(&client, post("empty", "{}")).await.unwrap();
    assert_eq!((answer.status().as_u16(), client.idle()), (204, 1));
    assert!(answer.into_body().frame().await.is_none());
}

#[tokio::test]
async fn an_interim_answer_is_passed_over() {
    let upstream = Upstream::start().await;
    let early = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    upstream.serve_default(Script::new().raw(early).raw(answer));
    let client = sockets(&upstream);
    assert_eq!(text(&client, post("x", "{}")).await.unwrap(), "ok");
}

#[tokio::test]
async fn a_connection_that_closed_while_idle_is_replaced_once_by_a_fresh_one() {
    let upstream = Upstream::start().await;
    // Says nothing of the close that follows.
    let first = Script::new()
        .head(200, &[], Framing::Length(None))
        .body("one")
        .fin();
    upstream.serve("one", first);
    upstream.serve("two", Script::answer(200, "text/plain", "two"));
    let client = sockets(&upstream);
    assert_eq!(text(&client, post("one", "1")).await.unwrap(), "one");
    upstream.finished("one", 1).await;
    settle().await;

    assert_eq!(text(&client, post("two", "the body")).await.unwrap(), "two");
    let seen = upstream.seen("two");
    assert_eq!((seen.len(), upstream.connections()), (1, 2));
    assert_eq!(seen[0].body, b"the body");
    assert_eq!(seen[0].target(), "/v1/chat/completions?a=%2F");
}

#[tokio::test]
async fn a_request_that_was_read_and_not_answered_is_closed_and_not_repeated() {
    for how in ["fin", "rst"] {
        let upstream = Upstream::start().await;
        upstream.serve("warm", Script::answer(200, "text/plain", "ok"));
        let script = match how {
            "fin" => Script::new().fin(),
            _ => Script::new().rst(),
        };
        upstream.serve("read", script);
        let client = sockets(&upstream);
        // On a fresh connection, and on one that has served before.
        let fresh = call(&client, post("read", "{}")).await.unwrap_err();
        assert_eq!(reason(&fresh), Reason::Closed, "{how}");
        text(&client, post("warm", "{}")).await.unwrap();
        assert_eq!(client.idle(), 1);
        let reused = call(&client, post("read", "{}")).await.unwrap_err();
        assert_eq!(reason(&reused), Reason::Closed, "{how}");
        assert_eq!((upstream.attempts("read"), client.idle()), (2, 0), "{how}");
    }
}

#[tokio::test]
async fn what_is_not_http_is_a_broken_protocol() {
    let upstream = Upstream::start().await;
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(200 * 1024));
    for garbage in ["SSH-2.0-OpenSSH_9.6\r\n\r\n", "HTTP/1.1 xyz\r\n\r\n", &long] {
        upstream.serve_default(Script::new().raw(garbage.to_owned()).stall());
        let client = sockets(&upstream);
        let answer = call(&client, post("x", "{}")).await;
        let Err(error) = answer else {
            panic!("it was taken for an answer");
        };
        assert_eq!(reason(&error), Reason::Protocol);
    }
}

#[tokio::test]
async fn a_provider_that_refuses_cannot_be_connected_to() {
    let refusing = Refusing::bind();
    let origin = format!("http://{}", refusing.addr()).parse().unwrap();
    let client = Client::new(Tcp, origin, Pool::default());
    let error = call(&client, post("x", "{}")).await.unwrap_err();
    let found = Rejection::find(&*error).unwrap();
    assert!(!found.message().contains("127.0.0.1"), "no address is told");
    assert_eq!(reason(&error), Reason::Connect);
}

#[tokio::test]
async fn an_early_answer_ends_the_request_and_its_connection() {
    let upstream = Upstream::start().await;
    let early = Script::answer(413, "text/plain", "too much").reads(Reads::Beside);
    upstream.serve_default(early);
    let client = sockets(&upstream);
    let gone = Gone::default();
    let dropped = gone.0.clone();
    // A body that never ends.
    let endless = futures_body(move || {
        let _held = &gone;
        Poll::Pending
    });
    let mut asked = post("early", "");
    *asked.body_mut() = endless;
    let answer = call(&client, asked).await.unwrap();
    assert_eq!(answer.status(), 413);
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(bytes, "too much");
    assert_eq!((client.idle(), dropped.load(Relaxed)), (0, 1));
    let seen = upstream
        .wait_for(|seen| seen.exchanges.iter().any(|it| it.peer_closed.is_some()))
        .await;
    assert_eq!(seen.connections, 1);
}

#[tokio::test]
async fn bytes_after_the_answer_cost_the_connection_and_not_the_next_request() {
    let upstream = Upstream::start().await;
    let more = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    upstream.serve("more", Script::new().raw(more).stall());
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
    upstream.serve("chunked", Script::new().raw(chunked).stall());
    upstream.serve("next", Script::answer(200, "text/plain", "good"));
    let client = sockets(&upstream);
    for id in ["more", "chunked"] {
        assert_eq!(text(&client, post(id, "{}")).await.unwrap(), "ok");
        assert_eq!(client.idle(), 0, "{id}");
        assert_eq!(text(&client, post("next", "{}")).await.unwrap(), "good");
    }
}

#[tokio::test]
async fn bytes_that_come_while_idle_cost_the_connection_and_not_the_next_request() {
    let upstream = Upstream::start().await;
    let gate = Gate::new("the client has put the connection away");
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let unasked = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    let script = Script::new().raw(answer).wait(&gate).raw(unasked).stall();
    upstream.serve("first", script);
    upstream.serve("next", Script::answer(200, "text/plain", "good"));
    let client = sockets(&upstream);
    assert_eq!(text(&client, post("first", "{}")).await.unwrap(), "ok");
    assert_eq!(client.idle(), 1);
    gate.open();
    let both = answer.len() + unasked.len();
    upstream
        .wait_for(|seen| seen.of("first").any(|it| it.sent == both))
        .await;
    settle().await;
    assert_eq!(text(&client, post("next", "{}")).await.unwrap(), "good");
    assert_eq!(upstream.connections(), 2);
}

/// A body made of a poll function.
fn futures_body(poll: impl FnMut() -> Poll<Option<Bytes>> + Send + Sync + Unpin + 'static) -> Sent {
    struct Polled<F>(F);
    impl<F: FnMut() -> Poll<Option<Bytes>> + Unpin> http_body::Body for Polled<F> {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
            (self.0)().map(|data| data.map(|data| Ok(http_body::Frame::data(data))))
        }
    }
    Polled(poll).boxed()
}
