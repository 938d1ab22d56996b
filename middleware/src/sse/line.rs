//! One line of an event stream, whole or as it arrives.

/// What a line is to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Data,
    Event,
    Id,
    /// A comment, `retry`, or a field nobody knows.
    Ignored,
}

/// How far into a line the bytes have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Line {
    /// Nothing of the line yet.
    #[default]
    Start,
    /// In what may become the field's name and colon; so much of them matched.
    Name(Field, usize),
    /// Behind the colon, and the space that may follow it; or anywhere in a line that is ignored.
    Value(Field),
}

/// The byte order mark that may open a stream: how much of it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mark {
    #[default]
    Awaited,
    /// So many of its bytes, at least one.
    Partial(usize),
    /// It has come whole, or it will not come.
    Passed,
}

/// The field and the value of a whole line that is not empty.
#[inline]
pub(super) fn classify(line: &[u8]) -> (Field, &[u8]) {
    let (field, rest) = match line {
        [b'd', b'a', b't', b'a', rest @ ..] => (Field::Data, rest),
        [b'e', b'v', b'e', b'n', b't', rest @ ..] => (Field::Event, rest),
        [b'i', b'd', rest @ ..] => (Field::Id, rest),
        _ => return (Field::Ignored, &[]),
    };
    match rest {
        [] => (field, &[]),
        [b':', b' ', value @ ..] | [b':', value @ ..] => (field, value),
        _ => (Field::Ignored, &[]),
    }
}

/// The first line of `bytes`, if it has an end, and what follows.
///
/// A CR that is the last byte ends the line too; an LF that follows it later is none of its own.
#[inline]
pub(super) fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr2(b'\n', b'\r', bytes)?;
    let next = match bytes[end..] {
        [b'\r', b'\n', ..] => end + 2,
        _ => end + 1,
    };
    Some((&bytes[..end], &bytes[next..]))
}

// ===== impl Field =====

impl Field {
    fn name(self) -> &'static [u8] {
        match self {
            Self::Data => b"data:",
            Self::Event => b"event:",
            Self::Id => b"id:",
            Self::Ignored => b"",
        }
    }
}

// ===== impl Line =====

impl Line {
    /// Takes more of the line, without its end, and returns what of that belongs to the value.
    pub(super) fn extend<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        while let Some((&byte, rest)) = bytes.split_first() {
            *self = match *self {
                // -> Name, or -> Value if no field begins so
                Self::Start => match byte {
                    b'd' => Self::Name(Field::Data, 1),
                    b'e' => Self::Name(Field::Event, 1),
                    b'i' => Self::Name(Field::Id, 1),
                    _ => Self::Value(Field::Ignored),
                },
                // -> Name while it matches, -> Value behind the colon
                Self::Name(field, matched) => match field.name().get(matched) {
                    Some(&expected) if expected == byte => Self::Name(field, matched + 1),
                    Some(_) => Self::Value(Field::Ignored),
                    None => {
                        *self = Self::Value(field);
                        return if byte == b' ' { rest } else { bytes };
                    }
                },
                Self::Value(_) => return bytes,
            };
            bytes = rest;
        }
        bytes
    }

    /// The field, as soon as its value has begun.
    pub(super) fn field(self) -> Option<Field> {
        match self {
            Self::Value(field) => Some(field),
            Self::Start | Self::Name(..) => None,
        }
    }

    /// What the line was if it ends here; None if it was empty.
    pub(super) fn end(self) -> Option<Field> {
        match self {
            Self::Start => None,
            // The colon may be missing.
            Self::Name(field, matched) if matched + 1 >= field.name().len() => Some(field),
            Self::Name(..) => Some(Field::Ignored),
            Self::Value(field) => Some(field),
        }
    }
}

// ===== impl Mark =====

impl Mark {
    /// Passes what of a byte order mark opens the stream, and returns the rest of the frame.
    pub(super) fn skip<'a>(&mut self, mut frame: &'a [u8], line: &mut Line) -> &'a [u8] {
        const MARK: &[u8] = b"\xef\xbb\xbf";
        while let Some((&byte, rest)) = frame.split_first() {
            let seen = match *self {
                Self::Awaited => 0,
                Self::Partial(seen) => seen,
                Self::Passed => break,
            };
            if byte != MARK[seen] {
                *self = Self::Passed;
                if seen > 0 {
                    // What looked like a mark began a line that no field begins.
                    *line = Line::Value(Field::Ignored);
                }
                break;
            }
            *self = if seen + 1 == MARK.len() {
                Self::Passed
            } else {
                Self::Partial(seen + 1)
            };
            frame = rest;
        }
        frame
    }

    /// Whether the stream stands inside of the mark.
    pub(super) fn is_partial(self) -> bool {
        matches!(self, Self::Partial(_))
    }
}
