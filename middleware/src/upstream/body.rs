use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{
    mask::{Masker, Shown},
    service::Used,
};
use crate::{dialect::Refusal, record::Record};

pin_project! {
    /// The response body of [`Upstream`](super::Upstream): the provider's, without our credential where it tells of an
    /// error.
    pub struct ResponseBody<B: Body> {
        // None if another text stands for it.
        #[pin]
        inner: Option<B>,
        watch: Watch<B::Error>,
        // Of a 429 where there are several credentials.
        overheard: Option<Box<Overheard>>,
    }
}

/// Reads along in a refusal, which may say that nothing is left to spend with this credential.
struct Overheard {
    text: Vec<u8>,
    used: Used,
    since: Instant,
}

enum Watch<E> {
    /// It passes as it comes.
    None,
    /// Boxed: most bodies are not watched, and each would be as large.
    Masked(Box<Masked<E>>),
    /// This stands for it, once.
    Replaced(Bytes),
}

struct Masked<E> {
    masker: Masker,
    record: Option<Record>,
    /// Something was masked: from there on the record is told what the provider had sent.
    edited: bool,
    /// What follows that which was kept back: trailers or a failure.
    then: Option<Result<Frame<Bytes>, E>>,
    over: bool,
}

impl<B: Body> ResponseBody<B> {
    /// The body as it is.
    pub(super) fn plain(inner: B) -> Self {
        Self {
            inner: Some(inner),
            watch: Watch::None,
            overheard: None,
        }
    }

    /// The body without what the masker masks.
    pub(super) fn masked(inner: B, masker: Masker, record: Option<Record>) -> Self {
        Self {
            inner: Some(inner),
            watch: Watch::Masked(Box::new(Masked {
                masker,
                record,
                edited: false,
                then: None,
                over: false,
            })),
            overheard: None,
        }
    }

    /// A text in the body's stead.
    pub(super) fn replaced(text: Bytes) -> Self {
        Self {
            inner: None,
            watch: Watch::Replaced(text),
            overheard: None,
        }
    }

    /// The same, while its text is read for what it says of the credential.
    pub(super) fn overheard(mut self, used: Used, since: Instant) -> Self {
        self.overheard = Some(Box::new(Overheard {
            text: Vec::new(),
            used,
            since,
        }));
        self
    }
}

/// Reads along; the text is judged at its end.
#[cold]
fn overhear<E>(
    overheard: &mut Option<Box<Overheard>>,
    frame: Option<&Result<Frame<Bytes>, E>>,
    last: bool,
) {
    let Some(it) = overheard else { return };
    if let Some(data) = frame.and_then(|frame| frame.as_ref().ok()?.data_ref()) {
        it.text.extend_from_slice(data);
    }
    let over = matches!(frame, Some(Err(_))) || it.text.len() > MOST;
    let ended = last || frame.is_none();
    if !over && ended && Refusal::of(&it.text) == Some(Refusal::Quota) {
        it.used.spent(it.since);
    }
    if over || ended {
        *overheard = None;
    }
}

/// No refusal that somebody wrote is longer.
const MOST: usize = 64 << 10;

impl<E> Masked<E> {
    /// What may be handed over of a frame, if anything may.
    fn feed(&mut self, frame: Bytes, last: bool) -> Option<Frame<Bytes>> {
        let Shown { data, original } = self.masker.feed(frame, last);
        if data.is_empty() {
            return None;
        }
        if let Some(record) = &self.record
            && (self.edited || original.is_some())
        {
            self.edited = true;
            record.set_edited_by("upstream");
            record.set_original(original.unwrap_or_else(|| data.clone()));
        }
        Some(Frame::data(data))
    }

    /// What was kept back is handed over before what follows it.
    fn end(&mut self, then: Option<Result<Frame<Bytes>, E>>) -> Option<Result<Frame<Bytes>, E>> {
        match self.feed(Bytes::new(), true) {
            Some(frame) => {
                self.then = then;
                Some(Ok(frame))
            }
            None => then,
        }
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        let watch = match this.watch {
            Watch::Masked(watch) => watch,
            Watch::Replaced(text) => {
                let text = std::mem::take(text);
                return Poll::Ready((!text.is_empty()).then(|| Ok(Frame::data(text))));
            }
            Watch::None => {
                return match this.inner.as_pin_mut() {
                    Some(mut inner) => {
                        let frame = ready!(inner.as_mut().poll_frame(cx));
                        if this.overheard.is_some() {
                            overhear(this.overheard, frame.as_ref(), inner.is_end_stream());
                        }
                        Poll::Ready(frame)
                    }
                    None => Poll::Ready(None),
                };
            }
        };
        loop {
            if let Some(then) = watch.then.take() {
                return Poll::Ready(Some(then));
            }
            let Some(mut inner) = this.inner.as_mut().as_pin_mut().filter(|_| !watch.over) else {
                return Poll::Ready(None);
            };
            let frame = ready!(inner.as_mut().poll_frame(cx));
            if this.overheard.is_some() {
                overhear(this.overheard, frame.as_ref(), inner.is_end_stream());
            }
            let frame = match frame {
                Some(Ok(frame)) => frame.into_data(),
                Some(Err(error)) => {
                    watch.over = true;
                    return Poll::Ready(watch.end(Some(Err(error))));
                }
                None => {
                    watch.over = true;
                    return Poll::Ready(watch.end(None));
                }
            };
            match frame {
                Ok(data) => {
                    let last = inner.is_end_stream();
                    if let Some(frame) = watch.feed(data, last) {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
                Err(mut trailers) => {
                    if let Some(trailers) = trailers.trailers_mut() {
                        watch.masker.mask_headers(trailers);
                    }
                    return Poll::Ready(watch.end(Some(Ok(trailers))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.watch {
            Watch::Replaced(text) => text.is_empty(),
            Watch::Masked(watch) if watch.masker.held() > 0 || watch.then.is_some() => false,
            Watch::Masked(watch) if watch.over => true,
            _ => self.inner.as_ref().is_none_or(Body::is_end_stream),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.inner.as_ref().map(Body::size_hint).unwrap_or_default();
        let held = match &self.watch {
            Watch::None => return hint,
            Watch::Replaced(text) => return SizeHint::with_exact(text.len() as u64),
            Watch::Masked(watch) => watch.masker.held() as u64,
        };
        let mut whole = SizeHint::new();
        if let Some(upper) = hint.upper() {
            whole.set_upper(upper + held);
        }
        whole.set_lower(hint.lower() + held);
        whole
    }
}

impl<B: Body + fmt::Debug> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
