//! How much generated output an event or a document carries: text, reasoning, a refusal, a client's tool call.
//!
//! An opening chunk with a role only, a ping and a block of a tool that the provider runs itself are none.

use std::ops::Range;

pub(crate) use super::units::{Length, length};
use super::verdict::leading_type;
use crate::{
    dialect::{Dialect, Operation, Surface},
    json::{Kind, Value},
};

/// Finds output in the events of an answer.
#[derive(Debug)]
pub(crate) struct Output {
    words: Words,
    /// The block at hand belongs to a tool of the provider.
    foreign: bool,
    keeps: bool,
}

/// Output found in an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weight {
    /// Words, marks and numbers of the text: about as many as a tokenizer makes of it.
    pub(crate) length: Length,
    /// How many texts they are; a tool call that has only begun counts as one.
    pub(crate) texts: u32,
    /// Where the last of them lies, without its quotes.
    pub(crate) last: Range<usize>,
    /// The texts themselves, without their quotes and with a [`BREAK`] between them, if they are to be kept.
    pub(crate) said: Vec<u8>,
    keeps: bool,
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
    Bedrock,
    Unknown,
}

// ===== impl Output =====

impl Output {
    pub(crate) fn new(surface: Option<&Surface>) -> Self {
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
                (Dialect::Bedrock, _) => Words::Bedrock,
                (Dialect::Raw, _) => Words::Unknown,
            }
        });
        Self {
            words,
            foreign: false,
            keeps: false,
        }
    }

    /// From now on the texts of events are kept.
    #[cfg(feature = "meter")]
    pub(crate) fn keep(&mut self) {
        self.keeps = true;
    }

    /// What an event of a stream carries. `root` is its data; every event must be shown, for the blocks that they open.
    pub(crate) fn of_event(&mut self, name: &[u8], data: &[u8], root: Value<'_>) -> Weight {
        let mut found = Weight {
            keeps: self.keeps,
            ..Weight::default()
        };
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
            Words::OpenAi => openai(root, &mut found),
            Words::Responses => responses(kind, root, &mut found),
            Words::Anthropic => self.anthropic(kind, root, &mut found),
            Words::Gemini => gemini(root, &mut found),
            Words::Ollama => ollama(root, &mut found),
            Words::Cohere => cohere(kind, root, &mut found),
            Words::Bedrock => self.bedrock(kind, root, &mut found),
            Words::Unknown => {}
        }
        found
    }

    /// What a whole document carries.
    #[cfg(feature = "meter")]
    pub(crate) fn of_document(&self, root: Value<'_>) -> Weight {
        let mut found = Weight::default();
        match self.words {
            Words::OpenAi => {
                for choice in root.get("choices").into_iter().flat_map(|all| all.items()) {
                    found.add_member(choice, "text");
                    if let Some(message) = choice.get("message") {
                        found.add_delta(message);
                    }
                }
                // A transcription.
                found.add_member(root, "text");
            }
            Words::Responses => {
                for item in root.get("output").into_iter().flat_map(|all| all.items()) {
                    for name in ["content", "summary", "arguments", "input"] {
                        found.add_member(item, name);
                    }
                }
            }
            Words::Anthropic => found.add_member(root, "content"),
            Words::Gemini => gemini(root, &mut found),
            Words::Ollama => ollama(root, &mut found),
            Words::Cohere => {
                found.add_member(root, "text");
                if let Some(message) = root.get("message") {
                    for name in ["content", "tool_calls", "tool_plan"] {
                        found.add_member(message, name);
                    }
                }
            }
            Words::Bedrock => {
                let output = root.get("output");
                let message = output.and_then(|output| output.get("message"));
                if let Some(message) = message {
                    found.add_member(message, "content");
                }
                found.add_member(root, "content");
                for name in BEDROCK {
                    found.add_member(root, name);
                }
                for name in ["results", "outputs", "generations"] {
                    found.add_member(root, name);
                }
            }
            Words::Unknown => {}
        }
        found
    }

    fn anthropic(&mut self, kind: &str, root: Value<'_>, found: &mut Weight) {
        match kind {
            "content_block_start" => {
                let Some(block) = root.get("content_block") else {
                    return;
                };
                let kind = block.get("type");
                let is = |word: &str| kind.is_some_and(|kind| kind.is_str(word));
                self.foreign = !["text", "thinking", "redacted_thinking", "tool_use"]
                    .into_iter()
                    .any(is);
                if is("tool_use") {
                    found.add_begun(block.get("name"));
                } else if is("redacted_thinking") {
                    found.texts += 1;
                } else if !self.foreign {
                    found.add_member(block, "text");
                    found.add_member(block, "thinking");
                }
            }
            "content_block_delta" if !self.foreign => {
                if let Some(delta) = root.get("delta") {
                    for name in ["text", "thinking", "partial_json"] {
                        found.add_member(delta, name);
                    }
                }
            }
            _ => {}
        }
    }

    /// Converse's own events, and what InvokeModel wraps: Anthropic's, Nova's, or a member with a text.
    fn bedrock(&mut self, kind: &str, root: Value<'_>, found: &mut Weight) {
        match kind {
            "contentBlockStart" | "contentBlockDelta" => converse(root, found),
            "chunk" | "" => {
                let typed = root.get("type").and_then(|kind| kind.as_str());
                if let Some(kind) = typed {
                    return self.anthropic(&kind, root, found);
                }
                for name in ["contentBlockStart", "contentBlockDelta"] {
                    if let Some(inner) = root.get(name) {
                        converse(inner, found);
                    }
                }
                for name in BEDROCK {
                    found.add_member(root, name);
                }
                found.add_member(root, "outputs");
            }
            kind => self.anthropic(kind, root, found),
        }
    }
}

/// Whether a chunk of OpenAI's chat or completions carries output.
pub(super) fn openai_output(root: Value<'_>) -> bool {
    let mut found = Weight::default();
    openai(root, &mut found);
    found.texts > 0
}

fn openai(root: Value<'_>, found: &mut Weight) {
    let Some(choices) = root.get("choices") else {
        return;
    };
    for choice in choices.items() {
        for (name, value) in choice.members() {
            if name.is_str("delta") {
                found.add_delta(value);
            } else if name.is_str("text") {
                found.add(value, NESTING);
            }
        }
    }
}

fn responses(kind: &str, root: Value<'_>, found: &mut Weight) {
    match kind {
        "response.output_text.delta"
        | "response.refusal.delta"
        | "response.reasoning_text.delta"
        | "response.reasoning_summary_text.delta"
        | "response.function_call_arguments.delta"
        | "response.custom_tool_call_input.delta"
        | "response.audio.delta"
        | "response.audio.transcript.delta" => found.add_member(root, "delta"),
        "response.output_item.added" => {
            let item = root.get("item");
            let kind = item.and_then(|item| item.get("type"));
            if kind
                .is_some_and(|kind| kind.is_str("function_call") || kind.is_str("custom_tool_call"))
            {
                found.add_begun(item.and_then(|item| item.get("name")));
            }
        }
        _ => {}
    }
}

fn gemini(root: Value<'_>, found: &mut Weight) {
    let candidates = root.get("candidates");
    for candidate in candidates.into_iter().flat_map(|all| all.items()) {
        let content = candidate.get("content");
        let parts = content.and_then(|content| content.get("parts"));
        for part in parts.into_iter().flat_map(|all| all.items()) {
            for name in GEMINI {
                found.add_member(part, name);
            }
        }
    }
}

fn ollama(root: Value<'_>, found: &mut Weight) {
    for of in [Some(root), root.get("message")].into_iter().flatten() {
        for name in OLLAMA {
            found.add_member(of, name);
        }
    }
}

fn cohere(kind: &str, root: Value<'_>, found: &mut Weight) {
    let message = || root.get("delta").and_then(|delta| delta.get("message"));
    match kind {
        "tool-call-start" | "tool-calls-generation" => {
            let call = message().and_then(|message| message.get("tool_calls"));
            let function = call.and_then(|call| call.get("function"));
            found.add_begun(function.and_then(|function| function.get("name")));
        }
        "text-generation" => found.add_member(root, "text"),
        "content-delta" => {
            if let Some(message) = message() {
                found.add_member(message, "content");
            }
        }
        "tool-plan-delta" => {
            if let Some(message) = message() {
                found.add_later(message, "tool_plan");
            }
        }
        "tool-call-delta" => {
            if let Some(message) = message() {
                found.add_later(message, "tool_calls");
            }
        }
        _ => {}
    }
}

/// A block of Converse that begins or goes on.
fn converse(event: Value<'_>, found: &mut Weight) {
    if let Some(call) = event.get("start").and_then(|start| start.get("toolUse")) {
        found.add_begun(call.get("name"));
    }
    if let Some(delta) = event.get("delta") {
        for name in ["text", "reasoningContent", "toolUse"] {
            found.add_member(delta, name);
        }
    }
}

// ===== impl Weight =====

impl Weight {
    fn add_member(&mut self, of: Value<'_>, name: &str) {
        if let Some(value) = of.get(name) {
            self.add(value, NESTING);
        }
    }

    /// What is generated, but is no first output.
    fn add_later(&mut self, of: Value<'_>, name: &str) {
        let before = self.texts;
        self.add_member(of, name);
        self.texts = before;
    }

    /// A tool call begins: that is output, whatever its name.
    fn add_begun(&mut self, name: Option<Value<'_>>) {
        self.texts += 1;
        if let Some(name) = name.and_then(|name| name.inner()) {
            self.keep(name);
            self.length += length(name);
        }
    }

    /// The members of a message of OpenAI's that are output. What a provider tells twice, plain and in details,
    /// counts once.
    fn add_delta(&mut self, delta: Value<'_>) {
        let mut reasons = false;
        for (name, value) in delta.members() {
            match name.raw() {
                br#""role""# | br#""name""# | br#""id""# | br#""annotations""# => {}
                br#""reasoning_details""# if reasons => {}
                br#""reasoning_details""# => value.items().for_each(|it| self.add_thought(it)),
                name => {
                    let before = self.texts;
                    self.add(value, NESTING);
                    reasons |= name == br#""reasoning""# && self.texts > before;
                }
            }
        }
    }

    /// A thought as OpenRouter tells it. Its signature is no text, and a sealed one is output that nobody can weigh.
    fn add_thought(&mut self, thought: Value<'_>) {
        for name in ["text", "summary"] {
            self.add_member(thought, name);
        }
        self.texts += u32::from(thought.get("data").is_some());
    }

    fn keep(&mut self, text: &[u8]) {
        if self.keeps {
            if !self.said.is_empty() {
                self.said.push(BREAK);
            }
            self.said.extend_from_slice(text);
        }
    }

    /// Adds the texts of a value, at any place but a `type` or an `id`. What nests deeper than `room` counts as one:
    /// nobody sends that much around nothing.
    fn add(&mut self, value: Value<'_>, room: u8) {
        match value.kind() {
            Kind::String => {
                let span = value.span();
                if span.len() > 2 {
                    self.texts += 1;
                    self.last = span.start + 1..span.end - 1;
                    let text = &value.raw()[1..span.len() - 1];
                    self.keep(text);
                    self.length += length(text);
                }
            }
            Kind::Array | Kind::Object if room == 0 => self.texts += 1,
            Kind::Array => value.items().for_each(|item| self.add(item, room - 1)),
            Kind::Object => {
                for (name, member) in value.members() {
                    if !name.is_str("type") && !name.is_str("id") {
                        self.add(member, room - 1);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Arrays and objects inside of each other that are looked into.
const NESTING: u8 = 8;

/// Stands between texts that do not belong together: no byte of UTF-8.
pub(crate) const BREAK: u8 = 0xff;

const OLLAMA: [&str; 4] = ["content", "thinking", "tool_calls", "response"];

const GEMINI: [&str; 4] = ["text", "functionCall", "executableCode", "inlineData"];

/// Where the models behind InvokeModel put their text.
const BEDROCK: [&str; 4] = ["outputText", "generation", "completion", "text"];
