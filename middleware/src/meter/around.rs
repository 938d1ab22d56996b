//! What is generated and billed beside the texts of an answer: a matter of how a family of models marks things.

use super::answer::Found;
use crate::{dialect::ending::output::Length, estimate::Family};

impl Family {
    /// Tokens of an answer that are in none of its texts: marks that open it, that lead from thoughts to a text, that stand around
    /// calls and citations. They are generated and billed, and only some of them are a family's secret.
    pub(super) fn around(self, found: &Found) -> u64 {
        if found.outputs == 0 {
            return 0;
        }
        let (opening, a_turn) = match self {
            // `<|channel|>analysis<|message|>`, then `<|end|><|start|>assistant<|channel|>final<|message|>`.
            Self::Harmony => (3, 6),
            // What it bills leaves these out, what it counts does not.
            Self::Cohere => (8, 0),
            _ => (0, 0),
        };
        // A call is a turn of its own.
        let turns = found.turns.min(u64::from(found.tools.is_empty()));
        opening
            + turns * a_turn
            + found.tools.len() as u64 * self.around_a_call()
            + found.citations * A_CITATION
    }

    /// Tokens that several calls at once have beside those around each: one call of a tool that calls others, with the names of
    /// its members. The units of arguments, which are a little too many, make up for them; the count of a tokenizer does not.
    pub(super) fn between_calls(self, found: &Found) -> u64 {
        match self {
            Self::OpenAi if found.tools.len() > 1 => found.tools.len() as u64 * 8,
            _ => 0,
        }
    }

    /// How long a text is to this family: some keep up to three digits of a number together, others none.
    pub(super) const fn units(self, of: Length) -> u64 {
        match self {
            Self::Gemini | Self::Mistral | Self::Qwen => of.units + of.digits,
            _ => of.units,
        }
    }

    /// Tokens around a tool call that are not in its name and arguments.
    const fn around_a_call(self) -> u64 {
        match self {
            Self::OpenAi => 7,
            Self::Gemini | Self::Llama | Self::Mistral => 10,
            Self::Harmony => 14,
            Self::Cohere => 17,
            Self::Claude => 30,
            Self::DeepSeek => 40,
            Self::Qwen | Self::Grok | Self::Other => 20,
        }
    }
}

/// Tokens of a citation: the tag around what is cited.
const A_CITATION: u64 = 22;
