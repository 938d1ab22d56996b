//! What is still read of an answer that is thrown away: who meters it learns what it used, and its connection can serve again.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Response, response::Parts};
use http_body::Body;
use pin_project_lite::pin_project;

use super::{
    body::{Begun, ResponseBody},
    course::Again,
};
use crate::clock::Clock;

pin_project! {
    /// An answer that is left: read on until its end, or until it was waited for long enough.
    pub(super) struct Leaving<B: Body, C: Clock> {
        // None once it was taken.
        left: Option<(Parts, Box<Begun<B>>)>,
        bytes: usize,
        again: Again,
        clock: C,
        #[pin]
        patience: Option<C::Sleep>,
    }
}

impl<B, C> Leaving<B, C>
where
    B: Body<Data = Bytes>,
    C: Clock,
{
    /// Takes an answer that is worth it: an error that is not over, and not known to be long.
    pub(super) fn new(
        response: Response<ResponseBody<B>>,
        again: Again,
        clock: &C,
    ) -> Result<Self, Response<ResponseBody<B>>> {
        let body = response.body();
        let over = body.is_end_stream() || body.size_hint().lower() > MOST as u64;
        if over || response.status().is_success() {
            return Err(response);
        }
        let (head, body) = response.into_parts();
        Ok(Self {
            left: Some((head, body.begin())),
            bytes: 0,
            again,
            clock: clock.clone(),
            patience: None,
        })
    }

    /// Reads on; the answer is whole again then.
    pub(super) fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<(Response<ResponseBody<B>>, Again)> {
        let mut this = self.project();
        let (_, begun) = this.left.as_mut().expect(TAKEN);
        loop {
            match begun.poll_read(cx) {
                Poll::Ready(Some(data)) => {
                    *this.bytes += data.len();
                    if *this.bytes > MOST {
                        break;
                    }
                }
                Poll::Ready(None) => break,
                Poll::Pending => {
                    if this.patience.is_none() {
                        let until = this.clock.now() + PATIENCE;
                        this.patience.set(Some(this.clock.sleep_until(until)));
                    }
                    let patience = this.patience.as_mut().as_pin_mut();
                    if patience.is_some_and(|it| it.poll(cx).is_pending()) {
                        return Poll::Pending;
                    }
                    break;
                }
            }
        }
        let (head, begun) = this.left.take().expect(TAKEN);
        let response = Response::from_parts(head, ResponseBody::begun(begun));
        Poll::Ready((response, *this.again))
    }
}

const TAKEN: &str = "it is not polled after it was ready";
/// So much is read of it at the most.
const MOST: usize = 64 << 10;
/// So long at the most: an error comes with its head, and the next attempt does not wait for a slow one.
const PATIENCE: Duration = Duration::from_millis(20);
