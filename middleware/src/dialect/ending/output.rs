//! Whether an event carries generated output: text, reasoning, a refusal, a client's tool call.
//!
//! An opening chunk with a role only, a ping and a block of a tool that the provider runs itself are none.

use super::verdict::leading_type;
use crate::{
    dialect::{Dialect, Operation, Surface},
    json::{Kind, Value},
};

/// Waits for the first output, if it is asked to.
#[derive(Debug)]
pub(super) struct Output {
    state: State,
    words: Words,
    /// The block at hand belongs to a tool of the provider.
    foreign: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody asks. -> `Waiting`
    Idle,
    /// -> `Seen`
    Waiting,
    /// Stays.
    Seen,
}

/// Whose words to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Words {
    OpenAi,
    Responses,
    Anthropic,
    Gemini,
    Ollama,
    Cohere,
    Unknown,
}

// ===== impl Output =====

impl Output {
    pub(super) fn new(surface: Option<&Surface>) -> Self {
        let words = surface.map_or(Words::Unknown, |surface| {
            match (surface.dialect, surface.operation) {
                (Dialect::OpenAi | Dialect::Azure | Dialect::Mock, Operation::Responses) => {
                    Words::Responses
                }
                (Dialect::OpenAi | Dialect::Azure | Dialect::Mock, _) => Words::OpenAi,
                (Dialect::Anthropic, _) => Words::Anthropic,
                (Dialect::Gemini, _) => Words::Gemini,
                (Dialect::Ollama, _) => Words::Ollama,
                (Dialect::Cohere, _) => Words::Cohere,
                (Dialect::Bedrock | Dialect::Raw, _) => Words::Unknown,
            }
        });
        Self {
            state: State::Idle,
            words,
            foreign: false,
        }
    }

    pub(super) fn watch(&mut self) {
        self.state = State::Waiting;
    }

    pub(super) fn is_seen(&self) -> bool {
        self.state == State::Seen
    }

    /// Takes an event; costs nothing unless output is waited for.
    pub(super) fn event(&mut self, name: &[u8], data: &[u8]) {
        if self.state == State::Waiting
            && let Some(root) = Value::parse(data)
            && self.carries(name, data, root)
        {
            self.state = State::Seen;
        }
    }

    fn carries(&mut self, name: &[u8], data: &[u8], root: Value<'_>) -> bool {
        let kind = match std::str::from_utf8(name) {
            Ok(name) if !name.is_empty() && name != "message" => Some(name.into()),
            _ => leading_type(data).map(Into::into).or_else(|| {
                root.get("type")
                    .or_else(|| root.get("event_type"))
                    .and_then(|kind| kind.as_str())
            }),
        };
        let kind = kind.as_deref().unwrap_or_default();
        match self.words {
            Words::OpenAi => openai_output(root),
            Words::Responses => responses(kind, root),
            Words::Anthropic => self.anthropic(kind, root),
            Words::Gemini => gemini(root),
            Words::Ollama => {
                let message = root.get("message");
                let said = |of: Value<'_>| OLLAMA.iter().any(|name| is_filled(of.get(name)));
                said(root) || message.is_some_and(said)
            }
            Words::Cohere => cohere(kind, root),
            Words::Unknown => false,
        }
    }

    fn anthropic(&mut self, kind: &str, root: Value<'_>) -> bool {
        match kind {
            "content_block_start" => {
                let block = root.get("content_block");
                let kind = block.and_then(|block| block.get("type"));
                let is = |word: &str| kind.is_some_and(|kind| kind.is_str(word));
                self.foreign = !["text", "thinking", "redacted_thinking", "tool_use"]
                    .into_iter()
                    .any(is);
                is("tool_use")
                    || is("redacted_thinking")
                    || !self.foreign
                        && ["text", "thinking"]
                            .iter()
                            .any(|name| is_filled(block.and_then(|b| b.get(name))))
            }
            "content_block_delta" if !self.foreign => root.get("delta").is_some_and(|delta| {
                ["text", "thinking", "partial_json"]
                    .iter()
                    .any(|name| is_filled(delta.get(name)))
            }),
            _ => false,
        }
    }
}

/// Whether a chunk of OpenAI's chat or completions carries output.
pub(super) fn openai_output(root: Value<'_>) -> bool {
    root.get("choices").is_some_and(|choices| {
        choices.items().any(|choice| {
            is_filled(choice.get("text"))
                || choice.get("delta").is_some_and(|delta| {
                    delta.members().any(|(name, value)| {
                        !["role", "name", "id"].iter().any(|word| name.is_str(word))
                            && is_filled(Some(value))
                    })
                })
        })
    })
}

fn responses(kind: &str, root: Value<'_>) -> bool {
    match kind {
        "response.output_text.delta"
        | "response.refusal.delta"
        | "response.reasoning_text.delta"
        | "response.reasoning_summary_text.delta"
        | "response.function_call_arguments.delta"
        | "response.custom_tool_call_input.delta"
        | "response.audio.delta"
        | "response.audio.transcript.delta" => is_filled(root.get("delta")),
        "response.output_item.added" => {
            let kind = root.get("item").and_then(|item| item.get("type"));
            kind.is_some_and(|kind| kind.is_str("function_call") || kind.is_str("custom_tool_call"))
        }
        _ => false,
    }
}

fn gemini(root: Value<'_>) -> bool {
    let parts = |candidate: Value<'_>| {
        let parts = candidate
            .get("content")
            .and_then(|content| content.get("parts"));
        parts.is_some_and(|parts| {
            parts
                .items()
                .any(|part| GEMINI.iter().any(|name| is_filled(part.get(name))))
        })
    };
    root.get("candidates")
        .is_some_and(|candidates| candidates.items().any(parts))
}

fn cohere(kind: &str, root: Value<'_>) -> bool {
    match kind {
        "tool-call-start" | "tool-calls-generation" => true,
        "text-generation" => is_filled(root.get("text")),
        "content-delta" => {
            let message = root.get("delta").and_then(|delta| delta.get("message"));
            is_filled(message.and_then(|message| message.get("content")))
        }
        _ => false,
    }
}

/// Whether a value holds anything: a text that is not empty, at any place but a `type`.
fn is_filled(value: Option<Value<'_>>) -> bool {
    value.is_some_and(|value| holds(value, NESTING))
}

/// What nests deeper than `room` counts as something: nobody sends that much around nothing.
fn holds(value: Value<'_>, room: u8) -> bool {
    match value.kind() {
        Kind::String => value.raw().len() > 2,
        Kind::Array | Kind::Object if room == 0 => true,
        Kind::Array => value.items().any(|item| holds(item, room - 1)),
        Kind::Object => {
            let mut members = value.members();
            members.any(|(name, member)| !name.is_str("type") && holds(member, room - 1))
        }
        _ => false,
    }
}

/// Arrays and objects inside of each other that are looked into.
const NESTING: u8 = 8;

const OLLAMA: [&str; 4] = ["content", "thinking", "tool_calls", "response"];

const GEMINI: [&str; 4] = ["text", "functionCall", "executableCode", "inlineData"];
