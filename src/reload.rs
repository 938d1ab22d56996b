//! Another configuration while requests run.
//!
//! A reload reads the configuration again, with every secret in it, builds all that a generation
//! consists of, and puts it into force at once for all workers. Whatever is wrong is told, counted, and
//! changes nothing. One thread does it, one reload after the other: nothing that a file system may hold
//! up stands in the way of a request or of a probe.

use std::{
    error::Error,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, SystemTime},
};

use tokio::sync::oneshot;
use tollgate_middleware::clock::{Clock, SystemClock};

use crate::{
    admin::Token,
    config::{self, Config, Loaded},
    connect::TlsError,
    gateway,
    guards::Counts,
    jwks,
    server::{Renewer, Tls},
    stack::{Connectors, Stack},
    telemetry::{log::LogWriter, metrics::Metrics, sink::Told, webhook::Hook},
};

/// Reads the configuration again. An error is the whole text of what is wrong.
pub type Source = Box<dyn Fn() -> Result<Loaded, String> + Send>;

/// Why a reload changed nothing.
#[derive(Clone, Debug)]
pub enum Failed {
    /// The configuration cannot be used; the text says why.
    Refused(Arc<str>),
    /// It is our fault.
    Internal,
    /// So many wait that one more would learn nothing new.
    Busy,
    /// The gateway was started without a source.
    NoSource,
}

/// A configuration that is good and still cannot be put into force.
#[derive(Debug)]
pub enum ReloadError {
    /// These keys are others, and only a start can change them.
    Fixed(Vec<&'static str>),
    /// What callers' tokens are checked with.
    Keys(jwks::StartError),
    /// A certificate or key, of a provider or of the data listeners.
    Tls(TlsError),
}

/// What comes of asking for a reload: the number of the new generation.
pub type Outcome = Result<u64, Failed>;

/// Asks for reloads. Clones are the same.
#[derive(Clone, Debug)]
pub struct Reloads(Option<mpsc::SyncSender<Ask>>);

type Ask = Option<oneshot::Sender<Outcome>>;

/// What is in force, and what makes the next generation.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) log: Arc<LogWriter>,
    pub(crate) metrics: Metrics,
    pub(crate) counts: Counts,
    pub(crate) renewer: Renewer<Stack<Told>>,
    pub(crate) tls: Option<Tls>,
    pub(crate) token: Token,
    pub(crate) config: Mutex<Arc<Config>>,
    pub(crate) failures: Failures,
    pub(crate) hook: Option<Hook>,
}

/// Reloads that changed nothing, and when one did.
#[derive(Debug)]
pub(crate) struct Failures {
    count: AtomicU64,
    last: AtomicBool,
    /// Milliseconds since 1970.
    changed: AtomicU64,
}

/// Starts the thread that reloads. It ends when nobody can ask any more.
///
/// # Errors
///
/// The system gives no thread.
pub(crate) fn start(live: Arc<Live>, source: Source) -> std::io::Result<Reloads> {
    let (asks, asked) = mpsc::sync_channel(WAITING);
    thread::Builder::new()
        .name("reload".into())
        .spawn(move || run(&live, &source, &asked))?;
    Ok(Reloads(Some(asks)))
}

/// The life of the thread.
fn run(live: &Live, source: &Source, asked: &mpsc::Receiver<Ask>) {
    while let Ok(first) = asked.recv() {
        // Whoever has asked by now is content with what is read from now on.
        let asks: Vec<_> = std::iter::once(first).chain(asked.try_iter()).collect();
        let outcome = catch_unwind(AssertUnwindSafe(|| again(live, source)));
        let outcome = outcome.unwrap_or(Err(Failed::Internal));
        live.failures.note(&outcome);
        let generation = live.renewer.generation();
        match &outcome {
            Ok(_) => tracing::info!(generation, "the configuration is reloaded"),
            Err(error) => {
                eprintln!("{error}");
                tracing::error!(generation, "not reloaded: what was in force stays in force");
            }
        }
        for ask in asks.into_iter().flatten() {
            // They may have gone meanwhile.
            let _ = ask.send(outcome.clone());
        }
    }
}

fn again(live: &Live, source: &Source) -> Outcome {
    let Loaded { config, warnings } = source().map_err(|text| Failed::Refused(text.into()))?;
    if !warnings.is_empty() {
        eprintln!("{warnings}");
    }
    live.reload(config)
        .map_err(|error| Failed::Refused(error.to_string().into()))
}

// ===== impl Reloads =====

impl Reloads {
    /// Nothing can be read again.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// Asks for a reload and does not wait for it.
    pub fn ask(&self) {
        if let Some(asks) = &self.0 {
            // Where so many wait, one of them reads what is there after this moment.
            let _ = asks.try_send(None);
        }
    }

    /// Asks for a reload; what comes of it is received. It begins after this call.
    pub fn asked(&self) -> oneshot::Receiver<Outcome> {
        let (answer, received) = oneshot::channel();
        let Some(asks) = &self.0 else {
            let _ = answer.send(Err(Failed::NoSource));
            return received;
        };
        if let Err(
            mpsc::TrySendError::Full(Some(answer)) | mpsc::TrySendError::Disconnected(Some(answer)),
        ) = asks.try_send(Some(answer))
        {
            let _ = answer.send(Err(Failed::Busy));
        }
        received
    }
}

// ===== impl Live =====

impl Live {
    /// Puts a configuration into force; returns its number.
    ///
    /// Providers that are reached as before keep their idle connections.
    pub(crate) fn reload(&self, config: Config) -> Result<u64, ReloadError> {
        // Held to the end: one reload after the other.
        let mut in_force = self.config();
        let fixed = config::fixed(&in_force, &config);
        if !fixed.is_empty() {
            return Err(ReloadError::Fixed(fixed));
        }
        let connectors = Connectors::new(&config).map_err(ReloadError::Tls)?;
        let certificate = match &config.server.tls {
            Some(files) => Some(Tls::read(files).map_err(ReloadError::Tls)?),
            None => None,
        };
        self.counts.prepare(&config).map_err(ReloadError::Keys)?;
        let generation = self.renewer.generation() + 1;
        let prices = gateway::prices(&config);
        let view = gateway::view(&self.metrics, &config);
        let next = |worker| {
            let lines = self.log.lines(worker);
            let told = Told::new(lines, self.metrics.counters(worker, &view), generation)
                .at(prices.clone())
                .telling(self.hook.clone());
            match self.renewer.stack(worker) {
                Some(before) => before.successor(&config, &connectors, told),
                None => {
                    let counts = self.counts.of_worker(worker);
                    Stack::new(&config, &connectors, told, gateway::room(&config), counts)
                }
            }
        };
        let stacks: Vec<_> = (0..self.renewer.workers()).map(next).collect();
        self.counts.adopt(&config);
        let settings = gateway::settings(&config);
        let before = self
            .renewer
            .renew(stacks.clone(), settings.limits, settings.drain);
        for (before, after) in before.iter().zip(&stacks) {
            before.retire(after);
        }
        if let (Some(tls), Some(certificate)) = (&self.tls, certificate) {
            tls.change(certificate);
        }
        self.token.set(gateway::token(&config));
        *in_force = Arc::new(config);
        Ok(generation)
    }

    /// Waits until all that has ended so far is in the spool, if there is one.
    pub(crate) fn flush_spool(&self) {
        if let Some(spool) = self.counts.spool() {
            spool.flush();
        }
    }

    pub(crate) fn config(&self) -> MutexGuard<'_, Arc<Config>> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// ===== impl Failures =====

impl Default for Failures {
    /// The first configuration is put into force now.
    fn default() -> Self {
        Self {
            count: AtomicU64::new(0),
            last: AtomicBool::new(false),
            changed: AtomicU64::new(now()),
        }
    }
}

fn now() -> u64 {
    let since = SystemClock.wall().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

impl Failures {
    pub(crate) fn note<T, E>(&self, outcome: &Result<T, E>) {
        if outcome.is_err() {
            self.count.fetch_add(1, Ordering::Relaxed);
        } else {
            self.changed.store(now(), Ordering::Relaxed);
        }
        self.last.store(outcome.is_err(), Ordering::Relaxed);
    }

    /// Reloads since the start that changed nothing.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// When the configuration in force was put there.
    pub(crate) fn changed(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.changed.load(Ordering::Relaxed))
    }

    /// Whether the last one was one of them.
    pub(crate) fn last(&self) -> bool {
        self.last.load(Ordering::Relaxed)
    }
}

// ===== errors =====

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(text) => f.write_str(text.trim_end()),
            Self::Internal => f.write_str("internal error: see standard error of the gateway"),
            Self::Busy => f.write_str("too many reloads wait already"),
            Self::NoSource => f.write_str("this gateway has no file to read again"),
        }
    }
}

impl Error for Failed {}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(keys) => {
                let keys: Vec<_> = keys.iter().map(|key| format!("`{key}`")).collect();
                write!(
                    f,
                    "error: {} cannot be changed while the gateway runs: restart it, or write what was there",
                    keys.join(", ")
                )
            }
            Self::Keys(error) => write!(f, "error: {error}"),
            Self::Tls(error) => write!(f, "error: {error}"),
        }
    }
}

impl Error for ReloadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Fixed(_) => None,
            Self::Keys(error) => Some(error),
            Self::Tls(error) => Some(error),
        }
    }
}

/// Reloads that may wait for the one that runs.
const WAITING: usize = 64;
