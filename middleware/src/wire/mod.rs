//! The transport below the HTTP server: tells [`Conn`] when what was written is on the socket, and
//! closes a connection so that the client can read all of it.
//!
//! Contract
//! - *Reads*: the bytes of the connection; [`Conn::asked_to_reset`] in [`close`].
//! - *Writes*: [`Conn::flushed`], each time the transport has taken all that was written.
//! - *Refuses*: nothing.
//! - *Bodies*: untouched; reads, writes and vectored writes are forwarded one to one.
//! - *Ready*: not a service.
//! - *Place*: outermost, between the accepted stream and the HTTP server.
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

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::conn::Conn;

pin_project! {
    /// An accepted stream that acknowledges flushes through its [`Conn`].
    #[derive(Debug)]
    pub struct Wire<T> {
        #[pin]
        io: T,
        conn: Conn,
    }
}

impl<T> Wire<T> {
    /// Wraps a stream that was just accepted.
    pub fn new(io: T, conn: Conn) -> Self {
        Self { io, conn }
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

impl<T: AsyncRead> AsyncRead for Wire<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.project().io.poll_read(cx, buf)
    }
}

impl<T: AsyncWrite> AsyncWrite for Wire<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.project().io.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        ready!(this.io.poll_flush(cx))?;
        this.conn.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().io.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
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
pub async fn close<T>(mut wire: Wire<T>)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    if wire.conn.asked_to_reset() {
        return;
    }
    // The second that runs out is a client that keeps its side open: it had its time.
    let _ = tokio::time::timeout(LINGER, linger(&mut wire.io)).await;
}

async fn linger<T>(io: &mut T) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    io.shutdown().await?;
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
