use std::time::Duration;

/// When a circuit opens, and when it closes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Failures in a row that open it; none: a row of failures does not.
    pub consecutive: Option<u32>,
    /// The share of failures that opens it, in hundredths of a percent; none: no share does.
    pub error_rate: Option<u32>,
    /// The time over which the share is taken, in steps of a tenth of it.
    pub window: Duration,
    /// Requests that must have ended in that time before the share says anything.
    pub min_requests: u32,
    /// How long it stays open.
    pub open_for: Duration,
    /// Requests that may try at once whether it can be closed; at least 1.
    pub probes: u32,
    /// How many of these have to succeed; at least 1.
    pub successes: u32,
}

impl Default for Policy {
    /// 5 in a row, or 50 % of at least 20 within 30 s; open for 30 s; one probe, and one success.
    fn default() -> Self {
        Self {
            consecutive: Some(5),
            error_rate: Some(5000),
            window: Duration::from_secs(30),
            min_requests: 20,
            open_for: Duration::from_secs(30),
            probes: 1,
            successes: 1,
        }
    }
}
