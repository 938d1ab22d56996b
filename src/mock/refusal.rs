//! What goes wrong, as an answer in the caller's dialect.

use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::{
    call::{Dialect, request_id},
    reply::Reply,
};

#[derive(Debug)]
pub(super) enum Refusal {
    Failed,
    Malformed(String),
    Throttled,
    TooLarge,
    UnknownModel(String),
    UnknownPath,
    Unread(String),
}

impl Refusal {
    pub(super) fn reply(&self, dialect: Dialect, headers: &HeaderMap) -> Reply {
        let status = self.status();
        let document = match dialect {
            Dialect::Anthropic => json!({
                "type": "error",
                "error": { "type": self.anthropic(), "message": self.message() },
                "request_id": request_id(headers),
            }),
            Dialect::Gemini => json!({
                "error": { "code": status.as_u16(), "message": self.message(), "status": self.gemini() },
            }),
            Dialect::OpenAi => {
                let (kind, code) = self.openai();
                json!({ "error": { "message": self.message(), "type": kind, "param": null, "code": code } })
            }
        };
        let mut reply = Reply::document(status, &document, false);
        let headers = reply.answer.headers_mut();
        match self {
            Self::Failed => {}
            Self::Throttled => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            // Unlike the two above these are not played: the request cannot be answered.
            _ => {
                headers.insert("tollgate-refused-by", HeaderValue::from_static("mock"));
            }
        }
        reply
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Failed => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Malformed(_) | Self::Unread(_) => StatusCode::BAD_REQUEST,
            Self::Throttled => StatusCode::TOO_MANY_REQUESTS,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnknownModel(_) | Self::UnknownPath => StatusCode::NOT_FOUND,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Failed => "The mock provider failed, as the model `e500` does.".to_owned(),
            Self::Malformed(why) => {
                format!("The mock provider cannot read the request's body: {why}.")
            }
            Self::Throttled => {
                "The mock provider asks for patience, as the model `e429` does.".to_owned()
            }
            Self::TooLarge => "The request's body is too large for the mock provider.".to_owned(),
            Self::UnknownModel(name) => format!(
                "The mock provider has no model `{}`; try `echo`, or list them at /v1/models.",
                name.chars().take(SHOWN).collect::<String>(),
            ),
            Self::UnknownPath => "The mock provider has nothing at this path.".to_owned(),
            Self::Unread(why) => format!("The request's body broke off: {why}."),
        }
    }

    fn openai(&self) -> (&'static str, Value) {
        match self {
            Self::Failed => ("server_error", Value::Null),
            Self::Malformed(_) | Self::Unread(_) => ("invalid_request_error", Value::Null),
            Self::Throttled => ("rate_limit_error", json!("rate_limit_exceeded")),
            Self::TooLarge => ("invalid_request_error", json!("request_too_large")),
            Self::UnknownModel(_) => ("invalid_request_error", json!("model_not_found")),
            Self::UnknownPath => ("invalid_request_error", json!("not_found")),
        }
    }

    fn anthropic(&self) -> &'static str {
        match self {
            Self::Failed => "api_error",
            Self::Malformed(_) | Self::Unread(_) => "invalid_request_error",
            Self::Throttled => "rate_limit_error",
            Self::TooLarge => "request_too_large",
            Self::UnknownModel(_) | Self::UnknownPath => "not_found_error",
        }
    }

    fn gemini(&self) -> &'static str {
        match self {
            Self::Failed => "INTERNAL",
            Self::Malformed(_) | Self::TooLarge | Self::Unread(_) => "INVALID_ARGUMENT",
            Self::Throttled => "RESOURCE_EXHAUSTED",
            Self::UnknownModel(_) | Self::UnknownPath => "NOT_FOUND",
        }
    }
}

/// Characters of an unknown model's name that its refusal repeats.
const SHOWN: usize = 64;
