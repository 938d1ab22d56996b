//! A view of one value in a document, and the way from it to the values inside.

use std::{borrow::Cow, fmt, iter::FusedIterator, ops::Range};

use super::{number, scan, text};

/// A view of one value: where it lies in its document, and what lies inside.
///
/// A view is as cheap to copy as a slice. The way from one value to another skips over what lies between; nothing is
/// validated again and nothing is remembered, so ask for a member once, or pass the [`members`](Self::members) once.
///
/// # On text that was not checked
///
/// [`Value::parse`] gives a view of any bytes. Skipping looks at strings and brackets only, so such a view can hold
/// what is no JSON: then what cannot be read is None, and [`Members`] and [`Items`] end at the first fault. It stays linear, and
/// nothing panics.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    document: &'a [u8],
    start: usize,
    end: usize,
    /// No object in the document has two members of one name.
    checked: bool,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `[…]`
    Array,
    /// `true` or `false`
    Bool,
    /// `null`
    Null,
    /// Any number, whole or not.
    Number,
    /// `{…}`
    Object,
    /// `"…"`
    String,
}

/// The members of an object in the order of the text: name, which is a string value, and value.
#[derive(Clone, Debug)]
pub struct Members<'a>(Inside<'a>);

/// The items of an array in order.
#[derive(Clone, Debug)]
pub struct Items<'a>(Inside<'a>);

/// A place between the brackets of an array or object.
#[derive(Clone)]
struct Inside<'a> {
    of: Value<'a>,
    /// Behind the opening bracket or the last value passed; the end of `of` when there is nothing more.
    pos: usize,
    first: bool,
}

// ===== impl Value =====

impl<'a> Value<'a> {
    /// The first value in `text`, which nobody has checked; None if it begins with none or ends inside of it.
    ///
    /// What follows the value is not looked at.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let start = scan::space(text, 0);
        let end = scan::value(text, start)?;
        Some(Self {
            document: text,
            start,
            end,
            checked: false,
        })
    }

    pub(super) fn unchecked(document: &'a [u8], span: Range<usize>) -> Self {
        Self {
            checked: false,
            ..Self::checked(document, span)
        }
    }

    /// All of `text` as an object, which nobody has checked and nobody looks through now; None if it does not begin and end
    /// as one. A fault in it ends its members.
    pub fn object(text: &'a [u8]) -> Option<Self> {
        let start = scan::space(text, 0);
        let end = text.trim_ascii_end().len();
        let whole = text.get(start) == Some(&b'{') && end > start + 1 && text[end - 1] == b'}';
        whole.then_some(Self {
            document: text,
            start,
            end,
            checked: false,
        })
    }

    pub(super) fn checked(document: &'a [u8], span: Range<usize>) -> Self {
        let Range { start, end } = span;
        Self {
            document,
            start,
            end,
            checked: true,
        }
    }

    /// Where the value lies in the document, in bytes; of a string, the quotes belong to it.
    pub fn span(&self) -> Range<usize> {
        self.start..self.end
    }

    /// The value as it is written.
    pub fn raw(&self) -> &'a [u8] {
        &self.document[self.span()]
    }

    /// What the value is.
    pub fn kind(&self) -> Kind {
        Kind::of(self.document[self.start])
    }

    /// The value of the member `name` of an object.
    ///
    /// Names are compared as they decode. Of two members of that name, which only unchecked text can have, it is the last.
    pub fn get(&self, name: &str) -> Option<Self> {
        let mut named = self.members().filter(|(key, _)| key.is_str(name));
        let found = if self.checked {
            named.next()
        } else {
            named.last()
        };
        found.map(|(_, value)| value)
    }

    /// The values of the members of these names, as [`get`](Self::get) would find them, in one pass.
    pub fn pick<const N: usize>(&self, names: [&str; N]) -> [Option<Self>; N] {
        let mut found = [None; N];
        for (name, value) in self.members() {
            let Some(inner) = name.inner() else { continue };
            let plain = |it: &&str| it.as_bytes() == inner;
            let at = match names.iter().position(plain) {
                None if memchr::memchr(b'\\', inner).is_some() => {
                    names.iter().position(|it| name.is_str(it))
                }
                at => at,
            };
            if let Some(at) = at {
                found[at] = Some(value);
            }
        }
        found
    }

    /// The members of an object; none if this is no object.
    pub fn members(&self) -> Members<'a> {
        Members(self.inside(Kind::Object))
    }

    /// The items of an array; none if this is no array.
    pub fn items(&self) -> Items<'a> {
        Items(self.inside(Kind::Array))
    }

    /// The text of a string, decoded; None if this is no string, or a malformed one.
    ///
    /// It is borrowed if there are no escapes. An escaped surrogate without its other half becomes U+FFFD.
    pub fn as_str(&self) -> Option<Cow<'a, str>> {
        let inner = self.inner()?;
        if memchr::memchr(b'\\', inner).is_none() {
            return std::str::from_utf8(inner).ok().map(Cow::Borrowed);
        }
        String::from_utf8(text::decode(inner)?).ok().map(Cow::Owned)
    }

    /// The bytes of a string, decoded; None if this is no string, or a malformed one. Borrowed if there are no escapes.
    pub(crate) fn decoded(&self) -> Option<Cow<'a, [u8]>> {
        text::decoded(self.inner()?)
    }

    /// All of the text that the value lies in.
    #[cfg(feature = "word_filter")]
    pub(crate) fn document(&self) -> &'a [u8] {
        self.document
    }

    /// Where the decoded bytes at these places are written, as offsets in the document. The places are in ascending
    /// order; one inside of an escaped character is where that begins.
    #[cfg(feature = "word_filter")]
    pub(crate) fn locate(&self, places: &mut [usize]) {
        let Some(inner) = self.inner() else { return };
        text::locate(inner, places);
        places.iter_mut().for_each(|place| *place += self.start + 1);
    }

    /// Whether this is a string that decodes to `text`; costs no allocation.
    pub fn is_str(&self, text: &str) -> bool {
        self.inner().is_some_and(|inner| text::equals(inner, text))
    }

    /// The truth of `true` or `false`.
    pub fn as_bool(&self) -> Option<bool> {
        (self.kind() == Kind::Bool).then(|| self.document[self.start] == b't')
    }

    /// Whether this is `null`.
    pub fn is_null(&self) -> bool {
        self.kind() == Kind::Null
    }

    /// A number of whole value, however it is written: `4096`, `4096.0` and `4.096e3` are the same.
    ///
    /// None if this is no number, or one that is below zero, has a fraction or is over `u64::MAX`; `-0` is 0.
    pub fn as_u64(&self) -> Option<u64> {
        match self.kind() {
            Kind::Number => number::whole(self.raw()),
            _ => None,
        }
    }

    /// A number as the nearest double; None if this is no number, or one that no finite double comes near.
    pub fn as_f64(&self) -> Option<f64> {
        match self.kind() {
            Kind::Number => std::str::from_utf8(self.raw())
                .ok()?
                .parse()
                .ok()
                .filter(|number: &f64| number.is_finite()),
            _ => None,
        }
    }

    /// What stands between the quotes of a string, escapes as they are written.
    pub(crate) fn inner(&self) -> Option<&'a [u8]> {
        match self.raw() {
            [b'"', inner @ .., b'"'] => Some(inner),
            _ => None,
        }
    }

    fn inside(&self, kind: Kind) -> Inside<'a> {
        let pos = if self.kind() == kind {
            self.start + 1
        } else {
            self.end
        };
        Inside {
            of: *self,
            pos,
            first: true,
        }
    }
}

/// Kind and place; the text itself may be private and stays out of logs.
impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({:?})", self.kind(), self.span())
    }
}

// ===== impl Kind =====

impl Kind {
    /// Of a value that begins with this byte.
    pub(super) fn of(first: u8) -> Self {
        match first {
            b'[' => Self::Array,
            b'f' | b't' => Self::Bool,
            b'n' => Self::Null,
            b'{' => Self::Object,
            b'"' => Self::String,
            _ => Self::Number,
        }
    }
}

// ===== impl Members =====

impl<'a> Iterator for Members<'a> {
    type Item = (Value<'a>, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.step(|inside| {
            let name = inside.value()?;
            if name.kind() != Kind::String {
                return None;
            }
            inside.byte(b':')?;
            Some((name, inside.value()?))
        })
    }
}

impl FusedIterator for Members<'_> {}

// ===== impl Items =====

impl<'a> Iterator for Items<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.step(Inside::value)
    }
}

impl FusedIterator for Items<'_> {}

// ===== impl Inside =====

impl<'a> Inside<'a> {
    /// Passes a comma, if one is due, and what `read` reads; at the end or a fault there is nothing more.
    fn step<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if self.pos >= self.of.end {
            return None;
        }
        let comma = if self.first {
            Some(())
        } else {
            self.byte(b',')
        };
        self.first = false;
        let read = comma.and_then(|()| read(self));
        if read.is_none() {
            self.pos = self.of.end;
        }
        read
    }

    /// Passes a value. The closing bracket begins none.
    fn value(&mut self) -> Option<Value<'a>> {
        let text = self.text();
        let start = scan::space(text, self.pos);
        let end = scan::value(text, start)?;
        self.pos = end;
        Some(Value {
            start,
            end,
            ..self.of
        })
    }

    /// Passes `byte`.
    fn byte(&mut self, byte: u8) -> Option<()> {
        let at = scan::space(self.text(), self.pos);
        self.pos = at + 1;
        (self.text().get(at) == Some(&byte)).then_some(())
    }

    /// The document up to the closing bracket.
    fn text(&self) -> &'a [u8] {
        &self.of.document[..self.of.end - 1]
    }
}

impl fmt::Debug for Inside<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} from {}", self.of, self.pos)
    }
}
