//! How much of an answer is kept, and why one goes no further.

use std::sync::Arc;

/// How much may be kept.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Limits {
    /// Of a stream, in bytes.
    pub(in super::super) event: usize,
    /// Of a document, in bytes.
    pub(in super::super) document: usize,
    /// What is larger, or cannot be read, passes.
    pub(in super::super) passes: bool,
}

/// Why an answer goes no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// This rule refused it.
    Rule(Arc<str>),
    /// It cannot be looked into.
    Unreadable,
    /// More of it would have to be kept than may be.
    TooLarge,
    /// All answers together keep as much as may be.
    NoRoom,
}
