//! Whether a streamed answer has ended well.
//!
//! A clean end of the transport proves nothing: an upstream that dies behind a proxy, or that gives up, often ends its
//! body in good order. What proves it is a mark of the dialect's own:
//!
//! | dialect | the stream is complete with |
//! |---|---|
//! | OpenAI chat, completions | `[DONE]`; a finish reason of every choice seen; a usage report after the last output |
//! | OpenAI Responses | `response.completed`, `.incomplete`, `.failed`, `error` |
//! | Anthropic | `message_stop`, `error` |
//! | Gemini | a finish reason of every candidate, a block reason without candidates; as an array, its closing bracket |
//! | Ollama | `done: true` |
//! | Cohere | `message-end`, `stream-end` |
//! | anything else, and what cannot be read | the transport's own end |
//!
//! An error that the provider itself told in the stream ends it as well as a mark does: nothing is to be added to it.

use super::{
    Framing, Surface,
    eventstream::Messages,
    pieces::{Elements, Lines},
};
use crate::sse::{CAP, Scanner, Sniff, sniff};

mod marks;
mod output;
mod verdict;

use self::verdict::Verdict;

/// Watches an answer and judges whether it has ended well.
///
/// Costs tens of nanoseconds an event; JSON is looked at only where a word of a mark occurs in it. Keeps one event at
/// most, up to [`CAP`] or what [`with_cap`](Self::with_cap) says. An event over that is not read; whether it carried a
/// mark is then unknown, and a clean end of the transport is believed.
#[derive(Debug)]
pub struct Judge {
    framing: Framing,
    cutter: Cutter,
    verdict: Verdict,
    /// First bytes that do not tell yet what the body is.
    head: Vec<u8>,
    /// A clean end of the transport is enough.
    transport_marks: bool,
    /// How much of one event is kept.
    cap: usize,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// With a mark of its end, or in a dialect that has none.
    Complete,
    /// Without one.
    Truncated,
}

/// What cuts the body into events.
#[derive(Debug)]
enum Cutter {
    /// Nothing yet: the first bytes decide.
    Sniffing,
    Sse(Box<Scanner>),
    Lines(Lines),
    Array(Elements),
    EventStream(Messages),
    /// There is nothing to read.
    Blind,
}

// ===== impl Judge =====

impl Judge {
    /// Before the first byte of an answer.
    ///
    /// `choices` is how many alternatives the request asked for. `transport_marks` says that this provider's streams
    /// carry no mark, so that a clean end of the transport is enough.
    pub fn new(
        surface: Option<&Surface>,
        framing: Framing,
        choices: u32,
        transport_marks: bool,
    ) -> Self {
        let cutter = match framing {
            Framing::Sse | Framing::Array | Framing::Document => Cutter::Sniffing,
            framing => Cutter::of(framing, CAP),
        };
        let verdict = Verdict::new(surface, choices);
        Self {
            framing,
            cutter,
            verdict,
            head: Vec::new(),
            transport_marks,
            cap: CAP,
        }
    }

    /// Keeps so many bytes of one event at most. Before the first byte.
    #[must_use]
    pub fn with_cap(mut self, cap: usize) -> Self {
        self.cap = cap;
        if !matches!(self.cutter, Cutter::Sniffing) {
            self.cutter = Cutter::of(self.framing, cap);
        }
        self
    }

    /// Also watches for the first generated output.
    #[must_use]
    pub fn with_first_output(mut self) -> Self {
        self.verdict.watch_output();
        self
    }

    /// Takes the next frame of the body.
    pub fn feed(&mut self, frame: &[u8]) {
        if matches!(self.cutter, Cutter::Sniffing) && !self.sniff(frame) {
            return;
        }
        self.pass(frame);
    }

    /// Judges at a clean end of the transport; an event that lacks only its blank line counts.
    pub fn finish(&mut self) -> Ending {
        if matches!(self.cutter, Cutter::Sniffing) {
            self.settle(self.framing);
        }
        let verdict = &mut self.verdict;
        match &mut self.cutter {
            Cutter::Sse(scanner) => {
                scanner.finish(|event| verdict.tail(event.name, event.data, event.truncated));
            }
            Cutter::Lines(lines) => {
                lines.finish(|line| verdict.tail(b"", line.data, line.truncated));
            }
            _ => {}
        }
        let readable = matches!(
            self.cutter,
            Cutter::Sse(_) | Cutter::Lines(_) | Cutter::Array(_)
        );
        if !readable || self.transport_marks || self.verdict.is_complete() {
            Ending::Complete
        } else {
            Ending::Truncated
        }
    }

    /// Whether a strong mark was seen: even a transport that broke after it lost nothing.
    pub fn terminal(&self) -> bool {
        self.verdict.terminal
    }

    /// Whether the stream carried the provider's own error.
    pub fn error_seen(&self) -> bool {
        self.verdict.error
    }

    /// Whether generated output of any kind has been seen: text, reasoning, a refusal, a client's tool call. Always
    /// false unless asked for with [`with_first_output`](Self::with_first_output).
    pub fn first_output(&self) -> bool {
        self.verdict.output_seen()
    }

    /// Whether generated output can be told from other bytes here; once that is false it stays so. What is
    /// compressed, binary or one document, and what no dialect describes, is not looked into.
    pub fn sees_output(&self) -> bool {
        let blind = matches!(self.cutter, Cutter::Blind | Cutter::EventStream(_));
        !blind && self.verdict.reads()
    }

    /// How the body is cut; once its first bytes have been seen, what it really is and not what its head said.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether an event put in now would stand alone; false where none can be put in at all.
    pub fn at_boundary(&self) -> bool {
        match &self.cutter {
            Cutter::Sse(scanner) => scanner.at_boundary(),
            Cutter::Lines(lines) => lines.at_boundary(),
            Cutter::Sniffing => self.head.is_empty() && self.framing == Framing::Sse,
            Cutter::Array(_) | Cutter::EventStream(_) | Cutter::Blind => false,
        }
    }

    /// How many events have come: dispatched events, lines, elements, messages; none of a body that has none.
    pub fn events(&self) -> Option<u64> {
        match &self.cutter {
            Cutter::Sse(scanner) => Some(scanner.dispatched()),
            Cutter::Lines(lines) => Some(lines.told()),
            Cutter::Array(elements) => Some(elements.told()),
            Cutter::EventStream(messages) => Some(messages.told()),
            Cutter::Sniffing | Cutter::Blind => None,
        }
    }

    fn pass(&mut self, frame: &[u8]) {
        let verdict = &mut self.verdict;
        match &mut self.cutter {
            Cutter::Sse(scanner) => {
                scanner.feed(frame, |event| {
                    verdict.event(event.name, event.data, event.truncated);
                });
            }
            Cutter::Lines(lines) => {
                lines.feed(frame, |line| verdict.event(b"", line.data, line.truncated));
            }
            Cutter::Array(elements) => {
                elements.feed(frame, |element| verdict.element(element.data));
                // Not for ever: what follows the bracket makes this no array, in whichever frame it comes.
                verdict.terminal = elements.is_closed();
            }
            Cutter::EventStream(messages) => {
                messages.feed(frame, |message| verdict.error |= message.failed);
            }
            Cutter::Sniffing | Cutter::Blind => {}
        }
    }

    /// Looks at the first bytes; true once they have settled what the body is, and `frame` is still to be passed.
    fn sniff(&mut self, frame: &[u8]) -> bool {
        let joined;
        let first = if self.head.is_empty() {
            frame
        } else {
            joined = [self.head.as_slice(), &frame[..frame.len().min(SNIFFED)]].concat();
            &joined
        };
        let framing = match sniff(first) {
            Sniff::Events => Framing::Sse,
            Sniff::Other => match (first.trim_ascii_start().first(), self.framing) {
                (Some(b'['), Framing::Array) => Framing::Array,
                (Some(b'['), Framing::Sse) if self.verdict.may_be_array() => Framing::Array,
                (Some(b'{'), Framing::Sse) if self.verdict.may_be_lines() => Framing::Lines,
                (Some(b'{' | b'['), _) | (_, Framing::Document) => Framing::Document,
                (None, _) if first.len() < SNIFFED => return self.hold(frame),
                _ => Framing::Opaque,
            },
            Sniff::Unclear if first.len() < SNIFFED => return self.hold(frame),
            Sniff::Unclear => self.framing,
        };
        self.settle(framing);
        true
    }

    fn hold(&mut self, frame: &[u8]) -> bool {
        self.head.extend_from_slice(frame);
        false
    }

    fn settle(&mut self, framing: Framing) {
        self.framing = framing;
        self.cutter = Cutter::of(framing, self.cap);
        let head = std::mem::take(&mut self.head);
        self.pass(&head);
    }
}

// ===== impl Cutter =====

impl Cutter {
    fn of(framing: Framing, cap: usize) -> Self {
        match framing {
            Framing::Sse => Self::Sse(Box::new(Scanner::new(cap))),
            Framing::Lines => Self::Lines(Lines::new(cap)),
            Framing::Array => Self::Array(Elements::new(cap)),
            Framing::EventStream => Self::EventStream(Messages::new(cap)),
            Framing::Document | Framing::Opaque => Self::Blind,
        }
    }
}

/// How many first bytes are looked at before a body is taken for what its head says.
const SNIFFED: usize = 64;

#[cfg(test)]
mod tests;
