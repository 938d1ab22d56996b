//! Providers: where they are, what they are paid with, what they serve.

use std::path::PathBuf;
use std::time::Duration;

pub use tollgate_middleware::dialect::Dialect;

use super::{Pattern, Share, TimeoutOverride};
use crate::config::secret::Secret;

/// Somebody who answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Provider {
    /// Its name in routes, logs and metrics.
    pub name: String,
    /// The dialect it speaks.
    pub dialect: Dialect,
    /// Where it is; `None` for the mock only.
    pub base_url: Option<BaseUrl>,
    /// What it is paid with, in turn; without any, no credential is sent.
    pub credentials: Vec<Credential>,
    /// Whether it is paid with the caller's own credential, which goes on in the slot that it came in.
    pub passthrough: bool,
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
    /// What it runs for us at once; `None` is without bound.
    pub concurrency: Option<Share>,
    /// Its idle connections, per worker.
    pub pool: Pool,
    /// Its certificates; `None` trusts the system's roots and shows nothing.
    pub tls: Option<ProviderTls>,
    /// How its streams show that they are complete.
    pub end: End,
}

impl Provider {
    /// Whether one of its credentials has this name.
    #[must_use]
    pub fn has_credential(&self, name: &str) -> bool {
        let mut credentials = self.credentials.iter();
        credentials.any(|it| it.name.as_deref() == Some(name))
    }
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

    /// Scheme, host and port: who sees what is sent there.
    #[must_use]
    pub fn origin(&self) -> (Scheme, String, u16) {
        let host = self.authority.host().to_ascii_lowercase();
        (self.scheme, host, self.port())
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

impl Default for Pool {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(60),
            max_idle: 128,
            max_age: Duration::from_secs(600),
        }
    }
}
