//! Cuts of a provider behind TLS: what ends the connection without saying so is no end of a stream.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use tokio::{
    io::{AsyncWriteExt, copy, split},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tollgate_testing::upstream::{Framing, Upstream};

use super::{CHAT, assert_broken};
use crate::harness::{KEY, Stage};

/// What a man in the middle does once its test says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Writes what is no TLS record to the provider, whose TLS answers with an alert and closes.
    Alert,
    /// Closes towards the gateway without the provider's farewell.
    Close,
    /// The same with a record that was begun.
    Torn,
}

/// Passes the bytes of one connection on, until the gate opens.
async fn middle(listener: TcpListener, to: SocketAddr, fault: Fault, gate: Arc<Semaphore>) {
    let (gateway, _) = listener.accept().await.expect("the gateway connects");
    let provider = TcpStream::connect(to).await.expect("the provider listens");
    let ((mut from_gateway, mut to_gateway), (mut from_provider, mut to_provider)) =
        (split(gateway), split(provider));
    tokio::select! {
        _ = copy(&mut from_gateway, &mut to_provider) => return,
        _ = copy(&mut from_provider, &mut to_gateway) => return,
        _ = gate.acquire() => {}
    }
    match fault {
        Fault::Alert => {
            let _ = to_provider.write_all(&[0x17, 3, 3, 0, 32]).await;
            let _ = to_provider.write_all(&[0; 32]).await;
            let _ = copy(&mut from_provider, &mut to_gateway).await;
        }
        Fault::Close => {}
        Fault::Torn => {
            let _ = to_gateway.write_all(&[0x17, 3, 3, 0, 99, 1, 2]).await;
        }
    }
    let _ = to_gateway.shutdown().await;
    let _ = copy(&mut from_gateway, &mut tokio::io::sink()).await;
}

/// S08: TLS alert, close without close_notify, reset; chunked and close-delimited.
#[tokio::test]
async fn a_tls_connection_that_breaks_off_is_a_cut() {
    let (upstream, ca) = Upstream::start_tls().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, &ca.0).expect("a file");
    let mut middles = JoinSet::new();
    let (mut providers, mut routes, mut cases) = (String::new(), String::new(), Vec::new());
    for fault in [Fault::Alert, Fault::Close, Fault::Torn] {
        for framing in [Framing::Chunked, Framing::Close] {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                .await
                .expect("a port");
            let port = listener.local_addr().expect("it is bound").port();
            let gate = Arc::new(Semaphore::new(0));
            middles.spawn(middle(listener, upstream.addr(), fault, Arc::clone(&gate)));
            let name = format!("p{port}");
            providers += &format!(
                "  {name}: {{ dialect: openai, base_url: \"https://127.0.0.1:{port}/v1\", credentials: [{KEY}], tls: {{ ca: \"{}\" }} }}\n",
                file.display()
            );
            routes += &format!(
                "  - {{ name: {name}, match: {{ header: {{ x-to: {name} }} }}, targets: [{name}] }}\n"
            );
            cases.push((fault, framing, name, gate));
        }
    }
    let stage = Stage::start(&format!(
        "version: 1\nproviders:\n{providers}routes:\n{routes}"
    ));
    for (fault, framing, name, gate) in cases {
        let id = format!("tls-{fault:?}-{framing:?}");
        let events = CHAT.events(3);
        upstream.serve(&id, CHAT.stream(framing, &events).stall());
        let mut ask = CHAT.ask(&id);
        let headers = [
            ("content-type", "application/json"),
            ("x-to", name.as_str()),
        ];
        ask.headers = &headers;
        let conn = stage.open(ask.bytes()).await;
        let sent = events.concat();
        assert!(
            conn.until(|answer| answer.body.len() == sent.len()).await,
            "{id}"
        );
        gate.add_permits(1);
        assert_broken(&id, &CHAT, &conn.response().await, sent.as_bytes());
        let line = stage.line(&id).await;
        assert_eq!(line["ended"], "upstream_truncated", "{line}");
        assert_eq!(upstream.attempts(&id), 1);
    }
    stage.stop().await;
}

/// U01: a certificate that nobody vouches for is never accepted, and the caller learns nothing of it but that.
#[tokio::test]
async fn an_unknown_authority_is_refused() {
    let (upstream, _) = Upstream::start_tls().await;
    let (_other, ca) = Upstream::start_tls().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, &ca.0).expect("a file");
    let stage = Stage::start(&format!(
        "version: 1\nproviders:\n  p: {{ dialect: openai, base_url: \"https://127.0.0.1:{}/v1\", credentials: [{KEY}], tls: {{ ca: \"{}\" }} }}\n",
        upstream.port(),
        file.display()
    ));
    let answer = stage.ask(&CHAT.ask("unknown-ca")).await;
    assert_eq!(answer.status(), 502);
    assert_eq!(answer.json()["error"]["code"], "upstream_error");
    let line = stage.line("unknown-ca").await;
    assert_eq!(
        (&line["ended"], &line["error"]),
        (&"upstream_error".into(), &"tls".into()),
        "{line}"
    );
    assert_eq!(line["attempts"][0]["error"], "tls", "{line}");
    assert!(upstream.snapshot().exchanges.is_empty());
    stage.stop().await;
}
