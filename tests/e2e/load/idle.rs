//! R12: connections on which nothing goes on.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;
use tollgate_testing::{
    client::{Conn, call, request},
    long,
    upstream::Upstream,
};

use super::{program, program_tls, scale};
use crate::{
    binary::{Program, until},
    harness::Certificates,
};

/// KiB that a connection may cost: one that was never used, and one that has had a request. A debug build keeps twice
/// as much.
const NEVER_USED: u64 = if cfg!(debug_assertions) { 8 } else { 4 };
const USED: u64 = if cfg!(debug_assertions) { 48 } else { 24 };
/// One that has had a large body: much less than the 512 KiB that such a body is read by. Freed memory is given back late,
/// which counts among few connections.
const LARGE: u64 = 128;
/// What TLS may add to either.
const TLS: u64 = 8;

const WAIT: &str = "head_timeout: 120s";

async fn all_open(program: &Program, count: usize) {
    let admin = program.admin().await;
    until("all of them", async || {
        let page = call(admin, "GET", "/metrics", &[], "").await;
        let open = format!("tollgate_connections{{side=\"client\"}} {count}\n");
        page.text().contains(&open).then_some(())
    })
    .await;
}

/// What is kept of one that never spoke is its task and its socket; HTTP is made when the first byte comes, and is kept
/// afterwards.
#[tokio::test]
async fn a_connection_that_says_nothing_costs_little() {
    let count = scale(400, 9000);
    let upstream = Upstream::start().await;
    let program = program(upstream.addr(), WAIT).await;
    let data = program.data().await;
    let root = request("GET", "/", &[], b"");
    for _ in 0..50 {
        let conn = Conn::open(data).await;
        conn.send(&root).await.unwrap();
        assert_eq!(conn.response().await.status(), 200);
        conn.close().await;
    }
    let before = program.resident();
    let mut conns = Vec::new();
    for _ in 0..count {
        conns.push(Conn::open(data).await);
    }
    all_open(&program, count).await;
    let fresh = program.resident();
    let share = program
        .share(Duration::from_secs(scale(2, 20) as u64))
        .await;
    for conn in &conns {
        conn.next("GET");
        conn.send(&root).await.unwrap();
    }
    for conn in &conns {
        assert_eq!(conn.response().await.status(), 200);
    }
    let used = program.resident();
    let each = |now: u64| now.saturating_sub(before) / count as u64;
    println!(
        "{count} connections: {} KiB each that was never used, {} KiB after a request; idle {:.2} % of a processor",
        each(fresh),
        each(used),
        100.0 * share
    );
    assert!(each(fresh) <= NEVER_USED, "{} KiB each", each(fresh));
    assert!(each(used) <= USED, "{} KiB each", each(used));
    // It is told in hundredths of a second: in a short run one of them is half a percent.
    let most = if long() { 0.01 } else { 0.02 };
    assert!(share < most, "{share}");
    drop(conns);
    assert_eq!(program.terminate().await.code, Some(0));
}

/// A large body is read in large pieces; between two requests nothing of the room for them is kept.
#[tokio::test]
async fn a_connection_that_has_had_a_large_body_costs_no_more() {
    let count = scale(100, 1000);
    let upstream = Upstream::start().await;
    let program = program(upstream.addr(), WAIT).await;
    let data = program.data().await;
    let words = "x".repeat(2 << 20);
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{words}"}}]}}"#);
    let json = ("content-type", "application/json");
    let large = request("POST", "/v1/chat/completions", &[json], body.as_bytes());
    let ask = async || {
        let conn = Conn::open(data).await;
        conn.send(&large).await.unwrap();
        assert_eq!(conn.response().await.status(), 200);
        conn
    };
    for _ in 0..10 {
        ask().await.close().await;
    }
    let before = program.resident();
    let mut conns = Vec::new();
    for _ in 0..count {
        conns.push(ask().await);
    }
    let each = program.resident().saturating_sub(before) / count as u64;
    println!("{count} connections: {each} KiB each after a body of 2 MiB");
    assert!(each <= LARGE, "{each} KiB each");
    // They are of use still.
    for conn in &conns {
        conn.next("POST");
        conn.send(&large).await.unwrap();
        assert_eq!(conn.response().await.status(), 200);
    }
    drop(conns);
    assert_eq!(program.terminate().await.code, Some(0));
}

async fn ask(conn: &mut TlsStream<TcpStream>) {
    let root = request("GET", "/", &[], b"");
    conn.write_all(&root).await.expect("it is taken");
    let mut bytes = [0; 4096];
    let size = conn.read(&mut bytes).await.expect("an answer");
    assert!(bytes[..size].starts_with(b"HTTP/1.1 200 "));
}

async fn connect(data: SocketAddr, files: &Certificates) -> TlsStream<TcpStream> {
    let tcp = TcpStream::connect(data).await.expect("it listens");
    files.connect(tcp).await
}

/// TLS has its own cost.
#[tokio::test]
async fn a_connection_over_tls_that_says_nothing_costs_little_more() {
    let count = scale(200, 2000);
    let (upstream, files) = (Upstream::start().await, Certificates::new());
    let program = program_tls(upstream.addr(), WAIT, &files).await;
    let data = program.data().await;
    for _ in 0..50 {
        ask(&mut connect(data, &files).await).await;
    }
    all_open(&program, 0).await;
    let before = program.resident();
    let mut conns = Vec::new();
    for _ in 0..count {
        conns.push(connect(data, &files).await);
    }
    all_open(&program, count).await;
    let fresh = program.resident();
    for conn in &mut conns {
        ask(conn).await;
    }
    let used = program.resident();
    let each = |kib: u64| kib.saturating_sub(before) / count as u64;
    println!(
        "{count} connections over TLS: {} KiB each that was never used, {} KiB after a request",
        each(fresh),
        each(used)
    );
    assert!(each(fresh) <= NEVER_USED + TLS, "{} KiB", each(fresh));
    assert!(each(used) <= USED + TLS, "{} KiB", each(used));
    drop(conns);
    assert_eq!(program.terminate().await.code, Some(0));
}
