//! What a unit says, for as long as it waits.

use std::ops::Range;

use super::texts::Piece;
use crate::dialect::units::Edit;

/// A unit that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) unit: Range<u64>,
    /// With what stands behind it and says nothing.
    pub(super) end: u64,
    pub(super) said: Said,
}

/// What a unit says.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) pieces: Vec<Piece>,
    /// Changes that are settled: of texts that stand whole in it.
    pub(super) edits: Vec<Edit>,
    pub(super) logprobs: Vec<Range<usize>>,
    /// It holds, whole, what a rule refuses.
    pub(super) refused: bool,
}

// ===== impl Said =====

impl Said {
    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.edits.clear();
        self.logprobs.clear();
        self.refused = false;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.edits.is_empty() && !self.refused
    }
}
