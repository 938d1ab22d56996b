//! A stretch of text to search, and what is found in it.

use super::{normal::Grown, rules::RuleIndex, whole::Edge};

/// Text from some place on, with what is known of the text around it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a> {
    pub(super) text: &'a str,
    pub(super) before: Before,
    /// Nothing follows.
    pub(super) over: bool,
    /// The end of a text in normal form, where what follows may change it.
    pub(super) grown: Option<&'a Grown>,
}

/// What stands before a place in a text.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Before {
    /// The last character; none at the beginning.
    pub(super) last: Option<char>,
    /// The last one that is no mark.
    pub(super) base: Option<char>,
}

/// Something that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) start: usize,
    /// Where it ends; none where what follows decides whether and where it does.
    pub(super) end: Option<usize>,
    pub(super) rule: RuleIndex,
}

// ===== impl Text =====

impl Text<'_> {
    /// Up to here it is what it will be.
    pub(super) fn sure(self) -> usize {
        self.grown.map_or(self.text.len(), |grown| grown.at)
    }

    /// Whether a word that begins at `at` is the end of a longer one.
    pub(super) fn joined_left(self, at: usize) -> bool {
        let mut before = self.text[..at].chars().rev();
        let base = before
            .find(|char| Edge::of(*char) != Edge::Mark)
            .or(self.before.base);
        base.is_some_and(|char| Edge::of(char).joins_right())
    }

    /// Whether a word that ends at `at` is the beginning of a longer one; none if that is not known yet.
    pub(super) fn joined_right(self, at: usize) -> Option<bool> {
        let mut behind = self.text[at..].chars().map(Edge::of);
        match behind.find(|edge| *edge != Edge::Mark) {
            Some(edge) => Some(edge.joins_left()),
            None => self.over.then_some(false),
        }
    }
}

// ===== impl Before =====

impl Before {
    /// The same behind this text.
    pub(super) fn pass(&mut self, text: &str) {
        let mut back = text.chars().rev();
        self.base = back
            .clone()
            .find(|char| Edge::of(*char) != Edge::Mark)
            .or(self.base);
        self.last = back.next().or(self.last);
    }
}

// ===== impl Candidate =====

impl Candidate {
    /// One that what follows decides about.
    pub(super) fn open(start: usize) -> Self {
        Self {
            start,
            end: None,
            rule: RuleIndex(u32::MAX),
        }
    }
}
