//! The transport below the HTTP server: lets no malformed request pass, sees a client that leaves or takes nothing, tells
//! [`Conn`] when what was written is on the socket, and closes a connection so that the client can read all of it.
//!
//! Contract
//! - *Reads*: the bytes of the connection; [`Conn::is_answering`]; [`Conn::asked_to_reset`] in [`close`].
//! - *Writes*: [`Conn::flushed`], each time the transport has taken all that was written; [`Conn::cut`] with
//!   [`Cut::SlowReader`].
//! - *Refuses*: heads that two implementations could understand differently, 400; CONNECT and TRACE, 405; targets and
//!   heads over their [`Limits`], 414 and 431. The answer is fixed ([`Refusal::answer`]), comes behind all that was
//!   answered before, and ends the connection. A body with malformed chunks fails, with a [`Rejection`] in the error.
//! - *Bodies*: untouched; writes and vectored writes are forwarded one to one.
//! - *Ready*: not a service.
//! - *Place*: outermost, between the accepted stream and the HTTP server.
//!
//! **One request at a time.** The server is given a head when it is whole and good, then the body that the head announces,
//! and nothing behind it until the answer has ended (where somebody says so: [`Conn::answer`], as `seal` does). Up to
//! [`Limits::ahead`] is read ahead meanwhile, so that the end of the connection behind them is seen at once, and ends the request. That takes
//! a server that reads: hyper does not while a request body waits for its reader, and then the end is seen when that goes
//! on, unless the owner of the socket looks out for it. A client that shuts its sending side is taken for one that left, as hyper takes it. A head that comes in one read is
//! judged where it lies and not copied.
//!
//! **A client that takes nothing** of what waits for it for [`Limits::slow_reader`] is given up: the write fails, and so
//! the server drops the answer.
//!
//! An HTTP server flushes its transport only when its own buffer has been written out (hyper does).
//! So a flush that completes says more than that the transport is empty: everything produced so
//! far has left the process. That is what [`Conn::poll_flushed`] waits for.
//!
//! ```
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use tollgate_middleware::{conn::Conn, wire::Wire};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let (ours, mut theirs) = tokio::io::duplex(64);
//! let conn = Conn::new();
//! let mut wire = Wire::new(ours, conn.clone());
//! let mark = conn.mark();
//! wire.write_all(b"data: 1\n\n").await?;
//! wire.flush().await?;
//! std::future::poll_fn(|cx| conn.poll_flushed(mark, cx)).await;
//! # let mut read = [0; 9];
//! # theirs.read_exact(&mut read).await?;
//! # assert_eq!(&read, b"data: 1\n\n");
//! # Ok(())
//! # }
//! ```

mod chunks;
mod follow;
mod head;
mod refusal;

use std::{
    fmt,
    future::Future,
    io::{self, IoSlice},
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use self::follow::Follow;
pub use self::refusal::Refusal;
use crate::{
    clock::{Clock, SystemClock},
    conn::{Conn, Cut},
    error::Rejection,
};

/// What a connection may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's line and headers together.
    pub head: usize,
    /// Headers of a request.
    pub headers: usize,
    /// Bytes of a request's target.
    pub target: usize,
    /// Bytes that are read ahead behind a request that is being answered; a client that sends more is given up.
    pub ahead: usize,
    /// How long the client may take none of what waits for it; `None` is for ever.
    pub slow_reader: Option<Duration>,
}

impl Default for Limits {
    /// 32 KiB, 100 headers, 8 KiB, 16 KiB, 30 seconds.
    fn default() -> Self {
        Self {
            head: 32 * 1024,
            headers: 100,
            target: 8 * 1024,
            ahead: 16 * 1024,
            slow_reader: Some(Duration::from_secs(30)),
        }
    }
}

/// Is told what happens below the HTTP server.
pub trait Watch {
    /// The first byte of a head has come.
    fn head_begins(&mut self) {}

    /// Something was read; `whole` if a request has come whole with it, and nothing behind that.
    fn has_read(&mut self, whole: bool) {
        let _ = whole;
    }

    /// Something is refused; gives the whole answer. The connection ends with it.
    fn refused(&mut self, refusal: &Refusal) -> Vec<u8> {
        refusal.answer(None)
    }
}

impl Watch for () {}

pin_project! {
    /// An accepted stream that lets no malformed request pass, and tells its [`Conn`] what it sees.
    pub struct Wire<T, W = (), C: Clock = SystemClock> {
        #[pin]
        io: T,
        conn: Conn,
        watch: W,
        clock: C,
        follow: Follow,
        slow_reader: Option<Duration>,
        // What was read and not handed on, and how much of its beginning may be.
        held: Vec<u8>,
        granted: usize,
        // The head that is on its way has been told of.
        begun: bool,
        // The answer to what was refused, and how much of it is written. Nothing is read any more.
        refusal: Option<(Vec<u8>, usize)>,
        // Runs while the client takes nothing.
        stalled: Option<Pin<Box<C::Sleep>>>,
    }
}

impl<T> Wire<T> {
    /// Wraps a stream that was just accepted, with the default limits.
    pub fn new(io: T, conn: Conn) -> Self {
        Self::with(io, conn, Limits::default(), ())
    }
}

impl<T, W> Wire<T, W> {
    /// Wraps a stream that was just accepted.
    pub fn with(io: T, conn: Conn, limits: Limits, watch: W) -> Self {
        Self {
            io,
            conn,
            watch,
            clock: SystemClock,
            follow: Follow::new(limits),
            slow_reader: limits.slow_reader,
            held: Vec::new(),
            granted: 0,
            begun: false,
            refusal: None,
            stalled: None,
        }
    }
}

impl<T, W, C: Clock> Wire<T, W, C> {
    /// Takes the time from another clock.
    pub fn clock<D: Clock>(self, clock: D) -> Wire<T, W, D> {
        Wire {
            io: self.io,
            conn: self.conn,
            watch: self.watch,
            clock,
            follow: self.follow,
            slow_reader: self.slow_reader,
            held: self.held,
            granted: self.granted,
            begun: self.begun,
            refusal: self.refusal,
            stalled: None,
        }
    }

    /// The handle of this connection.
    pub fn conn(&self) -> &Conn {
        &self.conn
    }

    /// The stream.
    pub fn get_ref(&self) -> &T {
        &self.io
    }

    /// The stream, to change it.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.io
    }

    /// The stream back.
    pub fn into_inner(self) -> T {
        self.io
    }
}

impl<T, W: Watch, C: Clock> Wire<T, W, C> {
    /// Refuses what is on its way: nothing more is read, and shutting the stream down begins with the answer. Only
    /// before a request has come whole.
    pub fn refuse(&mut self, refusal: &Refusal) {
        if self.refusal.is_none() {
            self.refusal = Some((self.watch.refused(refusal), 0));
        }
    }
}

/// Whether this is nothing, or no more than the empty line that is ignored before a request.
fn is_blank(bytes: &[u8]) -> bool {
    // Asked first: an empty slice need not lie anywhere, and what compares memory may stumble over that.
    bytes.is_empty() || b"\r\n".starts_with(bytes)
}

/// What the reading half looks at.
struct Reading<'a, W> {
    conn: &'a Conn,
    watch: &'a mut W,
    follow: &'a mut Follow,
    held: &'a mut Vec<u8>,
    granted: &'a mut usize,
    begun: &'a mut bool,
    refusal: &'a mut Option<(Vec<u8>, usize)>,
}

impl<W: Watch> Reading<'_, W> {
    /// Hands on what may be, of what was read before; true if there is an answer to the server.
    fn hand_on(&mut self, buf: &mut ReadBuf<'_>) -> io::Result<bool> {
        if self.refusal.is_some() {
            // To the server, the client has left.
            return Ok(true);
        }
        let over = self.follow.is_over() && *self.granted == 0;
        if over && !self.conn.is_answering() {
            self.follow.next();
            *self.begun = false;
            self.begin();
        }
        if *self.granted == 0 && !self.held.is_empty() && !self.follow.is_over() {
            let held = mem::take(self.held);
            let granted = self.grant(&held);
            *self.held = held;
            *self.granted = granted?;
        }
        if self.refusal.is_some() {
            return Ok(true);
        }
        if *self.granted == 0 {
            return Ok(false);
        }
        let some = buf.remaining().min(*self.granted);
        buf.put_slice(&self.held[..some]);
        *self.granted -= some;
        if some == self.held.len() {
            // Rarely used: nothing is kept for the next time.
            *self.held = Vec::new();
        } else {
            self.held.drain(..some);
        }
        Ok(true)
    }

    /// Whether something waits for the end of an answer.
    fn keeps_back(&self) -> bool {
        self.follow.is_over() && !self.held.is_empty()
    }

    /// Looks at what was read: it stays in `buf` as far as it may be handed on. True if there is an answer to the server.
    fn look(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> io::Result<bool> {
        if buf.filled().len() == before {
            return Ok(true);
        }
        let new = buf.filled().len() - before;
        if self.follow.is_over() && self.held.len() + new > self.follow.limits().ahead {
            return Err(io::Error::other("too much was sent behind a request"));
        }
        if self.held.is_empty() {
            if self.follow.in_head() && !is_blank(&buf.filled()[before..]) {
                self.watch.head_begins();
                *self.begun = true;
            }
            let granted = self.grant(&buf.filled()[before..])?;
            if self.refusal.is_none() {
                self.held
                    .extend_from_slice(&buf.filled()[before + granted..]);
            }
            buf.set_filled(before + granted);
            return Ok(granted > 0 || self.refusal.is_some());
        }
        self.held.extend_from_slice(&buf.filled()[before..]);
        buf.set_filled(before);
        self.begin();
        Ok(false)
    }

    /// Tells what has become of what was read.
    fn tell(&mut self) {
        let whole = self.follow.is_over() && self.held.is_empty();
        self.watch.has_read(whole);
    }

    /// Tells of the first byte of a head among what is held, once. The empty line that may stand before it is none.
    fn begin(&mut self) {
        if self.follow.in_head() && !*self.begun && !is_blank(self.held) {
            self.watch.head_begins();
            *self.begun = true;
        }
    }

    /// How much of `bytes` may be handed on. A refusal that can be answered gives nothing; in a body, the request fails.
    fn grant(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let in_head = self.follow.in_head();
        match self.follow.grant(bytes) {
            Ok(granted) => Ok(granted),
            Err(refusal) if in_head => {
                *self.refusal = Some((self.watch.refused(&refusal), 0));
                Ok(0)
            }
            Err(refusal) => {
                // The server is reading: the layer that waits for the body is told why it fails.
                *self.refusal = Some((Vec::new(), 0));
                let why = Rejection::new(refusal.reason(), "wire", refusal.message());
                Err(io::Error::new(io::ErrorKind::InvalidData, why))
            }
        }
    }
}

impl<T: AsyncRead, W: Watch, C: Clock> AsyncRead for Wire<T, W, C> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut this = self.project();
        let mut reading = Reading {
            conn: this.conn,
            watch: this.watch,
            follow: this.follow,
            held: this.held,
            granted: this.granted,
            begun: this.begun,
            refusal: this.refusal,
        };
        loop {
            if reading.hand_on(buf)? {
                reading.tell();
                return Poll::Ready(Ok(()));
            }
            let before = buf.filled().len();
            let polled = this.io.as_mut().poll_read(cx, buf);
            if polled.is_pending() && reading.keeps_back() {
                // The end of the answer is no event of the stream's.
                if !reading.conn.wake_after_answer(cx.waker()) {
                    continue;
                }
                return Poll::Pending;
            }
            ready!(polled)?;
            let looked = reading.look(buf, before)?;
            reading.tell();
            if looked {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<T: AsyncWrite, W, C: Clock> Wire<T, W, C> {
    /// What the stream says of a write or flush, unless the client has taken nothing for too long.
    fn taken<R>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        let this = self.project();
        if polled.is_ready() {
            // Boxed, and made only while there is something to wait for.
            if this.stalled.is_some() {
                *this.stalled = None;
            }
            return polled;
        }
        let Some(limit) = *this.slow_reader else {
            return Poll::Pending;
        };
        let clock = this.clock;
        let timer = this
            .stalled
            .get_or_insert_with(|| Box::pin(clock.sleep_until(clock.now() + limit)));
        ready!(timer.as_mut().poll(cx));
        this.conn.cut(Cut::SlowReader);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncWrite, W, C: Clock> AsyncWrite for Wire<T, W, C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = self.as_mut().project().io.poll_write(cx, buf);
        self.taken(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.as_mut().project().io.poll_flush(cx);
        ready!(self.as_mut().taken(cx, polled))?;
        self.conn.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut this = self.project();
        if let Some((answer, written)) = this.refusal {
            while *written < answer.len() {
                match ready!(this.io.as_mut().poll_write(cx, &answer[*written..]))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    some => *written += some,
                }
            }
        }
        this.io.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = self.as_mut().project().io.poll_write_vectored(cx, bufs);
        self.taken(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

impl<T: fmt::Debug, W, C: Clock> fmt::Debug for Wire<T, W, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("io", &self.io)
            .field("conn", &self.conn)
            .finish_non_exhaustive()
    }
}

/// Closes a connection whose HTTP exchange is over, so that the client can read what was written.
///
/// Closing a socket that holds unread bytes sends a reset, and a reset makes the client's kernel
/// throw away what it has not delivered yet. So the write side is shut first, then at most 64 KiB
/// are read and thrown away, for at most one second or until the client closes too.
///
/// A connection that is to be reset ([`Conn::asked_to_reset`]) is dropped at once; the owner of the
/// socket sets its linger time to zero before.
///
/// # Cancel safety
///
/// Dropping the future drops the stream.
pub async fn close<T, W, C>(mut wire: Wire<T, W, C>)
where
    T: AsyncRead + AsyncWrite + Unpin,
    W: Unpin,
    C: Clock + Unpin,
{
    if wire.conn.asked_to_reset() {
        return;
    }
    // The second that runs out is a client that keeps its side open: it had its time.
    let _ = tokio::time::timeout(LINGER, linger(&mut wire)).await;
}

async fn linger<T, W, C>(wire: &mut Wire<T, W, C>) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
    W: Unpin,
    C: Clock + Unpin,
{
    wire.shutdown().await?;
    let io = &mut wire.io;
    // On the heap, so that a connection pays for it only while it closes.
    let mut waste = vec![0; CHUNK];
    let mut left = LINGER_BYTES;
    while left > 0 {
        let some = left.min(CHUNK);
        match io.read(&mut waste[..some]).await? {
            0 => break,
            read => left -= read,
        }
    }
    Ok(())
}

/// How long a client may take to close its side.
const LINGER: Duration = Duration::from_secs(1);
/// How much of what it still sends is thrown away.
const LINGER_BYTES: usize = 64 * 1024;
/// Size of one of these reads.
const CHUNK: usize = 8 * 1024;

#[cfg(test)]
mod tests;
