//! A scripted upstream on a raw TCP socket: each request is answered step by step and everything it saw is kept.
//!
//! A request names its script in the header [`SCRIPT`]; without one, or with a name nobody registered, the default answers.
//! Attempts that belong together carry the same value in [`ID`].

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use socket2::{SockRef, Socket};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{Duration, Instant, timeout},
};

pub use crate::script::{Framing, Gate, Plan, Reads, Script, Step};
use crate::{
    http1::{Ended, Message},
    script, tls,
};

/// The request header that names the script.
pub const SCRIPT: &str = "x-script";

/// The request header that tells which attempts belong together.
pub const ID: &str = "x-test-id";

/// The upstream. Dropping it closes its sockets and stops its tasks.
#[derive(Debug)]
pub struct Upstream {
    addr: SocketAddr,
    shared: Arc<Shared>,
    /// The accepting task, which owns the connections: dropping the set stops it, and so them.
    _accept: JoinSet<()>,
}

/// All that the upstream saw so far.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Requests in the order in which their heads became whole.
    pub exchanges: Vec<Exchange>,
    /// Connections accepted.
    pub connections: usize,
    /// Connections that ended inside a request head, with what had come of it.
    pub broken: Vec<Vec<u8>>,
}

/// One request as it arrived, and what became of its answer.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Value of [`ID`], empty without it.
    pub id: String,
    /// Value of [`SCRIPT`], empty without it.
    pub script: String,
    /// Number of the connection, from 0.
    pub connection: usize,
    /// Number among the requests with the same id, from 0.
    pub attempt: usize,
    /// The raw head with its blank line.
    pub head: Vec<u8>,
    /// The request line.
    pub start: String,
    /// Headers in order, names as they were written.
    pub headers: Vec<(String, String)>,
    /// The body without its framing, as far as it came.
    pub body: Vec<u8>,
    /// How the request ended; `None` while it arrives.
    pub request_ended: Option<Ended>,
    /// When the head was whole.
    pub began: Instant,
    /// Body bytes that the socket took.
    pub wrote: usize,
    /// All bytes that the socket took: heads, framing and raw bytes too.
    pub sent: usize,
    /// When it was seen that the peer had closed or reset the connection. Not seen once this side has closed.
    pub peer_closed: Option<Instant>,
    /// True when the script came to its end.
    pub done: bool,
}

#[derive(Debug)]
struct Shared {
    seen: watch::Sender<Seen>,
    plans: Mutex<Plans>,
}

#[derive(Debug)]
struct Plans {
    named: HashMap<String, Plan>,
    default: Plan,
}

// ===== impl Upstream =====

impl Upstream {
    /// Listens on a free port of 127.0.0.1. The default script is a chat completion.
    ///
    /// # Panics
    /// When no socket can be had.
    pub async fn start() -> Self {
        Self::listen(None).await
    }

    /// The same behind TLS, with a fresh certificate for `localhost` and 127.0.0.1; the certificate of its authority in PEM.
    ///
    /// # Panics
    /// When no socket can be had.
    pub async fn start_tls() -> (Self, tls::CaPem) {
        let (acceptor, ca) = tls::acceptor();
        (Self::listen(Some(acceptor)).await, ca)
    }

    async fn listen(acceptor: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a free port");
        let addr = listener
            .local_addr()
            .expect("a bound socket has an address");
        let plans = Plans {
            named: HashMap::new(),
            default: Script::chat("hello").into(),
        };
        let shared = Arc::new(Shared {
            seen: watch::Sender::new(Seen::default()),
            plans: Mutex::new(plans),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, acceptor, Arc::clone(&shared)));
        Self {
            addr,
            shared,
            _accept: tasks,
        }
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// The address it listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Registers a script (or one per attempt, or a choice) under a name, in place of an earlier one.
    pub fn serve(&self, name: &str, plan: impl Into<Plan>) {
        self.shared
            .plans(|plans| plans.named.insert(name.to_owned(), plan.into()));
    }

    /// Answers the requests that name no registered script.
    pub fn serve_default(&self, plan: impl Into<Plan>) {
        self.shared.plans(|plans| plans.default = plan.into());
    }

    /// The requests with this id, in order.
    #[must_use]
    pub fn seen(&self, id: &str) -> Vec<Exchange> {
        self.shared.seen.borrow().of(id).cloned().collect()
    }

    /// The number of requests with this id.
    #[must_use]
    pub fn attempts(&self, id: &str) -> usize {
        self.shared.seen.borrow().of(id).count()
    }

    /// The number of connections accepted.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.seen.borrow().connections
    }

    /// All that was seen so far.
    #[must_use]
    pub fn snapshot(&self) -> Seen {
        self.shared.seen.borrow().clone()
    }

    /// Waits until the condition holds and gives what was seen then.
    ///
    /// # Panics
    /// When it does not hold within [`crate::DEADLINE`]; the message shows what was seen.
    pub async fn wait_for(&self, mut condition: impl FnMut(&Seen) -> bool) -> Seen {
        let mut seen = self.shared.seen.subscribe();
        if let Ok(Ok(seen)) = timeout(crate::DEADLINE, seen.wait_for(|seen| condition(seen))).await
        {
            return seen.clone();
        }
        panic!(
            "the upstream did not see what was waited for: {:#?}",
            self.snapshot()
        );
    }

    /// Waits until the script of the last of `count` requests with this id came to its end, or its peer went.
    ///
    /// # Panics
    /// As [`Upstream::wait_for`].
    pub async fn finished(&self, id: &str, count: usize) -> Exchange {
        let over = |seen: &Seen| {
            seen.of(id)
                .nth(count - 1)
                .is_some_and(|it| it.done || it.peer_closed.is_some())
        };
        let seen = self.wait_for(over).await;
        seen.of(id)
            .nth(count - 1)
            .expect("the condition found it")
            .clone()
    }
}

// ===== impl Seen =====

impl Seen {
    /// The requests with this id, in order.
    pub fn of<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a Exchange> {
        self.exchanges
            .iter()
            .filter(move |exchange| exchange.id == id)
    }

    /// The number of requests with this id.
    #[must_use]
    pub fn attempts(&self, id: &str) -> usize {
        self.of(id).count()
    }
}

// ===== impl Exchange =====

impl Exchange {
    /// The first value of a header, its name in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The request target as written.
    #[must_use]
    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}

// ===== impl Shared =====

impl Shared {
    fn plans<T>(&self, edit: impl FnOnce(&mut Plans) -> T) -> T {
        // A panic of another test thread leaves the map whole.
        edit(&mut self.plans.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn edit(&self, exchange: usize, edit: impl FnOnce(&mut Exchange)) {
        self.seen
            .send_modify(|seen| edit(&mut seen.exchanges[exchange]));
    }

    /// Keeps a request whose head is whole; gives its number and its script.
    fn record(&self, message: &Message, connection: usize) -> (usize, Script) {
        let text = |name| message.header(name).unwrap_or_default().to_owned();
        let mut exchange = Exchange {
            id: text(ID),
            script: text(SCRIPT),
            connection,
            attempt: 0,
            head: message.head.clone(),
            start: message.start.clone(),
            headers: message.headers.clone(),
            body: message.body.clone(),
            request_ended: message.ended,
            began: Instant::now(),
            wrote: 0,
            sent: 0,
            peer_closed: None,
            done: false,
        };
        let mut number = 0;
        self.seen.send_modify(|seen| {
            exchange.attempt = seen.attempts(&exchange.id);
            number = seen.exchanges.len();
            seen.exchanges.push(exchange.clone());
        });
        let plan = self.plans(|plans| {
            plans
                .named
                .get(&exchange.script)
                .unwrap_or(&plans.default)
                .clone()
        });
        (number, plan.script(&exchange))
    }
}

// ===== connections =====

trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

async fn accept(
    listener: TcpListener,
    acceptor: Option<tokio_rustls::TlsAcceptor>,
    shared: Arc<Shared>,
) {
    let mut connections = JoinSet::new();
    loop {
        // Nothing that accept reports on loopback says that the listener is beyond use.
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let mut number = 0;
        shared.seen.send_modify(|seen| {
            number = seen.connections;
            seen.connections += 1;
        });
        connections.spawn(connection(
            stream,
            acceptor.clone(),
            Arc::clone(&shared),
            number,
        ));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(
    stream: TcpStream,
    acceptor: Option<tokio_rustls::TlsAcceptor>,
    shared: Arc<Shared>,
    number: usize,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // A second handle on the socket, since the stream itself disappears behind its two halves.
    let socket = SockRef::from(&stream).try_clone()?;
    let wire: Box<dyn Wire> = match acceptor {
        Some(acceptor) => Box::new(acceptor.accept(stream).await?),
        None => Box::new(stream),
    };
    let (reader, writer) = tokio::io::split(wire);
    let mut ear = Ear {
        reader,
        message: Message::request(),
        shared: Arc::clone(&shared),
        exchange: None,
    };
    let mut mouth = Mouth {
        writer,
        shared: Arc::clone(&shared),
        exchange: 0,
        framing: Framing::None,
    };
    loop {
        ear.head().await?;
        let (exchange, script) = shared.record(&ear.message, number);
        ear.exchange = Some(exchange);
        mouth.exchange = exchange;
        let after = match script.reads {
            Reads::Whole => {
                ear.whole().await?;
                ear.beside(mouth.play(&script)).await?
            }
            Reads::Beside => ear.beside(mouth.play(&script)).await?,
            Reads::Head => mouth.play(&script).await.inspect_err(|_| ear.gone(true))?,
        };
        shared.edit(exchange, |exchange| exchange.done = true);
        match after {
            After::Keep => ear.whole().await?,
            After::Close => return mouth.writer.shutdown().await,
            After::Reset => return reset(&socket),
        }
        let rest = ear.message.rest();
        ear.message = Message::request();
        ear.message.feed(&rest);
    }
}

/// Makes the close that follows a reset.
fn reset(socket: &Socket) -> io::Result<()> {
    socket.set_linger(Some(Duration::ZERO))
}

/// The reading half: the request, and the peer's going.
struct Ear {
    reader: ReadHalf<Box<dyn Wire>>,
    message: Message,
    shared: Arc<Shared>,
    exchange: Option<usize>,
}

impl Ear {
    /// Reads until the next head is whole. An error says that the connection is over.
    async fn head(&mut self) -> io::Result<()> {
        while self.message.head.is_empty() {
            self.read().await?;
        }
        Ok(())
    }

    async fn whole(&mut self) -> io::Result<()> {
        while self.message.ended.is_none() {
            self.read().await?;
        }
        Ok(())
    }

    /// Runs the future while reading on; the peer's going ends it.
    async fn beside<T>(&mut self, run: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let mut run = std::pin::pin!(run);
        loop {
            tokio::select! {
                // What is written last must not be lost to a close seen in the same turn.
                biased;
                out = &mut run => return out.inspect_err(|_| self.gone(true)),
                read = self.read() => read?,
            }
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        let mut bytes = [0; 16 * 1024];
        match self.reader.read(&mut bytes).await {
            Ok(0) => {
                self.gone(false);
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Ok(size) => {
                let had = self.message.body.len();
                self.message.feed(&bytes[..size]);
                if let Some(number) = self.exchange.filter(|_| !self.message.head.is_empty()) {
                    let (new, ended) = (&self.message.body[had..], self.message.ended);
                    self.shared.edit(number, |exchange| {
                        exchange.body.extend_from_slice(new);
                        exchange.request_ended = ended;
                    });
                }
                Ok(())
            }
            Err(error) => {
                self.gone(true);
                Err(error)
            }
        }
    }

    /// Keeps when the peer went.
    fn gone(&mut self, reset: bool) {
        let (now, had) = (Instant::now(), self.message.rest());
        let in_head = self.message.head.is_empty();
        self.message.finish(reset);
        let ended = self.message.ended;
        self.shared.seen.send_modify(|seen| {
            if in_head && !had.is_empty() {
                seen.broken.push(had);
            }
            if let Some(number) = self.exchange {
                let exchange = &mut seen.exchanges[number];
                exchange.peer_closed.get_or_insert(now);
                exchange.request_ended = exchange.request_ended.or(ended);
            }
        });
    }
}

/// The writing half: the answer.
struct Mouth {
    writer: WriteHalf<Box<dyn Wire>>,
    shared: Arc<Shared>,
    exchange: usize,
    framing: Framing,
}

/// What becomes of the connection when a script is over.
enum After {
    Close,
    Keep,
    Reset,
}

impl Mouth {
    async fn play(&mut self, script: &Script) -> io::Result<After> {
        for step in &script.steps {
            match step {
                Step::Body { bytes, split } => {
                    for piece in split.pieces(bytes) {
                        self.piece(piece).await?;
                    }
                }
                Step::End => {
                    if self.framing == Framing::Chunked {
                        self.write(b"0\r\n\r\n", 0..0).await?;
                    }
                    let keep = matches!(self.framing, Framing::Chunked | Framing::Length(_));
                    return Ok(if keep { After::Keep } else { After::Close });
                }
                Step::Fin => return Ok(After::Close),
                Step::Head {
                    status,
                    headers,
                    framing,
                } => {
                    self.framing = *framing;
                    let head = script::head(*status, headers, *framing, script.body_len());
                    self.write(&head, 0..0).await?;
                }
                Step::Raw(bytes) => self.write(bytes, 0..0).await?,
                Step::Rst => return Ok(After::Reset),
                Step::Sleep(time) => tokio::time::sleep(*time).await,
                Step::Stall => std::future::pending().await,
                Step::Wait(gate) => gate.pass().await,
            }
        }
        Ok(After::Close)
    }

    async fn piece(&mut self, piece: &[u8]) -> io::Result<()> {
        if self.framing != Framing::Chunked {
            return self.write(piece, 0..piece.len()).await;
        }
        let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
        let start = chunk.len();
        chunk.extend_from_slice(piece);
        chunk.extend_from_slice(b"\r\n");
        self.write(&chunk, start..start + piece.len()).await
    }

    /// Writes all bytes; those in `body` count as body bytes as soon as the socket took them.
    async fn write(&mut self, bytes: &[u8], body: std::ops::Range<usize>) -> io::Result<()> {
        let mut at = 0;
        while at < bytes.len() {
            let took = self.writer.write(&bytes[at..]).await?;
            if took == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            let part = |at: usize| at.clamp(body.start, body.end);
            let wrote = part(at + took) - part(at);
            at += took;
            self.shared.edit(self.exchange, |exchange| {
                exchange.sent += took;
                exchange.wrote += wrote;
            });
        }
        self.writer.flush().await?;
        // Gives the peer a turn, so that pieces have a chance to arrive apart.
        tokio::task::yield_now().await;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
