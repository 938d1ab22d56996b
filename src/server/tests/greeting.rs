//! What comes before HTTP: TLS and the PROXY protocol.

use std::path::PathBuf;

use tempfile::TempDir;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tollgate_testing::tls::{Authority, CaPem, Pair};

use super::*;
use crate::config::ServerTls;

/// A folder with a certificate for 127.0.0.1.
struct Files {
    folder: TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Self {
        let made = Self {
            folder: tempfile::tempdir().unwrap(),
            authority: Authority::new(),
        };
        made.write(&made.authority.issue(&["127.0.0.1"]));
        made
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, pair: &Pair) {
        std::fs::write(self.path("cert.pem"), &pair.cert).unwrap();
        std::fs::write(self.path("key.pem"), &pair.key).unwrap();
    }

    fn named(&self) -> ServerTls {
        ServerTls {
            cert: self.path("cert.pem"),
            key: self.path("key.pem"),
            client_ca: None,
        }
    }

    fn mutual(&self, clients: &CaPem) -> ServerTls {
        std::fs::write(self.path("ca.pem"), &clients.0).unwrap();
        ServerTls {
            client_ca: Some(self.path("ca.pem")),
            ..self.named()
        }
    }
}

fn with_tls(files: &ServerTls) -> (Settings, Tls) {
    let tls = Tls::new(files).unwrap();
    let mut settings = settings();
    settings.greeting.tls = Some(tls.clone());
    (settings, tls)
}

async fn shake(
    at: SocketAddr,
    ca: &CaPem,
    own: Option<&Pair>,
    protocols: &[&str],
) -> io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(at).await.unwrap();
    let name = at.ip().into();
    ca.connector(own, protocols).connect(name, tcp).await
}

async fn served(client: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) -> String {
    client.write_all(GET).await.unwrap();
    until(client, LAST_CHUNK).await
}

/// Sends a request and reads what there is to read; nothing if the connection was closed.
async fn refused(client: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) -> bool {
    let _ = client.write_all(GET).await;
    let mut read = Vec::new();
    let _ = client.read_to_end(&mut read).await;
    !read.starts_with(b"HTTP")
}

#[tokio::test]
async fn tls_serves_requests_and_chooses_http_1() {
    let files = Files::new();
    let (settings, _) = with_tls(&files.named());
    let handle = started(settings, |_| text("hello"));
    let (at, ca) = (port(&handle), files.authority.pem());
    for offered in [&[][..], &["http/1.1"], &["h2", "http/1.1"]] {
        let mut client = shake(at, &ca, None, offered).await.unwrap();
        let chosen = client.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        let expected = (!offered.is_empty()).then(|| b"http/1.1".to_vec());
        assert_eq!(chosen, expected, "{offered:?}");
        for _ in 0..2 {
            assert!(served(&mut client).await.contains("hello"));
        }
    }
    assert!(
        shake(at, &ca, None, &["h2"]).await.is_err(),
        "h2 alone is not spoken"
    );
    assert!(
        shake(at, &Authority::new().pem(), None, &[]).await.is_err(),
        "a client that does not trust us"
    );
    let mut plain = TcpStream::connect(at).await.unwrap();
    assert!(refused(&mut plain).await, "HTTP in the clear");
    handle.drain();
    assert_eq!(joined(handle).await, Outcome { cut: 0, lost: 0 });
}

#[tokio::test]
async fn mutual_tls_lets_in_whom_its_authority_knows() {
    let (files, clients) = (Files::new(), Authority::new());
    let (settings, _) = with_tls(&files.mutual(&clients.pem()));
    let handle = started(settings, |_| text("hello"));
    let (at, ca) = (port(&handle), files.authority.pem());
    let known = clients.issue(&["client"]);
    let mut client = shake(at, &ca, Some(&known), &[]).await.unwrap();
    assert!(served(&mut client).await.contains("hello"));
    let stranger = Authority::new().issue(&["client"]);
    let expired = clients.issue_expired(&["client"]);
    for own in [None, Some(&stranger), Some(&expired)] {
        // In TLS 1.3 the client's handshake is over before the server has judged.
        if let Ok(mut client) = shake(at, &ca, own, &[]).await {
            assert!(refused(&mut client).await);
        }
    }
    drop(client);
    handle.drain();
    joined(handle).await;
}

/// O08.
#[tokio::test]
async fn another_certificate_is_in_force_for_new_handshakes() {
    let files = Files::new();
    let (settings, tls) = with_tls(&files.named());
    let handle = started(settings, |_| text("hello"));
    let (at, old) = (port(&handle), files.authority.pem());
    let mut before = shake(at, &old, None, &[]).await.unwrap();

    // Pairs that cannot serve are refused, and what is in force stays.
    let other = Authority::new();
    let (one, two) = (other.issue(&["127.0.0.1"]), other.issue(&["127.0.0.1"]));
    let mixed = Pair {
        cert: one.cert.clone(),
        key: two.key.clone(),
    };
    let half = Pair {
        cert: one.cert[..200].to_owned(),
        key: one.key.clone(),
    };
    let empty = Pair {
        cert: String::new(),
        key: one.key.clone(),
    };
    let swapped = Pair {
        cert: one.key.clone(),
        key: one.cert.clone(),
    };
    let expired = other.issue_expired(&["127.0.0.1"]);
    for (pair, file, says) in [
        (mixed, "key.pem", "the key that was made for it"),
        (half, "cert.pem", ""),
        (empty, "cert.pem", "holds no certificate"),
        (swapped, "cert.pem", "holds no certificate"),
        (expired, "cert.pem", "it has expired; renew it"),
    ] {
        files.write(&pair);
        let told = Tls::read(&files.named()).unwrap_err().to_string();
        assert!(
            told.contains("server.tls") && told.contains(file) && told.contains(says),
            "{told}"
        );
        assert!(!told.contains("BEGIN"), "{told}");
        assert!(shake(at, &old, None, &[]).await.is_ok(), "{told}");
    }
    std::fs::remove_file(files.path("key.pem")).unwrap();
    let told = Tls::read(&files.named()).unwrap_err().to_string();
    assert!(
        told.contains("server.tls.key") && told.contains("key.pem"),
        "{told}"
    );

    files.write(&one);
    let read = Tls::read(&files.named()).unwrap();
    assert!(
        shake(at, &old, None, &[]).await.is_ok(),
        "read is not in force"
    );
    tls.change(read);
    let mut after = shake(at, &other.pem(), None, &[]).await.unwrap();
    assert!(served(&mut after).await.contains("hello"));
    assert!(shake(at, &old, None, &[]).await.is_err());
    assert!(
        served(&mut before).await.contains("hello"),
        "what runs is not disturbed"
    );
    drop((before, after));
    handle.drain();
    joined(handle).await;
}

#[tokio::test]
async fn a_handshake_that_does_not_come_holds_its_own_place_and_nobody_elses() {
    let files = Files::new();
    let (mut settings, _) = with_tls(&files.named());
    settings.workers = 1;
    settings.limits.connections = 2;
    let handle = started(settings, |_| text("hello"));
    let (at, ca) = (port(&handle), files.authority.pem());
    let silent = TcpStream::connect(at).await.unwrap();
    // The accept loop is free: somebody else is served beside it.
    let mut client = shake(at, &ca, None, &[]).await.unwrap();
    assert!(served(&mut client).await.contains("hello"));
    assert_eq!(handle.tally().open(), 2);
    // Both places are taken, and one comes free when the silent one goes.
    let mut third = std::pin::pin!(shake(at, &ca, None, &[]));
    let turns = async {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = &mut third => panic!("beyond the limit"),
        () = turns => {}
    }
    drop(silent);
    third.await.unwrap();
    drop(client);
    handle.drain();
    joined(handle).await;
}

/// The clock is paused: it moves on when everything waits.
#[tokio::test(start_paused = true)]
async fn what_comes_before_http_has_a_time() {
    let files = Files::new();
    let greetings = [
        Greeting {
            proxies: None,
            tls: Some(Tls::new(&files.named()).unwrap()),
        },
        Greeting {
            proxies: Some(Trusted::new(&["127.0.0.0/8".parse().unwrap()])),
            tls: None,
        },
    ];
    for greeting in greetings {
        for begun in [&b""[..], b"P"] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap())
                .await
                .unwrap();
            let (socket, peer) = listener.accept().await.unwrap();
            if greeting.proxies.is_some() {
                client.write_all(begun).await.unwrap();
            }
            let greeting = greeting.with(Some(peer)).unwrap();
            let conn = Conn::of(Some(peer));
            let limit = if greeting.tls.is_some() { 9 } else { 7 };
            let start = tokio::time::Instant::now();
            let limits = Limits {
                head_timeout: Duration::from_secs(7),
                handshake: Duration::from_secs(9),
                ..settings().limits
            };
            let met = greeting.meet(stream::Socket::Tcp(socket), &conn, &limits);
            let met = timeout(Duration::from_secs(60), met).await.unwrap();
            assert!(met.is_none());
            assert_eq!(start.elapsed().as_secs(), limit);
            assert_eq!(client.read(&mut [0]).await.unwrap_or(0), 0, "closed");
        }
    }
}

#[tokio::test]
async fn a_drain_does_not_wait_for_a_client_that_has_said_nothing() {
    let files = Files::new();
    let (settings, _) = with_tls(&files.named());
    let handle = started(settings, |_| text("hello"));
    let mut silent = TcpStream::connect(port(&handle)).await.unwrap();
    let tally = handle.tally();
    while tally.open() == 0 {
        tokio::task::yield_now().await;
    }
    handle.drain();
    assert_eq!(joined(handle).await, Outcome { cut: 0, lost: 0 });
    assert_eq!(silent.read(&mut [0]).await.unwrap_or(0), 0);
    assert_eq!(tally.open(), 0);
}

fn proxied(networks: &[&str], tls: Option<Tls>) -> Handle {
    let networks: Vec<_> = networks.iter().map(|it| it.parse().unwrap()).collect();
    let mut settings = settings();
    settings.greeting = Greeting {
        proxies: Some(Trusted::new(&networks)),
        tls,
    };
    started(settings, |req| {
        let conn: &Conn = req.extensions().get().unwrap();
        text(format!("peer {:?}", conn.peer()))
    })
}

const VERSION_1: &[u8] = b"PROXY TCP4 10.9.8.7 127.0.0.1 4000 80\r\n";
const VERSION_2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\x09\x08\x07\x7f\0\0\x01\x0f\xa0\0\x50";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

#[tokio::test]
async fn a_trusted_proxy_names_the_client() {
    let handle = proxied(&["127.0.0.0/8"], None);
    for (header, named) in [(VERSION_1, true), (VERSION_2, true), (LOCAL, false)] {
        let mut client = TcpStream::connect(port(&handle)).await.unwrap();
        let own = client.local_addr().unwrap().to_string();
        let expected = if named { "10.9.8.7:4000" } else { &own };
        // With the first request in one write; it holds for the later ones too.
        client.write_all(&[header, GET].concat()).await.unwrap();
        for _ in 0..2 {
            let answer = until(&mut client, LAST_CHUNK).await;
            assert!(
                answer.contains(&format!("peer Some({expected})")),
                "{answer}"
            );
            client.write_all(GET).await.unwrap();
        }
        until(&mut client, LAST_CHUNK).await;
    }
    // Missing, malformed, cut short: closed without a word.
    for header in [&b""[..], b"PROXY TCP9 x\r\n", &VERSION_2[..20]] {
        let mut client = TcpStream::connect(port(&handle)).await.unwrap();
        client.write_all(header).await.unwrap();
        if header.starts_with(b"\r") {
            client.shutdown().await.unwrap();
        }
        assert!(refused(&mut client).await, "{}", header.escape_ascii());
    }
    handle.drain();
    joined(handle).await;
}

#[tokio::test]
async fn nobody_else_may_say_whose_connection_it_is() {
    let handle = proxied(&["10.0.0.0/8"], None);
    let mut client = TcpStream::connect(port(&handle)).await.unwrap();
    let own = format!("peer Some({})", client.local_addr().unwrap());
    assert!(served(&mut client).await.contains(&own));
    let mut liar = TcpStream::connect(port(&handle)).await.unwrap();
    liar.write_all(&[VERSION_1, GET].concat()).await.unwrap();
    let answer = rest(&mut liar).await;
    assert!(
        answer.starts_with("HTTP/1.1 400") && !answer.contains("10.9.8.7"),
        "{answer}"
    );
    handle.drain();
    joined(handle).await;
}

#[tokio::test]
async fn the_header_of_a_proxy_comes_before_tls() {
    let files = Files::new();
    let tls = Tls::new(&files.named()).unwrap();
    let handle = proxied(&["127.0.0.0/8"], Some(tls));
    let mut tcp = TcpStream::connect(port(&handle)).await.unwrap();
    tcp.write_all(VERSION_2).await.unwrap();
    let connector = files.authority.pem().connector(None, &[]);
    let name = port(&handle).ip().into();
    let mut client = connector.connect(name, tcp).await.unwrap();
    assert!(
        served(&mut client)
            .await
            .contains("peer Some(10.9.8.7:4000)")
    );
    drop(client);
    handle.drain();
    joined(handle).await;
}

/// Over TLS too an answer ends as it would in the clear: whole with a farewell, and a cut one without its last chunk.
#[tokio::test]
async fn a_stream_over_tls_arrives_as_it_is_written_and_a_hang_up_drops_it() {
    let files = Files::new();
    let (mut settings, _) = with_tls(&files.named());
    settings.limits.keep_alive = Duration::ZERO;
    let (handle, mut streams) = held(settings);
    let (at, ca) = (port(&handle), files.authority.pem());
    let mut client = shake(at, &ca, None, &[]).await.unwrap();
    client.write_all(GET).await.unwrap();
    let stream = streams.recv().await.unwrap();
    for event in ["one", "two"] {
        stream.send(Ok(event.into())).unwrap();
        until(&mut client, &format!("3\r\n{event}\r\n")).await;
    }
    drop(stream);
    // A missing farewell would be an error here.
    assert_eq!(rest(&mut client).await, LAST_CHUNK);

    let mut client = shake(at, &ca, None, &[]).await.unwrap();
    client.write_all(GET).await.unwrap();
    let stream = streams.recv().await.unwrap();
    stream.send(Ok("one".into())).unwrap();
    until(&mut client, "3\r\none\r\n").await;
    drop(client);
    stream.closed().await;
    handle.drain();
    joined(handle).await;
}
