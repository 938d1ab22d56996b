//! What is tried again: the decision, without requests and clocks.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use http::StatusCode;

use crate::{
    attempt::Failure,
    chance::Chance,
    error::{Reason, Rejection},
    health::Ratio,
};

/// What is tried again, how often, and how fast.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Calls of one request to providers, the first one included; 1 tries nothing again.
    pub attempts: u32,
    /// After what.
    pub on: On,
    /// The wait before the same target is asked again is by chance between nothing and this, and twice as long each time.
    pub base: Duration,
    /// A target that wants to be left alone for longer than this is not waited for.
    pub max_retry_after: Duration,
    /// How many second attempts there may be.
    pub ratio: Ratio,
    /// A body of more bytes than this is sent once, and released as it goes.
    pub replay: u64,
    /// When an answer counts.
    pub commit: Commit,
}

/// After what a request is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct On {
    /// No connection could be made.
    pub connect: bool,
    /// The connection was closed before a head. The request may have been served and charged.
    pub closed: bool,
    /// The first byte did not come in time. Likewise.
    pub first_byte_timeout: bool,
    /// These statuses.
    pub statuses: Arc<[RangeInclusive<u16>]>,
}

/// When an answer counts, so that nothing is tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Commit {
    /// When its head has come.
    #[default]
    Head,
    /// When its first output has come: a stream that begins with an error, or ends without output, is a failed attempt, and so is a
    /// document of up to 64 KiB that is nothing but an error, whatever its status. The head is held until that is known.
    FirstEvent,
}

impl Policy {
    /// Nothing is tried again.
    pub fn off() -> Self {
        Self {
            attempts: 1,
            ..Self::default()
        }
    }

    /// Whether nothing is tried again.
    pub fn is_off(&self) -> bool {
        self.attempts <= 1
    }

    /// The wait before the same target is asked for the `times`th time again, from 1: full jitter.
    pub(super) fn backoff(&self, times: u32, chance: &Chance) -> Duration {
        let factor = 1_u32
            .checked_shl(times.saturating_sub(1))
            .unwrap_or(u32::MAX);
        let most = self.base.saturating_mul(factor).min(self.max_retry_after);
        most.mul_f64(chance.unit())
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            attempts: 3,
            on: On::default(),
            base: Duration::from_millis(100),
            max_retry_after: Duration::from_secs(30),
            ratio: Ratio::default(),
            replay: 4 << 20,
            commit: Commit::Head,
        }
    }
}

impl Default for On {
    /// `connect`, 408, 429, 5xx.
    fn default() -> Self {
        Self {
            connect: true,
            closed: false,
            first_byte_timeout: false,
            statuses: [408..=408, 429..=429, 500..=599].into(),
        }
    }
}

impl On {
    /// What an answer with this status means; `ours`: our credential was sent.
    pub(super) fn status(&self, status: StatusCode, ours: bool) -> Option<Failure> {
        let code = status.as_u16();
        let again = self.statuses.iter().any(|range| range.contains(&code));
        match code {
            401..=403 if ours => Some(Failure::Credential { limited: false }),
            429 if ours => Some(Failure::Credential { limited: again }),
            _ if status.is_success() => None,
            _ => again.then_some(Failure::Retryable),
        }
    }

    /// What a failure without an answer means.
    pub(super) fn error(&self, why: &Rejection) -> Option<Failure> {
        let when = |yes: bool| yes.then_some(Failure::Retryable);
        match why.reason() {
            Reason::Connect => when(self.connect),
            // A certificate that was no good is no good the next time.
            Reason::Tls if self.connect => Some(Failure::Elsewhere),
            Reason::Closed => when(self.closed),
            Reason::UpstreamTimeout => when(self.first_byte_timeout),
            Reason::Overloaded | Reason::NoTarget => Some(Failure::Elsewhere),
            _ => None,
        }
    }
}
