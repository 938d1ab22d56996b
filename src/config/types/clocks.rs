//! The clocks towards a provider, and how those of a route go over them.

use std::time::Duration;

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
    /// Bytes a second that an answer brings at least.
    pub min_rate: Speed,
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
            min_rate: Speed::Off,
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

/// A least speed, in bytes a second, that may be off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speed {
    /// Any will do.
    Off,
    /// So many bytes, more than zero.
    AtLeast(u64),
}

impl Speed {
    /// The bytes, unless it is off.
    #[must_use]
    pub const fn least(self) -> Option<u64> {
        match self {
            Self::Off => None,
            Self::AtLeast(bytes) => Some(bytes),
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
    /// See [`Timeout::min_rate`].
    pub min_rate: Option<Speed>,
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
        min_rate: Some(Speed::Off),
        total: Some(Clock::Off),
    };

    /// This one, and what it does not set from the one below.
    #[must_use]
    pub fn or(&self, below: Self) -> Self {
        Self {
            connect: self.connect.or(below.connect),
            first_byte_stream: self.first_byte_stream.or(below.first_byte_stream),
            first_byte_document: self.first_byte_document.or(below.first_byte_document),
            first_token: self.first_token.or(below.first_token),
            idle: self.idle.or(below.idle),
            min_rate: self.min_rate.or(below.min_rate),
            total: self.total.or(below.total),
        }
    }

    /// `base` with what is set here put over it.
    #[must_use]
    pub fn over(&self, base: Timeout) -> Timeout {
        Timeout {
            connect: self.connect.unwrap_or(base.connect),
            first_byte_stream: self.first_byte_stream.unwrap_or(base.first_byte_stream),
            first_byte_document: self.first_byte_document.unwrap_or(base.first_byte_document),
            first_token: self.first_token.unwrap_or(base.first_token),
            idle: self.idle.unwrap_or(base.idle),
            min_rate: self.min_rate.unwrap_or(base.min_rate),
            total: self.total.unwrap_or(base.total),
        }
    }
}
