//! Callers, and the layers that bound them.

use std::time::{Duration, SystemTime};

use tollgate_middleware::{
    auth::jwt::Algorithm,
    budget::Budget,
    dialect::Operation,
    origin::OriginPattern,
    rate_limit::Quota,
    token_cap::{Caps, Insert, OnExceed},
};

use super::{Network, Pattern, Tokens};
use crate::config::secret::Secret;

/// Who may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Caller {
    /// The name in logs and limits.
    pub name: String,
    /// What proves that it is this caller.
    pub key: CallerKey,
    /// The models that it may use; `None` is all.
    pub models: Option<Vec<Pattern>>,
    /// How often it may ask.
    pub requests: Option<Quota>,
    /// How many tokens it may use.
    pub tokens: Option<Tokens>,
    /// How much money it may spend.
    pub budget: Option<Budget>,
    /// How many of its requests may run at once; `None` is what all may.
    pub concurrency: Option<usize>,
    /// From where; empty is from everywhere.
    pub allow_from: Vec<Network>,
    /// Until when, this moment not included.
    pub expires: Option<SystemTime>,
    /// Which goes first where requests wait.
    pub priority: i32,
    /// Whether it is locked out.
    pub disabled: bool,
    /// What it may ask for; `None` is everything.
    pub surfaces: Option<Vec<Operation>>,
    /// The pages that may use its key; empty is all, and all who are no page.
    pub origins: Vec<OriginPattern>,
    /// What its log lines say of it, in file order.
    pub labels: Vec<(String, String)>,
    /// The credential that is sent for it, by its name, where a provider has one of that name.
    pub credential: Option<String>,
}

/// What proves who is calling.
#[derive(Clone, Debug, PartialEq)]
pub enum CallerKey {
    /// The key.
    Key(Secret),
    /// Its hash.
    Hash(Secret),
    /// A token whose claim is its name; it has no key.
    Token,
}

/// Whose tokens name callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwt {
    /// Where the set of keys is fetched.
    pub jwks: http::Uri,
    /// Who signs: `iss`.
    pub issuer: String,
    /// For whom: `aud`.
    pub audience: String,
    /// In which ways; never empty.
    pub algorithms: Vec<Algorithm>,
    /// The claim that names the caller.
    pub caller: String,
    /// The caller on whose terms everybody comes who is none of the callers; `None` lets nobody else in. It exists.
    pub stands_for: Option<String>,
}

/// How often may be asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RateLimits {
    /// From one address.
    pub per_ip: Option<Quota>,
    /// In all.
    pub global: Option<Quota>,
    /// For the models of each pattern.
    pub per_model: Vec<(Pattern, Quota)>,
    /// By each end user of a caller.
    pub per_user: Option<PerUser>,
}

/// How often an end user may ask.
#[derive(Clone, Debug, PartialEq)]
pub struct PerUser {
    /// How often.
    pub quota: Quota,
    /// The headers that name the end user, before the body does.
    pub headers: Vec<http::HeaderName>,
    /// Whether the body names the end user.
    pub body: bool,
}

/// How much may run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// In all.
    pub max: usize,
    /// Of each caller that has no limit of its own.
    pub per_caller: usize,
    /// How many may wait.
    pub queue: usize,
    /// How long.
    pub wait: Duration,
}

impl Concurrency {
    /// No bound.
    pub const OFF: Self = Self {
        max: usize::MAX,
        per_caller: usize::MAX,
        queue: 0,
        wait: Duration::ZERO,
    };
}

impl Default for Concurrency {
    fn default() -> Self {
        Self {
            max: 10_000,
            per_caller: 200,
            queue: 1000,
            wait: Duration::from_secs(2),
        }
    }
}

/// A cap of which some parts may be left to another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenCap {
    /// Nothing is capped, whatever the other one says.
    pub off: bool,
    /// Output tokens.
    pub max_tokens: Option<u64>,
    /// What happens to what asks for more.
    pub on_exceed: Option<OnExceed>,
    /// Where an absent limit goes.
    pub insert: Option<Insert>,
    /// Messages.
    pub max_messages: Option<usize>,
    /// Bytes of text.
    pub max_input: Option<u64>,
    /// Whether what cannot be read passes.
    pub uninspected: Option<bool>,
}

impl TokenCap {
    /// The caps: these, and what they leave open as `under` says.
    #[must_use]
    pub fn over(&self, under: &Self) -> Caps {
        if self.off {
            return Caps::off();
        }
        let under = if under.off { &Self::default() } else { under };
        Caps {
            max_tokens: self.max_tokens.or(under.max_tokens),
            on_exceed: self.on_exceed.or(under.on_exceed).unwrap_or_default(),
            insert: self.insert.or(under.insert).unwrap_or_default(),
            max_messages: self.max_messages.or(under.max_messages),
            max_input: self.max_input.or(under.max_input),
            uninspected: self.uninspected.or(under.uninspected).unwrap_or_default(),
        }
    }
}
