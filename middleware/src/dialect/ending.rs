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

use super::{Event, Events, Framing, Surface};

mod marks;
pub(crate) mod output;
mod units;
mod verdict;

use self::verdict::Verdict;
pub(crate) use self::verdict::tells;
#[cfg(feature = "meter")]
pub(crate) use self::{
    marks::{BLOCK_REASON, DONE, ERROR, FINISH_REASON, FINISH_REASON_OF_GEMINI, USAGE},
    verdict::leading_type,
};

/// Watches an answer and judges whether it has ended well.
///
/// Costs tens of nanoseconds an event; JSON is looked at only where a word of a mark occurs in it. Keeps one event at
/// most, up to 1 MiB or what [`with_cap`](Self::with_cap) says. An event over that is not read; whether it carried a
/// mark is then unknown, and a clean end of the transport is believed.
#[derive(Debug)]
pub struct Judge {
    events: Events,
    verdict: Verdict,
    /// A clean end of the transport is enough.
    transport_marks: bool,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// With a mark of its end, or in a dialect that has none.
    Complete,
    /// Without one.
    Truncated,
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
        Self {
            events: Events::new(surface, framing),
            verdict: Verdict::new(surface, choices),
            transport_marks,
        }
    }

    /// Keeps so many bytes of one event at most. Before the first byte.
    #[must_use]
    pub fn with_cap(mut self, cap: usize) -> Self {
        self.events = self.events.with_cap(cap);
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
        let Self {
            events, verdict, ..
        } = self;
        events.feed(frame, |event| take(verdict, &event));
        if events.framing() == Framing::Array && !events.is_unclear() {
            // Not for ever: what follows the bracket makes this no array, in whichever frame it comes.
            verdict.terminal = events.is_closed();
        }
    }

    /// Judges at a clean end of the transport; an event that lacks only its blank line counts.
    pub fn finish(&mut self) -> Ending {
        let Self {
            events, verdict, ..
        } = self;
        events.finish(|event| take(verdict, &event));
        let readable = matches!(
            events.framing(),
            Framing::Sse | Framing::Lines | Framing::Array
        );
        if !readable || self.transport_marks || verdict.is_complete() {
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
        let blind = self.events.is_blind() || self.events.framing() == Framing::EventStream;
        !blind && self.verdict.reads()
    }

    /// How the body is cut; once its first bytes have been seen, what it really is and not what its head said.
    pub fn framing(&self) -> Framing {
        self.events.framing()
    }

    /// Whether an event put in now would stand alone; false where none can be put in at all.
    pub fn at_boundary(&self) -> bool {
        self.events.at_boundary()
    }

    /// How many events have come: dispatched events, lines, elements, messages; none of a body that has none.
    pub fn events(&self) -> Option<u64> {
        self.events.told()
    }
}

fn take(verdict: &mut Verdict, event: &Event<'_>) {
    match event.framing {
        Framing::Array => verdict.element(event.data),
        Framing::EventStream => verdict.error |= event.failed,
        _ if event.tail => verdict.tail(event.name, event.data, event.truncated),
        _ => verdict.event(event.name, event.data, event.truncated),
    }
}

#[cfg(test)]
mod tests;
