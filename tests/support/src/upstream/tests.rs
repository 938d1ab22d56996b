//! The upstream and the client judge each other over real sockets; nothing here waits for a clock.

use std::sync::Arc;

use proptest::prelude::*;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};

use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Duration,
};

use super::*;
use crate::{
    client::{Conn, call, head, request},
    splits::Split,
};

fn named<'a>(script: &'a str, id: &'a str) -> [(&'a str, &'a str); 2] {
    [(SCRIPT, script), (ID, id)]
}

#[tokio::test]
async fn a_whole_exchange_is_recorded_as_it_was_on_the_wire() {
    let upstream = Upstream::start().await;
    let headers = [("X-Odd", "a"), (ID, "one"), ("x-odd", "b")];
    let response = call(
        upstream.addr(),
        "POST",
        "/v1/chat/completions?x=1",
        &headers,
        "{\"a\": 1}",
    )
    .await;
    assert_eq!(
        (response.status(), response.ended),
        (200, Some(Ended::Length))
    );
    assert_eq!(response.json()["choices"][0]["message"]["content"], "hello");

    let exchange = upstream.finished("one", 1).await;
    assert_eq!(exchange.start, "POST /v1/chat/completions?x=1 HTTP/1.1");
    assert_eq!(exchange.target(), "/v1/chat/completions?x=1");
    assert_eq!(exchange.headers[1], ("X-Odd".to_owned(), "a".to_owned()));
    assert_eq!(exchange.header("x-test-id"), Some("one"));
    assert_eq!(exchange.json()["a"], 1);
    assert!(exchange.head.ends_with(b"\r\n\r\n"));
    assert_eq!(
        (exchange.request_ended, exchange.done),
        (Some(Ended::Length), true)
    );
    assert_eq!(exchange.wrote, response.body.len());
    assert_eq!(exchange.sent, response.body.len() + response.head.len());
    assert_eq!(
        (
            upstream.attempts("one"),
            upstream.attempts("two"),
            upstream.connections()
        ),
        (1, 0, 1)
    );
}

#[tokio::test]
async fn the_first_byte_comes_while_the_upstream_is_held() {
    let upstream = Upstream::start().await;
    let gate = Gate::new("after the first event");
    upstream.serve(
        "held",
        Script::events(["data: 1\n\n"])
            .wait(&gate)
            .body("data: 2\n\n")
            .end(),
    );

    let conn = Conn::open(upstream.addr()).await;
    conn.send(request("POST", "/", &named("held", "h"), ""))
        .await
        .unwrap();
    gate.reached(1).await;
    assert!(conn.until(|message| message.body == b"data: 1\n\n").await);
    assert_eq!(upstream.seen("h")[0].wrote, 9);
    assert_eq!(conn.message().ended, None);

    gate.open();
    let response = conn.response().await;
    assert_eq!(
        (response.text().as_str(), response.ended),
        ("data: 1\n\ndata: 2\n\n", Some(Ended::LastChunk))
    );
    assert_eq!(response.chunks, [9, 9]);
    assert!(response.grown.is_sorted_by_key(|&(at, len)| (at, len)));
}

async fn ending(script: Script) -> Ended {
    let upstream = Upstream::start().await;
    upstream.serve_default(script);
    let conn = Conn::open(upstream.addr()).await;
    conn.send(request("POST", "/", &[], "x")).await.unwrap();
    conn.response().await.ended.unwrap()
}

#[tokio::test]
async fn each_ending_reaches_the_client_as_itself() {
    let started = |framing| Script::new().head(200, &[], framing).body("abc");
    assert_eq!(
        ending(started(Framing::Chunked).end()).await,
        Ended::LastChunk
    );
    assert_eq!(
        ending(started(Framing::Length(None)).end()).await,
        Ended::Length
    );
    assert_eq!(ending(started(Framing::Close).end()).await, Ended::Close);
    assert_eq!(ending(started(Framing::None).fin()).await, Ended::Close);
    assert_eq!(ending(started(Framing::Chunked).fin()).await, Ended::Cut);
    assert_eq!(
        ending(started(Framing::Length(Some(4))).fin()).await,
        Ended::Cut
    );
    assert_eq!(ending(started(Framing::Chunked).rst()).await, Ended::Reset);
    assert_eq!(
        ending(started(Framing::Chunked).raw("zz\r\n")).await,
        Ended::Bad
    );
    assert_eq!(ending(Script::new()).await, Ended::Cut);
    assert_eq!(ending(Script::new().rst()).await, Ended::Reset);
}

#[tokio::test]
async fn each_attempt_has_its_own_script_and_the_last_repeats() {
    let upstream = Upstream::start().await;
    upstream.serve(
        "flaky",
        vec![
            Script::answer(503, "text/plain", "no"),
            Script::answer(200, "text/plain", "yes"),
        ],
    );
    for (attempt, status) in [(0, 503), (1, 200), (2, 200)] {
        let response = call(upstream.addr(), "POST", "/", &named("flaky", "f"), "").await;
        assert_eq!(response.status(), status, "attempt {attempt}");
        assert_eq!(upstream.seen("f")[attempt].attempt, attempt);
    }
    assert_eq!(
        call(upstream.addr(), "POST", "/", &named("flaky", "another"), "")
            .await
            .status(),
        503
    );
}

#[tokio::test]
async fn a_plan_can_look_at_the_request() {
    let upstream = Upstream::start().await;
    upstream.serve_default(Plan::by(|exchange| {
        Script::answer(200, "text/plain", exchange.target().to_owned())
    }));
    assert_eq!(
        call(upstream.addr(), "GET", "/seen", &[], "").await.text(),
        "/seen"
    );
}

#[tokio::test]
async fn a_connection_is_kept_and_pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::start().await;
    upstream.serve(
        "a",
        Script::new()
            .head(200, &[], Framing::Chunked)
            .body("first")
            .end(),
    );
    upstream.serve("b", Script::answer(200, "text/plain", "second"));
    let conn = Conn::open(upstream.addr()).await;
    let both = [
        request("POST", "/", &named("a", "1"), "{}"),
        request("POST", "/", &named("b", "2"), "{}"),
    ]
    .concat();
    conn.send(both).await.unwrap();
    assert_eq!(conn.response().await.text(), "first");
    conn.next("POST");
    assert_eq!(conn.response().await.text(), "second");
    assert_eq!(
        (upstream.connections(), upstream.seen("2")[0].connection),
        (1, 0)
    );
}

#[tokio::test]
async fn when_the_peer_went_is_kept_whatever_the_script_was_doing() {
    let upstream = Upstream::start().await;
    let shut = Gate::new("never opened");
    upstream.serve("stall", Script::events(["a"]).stall());
    upstream.serve("wait", Script::events(["a"]).wait(&shut));
    upstream.serve(
        "sleep",
        Script::events(["a"]).sleep(Duration::from_secs(3600)),
    );
    for script in ["stall", "wait", "sleep"] {
        let conn = Conn::open(upstream.addr()).await;
        conn.send(request("POST", "/", &named(script, script), ""))
            .await
            .unwrap();
        assert!(conn.until(|message| message.body == b"a").await);
        assert_eq!(upstream.seen(script)[0].peer_closed, None);
        if script == "stall" {
            conn.reset().await;
        } else {
            conn.close().await;
        }
        let exchange = upstream.finished(script, 1).await;
        assert!(
            exchange.peer_closed.is_some_and(|at| at >= exchange.began),
            "{script}"
        );
        assert!(!exchange.done, "{script}");
    }
}

#[tokio::test]
async fn a_peer_that_goes_after_the_answer_is_seen_too() {
    let upstream = Upstream::start().await;
    call(upstream.addr(), "POST", "/", &[(ID, "x")], "").await;
    upstream
        .wait_for(|seen| seen.of("x").all(|exchange| exchange.peer_closed.is_some()))
        .await;
    assert_eq!(upstream.seen("x")[0].request_ended, Some(Ended::Length));
}

#[tokio::test]
async fn an_upload_that_breaks_off_is_recorded_as_far_as_it_came() {
    let upstream = Upstream::start().await;
    let conn = Conn::open(upstream.addr()).await;
    conn.send([head("POST", "/", &[(ID, "cut")], Some(10)), b"abc".to_vec()].concat())
        .await
        .unwrap();
    conn.close().await;
    upstream
        .wait_for(|seen| {
            seen.connections == 1 && (seen.attempts("cut") == 1 || !seen.broken.is_empty())
        })
        .await;
    let seen = upstream
        .wait_for(|seen| {
            seen.of("cut")
                .all(|exchange| exchange.peer_closed.is_some())
        })
        .await;
    let exchange = seen.of("cut").next().unwrap();
    assert_eq!(
        (exchange.body.as_slice(), exchange.request_ended),
        (&b"abc"[..], Some(Ended::Cut))
    );
    assert!(!exchange.done);

    let conn = Conn::open(upstream.addr()).await;
    conn.send("POST / HT").await.unwrap();
    conn.half_close().unwrap();
    let seen = upstream.wait_for(|seen| !seen.broken.is_empty()).await;
    assert_eq!(seen.broken, [b"POST / HT"]);
    assert!(!conn.closed().await.reset);
}

#[tokio::test]
async fn an_answer_can_come_before_the_request_is_whole() {
    let upstream = Upstream::start().await;
    let gate = Gate::new("upload");
    let script = Script::events(["early"])
        .wait(&gate)
        .end()
        .reads(Reads::Beside);
    upstream.serve_default(script);
    let conn = Conn::open(upstream.addr()).await;
    conn.send([head("POST", "/", &[(ID, "up")], Some(6)), b"abc".to_vec()].concat())
        .await
        .unwrap();
    assert!(conn.until(|message| message.body == b"early").await);
    conn.send("def").await.unwrap();
    let seen = upstream
        .wait_for(|seen| {
            seen.of("up")
                .any(|exchange| exchange.request_ended.is_some())
        })
        .await;
    assert_eq!(seen.exchanges[0].body, b"abcdef");
    gate.open_for_all();
    assert_eq!(conn.response().await.ended, Some(Ended::LastChunk));
}

// Paused, the clock runs on to the deadline as soon as nothing moves any more.
#[tokio::test(start_paused = true)]
async fn an_upstream_that_does_not_read_halts_the_upload() {
    let upstream = Upstream::start().await;
    upstream.serve_default(Script::new().stall().reads(Reads::Head));
    let conn = Conn::open(upstream.addr()).await;
    // More than both kernels' buffers hold: the send must run into its deadline.
    let error = conn
        .send(request("POST", "/", &[], vec![b'x'; 64 << 20]))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(upstream.snapshot().exchanges[0].request_ended, None);
}

#[tokio::test]
async fn a_client_that_pauses_halts_the_upstream() {
    const SIZE: usize = 32 << 20;
    let upstream = Upstream::start().await;
    let gate = Gate::new("head sent");
    let script = Script::new()
        .head(200, &[], Framing::Length(None))
        .wait(&gate);
    upstream.serve_default(
        script
            .body_in(vec![b'x'; SIZE], Split::Bytes(1 << 16))
            .end(),
    );
    let conn = Conn::open_small(upstream.addr(), 4096).await;
    conn.send(request("POST", "/", &[(ID, "p")], ""))
        .await
        .unwrap();
    assert!(conn.until(|message| message.status() == 200).await);
    conn.pause();
    gate.open();
    upstream
        .wait_for(|seen| seen.of("p").any(|exchange| exchange.wrote > 0))
        .await;
    assert!(!upstream.seen("p")[0].done);
    assert!(conn.message().body.len() < SIZE);
    conn.resume();
    assert_eq!(conn.response().await.body.len(), SIZE);
    assert_eq!(upstream.finished("p", 1).await.wrote, SIZE);
}

#[tokio::test(start_paused = true)]
async fn a_sleep_is_on_tokios_clock() {
    let upstream = Upstream::start().await;
    upstream.serve_default(
        Script::events(["a"])
            .sleep(Duration::from_secs(3600))
            .body("b")
            .end(),
    );
    let conn = Conn::open(upstream.addr())
        .await
        .deadline(Duration::from_secs(7200));
    conn.send(request("POST", "/", &[], "")).await.unwrap();
    let grown = conn.response().await.grown;
    let first = grown.iter().find(|&&(_, len)| len == 1).unwrap().0;
    let second = grown.iter().find(|&&(_, len)| len == 2).unwrap().0;
    assert!(second - first >= Duration::from_secs(3600));
}

#[tokio::test]
async fn dropping_the_upstream_closes_its_sockets() {
    let upstream = Upstream::start().await;
    upstream.serve_default(Script::events(["a"]).stall());
    let addr = upstream.addr();
    let conn = Conn::open(addr).await;
    conn.send(request("POST", "/", &[], "")).await.unwrap();
    assert!(conn.until(|message| message.body == b"a").await);
    drop(upstream);
    assert_eq!(conn.response().await.ended, Some(Ended::Cut));
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn a_refusing_address_refuses() {
    let nobody = Refusing::bind();
    let error = TcpStream::connect(nobody.addr()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_connections_are_served_at_once() {
    let upstream = Upstream::start().await;
    let gate = Gate::new("all are here");
    upstream.serve_default(Script::events(["a"]).wait(&gate).body("b").end());
    let addr = upstream.addr();
    let mut calls = JoinSet::new();
    for n in 0..50 {
        calls.spawn(async move { call(addr, "POST", "/", &[(ID, &n.to_string())], "{}").await });
    }
    gate.reached(50).await;
    gate.open_for_all();
    let bodies: Vec<_> = calls.join_all().await.iter().map(Message::text).collect();
    assert_eq!(bodies, vec!["ab"; 50]);
    assert_eq!(
        (upstream.connections(), upstream.snapshot().exchanges.len()),
        (50, 50)
    );
}

#[tokio::test]
#[should_panic(expected = "did not see")]
async fn waiting_for_what_never_comes_fails_instead_of_hanging() {
    let upstream = Upstream::start().await;
    tokio::time::pause();
    upstream.wait_for(|seen| seen.connections == 1).await;
}

#[tokio::test]
async fn a_tls_upstream_is_trusted_by_its_authority_and_by_no_other() {
    let (upstream, ca) = Upstream::start_tls().await;
    let (_other, other_ca) = Upstream::start_tls().await;
    let connect = async |ca: &tls::CaPem, name: &'static str| {
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(ca.0.as_bytes()).unwrap())
            .unwrap();
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
        let stream = TcpStream::connect(upstream.addr()).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        connector
            .connect(ServerName::try_from(name).unwrap(), stream)
            .await
    };
    for name in ["localhost", "127.0.0.1"] {
        let mut stream = connect(&ca, name).await.unwrap();
        stream
            .write_all(&request("POST", "/", &[(ID, name)], "hi"))
            .await
            .unwrap();
        let mut message = Message::response("POST");
        let mut bytes = [0; 4096];
        while message.ended.is_none() {
            let size = stream.read(&mut bytes).await.unwrap();
            message.feed(&bytes[..size]);
        }
        assert_eq!(message.status(), 200);
        assert_eq!(upstream.seen(name)[0].body, b"hi");
    }
    assert!(connect(&other_ca, "localhost").await.is_err());
    assert!(connect(&ca, "example.com").await.is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_body_arrives_whole_in_every_split(
        body in prop::collection::vec(any::<u8>(), 0..4000),
        seed in any::<u64>(),
        chunked in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (response, wrote) = runtime.block_on(async {
            let upstream = Upstream::start().await;
            let framing = if chunked { Framing::Chunked } else { Framing::Length(None) };
            let script = Script::new().head(200, &[], framing).body_in(body.clone(), Split::Random(seed)).end();
            upstream.serve_default(script);
            let response = call(upstream.addr(), "POST", "/", &[(ID, "x")], "").await;
            (response, upstream.finished("x", 1).await.wrote)
        });
        prop_assert!(response.whole());
        prop_assert_eq!(wrote, body.len());
        if chunked {
            prop_assert_eq!(&response.chunks, &Split::Random(seed).sizes(body.len()));
        }
        prop_assert_eq!(response.body, body);
    }
}

#[tokio::test]
async fn each_request_of_a_kept_connection_has_its_own_body() {
    let upstream = Upstream::start().await;
    let conn = Conn::open(upstream.addr()).await;
    for (id, body) in [("one", "first"), ("two", "second")] {
        conn.next("POST");
        conn.send(request("POST", "/", &[(ID, id)], body))
            .await
            .unwrap();
        assert!(conn.response().await.whole());
    }
    assert_eq!(upstream.connections(), 1);
    assert_eq!(upstream.seen("one")[0].body, b"first");
    assert_eq!(upstream.seen("two")[0].body, b"second");
}
