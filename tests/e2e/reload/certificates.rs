//! O08: the files of TLS are read again, on both sides: certificates, keys, and whom to trust. What cannot serve changes
//! nothing.

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
    let came = exchange(conn).await.expect("an answer");
    assert!(came.starts_with(b"HTTP/1.1 200"), "{}", came.escape_ascii());
}

/// The answer to one request.
async fn exchange(conn: &mut TlsStream<TcpStream>) -> std::io::Result<Vec<u8>> {
    conn.write_all(&request("POST", CHAT, &[], chat("m", false)))
        .await?;
    let mut came = Vec::new();
    while !came.ends_with(b"}") {
        if conn.read_buf(&mut came).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(came)
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

/// Whether a client with this certificate is let in. In TLS 1.3 it hears of it when it reads.
async fn is_let_in(at: SocketAddr, ca: &CaPem, own: &Pair) -> bool {
    let tcp = TcpStream::connect(at).await.expect("it listens");
    let connector = ca.connector(Some(own), &["http/1.1"]);
    let Ok(mut conn) = connector.connect(at.ip().into(), tcp).await else {
        return false;
    };
    exchange(&mut conn).await.is_ok()
}

#[tokio::test]
async fn whom_the_listener_lets_in_is_read_again() {
    let upstream = Upstream::start().await;
    let folder = tempdir().expect("a folder");
    let (servers, old, new) = (Authority::new(), Authority::new(), Authority::new());
    put(folder.path(), &servers.issue(&["127.0.0.1"]));
    let clients = folder.path().join("clients.pem");
    fs::write(&clients, old.pem().0).expect("written");
    let path = folder.path().display();
    let text = numbered(&upstream, 1).replace(
        "workers: 2,",
        &format!(
            "workers: 2, tls: {{ cert: \"{path}/cert.pem\", key: \"{path}/key.pem\", client_ca: \"{path}/clients.pem\" }},"
        ),
    );
    let served = Served::start(&text).await;
    let at = served.program.data().await;
    let (of_old, of_new) = (old.issue(&["one"]), new.issue(&["two"]));
    let let_in = async |own| is_let_in(at, &servers.pem(), own).await;
    assert!(let_in(&of_old).await && !let_in(&of_new).await);

    // The file alone changes nothing, and one that holds no certificate is refused.
    fs::write(&clients, "nonsense").expect("written");
    let answer = served.reload().await;
    assert_eq!(answer.status(), 400, "{}", shown(&answer));
    assert!(answer.text().contains("client_ca"), "{}", answer.text());
    fs::write(&clients, new.pem().0).expect("written");
    assert!(let_in(&of_old).await && !let_in(&of_new).await);

    assert_eq!(served.reload().await.status(), 200);
    assert!(let_in(&of_new).await && !let_in(&of_old).await);
    assert_eq!(served.program.terminate().await.code, Some(0));
}

#[tokio::test]
async fn the_files_of_a_providers_tls_are_read_again() {
    let folder = tempdir().expect("a folder");
    let (providers, gateways) = (Authority::new(), Authority::new());
    let pair = providers.issue(&["127.0.0.1"]);
    let upstream = Upstream::start_behind(pair.acceptor(Some(&gateways.pem()))).await;
    let (ca, own) = (folder.path().join("ca.pem"), gateways.issue(&["gateway"]));
    fs::write(&ca, providers.pem().0).expect("written");
    put(folder.path(), &own);
    let path = folder.path().display();
    let text = numbered(&upstream, 1).replace("http://", "https://").replace(
        "    credentials:",
        &format!(
            "    tls: {{ ca: \"{path}/ca.pem\", cert: \"{path}/cert.pem\", key: \"{path}/key.pem\" }}\n    credentials:"
        ),
    );
    let served = Served::start(&text).await;
    let data = served.program.data().await;
    let status = async || {
        let answer = call(data, "POST", CHAT, &[], chat("m", false)).await;
        answer.status()
    };
    assert_eq!(status().await, 200);

    let stranger = Authority::new();
    let theirs = stranger.issue(&["gateway"]);
    for (trusted, shows, expected) in [
        // Another authority is trusted: the provider is a stranger.
        (&stranger, &own, 502),
        (&providers, &own, 200),
        // We are one to the provider.
        (&providers, &theirs, 502),
        (&providers, &own, 200),
    ] {
        let before = status().await;
        fs::write(&ca, trusted.pem().0).expect("written");
        put(folder.path(), shows);
        assert_eq!(status().await, before, "nobody has asked for a reload");
        assert_eq!(served.reload().await.status(), 200);
        assert_eq!(status().await, expected);
    }

    for name in ["ca.pem", "cert.pem", "key.pem"] {
        let kept = fs::read(folder.path().join(name)).expect("it is there");
        fs::write(folder.path().join(name), "nonsense").expect("written");
        let answer = served.reload().await;
        assert_eq!(answer.status(), 400, "{name}: {}", shown(&answer));
        assert!(answer.text().contains(name), "{name}: {}", answer.text());
        assert_eq!(status().await, 200, "{name}: what was in force stays");
        fs::write(folder.path().join(name), kept).expect("written");
    }
    assert_eq!(served.program.terminate().await.code, Some(0));
}
