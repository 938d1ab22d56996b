//! Every kind of head that two implementations could read differently: its status, a closed connection, and nothing at
//! the provider.

use tokio::task::JoinSet;

use super::{BODY, CHAT, stage};

/// A request and what is to be answered.
struct Case {
    name: String,
    bytes: Vec<u8>,
    status: u16,
}

/// What a good request of these tests has beside its `Host`.
const LINES: [&str; 2] = ["content-type: application/json", "accept: */*"];

fn request(start: &str, lines: &[&str], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{start}\r\n{}\r\n\r\n", lines.join("\r\n")).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Cases that differ from a good request in their lines: `{n}` is the length of the body.
fn with_lines(kind: &str, status: u16, all: &[&[&str]], body: &[u8]) -> Vec<Case> {
    let length = body.len().to_string();
    let case = |own: &&[&str]| {
        let own: Vec<String> = own
            .iter()
            .map(|line| line.replace("{n}", &length))
            .collect();
        let mut lines = vec!["host: 127.0.0.1"];
        lines.extend(LINES);
        lines.extend(own.iter().map(String::as_str));
        Case {
            name: format!("{kind} {own:?}"),
            bytes: request(&format!("POST {CHAT} HTTP/1.1"), &lines, body),
            status,
        }
    };
    all.iter().map(case).collect()
}

/// Cases of a whole head.
fn with_head(kind: &str, status: u16, all: &[(&str, &[&str])]) -> Vec<Case> {
    let case = |(start, lines): &(&str, &[&str])| Case {
        name: format!("{kind} {start:?} {lines:?}"),
        bytes: request(start, lines, b""),
        status,
    };
    all.iter().map(case).collect()
}

fn chunked() -> Vec<u8> {
    let size = format!("{:x}\r\n", BODY.len());
    [size.as_bytes(), BODY, b"\r\n0\r\n\r\n"].concat()
}

/// F01 and F02.
fn codings() -> Vec<Case> {
    let te = "transfer-encoding: chunked";
    with_lines(
        "coding",
        400,
        &[
            &[te, "content-length: {n}"],
            &["content-length: {n}", te],
            &["content-length: 0", te],
            &["Content-Length: 4", "TRANSFER-ENCODING: CHUNKED"],
            &[te, te],
            &[te, "transfer-encoding: identity"],
            &["transfer-encoding: identity", te],
            &["transfer-encoding: identity"],
            &["transfer-encoding: gzip"],
            &["transfer-encoding: gzip, chunked"],
            &["transfer-encoding: chunked, gzip"],
            &["transfer-encoding: chunked, identity"],
            &["transfer-encoding: chunked, chunked"],
            &["transfer-encoding: chunked,"],
            &["transfer-encoding: ,chunked"],
            &["transfer-encoding: chunked;q=1"],
            &["transfer-encoding: xchunked"],
            &["transfer-encoding: chunkedx"],
            &["transfer-encoding: chunke"],
            &["transfer-encoding: \"chunked\""],
            &["transfer-encoding: 'chunked'"],
            &["transfer-encoding: chun ked"],
            &["transfer-encoding: chunked\u{a0}"],
            &["transfer-encoding: \u{b}chunked"],
            &["transfer-encoding: chunked\u{c}"],
            &["transfer-encoding: \u{0}chunked"],
            &["transfer-encoding:"],
            &["transfer-encoding: "],
            &["transfer-encoding: cow"],
            &["transfer-encoding : chunked"],
            &[" transfer-encoding: chunked"],
            &["\ttransfer-encoding: chunked"],
            &["x: y\r\n transfer-encoding: chunked"],
            &["transfer-encoding:\r\n chunked"],
            &["transfer-encoding: x\r\n\tchunked"],
            &["transfer-encoding\u{0}: chunked"],
        ],
        &chunked(),
    )
}

/// F03.
fn lengths() -> Vec<Case> {
    with_lines(
        "length",
        400,
        &[
            &["content-length: +{n}"],
            &["content-length: -1"],
            &["content-length: -{n}"],
            &["content-length:"],
            &["content-length: "],
            &["content-length: {n}, {n}"],
            &["content-length: {n},"],
            &["content-length: ,{n}"],
            &["content-length: {n} {n}"],
            &["content-length: {n}", "content-length: {n}"],
            &["content-length: {n}", "Content-Length: 2"],
            &["content-length: 0", "content-length: {n}"],
            &["content-length: 18446744073709551616"],
            &["content-length: 18446744073709551615"],
            &["content-length: 9223372036854775808"],
            &["content-length: 99999999999999999999999999"],
            &["content-length: 0x{n}"],
            &["content-length: {n}h"],
            &["content-length: {n}.0"],
            &["content-length: 1e1"],
            &["content-length: 1_0"],
            &["content-length: \"{n}\""],
            &["content-length: {n};x"],
            &["content-length: \u{b}{n}"],
            &["content-length: {n}\u{a0}"],
            &["content-length: \u{661}"],
            &["content-length : {n}"],
            &["content-length\t: {n}"],
            &["content-length: {n}\r\n 0"],
            &["content-length: \u{0}{n}"],
        ],
        BODY,
    )
}

/// F02 and F03 with one byte above 0x7f, which some readers take for a space: the no-break space of Latin-1, and the line
/// break of eight bits.
fn high_spaces() -> Vec<Case> {
    let mut all = Vec::new();
    for byte in [0xa0, 0x85] {
        // A tilde stands for it.
        let coding: [&[&str]; 5] = [
            &["transfer-encoding: ~chunked"],
            &["transfer-encoding: chunked~"],
            &["transfer-encoding: ~\tchunked"],
            &["transfer-encoding~: chunked"],
            &["transfer-encoding: chunked,~chunked"],
        ];
        let length: [&[&str]; 5] = [
            &["content-length: ~{n}"],
            &["content-length: {n}~"],
            &["content-length:~{n}"],
            &["content-length~: {n}"],
            &["content-length: 1~1"],
        ];
        let codings = with_lines("coding", 400, &coding, &chunked());
        let lengths = with_lines("length", 400, &length, BODY);
        all.extend(codings.into_iter().chain(lengths).map(|mut case| {
            case.name.push_str(&format!(" {byte:#x}"));
            let tildes = case.bytes.iter_mut().filter(|it| **it == b'~');
            tildes.for_each(|it| *it = byte);
            case
        }));
    }
    all
}

/// F05.
fn fields() -> Vec<Case> {
    let mut all = with_lines(
        "field",
        400,
        &[
            &["x: a\rb", "content-length: {n}"],
            &["x: a\r", "content-length: {n}"],
            &["x: \r\r", "content-length: {n}"],
            &["x: a\u{0}b", "content-length: {n}"],
            &["x: a\u{1}b", "content-length: {n}"],
            &["x: a\u{8}b", "content-length: {n}"],
            &["x: a\u{b}b", "content-length: {n}"],
            &["x: a\u{c}b", "content-length: {n}"],
            &["x: a\u{1b}[2Jb", "content-length: {n}"],
            &["x: a\u{7f}b", "content-length: {n}"],
            &["x: a\nb: c", "content-length: {n}"],
            &["x: a\n", "content-length: {n}"],
            &["x: a\r\n b", "content-length: {n}"],
            &["x: a\r\n\tb", "content-length: {n}"],
            &["x : a", "content-length: {n}"],
            &["x\t: a", "content-length: {n}"],
            &["x a: b", "content-length: {n}"],
            &["nonsense", "content-length: {n}"],
            &[": a", "content-length: {n}"],
            &[":", "content-length: {n}"],
            &["(x): a", "content-length: {n}"],
            &["x@y: a", "content-length: {n}"],
            &["x[0]: a", "content-length: {n}"],
            &["x\"y: a", "content-length: {n}"],
            &["x/y: a", "content-length: {n}"],
            &["x\u{e9}: a", "content-length: {n}"],
            &["x\u{0}y: a", "content-length: {n}"],
            &["{x}: a", "content-length: {n}"],
            &["=x: a", "content-length: {n}"],
            &["<x>: a", "content-length: {n}"],
        ],
        BODY,
    );
    let start = format!("POST {CHAT} HTTP/1.1");
    all.extend(with_head(
        "first field",
        400,
        &[
            (&start, &[" x: a", "host: 127.0.0.1", "content-length: 0"]),
            (&start, &["\tx: a", "host: 127.0.0.1", "content-length: 0"]),
        ],
    ));
    // Line ends of other systems.
    for (name, end) in [("lf", "\n"), ("cr", "\r"), ("lf cr", "\n\r")] {
        let text = format!("{start}{end}host: 127.0.0.1{end}content-length: 0{end}{end}");
        let bytes = if end == "\n" {
            text.into_bytes()
        } else {
            (text + "\r\n\r\n").into_bytes()
        };
        let name = format!("lines end with {name}");
        all.push(Case {
            name,
            bytes,
            status: 400,
        });
    }
    let mixed = format!("{start}\r\nhost: 127.0.0.1\ncontent-length: 0\r\n\r\n");
    let last = format!("{start}\r\nhost: 127.0.0.1\r\ncontent-length: 0\r\n\n");
    for (name, text) in [("one line with lf", mixed), ("the last line with lf", last)] {
        all.push(Case {
            name: name.into(),
            bytes: text.into_bytes(),
            status: 400,
        });
    }
    all
}

/// F06, F10 and the targets.
fn starts() -> Vec<Case> {
    let host: &[&str] = &["host: 127.0.0.1", "content-length: 0"];
    let mut all = with_head(
        "start",
        400,
        &[
            ("POST /v1/chat/completions", host),
            ("POST /v1/chat/completions HTTP/0.9", host),
            ("POST /v1/chat/completions HTTP/1.9", host),
            ("POST /v1/chat/completions HTTP/2.0", host),
            ("POST /v1/chat/completions HTTP/3", host),
            ("POST /v1/chat/completions HTTP/1", host),
            ("POST /v1/chat/completions HTTP/1.1.1", host),
            ("POST /v1/chat/completions HTTP/01.1", host),
            ("POST /v1/chat/completions HTTP/1.1 ", host),
            ("POST /v1/chat/completions  HTTP/1.1", host),
            ("POST  /v1/chat/completions HTTP/1.1", host),
            (" POST /v1/chat/completions HTTP/1.1", host),
            ("POST\t/v1/chat/completions\tHTTP/1.1", host),
            ("POST /v1/chat/completions http/1.1", host),
            ("POST /v1/chat/completions HTTPS/1.1", host),
            ("POST /v1/chat/completions HTTP/1.1\u{0}", host),
            ("POST /v1/chat completions HTTP/1.1", host),
            ("POST /v1/chat\u{0}completions HTTP/1.1", host),
            ("POST /v1/chat\u{1}completions HTTP/1.1", host),
            ("POST /v1/chat\u{e9}completions HTTP/1.1", host),
            ("POST /v1/chat/completions#x HTTP/1.1", host),
            ("POST /v1/chat/completions?<x> HTTP/1.1", host),
            ("POST v1/chat/completions HTTP/1.1", host),
            ("POST * HTTP/1.1", host),
            ("POST ? HTTP/1.1", host),
            ("POST 127.0.0.1:80 HTTP/1.1", host),
            ("POST ftp://127.0.0.1/ HTTP/1.1", host),
            ("POST http:/v1 HTTP/1.1", host),
            ("POST http:///v1 HTTP/1.1", host),
            ("POST http://evil/v1/chat/completions HTTP/1.1", host),
            ("POST http://x@127.0.0.1/v1/chat/completions HTTP/1.1", host),
            (
                "POST http://127.0.0.1:81/v1/chat/completions HTTP/1.1",
                host,
            ),
            ("PRI * HTTP/2.0", &[]),
            ("post /v1/chat/completions HTTP/1.1", host),
            ("Post /v1/chat/completions HTTP/1.1", host),
            ("P@ST /v1/chat/completions HTTP/1.1", host),
            ("PO\u{0}ST /v1/chat/completions HTTP/1.1", host),
            ("", host),
            ("GARBAGE", host),
            ("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}", &[]),
            ("SSH-2.0-OpenSSH_9.9", &[]),
            // F06: an older client
            (
                "POST /v1/chat/completions HTTP/1.0",
                &["host: 127.0.0.1", "transfer-encoding: chunked"],
            ),
            ("POST /v1/chat/completions HTTP/1.0", &["host: 127.0.0.1"]),
            ("PUT /v1/chat/completions HTTP/1.0", &["host: 127.0.0.1"]),
        ],
    );
    all.extend(with_head(
        "method",
        405,
        &[
            ("CONNECT evil:443 HTTP/1.1", &["host: evil:443"]),
            ("CONNECT /v1/chat/completions HTTP/1.1", host),
            ("TRACE /v1/chat/completions HTTP/1.1", host),
            ("TRACE * HTTP/1.1", host),
        ],
    ));
    let long = format!("GET /{} HTTP/1.1", "a".repeat(10_000));
    let longer = format!("GET /{} HTTP/1.1", "a".repeat(40_000));
    let endless = format!("GET /{}", "a".repeat(40_000));
    for start in [long, longer, endless] {
        let name = format!("a target of {}", start.len());
        all.push(Case {
            name,
            bytes: request(&start, host, b""),
            status: 414,
        });
    }
    all
}

/// F07.
fn hosts() -> Vec<Case> {
    let start = format!("GET {CHAT} HTTP/1.1");
    let label = format!("host: {}.localhost", "a".repeat(64));
    let long = format!("host: {}localhost", "a.".repeat(150));
    let lines: [&[&str]; 30] = [
        &[],
        &["x-host: 127.0.0.1"],
        &["host: 127.0.0.1", "host: 127.0.0.1"],
        &["host: 127.0.0.1", "Host: localhost"],
        &["host:"],
        &["host: "],
        &["host: 127.0.0.1/#"],
        &["host: 127.0.0.1/"],
        &["host: 127.0.0.1?x"],
        &["host: 127.0.0.1@evil"],
        &["host: user@127.0.0.1"],
        &["host: user:pass@127.0.0.1"],
        &["host: 127.0.0.1:99999"],
        &["host: 127.0.0.1:65536"],
        &["host: 127.0.0.1:-1"],
        &["host: 127.0.0.1:80:80"],
        &["host: 127.0.0.1:8o"],
        &["host: 127.0.0.1 evil"],
        &["host: 127.0.0.1,evil"],
        &["host: 127.0.0.1\tevil"],
        &["host: :80"],
        &["host: [::1"],
        &["host: ::1"],
        &["host: []"],
        &["host: [::1]x"],
        &["host: [::g]"],
        &["host: evil\\127.0.0.1"],
        &["host: 127.0.0.1%2fevil"],
        &[&label],
        &[&long],
    ];
    let cases: Vec<(&str, &[&str])> = lines.iter().map(|lines| (&*start, *lines)).collect();
    with_head("host", 400, &cases)
}

/// F15.
fn sizes() -> Vec<Case> {
    let many: Vec<String> = (0..101).map(|n| format!("x-{n}: 1")).collect();
    let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
    many.push("content-length: {n}");
    let large = format!("x: {}", "a".repeat(33_000));
    let huge = format!("x: {}", "a".repeat(512 * 1024));
    let name = format!("{}: a", "x".repeat(33_000));
    let lines: Vec<String> = (0..90)
        .map(|n| format!("x-{n}: {}", "a".repeat(400)))
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let large: [&str; 2] = [&large, "content-length: {n}"];
    with_lines(
        "size",
        431,
        &[&many, &large, &[&huge], &[&name], &lines],
        BODY,
    )
}

/// The whole table.
fn cases() -> Vec<Case> {
    let parts = [codings, lengths, high_spaces, fields, starts, hosts, sizes];
    parts.into_iter().flat_map(|part| part()).collect()
}

/// The bytes of every request of the table.
pub(crate) fn all() -> Vec<Vec<u8>> {
    cases().into_iter().map(|case| case.bytes).collect()
}

#[tokio::test]
async fn no_malformed_head_reaches_the_provider_and_each_closes_the_connection() {
    let (stage, upstream) = stage("").await;
    let (all, stage) = (cases(), std::sync::Arc::new(stage));
    let count = all.len();
    assert!(count >= 150, "{count} cases");
    let mut running = JoinSet::new();
    for Case {
        name,
        bytes,
        status,
    } in all
    {
        let stage = stage.clone();
        running.spawn(async move {
            let conn = stage.open(bytes).await;
            let answer = conn.response().await;
            assert_eq!(answer.status(), status, "{name:.300}");
            assert_eq!(
                answer.header("tollgate-refused-by"),
                Some("wire"),
                "{name:.300}"
            );
            conn.closed().await;
            let line = stage
                .line(answer.header("x-request-id").expect("a name"))
                .await;
            assert_eq!(
                (&line["refused_by"], &line["status"]),
                (&"wire".into(), &status.into()),
                "{name:.300}"
            );
        });
        if running.len() >= 32 {
            running
                .join_next()
                .await
                .expect("one runs")
                .expect("a case");
        }
    }
    while let Some(ended) = running.join_next().await {
        ended.expect("a case");
    }
    assert_eq!(upstream.connections(), 0, "something was sent upstream");
    println!("{count} malformed requests");
    let stage = std::sync::Arc::into_inner(stage).expect("all cases are over");
    stage.stop().await;
}
