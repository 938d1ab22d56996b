//! What the events of a stream say about its end, dialect by dialect.

use super::{
    marks::{BLOCK_REASON, DONE, ERROR, FINISH_REASON, FINISH_REASON_OF_GEMINI, USAGE},
    output::{Output, openai_output},
};
use crate::{
    dialect::{Dialect, Operation, Surface},
    json::{Kind, Value},
};

/// What has been seen so far.
#[derive(Debug)]
pub(super) struct Verdict {
    rule: Rule,
    /// A strong mark was seen; nothing after it matters.
    pub(super) terminal: bool,
    /// The provider told an error.
    pub(super) error: bool,
    /// Every choice seen has finished.
    finished: bool,
    /// A usage report has come, and no output after it.
    reported: bool,
    /// Usage comes beside output, so that it marks nothing there.
    reports_always: bool,
    /// Some event has come.
    begun: bool,
    /// An event was too large to be read.
    blind: bool,
    /// With several choices: which were seen, which have finished.
    choices: Option<Choices>,
    output: Output,
    /// The first output is looked for.
    waits: bool,
    output_seen: bool,
}

/// Which dialect's marks hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// OpenAI chat and completions.
    Chat,
    Responses,
    Anthropic,
    Gemini,
    Ollama,
    Cohere,
    /// None: the transport's own end.
    Transport,
}

/// Sets of choice indices. Providers allow 128 at most; a higher one shares the last place.
#[derive(Clone, Copy, Debug, Default)]
struct Choices {
    seen: u128,
    finished: u128,
}

// ===== impl Verdict =====

impl Verdict {
    pub(super) fn new(surface: Option<&Surface>, choices: u32) -> Self {
        Self {
            rule: surface.map_or(Rule::Transport, Rule::of),
            terminal: false,
            error: false,
            finished: false,
            reported: false,
            reports_always: false,
            begun: false,
            blind: false,
            choices: (choices > 1).then(Choices::default),
            output: Output::new(surface),
            waits: false,
            output_seen: false,
        }
    }

    /// Whether events are looked into at all.
    pub(super) fn reads(&self) -> bool {
        self.rule != Rule::Transport
    }

    pub(super) fn watch_output(&mut self) {
        self.waits = true;
    }

    pub(super) fn output_seen(&self) -> bool {
        self.output_seen
    }

    /// Costs nothing unless output is waited for.
    fn look_for_output(&mut self, name: &[u8], data: &[u8]) {
        if self.waits
            && let Some(root) = Value::parse(data)
            && self.output.of_event(name, data, root).texts > 0
        {
            self.output_seen = true;
            self.waits = false;
        }
    }

    /// Whether the stream may end here.
    pub(super) fn is_complete(&self) -> bool {
        self.terminal
            || self.error
            || self.finished
            || self.reported
            || self.blind
            || self.rule == Rule::Transport
    }

    /// Takes an event that lacks its end. What is no whole document may be cut in it, and says nothing.
    pub(super) fn tail(&mut self, name: &[u8], data: &[u8], truncated: bool) {
        let data = data.trim_ascii();
        let whole = || Value::parse(data).is_some_and(|value| value.span().end == data.len());
        if !truncated && (data == b"[DONE]" || whole()) {
            self.event(name, data, false);
        }
    }

    /// Takes an element of a streamed array. Its end is the array's, so that only errors and output matter.
    pub(super) fn element(&mut self, data: &[u8]) {
        self.look_for_output(b"", data);
        self.error |= ERROR.is_set(data) && Value::parse(data).is_some_and(has_error);
    }

    /// Takes an event.
    pub(super) fn event(&mut self, name: &[u8], data: &[u8], truncated: bool) {
        if self.terminal || self.rule == Rule::Transport {
            return;
        }
        if truncated {
            // Only what the event says it is can be read.
            self.blind = self.rule.is_told_by_content();
            match std::str::from_utf8(name) {
                Ok(name) if !name.is_empty() => self.named(name),
                _ => leading_type(data)
                    .into_iter()
                    .for_each(|kind| self.named(kind)),
            }
            return;
        }
        self.look_for_output(name, data);
        if self.blind {
            // The large event carried no mark if output follows it.
            self.blind = self.rule == Rule::Chat && !Value::parse(data).is_some_and(openai_output);
        }
        match self.rule {
            Rule::Chat => self.chat(name, data),
            Rule::Gemini => self.gemini(data),
            Rule::Ollama => self.ollama(data),
            Rule::Responses | Rule::Anthropic | Rule::Cohere => self.typed(name, data),
            Rule::Transport => {}
        }
        self.begun = true;
    }

    fn chat(&mut self, name: &[u8], data: &[u8]) {
        if data.trim_ascii_end() == b"[DONE]" {
            self.terminal = true;
            return;
        }
        if name == b"error" {
            return self.fail();
        }
        let failed = ERROR.is_set(data);
        // With several choices, one that begins later opens the stream again.
        let open = !self.finished || self.choices.is_some();
        let finishes = open && FINISH_REASON.is_set(data);
        let reports = open && USAGE.is_set(data);
        let reads_all = self.choices.is_some() || self.reported;
        if !(failed || finishes || reports || reads_all) {
            return;
        }
        let Some(root) = Value::parse(data) else {
            return;
        };
        let Chunk {
            choices,
            usage,
            error,
        } = Chunk::of(root);
        if error.is_some_and(tells) {
            self.error = true;
            self.terminal |= choices.is_none();
        }
        if open {
            if let Some(choices) = choices {
                self.choices_of(choices, "finish_reason");
            }
            if reports || self.reported {
                self.usage(root, choices, usage);
            }
        }
    }

    /// Whether a usage report follows the last output, for providers that tell no finish reason.
    fn usage(&mut self, root: Value<'_>, choices: Option<Value<'_>>, usage: Option<Value<'_>>) {
        let alone = choices.is_none_or(|choices| choices.items().next().is_none());
        let reports = usage.is_some_and(|usage| usage.kind() == Kind::Object);
        let speaks = !alone && openai_output(root);
        if reports && !alone && (speaks || !self.begun) {
            self.reports_always = true;
        }
        if reports && (alone || !(speaks || self.reports_always)) {
            self.reported = self.begun;
        } else if speaks {
            self.reported = false;
        }
    }

    /// Notes the choices of an event and whether all that were seen have finished.
    fn choices_of(&mut self, list: Value<'_>, reason: &str) {
        for (place, choice) in list.items().enumerate() {
            let (mut index, mut finished) = (place as u64, false);
            for (name, value) in choice.members() {
                if name.is_str(reason) {
                    finished = value.kind() == Kind::String
                        && !value.is_str("")
                        && !value.is_str("FINISH_REASON_UNSPECIFIED");
                } else if name.is_str("index") {
                    index = value.as_u64().unwrap_or(index);
                }
            }
            match &mut self.choices {
                None => self.finished |= finished,
                Some(choices) => choices.note(index, finished),
            }
        }
        if let Some(choices) = self.choices {
            self.finished = choices.seen != 0 && choices.seen == choices.finished;
        }
    }

    fn gemini(&mut self, data: &[u8]) {
        let failed = ERROR.is_set(data);
        let finishes = FINISH_REASON_OF_GEMINI.is_set(data) || BLOCK_REASON.is_set(data);
        if !(failed || finishes || self.choices.is_some()) {
            return;
        }
        let Some(root) = Value::parse(data) else {
            return;
        };
        if failed && has_error(root) {
            return self.fail();
        }
        let candidates = root.get("candidates");
        if let Some(candidates) = candidates {
            self.choices_of(candidates, "finishReason");
        }
        let blocked = root
            .get("promptFeedback")
            .and_then(|feedback| feedback.get("blockReason"));
        if candidates.is_none() && blocked.is_some_and(|reason| !reason.is_null()) {
            self.finished = true;
        }
    }

    fn ollama(&mut self, data: &[u8]) {
        let (done, failed) = (DONE.is_set(data), ERROR.is_set(data));
        if !(done || failed) {
            return;
        }
        let Some(root) = Value::parse(data) else {
            return;
        };
        if failed && has_error(root) {
            return self.fail();
        }
        self.terminal |= root.get("done").and_then(|done| done.as_bool()) == Some(true);
    }

    /// Dialects whose events say what they are: in their name, or else in their data.
    fn typed(&mut self, name: &[u8], data: &[u8]) {
        if !name.is_empty() && name != b"message" {
            if let Ok(name) = std::str::from_utf8(name) {
                self.named(name);
                if self.rule == Rule::Cohere && name == "message-end" && ERROR.is_set(data) {
                    self.error |= cohere_failed(data);
                }
            }
            return;
        }
        match leading_type(data) {
            Some(kind) => self.named(kind),
            None => self.untyped(data),
        }
    }

    /// An event without a name whose data does not begin with its type.
    fn untyped(&mut self, data: &[u8]) {
        let Some(root) = Value::parse(data) else {
            return;
        };
        match root
            .get("type")
            .or_else(|| root.get("event_type"))
            .and_then(|kind| kind.as_str())
        {
            Some(kind) => self.named(&kind),
            None if has_error(root) => self.fail(),
            None => {}
        }
    }

    /// Takes what an event says it is.
    fn named(&mut self, kind: &str) {
        match (self.rule, kind) {
            (Rule::Responses, "response.completed" | "response.incomplete")
            | (Rule::Anthropic, "message_stop")
            | (Rule::Cohere, "message-end" | "stream-end") => self.terminal = true,
            (Rule::Responses, "response.failed") | (_, "error") => self.fail(),
            _ => {}
        }
    }

    fn fail(&mut self) {
        self.error = true;
        self.terminal = true;
    }
}

// ===== impl Rule =====

impl Rule {
    fn of(surface: &Surface) -> Self {
        use Operation::{Chat, Completions, Generate, Messages, Responses};
        match (surface.dialect, surface.operation) {
            (Dialect::OpenAi | Dialect::Azure | Dialect::Mock, Chat | Completions) => Self::Chat,
            (Dialect::OpenAi | Dialect::Azure | Dialect::Mock, Responses) => Self::Responses,
            (Dialect::Anthropic, Messages) => Self::Anthropic,
            (Dialect::Gemini, Generate) => Self::Gemini,
            (Dialect::Ollama, Chat | Generate) => Self::Ollama,
            (Dialect::Cohere, Chat) => Self::Cohere,
            _ => Self::Transport,
        }
    }

    /// Whether an event's mark lies in its content, and not in what the event says it is.
    fn is_told_by_content(self) -> bool {
        matches!(self, Self::Chat | Self::Gemini | Self::Ollama)
    }
}

// ===== impl Choices =====

impl Choices {
    fn note(&mut self, index: u64, finished: bool) {
        let bit = 1_u128 << index.min(127);
        self.seen |= bit;
        if finished {
            self.finished |= bit;
        }
    }
}

/// The members of an OpenAI chunk that matter here, found in one pass.
#[derive(Default)]
struct Chunk<'a> {
    choices: Option<Value<'a>>,
    usage: Option<Value<'a>>,
    error: Option<Value<'a>>,
}

impl<'a> Chunk<'a> {
    fn of(root: Value<'a>) -> Self {
        let mut chunk = Self::default();
        for (name, value) in root.members() {
            match name.raw() {
                br#""choices""# => chunk.choices = Some(value),
                br#""usage""# => chunk.usage = Some(value),
                br#""error""# => chunk.error = Some(value),
                _ => {}
            }
        }
        chunk
    }
}

/// Whether there is an error at the top of a document.
fn has_error(root: Value<'_>) -> bool {
    root.get("error").is_some_and(tells)
}

/// Whether the value of an `error` member tells of one.
pub(crate) fn tells(error: Value<'_>) -> bool {
    match error.kind() {
        Kind::Null | Kind::Bool => false,
        Kind::String => !error.is_str(""),
        _ => true,
    }
}

/// Whether Cohere's last event tells of a failure.
fn cohere_failed(data: &[u8]) -> bool {
    let root = Value::parse(data);
    let error = root.and_then(|root| root.get("delta")?.get("error"));
    error.is_some_and(|error| !error.is_null())
}

/// The value of a first member `type`, where it needs no decoding.
pub(crate) fn leading_type(data: &[u8]) -> Option<&str> {
    let rest = data
        .trim_ascii_start()
        .strip_prefix(b"{")?
        .trim_ascii_start();
    let rest = rest
        .strip_prefix(b"\"type\"")?
        .trim_ascii_start()
        .strip_prefix(b":")?;
    let rest = rest.trim_ascii_start().strip_prefix(b"\"")?;
    let end = memchr::memchr2(b'"', b'\\', rest).filter(|end| rest[*end] == b'"')?;
    std::str::from_utf8(&rest[..end]).ok()
}
