//! A client that leaves while its upload waits for a provider that does not read.

use std::{fs, io, net::SocketAddr, time::Duration};

use socket2::SockRef;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::Instant};
use tollgate_testing::{
    tls::Authority,
    upstream::{Reads, Script, Upstream},
};

use super::stage;
use crate::harness::{Ask, Stage, leave, provider};

const CHUNK: usize = 32 * 1024;

/// What the kernel holds of a connection, as the owner of the socket at `own` sees it: bytes not taken yet by the other
/// side, and bytes not read yet by the owner.
fn queues(own: SocketAddr, other: SocketAddr) -> (u64, u64) {
    let table = fs::read_to_string("/proc/net/tcp").expect("the kernel's table of connections");
    let port = |field: &str| {
        let (_, port) = field.split_once(':').expect("address:port");
        u16::from_str_radix(port, 16).expect("hexadecimal")
    };
    for line in table.lines().skip(1) {
        let fields: Vec<_> = line.split_whitespace().collect();
        if (port(fields[1]), port(fields[2])) == (own.port(), other.port()) {
            let (unsent, unread) = fields[4].split_once(':').expect("two numbers");
            let number = |hex| u64::from_str_radix(hex, 16).expect("hexadecimal");
            return (number(unsent), number(unread));
        }
    }
    panic!("no connection from {own} to {other}");
}

/// Whether the gateway has stopped reading what `client` sent, all of which has arrived there.
async fn stopped(gateway: SocketAddr, client: SocketAddr) -> bool {
    while queues(client, gateway).0 > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let since = Instant::now();
    while queues(gateway, client).1 > 0 {
        if since.elapsed() > Duration::from_millis(200) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    false
}

/// Begins an upload of 31 MiB and sends of it what it takes to bring the gateway to a halt.
async fn begin(
    stage: &Stage,
    id: &str,
    client: SocketAddr,
    mut send: impl AsyncFnMut(Vec<u8>) -> io::Result<()>,
) {
    let ask = Ask {
        headers: &[("content-type", "application/octet-stream")],
        ..Ask::post(id, "/v1/files", b"")
    };
    let alive = "the gateway has not left";
    send(ask.head(31 << 20)).await.expect(alive);
    while !stopped(stage.addr(), client).await {
        send(vec![b'x'; CHUNK]).await.expect(alive);
    }
}

fn assert_gone(line: &serde_json::Value) {
    assert_eq!(
        (&line["ended"], &line["status"]),
        (&"client_gone".into(), &serde_json::Value::Null),
        "{line}"
    );
}

/// A provider that takes the head of a request and nothing more.
fn reads_nothing(upstream: &Upstream) {
    upstream.serve_default(Script::new().stall().reads(Reads::Head));
}

/// S25, R01: HTTP reads nothing then, so it does not see the end; and bytes of the upload wait before it.
#[tokio::test]
async fn a_hang_up_behind_an_upload_that_waits_is_seen() {
    let (stage, upstream) = stage("workers: 1").await;
    reads_nothing(&upstream);
    for reset in [false, true] {
        let id = format!("reset-{reset}");
        let conn = stage.connect().await;
        let client = conn.local_addr();
        begin(&stage, &id, client, async |bytes| conn.send(bytes).await).await;
        assert_eq!(upstream.attempts(&id), 1);
        let left = leave(conn, reset).await;
        assert_gone(&stage.line(&id).await);
        println!("{id}: seen after {:?}", left.elapsed());
    }
    stage.stop().await;
}

#[tokio::test]
async fn a_hang_up_behind_an_upload_that_waits_is_seen_over_tls() {
    let upstream = Upstream::start().await;
    reads_nothing(&upstream);
    let (folder, authority) = (tempfile::tempdir().expect("a folder"), Authority::new());
    let put = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a file");
        path
    };
    let pair = authority.issue(&["127.0.0.1"]);
    let stage = Stage::start(&format!(
        "version: 1\nserver: {{ tls: {{ cert: \"{}\", key: \"{}\" }} }}\nproviders:\n{}",
        put("cert.pem", &pair.cert).display(),
        put("key.pem", &pair.key).display(),
        provider("main", "openai", &upstream, "/v1", "")
    ));
    let connector = authority.pem().connector(None, &["http/1.1"]);
    for end in ["close-notify", "fin", "reset"] {
        let tcp = TcpStream::connect(stage.addr()).await.unwrap();
        let client = tcp.local_addr().unwrap();
        let mut tls = connector
            .connect(stage.addr().ip().into(), tcp)
            .await
            .unwrap();
        begin(&stage, end, client, async |bytes| {
            tls.write_all(&bytes).await?;
            tls.flush().await
        })
        .await;
        assert_eq!(upstream.attempts(end), 1);
        let left = Instant::now();
        let tcp = SockRef::from(tls.get_ref().0);
        match end {
            "close-notify" => tls.shutdown().await.unwrap(),
            "fin" => tcp.shutdown(std::net::Shutdown::Write).unwrap(),
            _ => tcp.set_linger(Some(Duration::ZERO)).unwrap(),
        }
        if end == "reset" {
            drop(tls);
        }
        assert_gone(&stage.line(end).await);
        println!("{end}: seen after {:?}", left.elapsed());
    }
    stage.stop().await;
}
