//! How an output limit is spelled, and the edit that sets an absent one.

use std::ops::Range;

use super::{Dialect, Operation, Surface};
use crate::json::{Kind, Value};

/// Where an absent limit goes: a member, or one of an object that may be absent itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The outer member.
    pub(crate) outer: &'static str,
    /// Another spelling of the outer member.
    pub(crate) also: Option<&'static str>,
    /// The member inside.
    pub(crate) inner: Option<&'static str>,
}

impl Place {
    const fn member(outer: &'static str) -> Self {
        Self {
            outer,
            also: None,
            inner: None,
        }
    }

    pub(crate) const MAX_TOKENS: Self = Self::member("max_tokens");
    pub(crate) const MAX_COMPLETION_TOKENS: Self = Self::member("max_completion_tokens");
    const MAX_OUTPUT_TOKENS: Self = Self::member("max_output_tokens");
    const GEMINI: Self = Self {
        outer: "generationConfig",
        also: Some("generation_config"),
        inner: Some("maxOutputTokens"),
    };
    const OLLAMA: Self = Self {
        outer: "options",
        also: None,
        inner: Some("num_predict"),
    };
    const BEDROCK: Self = Self {
        outer: "inferenceConfig",
        also: None,
        inner: Some("maxTokens"),
    };

    /// In OpenAI's chat, where a model that thinks takes another member.
    pub(crate) fn in_chat(model: Option<&str>) -> Self {
        if model.is_some_and(is_reasoning) {
            Self::MAX_COMPLETION_TOKENS
        } else {
            Self::MAX_TOKENS
        }
    }

    /// The edit that sets an absent limit. What is there as `null` is replaced, so that no member comes twice.
    pub(crate) fn insertion(self, root: Value<'_>, limit: u64) -> (Range<usize>, String) {
        let Some(inner) = self.inner else {
            return member(root, self.outer, &limit.to_string());
        };
        let spelled = [Some(self.outer), self.also].into_iter().flatten();
        let there: Vec<_> = spelled.filter_map(|name| root.get(name)).collect();
        let object = there.iter().find(|it| it.kind() == Kind::Object);
        match object.or_else(|| there.first()).copied() {
            Some(object) if object.kind() == Kind::Object => {
                member(object, inner, &limit.to_string())
            }
            // Null, or what the provider refuses.
            Some(other) => (other.span(), format!("{{\"{inner}\":{limit}}}")),
            None => member(root, self.outer, &format!("{{\"{inner}\":{limit}}}")),
        }
    }
}

/// Sets a member of an object.
fn member(object: Value<'_>, name: &str, value: &str) -> (Range<usize>, String) {
    if let Some(null) = object.get(name) {
        return (null.span(), value.to_owned());
    }
    let at = object.span().end - 1;
    let comma = if object.members().next().is_none() {
        ""
    } else {
        ","
    };
    (at..at, format!("{comma}\"{name}\":{value}"))
}

/// The tokens that a model may think, if the body says: its output limit is to be above them.
pub(crate) fn thoughts(root: Value<'_>) -> Option<u64> {
    root.get("thinking")?.get("budget_tokens")?.as_u64()
}

/// Whether a limit means without end: Ollama's `-1`, and `-2` for what fits into the context.
pub(crate) fn is_endless(name: &str, raw: &[u8]) -> bool {
    name == "options.num_predict" && matches!(raw, b"-1" | b"-2")
}

/// How a surface spells its output limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// It generates no text, or no limit is known that would count.
    None,
    /// In words that nobody here knows.
    Unknown,
    /// So: one of these names binds the provider, and an absent one goes there.
    Known(&'static [&'static str], Place),
    /// OpenAI's chat: the model decides.
    Chat,
}

/// What binds at OpenAI's chat.
pub(crate) const CHAT: &[&str] = &["max_tokens", "max_completion_tokens"];

impl Spelling {
    pub(crate) fn of(surface: &Surface, model: Option<&str>) -> Self {
        use Operation as O;
        match (surface.operation, surface.dialect) {
            (O::Chat | O::Generate, Dialect::Ollama) => {
                Self::Known(&["options.num_predict"], Place::OLLAMA)
            }
            (O::Invoke | O::Predict, _) if !model.is_some_and(is_anthropic) => Self::Unknown,
            (O::Chat, dialect) if dialect != Dialect::Cohere => Self::Chat,
            (O::Chat | O::Completions | O::Messages | O::Invoke | O::Predict, _) => {
                Self::Known(&["max_tokens"], Place::MAX_TOKENS)
            }
            (O::Responses, _) => Self::Known(&["max_output_tokens"], Place::MAX_OUTPUT_TOKENS),
            (O::Generate, _) => Self::Known(&["generationConfig.maxOutputTokens"], Place::GEMINI),
            (O::Converse, _) => Self::Known(&["inferenceConfig.maxTokens"], Place::BEDROCK),
            _ => Self::None,
        }
    }
}

fn is_anthropic(model: &str) -> bool {
    model.contains("anthropic.") || model.contains("claude")
}

/// Whether a model takes `max_completion_tokens` only: `o1` and its kin, `gpt-5` and later.
fn is_reasoning(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    if let Some(rest) = name.strip_prefix('o') {
        return rest.starts_with(|it: char| it.is_ascii_digit());
    }
    let Some(rest) = name.strip_prefix("gpt-") else {
        return false;
    };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    // `gpt-4o` is a 4; what is longer than a number can be is late enough.
    match rest[..digits].parse() {
        Ok(number) => 5_u32 <= number,
        Err(_) => digits > 0,
    }
}

/// Whether a member differs in its case only from one that holds a limit. Readers that do not mind the case (Go's, which
/// also take `ſ` for `s` and `K` for `k`) would take it for that one.
pub(crate) fn is_case_of_another(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "generationConfig",
        "generation_config",
        "options",
        "inferenceConfig",
        "n",
        "best_of",
    ];
    let fold = |it: char| match it {
        'ſ' => 's',
        '\u{212a}' => 'k',
        it => it.to_ascii_lowercase(),
    };
    NAMES
        .iter()
        .any(|known| *known != name && known.chars().map(fold).eq(name.chars().map(fold)))
        && !NAMES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasoning_models_are_told_by_their_names() {
        for model in [
            "o1",
            "o3-mini",
            "o4-mini-2025",
            "gpt-5",
            "gpt-5.1-codex",
            "gpt-10",
            "openai/o1",
        ] {
            assert!(is_reasoning(model), "{model}");
        }
        for model in [
            "gpt-4o",
            "gpt-4.1",
            "gpt-3.5-turbo",
            "gpt-oss-120b",
            "omni",
            "llama-3",
            "o",
            "gpt-",
            "",
        ] {
            assert!(!is_reasoning(model), "{model}");
        }
    }

    #[test]
    fn members_that_some_readers_take_for_a_limit_are_found() {
        for name in [
            "Max_Tokens",
            "MAX_TOKENS",
            "Options",
            "optionſ",
            "max_to\u{212a}ens",
            "N",
        ] {
            assert!(is_case_of_another(name), "{name}");
        }
        for name in [
            "max_tokens",
            "options",
            "generationConfig",
            "generation_config",
            "n",
            "model",
            "max_token",
        ] {
            assert!(!is_case_of_another(name), "{name}");
        }
    }
}
