//! The clocks of a connection, over a socket pair with the paused clock.

use super::*;
use crate::server::{Drain, renew::Stacked};

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::sleep,
};

const LIMITS: Limits = Limits {
    head: 32 * 1024,
    headers: 100,
    target: 8 * 1024,
    ahead: 16 * 1024,
    handshake: Duration::from_secs(10),
    head_timeout: Duration::from_secs(10),
    keep_alive: Duration::from_secs(75),
    slow_reader: Some(Duration::from_secs(30)),
    buffer: 64 * 1024,
    connections: 1,
};

/// Serves one connection that answers each request after `delay`, and runs the client beside it.
async fn beside<C: Future>(delay: Duration, client: impl FnOnce(UnixStream) -> C) -> C::Output {
    with_orders(delay, |stream, _| client(stream)).await
}

/// The same; the client can also give the connection orders.
async fn with_orders<C: Future>(
    delay: Duration,
    client: impl FnOnce(UnixStream, Arc<Shared>) -> C,
) -> C::Output {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let stack = tower::service_fn(move |_| async move {
        sleep(delay).await;
        let body = Full::new(Bytes::from("hello")).map_err(
            |never: Infallible| -> tollgate_middleware::error::BoxError { match never {} },
        );
        Ok::<_, Infallible>(http::Response::new(body))
    });
    let shared = Arc::new(Shared::default());
    let drain = Drain {
        delay: Duration::ZERO,
        timeout: Duration::from_secs(600),
    };
    let place = Place::new(Arc::new(Stacked::new(1, LIMITS, drain)), 0, stack);
    let client = client(theirs, shared.clone());
    let start = Start {
        socket: Socket::Unix(ours),
        place: Arc::new(place),
        shared,
        limits: LIMITS,
    };
    let ((), output) = tokio::join!(serve(start, ()), client);
    output
}

async fn rest(stream: &mut UnixStream) -> (String, Duration) {
    let start = Instant::now();
    let mut read = String::new();
    stream.read_to_string(&mut read).await.unwrap();
    (read, rounded(start))
}

/// Timers fire up to a millisecond late.
fn rounded(start: Instant) -> Duration {
    Duration::from_millis(start.elapsed().as_millis() as u64 / 10 * 10)
}

async fn answer(stream: &mut UnixStream) -> String {
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let mut read = Vec::new();
    while !read.ends_with(b"hello") {
        read.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(read).unwrap()
}

#[tokio::test(start_paused = true)]
async fn silence_is_closed_without_a_word_after_the_head_timeout() {
    let (read, after) = beside(Duration::ZERO, |mut client| async move {
        rest(&mut client).await
    })
    .await;
    assert_eq!((read.as_str(), after), ("", LIMITS.head_timeout));
}

#[tokio::test(start_paused = true)]
async fn the_first_head_has_its_time_from_accept_and_is_told_why() {
    let (read, after) = beside(Duration::ZERO, |mut client| async move {
        sleep(Duration::from_secs(6)).await;
        client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        rest(&mut client).await
    })
    .await;
    assert_eq!(after, Duration::from_secs(4));
    let (head, body) = read.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 408 Request Timeout\r\n"));
    assert!(head.contains(&format!("content-length: {}", body.len())));
    let error: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(error["error"]["code"], "request_timeout");
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_is_not_kept_alive_by_dripping() {
    let start = Instant::now();
    beside(Duration::ZERO, |client| async move {
        let (mut read, mut write) = client.into_split();
        let drip = async {
            while write.write_all(b"x").await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        };
        let mut told = Vec::new();
        let (_, ()) = tokio::join!(read.read_to_end(&mut told), drip);
    })
    .await;
    assert!(start.elapsed() < Duration::from_secs(13));
}

#[tokio::test(start_paused = true)]
async fn an_answer_has_no_clock_here() {
    let day = Duration::from_secs(24 * 3600);
    let read = beside(day, |mut client| async move { answer(&mut client).await }).await;
    assert!(read.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_after_keep_alive_and_not_before() {
    let (read, after) = beside(Duration::ZERO, |mut client| async move {
        for _ in 0..3 {
            answer(&mut client).await;
            sleep(Duration::from_secs(60)).await;
        }
        answer(&mut client).await;
        rest(&mut client).await
    })
    .await;
    assert_eq!((read.as_str(), after), ("", LIMITS.keep_alive));
}

#[tokio::test(start_paused = true)]
async fn a_later_head_has_its_time_from_its_first_byte() {
    let (read, after) = beside(Duration::ZERO, |mut client| async move {
        answer(&mut client).await;
        sleep(Duration::from_secs(30)).await;
        client.write_all(b"GET /").await.unwrap();
        rest(&mut client).await
    })
    .await;
    assert!(read.starts_with("HTTP/1.1 408 "), "{read}");
    assert_eq!(after, LIMITS.head_timeout);
}

#[test]
fn a_change_of_phase_is_seen_even_if_it_comes_back() {
    let phase = Phase::default();
    phase.bytes_came();
    phase.request_began();
    phase.answer_ended();
    let before = phase.load();
    // Bytes of a body, while the request is answered, begin no head.
    phase.request_began();
    phase.bytes_came();
    assert!(phase.is_busy());
    phase.answer_ended();
    assert_ne!(phase.load(), before);
    assert_eq!(phase.kind(), Kind::Idle);
}

/// A client may have sent its request before it could know of the drain: it is answered, and told that it was the last.
#[tokio::test(start_paused = true)]
async fn a_request_that_was_on_its_way_when_the_drain_began_is_answered() {
    let (at_once, later) = (Duration::ZERO, Duration::from_millis(1));
    for (used_before, delay) in [
        (false, at_once),
        (true, at_once),
        (false, later),
        (true, later),
    ] {
        with_orders(delay, |mut stream, shared| async move {
            if used_before {
                answer(&mut stream).await;
            }
            shared.order(Order::Finish);
            // The connection has taken the order, and finds nothing to read.
            sleep(LINGER / 2).await;
            let answer = answer(&mut stream).await;
            assert!(answer.contains("connection: close"), "{answer}");
            assert_eq!(rest(&mut stream).await.0, "");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_request_does_not_hold_the_drain_up() {
    for used_before in [false, true] {
        with_orders(Duration::ZERO, |mut stream, shared| async move {
            if used_before {
                answer(&mut stream).await;
            }
            shared.order(Order::Finish);
            assert_eq!(rest(&mut stream).await, (String::new(), LINGER));
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_comes_slowly_during_the_drain_has_its_whole_time() {
    with_orders(Duration::ZERO, |mut stream, shared| async move {
        stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        sleep(Duration::from_secs(1)).await;
        shared.order(Order::Finish);
        sleep(Duration::from_secs(5)).await;
        stream.write_all(b"host: a\r\n\r\n").await.unwrap();
        let (read, _) = rest(&mut stream).await;
        assert!(
            read.starts_with("HTTP/1.1 200") && read.ends_with("hello"),
            "{read}"
        );
    })
    .await;
}
