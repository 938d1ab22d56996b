//! The one walk over a whole document that decides whether it is accepted.

use std::borrow::Cow;

use super::{
    error::{Error, ErrorKind},
    names::Names,
    scan, text,
    value::Value,
};

/// How much nesting and how many members a document may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many arrays and objects may be open at once; 128 by default.
    pub depth: usize,
    /// How many members one object may have; 10 000 by default.
    pub members: usize,
}

/// Checks a whole document and returns a view of its value.
///
/// What is refused and what is let pass is told in the [module](super).
///
/// # Errors
///
/// The first thing that is wrong; text that is not UTF-8 is told before anything else that is wrong with it.
pub fn check<'a>(text: &'a [u8], limits: &Limits) -> Result<Value<'a>, Error> {
    Walk::new(text, *limits)
        .document()
        .map_err(|(kind, offset)| Error::new(kind, text, offset))
}

struct Walk<'a> {
    text: &'a [u8],
    pos: usize,
    limits: Limits,
    open: Vec<Open>,
    names: Names<'a>,
}

#[derive(Clone, Copy)]
enum Open {
    Array,
    Object,
}

/// What is wrong, and the offset where.
type Fault = (ErrorKind, usize);

// ===== impl Limits =====

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth: 128,
            members: 10_000,
        }
    }
}

// ===== impl Walk =====

impl<'a> Walk<'a> {
    fn new(text: &'a [u8], limits: Limits) -> Self {
        Self {
            text,
            pos: 0,
            limits,
            open: Vec::with_capacity(16),
            names: Names::new(),
        }
    }

    fn document(mut self) -> Result<Value<'a>, Fault> {
        if self.text.starts_with(b"\xef\xbb\xbf") {
            return Err((ErrorKind::Bom, 0));
        }
        if let Err(invalid) = std::str::from_utf8(self.text) {
            return Err((ErrorKind::Utf8, invalid.valid_up_to()));
        }
        self.space();
        let start = self.pos;
        loop {
            let opened = self.value()?;
            if !opened && !self.next()? {
                break;
            }
        }
        let end = self.pos;
        self.space();
        if self.pos < self.text.len() {
            return Err((ErrorKind::Trailing, self.pos));
        }
        Ok(Value::checked(self.text, start..end))
    }

    /// Passes a value, or only the opening of an array or object that is not empty and then returns true: its first value
    /// comes next.
    fn value(&mut self) -> Result<bool, Fault> {
        match self.byte()? {
            b'"' => self.string().map(drop)?,
            b'{' => return self.object(),
            b'[' => return self.array(),
            b'-' | b'0'..=b'9' => self.number()?,
            b't' => self.literal(b"true")?,
            b'f' => self.literal(b"false")?,
            b'n' => self.literal(b"null")?,
            _ => return Err((ErrorKind::Syntax, self.pos)),
        }
        Ok(false)
    }

    fn object(&mut self) -> Result<bool, Fault> {
        self.descend()?;
        if self.byte()? == b'}' {
            self.pos += 1;
            return Ok(false);
        }
        self.names.open();
        self.open.push(Open::Object);
        self.name()?;
        Ok(true)
    }

    fn array(&mut self) -> Result<bool, Fault> {
        self.descend()?;
        if self.byte()? == b']' {
            self.pos += 1;
            return Ok(false);
        }
        self.open.push(Open::Array);
        Ok(true)
    }

    /// Passes an opening bracket and the white space behind it.
    fn descend(&mut self) -> Result<(), Fault> {
        if self.open.len() >= self.limits.depth {
            return Err((ErrorKind::Depth, self.pos));
        }
        self.pos += 1;
        self.space();
        Ok(())
    }

    /// After a value: passes the brackets that close and the comma, and returns true if another value comes next, false
    /// if the outermost value has ended.
    fn next(&mut self) -> Result<bool, Fault> {
        while let Some(&innermost) = self.open.last() {
            self.space();
            match (self.byte()?, innermost) {
                (b',', Open::Array) => {
                    self.pos += 1;
                    self.space();
                    return Ok(true);
                }
                (b',', Open::Object) => {
                    self.pos += 1;
                    self.space();
                    self.name()?;
                    return Ok(true);
                }
                (b']', Open::Array) => {}
                (b'}', Open::Object) => self.names.close(),
                _ => return Err((ErrorKind::Syntax, self.pos)),
            }
            self.pos += 1;
            self.open.pop();
        }
        Ok(false)
    }

    /// Passes a member name, its colon and the white space around that.
    fn name(&mut self) -> Result<(), Fault> {
        let start = self.pos;
        if self.byte()? != b'"' {
            return Err((ErrorKind::Syntax, start));
        }
        if self.names.members() >= self.limits.members {
            return Err((ErrorKind::Members, start));
        }
        let escaped = self.string()?;
        let inner = &self.text[start + 1..self.pos - 1];
        let name = if escaped {
            Cow::Owned(text::decode(inner).ok_or((ErrorKind::Escape, start))?)
        } else {
            Cow::Borrowed(inner)
        };
        if !self.names.add(name) {
            return Err((ErrorKind::Duplicate, start));
        }
        self.space();
        if self.byte()? != b':' {
            return Err((ErrorKind::Syntax, self.pos));
        }
        self.pos += 1;
        self.space();
        Ok(())
    }

    /// Passes a string; true if it holds escapes.
    fn string(&mut self) -> Result<bool, Fault> {
        let mut escaped = false;
        let mut pos = self.pos + 1;
        loop {
            pos = scan::plain(self.text, pos);
            match self.text.get(pos) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    pos = self.escape(pos)?;
                }
                Some(_) => return Err((ErrorKind::Control, pos)),
                None => return Err((ErrorKind::Eof, pos)),
            }
        }
        self.pos = pos + 1;
        Ok(escaped)
    }

    /// The end of the escape at `pos`.
    fn escape(&self, pos: usize) -> Result<usize, Fault> {
        match self.text.get(pos + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(pos + 2),
            Some(b'u') => {
                let hex = self.text[pos + 2..].iter().take(4);
                match hex.clone().position(|byte| !byte.is_ascii_hexdigit()) {
                    Some(_) => Err((ErrorKind::Escape, pos)),
                    None if hex.len() < 4 => Err((ErrorKind::Eof, self.text.len())),
                    None => Ok(pos + 6),
                }
            }
            Some(_) => Err((ErrorKind::Escape, pos)),
            None => Err((ErrorKind::Eof, self.text.len())),
        }
    }

    fn number(&mut self) -> Result<(), Fault> {
        self.pos = scan::number(self.text, self.pos).map_err(|pos| {
            let kind = if pos < self.text.len() {
                ErrorKind::Number
            } else {
                ErrorKind::Eof
            };
            (kind, pos)
        })?;
        Ok(())
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), Fault> {
        let rest = &self.text[self.pos..];
        match rest
            .iter()
            .zip(word)
            .position(|(byte, letter)| byte != letter)
        {
            Some(at) => Err((ErrorKind::Syntax, self.pos + at)),
            None if rest.len() < word.len() => Err((ErrorKind::Eof, self.text.len())),
            None => {
                self.pos += word.len();
                Ok(())
            }
        }
    }

    #[inline]
    fn space(&mut self) {
        self.pos = scan::space(self.text, self.pos);
    }

    #[inline]
    fn byte(&self) -> Result<u8, Fault> {
        self.text
            .get(self.pos)
            .copied()
            .ok_or((ErrorKind::Eof, self.pos))
    }
}
