//! What a provider's own refusal says, as far as it decides where else to ask.

use super::ending::tells;
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
        let error = root(body)?
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

/// Whether a document is nothing but an error, whatever its status says: an `error` that tells of one, and no output beside it.
pub fn is_error(document: &[u8]) -> bool {
    let Some(root) = root(document) else {
        return false;
    };
    let has_output = |member: &str| {
        let output = root.get(member).filter(|it| it.kind() == Kind::Array);
        output.is_some_and(|output| output.items().next().is_some())
    };
    root.get("error").is_some_and(tells) && !OUTPUT.iter().any(|member| has_output(member))
}

/// Gemini's errors may stand in an array.
fn root(document: &[u8]) -> Option<Value<'_>> {
    let root = Value::parse(document.trim_ascii())?;
    match root.kind() {
        Kind::Array => root.items().next(),
        _ => Some(root),
    }
}

/// Where documents keep their output: Gemini, OpenAI, Anthropic, Responses.
const OUTPUT: [&str; 4] = ["candidates", "choices", "content", "output"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_an_error_if_it_tells_one_and_has_no_output() {
        for (document, error) in [
            (r#"{"error":{"message":"overloaded","code":503}}"#, true),
            (r#" {"error":"model is loading"} "#, true),
            (
                r#"{"type":"error","error":{"type":"overloaded_error"}}"#,
                true,
            ),
            (r#"[{"error":{"code":503,"status":"UNAVAILABLE"}}]"#, true),
            (
                r#"{"status":"failed","output":[],"error":{"code":"server_error"}}"#,
                true,
            ),
            (r#"{"choices":[{"index":0}],"error":{"code":1}}"#, false),
            (
                r#"{"output":[{"type":"message"}],"error":{"code":"x"}}"#,
                false,
            ),
            (r#"{"status":"completed","output":[],"error":null}"#, false),
            (r#"{"choices":[],"error":""}"#, false),
            (
                r#"{"choices":[{"message":{"content":"{\"error\":1}"}}]}"#,
                false,
            ),
            (r#"{"error":{"#, false),
            ("[]", false),
            ("", false),
        ] {
            assert_eq!(is_error(document.as_bytes()), error, "{document}");
        }
    }

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
