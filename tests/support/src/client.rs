//! A raw HTTP/1.1 client: sends any bytes, reads them as they come, can be slow, half-closed, reset or pipelined.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use socket2::{Domain, SockRef, Socket, Type};
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout_at},
};

use crate::canary::Ear;
pub use crate::http1::{Ended, Message};

/// One connection. Responses are read in the background, so that their times are true; dropping it closes the socket.
#[derive(Debug)]
pub struct Conn {
    stream: Arc<TcpStream>,
    inbox: Arc<Inbox>,
    reader: JoinSet<()>,
    deadline: Duration,
}

#[derive(Debug)]
struct Inbox {
    state: Mutex<State>,
    news: watch::Sender<()>,
    paused: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    message: Message,
    ear: Option<Ear>,
    lost: Option<Lost>,
}

/// When and how the connection was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// When it was seen.
    pub at: Instant,
    /// True for a reset, false for an orderly close.
    pub reset: bool,
}

// ===== impl Conn =====

impl Conn {
    /// Connects.
    ///
    /// # Panics
    /// When the connection is refused.
    pub async fn open(addr: SocketAddr) -> Self {
        Self::over(TcpStream::connect(addr).await.expect("a connection"))
    }

    /// Connects with a receive buffer of about `bytes` (the kernel rounds up), so that a peer's writes come to a halt soon.
    ///
    /// # Panics
    /// When the connection is refused.
    pub async fn open_small(addr: SocketAddr, bytes: usize) -> Self {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).expect("a socket");
        socket
            .set_recv_buffer_size(bytes)
            .expect("a receive buffer");
        socket
            .set_nonblocking(true)
            .expect("a socket without blocking");
        let socket = TcpSocket::from_std_stream(socket.into());
        Self::over(socket.connect(addr).await.expect("a connection"))
    }

    fn over(stream: TcpStream) -> Self {
        stream
            .set_nodelay(true)
            .expect("a connected socket takes options");
        let stream = Arc::new(stream);
        let state = State {
            message: Message::response("POST"),
            ear: None,
            lost: None,
        };
        let inbox = Arc::new(Inbox {
            state: Mutex::new(state),
            news: watch::Sender::new(()),
            paused: watch::Sender::new(false),
        });
        let mut reader = JoinSet::new();
        reader.spawn(read(Arc::clone(&stream), Arc::clone(&inbox)));
        Self {
            stream,
            inbox,
            reader,
            deadline: crate::DEADLINE,
        }
    }

    /// Sets how long each wait may take, in place of [`crate::DEADLINE`].
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Lets an ear hear what arrives from now on.
    #[must_use]
    pub fn heard_by(self, ear: Ear) -> Self {
        self.inbox.with(|state| state.ear = Some(ear));
        self
    }

    /// The local address.
    ///
    /// # Panics
    /// When the socket has lost it.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.stream
            .local_addr()
            .expect("a connected socket has an address")
    }

    /// Sends bytes. An error says that the peer went; those it took before are gone.
    ///
    /// # Errors
    /// When the peer is gone, or with `TimedOut` when it takes nothing more within the deadline.
    pub async fn send(&self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let mut rest = bytes.as_ref();
        while !rest.is_empty() {
            let took = self.send_some(rest).await?;
            rest = &rest[took..];
        }
        Ok(())
    }

    /// Sends what the socket takes at once, but at least one byte; gives the number.
    ///
    /// # Errors
    /// As [`Conn::send`].
    pub async fn send_some(&self, bytes: &[u8]) -> io::Result<usize> {
        let end = Instant::now() + self.deadline;
        loop {
            timeout_at(end, self.stream.writable()).await??;
            match self.stream.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                out => return out,
            }
        }
    }

    /// The response as it stands.
    #[must_use]
    pub fn message(&self) -> Message {
        self.inbox.with(|state| state.message.clone())
    }

    /// When and how the connection was lost, if it was.
    #[must_use]
    pub fn lost(&self) -> Option<Lost> {
        self.inbox.with(|state| state.lost)
    }

    /// Waits until the condition holds for the response as it stands.
    ///
    /// False when the connection was lost first: then it will never hold.
    ///
    /// # Panics
    /// When neither happens within the deadline; the message shows what had arrived.
    pub async fn until(&self, mut condition: impl FnMut(&Message) -> bool) -> bool {
        let mut news = self.inbox.news.subscribe();
        let end = Instant::now() + self.deadline;
        loop {
            let (holds, lost) = self
                .inbox
                .with(|state| (condition(&state.message), state.lost));
            if holds || lost.is_some() {
                return holds;
            }
            let waited = timeout_at(end, news.changed()).await;
            assert!(
                waited.is_ok(),
                "still waiting for the response: {:#?}",
                self.message()
            );
        }
    }

    /// Waits for the end of the response, whichever it is.
    ///
    /// # Panics
    /// As [`Conn::until`].
    pub async fn response(&self) -> Message {
        self.until(|message| message.ended.is_some()).await;
        self.message()
    }

    /// Waits until the connection is lost.
    ///
    /// # Panics
    /// As [`Conn::until`].
    pub async fn closed(&self) -> Lost {
        self.until(|_| false).await;
        self.lost().expect("nothing else ends the wait")
    }

    /// Starts to read the response to the next request on this connection.
    pub fn next(&self, method: &str) {
        self.inbox.with(|state| {
            let rest = state.message.rest();
            state.message = Message::response(method);
            if !rest.is_empty() {
                state.message.feed(&rest);
            }
            if let Some(lost) = state.lost {
                state.message.finish(lost.reset);
            }
        });
    }

    /// Stops reading; what arrives fills the kernel's buffers and then halts the peer.
    pub fn pause(&self) {
        self.inbox.paused.send_replace(true);
    }

    /// Reads again.
    pub fn resume(&self) {
        self.inbox.paused.send_replace(false);
    }

    /// Closes the sending direction only.
    ///
    /// # Errors
    /// When the peer is gone.
    pub fn half_close(&self) -> io::Result<()> {
        SockRef::from(&*self.stream).shutdown(std::net::Shutdown::Write)
    }

    /// Resets the connection; returns when that is done.
    ///
    /// # Panics
    /// When the socket takes no options.
    pub async fn reset(self) {
        SockRef::from(&*self.stream)
            .set_linger(Some(Duration::ZERO))
            .expect("a socket takes options");
        self.close().await;
    }

    /// Closes the connection; returns when that is done.
    pub async fn close(mut self) {
        // The reader holds the socket until it is over.
        self.reader.shutdown().await;
    }
}

impl Inbox {
    fn with<T>(&self, edit: impl FnOnce(&mut State) -> T) -> T {
        // A panic inside a test's condition leaves the state whole.
        edit(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn read(stream: Arc<TcpStream>, inbox: Arc<Inbox>) {
    let mut paused = inbox.paused.subscribe();
    let mut bytes = vec![0; 64 * 1024];
    loop {
        // Both errors would say that the inbox or the runtime is gone, and this task with it.
        if stream.readable().await.is_err() || paused.wait_for(|paused| !paused).await.is_err() {
            return;
        }
        let lost = match stream.try_read(&mut bytes) {
            Ok(0) => Some(Lost {
                at: Instant::now(),
                reset: false,
            }),
            Ok(size) => {
                inbox.with(|state| {
                    if let Some(ear) = &state.ear {
                        ear.hear(&bytes[..size]);
                    }
                    state.message.feed(&bytes[..size]);
                });
                None
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => Some(Lost {
                at: Instant::now(),
                reset: true,
            }),
        };
        if let Some(lost) = lost {
            inbox.with(|state| {
                state.lost = Some(lost);
                state.message.finish(lost.reset);
            });
        }
        inbox.news.send_replace(());
        if lost.is_some() {
            return;
        }
    }
}

/// The bytes of a well-formed request with a `host`, the headers as given, and a `content-length` where there is a body
/// or the method is POST, PUT or PATCH.
#[must_use]
pub fn request(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> Vec<u8> {
    let body = body.as_ref();
    let length = !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH");
    let mut bytes = head(method, path, headers, length.then_some(body.len() as u64));
    bytes.extend_from_slice(body);
    bytes
}

/// The bytes of a request head, with a `content-length` if one is given.
#[must_use]
pub fn head(method: &str, path: &str, headers: &[(&str, &str)], length: Option<u64>) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n");
    for (name, value) in headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    if let Some(length) = length {
        head.push_str(&format!("content-length: {length}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// One exchange on a connection of its own.
///
/// # Panics
/// When the connection is refused or the response does not end within [`crate::DEADLINE`].
pub async fn call(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> Message {
    let conn = Conn::open(addr).await;
    conn.next(method);
    // A peer that answers before it has read everything may close first; its response tells.
    let _took = conn.send(request(method, path, headers, body)).await;
    let message = conn.response().await;
    conn.close().await;
    message
}
