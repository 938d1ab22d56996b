//! Secrets leave the program to their provider and to nobody else: not to a log, a diagnostic, a page or an error.

use std::{fs, path::Path};

use tempfile::{TempDir, tempdir};
use tollgate_testing::{
    client::{Conn, Message, call},
    upstream::{Framing, Refusing, SCRIPT, Script, Upstream},
};

use crate::binary::{CHAT, Program, Start, serve, shown, tollgate};

/// Where each secret comes from: the configuration's first, then the caller's.
const PLACES: [&str; 12] = [
    "credential, literal",
    "header, literal",
    "credential, expanded variable",
    "header, expanded variable",
    "credential with a name",
    "credential, variable",
    "credential, file",
    "header, file",
    "admin token",
    "the caller's key",
    "the caller's key in the query",
    "prompt",
];

/// The secret of a place: forty characters that come up nowhere else.
fn secret(place: usize) -> String {
    // xorshift64 of Marsaglia, seeded with the place.
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ (place as u64 + 1);
    let letters = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz23456789";
    let letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(letters[(state >> 32) as usize % letters.len()])
    };
    std::iter::repeat_with(letter).take(40).collect()
}

/// Pieces of twelve characters, of a text and of the ways in which bytes are commonly shown.
fn pieces(secret: &str) -> Vec<String> {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let decimal: Vec<_> = secret.bytes().map(|byte| byte.to_string()).collect();
    let mut pieces: Vec<_> = decimal.windows(12).map(|some| some.join(", ")).collect();
    let mut texts = vec![secret.to_owned(), hex.to_uppercase(), hex];
    // Encoded behind other bytes, a secret begins at any of three offsets.
    texts.extend((0..3).map(|at| base64(&secret.as_bytes()[at..])));
    for text in texts {
        pieces.extend((0..=text.len() - 12).map(|at| text[at..at + 12].to_owned()));
    }
    pieces
}

/// RFC 4648 section 4, of whole groups: letters and digits give neither of the two signs that differ in section 5.
fn base64(bytes: &[u8]) -> String {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let groups = bytes.chunks_exact(3).flat_map(|group| {
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        [18, 12, 6, 0].map(|shift| char::from(digits[(bits >> shift & 63) as usize]))
    });
    groups.collect()
}

/// Fails if a piece of a secret is in the text.
fn hunt(what: &str, text: &str) {
    for (place, name) in PLACES.iter().enumerate() {
        for piece in pieces(&secret(place)) {
            assert!(
                !text.contains(&piece),
                "{name} is in {what} as {piece}:\n{text}"
            );
        }
    }
}

#[test]
fn the_hunt_finds_what_it_hunts() {
    let found = |text: String| std::panic::catch_unwind(|| hunt("a test", &text)).is_err();
    for place in 0..PLACES.len() {
        let secret = secret(place);
        assert!(found(format!("key={}…", &secret[20..32])));
        assert!(found(base64(format!("user{secret}").as_bytes())));
        assert!(found(format!("{:?}", secret.as_bytes())));
    }
    assert!(!found("a line without any of them".into()));
}

/// The file, with each secret of the configuration in its place.
fn config(folder: &Path, upstream: &Upstream, down: &Down) -> String {
    let put = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let [credential, header] =
        [("credential", 6), ("header", 7)].map(|(name, place)| put(name, secret(place)));
    let [literal, literal_header, named] = [0, 1, 4].map(secret);
    let url = format!("base_url: \"http://{}/v1\"", upstream.addr());
    let (plain, tls, refusing) = (upstream.addr(), down.untrusted.addr(), down.refusing.addr());
    let ca = put("ca.pem", down.ca.clone());
    format!(
        r#"version: 1
server: {{ limits: {{ body: 64KiB }} }}
admin: {{ token: {{ env: CANARY_ADMIN }} }}
providers:
  literal: {{ dialect: openai, {url}, credentials: ["{literal}"], headers: {{ x-canary: "{literal_header}" }}, models: [literal] }}
  expanded: {{ dialect: openai, {url}, credentials: ["${{CANARY_EXPANDED}}"], headers: {{ x-canary: "${{CANARY_HEADER}}" }}, models: [expanded] }}
  named: {{ dialect: openai, {url}, credentials: [{{ name: main, key: "{named}" }}], models: [named] }}
  variable: {{ dialect: openai, {url}, credentials: [{{ env: CANARY_VARIABLE }}], models: [variable] }}
  file: {{ dialect: openai, {url}, credentials: [{{ file: "{credential}" }}], headers: {{ x-canary: {{ file: "{header}" }} }}, models: [file] }}
  down: {{ dialect: openai, base_url: "http://{refusing}/v1", credentials: ["{literal}"], models: [down] }}
  untrusted: {{ dialect: openai, base_url: "https://{tls}/v1", credentials: ["{literal}"], tls: {{ ca: "{ca}" }}, models: [untrusted] }}
  gemini: {{ dialect: gemini, base_url: "http://{plain}", credentials: ["{literal}"], models: [gemini] }}
"#
    )
}

fn with_variables(start: Start) -> Start {
    start
        .env("TOLLGATE_LOG", "trace")
        .env("CANARY_EXPANDED", &secret(2))
        .env("CANARY_HEADER", &secret(3))
        .env("CANARY_VARIABLE", &secret(5))
        .env("CANARY_ADMIN", &secret(8))
}

struct Canary {
    folder: TempDir,
    upstream: Upstream,
    program: Program,
    _down: Down,
}

/// Providers that cannot be reached: nobody listens, or with a certificate of another authority than `ca`.
struct Down {
    refusing: Refusing,
    untrusted: Upstream,
    ca: String,
}

impl Canary {
    async fn start() -> Self {
        let (folder, upstream) = (
            tempdir().expect("a temporary folder"),
            Upstream::start().await,
        );
        let ((untrusted, _), (_, ca)) = (Upstream::start_tls().await, Upstream::start_tls().await);
        let down = Down {
            refusing: Refusing::bind(),
            untrusted,
            ca: ca.0,
        };
        upstream.serve(
            "refuse",
            Script::answer(401, "application/json", r#"{"error":{"message":"no"}}"#),
        );
        upstream.serve("cut", Script::events(["data: {\"a\":1}\n\n"]).rst());
        upstream.serve("garbage", Script::new().raw("nonsense\r\n\r\n").fin());
        upstream.serve(
            "bad-head",
            Script::new()
                .head(200, &[("x bad", "name")], Framing::Length(None))
                .end(),
        );
        let path = folder.path().join("gateway.yaml");
        fs::write(&path, config(folder.path(), &upstream, &down)).expect("written");
        let program = with_variables(serve(&path)).start();
        Self {
            folder,
            upstream,
            program,
            _down: down,
        }
    }

    /// What the gateway says to a chat with this model, which the upstream answers by this script.
    async fn chat(&self, model: &str, script: &str, body_end: &str) -> Message {
        let prompt = secret(11);
        let body = format!(
            r#"{{"model":"{model}","stream":true,"messages":[{{"role":"user","content":"{prompt}"}}]{body_end}"#
        );
        let key = format!("Bearer {}", secret(9));
        let headers = [("authorization", &*key), (SCRIPT, script)];
        call(self.program.data().await, "POST", CHAT, &headers, body).await
    }

    /// What the admin listener says.
    async fn page(&self, path: &str, token: &str) -> Message {
        let token = format!("Bearer {token}");
        call(
            self.program.admin().await,
            "GET",
            path,
            &[("authorization", &token)],
            "",
        )
        .await
    }
}

#[tokio::test]
async fn no_secret_is_in_anything_that_a_run_prints_or_answers() {
    let canary = Canary::start().await;
    // Each secret of the configuration is in use, and the caller's own key stays behind.
    for (model, key, header) in [
        ("literal", 0, Some(1)),
        ("expanded", 2, Some(3)),
        ("named", 4, None),
        ("variable", 5, None),
        ("file", 6, Some(7)),
    ] {
        let count = canary.upstream.snapshot().exchanges.len();
        let answer = canary.chat(model, "", "}").await;
        assert_eq!(answer.status(), 200, "{model}: {}", shown(&answer));
        hunt("an answer", &shown(&answer));
        let seen = canary.upstream.snapshot().exchanges.swap_remove(count);
        let theirs = format!("Bearer {}", secret(key));
        assert_eq!(seen.header("authorization"), Some(&*theirs), "{model}");
        assert_eq!(
            seen.header("x-canary"),
            header.map(secret).as_deref(),
            "{model}"
        );
        assert!(
            !String::from_utf8_lossy(&seen.head).contains(&secret(9)),
            "{model}"
        );
    }
    for (model, script, body_end, status) in [
        ("unknown", "", "}", 404),
        ("literal", "", "", 400),
        ("literal", "", r#","model":"named"}"#, 400),
        ("literal", "refuse", "}", 401),
        ("literal", "cut", "}", 200),
        ("literal", "garbage", "}", 502),
        ("literal", "bad-head", "}", 502),
        ("down", "", "}", 502),
        ("untrusted", "", "}", 502),
    ] {
        let answer = canary.chat(model, script, body_end).await;
        assert_eq!(
            answer.status(),
            status,
            "{model} {script}: {}",
            shown(&answer)
        );
        hunt("an error", &shown(&answer));
    }
    hunt(
        "an error",
        &shown(&canary.chat("literal", "", &" ".repeat(70_000)).await),
    );
    strange_requests(&canary).await;
    for path in ["/config", "/metrics", "/readyz", "/nowhere"] {
        for token in [secret(8), secret(9)] {
            hunt(path, &shown(&canary.page(path, &token).await));
        }
    }
    let ended = canary.program.terminate().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.out.lines().count() >= 16, "{}", ended.out);
    assert!(
        ended.err.contains(" DEBUG ") || ended.err.contains(" TRACE "),
        "{}",
        ended.err
    );
    hunt("the request log", &ended.out);
    hunt("the diagnostics", &ended.err);
}

/// Two keys, a key in the query, and heads that cannot be read.
async fn strange_requests(canary: &Canary) {
    let data = canary.program.data().await;
    let (caller, query) = (secret(9), secret(10));
    let path = format!("/v1beta/models/gemini:generateContent?key={query}");
    let answer = call(data, "POST", &path, &[], "{}").await;
    assert_eq!(answer.status(), 200, "{}", shown(&answer));
    assert!(
        canary
            .upstream
            .snapshot()
            .exchanges
            .iter()
            .all(|seen| !seen.start.contains(&query))
    );
    let two = [
        ("authorization", &*format!("Bearer {caller}")),
        ("x-api-key", &*query),
    ];
    hunt(
        "an answer",
        &shown(&call(data, "POST", CHAT, &two, r#"{"model":"literal"}"#).await),
    );
    for head in [
        format!(
            "GET /?key={query} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {caller}\r\nbad header\r\n\r\n"
        ),
        format!("POST {CHAT} HTTP/1.1\r\nhost: a\r\nx-api-key: {caller}\u{1}\r\n\r\n"),
        format!(
            "POST {CHAT} HTTP/1.1\r\nhost: a\r\nx-api-key: {caller}\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n"
        ),
    ] {
        let conn = Conn::open(data).await;
        // It may be refused before all of it is taken.
        let _ = conn.send(&head).await;
        let _ = conn.half_close();
        hunt("a refused head", &shown(&conn.response().await));
    }
}

#[tokio::test]
async fn no_secret_is_in_what_is_said_of_a_file_that_cannot_be_served() {
    let canary = Canary::start().await;
    let good = fs::read_to_string(canary.folder.path().join("gateway.yaml")).unwrap();
    let literal = secret(0);
    let broken = [
        format!("{good}bogus: 1\n"),
        good.replace("dialect: openai", "dialect: opnai"),
        good.replace("credentials:", "credentails:"),
        good.replace("headers:", "haeders:"),
        good.replace(&format!("[\"{literal}\"]"), &format!("[\"{literal}\"")),
        good.replace(&format!("[\"{literal}\"]"), &format!("[\"{literal}]")),
        good.replace(
            &format!("[\"{literal}\"]"),
            &format!("{{ kee: \"{literal}\" }}"),
        ),
        good.replace(
            &format!("[\"{literal}\"]"),
            &format!("[\"{literal}\", \"{literal}\"]"),
        ),
        good.replace("token: {", "tokne: {"),
        good.replace("http://", &format!("http://user:{literal}@")),
        good.replace("/credential\"", "/no-such-file\""),
    ];
    let path = canary.folder.path().join("broken.yaml");
    let name = path.to_str().unwrap();
    for text in &broken {
        assert_ne!(*text, good);
        fs::write(&path, text).unwrap();
        for start in [
            tollgate(["check", "--config", name]),
            tollgate(["check", "--format", "json", "--config", name]),
            tollgate(["explain", "--model", "literal", "--config", name]),
            serve(&path),
        ] {
            let ended = with_variables(start).run().await;
            assert_eq!(ended.code, Some(1), "{ended:?}\n{text}");
            hunt(
                "what is said of a broken file",
                &format!("{}{}", ended.out, ended.err),
            );
        }
    }
    fs::write(&path, &good).unwrap();
    for args in [
        &["check"][..],
        &["check", "--format=json"],
        &["explain", "--model=literal"],
    ] {
        let start = tollgate(args.iter().copied()).arg("--config").arg(name);
        let ended = with_variables(start).run().await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        hunt(
            "what is said of a good file",
            &format!("{}{}", ended.out, ended.err),
        );
    }
}
