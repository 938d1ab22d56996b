//! The provider behind a real HTTP/1.1 server: what a client finds on the wire.

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// The bytes of the answer to one request, on a connection of its own.
async fn wire(model: &str, streamed: bool) -> String {
    let (client, server) = tokio::io::duplex(1 << 20);
    let service = hyper::service::service_fn(|request| Mock.oneshot(request));
    let server =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service);
    let (path, body) = Way::Chat.request(model, streamed, "a b");
    let body = body.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: mock\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let client = async move {
        let (mut read, mut write) = tokio::io::split(client);
        write.write_all(head.as_bytes()).await.unwrap();
        write.write_all(body.as_bytes()).await.unwrap();
        let mut answer = String::new();
        read.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let (served, answer) = tokio::join!(server, client);
    assert_eq!(served.is_err(), model == "cut", "{served:?}");
    answer
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_chunked_and_whole() {
    for model in ["echo", "slow", "count-5000"] {
        let answer = wire(model, true).await;
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n")
                && answer.contains("transfer-encoding: chunked\r\n")
        );
        assert!(answer.ends_with("data: [DONE]\n\n\r\n0\r\n\r\n"), "{model}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_document_comes_whole_with_its_length() {
    let answer = wire("echo", false).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains(&format!("content-length: {}", body.len())),
        "{head}"
    );
    assert!(body.contains("Echo: a b"));
}

#[tokio::test(start_paused = true)]
async fn a_cut_stream_shows_its_events_and_no_last_chunk() {
    let answer = wire("cut", true).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(answer.matches("data: {").count(), 3);
    assert!(!answer.contains("[DONE]") && !answer.ends_with("0\r\n\r\n"));
}

#[tokio::test(start_paused = true)]
async fn a_cut_document_is_shorter_than_announced() {
    let answer = wire("cut", false).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .unwrap();
    let length: usize = length.parse().unwrap();
    assert!(
        !body.is_empty() && body.len() < length,
        "{} of {length}",
        body.len()
    );
}
