//! Heads that two servers could read differently, and who may ask where nobody has to say who they are.

use std::collections::BTreeSet;

use tollgate_testing::{client::Message, recordings, upstream::Upstream};

use super::{BODY, CHAT, all_dialects, assert_line, assert_told};
use crate::harness::{Ask, Stage, provider};

/// The answer to a head that is refused before anything of it is forwarded.
struct Refused<'a> {
    id: &'a str,
    status: u16,
    code: &'a str,
    /// Whether the connection is closed behind it.
    closes: bool,
}

/// Sends the bytes; the refusal is told in the answer and in the log, and nothing is sent upstream.
async fn refused(stage: &Stage, upstream: &Upstream, bytes: &[u8], expected: &Refused<'_>) {
    let Refused {
        id,
        status,
        code,
        closes,
    } = *expected;
    let conn = stage.open(bytes).await;
    let answer = conn.response().await;
    assert_eq!(answer.status(), status, "{id}: {}", answer.text());
    assert_eq!(
        answer.header("tollgate-refused-by"),
        Some("hygiene"),
        "{id}"
    );
    let told = answer.header("connection") == Some("close");
    assert_eq!(told, closes, "{id}");
    if closes {
        conn.closed().await;
    }
    assert_line(&stage.line(id).await, "refused", "hygiene", code);
    assert_eq!(upstream.attempts(id), 0, "{id}");
}

fn malformed(id: &str) -> Refused<'_> {
    Refused {
        id,
        status: 400,
        code: "malformed_request",
        closes: true,
    }
}

/// A POST of [`BODY`] with these headers too.
fn with(id: &str, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(headers);
    let ask = Ask {
        headers: &all,
        ..Ask::post(id, path, BODY)
    };
    ask.bytes()
}

/// The same head with other bytes in it.
fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = std::str::from_utf8(bytes).expect("ASCII");
    assert!(text.contains(from), "{text}");
    text.replacen(from, to, 1).into_bytes()
}

async fn ask(stage: &Stage, bytes: &[u8]) -> Message {
    stage.open(bytes).await.response().await
}

/// One provider that takes whatever a route leads to it, on any path.
async fn raw(more: &str) -> (Stage, Upstream) {
    let upstream = Upstream::start().await;
    let one = provider("one", "openai", &upstream, "", "");
    let stage = Stage::start(&format!(
        "version: 1\n{more}\nproviders:\n{one}routes:\n  - {{ name: all, match: {{}}, targets: [one] }}\n  \
         - {{ name: any, match: {{ path: \"/*\" }}, targets: [one] }}\n"
    ));
    (stage, upstream)
}

/// F10: a WebSocket is refused as such; any other upgrade is dropped, and nothing of either is forwarded.
#[tokio::test]
async fn upgrades_are_refused_or_dropped() {
    let (stage, upstream) = all_dialects("").await;
    let offer = |id, protocol| {
        let headers = [
            ("connection", "upgrade, http2-settings"),
            ("upgrade", protocol),
            ("http2-settings", "AAMAAABkAARAAAAAAAIAAAAA"),
        ];
        let mut bytes = with(id, CHAT, &headers);
        bytes.extend_from_slice(b"TUNNEL-BYTES");
        bytes
    };
    for (id, protocol) in [("ws", "websocket"), ("ws-case", "h2c, WebSocket")] {
        let expected = Refused {
            id,
            status: 426,
            code: "upgrade_required",
            closes: true,
        };
        refused(&stage, &upstream, &offer(id, protocol), &expected).await;
    }
    for (id, protocol) in [("h2c", "h2c"), ("foo", "foo/2")] {
        let answer = ask(&stage, &offer(id, protocol)).await;
        assert_eq!(answer.status(), 200, "{id}: {}", answer.text());
        let seen = upstream.seen(id).remove(0);
        assert_eq!(seen.body, BODY, "{id}");
        for name in ["upgrade", "http2-settings", "connection"] {
            assert_eq!(seen.header(name), None, "{id}");
        }
    }
    stage.stop().await;
}

/// F10: CONNECT, TRACE and what is no method are refused, and the connection is closed; the first three below the server.
#[tokio::test]
async fn methods_that_nobody_serves_are_refused() {
    let (stage, upstream) = all_dialects("").await;
    for (id, line, status) in [
        ("connect", "CONNECT evil:443 HTTP/1.1", 405),
        ("trace", "TRACE /v1/chat/completions HTTP/1.1", 405),
        ("lower", "post /v1/chat/completions HTTP/1.1", 400),
    ] {
        let bytes = with(id, CHAT, &[]);
        let bytes = replaced(&bytes, "POST /v1/chat/completions HTTP/1.1", line);
        let conn = stage.open(bytes).await;
        let answer = conn.response().await;
        assert_eq!(answer.status(), status, "{id}: {}", answer.text());
        assert_eq!(answer.header("tollgate-refused-by"), Some("wire"), "{id}");
        conn.closed().await;
        assert_eq!(upstream.attempts(id), 0, "{id}");
    }
    let unknown = replaced(&with("unknown", CHAT, &[]), "POST ", "BREW ");
    let expected = Refused {
        id: "unknown",
        status: 405,
        code: "method_not_allowed",
        closes: true,
    };
    refused(&stage, &upstream, &unknown, &expected).await;
    stage.stop().await;
}

/// Paths that a provider could take for others are refused, also by a route that takes any path.
#[tokio::test]
async fn paths_that_mean_two_things_are_refused() {
    let (stage, upstream) = raw("").await;
    let paths = [
        "/v1/../admin",
        "/v1/%2e%2e/admin",
        "/v1/..%2fadmin",
        "//evil/v1/chat/completions",
        "/v1\\..\\admin",
        "/v1/%00",
        "/v1/chat/completions/../../../admin",
        "/v1/%5c..%5cadmin",
        "/v1/./chat/completions/%2E./x",
        "/../v1/chat/completions",
        "/v1/..;/admin",
        "/v1/chat/completions;/../../admin",
        "/v1/chat/completions%2f..%2f..%2fadmin",
        "/v1/chat/completions;x",
        "/v1/chat/completions/",
        "/v1/Chat/completions",
        "/v1/chat%2Fcompletions",
        "/v1/chat/complet%69ons",
        "/v1/files/%252e%252e",
        "/v1/files/%c0%ae%c0%ae/admin",
        "/v1/files/%ff",
        "/v1/files/%zz",
        "/v1beta/models/m%3AgenerateContent",
        "/v1beta/models/a%2F..%2F..%2Fb:generateContent",
        "/v1beta/models/a%252Fb:generateContent",
        "/openai/deployments/a%2F%2Fb/chat/completions",
        "/model/a%3Fb/converse",
        "/anything/%2e/else",
    ];
    for (n, path) in paths.iter().enumerate() {
        let id = format!("path-{n}");
        let bytes = with(&id, path, &[]);
        refused(&stage, &upstream, &bytes, &malformed(&id)).await;
    }
    assert!(upstream.snapshot().exchanges.is_empty());
    stage.stop().await;
}

/// What the SDKs send reaches the provider as it was written.
#[tokio::test]
async fn paths_of_real_clients_pass_as_they_came() {
    let (stage, upstream) = raw("").await;
    let paths = [
        "/v1beta/models/org%2Fname:generateContent",
        "/v1beta/models/org/name:generateContent?key=k",
        "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.m/converse",
        "/model/arn:aws:bedrock:us-east-1:1:inference-profile/us.m/converse",
        "/openai/deployments/org%2Fname/chat/completions?api-version=2026-01-01",
        "/openai/deployments/org/name/chat/completions?api-version=2026-01-01",
        "/v1/files/report%20%C3%A9t%C3%A9.pdf",
        "/v1/files/file-ABC?x=%2e%2e%2F",
        "/anything/else-that-(is)_fine~",
    ];
    for (n, path) in paths.iter().enumerate() {
        let id = format!("path-{n}");
        let answer = ask(&stage, &with(&id, path, &[])).await;
        assert_eq!(answer.status(), 200, "{path}: {}", answer.text());
        let seen = upstream.seen(&id).remove(0);
        let shown = path.replace("?key=k", "");
        assert_eq!(seen.target(), shown, "{path}");
    }
    for (id, method) in [("get", "GET"), ("delete", "DELETE")] {
        let path = "/v1/models/ft%3Agpt-4o%3Aorg%2Fname";
        let answer = stage
            .ask(&Ask {
                method,
                headers: &[],
                ..Ask::post(id, path, b"")
            })
            .await;
        assert_eq!(answer.status(), 200, "{id}: {}", answer.text());
        assert_eq!(upstream.seen(id)[0].target(), path);
    }
    stage.stop().await;
}

/// A `connection` header may take its own headers along, and none that say who asks or where the body ends.
#[tokio::test]
async fn a_connection_cannot_take_framing_or_credentials_along() {
    let (stage, upstream) = all_dialects("").await;
    for (n, names) in [
        "host",
        "close, Content-Length",
        "transfer-encoding",
        "x-a,authorization",
        "x-api-key",
        "x-goog-api-key , close",
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("named-{n}");
        let bytes = with(&id, CHAT, &[("connection", names)]);
        refused(&stage, &upstream, &bytes, &malformed(&id)).await;
    }
    let headers = [
        ("connection", "x-mine, keep-alive"),
        ("x-mine", "1"),
        ("x-other", "2"),
    ];
    let answer = ask(&stage, &with("own", CHAT, &headers)).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let seen = upstream.seen("own").remove(0);
    assert_eq!(
        (seen.header("x-mine"), seen.header("x-other")),
        (None, Some("2"))
    );
    stage.stop().await;
}

/// The method is the request line's. (That there is one authority is shown below the server.)
#[tokio::test]
async fn no_header_overrides_the_method() {
    let (stage, upstream) = all_dialects("").await;
    for (id, name) in [
        ("override", "x-http-method-override"),
        ("method", "X-HTTP-Method"),
    ] {
        let bytes = with(id, CHAT, &[(name, "DELETE")]);
        refused(&stage, &upstream, &bytes, &malformed(id)).await;
    }
    stage.stop().await;
}

/// F11: trailers of a body that nobody reads on the way are dropped as well.
#[tokio::test]
async fn trailers_of_a_relayed_body_are_dropped() {
    let (stage, upstream) = raw("").await;
    let head = with("late", "/v1/files", &[("trailer", "authorization, x-late")]);
    let head = String::from_utf8(head).expect("ASCII");
    let (head, _) = head.split_once("content-length").expect("a length");
    let body = "5\r\nhello\r\n0\r\nauthorization: Bearer sk-evil\r\ncontent-length: 3\r\nx-late: 1\r\n\r\n";
    let bytes = format!("{head}transfer-encoding: chunked\r\n\r\n{body}");
    let answer = ask(&stage, bytes.as_bytes()).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let seen = upstream.seen("late").remove(0);
    assert_eq!(seen.body, b"hello");
    let head = String::from_utf8_lossy(&seen.head);
    assert!(
        !head.contains("sk-evil") && !head.contains("x-late"),
        "{head}"
    );
    assert_eq!(seen.header("content-length"), None);
    stage.stop().await;
}

/// F12: what is refused by its head is refused without `100 Continue`; what is read is asked for, and `expect` is not passed on.
#[tokio::test]
async fn nobody_is_told_to_go_on_with_a_refused_body() {
    let (stage, upstream) = all_dialects("").await;
    for (id, from, to, status) in [
        ("path", CHAT, "/v1/%2e%2e/admin", 400),
        ("host", "host: 127.0.0.1", "host: evil.example", 403),
        ("method", "POST ", "BREW ", 405),
    ] {
        let headers = [
            ("expect", "100-continue"),
            ("content-type", "application/json"),
        ];
        let ask = Ask {
            headers: &headers,
            ..Ask::post(id, CHAT, b"")
        };
        let head = replaced(&ask.head(BODY.len() as u64), from, to);
        let answer = stage.open(head).await.response().await;
        assert_eq!(answer.status(), status, "{id}: {}", answer.text());
        assert!(answer.interim.is_empty(), "{id}: {:?}", answer.interim);
        assert_eq!(upstream.attempts(id), 0, "{id}");
    }
    let headers = [
        ("expect", "100-continue"),
        ("content-type", "application/json"),
    ];
    let ask = Ask {
        headers: &headers,
        ..Ask::post("read", CHAT, b"")
    };
    let conn = stage.open(ask.head(BODY.len() as u64)).await;
    assert!(conn.until(|message| !message.interim.is_empty()).await);
    conn.send(BODY).await.expect("the body is read");
    let answer = conn.response().await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(upstream.seen("read")[0].header("expect"), None);
    stage.stop().await;
}

/// F17: names of ours are ours; twins of names that matter go nowhere; what a proxy says passes as it came.
#[tokio::test]
async fn names_of_ours_are_stripped_at_the_edge() {
    let (stage, upstream) = all_dialects("layers: { auth: { open: true } }").await;
    let ours = [
        ("tollgate-request-id", "forged"),
        ("tollgate-route", "forged"),
        ("tollgate-provider", "forged"),
        ("tollgate-caller", "forged"),
        ("x-tollgate-internal", "forged"),
        ("tollgate_route", "forged"),
        ("x_api_key", "forged"),
        ("content_length", "3"),
        ("x_custom", "forged"),
        ("x-original-url", "/admin"),
        // Ours to read, and nobody's behind us.
        ("x-tollgate-metadata", "forged"),
    ];
    let kept = [
        ("x-custom", "kept"),
        ("session_id", "kept"),
        ("x-forwarded-for", "10.1.2.3, 10.4.5.6"),
        ("forwarded", "for=10.1.2.3"),
        ("x-real-ip", "10.1.2.3"),
    ];
    let answer = ask(&stage, &with("ours", CHAT, &[&ours[..], &kept].concat())).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert!(
        answer.headers.iter().all(|(_, value)| value != "forged"),
        "{answer:#?}"
    );
    let seen = upstream.seen("ours").remove(0);
    for (name, _) in ours {
        assert_eq!(seen.header(name), None, "{name}");
    }
    for (name, value) in kept {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
    stage.stop().await;
}

/// Without callers only this machine is served: not a name that leads to it (DNS rebinding), not what a proxy passes on, not a
/// page of another site.
#[tokio::test]
async fn strangers_are_not_served_where_nobody_says_who_they_are() {
    let (stage, upstream) = all_dialects("").await;
    let strangers = [
        ("host", "host: evil.example"),
        ("host-port", "host: evil.example:8080"),
        ("host-suffix", "host: 127.0.0.1.evil.example"),
        ("host-localhost-suffix", "host: localhost.evil.example"),
        ("host-any", "host: 0.0.0.0"),
        (
            "forwarded-for",
            "host: 127.0.0.1\r\nx-forwarded-for: 127.0.0.1",
        ),
        (
            "forwarded-host",
            "host: 127.0.0.1\r\nx-forwarded-host: localhost",
        ),
        ("forwarded", "host: 127.0.0.1\r\nforwarded: for=10.1.2.3"),
        ("real-ip", "host: 127.0.0.1\r\nx-real-ip: 10.1.2.3"),
        ("via", "host: 127.0.0.1\r\nvia: 1.1 proxy"),
        ("origin", "host: 127.0.0.1\r\norigin: https://evil.example"),
        ("origin-null", "host: 127.0.0.1\r\norigin: null"),
        (
            "fetch-site",
            "host: 127.0.0.1\r\nsec-fetch-site: cross-site",
        ),
    ];
    for (id, lines) in strangers {
        let bytes = replaced(&with(id, CHAT, &[]), "host: 127.0.0.1", lines);
        let conn = stage.open(bytes).await;
        let answer = conn.response().await;
        let told = assert_told(id, &answer, "openai", 403, "forbidden", "hygiene");
        assert!(told.contains("nobody has to say who they are"), "{told}");
        assert_line(&stage.line(id).await, "refused", "hygiene", "forbidden");
        assert_eq!(upstream.attempts(id), 0, "{id}");
    }
    let locals = [
        ("port", "host: 127.0.0.1:8080"),
        ("other", "host: 127.9.9.9"),
        ("name", "host: localhost"),
        ("upper", "host: LOCALHOST:1"),
        ("v6", "host: [::1]:8080"),
        (
            "same-origin",
            "host: localhost\r\nsec-fetch-site: same-origin",
        ),
        (
            "own-page",
            "host: localhost\r\norigin: http://localhost:3000",
        ),
    ];
    for (id, lines) in locals {
        let bytes = replaced(&with(id, CHAT, &[]), "host: 127.0.0.1", lines);
        let answer = ask(&stage, &bytes).await;
        assert_eq!(answer.status(), 200, "{id}: {}", answer.text());
    }
    stage.stop().await;
    // An operator who wants it serves everyone.
    let (stage, _upstream) = all_dialects("layers: { auth: { open: true } }").await;
    for (id, lines) in strangers {
        let bytes = replaced(&with(id, CHAT, &[]), "host: 127.0.0.1", lines);
        let answer = ask(&stage, &bytes).await;
        assert_eq!(answer.status(), 200, "{id}: {}", answer.text());
    }
    stage.stop().await;
}

/// X03: no path and no method has a way of its own past the chain, old and undocumented ones included.
#[tokio::test]
async fn every_path_and_method_meets_the_same_chain() {
    let (stage, upstream) = all_dialects("").await;
    let mut paths: BTreeSet<&str> = recordings::all().iter().map(|it| &*it.asked).collect();
    paths.extend(OTHER_PATHS);
    assert!(paths.len() > 30, "{paths:?}");
    let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    for (number, path) in paths.into_iter().enumerate() {
        for method in methods {
            let id = format!("walk-{number}-{method}");
            let ask = Ask {
                method,
                ..Ask::post(&id, path, b"{}")
            };
            let conn = stage.connect().await;
            conn.next(method);
            let bytes = replaced(&ask.bytes(), "host: 127.0.0.1", "host: evil.example");
            conn.send(bytes).await.expect("it is read");
            let answer = conn.response().await;
            let by = answer.header("tollgate-refused-by");
            assert_eq!(
                (answer.status(), by),
                (403, Some("hygiene")),
                "{method} {path}"
            );
        }
    }
    assert!(upstream.snapshot().exchanges.is_empty());
    stage.stop().await;
}

/// Known ones that no recording asks for, those of other listeners, and such as older gateways had.
const OTHER_PATHS: [&str; 24] = [
    "/v1/models",
    "/v1/models/m",
    "/v1/completions",
    "/v1/moderations",
    "/v1/audio/speech",
    "/v1/files",
    "/v1/batches",
    "/v1/responses/r",
    "/v1/messages/count_tokens",
    "/v1beta/models",
    "/api/tags",
    "/api/generate",
    "/api/embed",
    "/v2/embed",
    "/v1/rerank",
    "/livez",
    "/readyz",
    "/healthz",
    "/metrics",
    "/config",
    "/reload",
    "/drain",
    "/admin",
    "/unknown",
];

/// Clients and load balancers ask so whether somebody is there: they learn no more, and it is logged like anything else.
#[tokio::test]
async fn the_root_is_answered_with_nothing_in_it() {
    let (stage, upstream) = all_dialects("").await;
    for (id, method, host) in [
        ("get", "GET", "127.0.0.1"),
        ("head", "HEAD", "gateway.example"),
    ] {
        let ask = Ask {
            method,
            headers: &[],
            ..Ask::post(id, "/", b"")
        };
        let conn = stage.connect().await;
        conn.next(method);
        let bytes = replaced(&ask.bytes(), "host: 127.0.0.1", &format!("host: {host}"));
        conn.send(bytes).await.expect("it is read");
        let answer = conn.response().await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, ""), "{id}");
        // Where there is no body to announce, its length may be left out.
        let length = answer.header("content-length").unwrap_or("0");
        assert_eq!(length, "0", "{id}");
        assert_eq!(answer.header("tollgate-refused-by"), None, "{id}");
        let line = stage.line(id).await;
        assert_eq!((&line["status"], &line["path"]), (&200.into(), &"/".into()));
        assert_eq!(line["ended"], "complete");
    }
    assert!(upstream.snapshot().exchanges.is_empty());
    stage.stop().await;
}
