//! Several expressions at once.

use super::{
    pattern::{Here, Pattern},
    rules::RuleIndex,
    text::{Candidate, Text},
};

/// Expressions of one action.
#[derive(Debug)]
pub(super) struct Patterns {
    all: Vec<(Pattern, RuleIndex)>,
    /// Which of them may begin with each byte, one bit for each.
    begins: Box<[u64; 256]>,
}

// ===== impl Patterns =====

impl Patterns {
    /// Up to [`MOST`](Self::MOST) expressions.
    pub(super) fn new(all: Vec<(Pattern, RuleIndex)>) -> Self {
        let mut begins = Box::new([0; 256]);
        for (byte, begins) in (0..=u8::MAX).zip(begins.iter_mut()) {
            for (bit, (pattern, _)) in all.iter().enumerate() {
                *begins |= u64::from(pattern.begins(byte)) << bit;
            }
        }
        Self { all, begins }
    }

    /// How many expressions are searched for in one pass.
    pub(super) const MOST: usize = 64;

    /// The leftmost match from `from` on, of those that begin together the longest; or the place where one may begin and
    /// what follows decides, if that comes before.
    pub(super) fn next(&self, text: Text<'_>, from: usize) -> Option<Candidate> {
        let bytes = text.text.as_bytes();
        for (at, byte) in bytes.iter().enumerate().skip(from) {
            let mut left = self.begins[usize::from(*byte)];
            // It may still become something else.
            if text.grown.is_some_and(|grown| grown.at == at) {
                left = u64::MAX >> (Self::MOST - self.all.len());
            }
            if left == 0 || !text.text.is_char_boundary(at) {
                continue;
            }
            let mut best: Option<Candidate> = None;
            while left != 0 {
                let (pattern, rule) = &self.all[left.trailing_zeros() as usize];
                left &= left - 1;
                match pattern.here(text, at) {
                    Here::Open => return Some(Candidate::open(at)),
                    Here::Matches(end) if best.is_none_or(|best| best.end < Some(end)) => {
                        best = Some(Candidate {
                            start: at,
                            end: Some(end),
                            rule: *rule,
                        });
                    }
                    Here::Nothing | Here::Matches(_) => {}
                }
            }
            if best.is_some() {
                return best;
            }
        }
        None
    }
}
