//! The model of a multipart request, read from the parts' headers while the bytes pass.
//!
//! Readers of forms differ: in what ends a line, in quotes and escapes, in which of two parts of one name counts, in what
//! may stand before, between and behind the parts. So only the plain form is taken, which all of them read alike and all
//! clients write; whatever else is [`Unclear`], and a gateway that decides by the model has to refuse it.

use std::{fmt, ops::Range};

use memchr::memmem;

mod boundary;
mod head;

use self::boundary::boundary;

/// The model that a form names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Its name, without the white space around it.
    pub value: String,
    /// Where exactly that lies in the body as it arrived.
    pub span: Range<usize>,
}

/// A form that two readers could understand differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unclear {
    why: &'static str,
    at: usize,
}

/// Finds the part named `model` in a `multipart/form-data` body that comes in pieces, and judges the whole form.
///
/// Holds the headers of one part (at most 8 KiB) or a model's name (at most 256 bytes), never a file's
/// bytes. Linear in the body, and the same verdict, whatever the split. What is taken:
///
/// - the form begins with its boundary, at most a line break before it, and ends with the closing one, at most line breaks
///   behind it; the boundary stands nowhere else, and each line of it ends with CRLF;
/// - each part has a `content-disposition: form-data` that begins with its one `name`, without escapes; its headers are
///   lines that end with CRLF and are not continued;
/// - at most one part is `model`, under exactly this name, and is plain text: no file, no transfer encoding, no other charset
///   than UTF-8, at most 256 bytes.
#[derive(Clone, Debug)]
pub struct Parts {
    /// `\r\n--boundary`, as it stands between parts.
    delimiter: Vec<u8>,
    state: State,
    /// What is kept over a split: the end of skipped data, a head, or a model's bytes.
    held: Vec<u8>,
    /// Bytes of the body that are behind us; what is held of them came last.
    passed: usize,
    /// Where the data of the part at hand begins.
    data: usize,
    /// A part named `model` has come.
    named: bool,
    model: Option<Model>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first delimiter. -> `Delimited`
    Before,
    /// Behind a delimiter: `--` ends the form, a line break opens a head. -> `Head`, `Over`
    Delimited,
    /// In a part's headers. -> `Other`, `Model`
    Head,
    /// In the data of a part that is not asked for. -> `Delimited`
    Other,
    /// In the model's value. -> `Delimited`
    Model,
    /// Behind the closing delimiter.
    Over,
    /// Unclear, whatever comes.
    Refused(Unclear),
}

impl Parts {
    /// A scanner for a body with this `content-type`; `None` if it is not multipart.
    ///
    /// # Errors
    ///
    /// A multipart type without a boundary that all readers find: none or several, escaped, empty, over 70 bytes.
    pub fn new(content_type: &str) -> Result<Option<Self>, Unclear> {
        let boundary = match boundary(content_type) {
            Ok(Some(boundary)) => boundary,
            Ok(None) => return Ok(None),
            Err(why) => return Err(Unclear { why, at: 0 }),
        };
        let mut delimiter = Vec::with_capacity(boundary.len() + 4);
        delimiter.extend_from_slice(b"\r\n--");
        delimiter.extend_from_slice(boundary.as_bytes());
        Ok(Some(Self {
            delimiter,
            state: State::Before,
            held: Vec::new(),
            passed: 0,
            data: 0,
            named: false,
            model: None,
        }))
    }

    /// Reads the next piece.
    ///
    /// # Errors
    ///
    /// As soon as the form is unclear, and from then on.
    pub fn feed(&mut self, mut piece: &[u8]) -> Result<(), Unclear> {
        while !piece.is_empty() {
            let taken = match self.state {
                State::Before => self.before(piece),
                State::Delimited => self.after_delimiter(piece),
                State::Head => self.head(piece),
                State::Other => self.skip(piece),
                State::Model => self.value(piece),
                State::Over => self.behind(piece),
                State::Refused(unclear) => Err(unclear),
            };
            let taken = taken.inspect_err(|unclear| self.state = State::Refused(*unclear))?;
            self.passed += taken;
            piece = &piece[taken..];
        }
        Ok(())
    }

    /// The model, once its part has ended. An empty one is none.
    pub fn model(&self) -> Option<&Model> {
        self.model.as_ref()
    }

    /// The body is over.
    ///
    /// # Errors
    ///
    /// If the form is unclear, also for want of its closing boundary.
    pub fn finish(&self) -> Result<(), Unclear> {
        match self.state {
            State::Over => Ok(()),
            State::Refused(unclear) => Err(unclear),
            _ => Err(self.unclear("it ends without its closing boundary")),
        }
    }

    /// Unclear at the part at hand.
    fn unclear(&self, why: &'static str) -> Unclear {
        Unclear { why, at: self.data }
    }

    /// The delimiter without its line break.
    fn marker(&self) -> &[u8] {
        &self.delimiter[2..]
    }

    /// Reads the first delimiter, which may have a line break before it.
    fn before(&mut self, piece: &[u8]) -> Result<usize, Unclear> {
        for (i, byte) in piece.iter().enumerate() {
            self.held.push(*byte);
            let text = self.held.strip_prefix(b"\r\n").unwrap_or(&self.held);
            if text == self.marker() {
                self.enter(State::Delimited);
                return Ok(i + 1);
            }
            if !self.marker().starts_with(text) && self.held != b"\r" {
                return Err(self.unclear("it does not begin with its boundary"));
            }
        }
        Ok(piece.len())
    }

    /// Reads the rest of a delimiter's line.
    fn after_delimiter(&mut self, piece: &[u8]) -> Result<usize, Unclear> {
        for (i, byte) in piece.iter().enumerate() {
            self.held.push(*byte);
            match &self.held[..] {
                b"-" | b"\r" => {}
                b"--" => self.enter(State::Over),
                b"\r\n" => {
                    self.enter(State::Head);
                    self.data = self.passed + i + 1;
                }
                _ => return Err(self.unclear("a line that begins with its boundary goes on")),
            }
            if self.held.is_empty() {
                return Ok(i + 1);
            }
        }
        Ok(piece.len())
    }

    /// Collects a part's headers and decides whether the part is the model.
    fn head(&mut self, piece: &[u8]) -> Result<usize, Unclear> {
        let before = self.held.len();
        let lent = piece.len().min(MAX_HEAD - before);
        self.held.extend_from_slice(&piece[..lent]);
        if self.held.starts_with(b"\r\n") {
            return Err(self.unclear("a part has no headers"));
        }
        let from = before.saturating_sub(3);
        let Some(at) = memmem::find(&self.held[from..], b"\r\n\r\n") else {
            return match self.held.len() {
                MAX_HEAD => Err(self.unclear("the headers of a part are over 8 KiB")),
                _ => Ok(lent),
            };
        };
        let end = from + at;
        let is_model = head::names_model(&self.held[..end]).map_err(|why| self.unclear(why))?;
        if is_model && std::mem::replace(&mut self.named, true) {
            return Err(self.unclear("it names the model twice"));
        }
        self.enter(if is_model { State::Model } else { State::Other });
        let taken = end + 4 - before;
        self.data = self.passed + taken;
        Ok(taken)
    }

    /// Skips to behind the next delimiter.
    fn skip(&mut self, piece: &[u8]) -> Result<usize, Unclear> {
        let held = self.held.len();
        // A delimiter may have begun in what is held: complete it with as much as it can need.
        let lent = piece.len().min(self.delimiter.len());
        self.held.extend_from_slice(&piece[..lent]);
        if let Some(at) = memmem::find(&self.held, self.marker()) {
            self.delimited(&self.held[..at])?;
            let taken = at + self.marker().len() - held;
            self.enter(State::Delimited);
            return Ok(taken);
        }
        if let Some(at) = memmem::find(piece, self.marker()) {
            self.delimited(&piece[..at])?;
            let taken = at + self.marker().len();
            self.enter(State::Delimited);
            return Ok(taken);
        }
        self.held.truncate(held);
        let kept = self.delimiter.len() - 1;
        self.held
            .extend_from_slice(&piece[piece.len().saturating_sub(kept)..]);
        let surplus = self.held.len().saturating_sub(kept);
        self.held.drain(..surplus);
        Ok(piece.len())
    }

    /// Collects the model's value up to the delimiter.
    fn value(&mut self, piece: &[u8]) -> Result<usize, Unclear> {
        let held = self.held.len();
        let room = MAX_MODEL + self.delimiter.len() - held;
        let lent = piece.len().min(room);
        self.held.extend_from_slice(&piece[..lent]);
        let Some(at) = memmem::find(&self.held, self.marker()) else {
            return if lent == room {
                Err(self.unclear("the model's name is over 256 bytes"))
            } else {
                Ok(lent)
            };
        };
        let value = self.delimited(&self.held[..at])?;
        let text = std::str::from_utf8(value)
            .map_err(|_| self.unclear("the model's name is not UTF-8"))?;
        self.model = trimmed(text, self.data);
        let taken = at + self.marker().len() - held;
        self.enter(State::Delimited);
        Ok(taken)
    }

    /// Behind the closing delimiter only line breaks may come.
    fn behind(&self, piece: &[u8]) -> Result<usize, Unclear> {
        let other = piece.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
        match other {
            Some(at) => Err(Unclear {
                why: "it goes on behind its closing boundary",
                at: self.passed + at,
            }),
            None => Ok(piece.len()),
        }
    }

    /// What stands before a boundary, without the line break that belongs to that.
    fn delimited<'a>(&self, before: &'a [u8]) -> Result<&'a [u8], Unclear> {
        before
            .strip_suffix(b"\r\n")
            .ok_or_else(|| self.unclear("its boundary stands within a line of a part"))
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.held.clear();
    }
}

// ===== impl Unclear =====

impl fmt::Display for Unclear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (byte {})", self.why, self.at)
    }
}

impl std::error::Error for Unclear {}

/// Whether `value` can be written into a part of a body with this `content-type` and stay one value:
/// it breaks no line and does not hold the boundary.
pub fn fits(content_type: &str, value: &str) -> bool {
    matches!(boundary(content_type), Ok(Some(boundary))
        if !value.contains(['\r', '\n']) && !value.contains(boundary))
}

/// The model in a `text` that begins at `start` of the body.
fn trimmed(text: &str, start: usize) -> Option<Model> {
    let value = text.trim();
    let start = start + text.len() - text.trim_start().len();
    (!value.is_empty()).then(|| Model {
        value: value.to_owned(),
        span: start..start + value.len(),
    })
}

/// Bytes of one part's headers that are held, with the empty line behind them.
const MAX_HEAD: usize = 8 * 1024;

/// Bytes of a model's name that are held.
const MAX_MODEL: usize = 256;

#[cfg(test)]
mod tests;
