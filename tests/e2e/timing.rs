//! Bytes leave at once: no algorithm of the kernel's and no buffer of ours waits for more of them.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep},
};
use tollgate_testing::{
    client::{Conn, request},
    http1::Message,
};

use crate::{
    binary::{CHAT, chat, shown},
    inside::{Inside, config, one},
};

/// The latest arrival that is no wait. A delayed acknowledgement, for which Nagle's algorithm would wait, takes 40 ms.
const LATEST: Duration = Duration::from_millis(20);
const FRAMES: usize = 20;
/// Requests before the measured one: a socket that is new acknowledges at once, and then nothing shows.
const WARM: usize = 20;

/// The one assertion of this project on real time, so it is made of the best of three runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_frame_of_a_warm_connection_waits_for_the_next() {
    let mut latest = Duration::MAX;
    for run in 1..=3 {
        let this = latest_arrival().await;
        println!("run {run}: the latest frame took {this:?}");
        latest = latest.min(this);
        if latest <= LATEST {
            return;
        }
    }
    panic!("a frame came {latest:?} after it was written");
}

/// The longest time between a frame's writing and its arrival.
async fn latest_arrival() -> Duration {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("an address");
    let (tell, mut written) = mpsc::unbounded_channel();
    let mut provider = JoinSet::new();
    provider.spawn(provide(listener, tell));

    let inside = Inside::start(&config(&one(addr, "server: { workers: 1 }")));
    let conn = Conn::open(inside.data()).await;
    for _ in 0..WARM {
        let answer = ask(&conn, false).await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, "{}"));
    }
    let answer = ask(&conn, true).await;
    assert!(answer.whole(), "{}", shown(&answer));
    let mut length = 0;
    let mut latest = Duration::ZERO;
    for _ in 0..FRAMES {
        let (at, size) = written.recv().await.expect("a frame");
        length += size;
        let came = answer.grown.iter().find(|(_, grown)| *grown >= length);
        latest = latest.max(
            came.expect("all of it came")
                .0
                .saturating_duration_since(at),
        );
    }
    latest
}

async fn ask(conn: &Conn, stream: bool) -> Message {
    conn.next("POST");
    conn.send(request("POST", CHAT, &[], chat("m", stream)))
        .await
        .expect("it is taken");
    conn.response().await
}

/// Answers on one connection: a small document, or, to the request behind the warm ones, frames 2 ms apart whose
/// times of writing it tells.
async fn provide(listener: TcpListener, tell: mpsc::UnboundedSender<(Instant, usize)>) {
    let (mut stream, _) = listener.accept().await.expect("a connection");
    stream.set_nodelay(true).expect("a socket takes options");
    for _ in 0..WARM {
        whole_request(&mut stream).await;
        let answer =
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
        stream
            .write_all(answer.as_bytes())
            .await
            .expect("it is taken");
    }
    whole_request(&mut stream).await;
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    stream
        .write_all(head.as_bytes())
        .await
        .expect("it is taken");
    for frame in 1..=FRAMES {
        sleep(Duration::from_millis(2)).await;
        let event = match frame {
            FRAMES => "data: [DONE]\n\n".to_owned(),
            _ => format!(
                "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{frame}\"}}}}]}}\n\n"
            ),
        };
        let at = Instant::now();
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        stream
            .write_all(chunk.as_bytes())
            .await
            .expect("it is taken");
        tell.send((at, event.len())).expect("the test listens");
    }
    stream.write_all(b"0\r\n\r\n").await.expect("it is taken");
    // The gateway keeps the connection; it ends with this task.
    let _ = stream.read(&mut [0; 1]).await;
}

async fn whole_request(stream: &mut TcpStream) {
    let mut request = Message::request();
    let mut bytes = vec![0; 16 * 1024];
    while request.ended.is_none() {
        let size = stream.read(&mut bytes).await.expect("it can be read");
        assert!(size > 0, "the gateway opened another connection");
        request.feed(&bytes[..size]);
    }
}
