//! A scripted upstream on a raw TCP socket: each request is answered step by step and everything it saw is kept.
//!
//! A request names its script in the header [`SCRIPT`]; without one, or with a name nobody registered, the default answers.
//! Attempts that belong together carry the same value in [`ID`].

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use socket2::{Domain, SockRef, Socket, Type};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};

pub use crate::script::{Framing, Gate, Plan, Reads, Script, Step};
use crate::{
    http1::{Ended, Message},
    tls,
};

mod connection;

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

/// An address of 127.0.0.1 that refuses connections for as long as this is held.
#[derive(Debug)]
pub struct Refusing {
    addr: SocketAddr,
    /// Bound, so that nobody else gets the port, and not listening.
    _socket: Socket,
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

    /// The same with connections whose receive buffer has about `bytes` (the kernel rounds up), and whose segments are
    /// small, so that the kernel of a peer buffers little too: its writes come to a halt soon where nobody reads.
    ///
    /// # Panics
    /// When no socket can be had.
    pub async fn start_small(bytes: u32) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket
            .set_recv_buffer_size(bytes)
            .expect("a receive buffer");
        // What Linux buffers on the other side grows with it.
        SockRef::from(&socket)
            .set_tcp_mss(1400)
            .expect("a size of segments");
        socket
            .bind((Ipv4Addr::LOCALHOST, 0).into())
            .expect("a free port");
        Self::on(socket.listen(1024).expect("a listener"), None)
    }

    /// The same behind TLS, with a fresh certificate for `localhost` and 127.0.0.1; the certificate of its authority in PEM.
    ///
    /// # Panics
    /// When no socket can be had.
    pub async fn start_tls() -> (Self, tls::CaPem) {
        let (acceptor, ca) = tls::acceptor();
        (Self::listen(Some(acceptor)).await, ca)
    }

    /// The same behind TLS of the test's own making.
    ///
    /// # Panics
    /// When no socket can be had.
    pub async fn start_behind(acceptor: tokio_rustls::TlsAcceptor) -> Self {
        Self::listen(Some(acceptor)).await
    }

    async fn listen(acceptor: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a free port");
        Self::on(listener, acceptor)
    }

    fn on(listener: TcpListener, acceptor: Option<tokio_rustls::TlsAcceptor>) -> Self {
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
        tasks.spawn(connection::accept(listener, acceptor, Arc::clone(&shared)));
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

// ===== impl Refusing =====

impl Refusing {
    /// Takes a port.
    ///
    /// # Panics
    /// When no socket can be had.
    #[must_use]
    pub fn bind() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket
            .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
            .expect("a free port");
        let addr = socket
            .local_addr()
            .ok()
            .and_then(|addr| addr.as_socket())
            .expect("a bound socket has an address");
        Self {
            addr,
            _socket: socket,
        }
    }

    /// The address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
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

#[cfg(test)]
mod tests;
