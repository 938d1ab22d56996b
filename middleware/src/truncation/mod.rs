//! Turns the clean end of an incomplete stream into a failure.
//!
//! A connection that closes is no proof that a stream is complete: an answer without a length ends
//! with the connection, whatever was cut, and most SDKs take that for success. Each dialect marks
//! its end; this layer looks for the mark.
//!
//! Contract
//! - *Reads*: [`Intent`](crate::facts::Intent) and [`Record`](crate::record::Record) (or the head
//!   itself), the answer's head.
//! - *Writes*: [`Record`](crate::record::Record): that the stream carried the provider's own error,
//!   or did not end well.
//! - *Refuses*: nothing before the head; the body fails with
//!   [`Truncated`](crate::error::Reason::Truncated).
//! - *Bodies*: watched, untouched. One event is kept at most, up to [`TruncationLayer::event`]; after a longer one, which
//!   may have held the mark, a clean end is believed.
//! - *Ready*: forwards.
//! - *Place*: inside everything that judges an attempt, next to the provider.
//!
//! | what the dialect says | the transport ended cleanly | it broke |
//! |---|---|---|
//! | a terminal mark was seen (`[DONE]`, `message_stop`, …) | complete | complete: nothing was lost |
//! | finished in other words (every choice has its reason) | complete | broken |
//! | the provider's own error was seen | passed on as it is | broken, without a second error |
//! | neither | broken | broken |
//!
//! Where the length was announced, the last byte of an incomplete stream stays here: a client that got
//! all of it would take it for whole.
//!
//! Documents, unknown and compressed answers end as their transport says. Without an `Intent` one
//! alternative is assumed.

mod body;
mod service;

#[cfg(test)]
mod tests;

pub use self::{
    body::ResponseBody,
    service::{ResponseFuture, Truncation, TruncationLayer},
};
