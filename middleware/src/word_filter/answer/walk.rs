//! A string of an answer, decoded piece by piece, with the place of each piece in what was written.

use std::ops::Range;

use super::tokens::{Step, Tokens};
use crate::{
    dialect::said::Form,
    json::{Chunk, Chunks, paired},
};

/// Where a text stands between two of its strings.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct State {
    /// Decoded bytes so far.
    pub(super) at: u64,
    /// The last string ended with the first half of a surrogate pair.
    high: Option<u16>,
    /// Where the text is JSON.
    tokens: Tokens,
}

/// A step through a string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Walk<'a> {
    /// Decoded text.
    Piece {
        text: &'a str,
        /// Where it begins in the text.
        at: u64,
        /// Where it lies in what stands between the quotes.
        raw: Range<usize>,
        /// Each byte of the one is a byte of the other.
        plain: bool,
    },
    /// The string ends inside of a character, of which this much stands in it. It counts as one byte of the text.
    Open { at: u64, raw: Range<usize> },
    /// A string value inside of arguments has ended.
    Ends,
    /// Arguments have ended: no value follows.
    Over,
}

impl State {
    /// Whether the last character has only begun.
    pub(super) fn is_open(&self) -> bool {
        self.high.is_some() || self.tokens.is_open()
    }

    /// Where the next string begins: what has begun in the one before belongs to that.
    pub(super) fn next(&self) -> u64 {
        self.at + u64::from(self.is_open())
    }

    /// Passes one string of a text that is written so, given what stands between its quotes.
    pub(super) fn walk(&mut self, form: Form, inner: &[u8], mut on: impl FnMut(Walk<'_>)) {
        let mut begun = 0..0;
        for (chunk, raw) in Chunks::new(inner) {
            let mut text = [0; 4];
            let char = match chunk {
                Chunk::Plain(plain) => {
                    self.lone(form, &mut on);
                    self.plain(form, plain, raw, true, &mut on);
                    continue;
                }
                Chunk::High(high) => {
                    self.lone(form, &mut on);
                    self.high = Some(high);
                    begun = raw;
                    continue;
                }
                Chunk::Low(low) => match self.high.take() {
                    Some(high) => paired(high, low),
                    None => char::REPLACEMENT_CHARACTER,
                },
                Chunk::Escaped(char) => {
                    self.lone(form, &mut on);
                    char
                }
            };
            self.plain(form, char.encode_utf8(&mut text), raw, false, &mut on);
        }
        if self.high.is_some() {
            on(Walk::Open {
                at: self.at,
                raw: begun,
            });
        } else if let Some(from) = self.tokens.open_from() {
            on(Walk::Open {
                at: self.at,
                raw: from..inner.len(),
            });
        }
        self.tokens.next_string();
    }

    /// The text has ended: what had only begun is no character.
    pub(super) fn finish(&mut self, form: Form, mut on: impl FnMut(Walk<'_>)) {
        self.lone(form, &mut on);
        if self.tokens.is_open() {
            self.tokens = Tokens::default();
            self.piece(REPLACEMENT, 0..0, false, &mut on);
        }
    }

    /// A half that stood at the end of the last string, and was not followed by the other one.
    fn lone(&mut self, form: Form, on: &mut impl FnMut(Walk<'_>)) {
        if self.high.take().is_some() {
            self.plain(form, REPLACEMENT, 0..0, false, on);
        }
    }

    fn piece(&mut self, text: &str, raw: Range<usize>, plain: bool, on: &mut impl FnMut(Walk<'_>)) {
        let at = self.at;
        self.at += text.len() as u64;
        on(Walk::Piece {
            text,
            at,
            raw,
            plain,
        });
    }

    /// What is decoded once.
    fn plain(
        &mut self,
        form: Form,
        text: &str,
        raw: Range<usize>,
        plain: bool,
        on: &mut impl FnMut(Walk<'_>),
    ) {
        if form != Form::Json {
            return self.piece(text, raw, plain, on);
        }
        let mut tokens = self.tokens;
        tokens.feed(text, &raw, plain, |step| match step {
            Step::Piece { text, raw, plain } => self.piece(text, raw, plain, on),
            Step::Ends => on(Walk::Ends),
            Step::Over => on(Walk::Over),
        });
        self.tokens = tokens;
    }
}

const REPLACEMENT: &str = "\u{fffd}";
