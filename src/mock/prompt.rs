//! The texts of a request, whatever its dialect.

use serde_json::Value;

use super::text;

/// What the user said last: the text of the last message of the user that has any, its parts joined.
pub(super) fn last_user_text(request: &Value) -> String {
    let request = inner(request);
    let said = MESSAGES
        .into_iter()
        .filter_map(|key| request.get(key))
        .next();
    match said {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => items.iter().rev().find_map(user_text).unwrap_or_default(),
        Some(one) => user_text(one).unwrap_or_default(),
        None => String::new(),
    }
}

/// The words of all texts of the request, at least 1.
pub(super) fn words(request: &Value) -> u64 {
    let request = inner(request);
    let keys = MESSAGES.into_iter().chain(INSTRUCTIONS);
    let words: u64 = keys.filter_map(|key| request.get(key)).map(all_words).sum();
    words.max(1)
}

/// The words below `value`: strings in lists and under the keys that hold text.
pub(super) fn all_words(value: &Value) -> u64 {
    match value {
        Value::String(said) => text::words(said),
        Value::Array(items) => items.iter().map(all_words).sum(),
        Value::Object(map) => TEXTS
            .into_iter()
            .filter_map(|key| map.get(key))
            .map(all_words)
            .sum(),
        Value::Bool(_) | Value::Null | Value::Number(_) => 0,
    }
}

/// Gemini's countTokens may wrap a whole request.
fn inner(request: &Value) -> &Value {
    request.get("generateContentRequest").unwrap_or(request)
}

/// A message of the user, or a bare string, as the prompts of the older completions are.
fn user_text(message: &Value) -> Option<String> {
    if let Value::String(text) = message {
        return Some(text.clone());
    }
    let parts = match message.get("role").and_then(Value::as_str) {
        Some("user") => ["content", "parts"]
            .into_iter()
            .find_map(|key| message.get(key))?,
        // Gemini lets a lone message go without a role.
        None => message.get("parts")?,
        Some(_) => return None,
    };
    match parts {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => {
            let mut texts = parts.iter().filter_map(part_text).peekable();
            texts.peek()?;
            Some(texts.collect())
        }
        one => part_text(one).map(str::to_owned),
    }
}

fn part_text(part: &Value) -> Option<&str> {
    part.as_str().or_else(|| part.get("text")?.as_str())
}

const MESSAGES: [&str; 4] = ["messages", "input", "contents", "prompt"];
const INSTRUCTIONS: [&str; 4] = [
    "system",
    "instructions",
    "systemInstruction",
    "system_instruction",
];
const TEXTS: [&str; 6] = [
    "text",
    "content",
    "parts",
    "output",
    "input_text",
    "refusal",
];
