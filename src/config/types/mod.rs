//! The configuration as the rest of the program reads it: parsed, checked, with every default in its place.

mod budget;
mod callers;
mod clocks;
mod filter;
mod meter;
mod network;
mod provider;
mod retry;
mod route;
mod targets;

use std::path::PathBuf;
use std::time::Duration;

pub use budget::{BudgetOverride, Budgets, Shared, State, Tokens};
pub use callers::{Caller, CallerKey, Concurrency, Jwt, PerUser, RateLimits, TokenCap};
pub use clocks::{Clock, Speed, Timeout, TimeoutOverride};
pub use filter::{FilterRule, WordFile, WordFilter};
pub use meter::{Meter, MeterOverride, OnDisconnect};
pub use network::Network;
pub use provider::{
    Auth, BaseUrl, Credential, Dialect, End, ExtraMember, Model, Models, Pool, Provider,
    ProviderTls, Scheme,
};
pub use retry::RetryOverride;
pub use route::{Alias, Match, Pattern, Prompt, Route, StickyOn, Strategy, Target};
pub use targets::{Breaker, BreakerOverride, Share};

use tollgate_middleware::origin::OriginPattern;

use super::secret::Secret;

/// One whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The data listener.
    pub server: Server,
    /// The admin listener.
    pub admin: Admin,
    /// The providers, in file order.
    pub providers: Vec<Provider>,
    /// Who may call, in file order. Empty: only this machine, or everyone if the gateway is open.
    pub callers: Vec<Caller>,
    /// Model names that stand for others, in file order.
    pub aliases: Vec<Alias>,
    /// The routes, in file order. Empty: a model goes to the providers that list it, in file order.
    pub routes: Vec<Route>,
    /// What every route gets unless it says otherwise.
    pub layers: Layers,
    /// Prices of models, over those that are built in, in file order.
    pub prices: Vec<(String, tollgate_middleware::prices::Price)>,
    /// What outlives the process.
    pub state: State,
    /// What is told about requests.
    pub telemetry: Telemetry,
}

/// The data listener and how it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where it listens; never empty, no address twice.
    pub listen: Vec<Listen>,
    /// How many threads serve.
    pub workers: Workers,
    /// How the threads are run.
    pub runtime: Runtime,
    /// Proxies whose word about their clients' addresses counts.
    pub trusted_proxies: Vec<Network>,
    /// Whether trusted peers begin each connection with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// The listener's certificate; `None` serves in the clear.
    pub tls: Option<ServerTls>,
    /// Bounds of one request.
    pub limits: Limits,
    /// How it stops.
    pub drain: Drain,
    /// Which pages may ask.
    pub cors: Cors,
    /// Which headers of ours an answer carries.
    pub expose: Expose,
}

/// Which pages may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// Every page.
    pub any: bool,
    /// Those of these origins.
    pub origins: Vec<OriginPattern>,
}

/// The listener's certificate: paths of PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// The certificate, and behind it those that lead to a root.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The roots of the certificates that clients must show; `None` asks for none.
    pub client_ca: Option<PathBuf>,
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Listen {
    /// An IP address and a port; port 0 lets the system choose.
    Tcp(std::net::SocketAddr),
    /// A unix socket at this absolute path.
    Unix(PathBuf),
}

impl Listen {
    /// Whether only this machine can connect.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// How many threads serve requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// As many as the process may use processors.
    Auto,
    /// This many, at least 1.
    Count(usize),
}

/// How the threads are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// One runtime and one listener per thread; a request never changes threads.
    PerCore,
    /// One runtime over all threads.
    MultiThread,
}

/// Bounds of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of request line and headers.
    pub head: u64,
    /// Number of headers.
    pub headers: usize,
    /// Time for the whole head.
    pub head_timeout: Duration,
    /// Bytes of the body.
    pub body: u64,
    /// Time for the whole body.
    pub body_timeout: Duration,
    /// Wait between two requests of a connection.
    pub keep_alive: Duration,
    /// How long a client may take nothing of what waits for it.
    pub slow_reader: Duration,
    /// Bytes held of a connection in each direction.
    pub buffer: u64,
    /// Bytes of the bodies that all requests hold together.
    pub held_bodies: HeldBodies,
    /// Client connections open at once.
    pub connections: Connections,
    /// Bytes of the request target.
    pub target: u64,
    /// Bytes read ahead behind a request that is being answered.
    pub ahead: u64,
    /// Time for a client's TLS handshake.
    pub handshake: Duration,
    /// How long a body may pause.
    pub body_silence: Duration,
    /// Arrays and objects of a JSON body that may be open at once.
    pub json_depth: usize,
    /// Members of one object of a JSON body.
    pub json_members: usize,
    /// Bytes of a provider's status line and headers.
    pub answer_head: u64,
    /// Number of a provider's headers.
    pub answer_headers: usize,
    /// Bytes of one event of a stream that are kept to be read.
    pub event: u64,
}

/// How much of request bodies may be held at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldBodies {
    /// So many bytes.
    Bytes(u64),
    /// This part of the memory that the process may use, in hundredths of a percent.
    Share(u32),
}

/// How many client connections may be open at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// As many as the process may open descriptors for: half of what is left after 64, at least 16.
    Auto,
    /// This many, at least 1.
    Count(usize),
}

/// How the server stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How long it still accepts while it already says that it is not ready.
    pub delay: Duration,
    /// How long running requests may go on after that.
    pub timeout: Duration,
}

/// Which headers of ours an answer carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expose {
    /// The usual ones.
    None,
    /// Also provider, model, attempts and route.
    Debug,
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens.
    pub listen: Listen,
    /// What `/config`, `/reload` and `/drain` ask for where the bind is not local.
    pub token: Option<Secret>,
}

/// What every route gets unless it says otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layers {
    /// Who is served.
    pub auth: Access,
    /// Whose tokens name callers.
    pub jwt: Option<Jwt>,
    /// How often may be asked.
    pub rate_limit: RateLimits,
    /// How much may run at once.
    pub concurrency: Concurrency,
    /// What a request may ask for.
    pub token_cap: TokenCap,
    /// What is looked for in texts.
    pub word_filter: WordFilter,
    /// What is tried again.
    pub retry: tollgate_middleware::retry::Policy,
    /// When a target is not asked any more.
    pub breaker: Breaker,
    /// What may be spent.
    pub budget: Budgets,
    /// The clocks towards a provider.
    pub timeout: Timeout,
    /// What is read in answers, and what of those whose client leaves.
    pub meter: Meter,
    /// After how long a silent stream gets a frame; `None` is never.
    pub keepalive: Option<Duration>,
}

/// Who is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Everyone who can connect. Otherwise, without callers, only this machine.
    pub open: bool,
}

/// What is told about requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Telemetry {
    /// The request log.
    pub log: Log,
    /// The figures.
    pub metrics: Metrics,
    /// Who else is told of requests that have ended.
    pub webhook: Option<Webhook>,
}

/// What `/metrics` tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Whether callers are told apart.
    pub label_callers: bool,
    /// Values of one label; what comes beyond is `other`.
    pub label_values: usize,
}

/// Who else is told of requests that have ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Where events are posted: scheme, authority and path.
    pub url: http::Uri,
    /// What they are signed with; `None` leaves them unsigned.
    pub secret: Option<Secret>,
}

/// The request log: one JSON line per request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Where the lines go.
    pub to: LogTo,
}

/// Where log lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogTo {
    /// A file, appended to.
    File(PathBuf),
    /// Standard error.
    Stderr,
    /// Standard output.
    #[default]
    Stdout,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            label_callers: false,
            label_values: 1000,
        }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: vec![Listen::Tcp((std::net::Ipv4Addr::LOCALHOST, 8080).into())],
            workers: Workers::Auto,
            runtime: Runtime::PerCore,
            trusted_proxies: vec![Network::loopback()],
            proxy_protocol: false,
            tls: None,
            limits: Limits {
                head: 32 << 10,
                headers: 100,
                head_timeout: Duration::from_secs(10),
                body: 32 << 20,
                body_timeout: Duration::from_secs(60),
                keep_alive: Duration::from_secs(75),
                slow_reader: Duration::from_secs(30),
                buffer: 64 << 10,
                held_bodies: HeldBodies::Share(2500),
                connections: Connections::Auto,
                target: 8 << 10,
                ahead: 16 << 10,
                handshake: Duration::from_secs(10),
                body_silence: Duration::from_secs(10),
                json_depth: 128,
                json_members: 10_000,
                answer_head: 64 << 10,
                answer_headers: 200,
                event: 1 << 20,
            },
            drain: Drain {
                delay: Duration::ZERO,
                timeout: Duration::from_secs(600),
            },
            cors: Cors::default(),
            expose: Expose::None,
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: Listen::Tcp((std::net::Ipv4Addr::LOCALHOST, 9901).into()),
            token: None,
        }
    }
}
