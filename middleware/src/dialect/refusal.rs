//! What a provider's own refusal says, as far as it decides where else to ask.

use crate::json::{Kind, Value};

/// A refusal that is not about the request itself, but about where it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The prompt does not fit into the model's context.
    Overflow,
    /// Nothing is left to spend.
    Quota,
}

impl Refusal {
    /// What the body of an error says; `None` for everything else.
    ///
    /// OpenAI and those who speak like it have codes. Anthropic and Gemini have none for an overflow, but a sentence that has not
    /// changed since their APIs began.
    pub fn of(body: &[u8]) -> Option<Self> {
        let root = Value::parse(body.trim_ascii())?;
        // Gemini's errors may stand in an array.
        let root = match root.kind() {
            Kind::Array => root.items().next()?,
            _ => root,
        };
        let error = root
            .get("error")
            .filter(|error| error.kind() == Kind::Object)?;
        let is = |member: &str, word: &str| error.get(member).is_some_and(|it| it.is_str(word));
        if is("code", "context_length_exceeded") || is("type", "context_length_exceeded") {
            return Some(Self::Overflow);
        }
        if is("code", "insufficient_quota") || is("type", "insufficient_quota") {
            return Some(Self::Quota);
        }
        let message = error.get("message")?.as_str()?;
        let anthropic =
            is("type", "invalid_request_error") && message.starts_with("prompt is too long");
        let gemini = is("status", "INVALID_ARGUMENT")
            && message.contains("input token count")
            && message.contains("exceeds the maximum");
        (anthropic || gemini).then_some(Self::Overflow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_by_their_codes_and_sentences() {
        let cases = [
            (
                r#"{"error":{"message":"too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
                Some(Refusal::Overflow),
            ),
            (
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 208310 tokens > 200000 maximum"}}"#,
                Some(Refusal::Overflow),
            ),
            (
                r#"[{"error":{"code":400,"status":"INVALID_ARGUMENT","message":"The input token count (1100000) exceeds the maximum number of tokens allowed (1048576)."}}]"#,
                Some(Refusal::Overflow),
            ),
            (
                r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#,
                Some(Refusal::Quota),
            ),
            (
                r#"{"error":{"message":"say context_length_exceeded","type":"invalid_request_error","code":null}}"#,
                None,
            ),
            (r#"{"error":"context_length_exceeded"}"#, None),
            (r#"{"context_length_exceeded":{}}"#, None),
            ("<html>insufficient_quota</html>", None),
            ("", None),
        ];
        for (body, expected) in cases {
            assert_eq!(Refusal::of(body.as_bytes()), expected, "{body}");
        }
    }
}
