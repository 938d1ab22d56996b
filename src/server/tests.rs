//! The server over real sockets, on ports that the system chooses.

mod greeting;

use std::{
    io::ErrorKind,
    net::SocketAddr,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
};

use http_body::Frame;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};
use tollgate_middleware::conn::{Conn, Cut};
use tower::util::BoxCloneService;

use super::*;

type Event = Result<Bytes, BoxError>;
type Held = UnboundedSender<Event>;

/// A body that says what a channel is told, and breaks off when it is asked to.
struct Told {
    events: UnboundedReceiver<Event>,
    conn: Option<Conn>,
}

impl http_body::Body for Told {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let cut = self.conn.as_ref().and_then(Conn::asked_to_cut);
        if cut == Some(Cut::Drain) {
            return Poll::Ready(Some(Err("cut".into())));
        }
        self.events
            .poll_recv(cx)
            .map(|event| event.map(|event| event.map(Frame::data)))
    }
}

/// Makes stacks of one closure, which answers at once with a body.
struct Closure<F> {
    answer: F,
    swept: Arc<AtomicUsize>,
}

impl<F> Stacks for Closure<F>
where
    F: Fn(Request<Incoming>) -> Told + Clone + Send + Sync + 'static,
{
    type Body = Told;
    type Stack = BoxCloneService<Request<Incoming>, Response<Told>, Infallible>;

    fn stack(&self, _: usize) -> Self::Stack {
        let answer = self.answer.clone();
        BoxCloneService::new(tower::service_fn(move |req| {
            let response = Response::new(answer(req));
            std::future::ready(Ok(response))
        }))
    }

    fn sweep(&self, _: &Self::Stack) {
        self.swept.fetch_add(1, Ordering::Relaxed);
    }
}

fn settings() -> Settings {
    Settings {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        workers: 2,
        flavor: Flavor::PerCore,
        limits: Limits {
            head: 32 * 1024,
            headers: 100,
            target: 8 * 1024,
            ahead: 16 * 1024,
            handshake: Duration::from_secs(10),
            head_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(75),
            slow_reader: Some(Duration::from_secs(30)),
            buffer: 64 * 1024,
            connections: 1000,
        },
        greeting: Greeting::default(),
        drain: Drain {
            delay: Duration::ZERO,
            timeout: Duration::from_secs(600),
        },
    }
}

/// However little may be held of an answer, a frame of it always may: without, none would ever be asked for.
#[test]
fn a_frame_has_room_in_the_smallest_window() {
    let limits = settings().limits;
    assert_eq!(limits.window(), 32 * 1024);
    for buffer in [0, 1, 2] {
        assert_eq!(Limits { buffer, ..limits }.window(), 1);
    }
}

fn started<F>(settings: Settings, answer: F) -> Handle
where
    F: Fn(Request<Incoming>) -> Told + Clone + Send + Sync + 'static,
{
    let swept = Arc::default();
    start(settings, Closure { answer, swept }, Readiness::new()).unwrap()
}

/// Answers with a short text that is complete.
fn text(text: impl Into<Bytes>) -> Told {
    let (sender, events) = unbounded_channel();
    sender.send(Ok(text.into())).unwrap();
    Told { events, conn: None }
}

/// A server whose answers are held open; each is handed to the test with its request's path.
fn held(settings: Settings) -> (Handle, UnboundedReceiver<Held>) {
    let (opened, streams) = unbounded_channel();
    let handle = started(settings, move |req| {
        let (sender, events) = unbounded_channel();
        opened.send(sender).unwrap();
        let conn = req.extensions().get().cloned();
        Told { events, conn }
    });
    (handle, streams)
}

fn port(handle: &Handle) -> SocketAddr {
    handle.addresses()[0].socket_addr().unwrap()
}

async fn joined(handle: Handle) -> Outcome {
    tokio::task::spawn_blocking(|| handle.join()).await.unwrap()
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const LAST_CHUNK: &str = "0\r\n\r\n";

/// Reads until `end` has come.
async fn until(stream: &mut (impl AsyncReadExt + Unpin), end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        let byte = stream.read_u8().await.unwrap();
        read.push(byte);
    }
    String::from_utf8(read).unwrap()
}

async fn rest(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut read = String::new();
    stream.read_to_string(&mut read).await.unwrap();
    read
}

#[tokio::test]
async fn one_connection_serves_many_requests_and_names_its_peer() {
    let handle = started(settings(), |req| {
        let conn: Option<&Conn> = req.extensions().get();
        text(format!(
            "{:?} {}",
            conn.and_then(Conn::peer),
            conn.is_some()
        ))
    });
    assert!(handle.control().readiness().is_ready());
    let mut client = TcpStream::connect(port(&handle)).await.unwrap();
    let expected = format!("Some({}) true", client.local_addr().unwrap());
    for _ in 0..3 {
        client.write_all(GET).await.unwrap();
        let answer = until(&mut client, LAST_CHUNK).await;
        assert!(answer.contains(&expected), "{answer}");
    }
    assert_eq!((handle.tally().accepted(), handle.tally().open()), (1, 1));
    handle.drain();
    assert_eq!(rest(&mut client).await, "");
    let tally = handle.tally();
    assert_eq!(joined(handle).await, Outcome { cut: 0, lost: 0 });
    assert_eq!((tally.accepted(), tally.open()), (1, 0));
}

#[tokio::test]
async fn a_drain_lets_a_running_answer_end() {
    let (handle, mut streams) = held(settings());
    let at = port(&handle);
    let mut client = TcpStream::connect(at).await.unwrap();
    client.write_all(GET).await.unwrap();
    let stream = streams.recv().await.unwrap();
    stream.send(Ok("one".into())).unwrap();
    until(&mut client, "3\r\none\r\n").await;

    handle.drain();
    assert_eq!(handle.control().readiness().as_str(), "draining");
    // The listeners close; until they have, a connection may still be made.
    while TcpStream::connect(at).await.is_ok() {
        tokio::task::yield_now().await;
    }
    stream.send(Ok("two".into())).unwrap();
    drop(stream);
    assert_eq!(rest(&mut client).await, "3\r\ntwo\r\n0\r\n\r\n");
    drop(client);
    assert_eq!(joined(handle).await.cut, 0);
}

#[tokio::test]
async fn what_the_drain_window_does_not_see_end_is_cut_and_never_ends_cleanly() {
    let mut settings = settings();
    settings.drain.timeout = Duration::from_millis(20);
    let (handle, mut streams) = held(settings);
    let mut client = TcpStream::connect(port(&handle)).await.unwrap();
    client.write_all(GET).await.unwrap();
    let stream = streams.recv().await.unwrap();
    stream.send(Ok("one".into())).unwrap();
    until(&mut client, "3\r\none\r\n").await;
    handle.drain();
    assert_eq!(rest(&mut client).await, "");
    drop(client);
    assert_eq!(joined(handle).await, Outcome { cut: 1, lost: 0 });
    assert!(stream.is_closed());
}

#[tokio::test]
async fn connections_are_accepted_during_the_delay() {
    let mut settings = settings();
    settings.drain.delay = Duration::from_secs(600);
    let handle = started(settings, |_| text("hello"));
    handle.drain();
    assert!(!handle.control().readiness().is_ready());
    let mut client = TcpStream::connect(port(&handle)).await.unwrap();
    client.write_all(GET).await.unwrap();
    assert!(until(&mut client, LAST_CHUNK).await.contains("hello"));
    // The second call does not wait for the rest of the delay.
    handle.drain();
    assert_eq!(rest(&mut client).await, "");
    assert_eq!(joined(handle).await.cut, 0);
}

#[tokio::test]
async fn a_second_listener_works_and_its_file_goes_with_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let mut settings = settings();
    settings.listen.push(Address::Unix(path.clone()));
    let handle = started(settings, |req| {
        text(format!("{:?}", req.extensions().get().map(Conn::peer)))
    });
    let mut unix = UnixStream::connect(&path).await.unwrap();
    unix.write_all(GET).await.unwrap();
    let answer = until(&mut unix, LAST_CHUNK).await;
    assert!(answer.contains("Some(None)"), "{answer}");
    let mut tcp = TcpStream::connect(port(&handle)).await.unwrap();
    tcp.write_all(GET).await.unwrap();
    let answer = until(&mut tcp, LAST_CHUNK).await;
    assert!(answer.contains("Some(Some("), "{answer}");
    handle.drain();
    joined(handle).await;
    assert!(!path.exists());
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_and_nothing_runs() {
    let handle = started(settings(), |_| text("first"));
    let mut again = settings();
    again.listen = handle.addresses().to_vec();
    let stacks = Closure {
        answer: |_| text("second"),
        swept: Arc::default(),
    };
    let readiness = Readiness::new();
    let error = start(again, stacks, readiness.clone()).unwrap_err();
    let expected = format!("{} is taken; choose another with --listen", port(&handle));
    assert_eq!(error.to_string(), expected);
    assert_eq!(readiness.as_str(), "starting");
    handle.drain();
    joined(handle).await;
}

#[tokio::test]
async fn a_broken_answer_ends_with_a_fin_though_the_client_sent_more() {
    let (handle, mut streams) = held(settings());
    let mut client = TcpStream::connect(port(&handle)).await.unwrap();
    client.write_all(GET).await.unwrap();
    let stream = streams.recv().await.unwrap();
    stream.send(Ok("one".into())).unwrap();
    until(&mut client, "3\r\none\r\n").await;
    client.write_all(&[b'x'; 10_000]).await.unwrap();
    stream.send(Err("broken".into())).unwrap();
    // A reset would be an error here.
    assert_eq!(rest(&mut client).await, "");
    drop(client);
    handle.drain();
    joined(handle).await;
}

#[tokio::test]
async fn a_connection_that_is_to_be_reset_is_reset() {
    let (opened, mut streams) = unbounded_channel();
    let handle = started(settings(), move |req| {
        let (sender, events) = unbounded_channel();
        req.extensions().get::<Conn>().unwrap().reset();
        opened.send(sender).unwrap();
        Told { events, conn: None }
    });
    let mut client = TcpStream::connect(port(&handle)).await.unwrap();
    client.write_all(GET).await.unwrap();
    let stream: Held = streams.recv().await.unwrap();
    stream.send(Err("broken".into())).unwrap();
    let error = client.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    handle.drain();
    joined(handle).await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_answer() {
    let (handle, mut streams) = held(settings());
    let mut client = TcpStream::connect(port(&handle)).await.unwrap();
    client.write_all(GET).await.unwrap();
    let stream = streams.recv().await.unwrap();
    drop(client);
    stream.closed().await;
    handle.drain();
    assert_eq!(joined(handle).await.cut, 0);
}

#[tokio::test]
async fn beyond_the_limit_a_connection_waits_until_another_ends() {
    let mut settings = settings();
    settings.limits.connections = 1;
    let handle = started(settings, |_| text("hello"));
    let mut first = TcpStream::connect(port(&handle)).await.unwrap();
    first.write_all(GET).await.unwrap();
    until(&mut first, LAST_CHUNK).await;
    let mut second = TcpStream::connect(port(&handle)).await.unwrap();
    second.write_all(GET).await.unwrap();
    assert_eq!(handle.tally().accepted(), 1);
    drop(first);
    assert!(until(&mut second, LAST_CHUNK).await.contains("hello"));
    drop(second);
    handle.drain();
    joined(handle).await;
}

#[tokio::test]
async fn one_runtime_with_many_threads_serves_too() {
    let mut settings = settings();
    settings.flavor = Flavor::MultiThread;
    let handle = started(settings, |_| text("hello"));
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = TcpStream::connect(port(&handle)).await.unwrap();
        client.write_all(GET).await.unwrap();
        assert!(until(&mut client, LAST_CHUNK).await.contains("hello"));
        clients.push(client);
    }
    handle.drain();
    assert_eq!(joined(handle).await, Outcome { cut: 0, lost: 0 });
}

#[tokio::test]
async fn each_worker_is_swept() {
    let swept = Arc::new(AtomicUsize::new(0));
    let stacks = Closure {
        answer: |_| text(""),
        swept: swept.clone(),
    };
    let handle = start(settings(), stacks, Readiness::new()).unwrap();
    // The first sweep of each worker comes at once.
    while swept.load(Ordering::Relaxed) < 2 {
        tokio::task::yield_now().await;
    }
    handle.drain();
    joined(handle).await;
}

#[test]
fn a_stack_that_panics_does_not_hang_the_start() {
    struct Bad;
    impl Stacks for Bad {
        type Body = Told;
        type Stack = BoxCloneService<Request<Incoming>, Response<Told>, Infallible>;
        fn stack(&self, _: usize) -> Self::Stack {
            panic!("no stack")
        }
        fn sweep(&self, _: &Self::Stack) {}
    }
    let error = start(settings(), Bad, Readiness::new()).unwrap_err();
    assert!(matches!(error, StartError::Runtime(_)));
}

type Closures = Renewer<BoxCloneService<Request<Incoming>, Response<Told>, Infallible>>;

/// A server whose first stacks say `1`, and what replaces them.
fn renewable(settings: Settings) -> (Handle, Closures) {
    let stacks = Closure {
        answer: |_| text("generation 1"),
        swept: Arc::default(),
    };
    start_renewable(settings, stacks, Readiness::new()).unwrap()
}

/// Puts stacks into force that say this number.
fn renew(renewer: &Closures, number: u64, settings: &Settings) {
    let stack = Closure {
        answer: move |_| text(format!("generation {number}")),
        swept: Arc::default(),
    };
    let stacks = (0..renewer.workers()).map(|worker| stack.stack(worker));
    let before = renewer.renew(stacks.collect(), settings.limits, settings.drain);
    assert_eq!(before.len(), renewer.workers());
}

#[tokio::test]
async fn another_generation_serves_the_next_request_of_every_connection() {
    let settings = settings();
    let (handle, renewer) = renewable(settings.clone());
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(TcpStream::connect(port(&handle)).await.unwrap());
    }
    for number in 1..=5 {
        assert_eq!(renewer.generation(), number);
        // One of them is not used with each generation: it makes a leap.
        for client in clients.iter_mut().skip(usize::from(number == 3)) {
            client.write_all(GET).await.unwrap();
            let answer = until(client, LAST_CHUNK).await;
            assert!(answer.contains(&format!("generation {number}")), "{answer}");
        }
        renew(&renewer, number + 1, &settings);
    }
    handle.drain();
    joined(handle).await;
}

#[tokio::test]
async fn limits_of_another_generation_hold_for_later_connections() {
    let mut settings = settings();
    let (handle, renewer) = renewable(settings.clone());
    let mut before = TcpStream::connect(port(&handle)).await.unwrap();
    before.write_all(GET).await.unwrap();
    until(&mut before, LAST_CHUNK).await;
    settings.limits.headers = 1;
    renew(&renewer, 2, &settings);
    let two = b"GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n\r\n";
    before.write_all(two).await.unwrap();
    assert!(until(&mut before, LAST_CHUNK).await.contains(" 200 "));
    let mut after = TcpStream::connect(port(&handle)).await.unwrap();
    after.write_all(two).await.unwrap();
    let answer = rest(&mut after).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    drop(before);
    handle.drain();
    joined(handle).await;
}

/// The window is that of the generation in force when the drain begins.
#[tokio::test]
async fn the_drain_is_that_of_the_generation_in_force() {
    let mut settings = settings();
    settings.drain.delay = Duration::from_secs(600);
    let (handle, renewer) = renewable(settings.clone());
    settings.drain.delay = Duration::ZERO;
    renew(&renewer, 2, &settings);
    handle.drain();
    assert_eq!(joined(handle).await, Outcome { cut: 0, lost: 0 });
}

/// Nothing of an old generation stays, once its last request has ended and its connections are gone.
#[tokio::test]
async fn an_old_generation_is_freed() {
    let settings = settings();
    let (handle, renewer) = renewable(settings.clone());
    let held = Arc::new(());
    let stack = Closure {
        answer: {
            let held = held.clone();
            move |_| text(format!("generation 2 {}", Arc::strong_count(&held)))
        },
        swept: Arc::default(),
    };
    let stacks: Vec<_> = (0..renewer.workers()).map(|it| stack.stack(it)).collect();
    drop(stack);
    drop(renewer.renew(stacks, settings.limits, settings.drain));
    let mut client = TcpStream::connect(port(&handle)).await.unwrap();
    client.write_all(GET).await.unwrap();
    until(&mut client, LAST_CHUNK).await;
    assert!(Arc::strong_count(&held) > 1);
    renew(&renewer, 3, &settings);
    client.write_all(GET).await.unwrap();
    until(&mut client, LAST_CHUNK).await;
    // A sweep may just be at work.
    while Arc::strong_count(&held) > 1 {
        tokio::task::yield_now().await;
    }
    handle.drain();
    joined(handle).await;
}

/// The runtime of the worker may not have heard of them yet: the kernel has promised them to their clients.
#[tokio::test]
async fn what_waits_to_be_accepted_when_the_drain_begins_is_served() {
    let mut settings = settings();
    settings.workers = 1;
    for round in 0..20 {
        let handle = started(settings.clone(), |_| text("hello"));
        let mut clients = Vec::new();
        for _ in 0..200 {
            let mut client = TcpStream::connect(port(&handle)).await.unwrap();
            client.write_all(GET).await.unwrap();
            clients.push(client);
        }
        handle.drain();
        for client in &mut clients {
            let answer = rest(client).await;
            assert!(answer.ends_with(LAST_CHUNK), "round {round}: {answer:?}");
        }
        assert_eq!(joined(handle).await, Outcome { cut: 0, lost: 0 });
    }
}

#[test]
fn readiness_never_goes_back() {
    let readiness = Readiness::new();
    assert_eq!(readiness.as_str(), "starting");
    readiness.set(handle::DRAINING);
    readiness.set(READY);
    assert_eq!(readiness.as_str(), "draining");
}
