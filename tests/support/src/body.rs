//! Scripted bodies in memory, and what a consumer makes of a body.

use std::{
    collections::VecDeque,
    error, fmt,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::splits::Split;

/// Any error that can cross threads.
pub type BoxError = Box<dyn error::Error + Send + Sync>;

/// One thing a poll of the body gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A frame of data.
    Data(Bytes),
    /// A [`Fault`], behind which nothing comes.
    Error,
    /// Not ready once; wakes its task at once.
    Pending,
    /// A frame of trailers.
    Trailers(HeaderMap),
}

/// The error of [`Item::Error`] and of a failing inner service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

/// A body that gives its items in order and then `None`.
///
/// A clone gives the items that are left and is counted by itself.
#[derive(Debug)]
pub struct Script {
    items: VecDeque<Item>,
    hinting: bool,
    exact: bool,
    ended: bool,
    polls: Polls,
}

/// How a body was treated; stays readable when the body is gone.
#[derive(Clone, Debug, Default)]
pub struct Polls(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: AtomicUsize,
    after_end: AtomicUsize,
    dropped: AtomicBool,
}

/// What a consumer saw of a body.
#[derive(Debug, Default)]
pub struct Collected {
    /// Data frames in order.
    pub frames: Vec<Bytes>,
    /// Trailers, if they came.
    pub trailers: Option<HeaderMap>,
    /// The error, if one came.
    pub error: Option<BoxError>,
    /// What the body said of itself: before anything was polled, then after each frame.
    pub hints: Vec<Hint>,
}

/// What a body says of what is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    /// `is_end_stream`.
    pub end: bool,
    /// Lower bound of the size hint.
    pub lower: u64,
    /// Upper bound of the size hint.
    pub upper: Option<u64>,
}

// ===== impl Script =====

impl Script {
    /// A body of these items that says nothing of its end or size.
    #[must_use]
    pub fn new(items: impl IntoIterator<Item = Item>) -> Self {
        Self {
            items: items.into_iter().collect(),
            hinting: false,
            exact: false,
            ended: false,
            polls: Polls::default(),
        }
    }

    /// A body of data cut into frames.
    #[must_use]
    pub fn data(bytes: &[u8], split: &Split) -> Self {
        let pieces = split.pieces(bytes);
        Self::new(
            pieces
                .into_iter()
                .map(|piece| Item::Data(Bytes::copy_from_slice(piece))),
        )
    }

    /// The body of a message without one: says at once that it has ended, and that its size is zero.
    #[must_use]
    pub fn empty() -> Self {
        Self::new([]).hinting().exact()
    }

    /// Adds an item.
    #[must_use]
    pub fn then(mut self, item: Item) -> Self {
        self.items.push_back(item);
        self
    }

    /// Puts a `Pending` before each item.
    #[must_use]
    pub fn hesitating(mut self) -> Self {
        self.items = self
            .items
            .drain(..)
            .flat_map(|item| [Item::Pending, item])
            .collect();
        self
    }

    /// Makes `is_end_stream` true as soon as the last item is out.
    #[must_use]
    pub fn hinting(mut self) -> Self {
        self.hinting = true;
        self
    }

    /// Makes the size hint exact.
    #[must_use]
    pub fn exact(mut self) -> Self {
        self.exact = true;
        self
    }

    /// How this body is treated.
    #[must_use]
    pub fn polls(&self) -> Polls {
        self.polls.clone()
    }

    fn left(&self) -> u64 {
        let lengths = self.items.iter().map(|item| match item {
            Item::Data(bytes) => bytes.len() as u64,
            _ => 0,
        });
        lengths.sum()
    }
}

impl Clone for Script {
    fn clone(&self) -> Self {
        Self {
            items: self.items.clone(),
            polls: Polls::default(),
            ..*self
        }
    }
}

impl Default for Script {
    fn default() -> Self {
        Self::empty()
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let counts = Arc::clone(&self.polls.0);
        counts.all.fetch_add(1, Relaxed);
        if self.ended {
            counts.after_end.fetch_add(1, Relaxed);
            return Poll::Ready(None);
        }
        match self.items.pop_front() {
            Some(Item::Data(bytes)) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Some(Item::Trailers(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Some(Item::Error) => {
                self.ended = true;
                Poll::Ready(Some(Err(Fault.into())))
            }
            Some(Item::Pending) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => {
                self.ended = true;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.hinting && self.items.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if self.exact {
            SizeHint::with_exact(self.left())
        } else {
            SizeHint::default()
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.polls.0.dropped.store(true, Relaxed);
    }
}

// ===== impl Polls =====

impl Polls {
    /// Polls so far.
    #[must_use]
    pub fn all(&self) -> usize {
        self.0.all.load(Relaxed)
    }

    /// Polls after the body had given `None` or an error: each is a fault of its consumer.
    #[must_use]
    pub fn after_end(&self) -> usize {
        self.0.after_end.load(Relaxed)
    }

    /// True when the body is gone.
    #[must_use]
    pub fn dropped(&self) -> bool {
        self.0.dropped.load(Relaxed)
    }
}

// ===== impl Collected =====

impl Collected {
    /// All data joined.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.frames.concat()
    }

    /// All data as text; bytes that are not UTF-8 show as replacement characters.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// True when the body ended without an error.
    #[must_use]
    pub fn whole(&self) -> bool {
        self.error.is_none()
    }
}

/// Polls a body to its `None` or its error, whatever it hints, and drops it.
pub async fn collect<B>(body: B) -> Collected
where
    B: Body,
    B::Error: Into<BoxError>,
{
    let mut body = pin!(body);
    let mut seen = Collected {
        hints: vec![hint(&*body)],
        ..Collected::default()
    };
    while next(body.as_mut(), &mut seen).await {}
    seen
}

/// As servers do: stops as soon as the body hints at its end, without polling on, and drops it.
pub async fn collect_by_hint<B>(body: B) -> Collected
where
    B: Body,
    B::Error: Into<BoxError>,
{
    let mut body = pin!(body);
    let mut seen = Collected {
        hints: vec![hint(&*body)],
        ..Collected::default()
    };
    while !body.is_end_stream() && next(body.as_mut(), &mut seen).await {}
    seen
}

/// Adds the next frame to what was seen; false when the body gave `None` or an error.
pub async fn next<B>(mut body: Pin<&mut B>, seen: &mut Collected) -> bool
where
    B: Body,
    B::Error: Into<BoxError>,
{
    // Taken apart inside of the poll, so that neither the data nor the error type must cross an await.
    std::future::poll_fn(|cx| {
        let Some(frame) = std::task::ready!(body.as_mut().poll_frame(cx)) else {
            return Poll::Ready(false);
        };
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                seen.error = Some(error.into());
                return Poll::Ready(false);
            }
        };
        match frame.into_data() {
            Ok(mut data) => seen.frames.push(data.copy_to_bytes(data.remaining())),
            Err(frame) => seen.trailers = frame.into_trailers().ok(),
        }
        seen.hints.push(hint(&*body));
        Poll::Ready(true)
    })
    .await
}

/// What the body says of itself now.
pub fn hint<B: Body>(body: &B) -> Hint {
    let size = body.size_hint();
    Hint {
        end: body.is_end_stream(),
        lower: size.lower(),
        upper: size.upper(),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("scripted fault")
    }
}

impl error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    fn trailers() -> HeaderMap {
        HeaderMap::from_iter([("x-sum".parse().unwrap(), "7".parse().unwrap())])
    }

    #[tokio::test]
    async fn items_come_in_order_and_hints_follow_them() {
        let body = Script::data(b"abc", &Split::Bytes(2))
            .then(Item::Trailers(trailers()))
            .hinting()
            .exact();
        let polls = body.polls();
        let seen = collect(body.hesitating()).await;
        assert_eq!(seen.frames, [&b"ab"[..], b"c"]);
        assert_eq!(seen.trailers, Some(trailers()));
        assert!(seen.whole());
        let sizes: Vec<_> = seen
            .hints
            .iter()
            .map(|hint| (hint.upper, hint.end))
            .collect();
        assert_eq!(
            sizes,
            [
                (Some(3), false),
                (Some(1), false),
                (Some(0), false),
                (Some(0), true)
            ]
        );
        assert_eq!(
            (polls.all(), polls.after_end(), polls.dropped()),
            (7, 0, true)
        );
    }

    #[tokio::test]
    async fn a_consumer_that_trusts_the_hint_never_polls_for_none() {
        let body = Script::data(b"abc", &Split::Whole).hinting();
        let polls = body.polls();
        assert_eq!(collect_by_hint(body).await.text(), "abc");
        assert_eq!(polls.all(), 1);

        let body = Script::empty();
        let polls = body.polls();
        assert!(collect_by_hint(body).await.frames.is_empty());
        assert_eq!(polls.all(), 0);
    }

    #[tokio::test]
    async fn an_error_ends_the_body_and_a_poll_behind_it_is_counted() {
        let mut body = Script::data(b"abc", &Split::Whole).then(Item::Error);
        let polls = body.polls();
        let seen = collect(&mut body).await;
        assert_eq!(seen.text(), "abc");
        assert!(seen.error.is_some_and(|error| error.is::<Fault>()));
        assert_eq!((polls.after_end(), polls.dropped()), (0, false));
        assert!(collect(&mut body).await.frames.is_empty());
        assert_eq!(polls.after_end(), 1);
    }

    #[tokio::test]
    async fn a_clone_has_counts_of_its_own() {
        let body = Script::data(b"abc", &Split::Whole);
        assert_eq!(collect(body.clone()).await.text(), "abc");
        assert_eq!((body.polls().all(), body.polls().dropped()), (0, false));
    }
}
