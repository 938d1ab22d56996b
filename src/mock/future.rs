//! The answer to come: reads the request's body, then answers.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower::BoxError;

use super::{
    body::Body,
    call::dialect,
    refusal::Refusal,
    reply::{Reply, reply},
};

/// Bytes of a request body that are read; a longer one is answered with 413.
///
/// The limit that Anthropic documents for its Messages API, the largest of the three.
pub const MAX_REQUEST: usize = 32 << 20;

pin_project! {
    /// Resolves to the provider's answer.
    pub struct ResponseFuture<B> {
        head: Parts,
        #[pin]
        state: State<B>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<B> {
        // to Answer, when the body has ended, failed or grown too long
        Read { #[pin] body: B, read: Vec<u8> },
        // ends; the head is held back while a slow answer is being thought out
        Answer { #[pin] wait: Option<Sleep>, answer: Option<Response<Body>> },
    }
}

// ===== impl ResponseFuture =====

impl<B> ResponseFuture<B> {
    pub(super) fn new(req: Request<B>) -> Self {
        let (head, body) = req.into_parts();
        let read = Vec::new();
        Self {
            head,
            state: State::Read { body, read },
        }
    }
}

impl<B> Future for ResponseFuture<B>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProj::Read { body, read } => {
                    let Reply { wait, answer } = match ready!(poll_read(body, read, cx)) {
                        Ok(()) => reply(this.head, read, jiff::Timestamp::now().as_second()),
                        Err(refusal) => refusal.reply(dialect(this.head), &this.head.headers),
                    };
                    this.state.set(State::Answer {
                        wait: (!wait.is_zero()).then(|| tokio::time::sleep(wait)),
                        answer: Some(answer),
                    });
                }
                StateProj::Answer { wait, answer } => {
                    if let Some(sleep) = wait.as_pin_mut() {
                        ready!(sleep.poll(cx));
                    }
                    return Poll::Ready(Ok(answer.take().expect("polled after it was ready")));
                }
            }
        }
    }
}

impl<B> std::fmt::Debug for ResponseFuture<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

fn poll_read<B>(
    mut body: Pin<&mut B>,
    read: &mut Vec<u8>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Refusal>>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    while let Some(frame) = ready!(body.as_mut().poll_frame(cx)) {
        match frame.map(http_body::Frame::into_data) {
            Ok(Ok(data)) if data.len() > MAX_REQUEST - read.len() => {
                return Poll::Ready(Err(Refusal::TooLarge));
            }
            Ok(Ok(data)) => read.extend_from_slice(&data),
            Ok(Err(_trailers)) => {}
            Err(error) => return Poll::Ready(Err(Refusal::Unread(error.into().to_string()))),
        }
    }
    Poll::Ready(Ok(()))
}
