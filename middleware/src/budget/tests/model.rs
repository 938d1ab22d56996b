//! The accounts against small models that remember everything.

use std::time::Duration;

use proptest::prelude::*;

use super::super::{
    account::{Account, Terms, Worst},
    ledger::{Agreed, Ledger, Owner},
    money::{Budget, Dates, Period, Usd},
    tokens::{Bucket, Rate, Taken},
};

/// Every request that took tokens: when, and how many as far as is known.
#[derive(Default)]
struct Remembered(Vec<(u64, u64)>);

impl Remembered {
    /// Token-nanoseconds that are taken now: all requests once more, one after the other.
    fn taken(&self, rate: Rate, now: u64) -> u128 {
        let per = rate.per().as_nanos();
        let mut full_at = 0;
        for (at, tokens) in &self.0 {
            let at = u128::from(*at) * u128::from(rate.tokens());
            full_at = at.max(full_at) + per * u128::from(*tokens);
        }
        full_at.saturating_sub(u128::from(now) * u128::from(rate.tokens()))
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Time passes, and a request reserves.
    Take(u64, u64),
    /// The reservation of this place among those that run is settled with so many.
    Settle(usize, u64),
}

fn steps(excess: u64) -> impl Strategy<Value = Vec<Step>> {
    let take = (0..40_u64, 1..60_u64).prop_map(|(wait, tokens)| Step::Take(wait, tokens));
    let settle = (any::<usize>(), 0..60 + excess).prop_map(|(at, used)| Step::Settle(at, used));
    prop::collection::vec(prop_oneof![take, settle], 0..60)
}

/// The bucket and the model after the same steps: what is taken in each, as nanoseconds.
fn both(steps: &[Step], exceeds: bool) -> Vec<(u64, u64)> {
    let rate = Rate::new(100, Duration::from_nanos(100)).unwrap();
    let (mut bucket, mut model) = (Bucket::new(rate), Remembered::default());
    let mut open: Vec<(Taken, usize, u64)> = Vec::new();
    let (mut now, mut seen) = (1_000, Vec::new());
    for step in steps {
        match *step {
            Step::Take(wait, tokens) => {
                now += wait;
                if bucket.wait(tokens, now).is_some() {
                    continue;
                }
                open.push((bucket.take(tokens, now), model.0.len(), tokens));
                model.0.push((now, tokens));
            }
            Step::Settle(at, used) if !open.is_empty() => {
                let (taken, place, tokens) = open.remove(at % open.len());
                let used = if exceeds { used } else { used.min(tokens) };
                bucket.settle(taken, used);
                model.0[place].1 = used;
            }
            Step::Settle(..) => {}
        }
        let taken = model.taken(rate, now).div_ceil(100);
        seen.push((bucket.taken_for(now), u64::try_from(taken).unwrap()));
    }
    seen
}

proptest! {
    /// Nobody gets back what was there again in any case, and so no more is admitted than the rate allows.
    #[test]
    fn a_bucket_never_has_more_than_if_all_had_been_known(steps in steps(60)) {
        for (bucket, model) in both(&steps, true) {
            prop_assert!(bucket >= model, "{bucket} is less than {model}");
        }
    }

    /// One at a time, nothing is lost either.
    #[test]
    fn a_bucket_is_exact_where_one_runs_after_the_other(
        requests in prop::collection::vec((0..40_u64, 1..60_u64, 0..60_u64), 0..40)
    ) {
        let steps: Vec<_> = requests
            .into_iter()
            .flat_map(|(wait, tokens, used)| [Step::Take(wait, tokens), Step::Settle(0, used)])
            .collect();
        for (bucket, model) in both(&steps, false) {
            prop_assert_eq!(bucket, model);
        }
    }

    /// B08: waiting as long as is said admits, and a nanosecond less does not.
    #[test]
    fn the_wait_is_true(takes in prop::collection::vec((0..40_u64, 1..60_u64), 1..30), tokens in 1..100_u64) {
        let rate = Rate::new(7, Duration::from_nanos(1000)).unwrap();
        let mut bucket = Bucket::new(rate);
        let mut now = 5;
        for (wait, taken) in takes {
            now += wait;
            bucket.take(taken, now);
        }
        let tokens = rate.at_most(tokens);
        if let Some(wait) = bucket.wait(tokens, now) {
            prop_assert!(bucket.wait(tokens, now + wait).is_none());
            prop_assert!(bucket.wait(tokens, now + wait - 1).is_some());
        }
    }
}

/// The sequential model of a budget: numbers, nothing else.
#[derive(Default)]
struct Purse {
    spent: u64,
    reserved: Vec<u64>,
}

impl Purse {
    fn reserve(&mut self, limit: u64, cost: u64) -> bool {
        let used = self.spent + self.reserved.iter().sum::<u64>();
        let fits = used < limit && used + cost <= limit;
        if fits {
            self.reserved.push(cost);
        }
        fits
    }

    fn settle(&mut self, at: usize, cost: u64) {
        self.reserved.remove(at);
        self.spent += cost;
    }
}

const GLOBAL: u64 = 150;
const OWN: [u64; 2] = [100, 80];

proptest! {
    /// Two callers and all together, against three purses: the same are admitted, and the same is left.
    #[test]
    fn the_ledger_does_as_the_model(
        steps in prop::collection::vec((0..2_usize, 0..40_u64, any::<bool>(), any::<usize>(), 0..60_u64), 0..80)
    ) {
        let ledger = Ledger::new(0);
        let budget = |amount| Some(Budget { amount: Usd::from_units(amount), per: Period::Ever });
        let agreed = OWN.map(|own| Agreed {
            own: Terms { money: budget(own), ..Terms::default() },
            global: budget(GLOBAL),
        });
        let owners = ["a", "b"].map(|name| Owner { name: name.into(), else_of: None });
        let (mut purses, mut all) = ([Purse::default(), Purse::default()], Purse::default());
        let mut open = Vec::new();
        for (who, cost, settles, at, used) in steps {
            if settles && !open.is_empty() {
                let at = at % open.len();
                let (reserved, who): (super::super::ledger::Open, usize) = open.remove(at);
                let place = open[..at].iter().filter(|(_, other)| *other == who).count();
                reserved.settle(&agreed[who], 0, Usd::from_units(used));
                purses[who].settle(place, used);
                all.settle(at, used);
            } else {
                let worst = Worst { tokens: 1, cost: Usd::from_units(cost) };
                let got = ledger.reserve(&owners[who], &agreed[who], &worst, 0, Dates::default());
                let fits = purses[who].reserve(OWN[who], cost);
                let fits_all = fits && all.reserve(GLOBAL, cost);
                if fits && !fits_all {
                    purses[who].reserved.pop();
                }
                prop_assert_eq!(got.is_ok(), fits_all);
                open.extend(got.ok().map(|got| (got, who)));
            }
            let read = |account: &Account| {
                let sums = account.sums();
                (sums.spent(Period::Ever).units(), sums.reserved(Period::Ever).units())
            };
            for (name, purse) in ["a", "b"].iter().zip(&purses) {
                let (spent, reserved) = ledger.read(name, read).unwrap_or_default();
                prop_assert_eq!((spent, reserved), (purse.spent, purse.reserved.iter().sum()));
            }
            prop_assert_eq!(ledger.read_global(read), (all.spent, all.reserved.iter().sum()));
        }
        open.clear();
        let idle = ledger.read_global(|account| account.sums().reserved(Period::Ever));
        prop_assert_eq!(idle, Usd::ZERO);
    }
}

proptest! {
    /// B01, B04: no more is spent than agreed, but for what requests used beyond what was reserved for them.
    #[test]
    fn a_budget_is_over_by_the_sum_of_the_excesses_at_most(
        steps in prop::collection::vec((1..40_u64, any::<bool>(), any::<usize>(), 0..60_u64), 0..80)
    ) {
        let ledger = Ledger::new(0);
        let amount = 100;
        let money = Some(Budget { amount: Usd::from_units(amount), per: Period::Ever });
        let agreed = Agreed { own: Terms { money, ..Terms::default() }, global: None };
        let owner = Owner { name: "a".into(), else_of: None };
        let (mut open, mut excess) = (Vec::new(), 0);
        for (cost, settles, at, used) in steps {
            if settles && !open.is_empty() {
                let at = at % open.len();
                let (reserved, cost): (super::super::ledger::Open, u64) = open.remove(at);
                reserved.settle(&agreed, 0, Usd::from_units(used));
                excess += used.saturating_sub(cost);
            } else {
                let worst = Worst { tokens: 1, cost: Usd::from_units(cost) };
                let got = ledger.reserve(&owner, &agreed, &worst, 0, Dates::default());
                open.extend(got.ok().map(|got| (got, cost)));
            }
            let spent = ledger.read("a", |account| account.sums().spent(Period::Ever).units());
            prop_assert!(spent.unwrap_or_default() <= amount + excess);
        }
    }
}

/// B01: threads that reserve, settle and let go at once never have more reserved than there is.
#[test]
fn sixteen_threads_reserve_no_more_than_there_is() {
    let ledger = Ledger::new(0);
    let budget = Budget {
        amount: Usd::from_units(1000),
        per: Period::Ever,
    };
    let agreed = Agreed {
        own: Terms {
            money: Some(budget),
            ..Terms::default()
        },
        global: Some(budget),
    };
    let worst = Worst {
        tokens: 1,
        cost: Usd::from_units(7),
    };
    let settled = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let (ledger, agreed, settled) = (&ledger, &agreed, &settled);
            scope.spawn(move || {
                let owner = Owner {
                    name: format!("c{}", thread % 3).into(),
                    else_of: None,
                };
                for turn in 0..500_u64 {
                    let got = ledger.reserve(&owner, agreed, &worst, 0, Dates::default());
                    let sums = ledger.read_global(|account| *account.sums());
                    let used =
                        sums.spent(Period::Ever).units() + sums.reserved(Period::Ever).units();
                    assert!(used <= 1000, "{used}");
                    let Ok(open) = got else { continue };
                    if turn % 3 == 0 {
                        open.settle(agreed, 1, Usd::from_units(2));
                        settled.fetch_add(2, std::sync::atomic::Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let sums = ledger.read_global(|account| *account.sums());
    assert_eq!(sums.reserved(Period::Ever), Usd::ZERO);
    assert_eq!(sums.spent(Period::Ever).units(), settled.into_inner());
}
