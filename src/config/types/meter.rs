//! How answers are metered, and how a route's way goes over it.

/// How answers are metered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meter {
    /// Whether they are at all.
    pub on: bool,
    /// Whether the usage of a stream is asked for where the caller did not.
    pub inject: bool,
    /// What happens to an answer whose client leaves.
    pub on_disconnect: OnDisconnect,
}

/// What happens to an answer whose client leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDisconnect {
    /// It is cancelled, and charged by estimate.
    #[default]
    Cancel,
    /// It is read on, and charged by the provider's report.
    Drain,
}

/// What a route sets itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeterOverride {
    /// See [`Meter::on`].
    pub on: Option<bool>,
    /// See [`Meter::inject`].
    pub inject: Option<bool>,
    /// See [`Meter::on_disconnect`].
    pub on_disconnect: Option<OnDisconnect>,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            on: true,
            inject: false,
            on_disconnect: OnDisconnect::Cancel,
        }
    }
}

impl OnDisconnect {
    /// The word of the configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Drain => "drain",
        }
    }
}

impl MeterOverride {
    /// `base` with what is set here put over it.
    #[must_use]
    pub fn over(&self, base: Meter) -> Meter {
        Meter {
            on: self.on.unwrap_or(base.on),
            inject: self.inject.unwrap_or(base.inject),
            on_disconnect: self.on_disconnect.unwrap_or(base.on_disconnect),
        }
    }
}
