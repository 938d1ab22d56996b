//! An accepted stream of either kind, which tells its connection that the end came.

use std::{
    io::{self, ErrorKind, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};
use tokio_rustls::server::TlsStream;

use super::connection::Shared;
use crate::listen::{self, Listener};

/// A listener of one worker, in its runtime.
#[derive(Debug)]
pub(super) enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// What waits at a listener that is about to close.
#[derive(Debug)]
pub(super) struct Waiting(Listener);

/// What was accepted.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    /// Boxed: a plain connection does not keep a kilobyte for it.
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

/// The stream below the HTTP server.
#[derive(Debug)]
pub(super) struct Stream {
    socket: Socket,
    shared: Arc<Shared>,
}

// ===== impl Acceptor =====

impl Acceptor {
    /// Takes a listener into the runtime of the caller.
    pub(super) fn new(listener: Listener) -> io::Result<Self> {
        Ok(match listener {
            Listener::Tcp(listener) => Self::Tcp(TcpListener::from_std(listener)?),
            Listener::Unix(listener) => Self::Unix(UnixListener::from_std(listener)?),
        })
    }

    /// Takes it out of the runtime, to be asked without waiting.
    pub(super) fn into_waiting(self) -> io::Result<Waiting> {
        Ok(Waiting(match self {
            Self::Tcp(listener) => Listener::Tcp(listener.into_std()?),
            Self::Unix(listener) => Listener::Unix(listener.into_std()?),
        }))
    }

    /// The next connection.
    pub(super) fn poll_accept(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Socket, Option<SocketAddr>)>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, at) = ready!(listener.poll_accept(cx))?;
                Poll::Ready(Socket::tcp(stream, at))
            }
            Self::Unix(listener) => {
                let (stream, _) = ready!(listener.poll_accept(cx))?;
                Poll::Ready(Ok((Socket::Unix(stream), None)))
            }
        }
    }
}

// ===== impl Waiting =====

impl Waiting {
    /// The next connection, if it is there already; else an error that says that it would block.
    pub(super) fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        match &self.0 {
            Listener::Tcp(listener) => {
                let (stream, at) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Socket::tcp(TcpStream::from_std(stream)?, at)
            }
            Listener::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok((Socket::Unix(UnixStream::from_std(stream)?), None))
            }
        }
    }
}

// ===== impl Socket =====

impl Socket {
    fn tcp(stream: TcpStream, at: SocketAddr) -> io::Result<(Self, Option<SocketAddr>)> {
        // A socket that takes no option is gone already.
        listen::accepted(&stream).map_err(|_| ErrorKind::ConnectionAborted)?;
        Ok((Self::Tcp(stream), Some(at)))
    }
}

// ===== impl Stream =====

impl Stream {
    pub(super) fn new(socket: Socket, shared: Arc<Shared>) -> Self {
        Self { socket, shared }
    }

    /// Closing the stream from now on sends a reset; a unix socket knows none.
    pub(super) fn reset_on_close(&self) {
        let stream = match &self.socket {
            Socket::Tcp(stream) => stream,
            Socket::Tls(stream) => stream.get_ref().0,
            Socket::Unix(_) => return,
        };
        // A socket that refuses is gone already.
        let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
    }

    fn socket(self: Pin<&mut Self>) -> Pin<&mut Socket> {
        Pin::new(&mut self.get_mut().socket)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let (before, room) = (buf.filled().len(), buf.remaining());
        ready!(match &mut this.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        })?;
        if buf.filled().len() == before && room > 0 {
            this.shared.ended.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.socket().get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.socket().get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.socket().get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.socket().get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Socket::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Socket::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Tcp(stream) => stream.is_write_vectored(),
            Socket::Tls(stream) => stream.is_write_vectored(),
            Socket::Unix(stream) => stream.is_write_vectored(),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // An answer that only the end of the connection ends must not seem whole.
        if std::thread::panicking() {
            self.reset_on_close();
        }
    }
}
