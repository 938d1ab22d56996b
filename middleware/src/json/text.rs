//! What stands between the quotes of a string: decoding, comparing, writing.

use std::{borrow::Cow, ops::Range};

use super::scan;

/// Appends `text` to `out` as a JSON string, quotes included.
///
/// Escaped are only the characters that must be: quote, backslash and everything below U+0020.
pub fn escape_into(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let text = text.as_bytes();
    out.reserve(text.len() + 2);
    out.push(b'"');
    // Most texts are short, and nothing in them needs an escape.
    if scan::is_short_and_plain(text) {
        out.extend_from_slice(text);
        return out.push(b'"');
    }
    let mut pos = 0;
    loop {
        let special = scan::plain(text, pos);
        out.extend_from_slice(&text[pos..special]);
        let Some(&byte) = text.get(special) else {
            break;
        };
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.extend([byte >> 4, byte & 0xf].map(|digit| HEX[usize::from(digit)]));
            }
        }
        pos = special + 1;
    }
    out.push(b'"');
}

/// What stands between the quotes, decoded; borrowed if there are no escapes.
pub(super) fn decoded(inner: &[u8]) -> Option<Cow<'_, [u8]>> {
    match memchr::memchr(b'\\', inner) {
        None => Some(Cow::Borrowed(inner)),
        Some(_) => decode(inner).map(Cow::Owned),
    }
}

/// Decodes what stands between the quotes, or None if it holds a bad escape. UTF-8 stays UTF-8.
pub(super) fn decode(inner: &[u8]) -> Option<Vec<u8>> {
    // No escape decodes to more bytes than it takes.
    let mut out = Vec::with_capacity(inner.len());
    for piece in (Pieces { rest: inner }) {
        match piece? {
            Piece::Plain(bytes) => out.extend_from_slice(bytes),
            Piece::Escaped(char) => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Some(out)
}

/// Where the decoded bytes at `places` come from, in the bytes between the quotes. The places are in ascending order; each
/// becomes the offset where the character that begins there is written.
#[cfg(feature = "word_filter")]
pub(super) fn locate(inner: &[u8], places: &mut [usize]) {
    let (mut raw, mut text) = (0, 0);
    let mut places = places.iter_mut().peekable();
    let mut pieces = Pieces { rest: inner };
    while let Some(Some(piece)) = pieces.next() {
        let next = inner.len() - pieces.rest.len();
        let (len, plain) = match piece {
            Piece::Plain(bytes) => (bytes.len(), true),
            Piece::Escaped(char) => (char.len_utf8(), false),
        };
        while let Some(place) = places.next_if(|place| **place < text + len) {
            *place = if plain { raw + (*place - text) } else { raw };
        }
        (raw, text) = (next, text + len);
    }
    places.for_each(|place| *place = raw);
}

/// Whether what stands between the quotes decodes to `text`.
pub(super) fn equals(inner: &[u8], text: &str) -> bool {
    let mut left = text.as_bytes();
    for piece in (Pieces { rest: inner }) {
        let rest = match piece {
            Some(Piece::Plain(bytes)) => left.strip_prefix(bytes),
            Some(Piece::Escaped(char)) => {
                left.strip_prefix(char.encode_utf8(&mut [0; 4]).as_bytes())
            }
            None => None,
        };
        match rest {
            Some(rest) => left = rest,
            None => return false,
        }
    }
    left.is_empty()
}

/// What stands between the quotes of a string, told piece by piece with the place of each.
///
/// Readers differ in what they make of what is no JSON: a bad escape is told as U+FFFD, and so are bytes that are no UTF-8 and
/// halves of surrogate pairs that stand alone. Halves at either end are told as what they are: the other one may be in another
/// string that goes on with this one.
#[derive(Clone, Debug)]
pub struct Chunks<'a> {
    inner: &'a [u8],
    pos: usize,
}

/// A piece of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk<'a> {
    /// Text that is written as it is.
    Plain(&'a str),
    /// One character that is written otherwise.
    Escaped(char),
    /// The last escape: the first half of a surrogate pair.
    High(u16),
    /// The first escape: the second half of a surrogate pair.
    Low(u16),
}

impl<'a> Chunks<'a> {
    /// Before the first byte.
    pub fn new(inner: &'a [u8]) -> Self {
        Self { inner, pos: 0 }
    }

    fn escaped(&mut self) -> Chunk<'a> {
        let start = self.pos;
        let after = &self.inner[start + 1..];
        let Some((char, used)) = escape(after) else {
            // The backslash and what it stands before, without the rest of a character there.
            self.pos += 1 + usize::from(after.first().is_some_and(u8::is_ascii));
            return Chunk::Escaped(char::REPLACEMENT_CHARACTER);
        };
        self.pos += 1 + used;
        if char == char::REPLACEMENT_CHARACTER
            && let Some(unit) = after.strip_prefix(b"u").and_then(hex)
        {
            match unit as u16 {
                unit @ 0xd800..=0xdbff if self.pos == self.inner.len() => return Chunk::High(unit),
                unit @ 0xdc00..=0xdfff if start == 0 => return Chunk::Low(unit),
                _ => {}
            }
        }
        Chunk::Escaped(char)
    }
}

impl<'a> Iterator for Chunks<'a> {
    type Item = (Chunk<'a>, Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.pos;
        let rest = self.inner.get(start..).filter(|rest| !rest.is_empty())?;
        let chunk = match memchr::memchr(b'\\', rest).unwrap_or(rest.len()) {
            0 => self.escaped(),
            plain => match std::str::from_utf8(&rest[..plain]) {
                Ok(text) => {
                    self.pos += plain;
                    Chunk::Plain(text)
                }
                Err(invalid) => match invalid.valid_up_to() {
                    0 => {
                        self.pos += invalid.error_len().unwrap_or(plain);
                        Chunk::Escaped(char::REPLACEMENT_CHARACTER)
                    }
                    valid => {
                        self.pos += valid;
                        // It was just seen to be valid.
                        Chunk::Plain(std::str::from_utf8(&rest[..valid]).unwrap_or_default())
                    }
                },
            },
        };
        Some((chunk, start..self.pos))
    }
}

/// The character outside of the basic plane that the two halves of a surrogate pair stand for.
pub fn paired(high: u16, low: u16) -> char {
    let (high, low) = (u32::from(high & 0x3ff), u32::from(low & 0x3ff));
    char::from_u32(0x10000 + (high << 10) + low).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// A string piece by piece; None stands for a bad escape and is the last item.
struct Pieces<'a> {
    rest: &'a [u8],
}

enum Piece<'a> {
    Plain(&'a [u8]),
    Escaped(char),
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Option<Piece<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        match memchr::memchr(b'\\', self.rest).unwrap_or(self.rest.len()) {
            0 if self.rest.is_empty() => None,
            0 => match escape(&self.rest[1..]) {
                Some((char, used)) => {
                    self.rest = &self.rest[1 + used..];
                    Some(Some(Piece::Escaped(char)))
                }
                None => {
                    self.rest = &[];
                    Some(None)
                }
            },
            plain => {
                let (bytes, rest) = self.rest.split_at(plain);
                self.rest = rest;
                Some(Some(Piece::Plain(bytes)))
            }
        }
    }
}

/// The character that an escape stands for, given what follows its backslash, and how much of that it takes.
fn escape(after: &[u8]) -> Option<(char, usize)> {
    let char = match after.first()? {
        byte @ (b'"' | b'\\' | b'/') => char::from(*byte),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode(&after[1..]).map(|(char, used)| (char, 1 + used)),
        _ => return None,
    };
    Some((char, 1))
}

/// Like [`escape`], given what follows the `u`.
fn unicode(after: &[u8]) -> Option<(char, usize)> {
    let unit = hex(after)?;
    if let Some(char) = char::from_u32(unit) {
        return Some((char, 4));
    }
    let low = after[4..].strip_prefix(b"\\u").and_then(hex);
    match low {
        Some(low @ 0xdc00..=0xdfff) if unit < 0xdc00 => {
            // RFC 8259, section 7: a character outside of the basic plane is written as its UTF-16 surrogate pair.
            let scalar = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
            char::from_u32(scalar).map(|char| (char, 10))
        }
        _ => Some((char::REPLACEMENT_CHARACTER, 4)),
    }
}

fn hex(text: &[u8]) -> Option<u32> {
    text.first_chunk::<4>()?.iter().try_fold(0, |unit, &byte| {
        Some(unit << 4 | char::from(byte).to_digit(16)?)
    })
}
