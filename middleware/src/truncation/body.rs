use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::{
    dialect::{Ending, Judge},
    error::{BoxError, Reason, Rejection},
    record::{Ended, Record},
};

pin_project! {
    /// The response body of [`Truncation`](super::Truncation).
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        #[pin]
        inner: B,
        watch: Watch,
    }
}

#[derive(Debug)]
struct Watch {
    /// None: the transport decides. Boxed: a document has none, and its body would be as large.
    judge: Option<Box<Judge>>,
    record: Option<Record>,
    told: bool,
    /// The client knows how long the body is, and takes it for whole once that has come.
    announced: bool,
    /// The failure that is still to be handed over.
    cut: Option<BoxError>,
    over: bool,
}

impl<B: Body> ResponseBody<B> {
    pub(super) fn new(inner: B, judge: Option<Box<Judge>>, record: Option<Record>) -> Self {
        let announced = inner.size_hint().exact().is_some();
        let mut watch = Watch {
            judge,
            record,
            told: false,
            announced,
            cut: None,
            over: false,
        };
        // An answer that is announced as empty is never polled: all that can be done is to say so.
        if inner.is_end_stream() {
            watch.nothing_follows();
            if watch.cut.take().is_some() {
                watch.settle(Ended::UpstreamTruncated, "truncated");
            }
        }
        Self { inner, watch }
    }
}

impl Watch {
    fn feed(&mut self, frame: &[u8]) {
        let Some(judge) = &mut self.judge else { return };
        judge.feed(frame);
        if self.told {
            return;
        }
        if judge.error_seen() {
            self.told = true;
            self.settle(Ended::UpstreamError, "stream_error");
        } else if judge.terminal() {
            // Whatever comes behind its mark, or does not come: this stream is whole.
            self.told = true;
            if let Some(record) = &self.record {
                record.set_ended(Ended::Complete);
            }
        }
    }

    fn settle(&self, ended: Ended, word: &'static str) {
        if let Some(record) = &self.record {
            record.set_ended(ended);
            self.word(word);
        }
    }

    /// What the attempt failed with, after its head.
    fn word(&self, word: &'static str) {
        if let Some(record) = &self.record {
            record.update_attempt(|attempt| {
                attempt.error.get_or_insert(word);
            });
        }
    }

    /// The transport ended cleanly.
    fn end(&mut self) -> Option<BoxError> {
        self.over = true;
        let judge = self.judge.as_mut()?;
        let ending = judge.finish();
        if judge.error_seen() {
            self.settle(Ended::UpstreamError, "stream_error");
            return None;
        }
        (ending == Ending::Truncated).then(|| {
            self.word("truncated");
            truncated().into()
        })
    }

    /// The transport broke.
    fn broke(&mut self, error: BoxError) -> Option<BoxError> {
        self.over = true;
        match &self.judge {
            Some(judge) if judge.error_seen() => Some(truncated().silent().because(error).into()),
            Some(judge) if judge.terminal() => None,
            _ => {
                self.word("truncated");
                Some(error)
            }
        }
    }

    /// The last frame. Where the length was announced, a client that gets all of it takes it for a whole
    /// message: then its last byte stays here, and the failure follows in its stead.
    fn last(&mut self, frame: Frame<Bytes>) -> Result<Option<Frame<Bytes>>, BoxError> {
        if !self.announced || self.cut.is_none() {
            return Ok(Some(frame));
        }
        match frame.into_data() {
            Ok(data) if data.len() > 1 => Ok(Some(Frame::data(data.slice(..data.len() - 1)))),
            // A frame of one byte, or trailers.
            _ => self.cut.take().map_or(Ok(None), Err),
        }
    }

    /// Nothing follows: the end of an incomplete stream becomes a failure.
    fn nothing_follows(&mut self) {
        self.over = true;
        if let Some(judge) = &mut self.judge
            && judge.finish() == Ending::Truncated
            && !judge.error_seen()
        {
            self.word("truncated");
            self.cut = Some(truncated().into());
        }
    }
}

fn truncated() -> Rejection {
    let told = "the provider's stream ended before it was complete";
    Rejection::new(Reason::Truncated, "upstream", told)
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes, Error = BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        if let Some(error) = this.watch.cut.take() {
            return Poll::Ready(Some(Err(error)));
        }
        if this.watch.over {
            return Poll::Ready(None);
        }
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        let error = match frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.watch.feed(data);
                }
                if !this.inner.is_end_stream() {
                    return Poll::Ready(Some(Ok(frame)));
                }
                this.watch.nothing_follows();
                return Poll::Ready(this.watch.last(frame).transpose());
            }
            Some(Err(error)) => this.watch.broke(error),
            None => this.watch.end(),
        };
        Poll::Ready(error.map(Err))
    }

    fn is_end_stream(&self) -> bool {
        self.watch.cut.is_none() && (self.watch.over || self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
