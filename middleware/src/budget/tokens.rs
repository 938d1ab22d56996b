//! Tokens per time: GCRA in whole numbers, for one caller.

use std::{collections::VecDeque, fmt, num::NonZeroU32, time::Duration};

/// So many tokens per period, all of which may be taken at once.
///
/// ```
/// use std::time::Duration;
/// use tollgate_middleware::budget::Rate;
///
/// assert_eq!(Rate::new(200_000, Duration::from_secs(60)).unwrap().tokens(), 200_000);
/// assert!(Rate::new(0, Duration::from_secs(60)).is_none());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    tokens: NonZeroU32,
    // Nanoseconds, 1 to `LONGEST`.
    per: u64,
}

/// What was taken of one rate.
///
/// Times are nanoseconds since a moment that the owner chose. One number is kept: the moment at which all is there again (the
/// theoretical arrival time of GCRA). What is reserved counts as taken from its admission on; when it is known what was really used, the
/// rest is given back as if it had never been taken, but for what others could not have taken meanwhile in any case.
#[derive(Clone, Debug)]
pub struct Bucket {
    rate: Rate,
    // In ticks of the rate.
    full_at: u128,
    // How much was taken when another reservation came, of those that a later settling has to know, in the order of their
    // numbers.
    lows: VecDeque<(u64, u128)>,
    // Names a reservation.
    count: u64,
    // Reservations that are not settled.
    open: u32,
    // How often the rate has changed.
    generation: u32,
}

/// What was taken for one request, and will be settled.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    number: u64,
    generation: u32,
    tokens: u64,
}

/// So many lows are kept apart; beyond, the oldest two become one, which gives back less, never more.
const LOWS: usize = 32;

/// 366 days in nanoseconds: with it no time times a rate leaves 128 bits.
const LONGEST: u64 = 366 * 24 * 3600 * 1_000_000_000;

// ===== impl Rate =====

impl Rate {
    /// `tokens` per period; `None` for no token at all, and for a period of no length or of more than 366 days.
    pub fn new(tokens: u32, per: Duration) -> Option<Self> {
        let tokens = NonZeroU32::new(tokens)?;
        let per = u64::try_from(per.as_nanos()).ok()?;
        (1..=LONGEST).contains(&per).then_some(Self { tokens, per })
    }

    /// Tokens per period.
    pub const fn tokens(&self) -> u32 {
        self.tokens.get()
    }

    /// The period.
    pub const fn per(&self) -> Duration {
        Duration::from_nanos(self.per)
    }

    /// Time in ticks. A nanosecond is as many of them as there are tokens per period, so that a token is a whole number.
    fn ticks(&self, nanos: u64) -> u128 {
        u128::from(nanos) * u128::from(self.tokens.get())
    }

    /// The whole nanoseconds in which so many ticks have passed.
    fn nanos(&self, ticks: u128) -> u64 {
        u64::try_from(ticks.div_ceil(u128::from(self.tokens.get()))).unwrap_or(u64::MAX)
    }

    /// So many tokens, in ticks.
    fn of(&self, tokens: u64) -> u128 {
        u128::from(self.per) * u128::from(tokens)
    }

    fn room(&self) -> u128 {
        self.of(u64::from(self.tokens.get()))
    }

    /// What is reserved of so many: at most all.
    pub(super) fn at_most(&self, tokens: u64) -> u64 {
        tokens.min(u64::from(self.tokens.get()))
    }
}

/// `200000 tokens per minute`
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens per ", self.tokens)?;
        match self.per {
            1_000_000_000 => f.write_str("second"),
            60_000_000_000 => f.write_str("minute"),
            3_600_000_000_000 => f.write_str("hour"),
            86_400_000_000_000 => f.write_str("day"),
            _ => write!(f, "{:?}", self.per()),
        }
    }
}

// ===== impl Bucket =====

impl Bucket {
    /// Nothing taken.
    pub fn new(rate: Rate) -> Self {
        Self {
            rate,
            full_at: 0,
            lows: VecDeque::new(),
            count: 0,
            open: 0,
            generation: 0,
        }
    }

    /// A bucket of which so many nanoseconds of its rate are taken.
    pub fn restored(rate: Rate, taken: u64, now: u64) -> Self {
        Self {
            full_at: rate.ticks(now) + rate.ticks(taken),
            ..Self::new(rate)
        }
    }

    /// The rate.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// The nanoseconds until all is there again.
    pub fn taken_for(&self, now: u64) -> u64 {
        self.rate.nanos(self.taken(now))
    }

    /// The rate is this from now on. What was taken of a period stays taken.
    pub fn adopt(&mut self, rate: Rate, now: u64) {
        if rate == self.rate {
            return;
        }
        let taken = if rate.per == self.rate.per {
            self.taken(now)
        } else {
            0
        };
        self.full_at = rate.ticks(now) + taken;
        self.rate = rate;
        self.lows.clear();
        // What was reserved before is not given back: it was measured by another rate.
        self.generation = self.generation.wrapping_add(1);
        self.open = 0;
    }

    /// Ticks that are taken and not there again.
    fn taken(&self, now: u64) -> u128 {
        self.full_at.saturating_sub(self.rate.ticks(now))
    }

    /// Nanoseconds until so many tokens are there; `None` is now.
    pub fn wait(&self, tokens: u64, now: u64) -> Option<u64> {
        let over = (self.taken(now) + self.rate.of(tokens)).checked_sub(self.rate.room())?;
        (over > 0).then(|| self.rate.nanos(over))
    }

    /// Tokens that are there.
    pub fn left(&self, now: u64) -> u64 {
        let left = self.rate.room().saturating_sub(self.taken(now)) / self.rate.of(1);
        u64::try_from(left).unwrap_or(u64::MAX)
    }

    /// Nanoseconds until there is one token, if none is there; else until all are.
    pub fn reset(&self, now: u64) -> u64 {
        let taken = self.taken(now);
        let one = self.rate.of(1);
        let over = (taken + one).saturating_sub(self.rate.room());
        self.rate.nanos(if over > 0 { over } else { taken })
    }

    /// Takes tokens, whether they are there or not.
    pub fn take(&mut self, tokens: u64, now: u64) -> Taken {
        self.count += 1;
        let taken = self.taken(now);
        if self.open > 0 {
            self.low(taken);
        }
        self.full_at = self.rate.ticks(now) + taken + self.rate.of(tokens);
        self.open += 1;
        Taken {
            number: self.count,
            generation: self.generation,
            tokens,
        }
    }

    fn low(&mut self, taken: u128) {
        while self.lows.back().is_some_and(|(_, before)| *before >= taken) {
            self.lows.pop_back();
        }
        self.lows.push_back((self.count, taken));
        if self.lows.len() > LOWS
            && let Some((_, taken)) = self.lows.pop_front()
            && let Some(next) = self.lows.front_mut()
        {
            next.1 = taken;
        }
    }

    /// So many tokens were really used.
    pub fn settle(&mut self, taken: Taken, used: u64) {
        if taken.generation != self.generation {
            return;
        }
        if used >= taken.tokens {
            self.full_at += self.rate.of(used - taken.tokens);
        } else {
            let most = self.rate.of(taken.tokens - used);
            // Had the rest not been taken, what was taken when others came would have been that much less, but not less than
            // nothing: so much of it was there again by then, and is nobody's.
            let later = self
                .lows
                .iter()
                .filter(|(number, _)| *number > taken.number);
            let back = later.map(|(_, low)| *low).fold(most, u128::min);
            self.full_at = self.full_at.saturating_sub(back);
            let later = self.lows.iter_mut();
            for (_, low) in later.filter(|(number, _)| *number > taken.number) {
                *low = low.saturating_sub(most);
            }
        }
        self.open = self.open.saturating_sub(1);
        if self.open == 0 {
            self.lows.clear();
        }
    }
}
