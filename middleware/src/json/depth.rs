//! Whether a JSON array or object that arrives in pieces has closed.

/// Follows one JSON array or object through any split into pieces and knows whether it has closed.
///
/// It counts brackets outside of strings, in constant memory, and validates nothing else: `[}` counts as closed. Text that
/// begins with anything but a bracket, or goes on after the value has closed, is never closed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Depth {
    state: State,
    /// Brackets open around the place; not 0 in `Open`, `Text` and `Escape`.
    depth: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Only white space so far.
    #[default]
    Before,
    /// In the value, outside of strings.
    Open,
    /// In a string.
    Text,
    /// In a string, behind a backslash.
    Escape,
    /// The value has closed and only white space followed.
    Closed,
    /// No array or object, or something behind it.
    Other,
}

// ===== impl Depth =====

impl Depth {
    /// Before the first byte.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece.
    pub fn feed(&mut self, mut piece: &[u8]) {
        while let Some((&byte, rest)) = piece.split_first() {
            match self.state {
                State::Before | State::Closed => self.outside(byte),
                State::Open => self.open(byte),
                State::Text => {
                    let Some(at) = memchr::memchr2(b'"', b'\\', piece) else {
                        return;
                    };
                    self.state = if piece[at] == b'"' {
                        State::Open
                    } else {
                        State::Escape
                    };
                    piece = &piece[at + 1..];
                    continue;
                }
                State::Escape => self.state = State::Text,
                State::Other => return,
            }
            piece = rest;
        }
    }

    /// Whether the value has closed and only white space has followed it so far.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    fn outside(&mut self, byte: u8) {
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' => {}
            b'[' | b'{' if self.state == State::Before => {
                self.state = State::Open;
                self.depth = 1;
            }
            _ => self.state = State::Other,
        }
    }

    fn open(&mut self, byte: u8) {
        match byte {
            b'"' => self.state = State::Text,
            b'[' | b'{' => self.depth += 1,
            b']' | b'}' => {
                self.depth -= 1;
                if self.depth == 0 {
                    self.state = State::Closed;
                }
            }
            _ => {}
        }
    }
}
