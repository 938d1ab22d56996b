//! What may be spent, and where that is kept.

use std::path::PathBuf;

use tollgate_middleware::budget::{Budget, OnShort, Rate, Reserve, Unpriced, Waste};

/// Tokens that a caller may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// How many, and in which time.
    pub rate: Rate,
    /// How many are reserved for a request.
    pub reserve: Reserve,
}

/// What may be spent, for all callers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budgets {
    /// Nothing is limited, and nothing is counted.
    pub off: bool,
    /// What all may spend together.
    pub global: Option<Budget>,
    /// What happens to models without a price.
    pub unpriced: Unpriced,
    /// What happens to what may cost more than is left.
    pub on_short: OnShort,
    /// Who pays for attempts that were thrown away.
    pub waste: Waste,
}

/// What a route says of it. Accounts are of callers, whatever route they take: what they may spend is no matter of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BudgetOverride {
    /// Whether it is limited and counted what goes this way.
    pub on: Option<bool>,
    /// What happens to models without a price.
    pub unpriced: Option<Unpriced>,
    /// What happens to what may cost more than is left.
    pub on_short: Option<OnShort>,
    /// Who pays for attempts that were thrown away.
    pub waste: Option<Waste>,
}

impl BudgetOverride {
    /// These, and what they leave open as `under` says.
    #[must_use]
    pub fn over(&self, under: Budgets) -> Budgets {
        Budgets {
            off: self.on.map_or(under.off, |on| !on),
            global: under.global,
            unpriced: self.unpriced.unwrap_or(under.unpriced),
            on_short: self.on_short.unwrap_or(under.on_short),
            waste: self.waste.unwrap_or(under.waste),
        }
    }
}

/// What outlives the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The directory of the spool.
    pub dir: Option<PathBuf>,
}
