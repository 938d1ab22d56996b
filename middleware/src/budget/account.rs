//! What one caller has reserved and spent: the decision, without locks and clocks.

use std::collections::VecDeque;

use super::{
    money::{Budget, Dates, Sums, Usd},
    reckoned::Left,
    tokens::{Bucket, Rate, Taken},
};

/// What is agreed with a caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Tokens, if they are limited.
    pub tokens: Option<Rate>,
    /// How many of them are reserved.
    pub reserve: Reserve,
    /// Money, if it is limited.
    pub money: Option<Budget>,
}

/// How many tokens are reserved for a request. Money is always reserved for the worst case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reserve {
    /// As many as it may use.
    #[default]
    Worst,
    /// Four times what the caller's last 100 requests used on average, if that is less. What a request uses beyond it is owed.
    Typical,
}

/// What a request may cost at the most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Worst {
    /// Tokens of input and output.
    pub tokens: u64,
    /// What they cost at the dearest price.
    pub cost: Usd,
}

/// The account of one caller, or of all together.
#[derive(Clone, Debug, Default)]
pub struct Account {
    bucket: Option<Bucket>,
    sums: Sums,
    recent: Recent,
}

/// What was reserved in an account for one request.
#[derive(Clone, Copy, Debug)]
pub struct Reserved {
    taken: Option<Taken>,
    /// Tokens that count against the rate.
    pub tokens: u64,
    /// Money.
    pub cost: Usd,
    /// The windows in which it counts.
    pub at: Dates,
}

/// Why an account has not enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short {
    /// Of tokens: so many nanoseconds are to be waited, and so many tokens are there.
    Tokens {
        /// The wait.
        wait: u64,
        /// What is there.
        left: u64,
        /// The rate.
        rate: Rate,
    },
    /// Of money: so much is there.
    Money {
        /// What is there.
        left: Usd,
        /// The budget.
        budget: Budget,
    },
}

/// What the last requests used.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    each: VecDeque<u64>,
    sum: u64,
}

/// The shares of a budget, in percent, of which it is told that they are spent.
pub const THRESHOLDS: [u8; 3] = [50, 80, 100];

/// Of so many requests the mean is taken, and so many times.
const RECENT: usize = 100;
const TIMES: u64 = 4;
/// What one request adds to the mean at the most, so that no sum overflows.
const MOST: u64 = 1 << 40;

impl Terms {
    /// As many tokens as are reserved of so many, after what was used lately.
    pub(super) fn tokens_of(&self, recent: &Recent, worst: u64) -> u64 {
        let Some(rate) = self.tokens else {
            return worst;
        };
        let reserved = match (self.reserve, recent.mean()) {
            (Reserve::Typical, Some(mean)) => worst.min(mean.saturating_mul(TIMES).max(1)),
            _ => worst,
        };
        rate.at_most(reserved)
    }
}

impl Account {
    /// An account as it was left.
    pub fn restored(sums: Sums, bucket: Option<Bucket>) -> Self {
        Self {
            bucket,
            sums,
            ..Self::default()
        }
    }

    /// A new account, in the windows of these dates.
    pub fn opened(dates: Dates) -> Self {
        Self::restored(Sums::restored(dates, [Usd::ZERO; 4]), None)
    }

    /// What its last requests used, the oldest first: what [`Reserve::Typical`] goes by.
    pub fn recent(&self) -> impl Iterator<Item = u64> {
        self.recent.each.iter().copied()
    }

    /// The same account, whose last requests used so much.
    #[must_use]
    pub fn remembering(mut self, recent: impl IntoIterator<Item = u64>) -> Self {
        for tokens in recent {
            self.recent.add(tokens);
        }
        self
    }

    /// The money.
    pub fn sums(&self) -> &Sums {
        &self.sums
    }

    /// The tokens, if they were ever limited.
    pub fn bucket(&self) -> Option<&Bucket> {
        self.bucket.as_ref()
    }

    /// As many tokens as these terms reserve of so many.
    pub fn tokens_of(&self, terms: &Terms, worst: u64) -> u64 {
        terms.tokens_of(&self.recent, worst)
    }

    /// Whether there is enough; opens the windows of the day, and takes nothing.
    pub fn check(
        &mut self,
        terms: &Terms,
        worst: &Worst,
        now: u64,
        dates: Dates,
    ) -> Result<(), Short> {
        self.sums.open(dates);
        if let Some(budget) = terms.money {
            let left = self.sums.left(budget);
            // What costs nothing is served until all is spent.
            if worst.cost > left || left == Usd::ZERO {
                return Err(Short::Money { left, budget });
            }
        }
        if let Some(rate) = terms.tokens {
            let tokens = self.tokens_of(terms, worst.tokens);
            let bucket = self.bucket_of(rate, now);
            if let Some(wait) = bucket.wait(tokens, now) {
                let left = bucket.left(now);
                return Err(Short::Tokens { wait, left, rate });
            }
        }
        Ok(())
    }

    /// Reserves, whether there is enough or not.
    pub fn reserve(&mut self, terms: &Terms, worst: &Worst, now: u64, dates: Dates) -> Reserved {
        let tokens = self.tokens_of(terms, worst.tokens);
        let taken = terms
            .tokens
            .map(|rate| self.bucket_of(rate, now).take(tokens, now));
        self.sums.open(dates);
        Reserved {
            taken,
            tokens,
            cost: worst.cost,
            at: self.sums.reserve(worst.cost),
        }
    }

    /// What was reserved was spent, or less, or more. Nothing spent gives all of it back. Returns the sums as they were before.
    pub fn settle(&mut self, reserved: &Reserved, tokens: u64, cost: Usd) -> Sums {
        let before = self.sums;
        if let (Some(taken), Some(bucket)) = (reserved.taken, &mut self.bucket) {
            bucket.settle(taken, tokens);
            if tokens > 0 {
                self.recent.add(tokens);
            }
        }
        self.sums.settle(reserved.at, reserved.cost, cost);
        before
    }

    /// The highest threshold of a budget that is reached now and was not reached before.
    pub(super) fn crossed(&self, before: &Sums, budget: Budget) -> Option<u8> {
        if before.dates() != self.sums.dates() {
            // What is charged to a window that is over tells nothing of the open one.
            return None;
        }
        let amount = u128::from(budget.amount.units());
        let reached = |sums: &Sums| {
            let spent = u128::from(sums.spent(budget.per).units()) * 100;
            let all = THRESHOLDS.into_iter().rev();
            all.into_iter().find(|it| spent >= amount * u128::from(*it))
        };
        let now = reached(&self.sums)?;
        (reached(before) < Some(now)).then_some(now)
    }

    fn bucket_of(&mut self, rate: Rate, now: u64) -> &mut Bucket {
        let bucket = self.bucket.get_or_insert_with(|| Bucket::new(rate));
        bucket.adopt(rate, now);
        bucket
    }
}

impl Short {
    /// What is there.
    pub(super) fn left(&self) -> Left {
        match *self {
            Self::Tokens { left, .. } => Left::Tokens(left),
            Self::Money { left, .. } => Left::Money(left),
        }
    }
}

impl Recent {
    pub(super) fn add(&mut self, tokens: u64) {
        let tokens = tokens.min(MOST);
        if self.each.len() == RECENT {
            self.sum -= self.each.pop_front().unwrap_or_default();
        }
        self.each.push_back(tokens);
        self.sum += tokens;
    }

    fn mean(&self) -> Option<u64> {
        let count = self.each.len() as u64;
        (count > 0).then(|| self.sum.div_ceil(count))
    }
}
