//! JSON that comes in pieces, of which only the string values are wanted.

use std::ops::Range;

use crate::json::paired;

/// A place in a JSON text. Validates nothing: of what is malformed, strings are told as they would be if it were not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tokens {
    state: State,
    /// A string that begins now is a name.
    naming: bool,
    /// The string at hand is a name.
    name: bool,
    /// The brackets that are open, the innermost lowest: 1 is an object.
    objects: u128,
    depth: u32,
    /// A first half of a surrogate pair, which the second must follow.
    high: Option<u16>,
    /// Where the escape at hand begins in what is written.
    from: usize,
    /// Where the escape behind a first half begins.
    second: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Outside of strings.
    #[default]
    Outside,
    Text,
    /// Behind a backslash.
    Escape,
    /// Behind `\u` and so many digits.
    Unit(u8, u16),
    /// Behind a first half.
    High,
    /// Behind a first half and a backslash.
    HighEscape,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    Piece {
        text: &'a str,
        raw: Range<usize>,
        plain: bool,
    },
    Ends,
    /// The outermost bracket has closed.
    Over,
}

impl Tokens {
    /// Whether a character of a value has only begun.
    pub(super) fn is_open(&self) -> bool {
        !self.name && !matches!(self.state, State::Outside | State::Text)
    }

    /// Where that character begins.
    pub(super) fn open_from(&self) -> Option<usize> {
        self.is_open().then_some(self.from)
    }

    /// What follows is written in another string.
    pub(super) fn next_string(&mut self) {
        self.from = 0;
        self.second = 0;
    }

    /// Takes the next piece of the text, which is written at `raw`: byte for byte if `plain`, else all of it as one.
    pub(super) fn feed(
        &mut self,
        text: &str,
        raw: &Range<usize>,
        plain: bool,
        mut on: impl FnMut(Step<'_>),
    ) {
        let place = |at: Range<usize>| {
            if plain {
                raw.start + at.start..raw.start + at.end
            } else {
                raw.clone()
            }
        };
        let bytes = text.as_bytes();
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match self.state {
                State::Outside => {
                    at += 1;
                    if self.outside(byte) {
                        on(Step::Over);
                    }
                }
                State::Text => {
                    let end = memchr::memchr2(b'"', b'\\', &bytes[at..]);
                    let end = end.map_or(bytes.len(), |end| at + end);
                    if end > at && !self.name {
                        on(Step::Piece {
                            text: &text[at..end],
                            raw: place(at..end),
                            plain,
                        });
                    }
                    at = end;
                    match bytes.get(at) {
                        Some(b'"') => {
                            self.state = State::Outside;
                            if !self.name {
                                on(Step::Ends);
                            }
                        }
                        Some(_) => {
                            self.state = State::Escape;
                            self.from = place(at..at + 1).start;
                        }
                        None => break,
                    }
                    at += 1;
                }
                State::Escape => {
                    at += 1;
                    let char = match byte {
                        b'u' => {
                            self.state = State::Unit(0, 0);
                            continue;
                        }
                        b'b' => '\u{8}',
                        b'f' => '\u{c}',
                        b'n' => '\n',
                        b'r' => '\r',
                        b't' => '\t',
                        b'"' | b'\\' | b'/' => char::from(byte),
                        _ => {
                            // No escape: the rest of a character may follow.
                            at -= usize::from(!byte.is_ascii());
                            char::REPLACEMENT_CHARACTER
                        }
                    };
                    self.char(char, place(at - 1..at).end, &mut on);
                }
                State::Unit(digits, unit) => match char::from(byte).to_digit(16) {
                    Some(digit) => {
                        at += 1;
                        let unit = unit << 4 | digit as u16;
                        self.state = State::Unit(digits + 1, unit);
                        if digits == 3 {
                            self.unit(unit, place(at - 1..at).end, &mut on);
                        }
                    }
                    None => self.char(
                        char::REPLACEMENT_CHARACTER,
                        place(at..at + 1).start,
                        &mut on,
                    ),
                },
                State::High if byte == b'\\' => {
                    self.second = place(at..at + 1).start;
                    at += 1;
                    self.state = State::HighEscape;
                }
                State::HighEscape if byte == b'u' => {
                    at += 1;
                    self.state = State::Unit(0, 0);
                }
                State::High => {
                    self.high = None;
                    self.char(
                        char::REPLACEMENT_CHARACTER,
                        place(at..at + 1).start,
                        &mut on,
                    );
                }
                State::HighEscape => {
                    // The half alone; what follows it is an escape of its own.
                    self.high = None;
                    self.char(char::REPLACEMENT_CHARACTER, self.second, &mut on);
                    self.state = State::Escape;
                    self.from = self.second;
                }
            }
        }
    }

    /// Takes a byte outside of strings; true if it closes the outermost bracket.
    fn outside(&mut self, byte: u8) -> bool {
        match byte {
            b'"' => {
                self.state = State::Text;
                self.name = self.naming;
            }
            b'{' | b'[' => {
                self.depth += 1;
                self.objects = self.objects << 1 | u128::from(byte == b'{');
                self.naming = byte == b'{';
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.objects >>= 1;
                self.naming = false;
                return self.depth == 0;
            }
            b':' => self.naming = false,
            // Deeper than can be told, all is a value.
            b',' => self.naming = self.objects & 1 == 1 && self.depth <= u128::BITS,
            _ => {}
        }
        false
    }

    /// Four digits have come.
    fn unit(&mut self, unit: u16, end: usize, on: &mut impl FnMut(Step<'_>)) {
        match (self.high.take(), unit) {
            (Some(high), 0xdc00..=0xdfff) => self.char(paired(high, unit), end, on),
            (before, unit) => {
                if before.is_some() {
                    self.told(char::REPLACEMENT_CHARACTER, self.second, on);
                    self.from = self.second;
                }
                if let 0xd800..=0xdbff = unit {
                    self.high = Some(unit);
                    self.state = State::High;
                    return;
                }
                let char = char::from_u32(u32::from(unit));
                self.char(char.unwrap_or(char::REPLACEMENT_CHARACTER), end, on);
            }
        }
    }

    /// A character has come that is written up to `end`.
    fn char(&mut self, char: char, end: usize, on: &mut impl FnMut(Step<'_>)) {
        self.state = State::Text;
        self.told(char, end, on);
    }

    fn told(&mut self, char: char, end: usize, on: &mut impl FnMut(Step<'_>)) {
        if !self.name {
            on(Step::Piece {
                text: char.encode_utf8(&mut [0; 4]),
                raw: self.from..end,
                plain: false,
            });
        }
    }
}
