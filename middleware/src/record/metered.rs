//! What a meter has found in an answer.

use std::{borrow::Cow, fmt};

use super::Gaps;
use crate::dialect::Usage;

/// What an answer has told so far, and what it is charged with.
///
/// It grows while the answer passes: a report is here before the frame that carries it has gone on. It is final when the answer
/// has ended, before the guards outside of the meter are told so.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metered {
    /// The provider's own numbers as far as they have passed; none if it reported none.
    pub usage: Option<Usage>,
    /// What limits and budgets settle on; nothing until the answer has ended.
    pub charge: Charge,
    /// Why each choice ended, in their order and in the provider's words.
    pub finish_reasons: Vec<Cow<'static, str>>,
    /// The names of the tools that the caller is to call, in order.
    pub tool_calls: Vec<Box<str>>,
    /// How many events have come; none where the answer has none.
    pub events: Option<u64>,
    /// The event, counted from 0, that carried the first output of any kind.
    pub first_output: Option<u64>,
    /// The answer carried the provider's own error.
    pub failed: bool,
    /// A report held a field that is no count.
    pub flawed: bool,
    /// Something could not be read: it was too large, compressed, or not what it was labelled.
    pub blind: bool,
    /// The times between the outputs of a stream; none where there is no stream.
    pub gaps: Gaps,
}

/// Tokens that are charged, and how they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    /// Tokens of the input.
    pub prompt: u64,
    /// Tokens of the output.
    pub completion: u64,
    /// How they are known.
    pub source: Source,
}

/// How a charge is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Source {
    /// There is nothing to charge.
    #[default]
    None,
    /// The provider said so, and the answer was complete or its final report had come.
    Provider,
    /// The provider said so, after the client had left.
    Drained,
    /// From what was sent and delivered; never below what the provider reported.
    Estimated,
}

/// An answer that was thrown away.
#[derive(Clone, Debug, PartialEq)]
pub struct Discarded {
    /// Which of the [attempts](super::Record::attempts) it answered, where that is known.
    pub attempt: Option<usize>,
    /// What was found in it.
    pub metered: Metered,
}

/// Tokens of attempts that were thrown away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waste {
    /// Tokens of the input.
    pub prompt: u64,
    /// Tokens of the output.
    pub completion: u64,
}

// ===== impl Source =====

impl Source {
    /// Every source, in the order of their discriminants.
    pub const ALL: [Self; 4] = [Self::None, Self::Provider, Self::Drained, Self::Estimated];

    /// The word of the request log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Provider => "provider",
            Self::Drained => "drained",
            Self::Estimated => "estimated",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
