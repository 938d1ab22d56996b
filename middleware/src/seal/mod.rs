//! Owns how an answer ends towards the client: a broken one never looks whole.
//!
//! Contract
//! - *Reads*: [`Conn`](crate::conn::Conn), [`Record`](crate::record::Record) (or the head itself), the answer's head.
//! - *Writes*: [`Record`](crate::record::Record): why an answer broke off; that it edited, if it added an
//!   event or a frame.
//! - *Refuses*: nothing before the head.
//! - *Bodies*: watched for event boundaries; at the end of a broken one an error event is added, into a silent one keep-alive frames.
//! - *Ready*: forwards.
//! - *Place*: outside everything that can break an answer off, inside `record`.
//!
//! When the body inside fails, or the server asks for a [cut](crate::conn::Cut):
//! 1. at an event boundary, one error event in the caller's dialect is added; inside an event, or
//!    where a dialect has no such event, nothing;
//! 2. everything written so far is flushed to the socket: hyper loses the last frames of a body that
//!    fails, so the failure waits for the transport's acknowledgement, a second at the most;
//! 3. the body fails, and so breaks the transport. An answer without any framing (an HTTP/1.0
//!    client) is broken by a reset, which [`Conn`](crate::conn::Conn) asks the server for.
//!
//! What a body inside [keeps back](crate::conn::Conn::withhold) of what has come is handed over before the server's cut.
//!
//! An answer that announced its length gets the event only if at least one byte stays unsent after
//! it: the transport trims a body to its length, and an event that fits exactly would turn a cut
//! into a clean end. A stream that carried the provider's own error event gets no second one, and
//! nothing is added behind the mark of a stream that is complete.
//!
//! **Keep-alive.** With [`SealLayer::keepalive`] a stream that is silent between two events gets a frame that its clients read over
//! ([`keep_alive`](crate::dialect::keep_alive) of its dialect), so that nobody between takes it for dead. Silence is what the provider does not
//! send while the client would take it. Nothing is put into an event, before the head, behind the end of a stream, into an answer of an
//! announced length, or where the dialect has no such frame. It is an edit by `seal`, and no clock towards the provider hears of it.
//!
//! Without a [`Conn`](crate::conn::Conn) the flush cannot be observed: the failure is then put off by one turn of the
//! task, in which a server with room in its socket writes what it has.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::BodyExt;
//! use tollgate_middleware::{error::{BoxError, Reason, Rejection}, seal::SealLayer};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # struct Broken(bool);
//! # impl http_body::Body for Broken {
//! #     type Data = Bytes;
//! #     type Error = BoxError;
//! #     fn poll_frame(mut self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>)
//! #         -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
//! #         std::task::Poll::Ready(Some(if std::mem::replace(&mut self.0, true) {
//! #             Err(Rejection::new(Reason::Truncated, "upstream", "it broke off").into())
//! #         } else {
//! #             Ok(http_body::Frame::data(Bytes::from("data: {}\n\n")))
//! #         }))
//! #     }
//! # }
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! // `Broken` is a body that gives one event and then fails.
//! let service = ServiceBuilder::new().layer(SealLayer::new()).service(service_fn(async |_| {
//!     let answer = Response::builder().header("content-type", "text/event-stream");
//!     Ok::<_, BoxError>(answer.body(Broken(false)).unwrap())
//! }));
//! let request = Request::post("/v1/chat/completions").body(()).unwrap();
//! let mut body = std::pin::pin!(service.oneshot(request).await.unwrap().into_body());
//! assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "data: {}\n\n");
//! let told = body.frame().await.unwrap().unwrap().into_data().unwrap();
//! assert!(told.starts_with(b"data: {\"error\":"));
//! assert!(body.frame().await.unwrap().is_err(), "the transport is broken too");
//! # });
//! ```

mod alive;
mod body;
mod seam;
mod service;

#[cfg(test)]
mod tests;

pub use self::{
    body::ResponseBody,
    service::{ResponseFuture, Seal, SealLayer},
};

/// How long a failure waits for the flush of what came before it.
const FLUSH: std::time::Duration = std::time::Duration::from_secs(1);
