//! Event streams watched as they pass: which events they carry, and where an event could be put in.
//!
//! The rules are those of the WHATWG's
//! [event stream interpretation](https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation).
//! Bytes are only observed, in whatever frames they arrive: every split of the same bytes gives the same events and the
//! same boundaries. Line ends are LF, CR and CRLF in any mix; nothing needs to be UTF-8, and nothing is an error.
//!
//! - [`Scanner`] tells the events, with their names and data.
//! - [`Boundary`] tells only whether an event put in now would stand alone, for much less work.
//! - [`sniff`] tells from its first bytes whether a body is an event stream at all.
//!
//! ```
//! use tollgate_middleware::sse::{CAP, Scanner};
//!
//! let mut scanner = Scanner::new(CAP);
//! let mut seen = Vec::new();
//! for frame in [&b"event: delta\ndata: {}\n"[..], b"\ndata: [DONE]\n\n"] {
//!     scanner.feed(frame, |event| seen.push((event.name.to_vec(), event.data.to_vec())));
//! }
//! assert_eq!(seen, [(b"delta".to_vec(), b"{}".to_vec()), (Vec::new(), b"[DONE]".to_vec())]);
//! assert!(scanner.at_boundary());
//! ```

#[cfg(feature = "word_filter")]
pub(crate) mod blocks;
mod boundary;
mod kept;
mod line;
mod scanner;
mod sniff;

pub use self::{
    boundary::Boundary,
    scanner::{CAP, Event, Scanner},
    sniff::{Sniff, sniff},
};

#[cfg(test)]
mod tests;
