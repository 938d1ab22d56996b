//! Routes and aliases: which requests go where.

use super::{Dialect, MeterOverride, TimeoutOverride, TokenCap, WordFilter};

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
    /// How its answers are metered, over what holds for all.
    pub meter: MeterOverride,
    /// Its own caps, over those of all routes.
    pub token_cap: TokenCap,
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
