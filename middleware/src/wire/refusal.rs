use crate::{
    dialect::{METHODS, Shape, Told, error_body},
    error::Reason,
};

/// What is refused before it is a request, or before a whole one has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    reason: Reason,
    message: &'static str,
}

impl Refusal {
    pub(super) const fn malformed(message: &'static str) -> Self {
        Self {
            reason: Reason::Malformed,
            message,
        }
    }

    pub(super) const fn method() -> Self {
        Self {
            reason: Reason::MethodNotAllowed,
            message: "this method is not served by a gateway",
        }
    }

    pub(super) const fn head_too_large() -> Self {
        Self {
            reason: Reason::HeadersTooLarge,
            message: "the request head is too large, or has too many headers",
        }
    }

    pub(super) const fn uri_too_long() -> Self {
        Self {
            reason: Reason::UriTooLong,
            message: "the request target is too long",
        }
    }

    /// A head did not come in time. Whoever runs that clock says so, with [`Wire::refuse`](super::Wire::refuse).
    pub const fn slow() -> Self {
        Self {
            reason: Reason::RequestTimeout,
            message: "the request head came too slowly; send it again",
        }
    }

    /// Why.
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// What is said to the client: fixed words, nothing of what it sent.
    pub const fn message(&self) -> &'static str {
        self.message
    }

    /// The status of the answer.
    pub const fn status(&self) -> u16 {
        self.told().0
    }

    const fn told(&self) -> (u16, &'static str) {
        match self.reason {
            Reason::MethodNotAllowed => (405, "Method Not Allowed"),
            Reason::RequestTimeout => (408, "Request Timeout"),
            Reason::UriTooLong => (414, "URI Too Long"),
            Reason::HeadersTooLarge => (431, "Request Header Fields Too Large"),
            _ => (400, "Bad Request"),
        }
    }

    /// The whole answer. It names no dialect, because nobody knows one: the object satisfies the SDKs of OpenAI and of
    /// Anthropic. `request_id` is to be visible ASCII without quotes.
    pub fn answer(&self, request_id: Option<&str>) -> Vec<u8> {
        let (status, phrase) = self.told();
        let body = error_body(
            Shape::Neutral,
            &Told {
                status,
                kind: "invalid_request_error",
                code: self.reason.as_str(),
                message: &format!("tollgate: {}", self.message),
                request_id: request_id.unwrap_or_default(),
            },
        );
        let named = request_id.map_or_else(String::new, |id| format!("x-request-id: {id}\r\n"));
        let allow = match status {
            405 => format!("allow: {METHODS}\r\n"),
            _ => String::new(),
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} {phrase}\r\ncontent-type: application/json\r\ncache-control: no-store\r\n\
             tollgate-refused-by: wire\r\n{named}{allow}connection: close\r\ncontent-length: {length}\r\n\r\n"
        );
        [head.as_bytes(), &body].concat()
    }
}
