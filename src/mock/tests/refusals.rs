//! What goes wrong, in the caller's dialect.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use http_body::Frame;

use super::*;

/// A request body of these frames.
struct Frames<I>(I);

impl<I> http_body::Body for Frames<I>
where
    I: Iterator<Item = io::Result<Frame<Bytes>>> + Unpin,
{
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(self.0.next())
    }
}

/// The dialect's error: its status where it has one, its kind and its message.
fn shaped(way: Way, seen: &Seen) -> (String, String) {
    let body = seen.json();
    let error = &body["error"];
    let message = string(error, "/message");
    match way {
        Way::Messages => {
            assert_eq!(
                (&body["type"], &body["request_id"]),
                (&json!("error"), &json!("r-1"))
            );
            (string(error, "/type"), message)
        }
        Way::Gemini | Way::GeminiArray => {
            assert_eq!(error["code"], seen.status.as_u16());
            (string(error, "/status"), message)
        }
        Way::Chat | Way::Completions | Way::Responses => {
            assert!(error["param"].is_null() && error.get("code").is_some());
            (string(error, "/type"), message)
        }
    }
}

/// By dialect: OpenAI, Anthropic, Gemini.
fn of(way: Way, [openai, anthropic, gemini]: [&str; 3]) -> String {
    match way {
        Way::Chat | Way::Completions | Way::Responses => openai.to_owned(),
        Way::Messages => anthropic.to_owned(),
        Way::Gemini | Way::GeminiArray => gemini.to_owned(),
    }
}

#[tokio::test]
async fn e429_and_e500_are_errors_of_the_dialect_streamed_and_not() {
    for way in WAYS {
        for streamed in [true, false] {
            let seen = way.say("e429", streamed, "hi").await;
            assert_eq!(
                (seen.status.as_u16(), &seen.headers["retry-after"]),
                (429, &"1".parse().unwrap())
            );
            let kind = of(
                way,
                ["rate_limit_error", "rate_limit_error", "RESOURCE_EXHAUSTED"],
            );
            assert_eq!(shaped(way, &seen).0, kind);
            let seen = way.say("e500", streamed, "hi").await;
            assert_eq!(seen.status, StatusCode::INTERNAL_SERVER_ERROR);
            assert_eq!(
                shaped(way, &seen).0,
                of(way, ["server_error", "api_error", "INTERNAL"])
            );
            assert!(
                !seen.headers.contains_key("tollgate-refused-by"),
                "it plays a provider's failure"
            );
        }
    }
}

#[tokio::test]
async fn an_unknown_model_is_not_found() {
    for way in WAYS {
        for name in ["Echo", "echo2", "gpt-5"] {
            let seen = way.say(name, true, "hi").await;
            assert_eq!(seen.status, StatusCode::NOT_FOUND, "{way:?} {name}");
            let (kind, message) = shaped(way, &seen);
            assert_eq!(
                kind,
                of(
                    way,
                    ["invalid_request_error", "not_found_error", "NOT_FOUND"]
                )
            );
            assert!(message.contains(name));
            assert_eq!(seen.headers["tollgate-refused-by"], "mock");
        }
    }
    let seen = Way::Chat.say("gpt-5", false, "hi").await.json();
    assert_eq!(seen["error"]["code"], "model_not_found");
    let long = format!("{}/echo", "x".repeat(300));
    let seen = Way::Chat.say(&long, false, "hi").await;
    assert!(seen.status == StatusCode::NOT_FOUND && seen.bytes().len() < 300);
}

#[tokio::test]
async fn a_body_that_is_no_request_is_refused() {
    for way in WAYS {
        let (path, _) = way.request("echo", false, "hi");
        for body in ["", "{", "[]", "\"echo\"", "{\"model\": \"echo\"", "\u{1}"] {
            let seen = ask(Method::POST, &path, &[("x-request-id", "r-1")], body).await;
            assert_eq!(seen.status, StatusCode::BAD_REQUEST, "{way:?} {body:?}");
            let kind = of(
                way,
                [
                    "invalid_request_error",
                    "invalid_request_error",
                    "INVALID_ARGUMENT",
                ],
            );
            assert_eq!(shaped(way, &seen).0, kind);
        }
    }
    let seen = post("/v1/chat/completions", &json!({ "messages": [] })).await;
    assert_eq!(seen.status, StatusCode::BAD_REQUEST, "no model");
    let deep = format!(
        "{{\"model\":\"echo\",\"input\":{}{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert_eq!(
        ask(Method::POST, "/v1/responses", &[], deep).await.status,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn other_paths_and_methods_are_not_found() {
    let unknown = [
        (Method::GET, "/"),
        (Method::GET, "/v1/chat/completions"),
        (Method::DELETE, "/v1/models"),
        (Method::POST, "/v2/chat/completions"),
        (Method::POST, "/v1chat/completions"),
        (Method::POST, "/v1beta/models/echo:embedContent"),
        (Method::POST, "/v1/audio/speech"),
    ];
    for (method, path) in unknown {
        let seen = ask(method, path, &[], "{}").await;
        assert_eq!(seen.status, StatusCode::NOT_FOUND, "{path}");
        assert!(!string(&seen.json(), "/error/message").is_empty());
    }
}

#[tokio::test]
async fn a_body_without_end_is_refused_before_it_fills_the_memory() {
    let megabyte = Bytes::from(vec![b' '; 1 << 20]);
    let frames = std::iter::repeat_with(move || Ok(Frame::data(megabyte.clone())));
    let request = Request::post("/v1/messages").body(Frames(frames)).unwrap();
    let answer = Mock.oneshot(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["error"]["type"], "request_too_large");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_a_bad_request() {
    let frames = [
        Ok(Frame::data(Bytes::from_static(b"{\"model"))),
        Err(io::Error::other("gone")),
    ];
    let body = Frames(frames.into_iter());
    let request = Request::post("/v1beta/models/echo:generateContent")
        .body(body)
        .unwrap();
    let answer = Mock.oneshot(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["error"]["status"], "INVALID_ARGUMENT");
    assert!(string(&body, "/error/message").contains("gone"));
}
