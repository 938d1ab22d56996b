use http::{HeaderValue, Method};

use super::*;
use crate::config::{Inputs, Loaded, load};

const FILE: &str = "
version: 1
providers:
  one: { dialect: openai, base_url: http://127.0.0.1:1/v1, credentials: [], models: { public: theirs } }
  two: { dialect: anthropic, base_url: http://127.0.0.1:2, credentials: [], timeout: { idle: 7s } }
aliases: { old: public }
routes:
  - { name: first, match: { model: public }, targets: [one] }
  - { name: rest, match: { dialect: anthropic }, targets: [two] }
";

/// A file that names no other.
fn loaded(file: &str) -> Loaded {
    let inputs = Inputs {
        env: &|_| None,
        read: &|_| Err(std::io::ErrorKind::NotFound.into()),
        listen: None,
        admin: None,
    };
    load(file, "test.yaml", &inputs).unwrap()
}

fn answer(question: &Question) -> (String, bool) {
    explain(&loaded(FILE).config, question)
}

#[test]
fn a_file_with_a_body_alone_is_a_post() {
    let body = b"\n{\"model\":\"gold\"}";
    let question = Question::of_file(body, "/v1/messages").expect("a path");
    let request = &question.request;
    assert_eq!(
        (request.method(), request.uri().path()),
        (&Method::POST, "/v1/messages")
    );
    assert_eq!(request.body(), body);
    assert!(Question::of_file(b"{}", "no path").is_err());
    let whole = b"GET /v1/models HTTP/1.1\n\n{}";
    let question = Question::of_file(whole, "/").expect("a request");
    assert_eq!(question.request.method(), Method::GET);
}

#[test]
fn an_alias_is_followed_to_the_provider_s_own_name() {
    let question = Question::of_model("old", "/v1/chat/completions").unwrap();
    let (text, served) = answer(&question);
    assert!(served, "{text}");
    for part in [
        "openai chat",
        "public, after aliases",
        "first, the first",
        "asked for theirs",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn a_whole_request_is_read_and_the_provider_s_clock_holds() {
    let text =
        b"POST /v1/messages HTTP/1.1\r\nhost: x\r\n\r\n{\"model\":\"claude\",\"stream\":true}";
    let (text, served) = answer(&Question::of_text(text).unwrap());
    assert!(served, "{text}");
    assert!(
        text.contains("anthropic messages") && text.contains("idle 7s"),
        "{text}"
    );
}

/// The same for callers, of whom one has a key and one a hash.
fn called(question: &Question) -> (String, bool) {
    let file = "
providers: { m: { dialect: mock, credentials: [] }, own: { dialect: openai, base_url: http://127.0.0.1:1/v1, credentials: passthrough } }
callers:
  team: { key: sk-of-the-team-0123456789, models: [\"x*\"], requests: { rate: 60/min, burst: 7 }, concurrency: 3, priority: 4,
          surfaces: [chat], allow_from: [10.0.0.0/8] }
  ops: { hash: \"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\" }
  gone: { key: sk-of-somebody-0123456789, disabled: true }
routes:
  - { name: ops, match: { caller: ops }, targets: [own] }
  - { name: rest, match: {}, targets: [m] }
layers: { rate_limit: { per_ip: 9/s, global: 8/s, per_model: { \"x*\": 5/s, y: 6/s } }, token_cap: { max_tokens: 11 } }
";
    explain(&loaded(file).config, question)
}

#[test]
fn what_holds_for_a_caller_is_told() {
    let asks = |model: &str| Question::of_model(model, "/v1/chat/completions").unwrap();
    let (text, served) = called(&asks("x1").by("team"));
    assert!(served, "{text}");
    for part in [
        "team\n",
        "from 10.0.0.0/8 only",
        "may use x*",
        "rest, the first",
        "by address: { rate: 9/s, burst: 9 }",
        "by caller: { rate: 60/min, burst: 7 }",
        "in all: { rate: 8/s",
        "concurrency: 3 of the caller's, 10000 in all, 1000 wait for 2s at most, of class 4",
        "by model x*: { rate: 5/s",
        "max_tokens: 11",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!text.contains("by model y"), "{text}");
    let (text, served) = called(&asks("x1").by("ops"));
    assert!(served && text.contains("ops, the first"), "{text}");
    assert!(text.contains("the caller's own credential"), "{text}");
}

/// A caller of some pages only is asked for one, and let in from there.
#[test]
fn a_caller_with_origins_is_explained_for_a_page() {
    let file = "
providers: { m: { dialect: mock, credentials: [] } }
callers: { web: { key: the-key-of-some-pages, origins: [\"https://*.example.com\"] } }
";
    let config = loaded(file).config;
    let asks = || {
        let question = Question::of_model("m", "/v1/chat/completions").unwrap();
        question.by("web")
    };
    let from = |origin| asks().from_page(HeaderValue::from_static(origin));
    let (text, served) = explain(&config, &asks());
    assert!(!served, "{text}");
    let told = "from pages of https://*.example.com only; --origin says which one asks";
    assert!(text.contains(told), "{text}");
    let (text, served) = explain(&config, &from("https://a.example.com"));
    assert!(served, "{text}");
    let (text, served) = explain(&config, &from("https://example.org"));
    assert!(!served && text.contains("pages of"), "{text}");
    assert!(!text.contains("--origin"), "{text}");
}

/// The word filter says what it would find, where, and what would come of it.
#[test]
fn what_the_word_filter_finds_is_told_with_its_place() {
    let file = "
providers: { m: { dialect: mock, credentials: [] } }
routes:
  - { name: free, match: { model: free }, targets: [m], layers: { word_filter: off } }
  - { name: rest, match: {}, targets: [m] }
layers: { word_filter: { words: [forbidden], apply_to: [request], rules: [{ id: mail, entities: [email], action: mask }] } }
";
    let loaded = loaded(file);
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let told = |model: &str, text: &str| {
        let body = format!(
            r#"{{"model":"{model}","messages":[{{"role":"system","content":"ok"}},{{"role":"user","content":[{{"type":"text","text":"{text}"}}]}}]}}"#
        );
        let question = Question::of_file(body.as_bytes(), "/v1/chat/completions").unwrap();
        explain(&loaded.config, &question)
    };
    let (text, served) = told("m", "a@b.example and c@d.example");
    assert!(served, "{text}");
    for part in [
        "word_filter: of requests default (reject), mail (mask); of answers mail (mask)",
        "mail (mask) finds something in messages[1].content[0].text, 2 times",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let (text, served) = told("m", "so Forbidden");
    assert!(
        !served && text.contains("by word_filter, content_blocked"),
        "{text}"
    );
    assert!(
        text.contains("default (reject) finds something in messages[1].content[0].text, 1 time\n"),
        "{text}"
    );
    let (text, served) = told("m", "clean");
    assert!(
        served && text.contains("nothing is found in 2 texts"),
        "{text}"
    );
    let (text, served) = told("free", "forbidden");
    assert!(served && !text.contains("word_filter:"), "{text}");
    let coded = b"POST /v1/chat/completions HTTP/1.1\nhost: x\ncontent-encoding: gzip\n\n\x1f\x8b";
    let (text, served) = explain(&loaded.config, &Question::of_text(coded).unwrap());
    assert!(
        !served && text.contains("by word_filter, unsupported"),
        "{text}"
    );
}

#[test]
fn a_caller_is_refused_as_it_would_be() {
    let chat = |model: &str| Question::of_model(model, "/v1/chat/completions").unwrap();
    let embeddings = Question::of_model("x1", "/v1/embeddings").unwrap();
    let with = |key: &str| {
        let text = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n{key}\r\n{{\"model\":\"x1\"}}"
        );
        Question::of_text(text.as_bytes()).unwrap()
    };
    for (question, words) in [
        (chat("y1").by("team"), "by route, model_not_found"),
        (embeddings.by("team"), "by auth, forbidden"),
        (chat("x1").by("gone"), "by auth, invalid_api_key"),
        (chat("x1"), "by auth, invalid_api_key"),
        (with(""), "by auth, invalid_api_key"),
        (
            with("x-api-key: abc\r\nauthorization: Bearer abcd\r\n"),
            "by auth, malformed",
        ),
    ] {
        let (text, served) = called(&question);
        assert!(!served && text.contains(words), "{words} is not in {text}");
    }
    // A request's own key says who it is.
    let (text, served) = called(&with("authorization: Bearer abc\r\n"));
    assert!(served && text.contains("ops\n"), "{text}");
}

#[test]
fn a_refusal_says_by_whom_and_why() {
    let question = Question::of_model("nobody-s", "/v1/chat/completions").unwrap();
    let (text, served) = answer(&question);
    assert!(
        !served && text.contains("by route, model_not_found"),
        "{text}"
    );
}
