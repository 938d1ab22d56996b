//! Providers that fail before their answer begins: told in the dialect, with nothing of what is behind.

use tollgate_testing::upstream::{Framing, Refusing, Script, Upstream};

use super::{BODY, CHAT, SURFACES, all_dialects, assert_line, assert_told};
use crate::harness::{Ask, KEY, Stage};

/// Nothing of addresses, causes, libraries or keys may show.
fn assert_no_detail(what: &str, told: &str) {
    for secret in [
        "127.0.0.1",
        "localhost",
        "os error",
        "hyper",
        "tcp",
        "rustls",
        "src/",
        KEY,
        "sk-",
    ] {
        assert!(
            !told.to_ascii_lowercase().contains(secret),
            "{what} tells {secret:?}: {told}"
        );
    }
}

/// What a provider does before a head, and what becomes of it.
#[tokio::test]
async fn a_provider_that_fails_before_its_head_is_told_without_detail() {
    let cases = [
        (
            "closed",
            Script::new().fin(),
            502,
            "upstream_error",
            "upstream_error",
            "closed",
            "closed",
        ),
        (
            "reset",
            Script::new().rst(),
            502,
            "upstream_error",
            "upstream_error",
            "closed",
            "closed",
        ),
        (
            "garbage",
            Script::new().raw("SSH-2.0-OpenSSH\r\n\r\n").fin(),
            502,
            "upstream_error",
            "upstream_error",
            "protocol",
            "protocol",
        ),
        (
            "half-head",
            Script::new().raw("HTTP/1.1 200 OK\r\ncontent-ty").fin(),
            502,
            "upstream_error",
            "upstream_error",
            "closed",
            "closed",
        ),
        (
            "late",
            Script::new().stall(),
            504,
            "upstream_timeout",
            "timeout",
            "upstream_timeout",
            "timeout",
        ),
    ];
    let limits = "layers: { timeout: { first_byte: { stream: 300ms, document: 300ms } } }";
    let (stage, upstream) = all_dialects(limits).await;
    for (name, script, status, code, ended, error, word) in cases {
        for (dialect, path, body) in SURFACES {
            let id = format!("{name}-{dialect}");
            upstream.serve(&id, script.clone());
            let (path, body) = (path.replace("MODEL", "m"), body.replace("MODEL", "m"));
            let answer = stage.ask(&Ask::post(&id, &path, body.as_bytes())).await;
            assert_told(&id, &answer, dialect, status, code, "upstream");
            assert_no_detail(&id, &String::from_utf8_lossy(&answer.head));
            assert_no_detail(&id, &answer.text());
            let line = stage.line(&id).await;
            assert_line(&line, ended, "upstream", error);
            assert_eq!(line["attempts"][0]["error"], word, "{line}");
            assert_eq!(upstream.attempts(&id), 1, "{id}");
        }
    }
    stage.stop().await;
}

/// U01: nobody listens.
#[tokio::test]
async fn a_provider_that_cannot_be_reached_is_told_without_detail() {
    let refusing = Refusing::bind();
    let addr = refusing.addr();
    let stage = Stage::start(&format!(
        "version: 1\nproviders:\n  p: {{ dialect: openai, base_url: \"http://{addr}/v1\", credentials: [{KEY}] }}\n"
    ));
    let answer = stage.ask(&Ask::post("refused", CHAT, BODY)).await;
    assert_told(
        "refused",
        &answer,
        "openai",
        502,
        "upstream_error",
        "upstream",
    );
    assert_no_detail("refused", &answer.text());
    let line = stage.line("refused").await;
    assert_line(&line, "upstream_error", "upstream", "connect");
    assert_eq!(line["attempts"][0]["error"], "connect", "{line}");
    stage.stop().await;
}

/// U17: no redirect is followed, and where it points is not told.
#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (stage, upstream) = all_dialects("").await;
    let elsewhere = Upstream::start().await;
    let location = format!("http://{}/v1/chat/completions", elsewhere.addr());
    for status in [301, 302, 303, 307, 308] {
        let id = format!("redirect-{status}");
        let script = Script::new()
            .head(status, &[("location", &location)], Framing::Length(None))
            .end();
        upstream.serve(&id, script);
        let answer = stage.ask(&Ask::post(&id, CHAT, BODY)).await;
        assert_told(&id, &answer, "openai", 502, "upstream_error", "upstream");
        assert_no_detail(&id, &String::from_utf8_lossy(&answer.head));
        assert_eq!(answer.header("location"), None);
        assert_line(
            &stage.line(&id).await,
            "upstream_error",
            "upstream",
            "protocol",
        );
        assert_eq!(upstream.attempts(&id), 1);
    }
    assert_eq!(elsewhere.connections(), 0);
    stage.stop().await;
}
