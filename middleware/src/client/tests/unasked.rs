//! Answers that are more than one, less than one, or to no question at all.

use std::{
    io::{Read, Write},
    mem::MaybeUninit,
    net::{TcpListener, TcpStream as Blocking},
    sync::mpsc,
    thread,
};

use socket2::SockRef;
use tollgate_testing::upstream::{Framing, Script};

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const EVIL: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
const LATE: &str =
    "HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 4\r\n\r\nlate";

/// Asks the system, as the program does.
fn quiet(io: &TokioIo<TcpStream>) -> bool {
    let socket = SockRef::from(io.inner());
    let seen = socket.peek(&mut [MaybeUninit::uninit()]);
    seen.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

fn read_blocking(stream: &mut Blocking) -> usize {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n{}") {
        let mut some = [0; 1024];
        match stream.read(&mut some) {
            Ok(0) | Err(_) => break,
            Ok(read) => seen.extend_from_slice(&some[..read]),
        }
    }
    seen.len()
}

/// A provider that says `more`, and perhaps closes, when it is told to, after its first answer; it tells how much of
/// a second request it got over that connection. Then it answers properly.
fn provider(
    more: &'static str,
    close: bool,
) -> (
    Uri,
    mpsc::Sender<()>,
    mpsc::Receiver<()>,
    thread::JoinHandle<usize>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let (go, told) = mpsc::channel::<()>();
    let (said, done) = mpsc::channel();
    let thread = thread::spawn(move || {
        let (mut first, _) = listener.accept().unwrap();
        read_blocking(&mut first);
        first.write_all(OK.as_bytes()).unwrap();
        told.recv().unwrap();
        first.write_all(more.as_bytes()).unwrap();
        if close {
            first.shutdown(std::net::Shutdown::Write).unwrap();
        }
        said.send(()).unwrap();
        let (mut second, _) = listener.accept().unwrap();
        read_blocking(&mut second);
        second.write_all(OK.as_bytes()).unwrap();
        read_blocking(&mut first)
    });
    (origin.parse().unwrap(), go, done, thread)
}

/// The runtime has had no turn in which it could have heard of it: the answer waits in the kernel alone.
#[tokio::test]
async fn an_answer_that_waits_on_an_idle_connection_answers_nothing() {
    for (name, more, close) in [
        ("a second answer", EVIL, false),
        ("a farewell", LATE, true),
        ("a close", "", true),
    ] {
        let (origin, go, done, provider) = provider(more, close);
        let client = Client::new(Tcp, origin, Pool::default()).quiet(quiet);
        assert_eq!(text(&client, post("x", "{}")).await.unwrap(), "ok");
        assert_eq!(client.idle(), 1);
        go.send(()).unwrap();
        done.recv().unwrap();
        let answer = call(&client, post("y", "{}")).await.unwrap();
        assert_eq!(answer.status(), 200, "{name}");
        let told = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(told, "ok", "{name}");
        drop(client);
        let leaked = tokio::task::spawn_blocking(|| provider.join().unwrap());
        assert_eq!(leaked.await.unwrap(), 0, "{name}: nothing was written");
    }
}

/// F19 and its kin: what is no single plain answer is none at all, and its connection serves nobody else.
#[tokio::test]
async fn a_head_that_is_not_plain_is_refused_and_its_connection_closed() {
    let upstream = Upstream::start().await;
    let length = "content-length: 4\r\n";
    let chunked = "transfer-encoding: chunked\r\n";
    let cases = [
        (
            "two lengths",
            format!("200 OK\r\n{length}content-length: 5\r\n\r\nevil!"),
        ),
        (
            "a length twice",
            format!("200 OK\r\n{length}{length}\r\nevil"),
        ),
        (
            "a list of lengths",
            "200 OK\r\ncontent-length: 4, 4\r\n\r\nevil".into(),
        ),
        (
            "a signed length",
            "200 OK\r\ncontent-length: +4\r\n\r\nevil".into(),
        ),
        (
            "length and chunks",
            format!("200 OK\r\n{length}{chunked}\r\n4\r\nevil\r\n0\r\n\r\n"),
        ),
        (
            "chunks and length",
            format!("200 OK\r\n{chunked}{length}\r\n4\r\nevil\r\n0\r\n\r\n"),
        ),
        (
            "chunks twice",
            format!("200 OK\r\n{chunked}{chunked}\r\n4\r\nevil\r\n0\r\n\r\n"),
        ),
        (
            "coded chunks",
            "200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n".into(),
        ),
        (
            "identity",
            "200 OK\r\ntransfer-encoding: identity\r\n\r\nevil".into(),
        ),
        ("a status too low", format!("099 Low\r\n{length}\r\nevil")),
        ("a status too high", format!("677 High\r\n{length}\r\nevil")),
        (
            "a status too long",
            format!("2000 Long\r\n{length}\r\nevil"),
        ),
        (
            "a switch",
            "101 Switching\r\nupgrade: foo\r\nconnection: upgrade\r\n\r\nraw".into(),
        ),
        (
            "a folded header",
            format!("200 OK\r\nx: a\r\n b\r\n{length}\r\nevil"),
        ),
        (
            "a space in a name",
            "200 OK\r\ncontent-length : 4\r\n\r\nevil".into(),
        ),
        (
            "a zero byte",
            format!("200 OK\r\nx: \0\r\n{length}\r\nevil"),
        ),
    ];
    upstream.serve("next", Script::answer(200, "text/plain", "good"));
    let client = sockets(&upstream);
    // All but the first come over a connection that has served.
    for (name, rest) in cases {
        upstream.serve("odd", Script::new().raw(format!("HTTP/1.1 {rest}")).stall());
        let Err(error) = call(&client, post("odd", "{}")).await else {
            panic!("{name}: it was taken for an answer");
        };
        assert_eq!(reason(&error), Reason::Protocol, "{name}");
        assert_eq!(client.idle(), 0, "{name}");
        assert_eq!(text(&client, post("next", "{}")).await.unwrap(), "good");
    }
}

#[tokio::test]
async fn a_status_without_a_reason_phrase_is_a_status() {
    let upstream = Upstream::start().await;
    for line in ["HTTP/1.1 200", "HTTP/1.1 200 "] {
        let script = format!("{line}\r\ncontent-length: 2\r\n\r\nok");
        upstream.serve_default(Script::new().raw(script).stall());
        let client = sockets(&upstream);
        assert_eq!(text(&client, post("x", "{}")).await.unwrap(), "ok");
        assert_eq!(client.idle(), 1);
    }
}

/// F19: a few interim answers are passed over; ten thousand, or one that never ends, are not waited out.
#[tokio::test]
async fn interim_answers_are_bounded() {
    let upstream = Upstream::start().await;
    let early = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n";
    let few = Script::new().raw(early.repeat(50));
    let few = few.head(200, &[], Framing::Length(None)).body("ok").end();
    upstream.serve("few", few);
    upstream.serve(
        "flood",
        Script::new().raw(early.repeat(10_000)).raw(OK).stall(),
    );
    let long = format!("HTTP/1.1 103 Early\r\nx: {}", "y".repeat(1 << 20));
    upstream.serve("long", Script::new().raw(long).stall());
    let client = sockets(&upstream);
    // On fresh connections, and on one that has served.
    for _ in 0..2 {
        assert_eq!(text(&client, post("few", "{}")).await.unwrap(), "ok");
        assert_eq!(client.idle(), 1);
        for id in ["flood", "long"] {
            let Err(error) = call(&client, post(id, "{}")).await else {
                panic!("{id}: it was waited out");
            };
            assert_eq!(reason(&error), Reason::Protocol, "{id}");
            assert_eq!(client.idle(), 0, "{id}");
        }
    }
}

/// The bound counts what comes before a head, not how it is cut: a head in single bytes after interim answers is one.
#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_a_head() {
    let pipes = Pipes::default();
    let origin = Uri::from_static("http://provider.test");
    let client = Client::new(pipes.clone(), origin, Pool::default());
    for turn in 0..2 {
        let (answer, ()) = tokio::join!(text(&client, post("x", "{}")), async {
            settle().await;
            if turn == 0 {
                // Kept open for the second turn.
                HELD.with(|held| *held.borrow_mut() = Some(pipes.last()));
            }
            let mut end = HELD.with(|held| held.borrow_mut().take()).unwrap();
            read_request(&mut end, "{}").await;
            let interim = "HTTP/1.1 100 Continue\r\n\r\n";
            for byte in [interim, interim, OK].concat().bytes() {
                end.write_all(&[byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            HELD.with(|held| *held.borrow_mut() = Some(end));
        });
        assert_eq!(answer.unwrap(), "ok");
        assert_eq!(client.idle(), 1);
    }
}

thread_local! {
    static HELD: std::cell::RefCell<Option<DuplexStream>> = const { std::cell::RefCell::new(None) };
}

#[tokio::test]
async fn trailers_are_dropped_and_end_the_answer_well() {
    let upstream = Upstream::start().await;
    let script = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-late\r\n\r\n2\r\nok\r\n0\r\nx-late: 1\r\ncontent-length: 9\r\n\r\n";
    upstream.serve_default(Script::new().raw(script).stall());
    let client = sockets(&upstream);
    let answer = call(&client, post("x", "{}")).await.unwrap();
    let whole = answer.into_body().collect().await.unwrap();
    assert!(whole.trailers().is_none());
    assert_eq!(whole.to_bytes(), "ok");
    assert_eq!(client.idle(), 1);
}
