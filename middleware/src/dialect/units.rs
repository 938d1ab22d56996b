//! The pieces of an answer that are kept and edited by themselves: an event with all that belongs to it.

use std::ops::Range;

use bytes::Bytes;

use super::{
    Framing,
    eventstream::{self, invoked_place, rebuilt},
};
use crate::sse::blocks::{self, Blocks};

/// Cuts an answer into units, which together are all of its bytes. Keeps nothing of them.
#[derive(Clone, Debug)]
pub(crate) struct Units {
    framing: Framing,
    blocks: Blocks,
    array: Array,
    message: Message,
}

/// How far the bytes at hand go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The unit ends after so many of them.
    Ends(usize),
    /// All of them belong to it.
    GoesOn,
    /// They are not what the framing says; there are no units from here on.
    Broken,
}

/// Where in a JSON array.
#[derive(Clone, Copy, Debug, Default)]
struct Array {
    state: State,
    /// Brackets open, the array's own not counted.
    depth: u32,
    /// An element has begun.
    begun: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the array's bracket, between its elements, or behind it.
    #[default]
    Between,
    Inside,
    Text,
    Escape,
}

/// A message of an event stream, as far as it has come.
#[derive(Clone, Copy, Debug, Default)]
struct Message {
    prelude: [u8; 4],
    read: usize,
}

// ===== impl Units =====

impl Units {
    /// Before the first byte of an answer that is framed so.
    pub(crate) fn new(framing: Framing) -> Self {
        Self {
            framing,
            blocks: Blocks::default(),
            array: Array::default(),
            message: Message::default(),
        }
    }

    pub(crate) fn framing(&self) -> Framing {
        self.framing
    }

    /// Takes the next bytes, up to the end of the unit at hand if that is in them.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Step {
        let end = match self.framing {
            Framing::Sse => self.blocks.take(bytes),
            Framing::Lines => memchr::memchr(b'\n', bytes).map(|end| end + 1),
            Framing::Array => self.array.take(bytes),
            Framing::EventStream => match self.message.take(bytes) {
                Ok(end) => end,
                Err(()) => return Step::Broken,
            },
            Framing::Document => None,
            Framing::Opaque => return Step::Broken,
        };
        end.map_or(Step::GoesOn, Step::Ends)
    }
}

// ===== impl Array =====

impl Array {
    /// An element is a unit, with what stands before it; what stands before one that has not begun is a unit of its own.
    fn take(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            match self.state {
                State::Escape => self.state = State::Text,
                State::Text => {
                    at += memchr::memchr2(b'"', b'\\', &bytes[at..])?;
                    self.state = if bytes[at] == b'\\' {
                        State::Escape
                    } else {
                        State::Inside
                    };
                }
                State::Between => match bytes[at] {
                    // The array's own bracket, and what separates.
                    b'[' | b']' | b',' | b' ' | b'\n' | b'\r' | b'\t' => {}
                    _ => {
                        self.begun = true;
                        self.state = State::Inside;
                        continue;
                    }
                },
                State::Inside => match bytes[at] {
                    b'"' => self.state = State::Text,
                    b'[' | b'{' => self.depth += 1,
                    b']' | b'}' => {
                        // At no depth: of a number or a word, which the array's own bracket ends.
                        self.depth = self.depth.saturating_sub(1);
                        if self.depth == 0 {
                            return self.end(at + 1);
                        }
                    }
                    b',' if self.depth == 0 => return self.end(at + 1),
                    _ => {}
                },
            }
            at += 1;
        }
        (!self.begun).then_some(bytes.len())
    }

    fn end(&mut self, length: usize) -> Option<usize> {
        *self = Self::default();
        Some(length)
    }
}

// ===== impl Message =====

impl Message {
    fn take(&mut self, bytes: &[u8]) -> Result<Option<usize>, ()> {
        let missing = self.prelude.len().saturating_sub(self.read);
        let prelude = &bytes[..missing.min(bytes.len())];
        self.prelude[self.read.min(4)..][..prelude.len()].copy_from_slice(prelude);
        if self.read + bytes.len() < self.prelude.len() {
            self.read += bytes.len();
            return Ok(None);
        }
        let total = u32::from_be_bytes(self.prelude) as usize;
        if total < eventstream::LEAST {
            return Err(());
        }
        let left = total - self.read;
        if bytes.len() < left {
            self.read += bytes.len();
            return Ok(None);
        }
        *self = Self::default();
        Ok(Some(left))
    }
}

/// What a unit carries, and how its places are those of the unit.
#[derive(Clone, Debug)]
pub(crate) struct Carried<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) data: &'a [u8],
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The data lies in the unit from here on.
    From(usize),
    /// It was joined of several lines.
    Joined,
    /// It is the payload of a message.
    Payload,
    /// It was base64 at this place of the payload.
    Base64(usize, usize),
}

/// Buffers that are used again.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    data: Vec<u8>,
    places: Vec<(usize, usize)>,
}

/// A replacement in a unit.
pub(crate) type Edit = (Range<usize>, Bytes);

/// Reads one whole unit; none if it carries nothing. `wrapped` is whether messages carry events of another API in base64.
pub(crate) fn carried<'a>(
    framing: Framing,
    wrapped: bool,
    unit: &'a [u8],
    scratch: &'a mut Scratch,
) -> Option<Carried<'a>> {
    match framing {
        Framing::Sse => {
            let found = blocks::read(unit);
            let first = found.data?;
            if found.more {
                blocks::join(unit, &mut scratch.data, &mut scratch.places);
                return Some(Carried {
                    name: found.name,
                    data: &scratch.data,
                    place: Place::Joined,
                });
            }
            Some(Carried {
                name: found.name,
                data: first,
                place: Place::From(first.as_ptr().addr() - unit.as_ptr().addr()),
            })
        }
        Framing::EventStream => {
            let message = eventstream::whole(unit)?;
            let payload = message.payload;
            if wrapped {
                let (start, end) = invoked_place(payload, &mut scratch.data)?;
                return Some(Carried {
                    name: message.name,
                    data: &scratch.data,
                    place: Place::Base64(start, end),
                });
            }
            Some(Carried {
                name: message.name,
                data: payload,
                place: Place::Payload,
            })
        }
        Framing::Array => {
            let start = unit.iter().position(|byte| !b"[], \n\r\t".contains(byte))?;
            Some(Carried {
                name: b"",
                data: &unit[start..],
                place: Place::From(start),
            })
        }
        Framing::Lines | Framing::Document => {
            let mark = if unit.starts_with(b"\xef\xbb\xbf") {
                3
            } else {
                0
            };
            Some(Carried {
                name: b"",
                data: &unit[mark..],
                place: Place::From(mark),
            })
        }
        Framing::Opaque => None,
    }
}

/// What edits of the data of a unit are to the unit itself. They are in order, and do not overlap; the same holds then.
pub(crate) fn edits(
    framing: Framing,
    wrapped: bool,
    unit: &[u8],
    scratch: &mut Scratch,
    edits: Vec<Edit>,
) -> Vec<Edit> {
    let Some(carried) = carried(framing, wrapped, unit, scratch) else {
        return Vec::new();
    };
    let spliced = |data: &[u8]| {
        let (mut out, mut at) = (Vec::with_capacity(data.len() + 64), 0);
        for (span, with) in &edits {
            out.extend_from_slice(&data[at..span.start]);
            out.extend_from_slice(with);
            at = span.end;
        }
        out.extend_from_slice(&data[at..]);
        out
    };
    let payload = match carried.place {
        Place::From(start) => {
            let moved = |(span, with): Edit| (span.start + start..span.end + start, with);
            return edits.into_iter().map(moved).collect();
        }
        Place::Joined => {
            let places = &scratch.places;
            let place = |at: usize, is_end: bool| {
                let line =
                    places.partition_point(|(joined, _)| *joined < at + usize::from(!is_end));
                let (joined, from) = places[line.saturating_sub(1)];
                from + at - joined
            };
            let moved =
                |(span, with): Edit| (place(span.start, false)..place(span.end, true), with);
            return edits.into_iter().map(moved).collect();
        }
        Place::Payload => spliced(carried.data),
        Place::Base64(start, end) => {
            let inner = spliced(carried.data);
            let Some(message) = eventstream::whole(unit) else {
                return Vec::new();
            };
            let mut payload = message.payload[..start].to_vec();
            eventstream::base64_into(&inner, &mut payload);
            payload.extend_from_slice(&message.payload[end..]);
            payload
        }
    };
    vec![(0..unit.len(), rebuilt(unit, &payload).into())]
}

#[cfg(test)]
mod tests;
