//! The algorithm against another implementation, and against a model that keeps the whole history.

use std::{num::NonZeroU32, time::Duration};

use governor::{RateLimiter, clock::FakeRelativeClock};
use proptest::prelude::*;

use crate::rate_limit::{
    Quota, Quotas,
    cell::{Cell, Charge},
};

proptest! {
    /// Where the cost of a request is whole nanoseconds, governor counts as we do.
    #[test]
    fn decides_and_waits_as_governor_does(
        per in 1_u64..2_000_000,
        burst in 1_u32..20,
        steps in proptest::collection::vec(0_u64..4_000_000, 1..200),
    ) {
        let clock = FakeRelativeClock::default();
        let period = Duration::from_nanos(per);
        let quota = governor::Quota::with_period(period).unwrap();
        let quota = quota.allow_burst(NonZeroU32::new(burst).unwrap());
        let theirs = RateLimiter::direct_with_clock(quota, clock.clone());
        let ours = Quota::new(1, period).unwrap().with_burst(burst).unwrap();
        let mut ours = Cell::new(&ours.into());
        let mut now = 0;
        for step in steps {
            // Half of the steps are none: bursts.
            let step = if step % 2 == 0 { 0 } else { step };
            now += step;
            clock.advance(Duration::from_nanos(step));
            let wait = ours.wait(now).map(|(wait, _)| wait);
            match theirs.check() {
                Ok(()) => {
                    prop_assert_eq!(wait, None);
                    ours.charge(now, false);
                }
                Err(not_until) => {
                    let left = not_until.wait_time_from(governor::clock::Clock::now(&clock));
                    prop_assert_eq!(wait.map(Duration::from_nanos), Some(left));
                }
            }
        }
    }

    #[test]
    fn waiting_as_long_as_told_admits_and_a_nanosecond_less_does_not(
        rate in rate(),
        gaps in proptest::collection::vec(0_u64..3_000, 1..100),
    ) {
        let mut cell = Cell::new(&rate);
        let mut now = 0;
        for gap in gaps {
            now += gap;
            match cell.wait(now) {
                None => {
                    cell.charge(now, false);
                }
                Some((wait, _)) => {
                    prop_assert!(wait > 0);
                    prop_assert!(cell.wait(now + wait - 1).is_some());
                    prop_assert_eq!(cell.wait(now + wait), None);
                }
            }
        }
    }

    /// What was given back never counted, in whatever order.
    #[test]
    fn a_model_that_keeps_the_history_agrees(
        rate in rate(),
        ops in proptest::collection::vec(op(), 1..300),
    ) {
        let mut cell = Cell::new(&rate);
        let mut model = Model::new(&rate);
        let mut open: Vec<(usize, Charge)> = Vec::new();
        let mut now = 0;
        for op in ops {
            match op {
                Op::Pass(nanos) => now += nanos,
                Op::Ask { held } => {
                    if cell.wait(now).is_none() {
                        let charge = cell.charge(now, held);
                        let index = model.charge(now);
                        if held {
                            open.push((index, charge));
                        }
                    }
                }
                Op::GiveBack(which) if !open.is_empty() => {
                    let (index, charge) = open.swap_remove(which % open.len());
                    cell.give_back(charge);
                    model.forget(index);
                }
                Op::Keep(which) if !open.is_empty() => {
                    let (_, charge) = open.swap_remove(which % open.len());
                    cell.keep(charge);
                }
                Op::GiveBack(_) | Op::Keep(_) => {}
            }
            for (level, left) in cell.levels(now).zip(model.left(now)) {
                prop_assert_eq!(level.left, left);
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Pass(u64),
    Ask { held: bool },
    GiveBack(usize),
    Keep(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0_u64..500).prop_map(Op::Pass),
        6 => any::<bool>().prop_map(|held| Op::Ask { held }),
        2 => any::<usize>().prop_map(Op::GiveBack),
        1 => any::<usize>().prop_map(Op::Keep),
    ]
}

/// Rates that divide nothing, in one window or in two.
fn rate() -> impl Strategy<Value = Quotas> {
    let quota = (1_u32..9, 1_u64..2_000, 1_u32..8).prop_map(|(count, per, burst)| {
        let quota = Quota::new(count, Duration::from_nanos(per)).unwrap();
        quota.with_burst(burst).unwrap()
    });
    proptest::collection::vec(quota, 1..3).prop_map(|quotas| quotas.into_iter().collect())
}

/// A token bucket that is filled and emptied anew, from the first charge on, each time it is asked. Tokens are
/// counted in parts of one per nanosecond and period.
struct Model {
    quotas: Quotas,
    charges: Vec<Option<u64>>,
}

impl Model {
    fn new(quotas: &Quotas) -> Self {
        Self {
            quotas: quotas.clone(),
            charges: Vec::new(),
        }
    }

    fn charge(&mut self, now: u64) -> usize {
        self.charges.push(Some(now));
        self.charges.len() - 1
    }

    fn forget(&mut self, index: usize) {
        self.charges[index] = None;
    }

    /// Whole tokens that are left in each bucket.
    fn left(&self, now: u64) -> Vec<u32> {
        let left = |quota: &Quota| {
            let one = i128::try_from(quota.per().as_nanos()).unwrap();
            let most = one * i128::from(quota.burst());
            let (mut tokens, mut at) = (most, 0);
            for time in self.charges.iter().flatten().copied().chain([now]) {
                tokens += i128::from(time - at) * i128::from(quota.count());
                tokens = tokens.min(most) - one;
                at = time;
            }
            // The last round took a token that nobody asked for.
            u32::try_from(((tokens + one) / one).max(0)).unwrap()
        };
        self.quotas.iter().map(left).collect()
    }
}
