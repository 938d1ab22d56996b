//! An accepted stream of either kind, which tells its connection that the end came.

use std::{
    future::Future,
    io::{self, ErrorKind, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};
use tokio_rustls::server::TlsStream;

use super::connection::Shared;
use crate::{
    listen::{self, Listener},
    pieces,
};

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
pub(super) struct Stream {
    socket: Socket,
    shared: Arc<Shared>,
    // Ready when the client has left, though nobody reads. Boxed: it is rarely needed.
    lookout: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
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

    /// Ready when something is there to be read, the end too. Over TLS that may be a record without a byte for HTTP.
    pub(super) fn poll_first(&self, cx: &mut Context<'_>) -> Poll<()> {
        // An error is seen by who reads.
        match self {
            Self::Tcp(stream) => poll_look(stream, cx),
            Self::Unix(stream) => stream.poll_read_ready(cx).map(drop),
            Self::Tls(stream) => {
                let (tcp, session) = stream.get_ref();
                // It may have been read with the end of the handshake.
                if !session.wants_read() {
                    return Poll::Ready(());
                }
                poll_look(tcp, cx)
            }
        }
    }

    /// Ready when the other side has closed or reset the connection, whatever waits to be read before that.
    fn left(&self) -> io::Result<Pin<Box<dyn Future<Output = ()> + Send>>> {
        // A wait of its own, beside those for reading and writing, needs a descriptor of its own.
        Ok(match self {
            Self::Unix(stream) => {
                let twin = UnixStream::from_std(SockRef::from(stream).try_clone()?.into())?;
                Box::pin(async move { drop(twin.ready(END).await) })
            }
            Self::Tcp(_) | Self::Tls(_) => {
                let tcp = self.tcp_stream().ok_or(ErrorKind::Unsupported)?;
                let twin = TcpStream::from_std(SockRef::from(tcp).try_clone()?.into())?;
                Box::pin(async move { drop(twin.ready(END).await) })
            }
        })
    }

    fn tcp_stream(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Tls(stream) => Some(stream.get_ref().0),
            Self::Unix(_) => None,
        }
    }
}

/// Asked by a look at a byte: the runtime takes a stream that was just accepted for readable.
fn poll_look(stream: &TcpStream, cx: &mut Context<'_>) -> Poll<()> {
    let mut byte = [0];
    stream.poll_peek(cx, &mut ReadBuf::new(&mut byte)).map(drop)
}

// ===== impl Stream =====

impl Stream {
    pub(super) fn new(socket: Socket, shared: Arc<Shared>) -> Self {
        Self {
            socket,
            shared,
            lookout: None,
        }
    }

    /// An error once the client has left.
    fn look_out(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.lookout.is_none() {
            // Without a descriptor the end is seen when HTTP reads on.
            self.lookout = self.socket.left().ok();
        }
        let left = self
            .lookout
            .as_mut()
            .map(|lookout| lookout.as_mut().poll(cx));
        if left.is_some_and(|polled| polled.is_ready()) {
            self.shared.ended.store(true, Ordering::Relaxed);
            return Err(ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }

    /// Closing the stream from now on sends a reset; a unix socket knows none.
    pub(super) fn reset_on_close(&self) {
        if let Some(stream) = self.socket.tcp_stream() {
            // A socket that refuses is gone already.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
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
        let polled = match &mut this.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        this.shared.lookout.asked(polled.is_pending());
        if polled.is_pending() && this.lookout.is_some() {
            this.lookout = None;
        }
        let read = ready!(polled);
        let bytes = buf.filled().len() - before;
        this.shared.has_read(bytes);
        let over = match &read {
            Ok(()) => bytes == 0 && room > 0,
            // A reset, or the end of a TLS connection without its farewell.
            Err(error) => matches!(
                error.kind(),
                ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof
            ),
        };
        if over {
            this.shared.ended.store(true, Ordering::Relaxed);
        }
        Poll::Ready(read)
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

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.shared.lookout.is_kept() {
            self.look_out(cx)?;
        }
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
            Socket::Tcp(stream) => pieces::poll_write(stream, cx, bufs),
            Socket::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Socket::Unix(stream) => pieces::poll_write(stream, cx, bufs),
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

/// A socket with unread bytes is ready for reading all the time. This it is ready for at its end alone: priority data
/// would be, but is not registered for.
const END: Interest = Interest::PRIORITY.add(Interest::ERROR);

#[cfg(test)]
mod tests;
