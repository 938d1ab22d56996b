//! S12, S13: who reads slowly or not at all costs little, throttles its own provider, and nobody else.

use std::{fs, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tollgate_testing::{
    client::{Conn, Message, call, request},
    splits::Split,
    upstream::{Framing, ID, SCRIPT, Script, Upstream},
};

use super::{patience, program, scale};
use crate::binary::{CHAT, Program, chat};

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

/// So many clients read a stream of small events each; the largest gap that each has seen, the largest last.
async fn healthy(program: &Program, count: usize, expected: &str) -> Vec<Duration> {
    let data = program.data().await;
    let mut running = JoinSet::new();
    for number in 0..count {
        let expected = expected.to_owned();
        running.spawn(async move {
            let conn = Conn::open(data).await.deadline(patience());
            let id = format!("healthy-{number}");
            conn.send(ask(&id, "healthy")).await.expect("it is taken");
            let answer = conn.response().await;
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
async fn warmed(program: &Program, data: SocketAddr) -> u64 {
    for _ in 0..20 {
        let answer = call(data, "POST", CHAT, &[], chat("m", false)).await;
        assert_eq!(answer.status(), 200);
    }
    program.resident()
}

/// S13, with pieces of the size of large events.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_never_read_harm_nobody() {
    crowd(1000, PROMISED).await;
}

/// S13, with the pieces that cost most.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_never_read_large_pieces_harm_nobody() {
    crowd(16 * 1024, PROMISED).await;
}

/// Clients that never read an answer in pieces of this size, beside others that do.
async fn crowd(piece: usize, limit: u64) {
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

    let program = program(upstream.addr(), "slow_reader: 1h").await;
    let data = program.data().await;
    let before = warmed(&program, data).await;
    let mut clients = Vec::new();
    for number in 0..stalled {
        let conn = Conn::open_small(data, 4096).await.deadline(patience());
        conn.pause();
        let id = format!("stalled-{number}");
        conn.send(ask(&id, "stalled")).await.expect("it is taken");
        clients.push(conn);
    }
    let sent = settled(&upstream, "stalled", stalled).await;
    let with = program.resident();
    let beside = healthy(&program, others, &expected).await;
    let crowd = program.resident();
    let seen = upstream.snapshot().exchanges;
    let stuck = seen.iter().filter(|it| it.script == "stalled");
    assert!(
        stuck.clone().count() == stalled && stuck.clone().all(|it| !it.done),
        "all buffers together have held a whole answer: nobody has stalled"
    );
    assert!(
        stuck.clone().all(|it| it.peer_closed.is_none())
            && clients.iter().all(|it| it.lost().is_none()),
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
    last.resume();
    let answer = last.response().await;
    assert!(
        answer.whole() && answer.body == text.as_bytes(),
        "{:?}",
        answer.ended
    );
    drop(last);
    let alone = healthy(&program, others, &expected).await;
    print("beside stalled ones", &beside);
    print("alone", &alone);
    assert!(each <= limit, "{each} KiB for each stalled client");
    assert_eq!(program.terminate().await.code, Some(0));
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
    // Both connections, and what we hold; the kernel doubles the window that it is told.
    let held = kernel(None) + kernel(Some(2 * WINDOW as usize)) + 256 * 1024;
    let text = long(held + (8 << 20));
    let upstream = Upstream::start().await;
    upstream.serve("fast", fast(&text, 16 * 1024));
    let program = program(upstream.addr(), "").await;
    let data = program.data().await;
    let before = warmed(&program, data).await;

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
    // 64 KiB, and what a first stream of this size makes the allocator keep.
    assert!(most <= before + 1024, "{before} KiB before, {most} then");

    while answer.ended.is_none() {
        let read = timeout(patience(), stream.read(&mut bytes)).await;
        match read.expect("still waiting").expect("no reset") {
            0 => answer.finish(false),
            size => answer.feed(&bytes[..size]),
        }
    }
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
