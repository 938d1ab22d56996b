//! What one process admits by itself while the store is away, and tells the store afterwards.

use std::collections::VecDeque;

use super::{
    super::{
        account::{Short, Terms},
        money::{Dates, Usd},
        tokens::{Bucket, Rate, Taken},
    },
    call::{Amount, Known},
};

/// Of what was left when the store was heard last, this process has its share: one of so many. What it admits of it, and what is used of
/// that, is put together by windows until the store can be told.
#[derive(Debug, Default)]
pub(super) struct Alone {
    parts: Vec<Part>,
    bucket: Option<Bucket>,
    // Counts how often the parts were put together to be told.
    turn: u32,
    untold: VecDeque<Told>,
    // The number of the last one.
    last: u64,
}

/// What was admitted in the same windows.
#[derive(Clone, Copy, Debug)]
struct Part {
    dates: Dates,
    // What is spent; less than nothing where less was used than had been told as reserved.
    spent: i64,
    reserved: u64,
    tokens: u64,
}

/// What the store is to be told, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) number: u64,
    pub(super) dates: Dates,
    pub(super) cost: i64,
    pub(super) tokens: u64,
}

/// What was admitted for one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    dates: Dates,
    reserved: Amount,
    taken: Option<Taken>,
    turn: u32,
}

/// What is known of the account from when the store was there, and how many divide what was left then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share<'a> {
    pub(super) known: &'a Known,
    /// When it was heard, on the clock of [`reserve`](Alone::reserve).
    pub(super) heard: u64,
    pub(super) replicas: u32,
}

impl Alone {
    /// Reserves of this process's share. Times are nanoseconds of a monotonic clock; the dates are those of the wall clock here.
    pub(super) fn reserve(
        &mut self,
        share: Share<'_>,
        terms: &Terms,
        worst: Amount,
        now: u64,
        dates: Dates,
    ) -> Result<Hold, Short> {
        if let Some(budget) = terms.money {
            let part = share.known.left(budget).units() / u64::from(share.replicas.max(1));
            let left = Usd::from_units(part.saturating_sub(self.used()));
            if worst.cost > left || left == Usd::ZERO {
                return Err(Short::Money { left, budget });
            }
        }
        let mut reserved = worst;
        let mut taken = None;
        if let Some(rate) = terms.tokens.and_then(|rate| share.rate(rate)) {
            let bucket = self.bucket(share, terms, rate, now);
            reserved.tokens = rate.at_most(worst.tokens);
            if let Some(wait) = bucket.wait(reserved.tokens, now) {
                let left = bucket.left(now);
                return Err(Short::Tokens { wait, left, rate });
            }
            taken = Some(bucket.take(reserved.tokens, now));
        }
        let part = self.part(dates);
        part.reserved = part.reserved.saturating_add(reserved.cost.units());
        part.tokens = part.tokens.saturating_add(reserved.tokens);
        Ok(Hold {
            dates,
            reserved,
            taken,
            turn: self.turn,
        })
    }

    /// So much of it was used.
    pub(super) fn settle(&mut self, hold: &Hold, used: Amount) {
        let same = hold.turn == self.turn;
        if let (true, Some(taken), Some(bucket)) = (same, hold.taken, &mut self.bucket) {
            bucket.settle(taken, used.tokens);
        }
        let (spent, reserved) = (signed(used.cost), signed(hold.reserved.cost));
        let part = self.part(hold.dates);
        if same {
            part.reserved = part.reserved.saturating_sub(hold.reserved.cost.units());
            part.tokens = part.tokens.saturating_sub(hold.reserved.tokens);
            part.spent = part.spent.saturating_add(spent);
            part.tokens = part.tokens.saturating_add(used.tokens);
        } else {
            // The store was told that all of it was spent.
            part.spent = part.spent.saturating_add(spent - reserved);
            let more = used.tokens.saturating_sub(hold.reserved.tokens);
            part.tokens = part.tokens.saturating_add(more);
        }
    }

    /// How the tokens of the share stand.
    pub(super) fn tokens(&self) -> Option<&Bucket> {
        self.bucket.as_ref()
    }

    /// Whether there is anything that the store does not know.
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.untold.is_empty()
    }

    /// What the store is to be told next. It is the same until it is [told](Self::told), so that it counts once.
    pub(super) fn next(&mut self) -> Option<Told> {
        if self.untold.is_empty() && !self.parts.is_empty() {
            // What still runs is told as spent; what it uses in the end is put right.
            for part in std::mem::take(&mut self.parts) {
                let reserved = i64::try_from(part.reserved).unwrap_or(i64::MAX);
                let cost = part.spent.saturating_add(reserved);
                if cost != 0 || part.tokens != 0 {
                    self.last += 1;
                    self.untold.push_back(Told {
                        number: self.last,
                        dates: part.dates,
                        cost,
                        tokens: part.tokens,
                    });
                }
            }
            self.turn = self.turn.wrapping_add(1);
            self.bucket = None;
        }
        self.untold.front().copied()
    }

    /// The store knows it now.
    pub(super) fn told(&mut self, number: u64) {
        if self.untold.front().is_some_and(|it| it.number == number) {
            self.untold.pop_front();
        }
    }

    /// What is spent and reserved that the store does not know.
    fn used(&self) -> u64 {
        let parts = self
            .parts
            .iter()
            .map(|part| part.spent.saturating_add_unsigned(part.reserved));
        let untold = self.untold.iter().map(|told| told.cost);
        let used = parts.chain(untold).fold(0_i64, i64::saturating_add);
        u64::try_from(used).unwrap_or(0)
    }

    fn bucket(&mut self, share: Share<'_>, terms: &Terms, rate: Rate, now: u64) -> &mut Bucket {
        let bucket = self.bucket.get_or_insert_with(|| {
            // What was taken of the whole takes as long to come back as the same part of a share.
            let whole = terms.tokens.unwrap_or(rate);
            Bucket::restored(rate, share.known.taken(whole), share.heard.min(now))
        });
        bucket.adopt(rate, now);
        bucket
    }

    fn part(&mut self, dates: Dates) -> &mut Part {
        let at = self.parts.iter().position(|part| part.dates == dates);
        let at = at.unwrap_or_else(|| {
            self.parts.push(Part {
                dates,
                spent: 0,
                reserved: 0,
                tokens: 0,
            });
            self.parts.len() - 1
        });
        &mut self.parts[at]
    }
}

impl Share<'_> {
    fn rate(&self, whole: Rate) -> Option<Rate> {
        let tokens = whole.tokens() / self.replicas.max(1);
        Rate::new(tokens.max(1), whole.per())
    }
}

fn signed(cost: Usd) -> i64 {
    i64::try_from(cost.units()).unwrap_or(i64::MAX)
}
