use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use super::cell::Level;

/// So many requests per period, and how many of them may come at once.
///
/// ```
/// use std::time::Duration;
/// use tollgate_middleware::rate_limit::Quota;
///
/// let quota = Quota::new(600, Duration::from_secs(60)).unwrap();
/// assert_eq!((quota.burst(), quota.with_burst(10).unwrap().burst()), (600, 10));
/// assert!(Quota::new(0, Duration::from_secs(60)).is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    count: NonZeroU32,
    burst: NonZeroU32,
    // Nanoseconds, 1 to `LONGEST`.
    per: u64,
}

/// A rate that nothing could keep: no request at all, or a period of no length or of more than a year.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadQuota(());

/// The quotas that hold together for one key, shared by its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quotas(Arc<[Quota]>);

/// 366 days in nanoseconds: with it and 32 bits of requests no sum of times leaves 128 bits.
const LONGEST: u128 = 366 * 24 * 3600 * 1_000_000_000;

impl Quota {
    /// `count` requests per period, all of which may come at once.
    ///
    /// # Errors
    ///
    /// A count of zero, a period of zero or of more than 366 days.
    pub fn new(count: u32, per: Duration) -> Result<Self, BadQuota> {
        let count = NonZeroU32::new(count).ok_or(BadQuota(()))?;
        let nanos = per.as_nanos();
        if nanos == 0 || nanos > LONGEST {
            return Err(BadQuota(()));
        }
        Ok(Self {
            count,
            burst: count,
            per: u64::try_from(nanos).map_err(|_| BadQuota(()))?,
        })
    }

    /// The same rate, of which only so many may come at once.
    ///
    /// # Errors
    ///
    /// A burst of zero.
    pub fn with_burst(self, burst: u32) -> Result<Self, BadQuota> {
        let burst = NonZeroU32::new(burst).ok_or(BadQuota(()))?;
        Ok(Self { burst, ..self })
    }

    /// Requests per period.
    pub fn count(&self) -> u32 {
        self.count.get()
    }

    /// Requests that may come at once.
    pub fn burst(&self) -> u32 {
        self.burst.get()
    }

    /// The period.
    pub fn per(&self) -> Duration {
        Duration::from_nanos(self.per)
    }

    /// The part of one of so many processes.
    pub(super) fn share(&self, replicas: u32) -> Self {
        let replicas = NonZeroU32::new(replicas).unwrap_or(NonZeroU32::MIN);
        Self {
            count: self.count,
            burst: NonZeroU32::new(self.burst.get() / replicas).unwrap_or(NonZeroU32::MIN),
            per: self.per.saturating_mul(u64::from(replicas.get())),
        }
    }

    /// What so many spent ticks are by another quota of the same period: as many requests, and the same part of one.
    pub(super) fn carry(&self, spent: u128, to: &Self) -> u128 {
        let part = (spent % self.step() * to.step()).div_ceil(self.step());
        spent / self.step() * to.step() + part
    }

    /// How it stands if so many ticks are spent.
    pub(super) fn level(&self, spent: u128) -> Level {
        let left = self.room().saturating_sub(spent) / self.step();
        let reset = if left == 0 {
            spent + self.step() - self.room()
        } else {
            spent
        };
        Level {
            quota: *self,
            left: u32::try_from(left).unwrap_or(u32::MAX),
            reset: self.nanos(reset),
        }
    }

    /// Time in ticks. A nanosecond is as many of them as there are requests per period, so that what one request costs
    /// is a whole number.
    pub(super) fn ticks(&self, nanos: u64) -> u128 {
        u128::from(nanos) * u128::from(self.count.get())
    }

    /// The whole nanoseconds in which so many ticks have passed.
    pub(super) fn nanos(&self, ticks: u128) -> u64 {
        u64::try_from(ticks.div_ceil(u128::from(self.count.get()))).unwrap_or(u64::MAX)
    }

    /// What one request costs, in ticks.
    pub(super) fn step(&self) -> u128 {
        u128::from(self.per)
    }

    /// What may be spent at once, in ticks.
    pub(super) fn room(&self) -> u128 {
        self.step() * u128::from(self.burst.get())
    }
}

/// `600 requests per minute`
impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests per ", self.count)?;
        match self.per {
            1_000_000_000 => f.write_str("second"),
            60_000_000_000 => f.write_str("minute"),
            3_600_000_000_000 => f.write_str("hour"),
            86_400_000_000_000 => f.write_str("day"),
            _ => write!(f, "{:?}", self.per()),
        }
    }
}

impl From<Quota> for Quotas {
    fn from(quota: Quota) -> Self {
        Self(Arc::from([quota]))
    }
}

impl FromIterator<Quota> for Quotas {
    fn from_iter<I: IntoIterator<Item = Quota>>(quotas: I) -> Self {
        Self(quotas.into_iter().collect())
    }
}

impl std::ops::Deref for Quotas {
    type Target = [Quota];

    fn deref(&self) -> &[Quota] {
        &self.0
    }
}

impl Quotas {
    /// Whether both are the same, seldom by looking at them.
    pub(super) fn are(&self, others: &Self) -> bool {
        Arc::ptr_eq(&self.0, &others.0) || self == others
    }
}

impl fmt::Display for BadQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a rate is at least one request in a period of at most 366 days")
    }
}

impl std::error::Error for BadQuota {}
