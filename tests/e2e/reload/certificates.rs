//! O08: the listener's certificate is read again; a pair that cannot serve changes nothing.

use std::{net::SocketAddr, path::Path};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;
use tollgate_testing::tls::{Authority, CaPem, Pair};

use super::*;

fn put(folder: &Path, pair: &Pair) {
    fs::write(folder.join("cert.pem"), &pair.cert).expect("written");
    fs::write(folder.join("key.pem"), &pair.key).expect("written");
}

async fn shake(at: SocketAddr, ca: &CaPem) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(at).await?;
    ca.connector(None, &["http/1.1"])
        .connect(at.ip().into(), tcp)
        .await
}

/// One exchange; the connection stays.
async fn served_over(conn: &mut TlsStream<TcpStream>) {
    conn.write_all(&request("POST", CHAT, &[], chat("m", false)))
        .await
        .expect("it takes a request");
    let mut came = Vec::new();
    while !came.ends_with(b"}") {
        assert_ne!(conn.read_buf(&mut came).await.expect("an answer"), 0);
    }
    assert!(came.starts_with(b"HTTP/1.1 200"), "{}", came.escape_ascii());
}

#[tokio::test]
async fn a_certificate_is_read_again() {
    let upstream = Upstream::start().await;
    let folder = tempdir().expect("a folder");
    let (old, new) = (Authority::new(), Authority::new());
    put(folder.path(), &old.issue(&["127.0.0.1"]));
    let path = folder.path().display();
    let text = numbered(&upstream, 1).replace(
        "workers: 2,",
        &format!("workers: 2, tls: {{ cert: \"{path}/cert.pem\", key: \"{path}/key.pem\" }},"),
    );
    let served = Served::start(&text).await;
    let at = served.program.data().await;
    let mut before = shake(at, &old.pem()).await.expect("the first one");
    served_over(&mut before).await;

    // The key of another one, and one whose time is over.
    let mixed = Pair {
        key: new.issue(&["127.0.0.1"]).key,
        ..new.issue(&["127.0.0.1"])
    };
    for pair in [mixed, new.issue_expired(&["127.0.0.1"])] {
        put(folder.path(), &pair);
        let answer = served.reload().await;
        assert_eq!(answer.status(), 400, "{}", shown(&answer));
        let said = answer.text();
        assert!(
            said.contains("server.tls") && said.contains("cert.pem"),
            "{said}"
        );
        assert!(
            shake(at, &old.pem()).await.is_ok(),
            "what was in force stays"
        );
    }

    put(folder.path(), &new.issue(&["127.0.0.1"]));
    assert_eq!(served.reload().await.status(), 200);
    let mut after = shake(at, &new.pem()).await.expect("the new one");
    served_over(&mut after).await;
    assert!(shake(at, &old.pem()).await.is_err());
    served_over(&mut before).await;

    // Without TLS it would be another listener.
    served.write(&numbered(&upstream, 1));
    let said = served.reload().await.text();
    assert!(said.contains("`server.tls` cannot be changed"), "{said}");
    drop((before, after));
    assert_eq!(served.program.terminate().await.code, Some(0));
}
