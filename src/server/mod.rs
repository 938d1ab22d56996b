//! Accepts connections and serves them with a stack of layers: one runtime and one listener for
//! each worker, and an end that lets running answers finish.
//!
//! A request never leaves the thread that accepted its connection (unless
//! [`Flavor::MultiThread`] is chosen). A connection is one task; between requests and during them
//! the server itself takes no lock and allocates nothing.
//!
//! **Drain.** Readiness is false at once; connections are accepted for [`Drain::delay`] more; then
//! the listeners close and idle connections with them. Running answers may end until
//! [`Drain::timeout`]; what is left then is told [`Cut::Drain`](tollgate_middleware::conn::Cut),
//! has a second and a half to say so to its client, and is dropped.

mod connection;
mod greeting;
mod handle;
mod looks;
mod proxy_protocol;
mod registry;
mod renew;
mod service;
mod stream;
#[cfg(test)]
mod tests;
mod tls;
mod worker;

use std::{
    convert::Infallible,
    error::Error,
    fmt, io,
    sync::{Arc, mpsc as ready},
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1};
use tokio::{
    runtime,
    sync::{Semaphore, mpsc, watch},
};
use tollgate_middleware::{error::BoxError, wire};
use tower_service::Service;

pub use self::{
    connection::Refuse,
    greeting::Greeting,
    handle::{Control, Handle, Outcome, Readiness, Signals, Tally},
    looks::looks,
    proxy_protocol::Trusted,
    renew::Renewer,
    tls::{Certificate, Tls},
};
use self::{
    handle::{READY, Stage},
    renew::Stacked,
    worker::Worker,
};
use crate::listen::{self, Address, BindError, Listener, Unlink};

/// Makes the stack of one worker.
pub trait Stacks: Send + Sync + 'static {
    /// Body of the stack's responses.
    type Body: http_body::Body<Data = Bytes, Error = BoxError> + Send + 'static;
    /// The service. One clone serves the requests of one connection, as long as it is in force.
    type Stack: Service<
            Request<Incoming>,
            Response = Response<Self::Body>,
            Error = Infallible,
            Future: Send,
        > + Clone
        + Send
        + 'static;

    /// The first stack of worker number `worker`, counted from 0. Called once for each, on its
    /// thread and inside its runtime; later ones come by a [`Renewer`].
    fn stack(&self, worker: usize) -> Self::Stack;

    /// Who is told of requests that the transport of worker number `worker` refuses.
    fn refuse(&self, worker: usize) -> Refuse {
        let _ = worker;
        Refuse::default()
    }

    /// Called once a second for each worker, on its runtime: closes idle pooled connections.
    fn sweep(&self, stack: &Self::Stack);
}

/// How to serve.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen.
    pub listen: Vec<Address>,
    /// Worker threads; see [`available_workers`].
    pub workers: usize,
    /// How the workers divide the connections.
    pub flavor: Flavor,
    /// Bounds of a connection.
    pub limits: Limits,
    /// What comes before HTTP.
    pub greeting: Greeting,
    /// The end.
    pub drain: Drain,
}

/// How the workers divide the connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flavor {
    /// One runtime, with work stealing: one listener, one stack.
    MultiThread,
    /// A runtime, a listener and a stack for each worker: nothing crosses threads.
    #[default]
    PerCore,
}

/// Bounds of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a request's line and headers together.
    pub head: usize,
    /// Headers of a request.
    pub headers: usize,
    /// Bytes of a request's target, at most 65,534.
    pub target: usize,
    /// Bytes that are read ahead behind a request that is being answered.
    pub ahead: usize,
    /// Time for a TLS handshake.
    pub handshake: Duration,
    /// Time to a whole head: from accept for the first, from its first byte for later ones.
    pub head_timeout: Duration,
    /// Wait between two requests; zero closes after each answer.
    pub keep_alive: Duration,
    /// How long a client may take nothing of what waits for it; `None` is for ever.
    pub slow_reader: Option<Duration>,
    /// Bytes held of an answer: half of them wait to be written, the blocks that come from a provider take the rest. One
    /// frame is always taken.
    pub buffer: usize,
    /// Connections open at once, in all workers; beyond them none is accepted.
    pub connections: usize,
}

/// How the server ends.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// Connections are accepted this long after readiness is gone.
    pub delay: Duration,
    /// Running answers may end within this time after the delay.
    pub timeout: Duration,
}

/// The server cannot start.
#[derive(Debug)]
pub enum StartError {
    /// An address cannot be listened on.
    Bind(BindError),
    /// A thread or its runtime cannot be made.
    Runtime(io::Error),
}

/// Everything that is the same for each worker.
struct Common<T: Stacks> {
    stacks: Arc<T>,
    stacked: Arc<Stacked<T::Stack>>,
    settings: Settings,
    stage: watch::Receiver<Stage>,
    tally: Tally,
    room: Arc<Semaphore>,
    ended: mpsc::Sender<Infallible>,
    unlink: Arc<Vec<Unlink>>,
}

/// So many workers use the machine fully: the CPU quota of the control group (version 1 or 2) or
/// the affinity mask, whichever is less, and at least 1.
pub fn available_workers() -> usize {
    // The standard library reads both.
    thread::available_parallelism().map_or(1, usize::from)
}

/// Binds all addresses and starts the workers. `readiness` becomes ready when each accepts.
///
/// # Errors
///
/// The first address that cannot be bound, or the first thread that cannot be made; nothing runs
/// then.
pub fn start<T: Stacks>(
    settings: Settings,
    stacks: T,
    readiness: Readiness,
) -> Result<Handle, StartError> {
    start_renewable(settings, stacks, readiness).map(|(handle, _)| handle)
}

/// As [`start`], and gives what replaces the stacks while the server runs.
///
/// # Errors
///
/// As [`start`].
pub fn start_renewable<T: Stacks>(
    settings: Settings,
    stacks: T,
    readiness: Readiness,
) -> Result<(Handle, Renewer<T::Stack>), StartError> {
    let count = match settings.flavor {
        Flavor::MultiThread => 1,
        Flavor::PerCore => settings.workers.max(1),
    };
    let (addresses, listeners, unlink) = bind_all(&settings.listen, count)?;
    let (stage, staged) = watch::channel(Stage::Serve);
    let (running, ended) = mpsc::channel(1);
    let control = Control {
        stage: Arc::new(stage),
        readiness,
    };
    let stacked = Arc::new(Stacked::new(count, settings.limits, settings.drain));
    let common = Common {
        stacks: Arc::new(stacks),
        stacked: stacked.clone(),
        room: Arc::new(Semaphore::new(
            settings.limits.connections.min(Semaphore::MAX_PERMITS),
        )),
        settings,
        stage: staged,
        tally: Tally::default(),
        ended: running,
        unlink: Arc::new(unlink),
    };
    let workers = spawn_all(&common, listeners).inspect_err(|_| control.begin())?;
    control.readiness.set(READY);
    let handle = Handle {
        addresses,
        control,
        tally: common.tally,
        ended,
        workers,
    };
    Ok((handle, Renewer::new(stacked)))
}

type AllBound = (Vec<Address>, Vec<Vec<Listener>>, Vec<Unlink>);

fn bind_all(addresses: &[Address], count: usize) -> Result<AllBound, StartError> {
    let mut all: AllBound = (Vec::new(), Vec::new(), Vec::new());
    all.1.resize_with(count, Vec::new);
    for address in addresses {
        let bound = listen::bind(address, count, "--listen").map_err(StartError::Bind)?;
        all.0.push(bound.address().clone());
        let (listeners, unlink) = bound.into_parts();
        for (own, listener) in all.1.iter_mut().zip(listeners) {
            own.push(listener);
        }
        all.2.extend(unlink);
    }
    Ok(all)
}

fn spawn_all<T: Stacks>(
    common: &Common<T>,
    listeners: Vec<Vec<Listener>>,
) -> Result<Vec<thread::JoinHandle<usize>>, StartError> {
    let (ready, accepting) = ready::channel();
    let mut threads = Vec::with_capacity(listeners.len());
    for (index, listeners) in listeners.into_iter().enumerate() {
        let (common, ready) = (common.clone(), ready.clone());
        let thread = thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || run_worker(index, &common, listeners, &ready))
            .map_err(StartError::Runtime)?;
        threads.push(thread);
    }
    drop(ready);
    for _ in &threads {
        // A worker that says nothing has panicked while it made its stack.
        let said = accepting
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("a worker ended before it accepted")));
        said.map_err(StartError::Runtime)?;
    }
    Ok(threads)
}

/// The life of one worker's thread; returns the number of answers that were cut.
fn run_worker<T: Stacks>(
    index: usize,
    common: &Common<T>,
    listeners: Vec<Listener>,
    ready: &ready::Sender<io::Result<()>>,
) -> usize {
    let mut builder = match common.settings.flavor {
        Flavor::MultiThread => runtime::Builder::new_multi_thread(),
        Flavor::PerCore => {
            let mut builder = runtime::Builder::new_current_thread();
            builder.on_thread_park(looks::count);
            builder
        }
    };
    let threads = common.settings.workers.max(1);
    let runtime = builder
        .worker_threads(threads)
        .thread_name("worker")
        .enable_all()
        .build();
    let prepared = runtime.and_then(|runtime| {
        let worker = {
            let _inside = runtime.enter();
            Worker::new(index, common, listeners)?
        };
        common.tally.runs_on(runtime.handle().clone());
        Ok((runtime, worker))
    });
    match prepared {
        Ok((runtime, worker)) => {
            // Whoever waited for it has failed at another worker.
            let _ = ready.send(Ok(()));
            runtime.block_on(worker.run(common))
        }
        Err(error) => {
            let _ = ready.send(Err(error));
            0
        }
    }
}

// ===== impl Limits =====

impl Limits {
    fn wire(&self) -> wire::Limits {
        wire::Limits {
            head: self.head,
            headers: self.headers,
            target: self.target,
            ahead: self.ahead,
            slow_reader: self.slow_reader,
        }
    }

    /// Bytes of an answer that may wait to be written before more is asked for. Half of what may be held: what waits there
    /// keeps blocks of the provider's side from being used again.
    fn window(&self) -> usize {
        // A frame is always taken: without room for one, none would ever be asked for.
        (self.buffer / 2).max(1)
    }

    /// HTTP with these limits.
    fn http(&self) -> http1::Builder {
        // `wire` has judged the head: hyper only has to have room for it, and some more, so that it never is the one to refuse.
        let head = self.head.saturating_add(64);
        let mut builder = http1::Builder::new();
        builder
            // A connection has clocks of its own: this one would also run between two requests.
            .header_read_timeout(None)
            .half_close(false)
            .keep_alive(!self.keep_alive.is_zero())
            .max_header_size(head)
            // For request bodies, which are held anyway: many small reads of a large one cost more than what is read. Of
            // answers it takes a `window`.
            .max_buf_size(READ.max(head));
        if self.headers > HYPER_HEADERS {
            // Room for a number that is told comes from the heap, twice for each request.
            builder.max_headers(self.headers);
        }
        builder
    }
}

// ===== impl Common =====

impl<T: Stacks> Clone for Common<T> {
    fn clone(&self) -> Self {
        Self {
            stacks: self.stacks.clone(),
            stacked: self.stacked.clone(),
            settings: self.settings.clone(),
            stage: self.stage.clone(),
            tally: self.tally.clone(),
            room: self.room.clone(),
            ended: self.ended.clone(),
            unlink: self.unlink.clone(),
        }
    }
}

// ===== impl StartError =====

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Transparent: the address says all.
            Self::Bind(error) => error.fmt(f),
            Self::Runtime(error) => write!(f, "cannot start a worker: {error}"),
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Bind(error) => error.source(),
            Self::Runtime(error) => Some(error),
        }
    }
}

/// Bytes that are read at once of a request's body, at most; hyper begins with 8 KiB and takes more while that fills up.
const READ: usize = 512 * 1024;
/// The headers that hyper has room for unless it is told a number.
const HYPER_HEADERS: usize = 100;
