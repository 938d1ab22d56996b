use super::{
    literals::Literals,
    patterns::Patterns,
    text::{Candidate, Text},
};

/// What searches for one kind of thing.
#[derive(Debug)]
pub(super) enum Engine {
    /// Words and phrases.
    Literals(Box<Literals>),
    /// Expressions and entities.
    Patterns(Patterns),
}

// ===== impl Engine =====

impl Engine {
    /// The leftmost thing from `from` on, of those that begin together the longest; or the place where one may begin and
    /// what follows decides, if that comes before.
    pub(super) fn next(&self, text: Text<'_>, from: usize) -> Option<Candidate> {
        match self {
            Self::Literals(words) => words.next(text, from),
            Self::Patterns(patterns) => patterns.next(text, from),
        }
    }
}
