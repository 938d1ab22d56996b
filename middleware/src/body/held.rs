use std::{
    borrow::Cow,
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::Taken;

/// A request body that was read: the frames that arrived, then whatever has not been read yet.
///
/// The frames are kept as they came and never joined. Edits name places in the text *as it
/// arrived*, so the spans that were found by reading it once stay right whatever has been edited
/// before; they are applied when the body is sent. In itself it is a pointer: a request is moved
/// through every layer.
///
/// ```
/// use tollgate_middleware::body::Held;
/// use bytes::Bytes;
/// use http_body_util::{BodyExt, Empty};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let mut body = Held::<Empty<Bytes>>::whole([Bytes::from(r#"{"model":"#), Bytes::from(r#""a"}"#)]);
/// body.edit(9..12, r#""b""#);
/// let again = body.replay().expect("nothing is left to read");
/// assert_eq!(body.collect().await.unwrap().to_bytes(), r#"{"model":"b"}"#);
/// assert_eq!(again.collect().await.unwrap().to_bytes(), r#"{"model":"b"}"#);
/// # });
/// ```
#[derive(Debug)]
pub struct Held<B>(Pin<Box<Inner<B>>>);

pin_project! {
    #[derive(Debug)]
    struct Inner<B> {
        frames: Frames,
        edits: Vec<Edit>,
        // Length of the text as it arrived.
        whole: usize,
        // Index of the next frame to send; frames are final (edits applied) once it has moved.
        next: usize,
        // Bytes of the frames, after the edits, that have not been sent.
        left: u64,
        // Given back with the frames.
        taken: Option<Taken>,
        #[pin]
        rest: Option<B>,
    }
}

#[derive(Clone, Debug)]
enum Frames {
    None,
    One(Bytes),
    Many(Arc<[Bytes]>),
}

#[derive(Clone, Debug)]
struct Edit {
    at: Range<usize>,
    with: Bytes,
}

impl Frames {
    fn as_slice(&self) -> &[Bytes] {
        match self {
            Self::None => &[],
            Self::One(frame) => std::slice::from_ref(frame),
            Self::Many(frames) => frames,
        }
    }

    /// The frame at this place, which is not kept unless somebody else keeps it, too: what has been sent is let go of.
    fn hand_over(&mut self, at: usize) -> Option<Bytes> {
        match self {
            Self::One(frame) if at == 0 => Some(std::mem::take(frame)),
            Self::Many(frames) => match Arc::get_mut(frames) {
                Some(frames) => frames.get_mut(at).map(std::mem::take),
                None => frames.get(at).cloned(),
            },
            Self::None | Self::One(_) => None,
        }
    }
}

impl FromIterator<Bytes> for Frames {
    fn from_iter<I: IntoIterator<Item = Bytes>>(frames: I) -> Self {
        let mut frames = frames.into_iter().filter(|frame| !frame.is_empty());
        match (frames.next(), frames.next()) {
            (None, _) => Self::None,
            (Some(only), None) => Self::One(only),
            (Some(first), Some(second)) => {
                Self::Many([first, second].into_iter().chain(frames).collect())
            }
        }
    }
}

impl<B> Held<B> {
    /// A body that was read to its end.
    pub fn whole(frames: impl IntoIterator<Item = Bytes>) -> Self {
        Self::new(frames.into_iter().collect(), None)
    }

    /// A body of which these frames were read.
    pub fn begun(frames: impl IntoIterator<Item = Bytes>, rest: B) -> Self {
        Self::new(frames.into_iter().collect(), Some(rest))
    }

    /// A body that was not read.
    pub fn unread(rest: B) -> Self {
        Self::new(Frames::None, Some(rest))
    }

    fn new(frames: Frames, rest: Option<B>) -> Self {
        let whole = frames.as_slice().iter().map(Bytes::len).sum();
        Self(Box::pin(Inner {
            frames,
            edits: Vec::new(),
            whole,
            next: 0,
            left: whole as u64,
            taken: None,
            rest,
        }))
    }

    /// The body keeps what was taken for its frames until it is dropped.
    #[must_use]
    pub fn holding(mut self, taken: Taken) -> Self {
        *self.0.as_mut().project().taken = Some(taken);
        self
    }

    /// Whether nothing is left to read: the body can be edited anywhere, and sent more than once.
    pub fn is_whole(&self) -> bool {
        self.0.rest.is_none()
    }

    /// Whether what will be sent is not what arrived.
    pub fn is_edited(&self) -> bool {
        !self.0.edits.is_empty()
    }

    /// Bytes of the frames that were read, after the edits, that have not been sent.
    pub fn held_len(&self) -> u64 {
        self.0.left
    }

    /// How long a body that arrives with `length` bytes is after the edits; `None` if more bytes than
    /// that were read. Right until sending has begun.
    pub fn edited_len(&self, length: u64) -> Option<u64> {
        length
            .checked_sub(self.0.whole as u64)?
            .checked_add(self.0.left)
    }

    /// The frames that were read, as they arrived.
    #[cfg(feature = "tokenizer")]
    pub(crate) fn frames(&self) -> &[Bytes] {
        self.0.frames.as_slice()
    }

    /// The bytes that were read, as they arrived. Copies if they came in more than one frame.
    pub fn text(&self) -> Cow<'_, [u8]> {
        match self.0.frames.as_slice() {
            [] => Cow::Borrowed(&[]),
            [only] => Cow::Borrowed(only),
            many => Cow::Owned(many.concat()),
        }
    }

    /// Replaces the bytes at `at` of the text as it arrived; an empty range inserts.
    ///
    /// An edit of the same span replaces the earlier one; two insertions at one place both stay, in
    /// order. Has no effect once sending has begun.
    ///
    /// # Panics
    ///
    /// If `at` lies outside the bytes that were read, or overlaps another edit: spans come from
    /// one reading of this very text, so that is a bug of the caller.
    pub fn edit(&mut self, at: Range<usize>, with: impl Into<Bytes>) {
        let with = with.into();
        let this = self.0.as_mut().project();
        let (edits, left) = (this.edits, this.left);
        assert!(
            at.start <= at.end && at.end <= *this.whole,
            "an edit outside the body"
        );
        let place = edits.partition_point(|edit| edit.at.end <= at.start);
        if let Some(same) = edits.get_mut(place)
            && same.at == at
        {
            *left = *left - same.with.len() as u64 + with.len() as u64;
            same.with = with;
            return;
        }
        assert!(
            edits.get(place).is_none_or(|next| at.end <= next.at.start),
            "an edit inside another edit"
        );
        *left = *left - at.len() as u64 + with.len() as u64;
        edits.insert(place, Edit { at, with });
    }

    /// Replaces what an earlier edit put at `at`, where it put exactly `before` there; false if none did. An insertion can be
    /// replaced only so: [`edit`](Self::edit) would put another one behind it.
    pub fn amend(&mut self, at: Range<usize>, before: &[u8], with: impl Into<Bytes>) -> bool {
        let this = self.0.as_mut().project();
        let mut edits = this.edits.iter_mut();
        let Some(same) = edits.find(|edit| edit.at == at && edit.with == before) else {
            return false;
        };
        let with = with.into();
        *this.left = *this.left - same.with.len() as u64 + with.len() as u64;
        same.with = with;
        true
    }

    /// The same body once more, with its edits; `None` if part of it has not been read, or was
    /// sent already.
    pub fn replay(&self) -> Option<Self> {
        self.spare().map(Spare::into_body)
    }

    /// What the same body can be made of once more, with the edits so far. The frames are shared, and none is copied: with one
    /// frame and no edit it costs no allocation. `None` if part of the body has not been read, or was sent already.
    pub fn spare(&self) -> Option<Spare> {
        (self.is_whole() && self.0.next == 0).then(|| Spare {
            frames: self.0.frames.clone(),
            edits: self.0.edits.clone(),
            whole: self.0.whole,
            left: self.0.left,
            taken: self.0.taken.clone(),
        })
    }
}

/// A body that is kept to be sent once more.
#[derive(Clone, Debug)]
pub struct Spare {
    frames: Frames,
    edits: Vec<Edit>,
    whole: usize,
    left: u64,
    taken: Option<Taken>,
}

impl Spare {
    /// A body of nothing.
    pub fn empty() -> Self {
        Self {
            frames: Frames::None,
            edits: Vec::new(),
            whole: 0,
            left: 0,
            taken: None,
        }
    }

    /// The body.
    pub fn into_body<B>(self) -> Held<B> {
        Held(Box::pin(Inner {
            frames: self.frames,
            edits: self.edits,
            whole: self.whole,
            next: 0,
            left: self.left,
            taken: self.taken,
            rest: None,
        }))
    }
}

/// The frames with the edits in their places; what is not edited is shared, not copied.
fn apply(frames: &[Bytes], edits: &[Edit], whole: usize) -> Frames {
    let mut out = Vec::with_capacity(frames.len() + 2 * edits.len());
    let mut edits = edits.iter().peekable();
    let (mut start, mut done) = (0, 0);
    for frame in frames {
        let end = start + frame.len();
        while let Some(edit) = edits.peek() {
            if edit.at.start >= end && !(end == whole && edit.at.start == end) {
                break;
            }
            out.push(slice(frame, start, done, edit.at.start));
            out.push(edit.with.clone());
            done = edit.at.end;
            edits.next();
        }
        out.push(slice(frame, start, done, end));
        done = done.max(end);
        start = end;
    }
    out.into_iter().collect()
}

/// The part of `frame`, which begins at `start`, that lies in `from..to`.
fn slice(frame: &Bytes, start: usize, from: usize, to: usize) -> Bytes {
    let to = to.saturating_sub(start).min(frame.len());
    frame.slice(from.saturating_sub(start).min(to)..to)
}

impl<B> Body for Held<B>
where
    B: Body<Data = Bytes>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut().0.as_mut().project();
        if *this.next == 0 && !this.edits.is_empty() {
            *this.frames = apply(this.frames.as_slice(), this.edits, *this.whole);
            this.edits.clear();
        }
        if let Some(frame) = this.frames.hand_over(*this.next) {
            *this.next += 1;
            *this.left -= frame.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        match this.rest.as_pin_mut() {
            Some(rest) => rest.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.left == 0 && self.0.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let this = &self.0;
        let mut hint = this
            .rest
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(this.left));
        }
        hint.set_lower(hint.lower().saturating_add(this.left));
        hint
    }
}

#[cfg(test)]
mod tests;
