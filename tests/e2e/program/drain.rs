//! O09, O10: the program is asked to end while many streams run and short calls come in. Nothing is lost within the drain
//! window; what outlives it is told so.

use std::{
    fs, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tempfile::tempdir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, timeout},
};
use tollgate_testing::{
    client::{Conn, Message, call, request},
    splits::Split,
    upstream::{Framing, Gate, ID, SCRIPT, Script, Upstream},
};

use crate::{
    binary::{CHAT, DEADLINE, Ended, Program, chat, serve, until},
    endings::{self, APIS, assert_broken},
    load::scale,
};

const DONE: &str = "data: [DONE]\n\n";

/// The program before this provider, whatever the dialect; `drain` are keys of that part.
async fn program(upstream: &Upstream, drain: &str) -> Program {
    let folder = tempdir().expect("a temporary folder");
    let path = folder.path().join("gateway.yaml");
    let server = format!("server: {{ workers: 2, drain: {{ {drain} }} }}");
    fs::write(&path, endings::config(upstream, &server)).expect("written");
    let program = serve(&path).start();
    // The file may go when it has been read.
    program.data().await;
    program
}

/// The request log of a program that has ended.
fn log(ended: &Ended) -> Vec<Value> {
    let lines = ended.out.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect()
}

/// One call on a connection of its own: when it was connected, and whether it was served. None if nobody listens.
async fn short(data: SocketAddr) -> Option<(Instant, bool)> {
    let mut stream = TcpStream::connect(data).await.ok()?;
    let connected = Instant::now();
    let answer = timeout(DEADLINE, exchange(&mut stream)).await;
    let served = answer
        .expect("a call hangs")
        .is_ok_and(|answer| answer.status() == 200 && answer.whole());
    Some((connected, served))
}

async fn exchange(stream: &mut TcpStream) -> io::Result<Message> {
    let headers = [(ID, "short"), (SCRIPT, "short"), ("x-request-id", "short")];
    let bytes = request("POST", CHAT, &headers, chat("m", false));
    stream.write_all(&bytes).await?;
    let mut answer = Message::response("POST");
    let mut bytes = vec![0; 4096];
    while answer.ended.is_none() {
        match stream.read(&mut bytes).await? {
            0 => answer.finish(false),
            size => answer.feed(&bytes[..size]),
        }
    }
    Ok(answer)
}

/// Calls, one after the other, until nobody listens.
async fn calls(data: SocketAddr, count: Arc<AtomicUsize>) -> Vec<(Instant, bool)> {
    let mut made = Vec::new();
    while let Some(call) = short(data).await {
        made.push(call);
        count.fetch_add(1, Ordering::Relaxed);
    }
    made
}

/// O09, with five hundred streams in a long run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_under_load_loses_nothing() {
    const DELAY: Duration = Duration::from_millis(500);
    let count = scale(120, 500);
    let upstream = Upstream::start().await;
    let gate = Gate::new("the drain goes on");
    let events = endings::CHAT.events(2);
    let held = endings::CHAT.stream(Framing::Chunked, &events);
    upstream.serve("held", held.wait(&gate).body(DONE).end());
    upstream.serve("short", Script::chat("hello"));
    let program = program(&upstream, "delay: 500ms, timeout: 30s").await;
    let (data, admin) = (program.data().await, program.admin().await);

    let mut streams = Vec::new();
    for number in 0..count {
        let conn = Conn::open(data).await.deadline(DEADLINE);
        let id = format!("held-{number}");
        let headers = [(ID, &id[..]), (SCRIPT, "held"), ("x-request-id", &id)];
        let bytes = request("POST", CHAT, &headers, chat("m", true));
        conn.send(bytes).await.expect("it is taken");
        streams.push(conn);
    }
    gate.reached(count).await;
    let (made, mut callers) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    for _ in 0..4 {
        callers.spawn(calls(data, made.clone()));
    }
    until("calls", async || {
        (made.load(Ordering::Relaxed) > 50).then_some(())
    })
    .await;

    let asked = Instant::now();
    program.signal("TERM");
    let ready = until("readiness to go", async || {
        let ready = call(admin, "GET", "/readyz", &[], "").await;
        (ready.status() == 503).then(Instant::now)
    })
    .await;
    let made = callers.join_all().await.concat();
    let closed = Instant::now();
    assert!(ready < closed, "it was ready to the end of the delay");
    assert!(
        TcpStream::connect(data).await.is_err(),
        "somebody listens after the delay"
    );
    // The delay began after the signal was asked for.
    let within = made.iter().filter(|(at, _)| *at < asked + DELAY);
    let (late, lost) = (
        within.clone().filter(|(at, _)| *at > asked).count(),
        within.filter(|(_, served)| !served).count(),
    );
    assert!(late > 0, "nobody called during the delay");
    assert_eq!(lost, 0, "calls of {} were not served", made.len());
    assert!(
        streams.iter().all(|conn| conn.message().ended.is_none()),
        "a running stream was ended"
    );

    gate.open_for_all();
    let expected = events.concat() + DONE;
    for conn in &streams {
        let answer = conn.response().await;
        assert!(
            answer.whole() && answer.text() == expected,
            "{:?}: {}",
            answer.ended,
            answer.text()
        );
    }
    let ended = program.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.err.contains("drained cut=0"), "{}", ended.err);
    let (log, served) = (
        log(&ended),
        made.iter().filter(|(_, served)| *served).count(),
    );
    println!(
        "{count} streams and {} calls, {late} of them after the signal; {} calls were too late",
        made.len(),
        made.len() - served
    );
    assert!(log.iter().all(|line| line["ended"] == "complete"));
    let lines = |kind: &str| {
        log.iter()
            .filter(|line| line["request_id"].as_str().unwrap().starts_with(kind))
            .count()
    };
    assert_eq!((lines("held-"), lines("short")), (count, served));
    assert_eq!(upstream.attempts("short"), served);
}

/// O10: the window is over. One of the clients does not even read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_outlives_the_window_is_told_and_the_program_ends_in_time() {
    const WINDOW: Duration = Duration::from_secs(1);
    let upstream = Upstream::start().await;
    let program = program(&upstream, "timeout: 1s").await;
    let data = program.data().await;
    let large = (endings::CHAT.event)(&"a".repeat(16 * 1024)).repeat(1500);
    let kind = [("content-type", "text/event-stream")];
    let flood = Script::new().head(200, &kind, Framing::Chunked);
    upstream.serve(
        "stuck",
        flood.body_in(large, Split::Bytes(16 * 1024)).stall(),
    );
    let stuck = Conn::open_small(data, 4096).await;
    stuck.pause();
    stuck
        .send(endings::CHAT.ask("stuck").bytes())
        .await
        .expect("it is taken");
    upstream
        .wait_for(|seen| seen.of("stuck").any(|it| it.wrote > 1 << 20))
        .await;
    let mut running = Vec::new();
    for number in 0..scale(4, 100) {
        for api in APIS {
            let id = format!("{}-{number}", api.name);
            let events = api.events(3);
            upstream.serve(&id, api.stream(Framing::Chunked, &events).stall());
            let conn = Conn::open(data).await.deadline(DEADLINE);
            conn.send(api.ask(&id).bytes()).await.expect("it is taken");
            running.push((api, id, events.concat(), conn));
        }
    }
    for (_, id, sent, conn) in &running {
        assert!(
            conn.until(|answer| answer.body.len() == sent.len()).await,
            "{id}"
        );
    }

    let asked = Instant::now();
    program.signal("TERM");
    let ended = program.ended().await;
    let took = asked.elapsed();
    println!(
        "{} streams outlived {WINDOW:?}; the program ended after {took:?}",
        running.len() + 1
    );
    assert!(took <= WINDOW + Duration::from_secs(2), "{took:?}");
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(
        ended
            .err
            .contains(&format!("drained cut={}", running.len() + 1)),
        "{}",
        ended.err
    );
    let log = log(&ended);
    let line = |id: &str| {
        let lines: Vec<_> = log.iter().filter(|line| line["request_id"] == id).collect();
        assert_eq!(lines.len(), 1, "lines of {id}");
        assert_eq!(lines[0]["ended"], "drain", "{}", lines[0]);
    };
    for (api, id, sent, conn) in &running {
        assert_broken(id, api, &conn.response().await, sent.as_bytes());
        assert!(upstream.finished(id, 1).await.peer_closed.is_some());
        line(id);
    }
    line("stuck");
    assert_eq!(log.len(), running.len() + 1);
}
