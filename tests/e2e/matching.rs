//! Which route takes a request: every condition, by what the log says; and the same by `explain`.

use tollgate::{
    config::{Config, Inputs, load},
    explain::{Question, explain},
};
use tollgate_testing::{
    client::call,
    upstream::{Script, Upstream},
};

use crate::{
    binary::CHAT,
    inside::{Inside, config},
};

const BODY: &str = r#"{"model":"m","messages":[{"role":"system","content":"sell"},{"role":"user","content":[{"type":"text","text":"what is the price?"}]}]}"#;
const STREAM: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
const TOOLS: &str = r#"{"model":"m","tools":[{"type":"function","function":{"name":"f"}}],"messages":[{"role":"user","content":"hi"}]}"#;

type Rows = &'static [(&'static str, &'static str)];

/// A match, a body, headers, and whether the route takes it.
const CASES: [(&str, &str, Rows, bool); 22] = [
    ("{ model: m }", BODY, &[], true),
    ("{ model: other }", BODY, &[], false),
    ("{ dialect: anthropic }", BODY, &[], false),
    ("{ path: /v1/embeddings }", BODY, &[], false),
    ("{ stream: true }", STREAM, &[], true),
    ("{ stream: true }", BODY, &[], false),
    ("{ tools: true }", TOOLS, &[], true),
    ("{ tools: true }", BODY, &[], false),
    ("{ tools: false }", TOOLS, &[], false),
    (
        "{ header: { x-tier: gold } }",
        BODY,
        &[("x-tier", "gold")],
        true,
    ),
    (
        "{ header: { x-tier: gold } }",
        BODY,
        &[("x-tier", "tin")],
        false,
    ),
    (
        "{ metadata: { team: blue } }",
        BODY,
        &[("x-tollgate-metadata", r#"{"team":"blue"}"#)],
        true,
    ),
    (
        "{ metadata: { team: blue } }",
        BODY,
        &[("x-tollgate-metadata", r#"{"team":"red"}"#)],
        false,
    ),
    ("{ metadata: { team: blue } }", BODY, &[], false),
    ("{ prompt: { contains: price } }", BODY, &[], true),
    ("{ prompt: { contains: [cost, price] } }", BODY, &[], true),
    ("{ prompt: { contains: sell } }", BODY, &[], false),
    ("{ prompt: { not_contains: price } }", BODY, &[], false),
    ("{ prompt: { not_contains: sell } }", BODY, &[], true),
    ("{ prompt: { regex: '(?i)^WHAT .*[?]$' } }", BODY, &[], true),
    ("{ prompt: { regex: '^price' } }", BODY, &[], false),
    (
        "{ prompt: { contains: price, regex: '^hi$' } }",
        BODY,
        &[],
        false,
    ),
];

fn text(matches: &str, upstream: &Upstream) -> String {
    format!(
        "version: 1\nproviders: {{ one: {{ dialect: openai, base_url: http://{}/v1, credentials: [] }} }}\n\
         routes:\n  - {{ name: hit, match: {matches}, targets: [one] }}\n  - {{ name: rest, match: {{}}, targets: [one] }}\n",
        upstream.addr()
    )
}

#[tokio::test]
async fn the_first_route_whose_conditions_hold_takes_a_request_and_explain_says_so() {
    let upstream = Upstream::start().await;
    upstream.serve_default(Script::chat("hello"));
    for (matches, body, rows, hits) in CASES {
        let what = format!("{matches} {rows:?}");
        let config = config(&text(matches, &upstream));
        let inside = Inside::start(&config);
        let answer = call(inside.data(), "POST", CHAT, rows, body).await;
        assert_eq!(answer.status(), 200, "{what}: {}", answer.text());
        let route = if hits { "hit" } else { "rest" };
        assert_eq!(inside.lines(1).await[0]["route"], route, "{what}");
        explained(&config, body, rows, hits);
        inside.stop().await;
    }
    // What is said to the gateway stays there.
    for exchange in upstream.snapshot().exchanges {
        assert_eq!(exchange.header("x-tollgate-metadata"), None);
    }
}

/// The route, and why the one before it was passed over.
fn explained(config: &Config, body: &str, rows: Rows, hits: bool) {
    let mut request = format!("POST {CHAT} HTTP/1.1\r\n");
    for (name, value) in rows {
        request += &format!("{name}: {value}\r\n");
    }
    request += &format!("content-type: application/json\r\n\r\n{body}");
    let (told, served) = explain(
        config,
        &Question::of_text(request.as_bytes()).expect("a request"),
    );
    assert!(served, "{told}");
    let route = if hits { "hit" } else { "rest" };
    assert!(told.contains(&format!("route     {route},")), "{told}");
    assert_eq!(told.contains("not       hit: its `match."), !hits, "{told}");
}

#[test]
fn conditions_that_cannot_be_met_are_errors_of_the_file() {
    let inputs = Inputs {
        env: &|_| None,
        read: &|_| Err(std::io::ErrorKind::NotFound.into()),
        listen: None,
        admin: None,
    };
    for (matches, words) in [
        ("{ prompt: {} }", "asks for nothing"),
        ("{ prompt: { contains: '' } }", "stands in every text"),
        ("{ prompt: { regex: '(' } }", "cannot be used"),
        ("{ prompt: { regex: '(a{1000}){1000}' } }", "too large"),
    ] {
        let text = format!(
            "version: 1\nproviders: {{ m: {{ dialect: mock }} }}\nroutes: [{{ name: r, match: {matches}, targets: [m] }}]\n"
        );
        let problems = load(&text, "t.yaml", &inputs).unwrap_err().to_string();
        assert!(problems.contains(words), "{matches}: {problems}");
    }
}
