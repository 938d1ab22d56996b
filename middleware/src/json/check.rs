//! The one walk over a whole document that decides whether it is accepted.

use std::ops::Range;

use super::{
    error::{Error, ErrorKind},
    names::{Names, Open},
    scan::{self, Specials},
    text,
    value::Value,
};

/// How much nesting and how many members a document may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many arrays and objects may be open at once; 128 by default.
    pub depth: u32,
    /// How many members one object may have; 10 000 by default.
    pub members: u32,
}

/// Checks a whole document and returns a view of its value.
///
/// What is refused and what is let pass is told in the [module](super).
///
/// # Errors
///
/// The first thing that is wrong; text that is not UTF-8 is told before anything else that is wrong with it.
pub fn check<'a>(text: &'a [u8], limits: &Limits) -> Result<Value<'a>, Error> {
    check_members(text, limits, |_, _| {})
}

/// [`check`] that tells the members of the outermost object on the way, each as soon as it has been passed.
///
/// `on` is given the name and the value, as [`Value::members`] would give them, which therefore need not be asked. What
/// comes later may still be refused, so what is made of the members holds only once this has returned a value.
///
/// # Errors
///
/// Those of [`check`].
pub fn check_members<'a>(
    text: &'a [u8],
    limits: &Limits,
    on: impl FnMut(Value<'a>, Value<'a>),
) -> Result<Value<'a>, Error> {
    let mut walk = Walk {
        text,
        pos: 0,
        limits: *limits,
        names: Names::new(),
        member: (0..0, 0),
        on,
    };
    walk.document()
        .map_err(|(kind, offset)| Error::new(kind, text, offset))
}

struct Walk<'a, F> {
    text: &'a [u8],
    pos: usize,
    limits: Limits,
    names: Names<'a>,
    /// Where the name of the last member of the outermost object lies, and where its value begins.
    member: (Range<usize>, usize),
    /// Is told the members of the outermost object.
    on: F,
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

impl<'a, F: FnMut(Value<'a>, Value<'a>)> Walk<'a, F> {
    fn document(&mut self) -> Result<Value<'a>, Fault> {
        if self.text.starts_with(b"\xef\xbb\xbf") {
            return Err((ErrorKind::Bom, 0));
        }
        // Nearly all text is ASCII, and that is seen sooner.
        if !self.text.is_ascii()
            && let Err(invalid) = std::str::from_utf8(self.text)
        {
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
        self.names.object();
        self.name()?;
        Ok(true)
    }

    fn array(&mut self) -> Result<bool, Fault> {
        self.descend()?;
        if self.byte()? == b']' {
            self.pos += 1;
            return Ok(false);
        }
        self.names.array();
        Ok(true)
    }

    /// Passes an opening bracket and the white space behind it.
    fn descend(&mut self) -> Result<(), Fault> {
        if self.names.depth() >= self.limits.depth as usize {
            return Err((ErrorKind::Depth, self.pos));
        }
        self.pos += 1;
        self.space();
        Ok(())
    }

    /// After a value: passes the brackets that close and the comma, and returns true if another value comes next, false
    /// if the outermost value has ended.
    fn next(&mut self) -> Result<bool, Fault> {
        loop {
            let innermost = self.names.innermost();
            match innermost {
                Open::Nothing => return Ok(false),
                Open::Few(_) | Open::Many if self.names.depth() == 1 => self.tell(),
                _ => {}
            }
            self.space();
            match (self.byte()?, innermost) {
                (b',', Open::Array) => {
                    self.pos += 1;
                    self.space();
                    return Ok(true);
                }
                (b',', _) => {
                    self.pos += 1;
                    self.space();
                    self.name()?;
                    return Ok(true);
                }
                (b']', Open::Array) | (b'}', Open::Few(_) | Open::Many) => {}
                _ => return Err((ErrorKind::Syntax, self.pos)),
            }
            self.pos += 1;
            self.names.close();
        }
    }

    /// Tells a member of the outermost object whose value ends here.
    fn tell(&mut self) {
        let (name, value) = self.member.clone();
        (self.on)(
            Value::checked(self.text, name),
            Value::checked(self.text, value..self.pos),
        );
    }

    /// Passes a member name, its colon and the white space around that.
    fn name(&mut self) -> Result<(), Fault> {
        let start = self.pos;
        if self.byte()? != b'"' {
            return Err((ErrorKind::Syntax, start));
        }
        if self.names.members() >= self.limits.members as usize {
            return Err((ErrorKind::Members, start));
        }
        let escaped = self.string()?;
        let inner = &self.text[start + 1..self.pos - 1];
        let is_new = if escaped {
            self.names
                .add_decoded(text::decode(inner).ok_or((ErrorKind::Escape, start))?)
        } else {
            self.names.add(inner)
        };
        if !is_new {
            return Err((ErrorKind::Duplicate, start));
        }
        let end = self.pos;
        self.space();
        if self.byte()? != b':' {
            return Err((ErrorKind::Syntax, self.pos));
        }
        self.pos += 1;
        self.space();
        if self.names.depth() == 1 {
            self.member = (start..end, self.pos);
        }
        Ok(())
    }

    /// Passes a string; true if it holds escapes.
    #[inline(always)]
    fn string(&mut self) -> Result<bool, Fault> {
        let pos = scan::plain(self.text, self.pos + 1);
        if self.text.get(pos) == Some(&b'"') {
            self.pos = pos + 1;
            return Ok(false);
        }
        self.pos = self.escaped(pos)?;
        Ok(true)
    }

    /// The end of a string of which something other than its closing quote stands at `pos`.
    #[inline(never)]
    fn escaped(&self, mut pos: usize) -> Result<usize, Fault> {
        let mut specials = Specials::new(self.text, pos);
        loop {
            match self.text.get(pos) {
                Some(b'"') => return Ok(pos + 1),
                Some(b'\\') => pos = specials.find(self.escape(pos)?),
                Some(_) => return Err((ErrorKind::Control, pos)),
                None => return Err((ErrorKind::Eof, pos)),
            }
        }
    }

    /// The end of the escape at `pos`.
    fn escape(&self, pos: usize) -> Result<usize, Fault> {
        match self.text.get(pos + 1) {
            Some(&byte) if SHORT[usize::from(byte)] => Ok(pos + 2),
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

/// What stands behind the backslash of an escape of two bytes. A table is asked sooner than eight letters.
const SHORT: [bool; 256] = {
    let mut table = [false; 256];
    let mut letters = b"\"\\/bfnrt".as_slice();
    while let [letter, rest @ ..] = letters {
        table[*letter as usize] = true;
        letters = rest;
    }
    table
};
