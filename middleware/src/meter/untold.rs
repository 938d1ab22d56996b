//! In the place of a tokenizer where none is built in: nothing is counted, and everything is guessed.

use super::said::Said;

/// The counts of one exchange; there are none.
#[derive(Debug, Default)]
pub(super) struct Tally;

impl Tally {
    pub(super) fn listens(&self) -> bool {
        false
    }

    pub(super) fn hear(&mut self, _: &mut Said, _: u64) {}

    pub(super) fn prompt(&self) -> Option<u64> {
        None
    }

    pub(super) fn completion(&self, _: u64) -> Option<u64> {
        None
    }
}
