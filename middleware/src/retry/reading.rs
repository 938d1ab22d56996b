//! What is read of an answer before it is known whether it is the answer.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Response, response::Parts};
use http_body::Body;

use super::body::{Begun, ResponseBody};
use crate::dialect::{self, Framing, Judge, Refusal};

/// What is read for.
pub(super) enum Wanted {
    /// The first output, which this finds; of one document, whether it is an error.
    Output(Box<Judge>),
    /// What a refusal says.
    Refusal,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// There is output, or nobody can tell.
    Output,
    /// An error came, or the end, before any output.
    NoOutput,
    /// What the refusal says, if that is known.
    Refusal(Option<Refusal>),
}

/// An answer that is being read.
pub(super) struct Reading<B: Body> {
    head: Option<Parts>,
    // None once it was taken.
    begun: Option<Box<Begun<B>>>,
    wanted: Wanted,
    text: Vec<u8>,
    bytes: usize,
}

impl<B> Reading<B>
where
    B: Body<Data = Bytes>,
{
    pub(super) fn new(response: Response<ResponseBody<B>>, wanted: Wanted) -> Self {
        let (head, body) = response.into_parts();
        Self {
            head: Some(head),
            begun: Some(body.begin()),
            wanted,
            text: Vec::new(),
            bytes: 0,
        }
    }

    /// Reads on until it is known what there is; the answer is whole again then.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(Read, Response<ResponseBody<B>>)> {
        let found = loop {
            let begun = self
                .begun
                .as_mut()
                .expect("it is not polled after it was ready");
            let data = ready!(begun.poll_read(cx));
            self.bytes += data.as_ref().map_or(0, Bytes::len);
            if let Some(found) = self.take(data) {
                break found;
            }
        };
        let taken = self.head.take().zip(self.begun.take());
        let (head, begun) = taken.expect("it is not polled after it was ready");
        Poll::Ready((
            found,
            Response::from_parts(head, ResponseBody::begun(begun)),
        ))
    }

    /// Takes data, or the end.
    fn take(&mut self, data: Option<Bytes>) -> Option<Read> {
        match (&mut self.wanted, data) {
            (Wanted::Output(judge), Some(data)) => {
                judge.feed(&data);
                if judge.error_seen() {
                    return Some(Read::NoOutput);
                }
                // What a document says is known at its end.
                let waits = judge.sees_output() || judge.framing() == Framing::Document;
                (judge.first_output() || !waits || self.bytes > MOST).then_some(Read::Output)
            }
            (Wanted::Output(judge), None) => {
                let begun = self.begun.as_ref();
                let text = begun.filter(|_| judge.framing() == Framing::Document && self.bytes > 0);
                Some(match text {
                    // Cut short, it is no error document.
                    Some(begun) if begun.is_cut() || !dialect::is_error(&begun.text()) => {
                        Read::Output
                    }
                    _ => Read::NoOutput,
                })
            }
            (Wanted::Refusal, Some(data)) => {
                self.text.extend_from_slice(&data);
                (self.bytes > MOST).then_some(Read::Refusal(None))
            }
            (Wanted::Refusal, None) => Some(Read::Refusal(Refusal::of(&self.text))),
        }
    }
}

/// So much is held of an answer at the most; a first event, and an error, are far smaller.
pub(super) const MOST: usize = 64 << 10;
