//! Hang-ups, of every kind, in every state of an answer, over every transport: the provider is let go of at once, and
//! nothing is kept (G5, S03, S25).
//!
//! A client that leaves with a FIN has shut its sending side and no more, so that no later packet of its kernel helps. In
//! one case that cannot be seen: as long as the client's own kernel holds bytes that we do not take, the FIN waits behind
//! them and has not been sent. An upload that waits for its provider comes to that, so the client sends here only what
//! the gateway's kernel takes.

use std::{fs, net::SocketAddr, time::Duration};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, UnixStream},
    time::{Instant, sleep, timeout},
};
use tollgate_testing::{
    client::{Message, call},
    splits::Split,
    upstream::{Framing, Reads, Script, Upstream},
};

use super::CHAT;
use crate::{
    binary::{DEADLINE, until},
    harness::{Ask, Certificates, Stage, cancelled, provider},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Plain,
    Tls,
    Unix,
}

/// Where an answer stands when its client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Its request body is relayed: all that came was taken; or, with bytes behind that, the provider takes no more.
    Upload,
    /// The provider has not answered yet.
    BeforeHead,
    BetweenEvents,
    /// The client takes nothing, and we can write no more.
    Stalled,
    /// Between events, and the gateway is to end.
    Drain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Fin,
    /// TLS says that it ends, and then comes a FIN.
    CloseNotify,
    Reset,
}

/// One cell of the table.
#[derive(Clone, Copy, Debug)]
struct Case {
    transport: Transport,
    state: State,
    /// Bytes wait behind what was taken of the client's.
    pipelined: bool,
    end: End,
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A client over any of the transports.
struct Client {
    stream: Box<dyn Io>,
    /// Another handle on the stream's socket.
    socket: socket2::Socket,
}

// ===== impl Client =====

impl Client {
    async fn open(transport: Transport, stage: &Stage, files: &Certificates, small: bool) -> Self {
        if transport == Transport::Unix {
            let stream = UnixStream::connect(files.path("data.sock"))
                .await
                .expect("somebody listens");
            let socket = SockRef::from(&stream).try_clone().expect("a descriptor");
            return Self {
                stream: Box::new(stream),
                socket,
            };
        }
        let tcp = TcpSocket::new_v4().expect("a socket");
        if small {
            tcp.set_recv_buffer_size(4096).expect("a receive buffer");
        }
        let tcp = tcp.connect(stage.addr()).await.expect("somebody listens");
        let socket = SockRef::from(&tcp).try_clone().expect("a descriptor");
        let stream: Box<dyn Io> = match transport {
            Transport::Tls => Box::new(files.connect(tcp).await),
            _ => Box::new(tcp),
        };
        Self { stream, socket }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("it is taken");
        self.stream.flush().await.expect("it is taken");
    }

    /// Reads until the answer has a body that ends so.
    async fn reads_to(&mut self, end: &[u8]) {
        let mut answer = Message::response("POST");
        let mut bytes = vec![0; 16 * 1024];
        while !answer.body.ends_with(end) {
            let read = timeout(DEADLINE, self.stream.read(&mut bytes)).await;
            let size = read.expect("still waiting").expect("no reset");
            assert!(size > 0, "closed: {}", answer.text());
            answer.feed(&bytes[..size]);
        }
    }

    /// Leaves; what is left must be kept until the gateway has seen it.
    async fn leave(mut self, end: End) -> Option<Self> {
        match end {
            End::Fin => self
                .socket
                .shutdown(std::net::Shutdown::Write)
                .expect("it is connected"),
            End::CloseNotify => self.stream.shutdown().await.expect("it is connected"),
            End::Reset => {
                self.socket
                    .set_linger(Some(Duration::ZERO))
                    .expect("a socket takes options");
                return None;
            }
        }
        Some(self)
    }
}

/// A gateway that is met over this transport.
fn gateway(transport: Transport, files: &Certificates, upstream: &Upstream) -> Stage {
    let tls = match transport {
        Transport::Tls => format!(", {}", files.tls()),
        _ => String::new(),
    };
    let listen = match transport {
        Transport::Unix => format!("unix:{}", files.path("data.sock")),
        _ => "127.0.0.1:0".to_owned(),
    };
    let main = provider("main", "openai", upstream, "/v1", "");
    let yaml = format!("version: 1\nserver: {{ workers: 1{tls} }}\nproviders:\n{main}");
    Stage::start_on(&yaml, &listen)
}

/// What the provider does with a request.
fn script(case: Case) -> Script {
    let head = || Script::new().head(200, &[("content-type", CHAT.kind)], Framing::Chunked);
    match case.state {
        State::Upload if case.pipelined => {
            // It reads nothing, so that it sees only by its own writes that we have gone.
            let says = Script::new().reads(Reads::Head);
            (0..500).fold(says, |says, _| {
                says.raw("HTTP/1.1 102 Processing\r\n\r\n")
                    .sleep(Duration::from_millis(20))
            })
        }
        State::Upload => Script::new().stall().reads(Reads::Beside),
        State::BeforeHead => Script::new().stall(),
        State::BetweenEvents | State::Drain => {
            let events = CHAT.events(2).concat();
            head().body(events).stall()
        }
        State::Stalled => {
            let event = (CHAT.event)(&"a".repeat(16 * 1024));
            let text = event.repeat(1500);
            head().body_in(text, Split::Bytes(16 * 1024)).stall()
        }
    }
}

/// What has passed since the last time is nothing, for a while.
async fn comes_to_a_halt(what: &str, mut count: impl FnMut() -> usize) {
    let (mut last, mut same) = (usize::MAX, 0);
    until(what, async || {
        sleep(Duration::from_millis(10)).await;
        let now = count();
        same = if now == last && now > 0 { same + 1 } else { 0 };
        last = now;
        (same == 12).then_some(())
    })
    .await;
}

/// Brings a new exchange to where its client leaves.
async fn begin(
    case: Case,
    id: &str,
    stage: &Stage,
    files: &Certificates,
    upstream: &Upstream,
) -> Client {
    upstream.serve(id, script(case));
    let mut client = Client::open(case.transport, stage, files, case.state == State::Stalled).await;
    if case.state == State::Upload {
        let ask = Ask {
            headers: &[("content-type", "application/octet-stream")],
            ..Ask::post(id, "/v1/files", b"")
        };
        client.send(&ask.head(31 << 20)).await;
        if !case.pipelined {
            client.send(b"some of it").await;
            upstream
                .wait_for(|seen| seen.of(id).any(|it| it.body == b"some of it"))
                .await;
            return client;
        }
        upload(&mut client, stage).await;
        upstream.wait_for(|seen| seen.attempts(id) == 1).await;
        return client;
    }
    client.send(&CHAT.ask(id).bytes()).await;
    match case.state {
        State::Upload => {}
        State::BeforeHead => {
            upstream
                .wait_for(|seen| seen.of(id).any(|it| it.request_ended.is_some()))
                .await;
        }
        State::BetweenEvents | State::Drain => {
            client.reads_to(CHAT.events(2).concat().as_bytes()).await;
        }
        State::Stalled => {
            let wrote = || upstream.seen(id).first().map_or(0, |it| it.wrote);
            comes_to_a_halt("the provider to be throttled", wrote).await;
            assert!(
                !upstream.seen(id)[0].done,
                "all buffers together have held the answer"
            );
        }
    }
    if case.pipelined {
        client
            .send(b"GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\nG")
            .await;
        // They must have come before the end does, or a reset would outrun them.
        sleep(Duration::from_millis(20)).await;
    }
    client
}

/// Sends of an upload what it takes to bring the gateway to a halt, and no byte that its kernel does not take.
async fn upload(client: &mut Client, stage: &Stage) {
    let own = client
        .socket
        .local_addr()
        .ok()
        .and_then(|own| own.as_socket());
    let Some(own) = own else {
        // The end of a unix socket is seen whatever waits before it.
        let piece = vec![b'x'; CHUNK];
        while let Ok(sent) = timeout(HALT, client.stream.write_all(&piece)).await {
            sent.expect("the gateway has not left");
        }
        return;
    };
    while !stopped(stage.addr(), own).await {
        client.send(&vec![b'x'; CHUNK]).await;
    }
}

const CHUNK: usize = 32 * 1024;

/// A gateway that takes nothing for so long has stopped. On a very busy machine perhaps it has not: then what is shown
/// is less.
const HALT: Duration = Duration::from_millis(100);

/// What the kernel holds of a connection, as the owner of the socket at `own` sees it: bytes not taken yet by the other
/// side, and bytes not read yet by the owner.
fn queues(own: SocketAddr, other: SocketAddr) -> (u64, u64) {
    // The table is read in parts, and what moves in it meanwhile may be missed.
    let found = (0..100).find_map(|_| look_up(own, other));
    found.unwrap_or_else(|| panic!("no connection from {own} to {other}"))
}

fn look_up(own: SocketAddr, other: SocketAddr) -> Option<(u64, u64)> {
    let table = fs::read_to_string("/proc/net/tcp").expect("the kernel's table of connections");
    let port = |field: &str| {
        let (_, port) = field.split_once(':').expect("address:port");
        u16::from_str_radix(port, 16).expect("hexadecimal")
    };
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let ours = (port(fields[1]), port(fields[2])) == (own.port(), other.port());
        let (unsent, unread) = fields[4].split_once(':').expect("two numbers");
        let number = |hex| u64::from_str_radix(hex, 16).expect("hexadecimal");
        ours.then(|| (number(unsent), number(unread)))
    })
}

/// Whether the gateway has stopped reading what `client` sent, all of which has arrived there.
async fn stopped(gateway: SocketAddr, client: SocketAddr) -> bool {
    while queues(client, gateway).0 > 0 {
        sleep(Duration::from_millis(1)).await;
    }
    let since = Instant::now();
    while queues(gateway, client).1 > 0 {
        if since.elapsed() > HALT {
            return true;
        }
        sleep(Duration::from_millis(2)).await;
    }
    false
}

/// The sum of all series that begin so.
async fn gauge(admin: SocketAddr, name: &str) -> u64 {
    let text = call(admin, "GET", "/metrics", &[], "").await.text();
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with(name)).collect();
    assert!(!lines.is_empty(), "{name} is not in {text}");
    let values = lines.iter().map(|line| line.rsplit(' ').next());
    let values = values.map(|value| value.and_then(|value| value.parse::<u64>().ok()));
    values.map(|value| value.expect("a number")).sum()
}

/// One cell: how long the provider has not been told that its client is gone.
async fn hang_up(case: Case, files: &Certificates, upstream: &Upstream) -> Duration {
    let id = format!("{case:?}").replace(|c: char| !c.is_ascii_alphanumeric(), "");
    let stage = gateway(case.transport, files, upstream);
    let client = begin(case, &id, &stage, files, upstream).await;
    if case.state == State::Drain {
        stage.drain();
        let admin = stage.admin();
        until("readiness to go", async || {
            (call(admin, "GET", "/readyz", &[], "").await.status() == 503).then_some(())
        })
        .await;
    }
    let left = Instant::now();
    let rest = client.leave(case.end).await;
    let took = cancelled(upstream, &id, left).await;
    let line = stage.line(&id).await;
    assert_eq!(line["ended"], "client_gone", "{case:?}: {line}");
    let admin = stage.admin();
    for name in [
        "tollgate_requests_in_flight{",
        "tollgate_streams_in_flight{",
        "tollgate_connections{side=\"client\"",
    ] {
        until(name, async || (gauge(admin, name).await == 0).then_some(())).await;
    }
    drop(rest);
    assert_eq!(stage.stop().await, 0, "{case:?}: an answer was cut");
    took
}

fn table() -> Vec<Case> {
    let mut cases = Vec::new();
    for transport in [Transport::Plain, Transport::Tls, Transport::Unix] {
        // A unix socket knows no reset.
        let ends: &[End] = match transport {
            Transport::Plain => &[End::Fin, End::Reset],
            Transport::Tls => &[End::Fin, End::CloseNotify, End::Reset],
            Transport::Unix => &[End::Fin],
        };
        for state in [
            State::Upload,
            State::BeforeHead,
            State::BetweenEvents,
            State::Stalled,
            State::Drain,
        ] {
            for pipelined in [false, true] {
                let case = |&end| Case {
                    transport,
                    state,
                    pipelined,
                    end,
                };
                cases.extend(ends.iter().map(case));
            }
        }
    }
    cases
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hang_up_in_any_state_is_seen_at_once() {
    // An upload comes to a halt soon.
    let upstream = Upstream::start_small(16 * 1024).await;
    let files = Certificates::new();
    let mut all = Vec::new();
    for case in table() {
        all.push((hang_up(case, &files, &upstream).await, case));
    }
    all.sort_by_key(|(took, _)| *took);
    let (median, (most, slowest)) = (all[all.len() / 2].0, all[all.len() - 1]);
    println!(
        "{} hang-ups: median {median:?}, most {most:?} ({slowest:?})",
        all.len()
    );
    // The limit of a single one is that of `cancelled`: the machine may be busy.
    assert!(median <= Duration::from_millis(250), "{median:?}");
}
