//! Bodies that are JSON documents one after another, cut into them while the bytes pass.

use memchr::{memchr, memchr2};

use crate::sse::CAP;

/// One document of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Its bytes, without what separates it from the next.
    pub data: &'a [u8],
    /// It was over the cap: its end is missing.
    pub truncated: bool,
}

/// Cuts one JSON document a line. Blank lines are no documents.
#[derive(Clone, Debug)]
pub struct Lines {
    kept: Kept,
    told: u64,
}

/// Cuts the elements of one JSON array, by brackets and strings only; what lies in an element is not validated.
#[derive(Clone, Debug)]
pub struct Elements {
    kept: Kept,
    state: State,
    /// Brackets open inside of the array.
    depth: u64,
    told: u64,
}

/// Where in the array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before its bracket.
    Before,
    /// In it, outside of strings.
    Open,
    /// In a string.
    Text,
    /// Behind a backslash in a string.
    Escape,
    /// Behind its closing bracket.
    Closed,
    /// This is no array, or something follows it.
    Other,
}

/// The part of a document that came in earlier frames.
#[derive(Clone, Debug)]
struct Kept {
    /// The most of it.
    cap: usize,
    data: Vec<u8>,
    cut: bool,
}

impl Default for Lines {
    /// With a cap of [`CAP`].
    fn default() -> Self {
        Self::new(CAP)
    }
}

impl Default for Elements {
    /// With a cap of [`CAP`].
    fn default() -> Self {
        Self::new(CAP)
    }
}

// ===== impl Lines =====

impl Lines {
    /// Before the first byte; `cap`, at least 1, is how many bytes of one document are kept: what is longer is told cut
    /// and cannot be read.
    pub fn new(cap: usize) -> Self {
        Self {
            kept: Kept::new(cap),
            told: 0,
        }
    }

    /// Takes the next frame and tells the lines that end in it.
    pub fn feed(&mut self, mut frame: &[u8], mut on: impl FnMut(Piece<'_>)) {
        while let Some(end) = memchr(b'\n', frame) {
            self.told += u64::from(self.kept.tell(&frame[..end], &mut on));
            frame = &frame[end + 1..];
        }
        self.kept.keep(frame);
    }

    /// Tells what the end of the body leaves: a last line without its end.
    pub fn finish(&mut self, mut on: impl FnMut(Piece<'_>)) {
        self.told += u64::from(self.kept.tell(&[], &mut on));
    }

    /// Whether a line put in now would stand alone.
    pub fn at_boundary(&self) -> bool {
        self.kept.is_empty()
    }

    /// How many lines were told.
    pub fn told(&self) -> u64 {
        self.told
    }
}

// ===== impl Elements =====

impl Elements {
    /// As [`Lines::new`].
    pub fn new(cap: usize) -> Self {
        Self {
            kept: Kept::new(cap),
            state: State::Before,
            depth: 0,
            told: 0,
        }
    }

    /// Takes the next frame and tells the elements that end in it.
    pub fn feed(&mut self, frame: &[u8], mut on: impl FnMut(Piece<'_>)) {
        let mut from = 0; // where the element at hand begins in this frame
        let mut at = 0;
        while at < frame.len() {
            match self.state {
                State::Other => return,
                State::Before | State::Closed => {
                    self.outside(frame[at]);
                    from = at + 1;
                }
                State::Escape => self.state = State::Text,
                State::Text => {
                    let Some(found) = memchr2(b'"', b'\\', &frame[at..]) else {
                        break;
                    };
                    at += found;
                    self.state = if frame[at] == b'"' {
                        State::Open
                    } else {
                        State::Escape
                    };
                }
                State::Open => {
                    if self.inside(frame[at]) {
                        self.told += u64::from(self.kept.tell(&frame[from..at], &mut on));
                        from = at + 1;
                    }
                }
            }
            at += 1;
        }
        if !matches!(self.state, State::Before | State::Closed) {
            self.kept.keep(&frame[from.min(frame.len())..]);
        }
    }

    /// Whether the array has closed and only white space followed.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// How many elements were told.
    pub fn told(&self) -> u64 {
        self.told
    }

    fn outside(&mut self, byte: u8) {
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' => {}
            b'[' if self.state == State::Before => self.state = State::Open,
            _ => self.state = State::Other,
        }
    }

    /// Takes a byte outside of strings; true if it ends an element.
    fn inside(&mut self, byte: u8) -> bool {
        match byte {
            b'"' => self.state = State::Text,
            b'[' | b'{' => self.depth += 1,
            b']' | b'}' if self.depth > 0 => self.depth -= 1,
            b']' => {
                self.state = State::Closed;
                return true;
            }
            b'}' => self.state = State::Other,
            b',' => return self.depth == 0,
            _ => {}
        }
        false
    }
}

// ===== impl Kept =====

impl Kept {
    fn new(cap: usize) -> Self {
        Self {
            // Where nothing could be kept, nothing would tell that a document has begun.
            cap: cap.max(1),
            data: Vec::new(),
            cut: false,
        }
    }

    fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Adds to the document as much as the cap allows.
    fn keep(&mut self, bytes: &[u8]) {
        let room = self.cap - self.data.len();
        self.cut |= bytes.len() > room;
        self.data.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Ends the document with `rest` and tells it, unless it is blank.
    fn tell(&mut self, rest: &[u8], on: &mut impl FnMut(Piece<'_>)) -> bool {
        if self.data.is_empty() {
            let data = rest.trim_ascii();
            let truncated = data.len() > self.cap;
            if !data.is_empty() {
                on(Piece {
                    data: &data[..data.len().min(self.cap)],
                    truncated,
                });
            }
            return !data.is_empty();
        }
        self.keep(rest);
        let data = self.data.trim_ascii();
        let told = !data.is_empty();
        if told {
            on(Piece {
                data,
                truncated: self.cut,
            });
        }
        self.data.clear();
        self.cut = false;
        told
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn elements(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, bool) {
        let mut elements = Elements::default();
        let mut told = Vec::new();
        for piece in pieces {
            elements.feed(piece, |piece| told.push(piece.data.to_vec()));
        }
        (told, elements.is_closed())
    }

    fn lines(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut lines = Lines::default();
        let mut told = Vec::new();
        for piece in pieces {
            lines.feed(piece, |piece| told.push(piece.data.to_vec()));
        }
        lines.finish(|piece| told.push(piece.data.to_vec()));
        told
    }

    const ARRAY: &[u8] = br#" [{"a":"]},\"[","b":[1,{}]}
, {"c":2},3,"x,y"] "#;

    #[test]
    fn elements_are_told_over_every_split_in_two() {
        let whole = elements(&[ARRAY]);
        assert_eq!(
            whole.0,
            [
                &br#"{"a":"]},\"[","b":[1,{}]}"#[..],
                br#"{"c":2}"#,
                b"3",
                br#""x,y""#
            ]
        );
        assert!(whole.1);
        for cut in 0..=ARRAY.len() {
            assert_eq!(
                elements(&[&ARRAY[..cut], &ARRAY[cut..]]),
                whole,
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn only_the_arrays_own_bracket_closes_it() {
        let close = ARRAY.len() - 2;
        for cut in 0..=close {
            assert!(!elements(&[&ARRAY[..cut]]).1, "cut at {cut}");
        }
        assert!(elements(&[&ARRAY[..=close]]).1);
        assert!(!elements(&[b"[1]x"]).1 && !elements(&[b"{}"]).1 && !elements(&[b"[}]"]).1);
        assert_eq!(elements(&[b"[]"]), (vec![], true));
    }

    #[test]
    fn blank_lines_are_no_documents_and_a_last_line_needs_no_end() {
        assert_eq!(
            lines(&[b"{}\r\n\n{\"a\"", b":1}\n", b"{}"]),
            [&b"{}"[..], b"{\"a\":1}", b"{}"]
        );
    }

    #[test]
    fn what_is_over_the_cap_is_told_cut() {
        let long = vec![b'x'; CAP + 1];
        let mut lines = Lines::default();
        let mut told = Vec::new();
        lines.feed(&long, |_| panic!("no line yet"));
        assert!(!lines.at_boundary());
        lines.feed(b"\n{}\n", |piece| {
            told.push((piece.data.len(), piece.truncated));
        });
        assert_eq!(told, [(CAP, true), (2, false)]);
        assert!(lines.at_boundary() && lines.told() == 2);
    }

    #[test]
    fn the_cap_is_the_one_that_was_given() {
        for cap in [0, 1, 3] {
            let (mut lines, mut told) = (Lines::new(cap), Vec::new());
            for frame in [&b"12345\n"[..], b"12", b"345\n1\n"] {
                lines.feed(frame, |piece| {
                    told.push((piece.data.len(), piece.truncated));
                });
            }
            let kept = cap.max(1);
            assert_eq!(told, [(kept, true), (kept, true), (1, false)]);
        }
        let (mut elements, mut told) = (Elements::new(3), Vec::new());
        elements.feed(b"[12345,12]", |piece| told.push(piece.truncated));
        assert_eq!(told, [true, false]);
    }

    proptest! {
        #[test]
        fn any_split_tells_the_same(
            text in prop::collection::vec(prop::sample::select(b"[]{},\"\\\n 1a".to_vec()), 0..40),
            cuts in prop::collection::vec(0usize..40, 0..6),
        ) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&text[from..cut]);
                from = cut;
            }
            pieces.push(&text[from..]);
            prop_assert_eq!(elements(&pieces), elements(&[&text]));
            prop_assert_eq!(lines(&pieces), lines(&[&text]));
        }
    }
}
