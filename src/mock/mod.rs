//! A provider that needs no key and no network, for trying out, demonstrating and testing a gateway.
//!
//! [`Mock`] is a service that answers HTTP requests the way the well-known providers do. It speaks
//!
//! * OpenAI: `chat/completions`, `completions`, `responses`, `embeddings`, `models`;
//! * Anthropic: `messages`, `messages/count_tokens`, `models`;
//! * Gemini: `models/M:generateContent`, `:streamGenerateContent` (with `alt=sse` as events, without as one JSON
//!   array), `:countTokens`, `models`.
//!
//! Paths are taken with the prefix `/v1`, `/v1beta` or none. Credentials and content types are not looked at: a body
//! is JSON if it parses. What is not JSON is a 400, an unknown model or path a 404, a body over
//! [`MAX_REQUEST`] bytes a 413, each in the caller's dialect and marked `tollgate-refused-by: mock`.
//!
//! # Models
//!
//! The part of the model's name behind the last `/` says how the provider behaves:
//!
//! | model | behaviour |
//! |---|---|
//! | `echo` | says `Echo: ` and the last text of the user |
//! | `slow` | as `echo`, 100 ms for each word; a stream begins at once, a document comes when all is said |
//! | `long` | 400 words |
//! | `cut` | a stream dies after three events, a document in its middle (its whole length announced) |
//! | `e429` | 429 with `retry-after: 1` |
//! | `e500` | 500 |
//! | `count-N` | says the numbers from 1 to N, one content event each; N is at most 100000 |
//!
//! # Text and usage
//!
//! Streamed text comes word by word, white space with the word before it, so that the joined pieces are the whole text.
//! Prompt tokens are the white-space separated words of all texts of the request, at least 1; completion tokens are the
//! words of the answer. The answer's id contains the request's `x-client-request-id`, else its `x-request-id`, else
//! `mock`.
//!
//! # Examples
//!
//! ```
//! use http_body_util::{BodyExt, Full};
//! use tollgate::mock::Mock;
//! use tower::ServiceExt;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower::BoxError> {
//! let request = http::Request::post("/v1/chat/completions").body(Full::new(bytes::Bytes::from_static(
//!     br#"{"model": "echo", "messages": [{"role": "user", "content": "hello"}]}"#,
//! )))?;
//! let answer = Mock.oneshot(request).await?.into_body().collect().await?.to_bytes();
//! let answer: serde_json::Value = serde_json::from_slice(&answer)?;
//! assert_eq!(answer["choices"][0]["message"]["content"], "Echo: hello");
//! # Ok(())
//! # }
//! ```

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use tower::BoxError;
use tower_service::Service;

mod answer;
mod anthropic;
mod body;
mod call;
mod chat;
mod embeddings;
mod future;
mod gemini;
mod listing;
mod model;
mod prompt;
mod refusal;
mod reply;
mod responses;
mod script;
mod text;

pub use self::{
    body::{Body, Cut},
    future::{MAX_REQUEST, ResponseFuture},
};

/// The provider; it has no state, is always ready and never fails.
///
/// What goes wrong with a request, a read error of its body included, is an answer. Dropping the future or the body of
/// an answer ends the answer; nothing runs on.
///
/// # Panics
///
/// The models `slow` and `cut` wait by tokio's clock and panic outside of a runtime with time enabled.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mock;

impl<B> Service<Request<B>> for Mock
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture<B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Request<B>) -> Self::Future {
        ResponseFuture::new(req)
    }
}

#[cfg(test)]
mod tests;
