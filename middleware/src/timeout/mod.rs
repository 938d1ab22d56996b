//! Clocks for an answer: its head, its first output, its silences, its whole time.
//!
//! Contract
//! - *Reads*: [`Intent`](crate::facts::Intent): whether a stream was asked for (absent: a document).
//! - *Writes*: [`Deadline`](crate::facts::Deadline), where the whole has a limit; into the [`Record`](crate::record::Record) the word `timeout` of the
//!   attempt that was running.
//! - *Refuses*: [`UpstreamTimeout`](crate::error::Reason::UpstreamTimeout), before the head as an error, after it as a
//!   failure of the body. What was running inside is dropped at once.
//! - *Bodies*: watched; for `first_token` the bytes are read until the first output has been seen.
//! - *Ready*: forwards.
//! - *Place*: `total` outside retry, the other clocks once per target.
//!
//! | clock | runs from | until |
//! |---|---|---|
//! | `first_byte` | the call | the head of the answer |
//! | `first_token` | the call | the first generated output of a stream, of any kind |
//! | `idle` | the head, or the last byte | the next byte; waiting for the *reader* does not count |
//! | `min_rate` | the head | the end of the body, in spans of 30 s of waiting for the provider: so much has to come in each |
//! | `total` | the call | the end of the body |
//!
//! An answer in which output cannot be told from other bytes (compressed, binary, a document) has no
//! `first_token` clock. A client that reads nothing suspends the clocks of its body: nobody asks the body
//! for more until the client has taken what there is.
//!
//! Each clock that is not set does not run. A frame that arrives costs no timer: the moment is read
//! when the body has nothing more to give, and a timer that fires early is moved on.
//!
//! ```
//! use std::time::Duration;
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Empty;
//! use tollgate_middleware::{error::{BoxError, Reason, Rejection}, timeout::{TimeoutLayer, Timeouts}};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! let limits = Timeouts { total: Some(Duration::from_secs(30)), ..Timeouts::off() };
//! let service = ServiceBuilder::new().layer(TimeoutLayer::new(limits)).service(service_fn(
//!     async |_: Request<()>| {
//!         std::future::pending::<()>().await;
//!         Ok::<_, BoxError>(Response::new(http_body_util::combinators::BoxBody::<Bytes, BoxError>::default()))
//!     },
//! ));
//! let error = service.oneshot(Request::new(())).await.unwrap_err();
//! assert_eq!(Rejection::find(&*error).unwrap().reason(), Reason::UpstreamTimeout);
//! # });
//! ```

mod body;
mod clocks;
mod service;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::{
    body::ResponseBody,
    service::{ResponseFuture, Timeout, TimeoutLayer},
};

/// How long each part of an answer may take; `None` is for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To the head, if a stream was asked for.
    pub first_byte_stream: Option<Duration>,
    /// To the head, if a document was asked for.
    pub first_byte_document: Option<Duration>,
    /// To the first output of a stream.
    pub first_token: Option<Duration>,
    /// Between two reads that bring bytes.
    pub idle: Option<Duration>,
    /// Bytes a second that an answer brings at least; taken over each 30 seconds in which the provider was waited for.
    pub min_rate: Option<u64>,
    /// From the call to the end.
    pub total: Option<Duration>,
}

impl Timeouts {
    /// No clock runs.
    pub fn off() -> Self {
        Self {
            first_byte_stream: None,
            first_byte_document: None,
            first_token: None,
            idle: None,
            min_rate: None,
            total: None,
        }
    }
}

impl Default for Timeouts {
    /// 120 s to the head of a stream, 600 s to that of a document, 300 s of silence.
    fn default() -> Self {
        Self {
            first_byte_stream: Some(Duration::from_secs(120)),
            first_byte_document: Some(Duration::from_secs(600)),
            idle: Some(Duration::from_secs(300)),
            ..Self::off()
        }
    }
}

/// The span over which the least rate is taken: a model that thinks is silent for a while.
const RATE_OVER: Duration = Duration::from_secs(30);
