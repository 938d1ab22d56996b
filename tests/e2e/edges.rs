//! The edges: requests that cannot be served, providers that fail, what is never forwarded, what is edited, and connections.

mod answers;
mod connections;
mod edits;
mod failures;
mod hidden;
mod hygiene;
mod limits;
mod refusals;
mod secrets;
mod tls;

use serde_json::Value;
use tollgate_testing::{client::Message, upstream::Upstream};

use crate::harness::{Stage, provider, untried};

/// A JSON body that every OpenAI-shaped provider here takes.
const BODY: &[u8] = br#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
const CHAT: &str = "/v1/chat/completions";

/// The surfaces in whose words errors are told: dialect, path, body.
const SURFACES: [(&str, &str, &str); 4] = [
    ("openai", CHAT, r#"{"model":"MODEL","messages":[]}"#),
    (
        "anthropic",
        "/v1/messages",
        r#"{"model":"MODEL","max_tokens":9,"messages":[]}"#,
    ),
    (
        "gemini",
        "/v1beta/models/MODEL:generateContent",
        r#"{"contents":[]}"#,
    ),
    (
        "ollama",
        "/api/chat",
        r#"{"model":"MODEL","stream":false,"messages":[]}"#,
    ),
];

/// A gateway with a provider for each of [`SURFACES`]; each lists the model `m`. `more` is configuration at the top level.
async fn all_dialects(more: &str) -> (Stage, Upstream) {
    let upstream = Upstream::start().await;
    let stage = Stage::start(&dialects(&upstream, more));
    (stage, upstream)
}

fn dialects(upstream: &Upstream, more: &str) -> String {
    let (mut providers, mut routes) = (String::new(), String::new());
    for (dialect, ..) in SURFACES {
        let base = if dialect == "openai" { "/v1" } else { "" };
        providers += &provider(dialect, dialect, upstream, base, ", models: [m]");
        routes += &format!(
            "  - {{ name: to-{dialect}, match: {{ dialect: {dialect} }}, targets: [{dialect}] }}\n"
        );
    }
    let more = untried(more);
    format!("version: 1\n{more}\nproviders:\n{providers}routes:\n{routes}")
}

/// An error of ours: its status, its words in the dialect, who refused. Gives the sentence for the caller.
fn assert_told(
    what: &str,
    answer: &Message,
    dialect: &str,
    status: u16,
    code: &str,
    by: &str,
) -> String {
    assert_eq!(answer.status(), status, "{what}: {}", answer.text());
    assert_eq!(answer.header("tollgate-refused-by"), Some(by), "{what}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/json"),
        "{what}"
    );
    assert!(answer.whole(), "{what}: {:?}", answer.ended);
    let told = answer.json();
    let error = &told["error"];
    let message = match dialect {
        "anthropic" => {
            assert_eq!(told["type"], "error", "{what}: {told}");
            assert!(
                error["type"].is_string() && told["request_id"].is_string(),
                "{what}: {told}"
            );
            &error["message"]
        }
        "gemini" => {
            assert_eq!(error["code"], status, "{what}: {told}");
            assert!(error["status"].is_string(), "{what}: {told}");
            &error["message"]
        }
        "ollama" => error,
        _ => {
            assert_eq!(error["code"], code, "{what}: {told}");
            assert!(error["type"].is_string(), "{what}: {told}");
            &error["message"]
        }
    };
    message
        .as_str()
        .unwrap_or_else(|| panic!("{what}: no message: {told}"))
        .to_owned()
}

/// The log line of a refusal.
fn assert_line(line: &Value, ended: &str, by: &str, error: &str) {
    assert_eq!(line["ended"], ended, "{line}");
    assert_eq!(line["refused_by"], by, "{line}");
    assert_eq!(line["error"], error, "{line}");
}
