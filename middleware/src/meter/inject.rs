//! Asking for the usage of a stream in the caller's stead, and taking out what comes of it.

use std::{
    collections::VecDeque,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Request;
use http_body::Frame;
use memchr::memchr2;
use tower_layer::Layer;
use tower_service::Service;
use xxhash_rust::xxh3::Xxh3;

use crate::{
    body::Held,
    dialect::{Dialect, Operation},
    facts::Intent,
    json::{Kind, Value},
    record::Record,
    sse::Scanner,
};

/// Asks for a usage report where the caller of a stream did not: `stream_options.include_usage` of OpenAI's dialect, written
/// into the body in place.
///
/// Stands outside of [`MeterLayer`](super::MeterLayer), which takes the extra chunk out of the answer again. What is no
/// streamed chat or completion of that dialect, asks already, or could not be read, passes untouched.
#[derive(Clone, Copy, Debug, Default)]
pub struct InjectLayer {
    on: bool,
    #[cfg(feature = "tokenizer")]
    keeps: bool,
}

impl InjectLayer {
    /// A layer that asks if `on`, and else does nothing.
    pub fn new(on: bool) -> Self {
        Self {
            on,
            #[cfg(feature = "tokenizer")]
            keeps: false,
        }
    }

    /// Whether the body of a request is kept, beside its way, for the tokenizer of the [`MeterLayer`](super::MeterLayer) inside.
    #[cfg(feature = "tokenizer")]
    #[must_use]
    pub fn keep_prompts(mut self, yes: bool) -> Self {
        self.keeps = yes;
        self
    }
}

impl<S> Layer<S> for InjectLayer {
    type Service = Inject<S>;

    fn layer(&self, inner: S) -> Inject<S> {
        Inject {
            inner,
            policy: *self,
        }
    }
}

/// The service of [`InjectLayer`].
#[derive(Clone, Debug)]
pub struct Inject<S> {
    inner: S,
    policy: InjectLayer,
}

impl<S, B> Service<Request<Held<B>>> for Inject<S>
where
    S: Service<Request<Held<B>>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut req: Request<Held<B>>) -> S::Future {
        #[cfg(feature = "tokenizer")]
        if self.policy.keeps && req.body().is_whole() {
            let sent = super::tokens::Sent(req.body().frames().to_vec());
            req.extensions_mut().insert(sent);
        }
        if self.policy.on && asks_for_it(&req) && ask(req.body_mut()) {
            req.extensions_mut().insert(Injected);
        } else {
            // Of an attempt before, at a target that does ask.
            req.extensions_mut().remove::<Injected>();
        }
        self.inner.call(req)
    }
}

/// The caller did not ask for the usage that will come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Injected;

fn asks_for_it<B>(req: &Request<Held<B>>) -> bool {
    let Some(intent) = req.extensions().get::<Intent>() else {
        return false;
    };
    let surface = intent.surface();
    let takes_it = matches!(
        (surface.dialect, surface.operation),
        (
            Dialect::OpenAi | Dialect::Azure | Dialect::Mock,
            Operation::Chat | Operation::Completions
        )
    );
    takes_it
        && intent.stream()
        && !intent.include_usage()
        && intent.object().is_some()
        && req.body().is_whole()
}

/// Writes the member into the body; false if it has no place there.
fn ask<B>(body: &mut Held<B>) -> bool {
    let edit = {
        let text = body.text();
        Value::parse(&text).and_then(edit)
    };
    let Some((at, with)) = edit else { return false };
    body.edit(at, with);
    true
}

/// Which span of a body to replace, and with what.
fn edit(root: Value<'_>) -> Option<(std::ops::Range<usize>, &'static str)> {
    if root.kind() != Kind::Object {
        return None;
    }
    let Some(options) = root.get("stream_options") else {
        // A body that asks for a stream has a member already.
        let end = root.span().end - 1;
        return Some((end..end, r#","stream_options":{"include_usage":true}"#));
    };
    if options.is_null() {
        return Some((options.span(), r#"{"include_usage":true}"#));
    }
    if options.kind() != Kind::Object {
        return None;
    }
    if let Some(asked) = options.get("include_usage") {
        return Some((asked.span(), "true"));
    }
    let end = options.span().end - 1;
    let empty = options.members().next().is_none();
    let with = if empty {
        r#""include_usage":true"#
    } else {
        r#","include_usage":true"#
    };
    Some((end..end, with))
}

/// Takes the chunk that carries nothing but usage out of an event stream. Of an event whose end has not come, the bytes wait.
pub(super) struct Removal<E> {
    scanner: Scanner,
    /// Bytes of the event at hand.
    held: Vec<Bytes>,
    length: usize,
    /// The event at hand is too large to be the chunk.
    passes: bool,
    /// The last event was taken out, and ended with a CR: an LF behind it is its own.
    swallows: bool,
    ready: VecDeque<Bytes>,
    end: Option<Last<E>>,
    over: bool,
    hash: Option<Box<Xxh3>>,
    record: Option<Record>,
    removed: bool,
    // Somebody inside has changed bytes.
    edited: bool,
}

/// What follows the bytes.
enum Last<E> {
    Trailers(Frame<Bytes>),
    Error(E),
    End,
}

impl<E> Removal<E> {
    pub(super) fn new(record: Option<Record>) -> Self {
        Self {
            scanner: Scanner::new(LARGEST),
            held: Vec::new(),
            length: 0,
            passes: false,
            swallows: false,
            ready: VecDeque::new(),
            end: None,
            over: false,
            hash: record.as_ref().map(|_| Box::new(Xxh3::new())),
            record,
            removed: false,
            edited: false,
        }
    }

    /// Takes the next frame from the provider.
    pub(super) fn take(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) => self.data(data),
            Err(trailers) => {
                self.release();
                self.end = Some(Last::Trailers(trailers));
            }
        }
    }

    /// The provider's answer broke.
    pub(super) fn fail(&mut self, error: E) {
        self.release();
        self.end = Some(Last::Error(error));
    }

    /// The provider's answer has ended.
    pub(super) fn end(&mut self) {
        self.release();
        self.end = Some(Last::End);
    }

    /// What is to be handed over next; `None` if more is to be taken first.
    pub(super) fn next(&mut self) -> Option<Option<Result<Frame<Bytes>, E>>> {
        if self.over {
            return Some(None);
        }
        if let Some(data) = self.ready.pop_front() {
            return Some(Some(Ok(Frame::data(data))));
        }
        match self.end.take()? {
            Last::Trailers(frame) => Some(Some(Ok(frame))),
            Last::Error(error) => {
                self.over = true;
                Some(Some(Err(error)))
            }
            Last::End => {
                self.over = true;
                Some(None)
            }
        }
    }

    /// Whether nothing more will be handed over.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    fn data(&mut self, mut data: Bytes) {
        if let (Some(hash), Some(record)) = (&mut self.hash, &self.record) {
            // A layer inside may have changed it already, and then says what it was.
            let original = record.is_edited().then(|| record.take_original()).flatten();
            self.edited |= original.is_some();
            hash.update(original.as_ref().unwrap_or(&data));
        }
        if std::mem::take(&mut self.swallows) && data.first() == Some(&b'\n') {
            self.scanner.feed(b"\n", |_| {});
            data = data.slice(1..);
        }
        // Frames stay whole where nothing is taken out of them: `clear` bytes may go, from `from` on.
        let (mut from, mut clear, mut at) = (0, 0, 0);
        while at < data.len() {
            let line = memchr2(b'\n', b'\r', &data[at..]).map(|end| at + end + 1);
            let mut to = line.unwrap_or(data.len());
            if data[to - 1] == b'\r' && data.get(to) == Some(&b'\n') {
                to += 1;
            }
            let (mut dispatched, mut extra) = (false, false);
            self.scanner.feed(&data[at..to], |event| {
                dispatched = true;
                extra = !event.truncated && is_extra(event.data);
            });
            at = to;
            if extra && !self.passes {
                self.remove(to == data.len() && data[to - 1] == b'\r');
                self.hand_over(data.slice(from..clear));
                (from, clear) = (to, to);
            } else if dispatched || self.scanner.at_boundary() {
                self.release();
                self.passes = false;
                clear = to;
            }
        }
        self.hand_over(data.slice(from..clear));
        if clear < data.len() {
            self.held.push(data.slice(clear..));
            self.length += data.len() - clear;
            if self.passes || self.length > LARGEST {
                self.passes = true;
                self.release();
            }
        }
    }

    fn hand_over(&mut self, data: Bytes) {
        if !data.is_empty() {
            self.ready.push_back(data);
        }
    }

    /// Hands over what waits.
    fn release(&mut self) {
        self.ready.extend(self.held.drain(..));
        self.length = 0;
    }

    fn remove(&mut self, swallows: bool) {
        self.held.clear();
        self.length = 0;
        self.swallows = swallows;
        if !std::mem::replace(&mut self.removed, true)
            && let Some(record) = &self.record
        {
            record.set_edited_by("meter");
        }
    }
}

impl<E> Drop for Removal<E> {
    fn drop(&mut self) {
        if (self.removed || self.edited)
            && let (Some(record), Some(hash)) = (&self.record, &self.hash)
        {
            record.set_upstream_digest(hash.digest128());
        }
    }
}

impl<E> std::fmt::Debug for Removal<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Removal")
            .field("length", &self.length)
            .field("removed", &self.removed)
            .finish_non_exhaustive()
    }
}

/// Whether a chunk has no choices and reports usage.
fn is_extra(data: &[u8]) -> bool {
    let Some(root) = Value::parse(data) else {
        return false;
    };
    let choices = root.get("choices");
    let none = choices.is_some_and(|all| all.kind() == Kind::Array && all.items().next().is_none());
    none && root
        .get("usage")
        .is_some_and(|usage| usage.kind() == Kind::Object)
}

/// The most bytes of one event that wait. A chunk with nothing but usage is below one kilobyte.
const LARGEST: usize = 64 * 1024;
