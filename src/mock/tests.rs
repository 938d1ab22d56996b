//! Every model in every API, streamed and not; and that what comes back is what was said.

mod apis;
mod endings;
mod refusals;
mod served;
mod texts;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::ServiceExt;

use super::Mock;

/// An API and a way of asking it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Chat,
    Completions,
    Responses,
    Messages,
    Gemini,
    GeminiArray,
}

const WAYS: [Way; 6] = [
    Way::Chat,
    Way::Completions,
    Way::Responses,
    Way::Messages,
    Way::Gemini,
    Way::GeminiArray,
];

/// What came back, to its end.
#[derive(Debug)]
struct Seen {
    status: StatusCode,
    headers: HeaderMap,
    /// When the head was there, then when each frame was.
    head_at: Duration,
    frames: Vec<(Duration, Bytes)>,
    error: Option<String>,
}

async fn ask(method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Seen {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body.into())).unwrap();
    let start = Instant::now();
    let (head, body) = Mock.oneshot(request).await.unwrap().into_parts();
    let mut seen = Seen {
        status: head.status,
        headers: head.headers,
        head_at: start.elapsed(),
        frames: Vec::new(),
        error: None,
    };
    let announced = body.size_hint().exact();
    let mut body = std::pin::pin!(body);
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => seen
                .frames
                .push((start.elapsed(), frame.into_data().unwrap())),
            Err(error) => seen.error = Some(error.to_string()),
        }
    }
    assert!(body.is_end_stream(), "a body that has ended says so");
    if let (Some(length), None) = (announced, &seen.error) {
        assert_eq!(length, seen.bytes().len() as u64, "the size hint is exact");
    }
    seen
}

async fn post(path: &str, body: &Value) -> Seen {
    ask(Method::POST, path, &[], body.to_string()).await
}

impl Way {
    async fn say(self, model: &str, streamed: bool, text: &str) -> Seen {
        let (path, body) = self.request(model, streamed, text);
        ask(
            Method::POST,
            &path,
            &[("x-request-id", "r-1")],
            body.to_string(),
        )
        .await
    }

    fn request(self, model: &str, streamed: bool, text: &str) -> (String, Value) {
        let messages = json!([{ "role": "user", "content": text }]);
        match self {
            Self::Chat => (
                "/v1/chat/completions".to_owned(),
                json!({ "model": model, "stream": streamed, "messages": messages, "stream_options": { "include_usage": true } }),
            ),
            Self::Completions => (
                "/v1/completions".to_owned(),
                json!({ "model": model, "stream": streamed, "prompt": text, "stream_options": { "include_usage": true } }),
            ),
            Self::Responses => (
                "/v1/responses".to_owned(),
                json!({ "model": model, "stream": streamed, "input": text }),
            ),
            Self::Messages => (
                "/v1/messages".to_owned(),
                json!({ "model": model, "stream": streamed, "max_tokens": 9, "messages": messages }),
            ),
            Self::Gemini | Self::GeminiArray => {
                let verb = match (streamed, self) {
                    (false, _) => "generateContent",
                    (true, Self::Gemini) => "streamGenerateContent?alt=sse",
                    (true, _) => "streamGenerateContent",
                };
                (
                    format!("/v1beta/models/{model}:{verb}"),
                    json!({ "contents": [{ "role": "user", "parts": [{ "text": text }] }] }),
                )
            }
        }
    }

    /// The text that an answer of this API holds.
    fn text(self, seen: &Seen, streamed: bool) -> String {
        if !streamed {
            let pointer = match self {
                Self::Chat => "/choices/0/message/content",
                Self::Completions => "/choices/0/text",
                Self::Responses => "/output/0/content/0/text",
                Self::Messages => "/content/0/text",
                Self::Gemini | Self::GeminiArray => "/candidates/0/content/parts/0/text",
            };
            return string(&seen.json(), pointer);
        }
        let pointer = match self {
            Self::Chat => "/choices/0/delta/content",
            Self::Completions => "/choices/0/text",
            Self::Responses => "/delta",
            Self::Messages => "/delta/text",
            Self::Gemini | Self::GeminiArray => "/candidates/0/content/parts/0/text",
        };
        self.events(seen)
            .iter()
            .map(|event| string(event, pointer))
            .collect()
    }

    /// The events of a stream, `[DONE]` as a string, each frame one event.
    fn events(self, seen: &Seen) -> Vec<Value> {
        if self == Self::GeminiArray {
            let whole = if seen.error.is_some() {
                [seen.bytes().as_slice(), b"]"].concat()
            } else {
                seen.bytes()
            };
            return serde_json::from_slice(&whole).unwrap();
        }
        seen.frames
            .iter()
            .map(|(_, frame)| event(std::str::from_utf8(frame).unwrap()))
            .collect()
    }
}

/// One server-sent event: perhaps a name, which is then the type, and one line of data.
fn event(frame: &str) -> Value {
    let lines = frame.strip_suffix("\n\n").unwrap();
    let (name, data) = match lines.split_once('\n') {
        Some((name, data)) => (Some(name.strip_prefix("event: ").unwrap()), data),
        None => (None, lines),
    };
    let data = data.strip_prefix("data: ").unwrap();
    assert!(!data.contains(['\n', '\r']), "{data:?} is one line");
    if data == "[DONE]" {
        return json!(data);
    }
    let data: Value = serde_json::from_str(data).unwrap();
    assert!(
        name.is_none_or(|name| data["type"] == name),
        "{name:?} names {data}"
    );
    data
}

fn string(value: &Value, pointer: &str) -> String {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

impl Seen {
    fn bytes(&self) -> Vec<u8> {
        self.frames
            .iter()
            .flat_map(|(_, frame)| frame.to_vec())
            .collect()
    }

    fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json");
        serde_json::from_slice(&self.bytes()).unwrap()
    }
}
