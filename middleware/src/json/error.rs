//! Why a text is no document we accept, and where.

use std::fmt;

/// Why [`check`](super::check) refused a text: what is wrong and where, never a piece of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    offset: usize,
    line: usize,
    column: usize,
}

/// What is wrong with a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The text begins with a byte order mark.
    Bom,
    /// A string holds a control character that is not escaped.
    Control,
    /// Arrays and objects are nested deeper than the limit.
    Depth,
    /// A member name occurs for the second time in one object.
    Duplicate,
    /// The text ends before the value does, or holds no value at all.
    Eof,
    /// A string holds an escape that JSON does not know.
    Escape,
    /// An object has more members than the limit.
    Members,
    /// A number is not written as JSON writes numbers.
    Number,
    /// A byte stands where the grammar does not allow it.
    Syntax,
    /// Something other than white space follows the value.
    Trailing,
    /// The text is not UTF-8.
    Utf8,
}

// ===== impl Error =====

impl Error {
    /// An error of `kind` at `offset` of `text`.
    pub(super) fn new(kind: ErrorKind, text: &[u8], offset: usize) -> Self {
        let before = &text[..offset];
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
        Self {
            kind,
            offset,
            line: memchr::memchr_iter(b'\n', before).count() + 1,
            column: offset - line_start + 1,
        }
    }

    /// What is wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Where, in bytes from the start; the length of the text if it ends too early.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The line, counted from 1; lines end with a line feed.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The column in bytes, counted from 1.
    pub fn column(&self) -> usize {
        self.column
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            offset,
            line,
            column,
        } = self;
        write!(f, "{kind} at line {line} column {column} (byte {offset})")
    }
}

impl std::error::Error for Error {}

// ===== impl ErrorKind =====

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bom => "byte order mark",
            Self::Control => "control character in a string",
            Self::Depth => "nesting over the limit",
            Self::Duplicate => "duplicate member name",
            Self::Eof => "unexpected end of the text",
            Self::Escape => "invalid escape in a string",
            Self::Members => "too many members in an object",
            Self::Number => "invalid number",
            Self::Syntax => "unexpected byte",
            Self::Trailing => "something after the value",
            Self::Utf8 => "invalid utf-8",
        })
    }
}
