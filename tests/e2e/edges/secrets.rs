//! What is never forwarded, and what nobody can make the gateway dial.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, Stdio},
};

use tollgate_testing::{
    splits::Split,
    upstream::{Framing, Script, Upstream},
};

use super::{BODY, CHAT, all_dialects};
use crate::harness::{Ask, CALLER, KEY, Stage, provider, untried};

/// C14: every slot in which callers put credentials, and what else is theirs alone.
#[tokio::test]
async fn credentials_and_cookies_of_the_caller_are_never_forwarded() {
    let upstream = Upstream::start().await;
    let port = upstream.port();
    let stage = Stage::start(&format!(
        "version: 1\nproviders:\n{}  bare: {{ dialect: openai, base_url: \"http://127.0.0.1:{port}/v1\", credentials: [] }}\n\
         routes:\n  - {{ name: bare, match: {{ model: bare }}, targets: [bare] }}\n  - {{ name: keyed, match: {{}}, targets: [keyed] }}\n",
        provider("keyed", "openai", &upstream, "/v1", "")
    ));
    let bearer = format!("Bearer {CALLER}");
    let slots = [
        ("authorization", bearer.as_str()),
        ("x-api-key", CALLER),
        ("api-key", CALLER),
        ("x-goog-api-key", CALLER),
        ("proxy-authorization", bearer.as_str()),
        ("tollgate-key", CALLER),
        ("cookie", CALLER),
        ("openai-organization", CALLER),
        ("openai-project", CALLER),
        ("x-goog-user-project", CALLER),
    ];
    for (n, slot) in slots.into_iter().enumerate() {
        for (model, credential) in [("m", Some(format!("Bearer {KEY}"))), ("bare", None)] {
            let id = format!("slot-{n}-{model}");
            let body = format!(r#"{{"model":"{model}","messages":[]}}"#);
            let headers = [("content-type", "application/json"), slot];
            let answer = stage
                .ask(&Ask {
                    headers: &headers,
                    ..Ask::post(&id, CHAT, body.as_bytes())
                })
                .await;
            assert_eq!(answer.status(), 200, "{id}: {}", answer.text());
            let seen = upstream.seen(&id).remove(0);
            let head = String::from_utf8_lossy(&seen.head).into_owned();
            assert!(!head.contains(CALLER), "{id}: {head}");
            assert_eq!(seen.header("authorization"), credential.as_deref(), "{id}");
            assert!(!stage.line(&id).await.to_string().contains("sk-"), "{id}");
        }
    }
    stage.stop().await;
}

/// The provider's key comes back in heads, in errors and in error events, in any pieces: as many stars stand for it, nothing
/// else changes, and the log tells of both texts. What is no error is not touched.
#[tokio::test]
async fn an_echo_of_the_providers_key_is_masked() {
    let upstream = Upstream::start().await;
    let providers = provider("p", "openai", &upstream, "/v1", "");
    let stage = Stage::start(&untried(&format!("version: 1\nproviders:\n{providers}")));
    let stars = "*".repeat(KEY.len());
    let error = format!(r#"{{"error":{{"message":"Incorrect API key provided: {KEY}, {KEY}."}}}}"#);
    let event = format!("data: {{\"choices\":[]}}\n\nevent: error\ndata: {error}\n\n");
    let healthy = format!(
        "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{KEY}\"}}}}]}}\n\ndata: [DONE]\n\n"
    );
    let (json, sse) = ("application/json", "text/event-stream");
    for (id, status, kind, text, split, masked) in [
        ("error-whole", 401, json, &error, Split::Whole, true),
        ("error-bytes", 403, json, &error, Split::Bytes(1), true),
        ("error-random", 500, json, &error, Split::Random(7), true),
        ("event-whole", 200, sse, &event, Split::Whole, true),
        ("event-bytes", 200, sse, &event, Split::Bytes(1), true),
        ("healthy", 200, sse, &healthy, Split::Bytes(5), false),
        ("document", 200, json, &error, Split::Bytes(5), false),
    ] {
        let length = Framing::Length(Some(text.len() as u64));
        for (framing, how) in [(Framing::Chunked, "chunked"), (length, "length")] {
            let id = format!("{id}-{how}");
            let headers = [("content-type", kind), ("x-echo", &format!("Bearer {KEY}"))];
            let script = Script::new().head(status, &headers, framing);
            upstream.serve(&id, script.body_in(text.clone(), split.clone()).end());
            let body = format!(r#"{{"model":"m","stream":{},"messages":[]}}"#, kind == sse);
            let answer = stage.ask(&Ask::post(&id, CHAT, body.as_bytes())).await;
            assert_eq!((answer.status(), answer.whole()), (status, true), "{id}");
            assert_eq!(
                answer.header("x-echo"),
                Some(&*format!("Bearer {stars}")),
                "{id}"
            );
            if !masked {
                stage.forgive_last();
            }
            let expected = if masked {
                text.replace(KEY, &stars)
            } else {
                text.clone()
            };
            assert_eq!(answer.text(), expected, "{id}");
            let line = stage.line(&id).await;
            let digest =
                |text: &str| format!("{:032x}", xxhash_rust::xxh3::xxh3_128(text.as_bytes()));
            assert_eq!(line["digest"]["upstream"], digest(text), "{id}: {line}");
            assert_eq!(line["digest"]["client"], digest(&expected), "{id}: {line}");
            let edited: &[&str] = if masked { &["upstream"] } else { &[] };
            assert_eq!(line["edited_by"], serde_json::json!(edited), "{id}");
            assert!(!line.to_string().contains(KEY), "{line}");
        }
    }
    let zipped = Script::new().head(
        429,
        &[("content-encoding", "gzip"), ("retry-after", "3")],
        Framing::Chunked,
    );
    upstream.serve("zipped", zipped.body(KEY).end());
    let answer = stage.ask(&Ask::post("zipped", CHAT, BODY)).await;
    assert_eq!(
        (answer.status(), answer.header("retry-after")),
        (429, Some("3"))
    );
    assert_eq!(
        (answer.header("content-encoding"), answer.whole()),
        (None, true)
    );
    assert_eq!(
        answer.json()["error"]["code"],
        "upstream_error",
        "{}",
        answer.text()
    );
    assert_eq!(stage.line("zipped").await["edited_by"][0], "upstream");
    stage.stop().await;
}

/// X01: nothing in a request chooses an address.
#[tokio::test]
async fn nothing_in_a_request_is_dialled() {
    let (stage, upstream) = all_dialects("").await;
    let decoy = Upstream::start().await;
    let url = format!("http://{}/v1", decoy.addr());
    let host = decoy.addr().to_string();
    let members = format!(
        r#"{{"model":"m","messages":[],"api_base":"{url}","base_url":"{url}","api_key":"x","host":"{host}"}}"#
    );
    let query = format!("{CHAT}?api_base={url}&base_url={url}&proxy={url}");
    let headers = [
        ("content-type", "application/json"),
        ("x-api-base", url.as_str()),
        ("api-base", url.as_str()),
        ("x-base-url", url.as_str()),
        ("openai-base-url", url.as_str()),
        ("x-portkey-custom-host", url.as_str()),
        ("helicone-target-url", url.as_str()),
        ("x-target-url", url.as_str()),
    ];
    let asks = [
        Ask::post("in-body", CHAT, members.as_bytes()),
        Ask::post("in-query", &query, BODY),
        Ask {
            headers: &headers,
            ..Ask::post("in-headers", CHAT, BODY)
        },
    ];
    for ask in asks {
        let answer = stage.ask(&ask).await;
        assert_eq!(answer.status(), 200, "{}: {}", ask.id, answer.text());
        assert_eq!(upstream.attempts(ask.id), 1, "{}", ask.id);
        let seen = upstream.seen(ask.id).remove(0);
        assert_eq!(
            seen.header("host"),
            Some(&*upstream.addr().to_string()),
            "{}",
            ask.id
        );
    }
    let absolute = String::from_utf8(Ask::post("absolute", CHAT, BODY).bytes()).expect("ASCII");
    let conn = stage
        .open(absolute.replacen(CHAT, &format!("http://{host}{CHAT}"), 1))
        .await;
    // A target that names another host than `Host` is no request to this one.
    let answer = conn.response().await;
    assert_eq!(answer.status(), 400, "{}", answer.text());
    assert_eq!(upstream.attempts("absolute"), 0);
    let absolute = absolute.replacen(CHAT, &format!("http://127.0.0.1{CHAT}"), 1);
    let answer = stage.open(absolute).await.response().await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(upstream.attempts("absolute"), 1);
    assert_eq!(decoy.connections(), 0);
    stage.stop().await;
}

/// The program, killed when the test is over.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// X07: the variables by which programs are told of proxies.
#[tokio::test]
async fn proxies_of_the_environment_are_ignored() {
    let (upstream, proxy) = (Upstream::start().await, Upstream::start().await);
    let folder = tempfile::tempdir().expect("a folder");
    let (file, socket, admin) = (
        folder.path().join("t.yaml"),
        folder.path().join("data"),
        folder.path().join("admin"),
    );
    let config = format!(
        "version: 1\nproviders:\n{}",
        provider("p", "openai", &upstream, "/v1", "")
    );
    std::fs::write(&file, config).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.arg("serve").arg("--config").arg(&file);
    for (flag, path) in [("--listen", &socket), ("--admin", &admin)] {
        command.arg(flag).arg(format!("unix:{}", path.display()));
    }
    let url = format!("http://{}", proxy.addr());
    for name in [
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "all_proxy",
    ] {
        command.env(name, &url);
    }
    command
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .env_remove("RUST_LOG");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut program = Program(command.spawn().expect("the program starts"));
    let told = program.0.stderr.take().expect("it is piped");
    let answer = tokio::task::spawn_blocking(move || {
        let mut told = BufReader::new(told).lines();
        let listening = told
            .by_ref()
            .map_while(Result::ok)
            .any(|line| line.contains("listening"));
        assert!(listening, "the program did not say that it listens");
        ask_unix(&socket, &Ask::post("proxied", CHAT, BODY).bytes())
    });
    let answer = answer.await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(upstream.attempts("proxied"), 1);
    assert_eq!(proxy.connections(), 0);
    drop(program);
}

fn ask_unix(socket: &Path, request: &[u8]) -> String {
    let mut conn = UnixStream::connect(socket).expect("it listens");
    conn.set_read_timeout(Some(tollgate_testing::DEADLINE))
        .expect("a limit");
    let request = String::from_utf8_lossy(request).replacen("\r\n", "\r\nconnection: close\r\n", 1);
    conn.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    conn.read_to_string(&mut answer)
        .expect("it answers and closes");
    answer
}
