//! TLS on both sides of the program: a provider's own authority, our certificate and the name that is asked for (the
//! provider's key `tls`); the listener's certificate, and who is let in (`server.tls`).

use std::{net::Ipv4Addr, path::PathBuf};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tollgate_testing::{
    tls::{Authority, CaPem, Pair},
    upstream::{Framing, Script, Upstream},
};

use super::{BODY, CHAT, assert_line, assert_told};
use crate::harness::{Ask, KEY, Stage, provider};

/// Files that a configuration names.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }

    fn ca(&self, ca: &CaPem) -> String {
        format!("ca: \"{}\"", self.put("ca.pem", &ca.0).display())
    }

    fn pair(&self, name: &str, pair: &Pair) -> String {
        let cert = self.put(&format!("{name}.pem"), &pair.cert);
        let key = self.put(&format!("{name}-key.pem"), &pair.key);
        format!("cert: \"{}\", key: \"{}\"", cert.display(), key.display())
    }
}

fn behind_tls(upstream: &Upstream, tls: &str) -> Stage {
    Stage::start(&format!(
        "version: 1\nserver: {{ workers: 1 }}\nproviders:\n  p: {{ dialect: openai, base_url: \"https://127.0.0.1:{}/v1\", credentials: [{KEY}], tls: {{ {tls} }} }}\n",
        upstream.port()
    ))
}

async fn assert_served(stage: &Stage, id: &str) {
    let answer = stage.ask(&Ask::post(id, CHAT, BODY)).await;
    assert_eq!(answer.status(), 200, "{id}: {}", answer.text());
}

async fn assert_refused(stage: &Stage, id: &str) {
    let answer = stage.ask(&Ask::post(id, CHAT, BODY)).await;
    let told = assert_told(id, &answer, "openai", 502, "upstream_error", "upstream");
    assert!(told.contains("TLS"), "{id}: {told}");
    assert_line(&stage.line(id).await, "upstream_error", "upstream", "tls");
}

/// The provider asks for a certificate: ours is shown, and without it, or with a stranger's, nothing is asked of it.
#[tokio::test]
async fn a_provider_that_knows_its_clients_is_shown_our_certificate() {
    let (files, authority, clients) = (Files::new(), Authority::new(), Authority::new());
    let pair = authority.issue(&["127.0.0.1"]);
    let upstream = Upstream::start_behind(pair.acceptor(Some(&clients.pem()))).await;
    let ca = files.ca(&authority.pem());
    let own = files.pair("own", &clients.issue(&["gateway"]));
    let strange = files.pair("strange", &Authority::new().issue(&["gateway"]));
    for (id, tls, good) in [
        ("own", format!("{ca}, {own}"), true),
        ("none", ca.clone(), false),
        ("strange", format!("{ca}, {strange}"), false),
    ] {
        let stage = behind_tls(&upstream, &tls);
        if good {
            assert_served(&stage, id).await;
            assert_served(&stage, "again").await;
            assert_eq!(upstream.connections(), 1, "kept over TLS too");
        } else {
            assert_refused(&stage, id).await;
        }
        assert_eq!(upstream.attempts(id), usize::from(good), "{id}");
        stage.stop().await;
    }
}

/// The name of `sni` is asked for and verified in place of the host.
#[tokio::test]
async fn a_provider_behind_another_name_is_asked_by_it() {
    let (files, authority) = (Files::new(), Authority::new());
    let pair = authority.issue(&["provider.internal"]);
    let upstream = Upstream::start_behind(pair.acceptor_for("provider.internal")).await;
    let ca = files.ca(&authority.pem());
    for (id, sni, good) in [
        ("named", ", sni: provider.internal", true),
        ("host", "", false),
        ("other", ", sni: other.internal", false),
    ] {
        let stage = behind_tls(&upstream, &format!("{ca}{sni}"));
        if good {
            assert_served(&stage, id).await;
        } else {
            assert_refused(&stage, id).await;
        }
        assert_eq!(upstream.attempts(id), usize::from(good), "{id}");
        stage.stop().await;
    }
}

/// U01: for another host, or out of time: refused, however good its authority.
#[tokio::test]
async fn a_providers_certificate_has_to_be_its_own_and_in_time() {
    let (files, authority) = (Files::new(), Authority::new());
    let ca = files.ca(&authority.pem());
    let other = authority.issue(&["elsewhere.test"]);
    let expired = authority.issue_expired(&["127.0.0.1"]);
    for (id, pair) in [("other-host", other), ("expired", expired)] {
        let upstream = Upstream::start_behind(pair.acceptor(None)).await;
        let stage = behind_tls(&upstream, &ca);
        assert_refused(&stage, id).await;
        assert!(upstream.snapshot().exchanges.is_empty(), "{id}");
        stage.stop().await;
    }
}

/// What waits on an idle connection over TLS answers nobody either.
#[tokio::test]
async fn what_comes_while_idle_over_tls_answers_nobody() {
    let (files, authority) = (Files::new(), Authority::new());
    let pair = authority.issue(&["127.0.0.1"]);
    let upstream = Upstream::start_behind(pair.acceptor(None)).await;
    let stage = behind_tls(&upstream, &files.ca(&authority.pem()));
    let close = Script::new().head(200, &[], Framing::Length(None));
    upstream.serve("bye", close.body("{}").fin());
    for turn in 0..3 {
        let id = format!("bye-{turn}");
        let mut ask = Ask::post(&id, CHAT, BODY);
        ask.script = "bye";
        assert_eq!(stage.ask(&ask).await.text(), "{}", "{id}");
        upstream.finished(&id, 1).await;
        assert_eq!(upstream.attempts(&id), 1, "{id}");
    }
    stage.stop().await;
}

/// One exchange over TLS with the gateway; what came, or nothing if it was refused.
async fn over_tls(stage: &Stage, ca: &CaPem, own: Option<&Pair>, bytes: &[u8]) -> Vec<u8> {
    let tcp = TcpStream::connect(stage.addr()).await.expect("it listens");
    let name = Ipv4Addr::LOCALHOST;
    let mut came = Vec::new();
    if let Ok(mut conn) = ca
        .connector(own, &["http/1.1"])
        .connect(std::net::IpAddr::from(name).into(), tcp)
        .await
    {
        let _ = conn.write_all(bytes).await;
        let _ = conn.read_to_end(&mut came).await;
    }
    came
}

/// `server.tls`: a request, a stream, and a client without a certificate where one is asked for.
#[tokio::test]
async fn the_listener_speaks_tls_and_asks_for_certificates() {
    let (files, authority, clients) = (Files::new(), Authority::new(), Authority::new());
    let upstream = Upstream::start().await;
    let pair = files.pair("listener", &authority.issue(&["127.0.0.1"]));
    let ca = files.put("clients.pem", &clients.pem().0);
    let stage = Stage::start(&format!(
        "version: 1\nserver: {{ tls: {{ {pair}, client_ca: \"{}\" }} }}\nproviders:\n{}",
        ca.display(),
        provider("p", "openai", &upstream, "/v1", "")
    ));
    let events = ["data: {\"choices\":[]}\n\n", "data: [DONE]\n\n"];
    upstream.serve("stream", Script::events(events).end());
    let mut ask = Ask::post("stream", CHAT, BODY);
    let headers = [
        ("content-type", "application/json"),
        ("connection", "close"),
    ];
    ask.headers = &headers;
    let own = clients.issue(&["client"]);
    let came = over_tls(&stage, &authority.pem(), Some(&own), &ask.bytes()).await;
    let came = String::from_utf8(came).expect("text");
    assert!(came.starts_with("HTTP/1.1 200 OK\r\n"), "{came}");
    assert!(events.iter().all(|event| came.contains(event)), "{came}");
    assert_eq!(stage.line("stream").await["ended"], "complete");

    let stranger = Authority::new().issue(&["client"]);
    for own in [None, Some(&stranger)] {
        let came = over_tls(&stage, &authority.pem(), own, &ask.bytes()).await;
        assert!(came.is_empty(), "{}", came.escape_ascii());
    }
    // In the clear nothing is served.
    let mut plain = TcpStream::connect(stage.addr()).await.expect("it listens");
    let _ = plain.write_all(&ask.bytes()).await;
    let mut came = Vec::new();
    let _ = plain.read_to_end(&mut came).await;
    assert!(!came.starts_with(b"HTTP"), "{}", came.escape_ascii());
    assert_eq!(upstream.attempts("stream"), 1);
    stage.stop().await;
}
