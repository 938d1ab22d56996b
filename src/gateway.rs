//! A whole gateway in this process: data listeners, admin listener, request log.

use std::{error::Error, fmt, fs, io, sync::Arc};

use tollgate_middleware::clock::SystemClock;

use crate::{
    admin::{self, Admin, Pages},
    config::{self, Config, Listen, LogTo},
    connect::TlsError,
    listen::Address,
    server::{
        self, Control, Flavor, Handle, Outcome, Readiness, Refuse, Settings, Signals, Stacks, Tally,
    },
    stack::{Body, Connectors, Stack},
    telemetry::{
        log::{LogWriter, Sink},
        metrics::{Metrics, Others},
        sink::{OUTCOMES, Told},
    },
};

/// A running gateway. Dropping it leaves it running until the process ends.
#[derive(Debug)]
pub struct Gateway {
    handle: Handle,
    // Ends when it is dropped; the log then writes what is left.
    admin: Admin,
    log: Arc<LogWriter>,
}

/// A gateway that cannot start. The text says what to do.
#[derive(Debug)]
pub enum StartError {
    /// The admin listener.
    Admin(admin::StartError),
    /// The request log.
    Log(io::Error),
    /// The data listeners or their workers.
    Server(server::StartError),
    /// A certificate or key of a provider.
    Tls(TlsError),
}

impl Gateway {
    /// Starts what a configuration says; the request log goes where it says.
    ///
    /// # Errors
    ///
    /// What cannot be bound, opened or read. Nothing runs then.
    pub fn start(config: &Config) -> Result<Self, StartError> {
        let sink = match &config.telemetry.log.to {
            LogTo::Stdout => Sink::stdout(),
            LogTo::Stderr => Sink::stderr(),
            LogTo::File(path) => Sink::file(path).map_err(StartError::Log)?,
        };
        Self::start_with(config, sink)
    }

    /// Starts what a configuration says, with another place for the request log.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_with(config: &Config, sink: Sink) -> Result<Self, StartError> {
        let connectors = Connectors::new(config).map_err(StartError::Tls)?;
        let settings = settings(config);
        let workers = settings.workers;
        let log = Arc::new(LogWriter::new(sink, workers).map_err(StartError::Log)?);
        let routes: Arc<[String]> = config
            .routes
            .iter()
            .map(|route| route.name.clone())
            .collect();
        let metrics = Metrics::new(workers, routes.to_vec(), &OUTCOMES);
        let stacks = Workers {
            config: config.clone(),
            connectors,
            log: log.clone(),
            metrics: metrics.clone(),
            routes,
        };
        let readiness = Readiness::new();
        let handle =
            server::start(settings, stacks, readiness.clone()).map_err(StartError::Server)?;
        let pages = pages(config, readiness, metrics, log.clone(), handle.tally());
        let admin = admin::Settings {
            listen: address(&config.admin.listen),
            token: config
                .admin
                .token
                .as_ref()
                .map(|token| token.expose().to_owned()),
        };
        match admin::start(admin, pages) {
            Ok(admin) => Ok(Self { handle, admin, log }),
            Err(error) => {
                handle.drain();
                handle.drain();
                handle.join();
                Err(StartError::Admin(error))
            }
        }
    }

    /// The data addresses, with the ports that the system chose.
    pub fn addresses(&self) -> &[Address] {
        self.handle.addresses()
    }

    /// The admin address.
    pub fn admin_address(&self) -> &Address {
        self.admin.address()
    }

    /// Begins the drain from elsewhere.
    pub fn control(&self) -> Control {
        self.handle.control()
    }

    /// Waits until every request line so far is written.
    pub fn flush_log(&self) {
        self.log.flush();
    }

    /// Serves until SIGTERM or SIGINT; returns when the drain is over. Blocks.
    pub fn run(self, signals: Signals) -> Outcome {
        let outcome = self.handle.run(signals);
        self.log.flush();
        outcome
    }

    /// Begins the drain and waits until it is over. Blocks.
    pub fn stop(self) -> Outcome {
        self.handle.drain();
        let outcome = self.handle.join();
        self.log.flush();
        outcome
    }
}

/// Makes the stack of each worker.
struct Workers {
    config: Config,
    connectors: Connectors,
    log: Arc<LogWriter>,
    metrics: Metrics,
    routes: Arc<[String]>,
}

/// The number of the configuration in force; it becomes another with a reload.
const GENERATION: u64 = 1;

impl Stacks for Workers {
    type Body = Body<Told>;
    type Stack = Stack<Told>;

    fn stack(&self, worker: usize) -> Self::Stack {
        let (lines, counters) = (self.log.lines(worker), self.metrics.counters(worker));
        let told = Told::new(lines, counters, self.routes.clone(), GENERATION);
        Stack::new(&self.config, &self.connectors, told)
    }

    fn refuse(&self, worker: usize) -> Refuse {
        let (lines, counters) = (self.log.lines(worker), self.metrics.counters(worker));
        let told = Told::new(lines, counters, self.routes.clone(), GENERATION);
        Refuse::new(move |refusal| told.refused(refusal, &SystemClock))
    }

    fn sweep(&self, stack: &Self::Stack) {
        stack.sweep();
    }
}

fn pages(
    config: &Config,
    readiness: Readiness,
    metrics: Metrics,
    log: Arc<LogWriter>,
    tally: Tally,
) -> Pages {
    let shown = config::redacted(config);
    let scrape = move || {
        metrics.scrape(Others {
            log_lines_dropped: log.dropped(),
            connections_accepted: tally.accepted(),
            connections_open: tally.open(),
            accept_failures: tally.failed(),
        })
    };
    Pages {
        readiness,
        metrics: Box::new(scrape),
        config: Box::new(move || shown.clone()),
    }
}

/// How the server is to run.
pub(crate) fn settings(config: &Config) -> Settings {
    let server = &config.server;
    let workers = match server.workers {
        config::Workers::Auto => server::available_workers(),
        config::Workers::Count(count) => count,
    };
    Settings {
        listen: server.listen.iter().map(address).collect(),
        workers,
        flavor: match server.runtime {
            config::Runtime::PerCore => Flavor::PerCore,
            config::Runtime::MultiThread => Flavor::MultiThread,
        },
        limits: server::Limits {
            head: usize::try_from(server.limits.head).unwrap_or(usize::MAX),
            headers: server.limits.headers,
            head_timeout: server.limits.head_timeout,
            keep_alive: server.limits.keep_alive,
            slow_reader: Some(server.limits.slow_reader),
            buffer: usize::try_from(server.limits.buffer).unwrap_or(usize::MAX),
            connections: connections(),
        },
        drain: server::Drain {
            delay: server.drain.delay,
            timeout: server.drain.timeout,
        },
    }
}

/// Half of the descriptors that this process may open, after 64 for itself: a request needs two.
fn connections() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    // Where there is no such file, the customary soft limit.
    let soft = soft
        .and_then(|limit| limit.parse().ok())
        .unwrap_or(1024_usize);
    (soft.saturating_sub(64) / 2).max(16)
}

fn address(listen: &Listen) -> Address {
    match listen {
        Listen::Tcp(address) => Address::from(*address),
        Listen::Unix(path) => Address::Unix(path.clone()),
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin(error) => error.fmt(f),
            Self::Log(error) => write!(f, "the request log cannot be opened: {error}"),
            Self::Server(error) => error.fmt(f),
            Self::Tls(error) => error.fmt(f),
        }
    }
}

impl Error for StartError {}
