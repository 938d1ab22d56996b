//! Where the token usage sits in a document or an event.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::{Dialect, Operation, Surface};
use crate::json::Value;

/// Token counts in the provider's own words: nothing is added up or subtracted.
///
/// What a word counts differs: Anthropic's `prompt` leaves cached tokens out, OpenAI's includes them;
/// Gemini's `completion` leaves reasoning out, OpenAI's includes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the input.
    pub prompt: Option<u64>,
    /// Tokens of the output.
    pub completion: Option<u64>,
    /// The provider's total, which need not be the sum of the others.
    pub total: Option<u64>,
    /// Input tokens read from a cache.
    pub cached: Option<u64>,
    /// Input tokens written to a cache.
    pub cache_write: Option<u64>,
    /// Output tokens spent on thinking.
    pub reasoning: Option<u64>,
}

impl Usage {
    /// Tokens of the whole input, those that went through a cache included.
    pub fn input(&self, dialect: Dialect) -> u64 {
        let prompt = self.prompt.unwrap_or(0);
        match dialect {
            // Theirs leaves out what went through a cache; elsewhere that is part of it.
            Dialect::Anthropic | Dialect::Bedrock => prompt
                .saturating_add(self.cached.unwrap_or(0))
                .saturating_add(self.cache_write.unwrap_or(0)),
            _ => prompt,
        }
    }

    /// Tokens of the whole output, thoughts included.
    pub fn output(&self, dialect: Dialect) -> u64 {
        let completion = self.completion.unwrap_or(0);
        if self.thinks_apart(dialect) {
            completion.saturating_add(self.reasoning.unwrap_or(0))
        } else {
            completion
        }
    }

    /// Whether thoughts come on top of the output: Gemini's do, and where the provider's numbers add up only so.
    pub(crate) fn thinks_apart(&self, dialect: Dialect) -> bool {
        let (thoughts, completion) = (self.reasoning.unwrap_or(0), self.completion.unwrap_or(0));
        let sum = self.prompt.unwrap_or(0).saturating_add(completion);
        dialect == Dialect::Gemini
            || thoughts > completion
            || thoughts > 0 && self.total == sum.checked_add(thoughts)
    }
}

/// The usage that a whole document or one event of a stream reports, if it does.
///
/// An event that cannot report any costs one search for a word.
pub fn usage(surface: &Surface, event: Value<'_>) -> Option<Usage> {
    report(surface, event).map(|(found, _)| found)
}

/// As [`usage`], and whether a field that is no count was found in the report: negative, a fraction, a text, too great.
pub fn report(surface: &Surface, event: Value<'_>) -> Option<(Usage, bool)> {
    let mut found = Report::default();
    if surface.operation == Operation::CountTokens {
        found.read(event);
    } else if MAY_REPORT
        .iter()
        .any(|word| word.find(event.raw()).is_some())
    {
        match surface.dialect {
            Dialect::Ollama => found.read(event),
            Dialect::Cohere => found.read_cohere(event),
            Dialect::Gemini => found.read_member(event, "usageMetadata"),
            Dialect::Bedrock => found.read_bedrock(event),
            _ => found.read_places(event),
        }
    }
    (found != Report::default()).then_some((found.usage, found.flawed))
}

/// The report that stands in these values, one after another, as [`report`] tells it.
#[cfg(feature = "meter")]
pub(crate) fn report_in<'a>(found: impl IntoIterator<Item = Value<'a>>) -> Option<(Usage, bool)> {
    let mut report = Report::default();
    for usage in found {
        report.read(usage);
    }
    (report != Report::default()).then_some((report.usage, report.flawed))
}

/// A report while it is read.
#[derive(Default, PartialEq)]
struct Report {
    usage: Usage,
    flawed: bool,
}

// ===== impl Usage =====

impl Usage {
    /// Takes over what `later` reports; what it leaves out stays. Reports are never added up.
    pub fn merge(&mut self, later: Self) {
        self.prompt = later.prompt.or(self.prompt);
        self.completion = later.completion.or(self.completion);
        self.total = later.total.or(self.total);
        self.cached = later.cached.or(self.cached);
        self.cache_write = later.cache_write.or(self.cache_write);
        self.reasoning = later.reasoning.or(self.reasoning);
    }
}

// ===== impl Report =====

impl Report {
    /// The places of OpenAI and Anthropic: beside the choices, in Groq's extension, in the message or
    /// response that an event wraps.
    fn read_places(&mut self, event: Value<'_>) {
        let [usage, wrapped @ ..] = event.pick(["usage", "x_groq", "message", "response"]);
        for wrapped in wrapped.into_iter().flatten() {
            self.read_member(wrapped, "usage");
        }
        if let Some(usage) = usage {
            self.read(usage);
        }
    }

    fn read_cohere(&mut self, event: Value<'_>) {
        for (name, value) in event.members() {
            match name.as_str().as_deref() {
                Some("usage" | "meta") => self.read_billing(value),
                Some("delta" | "response") => {
                    for part in ["usage", "meta"]
                        .into_iter()
                        .filter_map(|part| value.get(part))
                    {
                        self.read_billing(part);
                    }
                }
                _ => {}
            }
        }
    }

    /// Cohere's tokens as the model saw them; what is billed only where those are not told.
    fn read_billing(&mut self, usage: Value<'_>) {
        self.read(usage);
        match usage.get("tokens") {
            Some(tokens) => self.read(tokens),
            None => self.read_member(usage, "billed_units"),
        }
    }

    /// Converse's own words, or those of the model that InvokeModel wraps, with Bedrock's as a last resort.
    fn read_bedrock(&mut self, event: Value<'_>) {
        self.read_member(event, "amazon-bedrock-invocationMetrics");
        self.read_places(event);
        if let Some(metadata) = event.get("metadata") {
            self.read_member(metadata, "usage");
        }
        self.read(event);
    }

    fn read_member(&mut self, of: Value<'_>, name: &str) {
        if let Some(usage) = of.get(name) {
            self.read(usage);
        }
    }

    /// Reads a usage object. A field that is null or no whole number counts as not told.
    fn read(&mut self, usage: Value<'_>) {
        let found = &mut self.usage;
        for (name, value) in usage.members() {
            let Some(name) = name.decoded() else {
                continue;
            };
            let field = match &*name {
                b"prompt_tokens"
                | b"input_tokens"
                | b"inputTokens"
                | b"promptTokenCount"
                | b"prompt_eval_count"
                | b"inputTextTokenCount"
                | b"inputTokenCount" => &mut found.prompt,
                b"completion_tokens"
                | b"output_tokens"
                | b"outputTokens"
                | b"candidatesTokenCount"
                | b"eval_count"
                | b"totalOutputTextTokenCount"
                | b"outputTokenCount" => &mut found.completion,
                b"total_tokens" | b"totalTokens" | b"totalTokenCount" => &mut found.total,
                b"cache_read_input_tokens"
                | b"cacheReadInputTokens"
                | b"cached_tokens"
                | b"cachedContentTokenCount" => &mut found.cached,

                b"prompt_cache_hit_tokens" if found.cached.is_none() => &mut found.cached,
                b"cache_creation_input_tokens" | b"cacheWriteInputTokens" => &mut found.cache_write,
                b"thoughtsTokenCount" => &mut found.reasoning,
                b"prompt_tokens_details" | b"input_tokens_details" => {
                    found.cached = whole(value, "cached_tokens").or(found.cached);
                    if *name == *b"prompt_tokens_details" {
                        found.cache_write =
                            whole(value, "cache_write_tokens").or(found.cache_write);
                    }
                    continue;
                }
                b"completion_tokens_details" | b"output_tokens_details" => {
                    let told = whole(value, "reasoning_tokens")
                        .or_else(|| whole(value, "thinking_tokens"));
                    found.reasoning = told.or(found.reasoning);
                    continue;
                }
                _ => continue,
            };
            let told = count(value);
            self.flawed |= told.is_none() && !value.is_null();
            *field = told.or(*field);
        }
    }
}

fn whole(of: Value<'_>, name: &str) -> Option<u64> {
    count(of.get(name)?)
}

/// A count of tokens. What no double holds exactly is none: nobody counts that far, and readers of logs would round it.
fn count(value: Value<'_>) -> Option<u64> {
    value.as_u64().filter(|count| *count < 1 << 53)
}

/// Words without which nothing is reported: `usage`, Cohere's `meta`, Ollama's and Titan's counts.
static MAY_REPORT: LazyLock<[Finder<'static>; 4]> =
    LazyLock::new(|| ["\"usage", "_count\"", "\"meta\"", "TokenCount\""].map(Finder::new));

#[cfg(test)]
mod tests;
