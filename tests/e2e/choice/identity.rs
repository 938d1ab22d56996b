//! Who a provider is: a certificate that is no good is asked once, never again and never in the clear, and no connection serves two
//! identities.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};
use tollgate_testing::{
    tls::{Authority, CaPem, Pair},
    upstream::Upstream,
};

use super::{BODY, CHAT, fine};
use crate::harness::{Ask, Stage};

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

    /// The key `ca` of a provider.
    fn ca(&self, name: &str, ca: &CaPem) -> String {
        format!("ca: \"{}\"", self.put(name, &ca.0).display())
    }
}

/// A provider at a port of this machine: over TLS as these keys say, or in the clear.
fn at(name: &str, port: u16, tls: Option<&str>) -> String {
    let (scheme, tls) = match tls {
        Some(keys) => ("https", format!(", tls: {{ {keys} }}")),
        None => ("http", String::new()),
    };
    format!(
        "  {name}: {{ dialect: openai, base_url: \"{scheme}://127.0.0.1:{port}/v1\", credentials: [k-{name}-0001]{tls} }}\n"
    )
}

/// These providers behind one route, and every kind of failure tried again as often as may be.
fn text(providers: &str, strategy: &str, targets: &str) -> String {
    format!(
        "server: {{ workers: 1 }}\nproviders:\n{providers}\
         routes: [{{ name: r, match: {{}}, strategy: {strategy}, targets: [{targets}] }}]\n\
         layers: {{ breaker: off, retry: {{ attempts: 5, on: [connect, closed, first_byte_timeout, 5xx], ratio: 100% }} }}\n"
    )
}

/// U01, U18: by a stranger's authority, for another name, out of time: its target is asked once, whatever is tried again, and the
/// next target is.
#[tokio::test]
async fn u18_a_target_with_a_bad_certificate_is_asked_once_and_others_are() {
    let (files, authority) = (Files::new(), Authority::new());
    let ca = files.ca("ca.pem", &authority.pem());
    for (id, pair) in [
        ("stranger", Authority::new().issue(&["127.0.0.1"])),
        ("other-name", authority.issue(&["elsewhere.test"])),
        ("expired", authority.issue_expired(&["127.0.0.1"])),
    ] {
        let bad = Upstream::start_behind(pair.acceptor(None)).await;
        let good = Upstream::start().await;
        good.serve_default(fine());
        let providers = at("first", bad.port(), Some(&ca)) + &at("second", good.port(), None);
        let stage = Stage::start(&text(&providers, "fallback", "first, second"));
        let answer = stage.ask(&Ask::post(id, CHAT, BODY)).await;
        assert_eq!((answer.status(), good.attempts(id)), (200, 1), "{id}");
        assert_eq!(bad.connections(), 1, "{id}");
        let line = stage.line(id).await;
        assert_eq!(line["attempts"][0]["error"], "tls", "{line}");
        assert_eq!(line["attempts"][1]["status"], 200, "{line}");
        stage.stop().await;

        let stage = Stage::start(&text(&providers, "fallback", "first"));
        let answer = stage.ask(&Ask::post("sole", CHAT, BODY)).await;
        assert_eq!(answer.status(), 502, "{id}: {}", answer.text());
        assert_eq!(answer.header("tollgate-refused-by"), Some("upstream"));
        let line = stage.line("sole").await;
        assert_eq!(
            (&line["error"], line["attempts"].as_array().map(Vec::len)),
            (&"tls".into(), Some(1))
        );
        assert_eq!(
            bad.connections(),
            2,
            "{id}: once more for this request, and not twice"
        );
        assert!(
            bad.snapshot().exchanges.is_empty(),
            "{id}: nothing was asked there"
        );
        stage.stop().await;
    }
}

/// U01: a provider that is silent in the handshake is given up when the clock of the connection says so, and the next one is asked.
#[tokio::test]
async fn u01_a_silent_handshake_is_given_up_and_the_next_target_asked() {
    // It is connected to by the kernel, and nobody speaks.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = silent.local_addr().expect("an address").port();
    let good = Upstream::start().await;
    good.serve_default(fine());
    let files = Files::new();
    let ca = files.ca("ca.pem", &Authority::new().pem());
    let providers = at("first", port, Some(&ca)) + &at("second", good.port(), None);
    let clock = |text: String| text.replace("layers: {", "layers: { timeout: { connect: 300ms },");
    let stage = Stage::start(&clock(text(&providers, "fallback", "first, second")));
    let answer = stage.ask(&Ask::post("silent", CHAT, BODY)).await;
    assert_eq!((answer.status(), good.attempts("silent")), (200, 1));
    let line = stage.line("silent").await;
    assert_eq!(line["attempts"][0]["error"], "connect", "{line}");
    stage.stop().await;
}

/// Answers whatever comes in the clear; what each connection began with.
async fn in_the_clear(listener: TcpListener, heard: Arc<Mutex<Vec<Vec<u8>>>>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut bytes = vec![0; 16 * 1024];
        let came = stream.read(&mut bytes).await.unwrap_or(0);
        bytes.truncate(came);
        heard.lock().expect("nothing panics under it").push(bytes);
        let answer =
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}

/// U18: a provider that speaks no TLS where TLS was told is not asked without it.
#[tokio::test]
async fn u18_tls_that_fails_is_never_done_without() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let heard: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let mut provider = JoinSet::new();
    provider.spawn(in_the_clear(listener, heard.clone()));
    let files = Files::new();
    let ca = files.ca("ca.pem", &Authority::new().pem());
    let stage = Stage::start(&text(&at("first", port, Some(&ca)), "fallback", "first"));
    let answer = stage.ask(&Ask::post("clear", CHAT, BODY)).await;
    assert_eq!(answer.status(), 502, "{}", answer.text());
    assert_eq!(stage.line("clear").await["error"], "tls");
    let heard = heard.lock().expect("nothing panics under it").clone();
    let [hello] = &heard[..] else {
        panic!("{} connections", heard.len());
    };
    // A record of the handshake (RFC 8446, section 5.1), and nothing of the request.
    assert_eq!(hello.first(), Some(&22));
    let has = |needle: &[u8]| hello.windows(needle.len()).any(|it| it == needle);
    assert!(!has(b"POST ") && !has(b"k-first-0001"));
    stage.stop().await;
}

/// U18: two providers at one address differ by the name that they are asked by: neither's connection serves the other, and after a
/// reload none serves who has another name now.
#[tokio::test]
async fn u18_names_at_one_address_share_no_connection() {
    let (files, authority) = (Files::new(), Authority::new());
    let [a, b] = ["a.test", "b.test"].map(|name| authority.issue(&[name]));
    let upstream =
        Upstream::start_behind(Pair::acceptor_by_name([("a.test", &a), ("b.test", &b)])).await;
    upstream.serve_default(fine());
    let ca = files.ca("ca.pem", &authority.pem());
    let named = |sni: &str| format!("{ca}, sni: {sni}");
    let of = |two: &str| {
        let one = at("one", upstream.port(), Some(&named("a.test")));
        let two = at("two", upstream.port(), Some(&named(two)));
        text(&(one + &two), "round_robin", "one, two")
    };
    let stage = Stage::start(&of("b.test"));
    for n in 0..10 {
        let id = format!("turn-{n}");
        assert_eq!(stage.ask(&Ask::post(&id, CHAT, BODY)).await.status(), 200);
    }
    let seen = upstream.snapshot();
    let used = |key: &str| -> Vec<usize> {
        let own = |it: &&tollgate_testing::upstream::Exchange| {
            it.header("authorization") == Some(&format!("Bearer {key}"))
        };
        seen.exchanges
            .iter()
            .filter(own)
            .map(|it| it.connection)
            .collect()
    };
    let (one, two) = (used("k-one-0001"), used("k-two-0001"));
    assert_eq!((one.len(), two.len(), seen.connections), (5, 5, 2));
    assert!(one.iter().all(|it| *it == one[0]) && two.iter().all(|it| *it == two[0]));
    assert_ne!(one[0], two[0]);

    // A name that nobody there has: the connection by the old one is no way around that.
    stage.reload(&of("c.test"));
    let only = br#"{"model":"two/m","messages":[]}"#;
    let answer = stage.ask(&Ask::post("renamed", CHAT, only)).await;
    assert_eq!((answer.status(), upstream.attempts("renamed")), (502, 0));
    assert_eq!(stage.line("renamed").await["error"], "tls");
    let other = br#"{"model":"one/m","messages":[]}"#;
    assert_eq!(
        stage.ask(&Ask::post("kept", CHAT, other)).await.status(),
        200
    );
    stage.stop().await;
}
