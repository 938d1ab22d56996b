//! Stands between a connection and its transport: says when bytes came that nobody asked for, and
//! bounds what may come before a head.

use std::{
    error::Error,
    fmt, io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use pin_project_lite::pin_project;

pin_project! {
    /// The transport of one connection.
    pub(super) struct Watched<T> {
        #[pin]
        io: T,
        quiet: fn(&T) -> bool,
        before_head: usize,
        watch: Watch,
    }
}

/// What a connection expects to read; shared with the [`Link`](super::link::Link) that owns it.
#[derive(Clone, Debug)]
pub(super) struct Watch(Arc<AtomicUsize>);

/// The rest of an answer, or nothing in particular.
const ANY: usize = usize::MAX;
/// Nothing: a request is about to be written to a connection that was idle.
const NOTHING: usize = usize::MAX - 1;
/// As before, and the runtime would have heard of it.
const HEARD: usize = usize::MAX - 2;
/// A head, of which nothing has been read; then the number of bytes that may still come before it.
const HEAD: usize = usize::MAX - 3;

/// Size of one of these reads: they are few, and the room for each is made at every try.
const SOME: usize = 512;

/// What is known of a connection over which a request is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Idle {
    /// It was never idle.
    Never,
    /// The runtime has looked at it while it was idle.
    LookedAt,
    /// It was idle, and the runtime may not have looked since.
    Unseen,
}

/// Why no more is read from a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Bytes came before anything was asked.
    Unasked,
    /// Interim answers without end.
    Flood,
}

// ===== impl Watch =====

impl Watch {
    /// A request goes out.
    pub(super) fn request(&self, idle: Idle) {
        let expected = match idle {
            Idle::Never => HEAD,
            Idle::LookedAt => HEARD,
            Idle::Unseen => NOTHING,
        };
        self.0.store(expected, Relaxed);
    }

    /// The head has come.
    pub(super) fn answer(&self) {
        self.0.store(ANY, Relaxed);
    }
}

// ===== impl Watched =====

impl<T> Watched<T> {
    /// Watches `io`, of which `quiet` says whether nothing waits to be read.
    ///
    /// `before_head` is how many bytes may come before the end of a head, interim answers included, beside the first
    /// read.
    pub(super) fn new(io: T, quiet: fn(&T) -> bool, before_head: usize) -> (Self, Watch) {
        let watch = Watch(Arc::new(AtomicUsize::new(ANY)));
        let watched = Self {
            io,
            quiet,
            before_head: before_head.min(HEAD - 1),
            watch: watch.clone(),
        };
        (watched, watch)
    }
}

/// Reads through a buffer of our own, because what hyper's takes cannot be counted.
fn poll_counted<T: Read>(
    io: Pin<&mut T>,
    cx: &mut Context<'_>,
    mut buf: ReadBufCursor<'_>,
    left: usize,
) -> Poll<io::Result<usize>> {
    if left == 0 {
        return Poll::Ready(Err(Fault::Flood.into()));
    }
    let mut bytes = [0; SOME];
    let room = SOME.min(left).min(buf.remaining());
    let mut some = ReadBuf::new(&mut bytes[..room]);
    ready!(io.poll_read(cx, some.unfilled()))?;
    buf.put_slice(some.filled());
    Poll::Ready(Ok(left - some.filled().len()))
}

impl<T: Read> Read for Watched<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut this = self.project();
        let expected = &this.watch.0;
        match expected.load(Relaxed) {
            ANY => this.io.poll_read(cx, buf),
            state @ (NOTHING | HEARD) => {
                // HTTP looks here for the end of the connection before it writes a request.
                let polled = this.io.as_mut().poll_read(cx, buf);
                if polled.is_pending() {
                    // What the runtime has not been told of yet is there all the same.
                    if state == NOTHING && !(this.quiet)(&this.io) {
                        return Poll::Ready(Err(Fault::Unasked.into()));
                    }
                    this.watch.request(Idle::Never);
                }
                polled
            }
            HEAD => {
                // Nearly always the only one, and no larger than HTTP's buffer.
                ready!(this.io.poll_read(cx, buf))?;
                expected.store(*this.before_head, Relaxed);
                Poll::Ready(Ok(()))
            }
            left => {
                let left = ready!(poll_counted(this.io, cx, buf, left))?;
                expected.store(left, Relaxed);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl<T: Write> Write for Watched<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.project().io.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().io.poll_write_vectored(cx, bufs)
    }
}

/// What a transport said by an `io::Error` that wraps it.
pub(super) fn said<E: Error + 'static>(error: &hyper::Error) -> Option<&E> {
    let mut next = error.source();
    while let Some(error) = next {
        // An io::Error tells what it wraps by another way than `source`.
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| inner.downcast_ref()) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

// ===== impl Fault =====

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unasked => "bytes came that nobody asked for",
            Self::Flood => "too much came before a response head",
        })
    }
}

impl Error for Fault {}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        Self::new(io::ErrorKind::InvalidData, fault)
    }
}
