//! What may be spent, and where that is kept.

use std::{path::PathBuf, time::Duration};

use tollgate_middleware::{
    budget::{Budget, Rate, Reserve, Unpriced, Waste},
    store::OnError,
};

use crate::config::Secret;

/// Tokens that a caller may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// How many, and in which time.
    pub rate: Rate,
    /// How many are reserved for a request.
    pub reserve: Reserve,
}

/// Money, for all callers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budgets {
    /// What all may spend together.
    pub global: Option<Budget>,
    /// What happens to models without a price.
    pub unpriced: Unpriced,
    /// Who pays for attempts that were thrown away.
    pub waste: Waste,
}

/// What outlives the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The directory of the spool.
    pub dir: Option<PathBuf>,
    /// The store that several processes share.
    pub redis: Option<Shared>,
}

/// A store that several processes share: Redis, or what speaks like it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Where it is; with its password, so that it is shown to nobody.
    pub url: Secret,
    /// Within this it answers, or it is away.
    pub timeout: Duration,
    /// How many processes share it.
    pub replicas: u32,
    /// What holds while it is away.
    pub on_error: OnError,
}
