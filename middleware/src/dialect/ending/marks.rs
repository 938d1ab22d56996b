//! Words that a mark cannot do without, and the look at what follows them.

use std::sync::LazyLock;

use memchr::memmem::Finder;

/// A member name to be found in an event's data without parsing it.
///
/// It is looked for without its quotes, which are what JSON has most of, and then between two.
///
/// Inside a string value the quotes would be escaped, so a hit is a name, or a string that is exactly that word. Which
/// of these, and whether at the right place, is for the JSON to tell.
#[derive(Debug)]
pub(crate) struct Word(LazyLock<Finder<'static>>);

impl Word {
    const fn new(make: fn() -> Finder<'static>) -> Self {
        Self(LazyLock::new(make))
    }

    /// Whether the word occurs as a name whose value may be something: not `null`, `false`, `""`.
    pub(crate) fn is_set(&self, data: &[u8]) -> bool {
        let length = self.0.needle().len();
        self.0.find_iter(data).any(|at| {
            let quoted = at > 0 && data[at - 1] == b'"';
            let Some([b'"', rest @ ..]) = data.get(at + length..).filter(|_| quoted) else {
                return false;
            };
            let Some(value) = rest.trim_ascii_start().strip_prefix(b":") else {
                return false;
            };
            let value = value.trim_ascii_start();
            !(value.starts_with(b"null")
                || value.starts_with(b"false")
                || value.starts_with(b"\"\""))
        })
    }
}

pub(crate) static FINISH_REASON: Word = Word::new(|| Finder::new("finish_reason"));
pub(crate) static FINISH_REASON_OF_GEMINI: Word = Word::new(|| Finder::new("finishReason"));
pub(crate) static BLOCK_REASON: Word = Word::new(|| Finder::new("blockReason"));
pub(crate) static ERROR: Word = Word::new(|| Finder::new("error"));
pub(crate) static USAGE: Word = Word::new(|| Finder::new("usage"));
pub(crate) static DONE: Word = Word::new(|| Finder::new("done"));
