//! What is tried again, and how a route's way goes over it.

use std::time::Duration;

use tollgate_middleware::{
    health::Ratio,
    retry::{Commit, On, Policy},
};

/// What a route sets itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RetryOverride {
    /// Calls of one request to providers.
    pub attempts: Option<u32>,
    /// After what.
    pub on: Option<On>,
    /// The first wait before the same target is asked again.
    pub base: Option<Duration>,
    /// The longest wait that a target may want.
    pub max_retry_after: Option<Duration>,
    /// Second attempts, in hundredths of a percent of the first ones.
    pub ratio: Option<u32>,
    /// Bytes of a body that is kept to be sent again.
    pub replay: Option<u64>,
    /// When an answer counts.
    pub commit: Option<Commit>,
}

impl RetryOverride {
    /// `base` with what is set here put over it.
    #[must_use]
    pub fn over(&self, base: &Policy) -> Policy {
        Policy {
            attempts: self.attempts.unwrap_or(base.attempts),
            on: self.on.clone().unwrap_or_else(|| base.on.clone()),
            base: self.base.unwrap_or(base.base),
            max_retry_after: self.max_retry_after.unwrap_or(base.max_retry_after),
            ratio: self.ratio.map_or(base.ratio, |share| Ratio { share }),
            replay: self.replay.unwrap_or(base.replay),
            commit: self.commit.unwrap_or(base.commit),
        }
    }
}
