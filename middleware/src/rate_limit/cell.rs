//! The algorithm: GCRA in whole numbers, for one key.

use std::collections::VecDeque;

use super::quota::{Quota, Quotas};

/// What one key has spent, in each of its quotas.
///
/// Times are nanoseconds since a moment that the table chose. A quota keeps one number: the moment at which it is full
/// again (the theoretical arrival time of GCRA).
#[derive(Debug)]
pub(super) struct Cell {
    quotas: Quotas,
    windows: Box<[Window]>,
    // Requests admitted so far; names a charge.
    charges: u64,
    // Charges that may still be given back.
    open: u32,
    // How often the quotas have changed.
    generation: u32,
}

/// What was counted for one request, and may be given back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Charge {
    number: u64,
    generation: u32,
}

#[derive(Debug, Default)]
struct Window {
    // In ticks of the quota.
    full_at: u128,
    // How much there was when a charge came, of the charges that a later give-back has to know: in the order of their
    // numbers, each less than the one before.
    peaks: VecDeque<(u64, u128)>,
}

/// So many peaks are kept apart; beyond, the oldest two become one, which gives back less, never more.
const PEAKS: usize = 32;

/// How one quota stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) quota: Quota,
    pub(super) left: u32,
    /// Nanoseconds until there is one, if none is left; else until all are.
    pub(super) reset: u64,
}

impl Cell {
    pub(super) fn new(quotas: &Quotas) -> Self {
        Self {
            windows: quotas.iter().map(|_| Window::default()).collect(),
            quotas: quotas.clone(),
            charges: 0,
            open: 0,
            generation: 0,
        }
    }

    /// The quotas are these from now on. What was spent of a period stays spent.
    pub(super) fn adopt(&mut self, quotas: &Quotas, now: u64) {
        if self.quotas.are(quotas) {
            return;
        }
        let before: Vec<_> = self.quotas.iter().zip(&self.windows).collect();
        let windows = quotas.iter().map(|quota| {
            let same = before.iter().find(|(old, _)| old.per() == quota.per());
            let spent = same.map_or(0, |(old, window)| old.carry(window.spent(old, now), quota));
            Window {
                full_at: quota.ticks(now) + spent,
                peaks: VecDeque::new(),
            }
        });
        self.windows = windows.collect();
        self.quotas = quotas.clone();
        // Charges of before are not given back: they were counted by another measure.
        self.generation = self.generation.wrapping_add(1);
        self.open = 0;
    }

    fn pairs(&self) -> impl Iterator<Item = (&Quota, &Window)> {
        self.quotas.iter().zip(&self.windows)
    }

    /// Nanoseconds until a request is admitted, and the quota that wants them; `None` is now.
    pub(super) fn wait(&self, now: u64) -> Option<(u64, Quota)> {
        let waits = self.pairs().filter_map(|(quota, window)| {
            let over = (window.spent(quota, now) + quota.step()).checked_sub(quota.room())?;
            (over > 0).then(|| (quota.nanos(over), *quota))
        });
        waits.max_by_key(|(wait, _)| *wait)
    }

    /// Counts a request that was admitted. `open`: it may be given back.
    pub(super) fn charge(&mut self, now: u64, open: bool) -> Charge {
        self.charges += 1;
        for (quota, window) in self.quotas.iter().zip(&mut self.windows) {
            let spent = window.spent(quota, now);
            if self.open > 0 {
                let (had, most) = (quota.room().saturating_sub(spent), quota.step());
                // Were all that is open given back, would it have been more than there is room for?
                if had + most * u128::from(self.open) > quota.room() {
                    window.peak(self.charges, had);
                }
            }
            window.full_at = quota.ticks(now) + spent + quota.step();
        }
        self.open += u32::from(open);
        Charge {
            number: self.charges,
            generation: self.generation,
        }
    }

    /// A request was admitted elsewhere: it counts here as far as there is room.
    pub(super) fn note(&mut self, now: u64) {
        for (quota, window) in self.quotas.iter().zip(&mut self.windows) {
            let spent = (window.spent(quota, now) + quota.step()).min(quota.room());
            window.full_at = window.full_at.max(quota.ticks(now) + spent);
        }
    }

    /// One of those has not come.
    pub(super) fn unnote(&mut self) {
        for (quota, window) in self.quotas.iter().zip(&mut self.windows) {
            window.full_at = window.full_at.saturating_sub(quota.step());
        }
    }

    /// The request of this charge went on, or ended: the charge stays.
    pub(super) fn keep(&mut self, charge: Charge) {
        if charge.generation != self.generation {
            return;
        }
        self.open = self.open.saturating_sub(1);
        if self.open == 0 {
            for window in &mut self.windows {
                window.peaks.clear();
            }
        }
    }

    /// As if the request of this charge had not come.
    ///
    /// What would have been over the burst without it has been lost in the meantime, and is not given back.
    pub(super) fn give_back(&mut self, charge: Charge) {
        if charge.generation != self.generation {
            return;
        }
        for (quota, window) in self.quotas.iter().zip(&mut self.windows) {
            let back = window.without(charge.number, quota);
            window.full_at = window.full_at.saturating_sub(back);
        }
        self.keep(charge);
    }

    /// How each quota stands.
    pub(super) fn levels(&self, now: u64) -> impl Iterator<Item = Level> {
        self.pairs()
            .map(move |(quota, window)| quota.level(window.spent(quota, now)))
    }

    /// The moment from which this cell says no more than a new one; `None` while a charge may be given back.
    pub(super) fn full_at(&self) -> Option<u64> {
        let full = self
            .pairs()
            .map(|(quota, window)| quota.nanos(window.full_at));
        (self.open == 0).then(|| full.max().unwrap_or(0))
    }
}

impl Window {
    /// Ticks that are spent and not there again.
    fn spent(&self, quota: &Quota, now: u64) -> u128 {
        self.full_at.saturating_sub(quota.ticks(now))
    }

    /// How much there is more without this charge, which the peaks behind it know from now on.
    fn without(&mut self, charge: u64, quota: &Quota) -> u128 {
        let after = self.peaks.partition_point(|(number, _)| *number <= charge);
        let Some((_, highest)) = self.peaks.get(after).copied() else {
            return quota.step();
        };
        let lost = (highest + quota.step()).saturating_sub(quota.room());
        let back = quota.step() - lost.min(quota.step());
        // When these came there was more without it; when those before it came there was not.
        for (_, had) in self.peaks.range_mut(after..) {
            *had += back;
        }
        let less = |(_, had): &(u64, u128)| *had <= highest + back;
        let from = self.peaks.range(..after).position(less).unwrap_or(after);
        self.peaks.drain(from..after);
        back
    }

    fn peak(&mut self, charge: u64, had: u128) {
        while self.peaks.back().is_some_and(|(_, before)| *before <= had) {
            self.peaks.pop_back();
        }
        self.peaks.push_back((charge, had));
        if self.peaks.len() > PEAKS
            && let Some((_, had)) = self.peaks.pop_front()
            && let Some(next) = self.peaks.front_mut()
        {
            next.1 = had;
        }
    }
}
