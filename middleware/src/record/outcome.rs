//! The words in which a [`Record`](super::Record) is written.

use std::{fmt, sync::Arc, time::Duration};

use crate::error::{Origin, Reason};

/// A moment in the life of a request. Each is taken once, the first time it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The last byte of the request body has been read.
    BodyRead,
    /// Our last pass over the request: it goes to the client.
    Sent,
    /// The upstream's head has been read (of the last attempt).
    UpstreamHead,
    /// The head of the answer was handed to the server.
    Head,
    /// The first byte of the answer's body was handed to the server.
    FirstByte,
    /// The first generated output was seen.
    FirstToken,
    /// The body has ended.
    End,
}

impl Mark {
    pub(super) const COUNT: usize = 7;
}

/// One call to a provider.
#[derive(Clone, Debug, Default)]
pub struct Attempt {
    /// The provider's name in the configuration.
    pub provider: Arc<str>,
    /// The target's name: the provider, or `provider/model` where the target names a model.
    pub target: Arc<str>,
    /// The target's label.
    pub label: Option<Arc<str>>,
    /// The model as the provider was asked for it.
    pub model: Option<Arc<str>>,
    /// The status of its answer.
    pub status: Option<u16>,
    /// What went wrong, in a fixed word.
    pub error: Option<&'static str>,
    /// From the request going out to the head of the answer, or to the failure.
    pub took: Duration,
}

/// How a limit of the caller's own stands, once this request was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The limit's name.
    pub limit: Arc<str>,
    /// How many may come at once.
    pub quota: u64,
    /// The period of its rate.
    pub window: Duration,
    /// How many are left now.
    pub left: u64,
    /// Until there is one, if none is left; else until all are.
    pub reset: Duration,
    /// What is counted.
    pub unit: Unit,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// Requests.
    #[default]
    Requests,
    /// Tokens of input and output.
    Tokens,
}

/// What a rule has found in the texts of a request and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The rule.
    pub rule: Arc<str>,
    /// What it does about it.
    pub action: &'static str,
    /// How often.
    pub times: u64,
}

/// The refusal that became the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The layer that spoke.
    pub layer: &'static str,
    /// Why.
    pub reason: Reason,
}

/// xxh3-128 of the response body on either side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// As it was received.
    pub upstream: u128,
    /// As it was handed to the transport.
    pub client: u128,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// The client left before the end.
    ClientGone,
    /// The answer was handed over whole, a provider's own 4xx and 5xx included.
    Complete,
    /// Cut at the end of the drain window.
    Drain,
    /// A bug of ours.
    Internal,
    /// Answered by us.
    Refused,
    /// Cut because the client took nothing.
    SlowReader,
    /// A clock ran out.
    Timeout,
    /// The provider could not be asked, or its answer carried an error of its own.
    UpstreamError,
    /// The provider's answer broke off.
    UpstreamTruncated,
}

impl Ended {
    /// Whether something went wrong: neither the answer was handed over whole, nor was the request refused, nor did its client leave.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        !matches!(self, Self::ClientGone | Self::Complete | Self::Refused)
    }

    /// Every ending, in the order of their discriminants.
    pub const ALL: [Self; 9] = [
        Self::ClientGone,
        Self::Complete,
        Self::Drain,
        Self::Internal,
        Self::Refused,
        Self::SlowReader,
        Self::Timeout,
        Self::UpstreamError,
        Self::UpstreamTruncated,
    ];

    /// The word of the request log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientGone => "client_gone",
            Self::Complete => "complete",
            Self::Drain => "drain",
            Self::Internal => "internal",
            Self::Refused => "refused",
            Self::SlowReader => "slow_reader",
            Self::Timeout => "timeout",
            Self::UpstreamError => "upstream_error",
            Self::UpstreamTruncated => "upstream_truncated",
        }
    }
}

impl From<Reason> for Ended {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::ClientGone => Self::ClientGone,
            Reason::Draining => Self::Drain,
            Reason::Internal => Self::Internal,
            Reason::SlowReader => Self::SlowReader,
            Reason::Truncated => Self::UpstreamTruncated,
            Reason::UpstreamTimeout => Self::Timeout,
            reason if reason.origin() == Origin::Upstream => Self::UpstreamError,
            _ => Self::Refused,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
