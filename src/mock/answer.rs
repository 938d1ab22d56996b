//! What is said, and in which words each API says it.

use serde_json::Value;

use super::{anthropic, call::Dialect, chat, gemini, model::Model, prompt, responses, text};

/// An answer, before it is spelled in an API's events or document.
#[derive(Debug)]
pub(super) struct Answer {
    /// The request's id; the answer's contains it.
    pub(super) id: String,
    /// As the request named it.
    pub(super) model: String,
    /// Seconds since the epoch.
    pub(super) created: i64,
    pub(super) text: String,
    pub(super) prompt: u64,
    pub(super) words: u64,
    /// OpenAI's `stream_options.include_usage`.
    pub(super) include_usage: bool,
}

/// A way of having a model say something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    Chat,
    Completions,
    Gemini,
    Messages,
    Responses,
}

// ===== impl Answer =====

impl Answer {
    pub(super) fn new(request: &Value, model: Model, name: &str, id: &str, created: i64) -> Self {
        let text = model.text(&prompt::last_user_text(request));
        Self {
            id: id.to_owned(),
            model: name.to_owned(),
            created,
            prompt: prompt::words(request),
            words: text::words(&text),
            text,
            include_usage: request["stream_options"]["include_usage"] == true,
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.prompt + self.words
    }
}

// ===== impl Api =====

impl Api {
    pub(super) fn dialect(self) -> Dialect {
        match self {
            Self::Chat | Self::Completions | Self::Responses => Dialect::OpenAi,
            Self::Gemini => Dialect::Gemini,
            Self::Messages => Dialect::Anthropic,
        }
    }

    pub(super) fn document(self, answer: &Answer) -> Value {
        match self {
            Self::Chat => chat::document(answer),
            Self::Completions => chat::completion(answer),
            Self::Gemini => gemini::document(answer),
            Self::Messages => anthropic::document(answer),
            Self::Responses => responses::document(answer),
        }
    }

    /// The events before the first word.
    pub(super) fn opening(self, answer: &Answer) -> Vec<String> {
        match self {
            Self::Chat => chat::opening(answer),
            Self::Completions | Self::Gemini => Vec::new(),
            Self::Messages => anthropic::opening(answer),
            Self::Responses => responses::opening(answer),
        }
    }

    /// What stands before and behind a word in its event.
    pub(super) fn around_word(self, answer: &Answer, array: bool) -> (String, String) {
        match self {
            Self::Chat => chat::around_word(answer),
            Self::Completions => chat::around_completed_word(answer),
            Self::Gemini => gemini::around_word(answer, array),
            Self::Messages => anthropic::around_word(),
            Self::Responses => responses::around_word(answer),
        }
    }

    /// The events behind the last word; `number` is the first one's place in the stream, from 0.
    pub(super) fn closing(self, answer: &Answer, array: bool, number: usize) -> Vec<String> {
        match self {
            Self::Chat => chat::closing(answer),
            Self::Completions => chat::completed(answer),
            Self::Gemini => gemini::closing(answer, array),
            Self::Messages => anthropic::closing(answer),
            Self::Responses => responses::closing(answer, number),
        }
    }
}

/// An event that is named by its `type`, as Anthropic's and those of OpenAI's Responses are.
pub(super) fn named_event(event: &Value) -> String {
    let name = event["type"].as_str().unwrap_or_default();
    format!("event: {name}\ndata: {event}\n\n")
}
