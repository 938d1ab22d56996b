use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::{Digest, Ended, Mark, Record, Running};
use crate::{
    body::{Ending, Guard, Guarded},
    clock::Clock,
    conn::{Conn, Cut},
    error::{BoxError, Reason, Rejection},
};

/// Is told of each request, once, when it is over.
pub trait Sink: Clone + Send + Sync + 'static {
    /// A request has arrived.
    fn began(&self) {}

    /// Where requests are counted while they run on this route, by its place in the order of all; none: on implicit routes.
    /// For whoever builds the routes; the layer does not ask.
    fn running(&self, _route: Option<usize>) -> Option<Arc<Running>> {
        None
    }

    /// The request is over; [`Record::ended`] says how. Runs where the body ended, or where it was
    /// dropped: it must be quick and must not panic.
    fn ended(&self, record: &Record);
}

/// A response body that is watched to its end.
pub type ResponseBody<B, K, C> = Guarded<B, Passing<K, C>>;

/// What is needed to tell how a request ended.
#[derive(Debug)]
pub(super) struct Open<K, C> {
    pub(super) record: Record,
    pub(super) sink: K,
    pub(super) clock: C,
    pub(super) conn: Option<Conn>,
}

impl<K: Sink, C: Clock> Open<K, C> {
    /// It was dropped before its end: the client left, unless something else is known.
    fn dropped(&self) {
        let asked = self.conn.as_ref().and_then(Conn::asked_to_cut);
        let ended = match asked {
            _ if std::thread::panicking() => Ended::Internal,
            Some(Cut::Drain) => Ended::Drain,
            Some(Cut::SlowReader) => Ended::SlowReader,
            None => Ended::ClientGone,
        };
        self.settle(ended, self.clock.now());
    }

    pub(super) fn settle(&self, ended: Ended, now: Instant) {
        if self.record.settle() {
            self.record.mark(Mark::End, now);
            self.record.set_ended(ended);
            self.sink.ended(&self.record);
        }
    }
}

/// Rides in the future: if it is dropped there, the client left before the head.
#[derive(Debug)]
pub(super) struct Waiting<K: Sink, C: Clock>(Option<Open<K, C>>);

impl<K: Sink, C: Clock> Waiting<K, C> {
    pub(super) fn new(open: Open<K, C>) -> Self {
        Self(Some(open))
    }

    pub(super) fn take(&mut self) -> Option<Open<K, C>> {
        self.0.take()
    }
}

impl<K: Sink, C: Clock> Drop for Waiting<K, C> {
    fn drop(&mut self) {
        if let Some(open) = self.0.take() {
            open.dropped();
        }
    }
}

/// xxh3-128 of what has passed. Most answers are one frame: only a longer one needs the half
/// kilobyte of a running state, and every body would have to be moved with it.
enum Hash {
    None,
    /// Of the only frame; in bytes, since a number of this size would be kept apart from its neighbours.
    Whole([u8; 16]),
    Running(Box<Xxh3>),
}

impl Hash {
    fn update(&mut self, data: &[u8], last: bool) {
        match self {
            Self::None if last => *self = Self::Whole(xxh3_128(data).to_ne_bytes()),
            Self::None => {
                let mut state = Box::new(Xxh3::new());
                state.update(data);
                *self = Self::Running(state);
            }
            Self::Running(state) => state.update(data),
            // Nothing follows the last frame.
            Self::Whole(_) => {}
        }
    }

    /// What has passed, to be gone on with in another way.
    fn state(&self) -> Box<Xxh3> {
        match self {
            Self::Running(state) => state.clone(),
            // Nothing has: behind a whole one no frame follows.
            Self::None | Self::Whole(_) => Box::new(Xxh3::new()),
        }
    }

    fn digest(&self) -> u128 {
        match self {
            Self::None => xxh3_128(b""),
            Self::Whole(digest) => u128::from_ne_bytes(*digest),
            Self::Running(state) => state.digest128(),
        }
    }
}

/// Rides in the response body: counts and hashes what passes.
pub struct Passing<K, C> {
    open: Open<K, C>,
    hash: Hash,
    bytes: u64,
    // Of what the provider sent, since a layer has begun to change it.
    upstream: Option<Box<Xxh3>>,
    // When the last frame passed, if it came as one that nothing follows.
    last: Option<Instant>,
}

impl<K, C> Passing<K, C> {
    pub(super) fn new(open: Open<K, C>) -> Self {
        Self {
            open,
            hash: Hash::None,
            bytes: 0,
            upstream: None,
            last: None,
        }
    }
}

impl<K, C> std::fmt::Debug for Passing<K, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passing")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl<K: Sink, C: Clock> Guard<BoxError> for Passing<K, C> {
    fn frame(&mut self, data: &Bytes, last: bool) {
        let record = &self.open.record;
        if record.is_gone() {
            // Nobody is given this.
            return;
        }
        if self.bytes == 0 || last {
            let now = self.open.clock.now();
            record.mark(Mark::FirstByte, now);
            self.last = last.then_some(now);
        }
        if record.is_edited() {
            let upstream = self.upstream.get_or_insert_with(|| self.hash.state());
            if let Some(original) = record.take_original() {
                upstream.update(&original);
            }
        }
        self.hash.update(data, last);
        self.bytes += data.len() as u64;
    }

    fn end(self, ending: Ending<'_, BoxError>) {
        let record = &self.open.record;
        let client = self.hash.digest();
        let upstream = || self.upstream.as_ref().map_or(client, |it| it.digest128());
        let upstream = record.upstream_digest().unwrap_or_else(upstream);
        record.set_bytes_out(self.bytes);
        record.set_digest(Digest { upstream, client });
        let ended = match ending {
            Ending::Complete => Ended::Complete,
            Ending::Error(error) => {
                let reason = Rejection::find(&**error).map_or(Reason::Internal, Rejection::reason);
                record.set_broke(reason);
                reason.into()
            }
            Ending::Dropped => return self.open.dropped(),
        };
        let now = self.last.unwrap_or_else(|| self.open.clock.now());
        self.open.settle(ended, now);
    }
}

pin_project! {
    /// A request body whose bytes are counted.
    #[derive(Debug)]
    pub struct RequestBody<B, C> {
        #[pin]
        inner: B,
        record: Record,
        clock: C,
    }
}

impl<B: Body, C: Clock> RequestBody<B, C> {
    pub(super) fn new(inner: B, record: Record, clock: C) -> Self {
        if inner.is_end_stream() {
            record.mark(Mark::BodyRead, record.started());
        }
        Self {
            inner,
            record,
            clock,
        }
    }
}

impl<B, C> Body for RequestBody<B, C>
where
    B: Body<Data = Bytes>,
    C: Clock,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            this.record.add_bytes_in(data.len());
        }
        if frame.is_none() || this.inner.is_end_stream() {
            this.record.mark(Mark::BodyRead, this.clock.now());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
