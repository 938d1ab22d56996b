//! Errors of the gateway's own, in the words of each dialect.
//!
//! Texts are the gateway's: nothing an upstream said is quoted here.

use super::{Dialect, Framing, Operation, Surface};
use crate::json::escape_into;

/// What an error of ours tells.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// HTTP status, or the one it would have had before the first byte.
    pub status: u16,
    /// OpenAI's `type`.
    pub kind: &'a str,
    /// OpenAI's `code`.
    pub code: &'a str,
    /// Who speaks and what to do.
    pub message: &'a str,
    /// The request's id, for dialects that repeat it in the body.
    pub request_id: &'a str,
}

/// The shape of an error body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// `{"error":{"message","type","param","code"}}`
    OpenAi,
    /// `{"type":"error","error":{"type","message"},"request_id"}`
    Anthropic,
    /// `{"error":{"code","message","status","details"}}`
    Gemini,
    /// `{"error":"text"}`
    Ollama,
    /// `{"message":"text"}`
    Cohere,
    /// `{"message":"text"}`
    Bedrock,
    /// For an unknown dialect: satisfies the SDKs of OpenAI and of Anthropic.
    Neutral,
}

impl Shape {
    /// The shape that the callers of a surface understand.
    pub const fn of(surface: Option<&Surface>) -> Self {
        let Some(surface) = surface else {
            return Self::Neutral;
        };
        match surface.dialect {
            Dialect::OpenAi | Dialect::Azure | Dialect::Mock => Self::OpenAi,
            Dialect::Anthropic => Self::Anthropic,
            Dialect::Gemini => Self::Gemini,
            Dialect::Ollama => Self::Ollama,
            Dialect::Cohere => Self::Cohere,
            Dialect::Bedrock => Self::Bedrock,
            Dialect::Raw => Self::Neutral,
        }
    }

    /// The status to answer with: Anthropic's clients know 503 as 529.
    pub const fn status(self, status: u16) -> u16 {
        match (self, status) {
            (Self::Anthropic, 503) => 529,
            (_, status) => status,
        }
    }
}

/// The JSON body of an error answer. Its status is `shape.status(told.status)`.
pub fn error_body(shape: Shape, told: &Told<'_>) -> Vec<u8> {
    let mut out = Json::new();
    match shape {
        Shape::OpenAi => out.raw(r#"{"error":"#).openai(told).raw("}"),
        Shape::Anthropic => out
            .raw(r#"{"type":"error","error":{"type":"#)
            .text(anthropic_type(told.status))
            .raw(r#","message":"#)
            .text(told.message)
            .raw(r#"},"request_id":"#)
            .text(told.request_id)
            .raw("}"),
        Shape::Gemini => out.raw(r#"{"error":"#).google(told).raw("}"),
        Shape::Ollama => out.raw(r#"{"error":"#).text(told.message).raw("}"),
        Shape::Cohere | Shape::Bedrock => out.raw(r#"{"message":"#).text(told.message).raw("}"),
        Shape::Neutral => out
            .raw(r#"{"type":"error","error":"#)
            .openai(told)
            .raw(r#","request_id":"#)
            .text(told.request_id)
            .raw("}"),
    };
    out.0
}

/// The event that ends a stream of ours in an error, to be sent at an event boundary only.
///
/// `None` where no such event exists: in an array, a binary event stream, one document, unknown bytes, and
/// in an event stream of an unknown surface. Breaking the transport is all that is left there.
pub fn error_event(
    surface: Option<&Surface>,
    framing: Framing,
    told: &Told<'_>,
) -> Option<Vec<u8>> {
    let mut out = Json::new();
    match (framing, surface?.dialect, surface?.operation) {
        (Framing::Lines, ..) => out.raw(r#"{"error":"#).text(told.message).raw("}\n"),
        (Framing::Sse, Dialect::OpenAi | Dialect::Azure | Dialect::Mock, Operation::Responses) => out
            .raw("event: response.failed\ndata: ")
            .raw(r#"{"type":"response.failed","response":{"object":"response","status":"failed","error":{"code":"#)
            .text(told.code)
            .raw(r#","message":"#)
            .text(told.message)
            .raw("},\"incomplete_details\":null,\"output\":[],\"usage\":null}}\n\n"),
        (Framing::Sse, Dialect::OpenAi | Dialect::Azure | Dialect::Mock | Dialect::Cohere, _) => {
            out.raw(r#"data: {"error":"#).openai(told).raw("}\n\n")
        }
        (Framing::Sse, Dialect::Anthropic, _) => out
            .raw("event: error\n")
            .raw(r#"data: {"type":"error","error":{"type":"api_error","message":"#)
            .text(told.message)
            .raw("}}\n\n"),
        (Framing::Sse, Dialect::Gemini, _) => out.raw(r#"data: {"error":"#).google(told).raw("}\n\n"),
        _ => return None,
    };
    Some(out.0)
}

/// Anthropic's error types by status; what it does not list is an `api_error`.
const fn anthropic_type(status: u16) -> &'static str {
    match status {
        400 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        _ => "api_error",
    }
}

/// Google's canonical codes by HTTP status: `google.rpc.Code`.
const fn google_status(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        499 => "CANCELLED",
        405 | 501 => "UNIMPLEMENTED",
        408 | 504 => "DEADLINE_EXCEEDED",
        502 | 503 | 529 => "UNAVAILABLE",
        400..=498 => "INVALID_ARGUMENT",
        _ => "INTERNAL",
    }
}

/// JSON being written.
struct Json(Vec<u8>);

impl Json {
    fn new() -> Self {
        Self(Vec::with_capacity(256))
    }

    fn raw(&mut self, json: &str) -> &mut Self {
        self.0.extend_from_slice(json.as_bytes());
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        escape_into(text, &mut self.0);
        self
    }

    fn openai(&mut self, told: &Told<'_>) -> &mut Self {
        self.raw(r#"{"message":"#)
            .text(told.message)
            .raw(r#","type":"#)
            .text(told.kind)
            .raw(r#","param":null,"code":"#)
            .text(told.code)
            .raw("}")
    }

    fn google(&mut self, told: &Told<'_>) -> &mut Self {
        self.raw(r#"{"code":"#)
            .raw(&told.status.to_string())
            .raw(r#","message":"#)
            .text(told.message)
            .raw(r#","status":"#)
            .text(google_status(told.status))
            .raw(r#","details":[]}"#)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const TOLD: Told<'_> = Told {
        status: 503,
        kind: "server_error",
        code: "no_target",
        message: "tollgate: \"no\" target\n\u{1}é\\",
        request_id: "r-1",
    };

    fn body(shape: Shape, told: &Told<'_>) -> Value {
        serde_json::from_slice(&error_body(shape, told)).expect("valid JSON")
    }

    fn event(dialect: Dialect, operation: Operation, framing: Framing) -> Option<String> {
        let surface = Surface {
            dialect,
            operation,
            prefix: 0..0,
            model: None,
            stream: None,
        };
        error_event(Some(&surface), framing, &TOLD)
            .map(|event| String::from_utf8(event).expect("UTF-8"))
    }

    #[test]
    fn every_dialect_gets_its_own_body() {
        let openai = json!({"message": TOLD.message, "type": "server_error", "param": null, "code": "no_target"});
        assert_eq!(body(Shape::OpenAi, &TOLD), json!({"error": openai}));
        assert_eq!(
            body(Shape::Neutral, &TOLD),
            json!({"type": "error", "error": openai, "request_id": "r-1"})
        );
        assert_eq!(
            body(Shape::Anthropic, &TOLD),
            json!({"type": "error", "error": {"type": "overloaded_error", "message": TOLD.message}, "request_id": "r-1"})
        );
        assert_eq!(
            body(Shape::Gemini, &TOLD),
            json!({"error": {"code": 503, "message": TOLD.message, "status": "UNAVAILABLE", "details": []}})
        );
        assert_eq!(body(Shape::Ollama, &TOLD), json!({"error": TOLD.message}));
        assert_eq!(body(Shape::Cohere, &TOLD), json!({"message": TOLD.message}));
        assert_eq!(
            body(Shape::Bedrock, &TOLD),
            json!({"message": TOLD.message})
        );
    }

    #[test]
    fn anthropic_and_google_name_the_status_in_their_words() {
        let kind =
            |status| body(Shape::Anthropic, &Told { status, ..TOLD })["error"]["type"].clone();
        assert_eq!(kind(401), "authentication_error");
        assert_eq!(kind(413), "request_too_large");
        assert_eq!(kind(502), "api_error");
        let status =
            |status| body(Shape::Gemini, &Told { status, ..TOLD })["error"]["status"].clone();
        assert_eq!(status(400), "INVALID_ARGUMENT");
        assert_eq!(status(429), "RESOURCE_EXHAUSTED");
        assert_eq!(status(504), "DEADLINE_EXCEEDED");
        assert_eq!(status(500), "INTERNAL");
        assert_eq!(Shape::Anthropic.status(503), 529);
        assert_eq!(Shape::OpenAi.status(503), 503);
    }

    #[test]
    fn an_error_event_is_one_whole_event_in_the_dialect() {
        let data = |event: &str, head: &str| -> Value {
            let data = event
                .strip_prefix(head)
                .and_then(|rest| rest.strip_suffix("\n\n"))
                .expect("one event");
            assert!(!data.contains('\n'));
            serde_json::from_str(data).expect("valid JSON")
        };
        let chat = event(Dialect::Azure, Operation::Chat, Framing::Sse).expect("an event");
        assert_eq!(data(&chat, "data: ")["error"]["code"], "no_target");
        let responses =
            event(Dialect::OpenAi, Operation::Responses, Framing::Sse).expect("an event");
        let responses = data(&responses, "event: response.failed\ndata: ");
        assert_eq!(responses["type"], "response.failed");
        assert_eq!(responses["response"]["status"], "failed");
        assert_eq!(
            responses["response"]["error"],
            json!({"code": "no_target", "message": TOLD.message})
        );
        let messages =
            event(Dialect::Anthropic, Operation::Messages, Framing::Sse).expect("an event");
        assert_eq!(
            data(&messages, "event: error\ndata: "),
            json!({"type": "error", "error": {"type": "api_error", "message": TOLD.message}})
        );
        let gemini = event(Dialect::Gemini, Operation::Generate, Framing::Sse).expect("an event");
        assert_eq!(data(&gemini, "data: ")["error"]["status"], "UNAVAILABLE");
        let ollama = event(Dialect::Ollama, Operation::Chat, Framing::Lines).expect("a line");
        assert_eq!(ollama.matches('\n').count(), 1);
        assert_eq!(
            serde_json::from_str::<Value>(&ollama).expect("valid JSON"),
            json!({"error": TOLD.message})
        );
    }

    #[test]
    fn where_no_event_can_be_told_none_is() {
        for framing in [
            Framing::Array,
            Framing::EventStream,
            Framing::Document,
            Framing::Opaque,
        ] {
            assert_eq!(event(Dialect::Gemini, Operation::Generate, framing), None);
        }
        assert!(error_event(None, Framing::Sse, &TOLD).is_none());
    }
}
