//! S28: a layer that panics while it wraps a body. The stream breaks, its end is told, and nothing else happens.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use serde_json::Value;
use tollgate::{
    config::Config,
    guards::Counts,
    listen::Address,
    server::{self, Drain, Flavor, Greeting, Handle, Limits, Readiness, Settings, Stacks},
    stack::{self, Connectors, Stack},
    telemetry::{
        log::{LogWriter, Sink},
        metrics::{Metrics, Others},
        sink::Told,
    },
};
use tollgate_middleware::body::Room;
use tollgate_testing::{
    client::{Conn, Ended, call, request},
    upstream::{Framing, Gate, ID, SCRIPT, Script, Upstream},
};
use tower_service::Service;

use crate::binary::{CHAT, DEADLINE, chat};

/// What makes the layer of this test fail.
const WORD: &[u8] = b"PANIC";

/// A layer with a bug: its body panics when [`WORD`] passes.
#[derive(Clone, Debug)]
struct Buggy<S>(S);

#[derive(Debug)]
struct BuggyBody<B>(Pin<Box<B>>);

impl<S, R, B> Service<R> for Buggy<S>
where
    S: Service<R, Response = Response<B>, Error = Infallible, Future: Send + 'static>,
{
    type Response = Response<BuggyBody<B>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, req: R) -> Self::Future {
        let answer = self.0.call(req);
        Box::pin(async { Ok(answer.await?.map(|body| BuggyBody(Box::pin(body)))) })
    }
}

impl<B: Body<Data = Bytes>> Body for BuggyBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = self.0.as_mut().poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let data = frame.data_ref().map_or(&[][..], |data| data);
            let found = data.windows(WORD.len()).any(|part| part == WORD);
            assert!(!found, "the bug of this test");
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// The whole stack inside that layer.
struct Wrapped {
    config: Config,
    connectors: Connectors,
    told: Told,
}

impl Stacks for Wrapped {
    type Body = BuggyBody<stack::Body<Told>>;
    type Stack = Buggy<Stack<Told>>;

    fn stack(&self, _: usize) -> Self::Stack {
        Buggy(Stack::new(
            &self.config,
            &self.connectors,
            self.told.clone(),
            Room::new(1 << 30),
            Counts::new(&self.config),
        ))
    }

    fn sweep(&self, stack: &Self::Stack) {
        stack.0.sweep();
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn lines(&self) -> Vec<Value> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = all
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_slice(line).expect("a line"))
            .collect()
    }
}

/// One worker, so that all streams of a test live on one thread.
fn settings() -> Settings {
    Settings {
        listen: vec!["127.0.0.1:0".parse().expect("an address")],
        workers: 1,
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
            timeout: DEADLINE,
        },
    }
}

fn event(words: &str) -> String {
    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{words}\"}}}}]}}\n\n")
}

/// An answer in this framing that is well until the gate is passed, and never ends by itself.
fn doomed(framing: Framing, gate: &Gate) -> Script {
    let script = Script::new().head(200, &[("content-type", "text/event-stream")], framing);
    let script = script.body(event("well")).wait(gate);
    script.body(event("PANIC")).stall()
}

/// A running server with that layer.
struct Running {
    handle: Handle,
    data: SocketAddr,
    log: Log,
    writer: LogWriter,
    metrics: Metrics,
}

impl Running {
    fn start(upstream: &Upstream) -> Self {
        let config = crate::inside::config(&super::config(upstream.addr(), ""));
        let connectors = Connectors::new(&config).expect("no certificates");
        let log = Log::default();
        let writer = LogWriter::new(Sink::writer(log.clone()), 1).expect("a thread");
        let metrics = Metrics::new(1);
        let view = metrics.view(&["all".to_owned()], 1000, []);
        let told = Told::new(writer.lines(0), metrics.counters(0, &view), 1);
        let wrapped = Wrapped {
            config,
            connectors,
            told,
        };
        let handle = server::start(settings(), wrapped, Readiness::new()).expect("a server");
        let data = handle.addresses().first().and_then(Address::socket_addr);
        Self {
            data: data.expect("a TCP address"),
            handle,
            log,
            writer,
            metrics,
        }
    }

    /// Drains; gives the lines of the log and the metrics.
    async fn stop(self) -> (Vec<Value>, String) {
        let handle = self.handle;
        handle.drain();
        let stopped = tokio::task::spawn_blocking(|| handle.join()).await;
        let outcome = stopped.expect("no panic");
        assert_eq!(
            (outcome.cut, outcome.lost),
            (0, 0),
            "streams left behind, workers lost"
        );
        self.writer.flush();
        let page = self.metrics.scrape(Others {
            log_lines_dropped: self.writer.dropped(),
            webhook_events_dropped: 0,
            generation: 1,
            ..Others::default()
        });
        (self.log.lines(), page)
    }
}

#[tokio::test]
async fn a_panic_in_a_body_breaks_its_stream_and_nothing_else() {
    let upstream = Upstream::start().await;
    let running = Running::start(&upstream);
    let data = running.data;
    let open = async |id: &str| {
        let conn = Conn::open(data).await.deadline(DEADLINE);
        let headers = [("x-request-id", id), (ID, id), (SCRIPT, id)];
        conn.send(request("POST", CHAT, &headers, chat("m", true)))
            .await
            .expect("it is taken");
        assert!(
            conn.until(|answer| answer.body == event("well").as_bytes())
                .await,
            "{id}"
        );
        conn
    };

    // Another stream on the same thread, from before the first panic until after the last one.
    let calm = Gate::new("calm");
    let script = Script::events([event("well")]).wait(&calm);
    upstream.serve(
        "other",
        script.body(event("more")).body("data: [DONE]\n\n").end(),
    );
    let other = open("other").await;

    let framings = [
        ("chunked", Framing::Chunked),
        ("length", Framing::Length(Some(99_999))),
        ("close", Framing::Close),
    ];
    for (id, framing) in framings {
        let gate = Gate::new(id);
        upstream.serve(id, doomed(framing, &gate));
        let conn = open(id).await;
        gate.open();
        let answer = conn.response().await;
        assert!(
            matches!(answer.ended, Some(Ended::Cut | Ended::Reset)),
            "{id}: a clean end: {:?}",
            answer.ended
        );
        assert_eq!(answer.text(), event("well"), "{id}");
        conn.closed().await;
        let seen = upstream.finished(id, 1).await;
        assert!(seen.peer_closed.is_some(), "{id}: the provider sends on");
        // The thread serves on.
        let next = call(
            data,
            "POST",
            CHAT,
            &[("x-request-id", "next")],
            chat("m", false),
        )
        .await;
        assert_eq!(next.status(), 200, "after {id}");
        assert!(other.lost().is_none(), "{id} has ended another stream");
    }
    calm.open();
    let answer = other.response().await;
    assert!(answer.whole(), "{:?}", answer.ended);
    assert_eq!(
        answer.text(),
        event("well") + &event("more") + "data: [DONE]\n\n"
    );
    drop(other);

    let (lines, page) = running.stop().await;
    assert_eq!(lines.len(), 7, "{lines:#?}");
    for line in &lines {
        let id = line["request_id"].as_str().expect("a name");
        let ended = if framings.iter().any(|it| it.0 == id) {
            "internal"
        } else {
            "complete"
        };
        assert_eq!(line["ended"], ended, "{line}");
    }
    assert!(
        page.contains("tollgate_requests_in_flight{route=\"\"} 0\n"),
        "a guard has not fired: {page}"
    );
}

/// An answer that ends with its connection has a clean end only where it is whole: a reset says that it is not.
#[tokio::test]
async fn a_panic_is_no_clean_end_for_an_old_client_either() {
    let upstream = Upstream::start().await;
    let running = Running::start(&upstream);
    let gate = Gate::new("old");
    upstream.serve("old", doomed(Framing::Chunked, &gate));
    let conn = Conn::open(running.data).await.deadline(DEADLINE);
    let headers = [("x-request-id", "old"), (ID, "old"), (SCRIPT, "old")];
    let bytes = request("POST", CHAT, &headers, chat("m", true));
    let text = String::from_utf8(bytes).expect("text");
    let old = text.replacen("HTTP/1.1", "HTTP/1.0", 1);
    conn.send(old).await.expect("it is taken");
    let well = event("well");
    assert!(
        conn.until(|answer| answer.body == well.as_bytes()).await,
        "no answer"
    );
    gate.open();
    assert_eq!(conn.response().await.ended, Some(Ended::Reset));
    let (lines, _) = running.stop().await;
    assert!(
        lines.len() == 1 && lines[0]["ended"] == "internal",
        "{lines:#?}"
    );
}
