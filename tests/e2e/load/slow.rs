//! S12, S13: who reads slowly or not at all costs little, throttles its own provider, and nobody else.

use std::{fs, net::SocketAddr, pin::Pin, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::client::TlsStream;
use tollgate_testing::{
    client::{Conn, Message, request},
    splits::Split,
    upstream::{Framing, ID, SCRIPT, Script, Upstream},
};

use super::{patience, program, program_tls, scale};
use crate::{
    binary::{CHAT, Program, chat},
    harness::Certificates,
};

/// KiB of ours that a stalled client may cost: what is promised.
const PROMISED: u64 = 128;
const KIND: (&str, &str) = ("content-type", "text/event-stream");

/// One event.
fn event(number: usize) -> String {
    format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"word {number} \"}}}}]}}\n\n"
    )
}

/// Events up to about this size, of which no two are alike, and the end of a stream of them.
fn long(size: usize) -> String {
    let mut text = String::with_capacity(size + 1000);
    for number in 0.. {
        if text.len() >= size {
            break;
        }
        text.push_str(&event(number));
    }
    text + DONE
}

const DONE: &str = "data: [DONE]\n\n";

/// A whole stream of this text, sent in pieces of this size as fast as it is taken.
fn fast(text: &str, piece: usize) -> Script {
    let script = Script::new().head(200, &[KIND], Framing::Chunked);
    script.body_in(text.to_owned(), Split::Bytes(piece)).end()
}

fn ask(id: &str, script: &str) -> Vec<u8> {
    let headers = [("x-request-id", id), (ID, id), (SCRIPT, script)];
    request("POST", CHAT, &headers, chat("m", true))
}

/// All that the provider's sockets took for requests of this script, as soon as it grows no more.
async fn settled(upstream: &Upstream, script: &str, count: usize) -> usize {
    let (mut last, mut same) = (0, 0);
    let began = Instant::now();
    while same < 4 {
        assert!(
            began.elapsed() < patience(),
            "the provider is not throttled"
        );
        sleep(Duration::from_millis(150)).await;
        let seen = upstream.snapshot();
        let all = seen.exchanges.iter().filter(|it| it.script == script);
        let (begun, sent) = all.fold((0, 0), |(begun, sent), it| (begun + 1, sent + it.wrote));
        same = if begun == count && sent == last {
            same + 1
        } else {
            0
        };
        last = sent;
    }
    last
}

/// A client that has sent this request, and reads its answer when it is waited for.
async fn client(
    data: SocketAddr,
    files: Option<&Certificates>,
    request: Vec<u8>,
) -> Pin<Box<dyn Future<Output = Message> + Send>> {
    let Some(files) = files else {
        return Box::pin(async move {
            let conn = Conn::open(data).await.deadline(patience());
            conn.send(request).await.expect("it is taken");
            conn.response().await
        });
    };
    let tcp = TcpStream::connect(data).await.expect("a connection");
    let mut tls = files.connect(tcp).await;
    Box::pin(async move {
        tls.write_all(&request).await.expect("it is taken");
        tls.flush().await.expect("it is taken");
        rest(&mut tls, Message::response("POST")).await
    })
}

/// So many clients read a stream of small events each; the largest gap that each has seen, the largest last.
async fn healthy(
    data: SocketAddr,
    files: Option<&Certificates>,
    count: usize,
    expected: &str,
) -> Vec<Duration> {
    let mut running = JoinSet::new();
    for number in 0..count {
        let (id, expected) = (format!("healthy-{number}"), expected.to_owned());
        let client = client(data, files, ask(&id, "healthy")).await;
        running.spawn(async move {
            let answer = client.await;
            assert!(
                answer.status() == 200 && answer.whole() && answer.text() == expected,
                "{id}: {} {:?} {}",
                answer.status(),
                answer.ended,
                answer.body.len()
            );
            let times = answer.grown.windows(2).map(|pair| pair[1].0 - pair[0].0);
            times.max().expect("many pieces")
        });
    }
    let mut gaps = running.join_all().await;
    gaps.sort_unstable();
    gaps
}

fn print(what: &str, gaps: &[Duration]) {
    let at = |part: usize| gaps[(gaps.len() - 1) * part / 100];
    println!(
        "healthy clients {what}: largest gap of each: median {:?}, 99th of a hundred {:?}, most {:?}",
        at(50),
        at(99),
        at(100)
    );
}

/// KiB of the program when it has made what it makes once.
async fn warmed(program: &Program, data: SocketAddr, files: Option<&Certificates>) -> u64 {
    for _ in 0..20 {
        let bytes = request("POST", CHAT, &[], chat("m", false));
        let answer = client(data, files, bytes).await.await;
        assert_eq!(answer.status(), 200);
    }
    program.resident()
}

/// S13, with pieces of the size of large events.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_never_read_harm_nobody() {
    crowd(1000, None).await;
}

/// S13, with the pieces that cost most.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_never_read_large_pieces_harm_nobody() {
    crowd(16 * 1024, None).await;
}

/// S13 over TLS, which has a buffer of its own, with the pieces that cost most.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_never_read_over_tls_harm_nobody() {
    crowd(16 * 1024, Some(Certificates::new())).await;
}

/// A client that does not read.
enum Stalled {
    Plain(Conn),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stalled {
    async fn open(data: SocketAddr, files: Option<&Certificates>, id: &str) -> Self {
        let request = ask(id, "stalled");
        let Some(files) = files else {
            let conn = Conn::open_small(data, 4096).await.deadline(patience());
            conn.pause();
            conn.send(request).await.expect("it is taken");
            return Self::Plain(conn);
        };
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a receive buffer");
        let tcp = socket.connect(data).await.expect("a connection");
        let mut tls = files.connect(tcp).await;
        tls.write_all(&request).await.expect("it is taken");
        tls.flush().await.expect("it is taken");
        Self::Tls(Box::new(tls))
    }

    fn is_lost(&self) -> bool {
        // What is not read is not known, over TLS.
        matches!(self, Self::Plain(conn) if conn.lost().is_some())
    }

    /// Reads on, and gives the answer.
    async fn resume(self) -> Message {
        match self {
            Self::Plain(conn) => {
                conn.resume();
                conn.response().await
            }
            Self::Tls(mut tls) => rest(&mut tls, Message::response("POST")).await,
        }
    }
}

/// Reads an answer to its end.
async fn rest(stream: &mut (impl AsyncRead + Unpin), mut answer: Message) -> Message {
    let mut bytes = vec![0; 256 * 1024];
    while answer.ended.is_none() {
        let read = timeout(patience(), stream.read(&mut bytes)).await;
        match read.expect("still waiting").expect("no reset") {
            0 => answer.finish(false),
            size => answer.feed(&bytes[..size]),
        }
    }
    answer
}

/// Clients that never read an answer in pieces of this size, beside others that do.
async fn crowd(piece: usize, files: Option<Certificates>) {
    let (stalled, others) = (scale(100, 1000), scale(100, 1000));
    // More than all buffers on the way of a client with a small window.
    let text = long(24 << 20);
    let events: Vec<String> = (0..40).map(event).collect();
    let expected = events.concat() + DONE;
    let upstream = Upstream::start().await;
    upstream.serve("stalled", fast(&text, piece));
    let paced = events.iter().fold(
        Script::new().head(200, &[KIND], Framing::Chunked),
        |script, event| script.body(event.clone()).sleep(Duration::from_millis(25)),
    );
    upstream.serve("healthy", paced.body(DONE).end());

    let (program, files) = (
        match &files {
            None => program(upstream.addr(), "slow_reader: 1h").await,
            Some(files) => program_tls(upstream.addr(), "slow_reader: 1h", files).await,
        },
        files.as_ref(),
    );
    let data = program.data().await;
    let before = warmed(&program, data, files).await;
    let mut clients = Vec::new();
    for number in 0..stalled {
        let id = format!("stalled-{number}");
        clients.push(Stalled::open(data, files, &id).await);
    }
    let sent = settled(&upstream, "stalled", stalled).await;
    let with = program.resident();
    let beside = healthy(data, files, others, &expected).await;
    let crowd = program.resident();
    let seen = upstream.snapshot().exchanges;
    let stuck = seen.iter().filter(|it| it.script == "stalled");
    assert!(
        stuck.clone().count() == stalled && stuck.clone().all(|it| !it.done),
        "all buffers together have held a whole answer: nobody has stalled"
    );
    assert!(
        stuck.clone().all(|it| it.peer_closed.is_none()) && clients.iter().all(|it| !it.is_lost()),
        "a stalled stream was cut"
    );
    let each = with.saturating_sub(before) / stalled as u64;
    println!(
        "{stalled} clients that never read pieces of {piece} bytes: {each} KiB of ours each ({before} KiB before, {with} with them, {crowd} after \
         {others} healthy ones beside them); each of their providers has sent {} KiB",
        sent / stalled / 1024
    );

    // They were stalled and not forgotten: one reads on, and has all.
    let last = clients.pop().expect("many");
    drop(clients);
    let answer = last.resume().await;
    assert!(
        answer.whole() && answer.body == text.as_bytes(),
        "{:?}",
        answer.ended
    );
    let alone = healthy(data, files, others, &expected).await;
    print("beside stalled ones", &beside);
    print("alone", &alone);
    assert!(each <= PROMISED, "{each} KiB for each stalled client");
    assert_eq!(program.terminate().await.code, Some(0));
}

/// KiB that each client costs which does not read, with these limits.
async fn stalled(limits: &str) -> u64 {
    const COUNT: usize = 40;
    let upstream = Upstream::start().await;
    upstream.serve("stalled", fast(&long(24 << 20), 16 * 1024));
    let program = program(upstream.addr(), limits).await;
    let data = program.data().await;
    let before = warmed(&program, data, None).await;
    let mut clients = Vec::new();
    for number in 0..COUNT {
        clients.push(Stalled::open(data, None, &format!("stalled-{number}")).await);
    }
    settled(&upstream, "stalled", COUNT).await;
    let each = program.resident().saturating_sub(before) / COUNT as u64;
    assert!(clients.iter().all(|it| !it.is_lost()));
    each
}

/// L7.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_for_a_client_is_as_much_as_the_file_says() {
    let (usual, more) = (stalled("").await, stalled("buffer: 512KiB").await);
    println!("a stalled client costs {usual} KiB with a buffer of 64 KiB, {more} with 512 KiB");
    assert!(more >= usual + 96, "{usual} and {more} KiB");
}

/// The most that the kernel holds in one direction of a connection: what is sent and not received, and what is received
/// and not read.
fn kernel(received: Option<usize>) -> usize {
    let most = |name: &str| -> usize {
        let text = fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).expect("Linux has it");
        let most = text.split_whitespace().next_back().map(str::parse);
        most.expect("three numbers").expect("a number")
    };
    most("tcp_wmem") + received.unwrap_or_else(|| most("tcp_rmem"))
}

/// S12.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_throttles_its_provider_and_has_every_byte() {
    const WINDOW: u32 = 64 * 1024;
    /// Read four times a second: 64 KiB/s.
    const PIECE: usize = 16 * 1024;
    /// KiB: three runs took 150 to 210 in all.
    const CONSTANT: u64 = 320;
    // Both connections, and what we hold; the kernel doubles the window that it is told.
    let held = kernel(None) + kernel(Some(2 * WINDOW as usize)) + 256 * 1024;
    let text = long(held + (8 << 20));
    let upstream = Upstream::start().await;
    upstream.serve("fast", fast(&text, 16 * 1024));
    let program = program(upstream.addr(), "").await;
    let data = program.data().await;
    let before = warmed(&program, data, None).await;

    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .set_recv_buffer_size(WINDOW)
        .expect("a receive buffer");
    let mut stream = socket.connect(data).await.expect("a connection");
    stream
        .write_all(&ask("slow", "fast"))
        .await
        .expect("it is taken");
    let mut answer = Message::response("POST");
    let (mut bytes, mut most) = (vec![0; 256 * 1024], 0);
    let began = Instant::now();
    for turn in 0..scale(16, 120) {
        let size = stream.read(&mut bytes[..PIECE]).await.expect("it goes on");
        assert!(size > 0, "closed after {turn} reads");
        answer.feed(&bytes[..size]);
        sleep(Duration::from_millis(250)).await;
        let seen = upstream.seen("slow");
        let ahead = seen[0].wrote - answer.body.len();
        assert!(
            !seen[0].done && ahead <= held,
            "{ahead} bytes are on the way"
        );
        most = most.max(program.resident());
    }
    let (sent, had) = (upstream.seen("slow")[0].wrote, answer.body.len());
    println!(
        "a slow client has read {} KiB in {:?}; its provider has sent {} KiB of {}; we took {} KiB more",
        had / 1024,
        began.elapsed(),
        sent / 1024,
        text.len() / 1024,
        most.saturating_sub(before)
    );
    // 64 KiB of ours, and what a first stream of this size makes the allocator keep.
    assert!(
        most <= before + 64 + CONSTANT,
        "{before} KiB before, {most} then"
    );

    let answer = rest(&mut stream, answer).await;
    assert!(answer.whole(), "{:?}", answer.ended);
    assert!(
        answer.body == text.as_bytes(),
        "{} of {} bytes",
        answer.body.len(),
        text.len()
    );
    drop(stream);
    let ended = program.terminate().await;
    assert_eq!(ended.code, Some(0));
    let lines = ended.out.lines().filter(|line| line.contains("\"slow\""));
    let lines: Vec<serde_json::Value> = lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        lines.len() == 1 && lines[0]["ended"] == "complete" && lines[0]["bytes_out"] == text.len(),
        "{lines:?}"
    );
}
