//! An answer cut into events, whatever its framing.

use super::{
    Dialect, Framing, Operation, Surface,
    eventstream::Messages,
    pieces::{Elements, Lines},
};
use crate::sse::{CAP, Scanner, Sniff, sniff};

/// Cuts an answer into events while its bytes pass.
///
/// What its head says of the framing can be wrong, so the first bytes of a stream decide. Keeps one event at most, up to
/// 1 MiB or what [`with_cap`](Self::with_cap) says.
#[derive(Debug)]
pub struct Events {
    framing: Framing,
    cutter: Cutter,
    /// First bytes that do not tell yet what the body is.
    head: Vec<u8>,
    /// What the dialect's streams may be besides event streams.
    other: Option<Framing>,
    /// How much of one event is kept.
    cap: usize,
}

/// One event of an answer: an event of a stream, a line, an element, a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// How the body is cut.
    pub framing: Framing,
    /// What the event says it is, where its framing has a word for that; empty otherwise.
    pub name: &'a [u8],
    /// What it carries.
    pub data: &'a [u8],
    /// It was over the cap: the end of its data is missing.
    pub truncated: bool,
    /// The framing itself says that this is an error.
    pub failed: bool,
    /// The end of the body ended it, and its own end is missing: it may be cut.
    pub tail: bool,
}

/// What cuts the body.
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

// ===== impl Events =====

impl Events {
    /// Before the first byte of an answer whose head says `framing`.
    pub fn new(surface: Option<&Surface>, framing: Framing) -> Self {
        let cutter = match framing {
            Framing::Sse | Framing::Array | Framing::Document => Cutter::Sniffing,
            framing => Cutter::of(framing, CAP),
        };
        Self {
            framing,
            cutter,
            head: Vec::new(),
            other: other(surface),
            cap: CAP,
        }
    }

    /// Keeps so many bytes of one event at most. Before the first byte.
    #[must_use]
    pub fn with_cap(mut self, cap: usize) -> Self {
        self.cap = cap;
        if !self.is_unclear() {
            self.cutter = Cutter::of(self.framing, cap);
        }
        self
    }

    /// Takes the next frame of the body and tells the events that end in it.
    #[inline]
    pub fn feed(&mut self, frame: &[u8], mut on: impl FnMut(Event<'_>)) {
        if matches!(self.cutter, Cutter::Sniffing) && !self.sniff(frame, &mut on) {
            return;
        }
        self.pass(frame, &mut on);
    }

    /// At the end of the body: tells an event that lacks only its end. It is not counted.
    pub fn finish(&mut self, mut on: impl FnMut(Event<'_>)) {
        if matches!(self.cutter, Cutter::Sniffing) {
            self.settle(self.framing, &mut on);
        }
        match &mut self.cutter {
            Cutter::Sse(scanner) => {
                scanner.finish(|event| {
                    on(Event {
                        tail: true,
                        ..Event::new(Framing::Sse, event.name, event.data, event.truncated)
                    });
                });
            }
            Cutter::Lines(lines) => {
                lines.finish(|line| {
                    on(Event {
                        tail: true,
                        ..Event::new(Framing::Lines, b"", line.data, line.truncated)
                    });
                });
            }
            _ => {}
        }
    }

    /// How the body is cut; once its first bytes have been seen, what it really is and not what its head said.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether the first bytes have not told yet what the body is.
    pub fn is_unclear(&self) -> bool {
        matches!(self.cutter, Cutter::Sniffing)
    }

    /// Whether events are told at all.
    pub fn is_blind(&self) -> bool {
        matches!(self.cutter, Cutter::Blind)
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
    pub fn told(&self) -> Option<u64> {
        match &self.cutter {
            Cutter::Sse(scanner) => Some(scanner.dispatched()),
            Cutter::Lines(lines) => Some(lines.told()),
            Cutter::Array(elements) => Some(elements.told()),
            Cutter::EventStream(messages) => Some(messages.told()),
            Cutter::Sniffing | Cutter::Blind => None,
        }
    }

    /// Whether this is an array that has closed and only white space followed.
    pub fn is_closed(&self) -> bool {
        matches!(&self.cutter, Cutter::Array(elements) if elements.is_closed())
    }

    #[inline]
    fn pass(&mut self, frame: &[u8], on: &mut impl FnMut(Event<'_>)) {
        match &mut self.cutter {
            Cutter::Sse(scanner) => {
                scanner.feed(frame, |event| {
                    on(Event::new(
                        Framing::Sse,
                        event.name,
                        event.data,
                        event.truncated,
                    ));
                });
            }
            Cutter::Lines(lines) => {
                lines.feed(frame, |line| {
                    on(Event::new(Framing::Lines, b"", line.data, line.truncated));
                });
            }
            Cutter::Array(elements) => {
                elements.feed(frame, |element| {
                    on(Event::new(
                        Framing::Array,
                        b"",
                        element.data,
                        element.truncated,
                    ));
                });
            }
            Cutter::EventStream(messages) => {
                messages.feed(frame, |message| {
                    on(Event {
                        failed: message.failed,
                        ..Event::new(Framing::EventStream, message.name, message.payload, false)
                    });
                });
            }
            Cutter::Sniffing | Cutter::Blind => {}
        }
    }

    /// Looks at the first bytes; true once they have settled what the body is, and `frame` is still to be passed.
    fn sniff(&mut self, frame: &[u8], on: &mut impl FnMut(Event<'_>)) -> bool {
        // So many in any case, however they come: what is told must not depend on that.
        let room = SNIFFED - self.head.len();
        let new = &frame[..frame.len().min(room)];
        let joined;
        let first = if self.head.is_empty() {
            new
        } else {
            joined = [self.head.as_slice(), new].concat();
            &joined
        };
        let Some(framing) = sniffed(self.framing, self.other, first) else {
            return self.hold(frame);
        };
        self.settle(framing, on);
        true
    }

    fn hold(&mut self, frame: &[u8]) -> bool {
        self.head.extend_from_slice(frame);
        false
    }

    fn settle(&mut self, framing: Framing, on: &mut impl FnMut(Event<'_>)) {
        self.framing = framing;
        self.cutter = Cutter::of(framing, self.cap);
        let head = std::mem::take(&mut self.head);
        self.pass(&head, on);
    }
}

// ===== impl Event =====

impl<'a> Event<'a> {
    #[inline]
    fn new(framing: Framing, name: &'a [u8], data: &'a [u8], truncated: bool) -> Self {
        Self {
            framing,
            name,
            data,
            truncated,
            failed: false,
            tail: false,
        }
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

/// What the streams of a surface may be besides event streams.
pub(crate) fn other(surface: Option<&Surface>) -> Option<Framing> {
    surface.and_then(|surface| match (surface.dialect, surface.operation) {
        (Dialect::Gemini, Operation::Generate) => Some(Framing::Array),
        (Dialect::Ollama, Operation::Chat | Operation::Generate)
        | (Dialect::Cohere, Operation::Chat) => Some(Framing::Lines),
        _ => None,
    })
}

/// What a body is by its first bytes, [`SNIFFED`] at most; none if more of them must come.
pub(crate) fn sniffed(told: Framing, other: Option<Framing>, first: &[u8]) -> Option<Framing> {
    Some(match sniff(first) {
        Sniff::Events => Framing::Sse,
        Sniff::Other => match (first.trim_ascii_start().first(), told) {
            (Some(b'['), Framing::Array) => Framing::Array,
            (Some(b'['), Framing::Sse) if other == Some(Framing::Array) => Framing::Array,
            (Some(b'{'), Framing::Sse) if other == Some(Framing::Lines) => Framing::Lines,
            (Some(b'{' | b'['), _) | (_, Framing::Document) => Framing::Document,
            (None, _) if first.len() < SNIFFED => return None,
            _ => Framing::Opaque,
        },
        Sniff::Unclear if first.len() < SNIFFED => return None,
        Sniff::Unclear => told,
    })
}

/// How many first bytes are looked at before a body is taken for what its head says.
pub(crate) const SNIFFED: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GEMINI: Surface = Surface {
        dialect: Dialect::Gemini,
        operation: Operation::Generate,
        prefix: 0..0,
        model: None,
        stream: None,
    };

    type Told = (Vec<(Vec<u8>, Vec<u8>, bool)>, Framing, Option<u64>, bool);

    fn told<'p>(framing: Framing, pieces: impl IntoIterator<Item = &'p [u8]>) -> Told {
        let mut events = Events::new(Some(&GEMINI), framing);
        let mut all = Vec::new();
        let mut take = |event: Event<'_>| {
            all.push((event.name.to_vec(), event.data.to_vec(), event.tail));
        };
        for piece in pieces {
            events.feed(piece, &mut take);
        }
        events.finish(&mut take);
        let (framing, count, closed) = (events.framing(), events.told(), events.is_closed());
        (all, framing, count, closed)
    }

    /// Found by fuzzing: a whole frame was looked at beyond the bytes that decide, one in pieces was not.
    #[test]
    fn white_space_in_front_of_an_array_is_judged_alike_in_any_pieces() {
        for length in [0, 63, 64, 65, 200] {
            let body = [" ".repeat(length).as_bytes(), b"[{}]"].concat();
            for framing in [Framing::Sse, Framing::Array, Framing::Document] {
                let whole = told(framing, [&body[..]]);
                assert_eq!(told(framing, body.chunks(7)), whole, "{length} {framing:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_pieces_tell_the_same(
            blank in "[ \n\r\t]{0,80}",
            body in prop::collection::vec(prop::sample::select(b"[]{},:\"\n\r data".to_vec()), 0..120),
            size in 1usize..90,
        ) {
            let body = [blank.as_bytes(), &body].concat();
            for framing in [Framing::Sse, Framing::Array, Framing::Lines, Framing::Document] {
                prop_assert_eq!(told(framing, body.chunks(size)), told(framing, [&body[..]]));
            }
        }
    }
}
