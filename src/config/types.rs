//! The configuration as the rest of the program reads it: parsed, checked, with every default in its place.

use std::path::PathBuf;
use std::time::Duration;

pub use tollgate_middleware::dialect::Dialect;

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
    /// Model names that stand for others, in file order.
    pub aliases: Vec<Alias>,
    /// The routes, in file order. Empty: a model goes to the providers that list it, in file order.
    pub routes: Vec<Route>,
    /// What every route gets unless it says otherwise.
    pub layers: Layers,
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
    /// Bounds of one request.
    pub limits: Limits,
    /// How it stops.
    pub drain: Drain,
    /// Which headers of ours an answer carries.
    pub expose: Expose,
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

/// Somebody who answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Provider {
    /// Its name in routes, logs and metrics.
    pub name: String,
    /// The dialect it speaks.
    pub dialect: Dialect,
    /// Where it is; `None` for the mock only.
    pub base_url: Option<BaseUrl>,
    /// What it is paid with; `None` sends no credential.
    pub credential: Option<Credential>,
    /// The header slot of the credential.
    pub auth: Auth,
    /// The models it serves.
    pub models: Models,
    /// Headers that replace what the caller sent, in file order.
    pub headers: Vec<(http::HeaderName, Secret)>,
    /// Members added to a JSON body that does not have them, in file order.
    pub extra_body: Vec<ExtraMember>,
    /// Its own clocks, over those of `layers`.
    pub timeout: TimeoutOverride,
    /// Its idle connections, per worker.
    pub pool: Pool,
    /// Its certificates; `None` trusts the system's roots and shows nothing.
    pub tls: Option<ProviderTls>,
    /// How its streams show that they are complete.
    pub end: End,
}

/// The header slot of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// `api-key: …`
    ApiKey,
    /// `authorization: Bearer …`
    Bearer,
    /// No header at all.
    None,
    /// `x-api-key: …`
    XApiKey,
    /// `x-goog-api-key: …`
    XGoogApiKey,
}

impl Auth {
    /// Where providers of this dialect expect their credential.
    #[must_use]
    pub const fn of(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Anthropic => Self::XApiKey,
            Dialect::Azure => Self::ApiKey,
            Dialect::Gemini => Self::XGoogApiKey,
            Dialect::Mock => Self::None,
            Dialect::Bedrock
            | Dialect::Cohere
            | Dialect::Ollama
            | Dialect::OpenAi
            | Dialect::Raw => Self::Bearer,
        }
    }

    /// Every slot with its word in the file.
    pub const WORDS: [(&'static str, Self); 5] = [
        ("bearer", Self::Bearer),
        ("x-api-key", Self::XApiKey),
        ("api-key", Self::ApiKey),
        ("x-goog-api-key", Self::XGoogApiKey),
        ("none", Self::None),
    ];

    /// The slot of this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::WORDS
            .iter()
            .find(|(w, _)| *w == word)
            .map(|(_, a)| *a)
    }

    /// Its word in the file.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS
            .iter()
            .find(|(_, a)| *a == self)
            .map_or("none", |(w, _)| w)
    }
}

/// Where a provider is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    /// With or without TLS.
    pub scheme: Scheme,
    /// Host and, unless it is the scheme's own, port.
    pub authority: http::uri::Authority,
    /// The path that replaces the caller's API prefix, without a slash at its end; empty keeps the caller's whole path.
    pub path: String,
}

impl BaseUrl {
    /// Whether it is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self
            .authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost")
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|ip| ip.to_canonical().is_loopback())
    }

    /// Its port, the scheme's own where none is written.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(match self.scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        })
    }
}

impl std::fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

/// With or without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain.
    Http,
    /// TLS.
    Https,
}

/// What a provider is paid with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// What is sent.
    pub secret: Secret,
}

/// The models of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Models {
    /// Any, on a route that names the provider; nothing is listed unless it is the only provider.
    Any,
    /// These, in file order.
    Listed(Vec<Model>),
}

/// A model that a provider lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// What callers call it.
    pub public: Pattern,
    /// What the provider calls it; `None`: what the caller wrote.
    pub upstream: Option<String>,
}

/// An exact word, or a beginning (`gpt-4o*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// The word, or its beginning without the `*`.
    pub text: String,
    /// Whether anything may follow.
    pub star: bool,
}

impl Pattern {
    /// Whether `word` is meant.
    #[must_use]
    pub fn matches(&self, word: &str) -> bool {
        if self.star {
            word.starts_with(&self.text)
        } else {
            word == self.text
        }
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.text, if self.star { "*" } else { "" })
    }
}

/// A member for a JSON body. `Debug` shows its name only.
#[derive(Clone, PartialEq, Eq)]
pub struct ExtraMember {
    /// Its name, unescaped.
    pub name: String,
    /// Its value as JSON text; numbers as they were written.
    pub json: String,
    /// Whether a variable went into it, so that it is not shown.
    pub expanded: bool,
}

impl std::fmt::Debug for ExtraMember {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExtraMember")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Idle connections of one provider in one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// How long an unused connection is kept.
    pub idle: Duration,
    /// How many unused connections are kept; 0 keeps none.
    pub max_idle: usize,
    /// How old a connection may become.
    pub max_age: Duration,
}

/// Certificates of one provider: paths of PEM files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderTls {
    /// The roots to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// Our certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// The name to ask for and to verify instead of the host.
    pub sni: Option<String>,
}

/// How a provider's streams show that they are complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By the marks of the dialect.
    Marks,
    /// By a clean end of the transport, since there are no marks.
    Transport,
}

/// A model name that stands for another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// What callers write.
    pub name: String,
    /// What is meant: never an alias itself, chains are followed.
    pub model: String,
}

/// Which requests go where.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its name in logs and metrics; `route-<number>` where the file has none.
    pub name: String,
    /// What must hold.
    pub matches: Match,
    /// Who answers.
    pub target: Target,
    /// Its own clocks, over those of the provider.
    pub timeout: TimeoutOverride,
}

/// What must hold for a route: everything that is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// One of these models.
    pub model: Vec<Pattern>,
    /// One of these paths.
    pub path: Vec<Pattern>,
    /// One of these dialects, of the caller.
    pub dialect: Vec<Dialect>,
    /// Whether the caller asked for a stream.
    pub stream: Option<bool>,
    /// Each of these headers with such a value.
    pub header: Vec<(http::HeaderName, Pattern)>,
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The name of a provider; it exists.
    pub provider: String,
    /// The model asked for there; `None` keeps the caller's, renamed as the provider's `models` say.
    pub model: Option<String>,
    /// A word for the log.
    pub label: Option<String>,
}

/// What every route gets unless it says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    /// The clocks towards a provider.
    pub timeout: Timeout,
}

/// The clocks towards a provider, all of them set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout {
    /// Until the connection stands; never off.
    pub connect: Duration,
    /// Until the head of a stream's answer.
    pub first_byte_stream: Clock,
    /// Until the head of any other answer.
    pub first_byte_document: Clock,
    /// Until the first output of a stream.
    pub first_token: Clock,
    /// Between two reads of an answer.
    pub idle: Clock,
    /// From the request to the end of the answer.
    pub total: Clock,
}

impl Default for Timeout {
    fn default() -> Self {
        let after = |seconds| Clock::After(Duration::from_secs(seconds));
        Self {
            connect: Duration::from_secs(5),
            first_byte_stream: after(120),
            first_byte_document: after(600),
            first_token: Clock::Off,
            idle: after(300),
            total: Clock::Off,
        }
    }
}

/// A clock that may be off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// It never runs out.
    Off,
    /// It runs out after this long, which is more than zero.
    After(Duration),
}

impl Clock {
    /// The time, unless it is off.
    #[must_use]
    pub const fn limit(self) -> Option<Duration> {
        match self {
            Self::Off => None,
            Self::After(limit) => Some(limit),
        }
    }
}

/// The clocks that a provider or a route sets itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeoutOverride {
    /// See [`Timeout::connect`].
    pub connect: Option<Duration>,
    /// See [`Timeout::first_byte_stream`].
    pub first_byte_stream: Option<Clock>,
    /// See [`Timeout::first_byte_document`].
    pub first_byte_document: Option<Clock>,
    /// See [`Timeout::first_token`].
    pub first_token: Option<Clock>,
    /// See [`Timeout::idle`].
    pub idle: Option<Clock>,
    /// See [`Timeout::total`].
    pub total: Option<Clock>,
}

impl TimeoutOverride {
    /// Every clock off; connecting keeps its own.
    pub const OFF: Self = Self {
        connect: None,
        first_byte_stream: Some(Clock::Off),
        first_byte_document: Some(Clock::Off),
        first_token: Some(Clock::Off),
        idle: Some(Clock::Off),
        total: Some(Clock::Off),
    };

    /// `base` with what is set here put over it.
    #[must_use]
    pub fn over(&self, base: Timeout) -> Timeout {
        Timeout {
            connect: self.connect.unwrap_or(base.connect),
            first_byte_stream: self.first_byte_stream.unwrap_or(base.first_byte_stream),
            first_byte_document: self.first_byte_document.unwrap_or(base.first_byte_document),
            first_token: self.first_token.unwrap_or(base.first_token),
            idle: self.idle.unwrap_or(base.idle),
            total: self.total.unwrap_or(base.total),
        }
    }
}

/// What is told about requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Telemetry {
    /// The request log.
    pub log: Log,
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

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: vec![Listen::Tcp((std::net::Ipv4Addr::LOCALHOST, 8080).into())],
            workers: Workers::Auto,
            runtime: Runtime::PerCore,
            limits: Limits {
                head: 32 << 10,
                headers: 100,
                head_timeout: Duration::from_secs(10),
                body: 32 << 20,
                body_timeout: Duration::from_secs(60),
            },
            drain: Drain {
                delay: Duration::ZERO,
                timeout: Duration::from_secs(600),
            },
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

impl Default for Pool {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(60),
            max_idle: 128,
            max_age: Duration::from_secs(600),
        }
    }
}
