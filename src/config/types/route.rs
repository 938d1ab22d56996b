//! Routes and aliases: which requests go where.

use super::{
    BreakerOverride, BudgetOverride, Dialect, MeterOverride, RetryOverride, TimeoutOverride,
    TokenCap, WordFilter,
};

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
    /// Who answers: at least one, and not all of weight 0.
    pub targets: Vec<Target>,
    /// Which of them is asked.
    pub strategy: Strategy,
    /// What the choice sticks to, where it sticks.
    pub sticky: Option<StickyOn>,
    /// The target, by its place, where that goes which a provider keeps.
    pub state_target: usize,
    /// What is tried again, over what holds for all.
    pub retry: RetryOverride,
    /// Its own clocks, over those of the provider.
    pub timeout: TimeoutOverride,
    /// Its own circuit breaker, over that of all routes.
    pub breaker: BreakerOverride,
    /// How its answers are metered, over what holds for all.
    pub meter: MeterOverride,
    /// Its own caps, over those of all routes.
    pub token_cap: TokenCap,
    /// What may be spent on it, over what holds for all.
    pub budget: BudgetOverride,
    /// What is looked for in its texts, over what is looked for in all.
    pub word_filter: WordFilter,
}

/// What must hold for a route: everything that is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// One of these models.
    pub model: Vec<Pattern>,
    /// One of these paths.
    pub path: Vec<Pattern>,
    /// One of these callers; each pattern means one.
    pub caller: Vec<Pattern>,
    /// One of these dialects, of the caller.
    pub dialect: Vec<Dialect>,
    /// Whether the caller asked for a stream.
    pub stream: Option<bool>,
    /// Each of these headers with such a value.
    pub header: Vec<(http::HeaderName, Pattern)>,
    /// Whether the caller offers tools.
    pub tools: Option<bool>,
    /// Each of these members of the metadata with such a value.
    pub metadata: Vec<(String, Pattern)>,
    /// What the user says.
    pub prompt: Option<Prompt>,
}

/// What the user says: something of it that is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    /// One of these stands in a text.
    pub contains: Vec<String>,
    /// None of these stands in any.
    pub not_contains: Vec<String>,
    /// A text has a place that this fits; it can be compiled.
    pub regex: Option<String>,
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
    /// How much of the traffic it gets; 0 is none.
    pub weight: u32,
    /// The credential that is always sent, by its name.
    pub credential: Option<String>,
    /// How often it is asked for one request at the most.
    pub attempts: Option<u32>,
    /// Its own circuit breaker, over that of the route.
    pub breaker: BreakerOverride,
    /// Its own clocks, over those of the route.
    pub timeout: TimeoutOverride,
}

/// Which target of a route is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// The one where it costs least.
    Cheapest,
    /// The first.
    #[default]
    Fallback,
    /// The one where the fewest requests run.
    LeastInflight,
    /// The one that is fastest to its first output.
    LeastLatency,
    /// The better of two.
    P2c,
    /// One after the other.
    RoundRobin,
    /// The same one for the same session, cache key, caller or address.
    Sticky,
    /// By chance, as the weights say.
    Weighted,
}

impl Strategy {
    /// Every strategy with its word in the file.
    pub const WORDS: [(&'static str, Self); 8] = [
        ("fallback", Self::Fallback),
        ("weighted", Self::Weighted),
        ("round_robin", Self::RoundRobin),
        ("least_inflight", Self::LeastInflight),
        ("p2c", Self::P2c),
        ("least_latency", Self::LeastLatency),
        ("cheapest", Self::Cheapest),
        ("sticky", Self::Sticky),
    ];

    /// The strategy of this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        let mut words = Self::WORDS.iter();
        words.find(|(own, _)| *own == word).map(|(_, it)| *it)
    }

    /// Its word in the file.
    #[must_use]
    pub fn word(self) -> &'static str {
        let mut words = Self::WORDS.iter();
        words
            .find(|(_, it)| *it == self)
            .map_or("fallback", |(word, _)| word)
    }
}

/// What a choice sticks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StickyOn {
    /// The caller.
    Caller,
    /// The session that a header names, or `prompt_cache_key`.
    Session,
    /// The end user whom the body names.
    User,
}

impl StickyOn {
    /// Its word in the file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Session => "session",
            Self::User => "user",
        }
    }
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
