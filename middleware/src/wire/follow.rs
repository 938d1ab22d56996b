//! Where one request ends and the next begins.

use super::{
    Limits, Refusal,
    chunks::Chunks,
    head::{self, Framing},
};

/// Follows the requests of one connection.
#[derive(Debug)]
pub(super) struct Follow {
    limits: Limits,
    at: At,
}

#[derive(Debug)]
enum At {
    /// In a head, of which so many bytes were read.
    Head {
        read: usize,
    },
    Length(u64),
    Chunks(Chunks),
    /// Behind a request.
    Over,
}

impl Follow {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            at: At::Head { read: 0 },
        }
    }

    /// What a connection may cost.
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether a request has come whole and none has begun after it.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.at, At::Over)
    }

    /// Whether a head is awaited or on its way.
    pub(super) fn in_head(&self) -> bool {
        matches!(self.at, At::Head { .. })
    }

    /// The next request may begin.
    pub(super) fn next(&mut self) {
        self.at = At::Head { read: 0 };
    }

    /// How many of `bytes`, which follow what was granted before, may be handed on: none of a head that is not whole,
    /// and none of another request.
    pub(super) fn grant(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let head = match &mut self.at {
            At::Head { read } => {
                // Read again when a line more has come: the number of lines is limited, that of pieces is not.
                let news = bytes.get(*read..).unwrap_or_default();
                let line = *read == 0 || memchr::memchr(b'\n', news).is_some();
                *read = bytes.len();
                if !line && bytes.len() <= self.limits.head {
                    return Ok(0);
                }
                let Some((end, framing)) = head::judge(bytes, &self.limits)? else {
                    return Ok(0);
                };
                self.at = match framing {
                    Framing::Length(0) => At::Over,
                    Framing::Length(length) => At::Length(length),
                    Framing::Chunked => At::Chunks(Chunks::new()),
                };
                end
            }
            _ => 0,
        };
        let body = &bytes[head..];
        let taken = match &mut self.at {
            At::Head { .. } | At::Over => 0,
            At::Length(left) => {
                let here = (body.len() as u64).min(*left);
                *left -= here;
                if *left == 0 {
                    self.at = At::Over;
                }
                // At most what is there.
                here as usize
            }
            At::Chunks(chunks) => {
                let taken = chunks.feed(body).ok_or(CHUNKS)?;
                if chunks.is_over() {
                    self.at = At::Over;
                }
                taken
            }
        };
        Ok(head + taken)
    }
}

const CHUNKS: Refusal = Refusal::malformed("the chunks of the request body are malformed");
