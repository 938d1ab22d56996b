//! What an answer tells, read while it passes: usage, finish reasons, tool calls, output, errors.
//!
//! An event is parsed only if a word in it may bring news, or if its output is not where the last one's was.

use std::{borrow::Cow, ops::Range};

use memchr::{memchr2, memmem};

use crate::{
    dialect::{
        Dialect, Event, Events, Framing, Operation, Surface, Usage,
        ending::{
            BLOCK_REASON, DONE, ERROR, FINISH_REASON, FINISH_REASON_OF_GEMINI, USAGE, leading_type,
            output::{Length, Output, length},
            tells,
        },
        eventstream::invoked_into,
        report,
    },
    json::Value,
};

use super::{outline::Outline, said::Said, told};

/// Reads one answer.
#[derive(Debug)]
pub(super) struct Answer {
    events: Events,
    /// Where the whole is one document that comes in pieces.
    outline: Option<Box<Outline>>,
    reader: Reader,
    begun: bool,
}

/// What has been found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) usage: Usage,
    /// Why each choice ended, sorted by the choice.
    pub(super) reasons: Vec<(u64, Cow<'static, str>)>,
    pub(super) tools: Vec<Box<str>>,
    /// Which calls the names belong to.
    pub(super) calls: Vec<(u64, u64)>,
    /// Words, marks and numbers of the generated text that passed.
    pub(super) length: Length,
    /// How often the answer went on in another member: from thoughts to a text, from a text to a call.
    pub(super) turns: u64,
    /// Places of sources that a text names.
    pub(super) citations: u64,
    /// Events that carried output.
    pub(super) outputs: u64,
    /// The event that carried the first one.
    pub(super) first_output: Option<u64>,
    pub(super) failed: bool,
    pub(super) flawed: bool,
    pub(super) blind: bool,
    /// The provider has said why a choice, or the whole, ended.
    pub(super) ended: bool,
    /// A report has come.
    pub(super) reported: bool,
    /// Output has come after it.
    outdated: bool,
    /// The last report came alone, behind output.
    alone: bool,
    /// Something that is worth publishing was found since that was asked last.
    news: bool,
}

/// Reads events and documents of one surface.
#[derive(Debug)]
struct Reader {
    surface: Surface,
    kind: Kind,
    output: Output,
    place: Place,
    /// Events so far.
    count: u64,
    found: Found,
    /// A document that came wrapped in another.
    scratch: Vec<u8>,
    /// The size of an output is asked for even where its usage is told.
    weighs: bool,
    said: Said,
}

/// Whose words to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Chat,
    Responses,
    Anthropic,
    Gemini,
    Ollama,
    Cohere,
    Bedrock,
    Other,
}

/// Where the text of the last event lay: most events of a stream are alike up to it.
#[derive(Debug, Default)]
struct Place {
    at: usize,
    /// The bytes in front of it, quote included.
    before: [u8; 16],
}

// ===== impl Answer =====

impl Answer {
    /// `weighs` is whether the size of an output is wanted even where its usage is told.
    pub(super) fn new(surface: Option<&Surface>, framing: Framing, weighs: bool) -> Self {
        let surface = surface.cloned().unwrap_or(Surface {
            dialect: Dialect::Raw,
            operation: Operation::Chat,
            prefix: 0..0,
            model: None,
            stream: None,
        });
        Self {
            events: Events::new(Some(&surface), framing),
            outline: None,
            reader: Reader {
                kind: Kind::of(&surface),
                output: Output::new(Some(&surface)),
                surface,
                place: Place::default(),
                count: 0,
                found: Found::default(),
                scratch: Vec::new(),
                weighs,
                said: Said::default(),
            },
            begun: false,
        }
    }

    /// Keeps so many bytes of one event at most. Before the first byte.
    pub(super) fn with_cap(mut self, cap: usize) -> Self {
        self.events = self.events.with_cap(cap);
        self
    }

    /// Keeps what events say for who counts it; `mixed` if they are of several answers. Before the first byte.
    pub(super) fn listen(&mut self, mixed: bool) {
        self.reader.said.listen(mixed);
        self.reader.output.keep();
    }

    /// What events have said since it was taken last.
    pub(super) fn said(&mut self) -> (&mut Said, u64) {
        (&mut self.reader.said, self.reader.found.length.units)
    }

    /// Takes the next frame; `last` if nothing follows it.
    pub(super) fn feed(&mut self, frame: &[u8], last: bool) {
        let Self { events, reader, .. } = self;
        events.feed(frame, |event| reader.event(&event));
        let first = !std::mem::replace(&mut self.begun, true);
        let unclear = self.events.is_unclear();
        if !unclear && self.events.framing() != Framing::Document {
            self.outline = None;
        } else if first && last && !unclear {
            self.reader.document(frame, 0);
        } else {
            self.outline.get_or_insert_default().feed(frame);
        }
    }

    /// At a clean end of the transport.
    pub(super) fn finish(&mut self) {
        let Self { events, reader, .. } = self;
        events.finish(|event| reader.event(&event));
        if let Some(outline) = self.outline.take()
            && self.events.framing() == Framing::Document
        {
            match outline.document() {
                Some(document) => reader.document(document, outline.dropped()),
                None => reader.found.blind = true,
            }
        }
    }

    pub(super) fn found(&self) -> &Found {
        &self.reader.found
    }

    /// Whether something was found since this was asked last.
    pub(super) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.reader.found.news)
    }

    /// The finish reasons and the tools' names, for good.
    pub(super) fn take_words(&mut self) -> (Vec<Cow<'static, str>>, Vec<Box<str>>) {
        let found = &mut self.reader.found;
        let reasons = std::mem::take(&mut found.reasons);
        let reasons = reasons.into_iter().map(|(_, reason)| reason).collect();
        (reasons, std::mem::take(&mut found.tools))
    }

    /// How many events have come; none of a body that has none.
    pub(super) fn count(&self) -> Option<u64> {
        self.events.told()
    }

    /// Whether there is nothing here that can be read.
    pub(super) fn is_opaque(&self) -> bool {
        self.events.framing() == Framing::Opaque
    }
}

// ===== impl Found =====

impl Found {
    /// Whether the last report is the provider's last word.
    pub(super) fn is_final(&self) -> bool {
        self.reported && !self.outdated && (self.ended || self.alone)
    }

    /// The last reason of a choice counts.
    pub(super) fn reason(&mut self, choice: u64, reason: &str, more: Option<&str>) {
        if reason.is_empty() {
            return;
        }
        self.ended = true;
        self.news = true;
        let reason = told::word(reason, more);
        match self.reasons.binary_search_by_key(&choice, |(at, _)| *at) {
            Ok(at) => self.reasons[at].1 = reason,
            Err(at) if self.reasons.len() < MOST => self.reasons.insert(at, (choice, reason)),
            Err(_) => {}
        }
    }

    /// The first name of a call counts; `call` says which it is, in the provider's numbering.
    pub(super) fn tool(&mut self, call: (u64, u64), name: &str) {
        if name.is_empty() || self.tools.len() >= MOST || self.calls.contains(&call) {
            return;
        }
        self.news = true;
        self.calls.push(call);
        self.tools
            .push(name[..name.floor_char_boundary(LONGEST)].into());
    }

    /// A call whose provider does not number its calls.
    pub(super) fn next_tool(&mut self, name: &str) {
        self.tool((u64::MAX, self.tools.len() as u64), name);
    }
}

// ===== impl Reader =====

impl Reader {
    fn event(&mut self, event: &Event<'_>) {
        let index = self.count;
        self.count += 1;
        if event.failed {
            self.found.failed = true;
            self.found.news = true;
        }
        if event.truncated {
            self.found.blind = true;
            return;
        }
        if event.framing == Framing::EventStream && self.surface.operation == Operation::Invoke {
            let mut scratch = std::mem::take(&mut self.scratch);
            if invoked_into(event.data, &mut scratch) {
                self.read(index, event.name, &scratch);
            }
            self.scratch = scratch;
            return;
        }
        let data = event.data;
        if event.tail {
            let data = data.trim_ascii();
            if Value::parse(data).is_none_or(|value| value.span().end != data.len()) {
                return;
            }
        }
        if !self.may_tell(event.name, data)
            && let Some(text) = self.place.text(data)
        {
            self.said.go_on(text);
            self.output(index, length(text));
            return;
        }
        self.read(index, event.name, data);
    }

    #[inline]
    fn output(&mut self, index: u64, length: Length) {
        let found = &mut self.found;
        found.length += length;
        found.outputs += 1;
        found.outdated |= found.reported;
        found.alone = false;
        if found.first_output.is_none() {
            found.first_output = Some(index);
            found.news = true;
        }
    }

    /// Whether an event may carry more than output.
    #[inline]
    fn may_tell(&self, name: &[u8], data: &[u8]) -> bool {
        match self.kind {
            Kind::Chat => FINISH_REASON.is_set(data) || USAGE.is_set(data) || ERROR.is_set(data),
            Kind::Responses => !is_delta(name, data, b".delta"),
            Kind::Anthropic => !is_delta(name, data, b"content_block_delta"),
            Kind::Cohere => !is_delta(name, data, b"content-delta"),
            Kind::Bedrock => name != b"contentBlockDelta",
            Kind::Ollama => DONE.is_set(data) || ERROR.is_set(data),
            Kind::Gemini => {
                FINISH_REASON_OF_GEMINI.is_set(data)
                    || BLOCK_REASON.is_set(data)
                    || ERROR.is_set(data)
                    || memmem::find(data, b"usageMetadata").is_some()
            }
            Kind::Other => USAGE.is_set(data),
        }
    }

    fn read(&mut self, index: u64, name: &[u8], data: &[u8]) {
        let Some(root) = Value::parse(data) else {
            return;
        };
        let kind = kind(name, data, root);
        let weight = self.output.of_event(name, data, root);
        told::event(self.kind, &kind, root, &mut self.found);
        self.failure(&kind, root);
        let speaks = weight.texts > 0;
        if speaks {
            self.output(index, weight.length);
            let member = self.place.member();
            if weight.texts == 1 {
                self.place.learn(data, &weight.last);
            }
            if weight.texts != 1 || self.place.member() != member {
                self.said.break_off();
                self.found.turns += u64::from(self.found.outputs > 1);
            }
        } else {
            self.found.length += weight.length;
        }
        self.said.go_on(&weight.said);
        if let Some((usage, flawed)) = report(&self.surface, root) {
            let found = &mut self.found;
            found.flawed |= flawed;
            found.usage.merge(usage);
            found.reported |= usage != Usage::default();
            found.outdated = false;
            found.alone = !speaks && found.outputs > 0;
            found.news = true;
        }
    }

    /// Takes one whole document; `dropped` bytes of its texts are missing.
    fn document(&mut self, data: &[u8], dropped: u64) {
        let Some(root) = Value::object(data) else {
            self.found.blind = true;
            return;
        };
        let found = &mut self.found;
        let reported = if self.kind == Kind::Chat {
            told::chat(data, found).unwrap_or_else(|| {
                found.blind = true;
                None
            })
        } else {
            told::document(self.kind, root, found);
            if !matches!(self.kind, Kind::Responses | Kind::Other | Kind::Bedrock) {
                found.failed |= root.get("error").is_some_and(tells);
            }
            report(&self.surface, root)
        };
        if let Some((usage, flawed)) = reported {
            found.usage = usage;
            found.flawed = flawed;
            found.reported = usage != Usage::default();
            found.alone = true;
        }
        found.news = true;
        if self.weighs || found.flawed || found.usage.completion.is_none() {
            let weight = self.output.of_document(root);
            found.length = weight.length;
            found.outputs = u64::from(weight.texts > 0);
            if weight.texts > 0 {
                found.length.units += dropped / BYTES_A_UNIT;
            }
        }
    }

    fn failure(&mut self, kind: &str, root: Value<'_>) {
        let failed = match self.kind {
            Kind::Responses if kind == "response.failed" => true,
            Kind::Responses => kind == "error",
            Kind::Anthropic | Kind::Cohere if kind == "error" => true,
            Kind::Other | Kind::Bedrock => false,
            _ => kind == "error" || root.get("error").is_some_and(tells),
        };
        self.found.failed |= failed;
        self.found.news |= failed;
    }
}

/// What an event says it is: by its name, or in its data.
fn kind<'e>(name: &'e [u8], data: &'e [u8], root: Value<'e>) -> Cow<'e, str> {
    match std::str::from_utf8(name) {
        Ok(name) if !name.is_empty() && name != "message" && name != "chunk" => name.into(),
        _ => leading_type(data)
            .map(Into::into)
            .or_else(|| {
                root.get("type")
                    .or_else(|| root.get("event_type"))?
                    .as_str()
            })
            .unwrap_or_default(),
    }
}

/// Whether an event of a dialect whose events say what they are says that it is such a one.
fn is_delta(name: &[u8], data: &[u8], end: &[u8]) -> bool {
    if name.is_empty() {
        leading_type(data).is_some_and(|kind| kind.as_bytes().ends_with(end))
    } else {
        name.ends_with(end)
    }
}

// ===== impl Place =====

impl Place {
    /// The text at the place, if an event looks as the last one did there.
    #[inline]
    fn text<'d>(&self, data: &'d [u8]) -> Option<&'d [u8]> {
        let before = data.get(self.at.checked_sub(self.before.len())?..self.at)?;
        if before != self.before {
            return None;
        }
        let text = &data[self.at..];
        let mut end = memchr2(b'"', b'\\', text)?;
        while text[end] == b'\\' {
            end += 2 + memchr2(b'"', b'\\', text.get(end + 2..)?)?;
        }
        (end > 0).then(|| &text[..end])
    }

    /// The end of the name of the member that the text is in.
    fn member(&self) -> [u8; 8] {
        let [.., a, b, c, d, e, f, g, h] = self.before;
        [a, b, c, d, e, f, g, h]
    }

    /// Takes the place of an event's only text, unless it is a name: the next one may be another.
    fn learn(&mut self, data: &[u8], text: &Range<usize>) {
        let before = text
            .start
            .checked_sub(self.before.len())
            .and_then(|from| data.get(from..text.start)?.try_into().ok())
            .filter(|before: &[u8; 16]| memmem::find(before, b"\"name\"").is_none());
        self.at = before.map_or(0, |_| text.start);
        self.before = before.unwrap_or_default();
    }
}

// ===== impl Kind =====

impl Kind {
    fn of(surface: &Surface) -> Self {
        match (surface.dialect, surface.operation) {
            (Dialect::OpenAi | Dialect::Azure | Dialect::Mock, Operation::Responses) => {
                Self::Responses
            }
            (Dialect::OpenAi | Dialect::Azure | Dialect::Mock, _) => Self::Chat,
            (Dialect::Anthropic, _) => Self::Anthropic,
            (Dialect::Gemini, _) => Self::Gemini,
            (Dialect::Ollama, _) => Self::Ollama,
            (Dialect::Cohere, _) => Self::Cohere,
            (Dialect::Bedrock, _) => Self::Bedrock,
            (Dialect::Raw, _) => Self::Other,
        }
    }
}

/// Bytes of a usual text that are one unit.
const BYTES_A_UNIT: u64 = 5;

/// The most choices and tool calls that are told apart.
const MOST: usize = 128;

/// The most bytes that are kept of a name.
const LONGEST: usize = 128;
