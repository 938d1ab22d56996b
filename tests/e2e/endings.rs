//! How answers end: every way in which one can break off shows at the client, at the provider and in the log.

mod clients;
mod clocks;
mod cuts;
mod drain;
mod faults;
mod filtered;
mod hangups;
mod tls;

use std::sync::Arc;

use serde_json::{Value, json};
use tollgate_testing::{
    client::{Conn, Message},
    upstream::{Framing, Script, Upstream},
};

use crate::harness::{Ask, Stage, provider, untried};

/// A streaming surface: how it is asked and what its events look like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Api {
    pub(crate) name: &'static str,
    path: &'static str,
    /// The content type of its streams.
    kind: &'static str,
    request: &'static str,
    /// An event that says these words.
    pub(crate) event: fn(&str) -> String,
}

pub(crate) const CHAT: Api = Api {
    name: "chat",
    path: "/v1/chat/completions",
    kind: "text/event-stream",
    request: r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#,
    event: |words| {
        let choice = json!({"index": 0, "delta": {"content": words}, "finish_reason": null});
        let chunk = json!({"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice]});
        format!("data: {chunk}\n\n")
    },
};

const ANTHROPIC: Api = Api {
    name: "anthropic",
    path: "/v1/messages",
    kind: "text/event-stream",
    request: r#"{"model":"m","stream":true,"max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#,
    event: |words| {
        let delta = json!({"type": "text_delta", "text": words});
        let event = json!({"type": "content_block_delta", "index": 0, "delta": delta});
        format!("event: content_block_delta\ndata: {event}\n\n")
    },
};

/// The streaming surfaces.
pub(crate) const APIS: [Api; 5] = [
    CHAT,
    Api {
        name: "responses",
        path: "/v1/responses",
        request: r#"{"model":"m","stream":true,"input":"hi"}"#,
        event: |words| {
            let event =
                json!({"type": "response.output_text.delta", "output_index": 0, "delta": words});
            format!("event: response.output_text.delta\ndata: {event}\n\n")
        },
        ..CHAT
    },
    ANTHROPIC,
    Api {
        name: "gemini",
        path: "/v1beta/models/m:streamGenerateContent?alt=sse",
        request: r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#,
        event: |words| {
            let content = json!({"role": "model", "parts": [{"text": words}]});
            format!(
                "data: {}\r\n\r\n",
                json!({"candidates": [{"content": content, "index": 0}]})
            )
        },
        ..CHAT
    },
    Api {
        name: "ollama",
        path: "/api/chat",
        kind: "application/x-ndjson",
        request: r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#,
        event: |words| {
            let message = json!({"role": "assistant", "content": words});
            format!(
                "{}\n",
                json!({"model": "m", "message": message, "done": false})
            )
        },
    },
];

/// The ways of framing an answer whose end does not come.
const FRAMINGS: [Framing; 3] = [
    Framing::Chunked,
    Framing::Length(Some(99_999)),
    Framing::Close,
];

impl Api {
    /// So many events.
    pub(crate) fn events(&self, count: usize) -> Vec<String> {
        (0..count)
            .map(|n| (self.event)(&format!("word {n} \u{e9}, ")))
            .collect()
    }

    /// The head of a stream, and these events each in a write of its own.
    pub(crate) fn stream(&self, framing: Framing, events: &[String]) -> Script {
        let head = Script::new().head(200, &[("content-type", self.kind)], framing);
        events.iter().cloned().fold(head, Script::body)
    }

    pub(crate) fn ask<'a>(&self, id: &'a str) -> Ask<'a> {
        Ask::post(id, self.path, self.request.as_bytes())
    }

    /// Whether these bytes are exactly one error event that a client of this surface takes for the end.
    fn is_error_event(&self, bytes: &[u8]) -> bool {
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        let (name, data) = match self.name {
            "ollama" => ("", text.strip_suffix('\n').unwrap_or_default()),
            _ => {
                let Some(lines) = text.strip_suffix("\n\n") else {
                    return false;
                };
                let (name, data) = lines.split_once('\n').unwrap_or(("", lines));
                (name, data.strip_prefix("data: ").unwrap_or_default())
            }
        };
        let Ok(told) = serde_json::from_str::<Value>(data) else {
            return false;
        };
        match self.name {
            "anthropic" => {
                name == "event: error"
                    && told["type"] == "error"
                    && told["error"]["type"] == "api_error"
            }
            "responses" => {
                let error = &told["response"]["error"];
                name == "event: response.failed"
                    && told["type"] == "response.failed"
                    && error["code"].is_string()
            }
            "gemini" => {
                name.is_empty()
                    && told["error"]["code"].is_number()
                    && told["error"]["status"].is_string()
            }
            "ollama" => told["error"].is_string(),
            _ => {
                name.is_empty()
                    && told["error"]["type"].is_string()
                    && told["error"]["code"].is_string()
            }
        }
    }
}

/// The text of a file with a provider for each dialect, all of them this upstream; `more` is further configuration at the
/// top level.
pub(crate) fn config(upstream: &Upstream, more: &str) -> String {
    let (mut providers, mut routes) = (String::new(), String::new());
    for (dialect, base) in [
        ("openai", "/v1"),
        ("anthropic", ""),
        ("gemini", ""),
        ("ollama", ""),
    ] {
        providers += &provider(dialect, dialect, upstream, base, "");
        routes += &format!(
            "  - {{ name: to-{dialect}, match: {{ dialect: {dialect} }}, targets: [{dialect}] }}\n"
        );
    }
    let more = untried(more);
    format!("version: 1\n{more}\nproviders:\n{providers}routes:\n{routes}")
}

/// One gateway with a provider for each dialect, all of them the same scripted upstream.
struct Theatre {
    stage: Stage,
    upstream: Upstream,
}

impl Theatre {
    /// `more` is further configuration at the top level.
    async fn open(more: &str) -> Self {
        let upstream = Upstream::start().await;
        let stage = Stage::start(&config(&upstream, more));
        Self { stage, upstream }
    }

    async fn shared() -> Arc<Self> {
        Arc::new(Self::open("").await)
    }

    /// Asks for a stream that this script answers.
    async fn begin(&self, api: &Api, id: &str, script: Script) -> Conn {
        self.upstream.serve(id, script);
        self.stage.open(api.ask(id).bytes()).await
    }

    /// The same to its end.
    async fn play(&self, api: &Api, id: &str, script: Script) -> Message {
        let conn = self.begin(api, id, script).await;
        let answer = conn.response().await;
        conn.close().await;
        answer
    }

    /// The log line: this ending, and one attempt there and at the provider.
    async fn told(&self, id: &str, ended: &str) -> Value {
        let line = self.stage.line(id).await;
        assert_eq!(line["ended"], ended, "{id}: {line}");
        assert_eq!(
            line["attempts"].as_array().map(Vec::len),
            Some(1),
            "{id}: {line}"
        );
        assert_eq!(self.upstream.attempts(id), 1, "{id}");
        line
    }

    /// Ends a theatre that tasks have shared.
    async fn close(self: Arc<Self>) {
        let theatre = Arc::into_inner(self).expect("the tasks are over");
        theatre.stage.stop().await;
    }
}

/// The client has all that was sent, then one error event, then a broken message.
pub(crate) fn assert_broken(what: &str, api: &Api, answer: &Message, sent: &[u8]) {
    let body = answer.text();
    assert_eq!(answer.status(), 200, "{what}: {body}");
    let tail = answer.body.strip_prefix(sent);
    let tail = tail.unwrap_or_else(|| {
        panic!(
            "{what}: {} bytes were sent, the client has: {body}",
            sent.len()
        )
    });
    assert!(
        api.is_error_event(tail),
        "{what}: no single error event: {:?}",
        String::from_utf8_lossy(tail)
    );
    assert!(!answer.whole(), "{what}: a clean end: {:?}", answer.ended);
}
