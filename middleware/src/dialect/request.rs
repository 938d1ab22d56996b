//! What a request asks for, read in one pass over the top of its body.

use std::{borrow::Cow, fmt, ops::Range};

use super::{Dialect, Operation, Surface};
use crate::json::{Kind, Value};

mod texts;

pub use self::texts::{Role, last_user_text, texts};

/// What a body asks for. Spans are of the bytes that were read.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked<'a> {
    /// The model that the body names; none where the path names it, whatever the body says.
    pub model: Option<Cow<'a, str>>,
    /// Where the model's value lies, quotes included.
    pub model_span: Option<Range<usize>>,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// How many alternatives are generated; at least 1.
    pub choices: u32,
    /// Every output limit that is set, in the order of the body.
    pub limits: Vec<Limit>,
    /// Whether a stream is to report its usage: `stream_options.include_usage`.
    pub include_usage: bool,
    /// Whether tools are offered.
    pub tools: bool,
    /// Who the body says the end user is: `user`, `safety_identifier`, Anthropic's `metadata.user_id`.
    pub user: Option<Cow<'a, str>>,
    /// The caller's own labels: `metadata`, an object.
    pub metadata: Option<Object<'a>>,
}

/// A member that is an object, compared by where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a>(pub Value<'a>);

/// An output limit in a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The member's path as the dialect spells it.
    pub name: &'static str,
    /// Where the value lies.
    pub span: Range<usize>,
    /// The limit in tokens; none for what is no non-negative whole number, such as Ollama's `-1`.
    pub value: Option<u64>,
}

/// A member has a type that no provider takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// The member's path.
    pub member: &'static str,
    /// Where its value begins.
    pub offset: usize,
}

/// Reads the checked body of a request. `null` is as good as absent.
///
/// # Errors
///
/// A body that is no object, a model or user that is no string, a switch that is no boolean, a number of choices that is no
/// whole number. Output limits are told as they are: what is a good one is for a policy to say.
pub fn read<'a>(surface: &Surface, root: Value<'a>) -> Result<Asked<'a>, Unfit> {
    if root.kind() != Kind::Object {
        return Err(Unfit {
            member: "",
            offset: root.span().start,
        });
    }
    let streams = matches!(surface.operation, Operation::Chat | Operation::Generate);
    let mut asked = Asked {
        model: None,
        model_span: None,
        stream: surface.dialect == Dialect::Ollama && streams,
        choices: 1,
        limits: Vec::new(),
        include_usage: false,
        tools: false,
        user: None,
        metadata: None,
    };
    for (name, value) in root.members().filter(|(_, value)| !value.is_null()) {
        if let Some(name) = name.as_str() {
            asked.member(surface, &name, value)?;
        }
    }
    if let Some(stream) = surface.stream {
        asked.stream = stream;
    }
    Ok(asked)
}

// ===== impl Asked =====

impl<'a> Asked<'a> {
    fn member(&mut self, surface: &Surface, name: &str, value: Value<'a>) -> Result<(), Unfit> {
        match name {
            "model" if surface.model.is_none() => {
                self.model = Some(string("model", value)?);
                self.model_span = Some(value.span());
            }
            "stream" => self.stream = boolean("stream", value)?,
            "n" => self.choices = self.choices.max(number("n", value)?),
            "best_of" => self.choices = self.choices.max(number("best_of", value)?),
            "max_tokens" => self.limit("max_tokens", value),
            "max_completion_tokens" => self.limit("max_completion_tokens", value),
            "max_output_tokens" => self.limit("max_output_tokens", value),
            "generationConfig" | "generation_config" => self.generation(value)?,
            "options" if surface.dialect == Dialect::Ollama => {
                self.limit_in(value, "num_predict", "options.num_predict");
            }
            "inferenceConfig" => self.limit_in(value, "maxTokens", "inferenceConfig.maxTokens"),
            "stream_options" => {
                if let Some(usage) = value.get("include_usage").filter(|usage| !usage.is_null()) {
                    self.include_usage = boolean("stream_options.include_usage", usage)?;
                }
            }
            "tools" | "functions" => self.tools |= value.items().next().is_some(),
            "toolConfig" => {
                self.tools |= value
                    .get("tools")
                    .is_some_and(|tools| tools.items().next().is_some());
            }
            "user" => self.user = Some(string("user", value)?),
            "safety_identifier" if self.user.is_none() => {
                self.user = Some(string("safety_identifier", value)?);
            }
            "metadata" => {
                self.metadata = (value.kind() == Kind::Object).then_some(Object(value));
                if surface.dialect == Dialect::Anthropic {
                    self.user = value.get("user_id").and_then(|id| id.as_str());
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Gemini's settings, in either spelling.
    fn generation(&mut self, config: Value<'a>) -> Result<(), Unfit> {
        for (name, value) in config.members().filter(|(_, value)| !value.is_null()) {
            match name.as_str().as_deref() {
                Some("maxOutputTokens" | "max_output_tokens") => {
                    self.limit("generationConfig.maxOutputTokens", value);
                }
                Some("candidateCount" | "candidate_count") => {
                    let count = number("generationConfig.candidateCount", value)?;
                    self.choices = self.choices.max(count);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn limit_in(&mut self, of: Value<'a>, member: &str, name: &'static str) {
        if let Some(value) = of.get(member).filter(|value| !value.is_null()) {
            self.limit(name, value);
        }
    }

    fn limit(&mut self, name: &'static str, value: Value<'a>) {
        self.limits.push(Limit {
            name,
            span: value.span(),
            value: value.as_u64(),
        });
    }
}

impl PartialEq for Object<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.raw() == other.0.raw()
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.member {
            "" => f.write_str("the body is not a JSON object"),
            member => write!(
                f,
                "member {member:?} has a wrong type at byte {}",
                self.offset
            ),
        }
    }
}

impl std::error::Error for Unfit {}

fn unfit(member: &'static str, value: Value<'_>) -> Unfit {
    Unfit {
        member,
        offset: value.span().start,
    }
}

fn string<'a>(member: &'static str, value: Value<'a>) -> Result<Cow<'a, str>, Unfit> {
    value.as_str().ok_or_else(|| unfit(member, value))
}

fn boolean(member: &'static str, value: Value<'_>) -> Result<bool, Unfit> {
    value.as_bool().ok_or_else(|| unfit(member, value))
}

fn number(member: &'static str, value: Value<'_>) -> Result<u32, Unfit> {
    let number = value.as_u64().ok_or_else(|| unfit(member, value))?;
    Ok(u32::try_from(number).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;
