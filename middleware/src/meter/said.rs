//! What an answer says, kept for a moment.

use crate::dialect::ending::output::BREAK;

/// The generated text of an answer as it stands between quotes of JSON, for who wants to count it. Empty, and without cost, for
/// everybody else.
#[derive(Debug, Default)]
pub(super) struct Said {
    text: Vec<u8>,
    on: bool,
    /// Texts of one event after another do not belong together.
    mixed: bool,
}

impl Said {
    /// Nothing is kept until then. `mixed` if several answers come interleaved.
    pub(super) fn listen(&mut self, mixed: bool) {
        self.on = true;
        self.mixed = mixed;
    }

    /// Takes a text that goes on where the last one ended.
    #[inline]
    pub(super) fn go_on(&mut self, text: &[u8]) {
        if self.on {
            if self.mixed {
                self.break_off();
            }
            self.text.extend_from_slice(text);
        }
    }

    /// What follows does not belong to what was before.
    pub(super) fn break_off(&mut self) {
        if self.on {
            self.text.push(BREAK);
        }
    }

    #[cfg(feature = "tokenizer")]
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    #[cfg(feature = "tokenizer")]
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    #[cfg(feature = "tokenizer")]
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.text)
    }
}
