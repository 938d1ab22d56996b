//! Request by request: what the log says that was sent is what a back end has received, whoever wrote that back end.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tempfile::{TempDir, tempdir};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tollgate_testing::{
    client::{Conn, request},
    needs,
};

use super::{config, patience};
use crate::{
    binary::{CHAT, chat, until},
    inside::{self, Inside},
    wire::malformed,
};

const ANSWER: &str =
    r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[]}"#;

/// A request, its method, and whether it is one.
struct Sent {
    bytes: Vec<u8>,
    method: &'static str,
    good: bool,
}

/// All malformed requests of the table, and as many good ones that come close to them.
fn requests() -> Vec<Sent> {
    let mut all: Vec<_> = malformed::all()
        .into_iter()
        .map(|bytes| Sent {
            bytes,
            method: "POST",
            good: false,
        })
        .collect();
    for round in 0..12 {
        let body = chat("m", round % 2 == 0);
        let many: Vec<String> = (0..60 + round).map(|n| format!("x-{n}: {n}\r\n")).collect();
        let large = format!("x-large: {}\r\n", "a".repeat(8000 + round));
        let start = format!("POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\n");
        let length = format!("content-length: {}\r\n\r\n{body}", body.len());
        let chunked = |size: usize| {
            let chunks = body.as_bytes().chunks(size).map(|it| {
                format!(
                    "{:x}\r\n{}\r\n",
                    it.len(),
                    std::str::from_utf8(it).expect("ASCII")
                )
            });
            chunks.collect::<String>() + "0\r\n"
        };
        let te = "transfer-encoding: chunked\r\n\r\n";
        let texts = [
            format!("{start}{length}"),
            format!("\r\n{start}{length}"),
            format!("{start}{}{length}", many.concat()),
            format!("{start}{large}{length}"),
            format!("{start}X-Empty:\r\n{length}"),
            format!("{start}x-spaces: \t a \t \r\n{length}"),
            format!("{start}x-bytes: \u{e9}\u{fc}\r\n{length}"),
            format!("{start}connection: close\r\n{length}"),
            format!("{start}connection: keep-alive, x-hop\r\nx-hop: 1\r\n{length}"),
            format!("{start}{te}{}\r\n", chunked(1 + round)),
            format!("{start}{te}{}\r\n", chunked(1000)),
            format!(
                "{start}Transfer-Encoding: Chunked\r\n\r\n{}\r\n",
                chunked(7)
            ),
            format!("{start}{te}{}x-trailer: 1\r\n\r\n", chunked(9)),
            format!("{start}expect: 100-continue\r\n{length}"),
            format!("POST {CHAT}?a=b&c=%20 HTTP/1.1\r\nHost: 127.0.0.1\r\n{length}"),
            format!("POST {CHAT} HTTP/1.0\r\nhost: 127.0.0.1\r\n{length}"),
        ];
        all.extend(texts.map(|text| Sent {
            bytes: text.into_bytes(),
            method: "POST",
            good: true,
        }));
    }
    all
}

/// Sends all of them, and many good ones on connections that are kept; gives the lines of the log.
async fn lines(backend: SocketAddr) -> Vec<Value> {
    let inside = Inside::start(&inside::config(&config(backend, "")));
    let data = inside.data();
    let all = requests();
    let (good, mut count) = (all.iter().filter(|it| it.good).count(), all.len());
    let mut running = JoinSet::new();
    for Sent {
        bytes,
        method,
        good,
    } in all
    {
        running.spawn(async move {
            let conn = Conn::open(data).await.deadline(patience());
            conn.next(method);
            // One that is refused by its start may be closed before it is sent.
            let _taken = conn.send(&bytes).await;
            let answer = conn.response().await;
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]);
            assert_eq!(
                answer.status() == 200,
                good,
                "{shown}: {} {}",
                answer.status(),
                answer.text()
            );
        });
        if running.len() >= 32 {
            running
                .join_next()
                .await
                .expect("one runs")
                .expect("a request");
        }
    }
    for _ in 0..8 {
        running.spawn(async move {
            let conn = Conn::open(data).await.deadline(patience());
            for _ in 0..10 {
                conn.next("POST");
                conn.send(request("POST", CHAT, &[], chat("m", false)))
                    .await
                    .expect("it is taken");
                assert_eq!(conn.response().await.status(), 200);
            }
        });
    }
    running.join_all().await;
    count += 80;
    let lines = inside.lines(count).await;
    assert_eq!(lines.len(), count);
    let tried = attempts(&lines);
    assert_eq!(tried, good + 80, "attempts in the log");
    assert_eq!(inside.stop().await.lost, 0, "a worker panicked");
    lines
}

/// How many requests the log says were sent; none of these has more than one attempt.
fn attempts(lines: &[Value]) -> usize {
    let attempts = lines
        .iter()
        .map(|line| line["attempts"].as_array().map_or(0, Vec::len));
    attempts.inspect(|count| assert!(*count <= 1)).sum()
}

/// A server of hyper's, which counts.
async fn hyper(counted: Arc<AtomicUsize>) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a free port");
    let addr = listener.local_addr().expect("it is bound");
    let mut accepting = JoinSet::new();
    accepting.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                continue;
            };
            connections.spawn(serve(stream, counted.clone()));
        }
    });
    (addr, accepting)
}

async fn serve(stream: TcpStream, counted: Arc<AtomicUsize>) {
    let service = service_fn(move |req: Request<Incoming>| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            req.into_body().collect().await?;
            let answer = Response::builder().header("content-type", "application/json");
            let answer = answer.body(Full::new(Bytes::from_static(ANSWER.as_bytes())));
            Ok::<_, hyper::Error>(answer.expect("a good answer"))
        }
    });
    // That a peer goes is no failure of this side.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hyper_has_received_what_the_log_says_that_was_sent() {
    let counted = Arc::new(AtomicUsize::new(0));
    let (backend, _accepting) = hyper(counted.clone()).await;
    let lines = lines(backend).await;
    let (sent, received) = (attempts(&lines), counted.load(Ordering::Relaxed));
    println!(
        "{} requests, {sent} sent on, {received} received by hyper",
        lines.len()
    );
    assert_eq!(sent, received);
}

/// Where Debian keeps it, which is not on the path of most users.
const NGINX: &str = "/usr/sbin/nginx";

/// nginx, which is ended and waited for when this is dropped.
struct Nginx {
    child: Child,
    addr: SocketAddr,
    folder: TempDir,
    /// Keeps the port: bound, so that nobody else gets it, and not listening.
    _port: Socket,
}

impl Nginx {
    async fn start() -> Self {
        let port = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        port.set_reuse_port(true).expect("Linux has it");
        port.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
            .expect("a free port");
        let addr = port.local_addr().ok().and_then(|addr| addr.as_socket());
        let addr = addr.expect("a bound socket has an address");
        let folder = tempdir().expect("a temporary folder");
        let at = folder.path().display();
        let text = format!(
            "daemon off; master_process off; worker_processes 1; pid {at}/pid; error_log {at}/errors;\n\
             events {{ worker_connections 512; }}\n\
             http {{\n\
               log_format one '$status $request_method $uri $request_length'; access_log {at}/access one;\n\
               client_body_temp_path {at}/b; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f;\n\
               uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
               large_client_header_buffers 4 64k; default_type application/json;\n\
               server {{ listen {addr} reuseport; location / {{ return 200 '{ANSWER}'; }} }}\n\
             }}\n"
        );
        fs::write(folder.path().join("conf"), text).expect("written");
        let child = Command::new(NGINX)
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(folder.path().join("conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it is there");
        let nginx = Self {
            child,
            addr,
            folder,
            _port: port,
        };
        until("nginx", async || TcpStream::connect(addr).await.ok()).await;
        nginx
    }

    /// The lines of its log of requests.
    fn received(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.path().join("access"));
        text.unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// Lets it end in its own way.
    async fn quit(&mut self) {
        // Not waited for yet, so the id is still its own.
        let id = self.child.id();
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -s QUIT {id}")])
            .status();
        assert!(sent.expect("there is a shell").success());
        until("the end of nginx", async || {
            self.child.try_wait().expect("a child can be asked for")
        })
        .await;
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_has_received_what_the_log_says_that_was_sent() {
    if !needs::program("nginx", || Path::new(NGINX).exists()) {
        return;
    }
    let mut nginx = Nginx::start().await;
    let lines = lines(nginx.addr).await;
    let sent = attempts(&lines);
    until("the log of nginx", async || {
        (nginx.received().len() >= sent).then_some(())
    })
    .await;
    nginx.quit().await;
    let received = nginx.received();
    println!(
        "{} requests, {sent} sent on, {} received by nginx",
        lines.len(),
        received.len()
    );
    let path = format!("200 POST {CHAT} ");
    let other: Vec<_> = received
        .iter()
        .filter(|line| !line.starts_with(&path))
        .collect();
    assert!(other.is_empty(), "{other:#?}");
    assert_eq!(sent, received.len());
}
