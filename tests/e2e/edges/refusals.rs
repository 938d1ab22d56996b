//! Requests that cannot be served: refused before anything is sent, with what to do.

use tollgate_testing::client::Conn;

use super::{BODY, CHAT, SURFACES, all_dialects, assert_line, assert_told};
use crate::harness::Ask;

/// D05: what is no acceptable JSON is refused with the place of the fault.
#[tokio::test]
async fn bad_json_is_refused_with_its_place() {
    let deep = |levels: usize| {
        format!(
            r#"{{"model":"m","x":{}{}}}"#,
            "[".repeat(levels),
            "]".repeat(levels)
        )
    };
    let utf16: Vec<u8> = r#"{"model":"m"}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let cases: [(&str, Vec<u8>, &str); 16] = [
        ("empty", b"".to_vec(), "(byte 0)"),
        ("blank", b" \n ".to_vec(), "line 2 column 2 (byte 3)"),
        ("cut", br#"{"model":"m""#.to_vec(), "(byte 12)"),
        (
            "comma",
            b"{\n  \"model\": \"m\",\n}".to_vec(),
            "line 3 column 1 (byte 18)",
        ),
        ("trailing", br#"{"model":"m"} x"#.to_vec(), "(byte 14)"),
        (
            "nan",
            br#"{"model":"m","temperature":NaN}"#.to_vec(),
            "(byte 27)",
        ),
        ("number", br#"{"model":"m","n":01}"#.to_vec(), "(byte 1"),
        ("control", b"{\"model\":\"m\x01\"}".to_vec(), "(byte 11)"),
        (
            "twice",
            br#"{"model":"m","model":"other"}"#.to_vec(),
            "duplicate member name",
        ),
        (
            "escaped-twice",
            br#"{"model":"m","\u006dodel":"other"}"#.to_vec(),
            "duplicate member name",
        ),
        (
            "inner-twice",
            br#"{"model":"m","messages":[{"role":"a","role":"b"}]}"#.to_vec(),
            "duplicate member name",
        ),
        ("deep", deep(128).into_bytes(), "nesting over the limit"),
        (
            "abyss",
            deep(100_000).into_bytes(),
            "nesting over the limit",
        ),
        (
            "utf8",
            b"{\"model\":\"m\",\"x\":\"\xff\"}".to_vec(),
            "invalid utf-8",
        ),
        ("bom", [b"\xef\xbb\xbf", BODY].concat(), "byte order mark"),
        ("utf16", utf16, "(byte 1)"),
    ];
    let (stage, upstream) = all_dialects("").await;
    for (name, body, place) in &cases {
        let answer = stage.ask(&Ask::post(name, CHAT, body)).await;
        let told = assert_told(name, &answer, "openai", 400, "malformed_request", "peek");
        assert!(told.contains(place), "{name}: {told}");
        assert_eq!(answer.header("x-request-id"), Some(*name));
        assert_line(
            &stage.line(name).await,
            "refused",
            "peek",
            "malformed_request",
        );
    }
    let answer = stage.ask(&Ask::post("list", CHAT, b"[]")).await;
    assert!(
        assert_told("list", &answer, "openai", 400, "malformed_request", "peek").contains("object")
    );
    let body = deep(127);
    let answer = stage
        .ask(&Ask::post("not-so-deep", CHAT, body.as_bytes()))
        .await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let seen = upstream.snapshot().exchanges;
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].body, body.as_bytes());
    stage.stop().await;
}

#[tokio::test]
async fn an_unknown_model_is_refused_in_each_dialect() {
    let (stage, upstream) = all_dialects("").await;
    for (dialect, path, body) in SURFACES {
        let id = format!("unknown-{dialect}");
        let (path, body) = (
            path.replace("MODEL", "gpt-9"),
            body.replace("MODEL", "gpt-9"),
        );
        let answer = stage.ask(&Ask::post(&id, &path, body.as_bytes())).await;
        assert_told(&id, &answer, dialect, 404, "model_not_found", "route");
        assert_line(
            &stage.line(&id).await,
            "refused",
            "route",
            "model_not_found",
        );
    }
    assert!(upstream.snapshot().exchanges.is_empty());
    stage.stop().await;
}

#[tokio::test]
async fn a_wrong_prefix_is_refused_with_the_right_one() {
    let (stage, upstream) = all_dialects("").await;
    for (n, path) in ["/v1/v1/chat/completions", "/chat/completions"]
        .into_iter()
        .enumerate()
    {
        let id = format!("prefix-{n}");
        let answer = stage.ask(&Ask::post(&id, path, BODY)).await;
        assert_eq!(answer.status(), 404, "{path}: {}", answer.text());
        let told = answer.json()["error"]["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(told.contains("/v1"), "{path}: {told}");
        assert_line(&stage.line(&id).await, "refused", "route", "not_found");
    }
    assert!(upstream.snapshot().exchanges.is_empty());
    stage.stop().await;
}

/// D02: by the announced length before anything is read, and by counting where nothing is announced.
#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let (stage, upstream) = all_dialects("server: { limits: { body: 16KiB } }").await;
    for (dialect, path, _) in SURFACES {
        let id = format!("announced-{dialect}");
        let path = path.replace("MODEL", "m");
        let conn = stage
            .open(Ask::post(&id, &path, b"").head(16 * 1024 + 1))
            .await;
        let answer = conn.response().await;
        assert_told(&id, &answer, dialect, 413, "request_too_large", "peek");
        assert_line(
            &stage.line(&id).await,
            "refused",
            "peek",
            "request_too_large",
        );
    }
    let padded = |size: usize| {
        let rest = r#"{"model":"m","x":""}"#.len();
        format!(r#"{{"model":"m","x":"{}"}}"#, "a".repeat(size - rest))
    };
    for (id, size, status) in [("at", 16 * 1024, 200), ("over", 16 * 1024 + 1, 413)] {
        let conn = stage.open(chunked(&Ask::post(id, CHAT, b""))).await;
        let sent = send_chunks(&conn, padded(size).as_bytes()).await;
        let answer = conn.response().await;
        assert_eq!(answer.status(), status, "{id}: {}", answer.text());
        assert!(sent || status == 413);
    }
    assert_eq!(upstream.snapshot().exchanges.len(), 1);
    stage.stop().await;
}

/// D02: a body that is relayed while it comes is counted too, and the provider never takes it for whole.
#[tokio::test]
async fn a_relayed_body_over_the_limit_is_refused_where_it_passes_it() {
    let (stage, upstream) = all_dialects("server: { limits: { body: 16KiB } }").await;
    let ask = Ask {
        path: "/v1/audio/transcriptions",
        headers: &[("content-type", "multipart/form-data; boundary=b")],
        ..Ask::post("relayed", CHAT, b"")
    };
    let conn = stage.open(chunked(&ask)).await;
    let start = "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b\r\n\
                 content-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n";
    let body = [start.as_bytes(), &[b'a'; 20_000]].concat();
    send_chunks(&conn, &body).await;
    let answer = conn.response().await;
    assert_told(
        "relayed",
        &answer,
        "openai",
        413,
        "request_too_large",
        "peek",
    );
    assert_line(
        &stage.line("relayed").await,
        "refused",
        "peek",
        "request_too_large",
    );
    let seen = upstream.snapshot();
    assert!(
        seen.exchanges.iter().all(|it| it.body.len() <= 16 * 1024),
        "{seen:?}"
    );
    stage.stop().await;
}

/// The head of a request whose length is not announced.
fn chunked(ask: &Ask<'_>) -> Vec<u8> {
    let head = String::from_utf8(ask.head(0)).expect("ASCII");
    head.replace("content-length: 0", "transfer-encoding: chunked")
        .into_bytes()
}

/// Whether the gateway took all of it.
async fn send_chunks(conn: &Conn, body: &[u8]) -> bool {
    for piece in body.chunks(1000) {
        let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
        if conn.send(chunk).await.is_err() {
            return false;
        }
    }
    conn.send("0\r\n\r\n").await.is_ok()
}

/// F15: a head over 32 KiB is refused; one just below passes with all of its bytes.
#[tokio::test]
async fn a_head_over_the_limit_is_refused() {
    let (stage, upstream) = all_dialects("").await;
    for (id, size, status) in [("large", 31 * 1024, 200), ("too-large", 33 * 1024, 431)] {
        let value = "v".repeat(size);
        let headers = [
            ("content-type", "application/json"),
            ("x-large", value.as_str()),
        ];
        let answer = stage
            .ask(&Ask {
                headers: &headers,
                ..Ask::post(id, CHAT, BODY)
            })
            .await;
        assert_eq!(answer.status(), status, "{id}");
        let seen = upstream.seen(id);
        assert_eq!(seen.len(), usize::from(status == 200));
        assert!(seen.iter().all(|it| it.header("x-large") == Some(&value)));
    }
    stage.stop().await;
}
