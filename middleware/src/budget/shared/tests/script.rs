//! The script against small models that remember everything, while commands come twice, late, or in another order.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use proptest::prelude::*;

use super::{
    super::{
        super::{
            account::Terms,
            money::{Budget, Dates, Period, Usd},
            tokens::{Bucket, Rate, Taken},
        },
        call::{About, Amount, Answer, Keys, Known, Outcome},
    },
    NOON, Server, played,
};

pub(super) const LIMIT: u64 = 100;
/// For how many seconds reservations hold, and ends are remembered.
const HOLDS: u64 = 30;
const REMEMBERED: u64 = 60;

/// The sequential model of an account: money, and who holds what.
#[derive(Default)]
struct Model {
    spent: [u64; 4],
    dates: Dates,
    open: BTreeMap<u32, (u8, Dates, u64)>,
    lost: BTreeMap<u32, (Dates, u64)>,
    // Until when that is remembered.
    ended: BTreeMap<u32, u64>,
    heard: BTreeMap<u8, u64>,
}

impl Model {
    /// The windows of this second are open, and who was silent has lost what it held.
    fn at(&mut self, second: u64) {
        let mut sums =
            super::super::super::money::Sums::restored(self.dates, self.spent.map(Usd::from_units));
        sums.open(dates(second));
        self.spent = sums.spent_in_all().map(Usd::units);
        self.dates = sums.dates();
        let silent = |heard: &u64| second >= heard + HOLDS;
        let heard = self.heard.clone();
        let lost =
            |_: &u32, (process, ..): &mut (u8, Dates, u64)| heard.get(process).is_none_or(silent);
        for (id, (_, at, cost)) in self.open.extract_if(.., lost) {
            charge(&mut self.spent, self.dates, at, |spent| spent + cost);
            self.lost.insert(id, (at, cost));
        }
        self.heard.retain(|_, heard| !silent(heard));
    }

    fn reserved(&self, period: Period) -> u64 {
        let same = |at: &Dates| counts(self.dates, *at, period as usize);
        let open = self.open.values().filter(|(_, at, _)| same(at));
        open.map(|(_, _, cost)| cost).sum()
    }

    fn reserve(&mut self, second: u64, id: u32, process: u8, cost: u64, budget: Budget) -> Outcome {
        if self.has_ended(second, id) {
            return Outcome::Before;
        }
        if self.open.contains_key(&id) {
            return Outcome::Done;
        }
        let used = self.spent[budget.per as usize] + self.reserved(budget.per);
        if used >= budget.amount.units() || used + cost > budget.amount.units() {
            return Outcome::MoneyShort;
        }
        self.heard.insert(process, second);
        self.open.insert(id, (process, self.dates, cost));
        Outcome::Done
    }

    fn has_ended(&self, second: u64, id: u32) -> bool {
        self.ended.get(&id).is_some_and(|until| second < *until)
    }

    fn settle(&mut self, second: u64, id: u32, cost: u64) -> Outcome {
        if !self.has_ended(second, id) || self.lost.contains_key(&id) {
            self.ended.insert(id, second + REMEMBERED);
        }
        let (at, was) = match (self.open.remove(&id), self.lost.remove(&id)) {
            (Some((_, at, _)), _) => (at, 0),
            (None, Some((at, was))) => (at, was),
            (None, None) => return Outcome::Before,
        };
        charge(&mut self.spent, self.dates, at, |spent| spent - was + cost);
        Outcome::Done
    }
}

fn counts(open: Dates, at: Dates, window: usize) -> bool {
    open.numbers().get(window) == at.numbers().get(window)
}

fn charge(spent: &mut [u64; 4], open: Dates, at: Dates, to: impl Fn(u64) -> u64) {
    for (window, spent) in spent.iter_mut().enumerate() {
        if counts(open, at, window) {
            *spent = to(*spent);
        }
    }
}

pub(super) fn dates(second: u64) -> Dates {
    Dates::at(SystemTime::UNIX_EPOCH + Duration::from_secs(second))
}

/// What comes to the store. `id`s are few, so that commands meet.
#[derive(Clone, Debug)]
enum Step {
    Reserve {
        id: u32,
        cost: u64,
    },
    /// An end, or that of one that was never heard of: what a gateway sends after a time-out.
    Settle {
        id: u32,
        cost: u64,
    },
    Look {
        process: u8,
    },
    Pass(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let id = 0..12_u32;
    let reserve = (id.clone(), 0..40_u64).prop_map(|(id, cost)| Step::Reserve { id, cost });
    let settle = (id, 0..50_u64).prop_map(|(id, cost)| Step::Settle { id, cost });
    let look = (0..2_u8).prop_map(|process| Step::Look { process });
    let pass = prop_oneof![4 => -1..4_i64, 1 => 10..20_i64].prop_map(Step::Pass);
    prop::collection::vec(
        prop_oneof![4 => reserve, 4 => settle, 1 => look, 2 => pass],
        0..40,
    )
}

pub(super) struct Account {
    keys: Keys,
    pub(super) terms: Terms,
    pub(super) known: Option<Known>,
}

impl Account {
    pub(super) fn new(terms: Terms) -> Self {
        Self {
            keys: Keys::of(Some("a")),
            terms,
            known: None,
        }
    }

    pub(super) fn about(&self) -> About<'_> {
        About {
            keys: &self.keys,
            terms: &self.terms,
            known: self.known.as_ref(),
            before: None,
        }
    }

    pub(super) fn hear(&mut self, answer: &[i64]) -> Answer {
        let answer = Answer::read(answer).expect("an answer of the script");
        self.known = Some(answer.known);
        answer
    }
}

pub(super) fn budget(amount: u64, per: Period) -> Terms {
    Terms {
        money: Some(Budget {
            amount: Usd::from_units(amount),
            per,
        }),
        ..Terms::default()
    }
}

pub(super) fn cost(cost: u64) -> Amount {
    Amount {
        cost: Usd::from_units(cost),
        tokens: 0,
    }
}

/// The name of a reservation: which process made it follows from its number.
fn name(id: u32) -> String {
    format!("p{}.{id}", id % 2)
}

fn play(server: &Server, steps: &[Step], per: Period) -> Result<(), TestCaseError> {
    server.clear();
    let terms = budget(LIMIT, per);
    let budget = terms.money.expect("a budget");
    // Two processes, and somebody who only looks.
    let mut accounts = [(); 3].map(|()| Account::new(terms));
    let mut model = Model::default();
    // Ten seconds before midnight.
    let mut second = NOON + 43_190;
    for step in steps {
        if let Step::Pass(seconds) = step {
            second = second.saturating_add_signed(*seconds);
        }
        server.at(second * 1_000_000);
        model.at(second);
        let who = match *step {
            Step::Reserve { id, .. } | Step::Settle { id, .. } => id as usize % 2,
            Step::Look { process } => usize::from(process),
            Step::Pass(_) => 2,
        };
        let account = &mut accounts[who];
        let (call, expected) = match *step {
            Step::Reserve { id, cost: amount } => (
                account.about().reserve(&name(id), cost(amount)),
                model.reserve(second, id, (id % 2) as u8, amount, budget),
            ),
            Step::Settle { id, cost: amount } => (
                account.about().settle(&name(id), cost(amount), None),
                model.settle(second, id, amount),
            ),
            Step::Look { process } => {
                model.heard.insert(process, second);
                (account.about().renew(&format!("p{process}")), Outcome::Done)
            }
            Step::Pass(_) => (account.about().look(""), Outcome::Done),
        };
        let answer = account.hear(&server.run(&call));
        prop_assert_eq!(answer.outcome, expected, "{:?}", step);
        prop_assert_eq!(
            answer.known.spent.map(Usd::units),
            model.spent,
            "{:?}",
            step
        );
        prop_assert_eq!(
            answer.known.reserved.units(),
            model.reserved(per),
            "{:?}",
            step
        );
    }
    Ok(())
}

/// B03, B04, B06, R05: commands that come twice, after their end, before their beginning, across midnight, while the clock goes back and
/// processes fall silent.
#[test]
fn the_script_does_as_the_model() {
    let periods = prop_oneof![Just(Period::Day), Just(Period::Ever)];
    played([100, 2_000], (steps(), periods), |server, (steps, per)| {
        play(server, &steps, per)
    });
}

/// B06: the numbers of days, weeks and months are those of the calendar here.
#[test]
fn windows_are_those_of_the_calendar() {
    let Some(server) = Server::start() else {
        return;
    };
    let account = Account::new(budget(1, Period::Day));
    // Over 30 years in odd steps, and the seconds around each.
    for step in 0..1_500_u64 {
        for second in [
            step * 631_001,
            step * 604_800 + 345_599,
            step * 604_800 + 345_600,
        ] {
            server.at(second * 1_000_000);
            let answer = Answer::read(&server.run(&account.about().look(""))).unwrap();
            assert_eq!(answer.known.dates, dates(second), "{second}");
        }
    }
}

/// Money beyond what a double counts exactly.
#[test]
fn sums_of_many_millions_are_exact() {
    let Some(server) = Server::start() else {
        return;
    };
    let most = 900_000_000 * 10_000_000_000_u64;
    let mut account = Account::new(budget(most, Period::Ever));
    let odd = 123_456_789_012_345_677_u64;
    let call = account.about().reserve("p.1", cost(most - 7));
    assert_eq!(account.hear(&server.run(&call)).outcome, Outcome::Done);
    let call = account.about().reserve("p.2", cost(8));
    assert_eq!(
        account.hear(&server.run(&call)).outcome,
        Outcome::MoneyShort
    );
    let call = account.about().settle("p.1", cost(odd), None);
    let known = account.hear(&server.run(&call)).known;
    assert_eq!((known.spent[3].units(), known.reserved.units()), (odd, 0));
    let call = account.about().reserve("p.3", cost(most - odd));
    assert_eq!(account.hear(&server.run(&call)).outcome, Outcome::Done);
    let known = account.known.expect("it was heard");
    assert_eq!(known.reserved.units(), most - odd);
}

/// Who tells what it knows of an account that the store has forgotten brings it back, once, whoever else does so.
#[test]
fn what_was_forgotten_is_told_again() {
    let Some(server) = Server::start() else {
        return;
    };
    let mut account = Account::new(budget(LIMIT, Period::Month));
    for (id, spent) in [("p.1", 30), ("p.2", 12)] {
        let call = account.about().reserve(id, cost(40));
        account.hear(&server.run(&call));
        let call = account.about().settle(id, cost(spent), None);
        account.hear(&server.run(&call));
    }
    let call = account.about().reserve("p.3", cost(5));
    let running = account.hear(&server.run(&call)).known;
    // Another process has heard less.
    let mut before = Account::new(account.terms);
    before.known = Some(Known {
        spent: [30, 30, 30, 30].map(Usd::from_units),
        ..running
    });
    server.clear();
    server.at(NOON * 1_000_000 + 1);
    let call = before.about().reserve("q.1", cost(1));
    let known = before.hear(&server.run(&call)).known;
    assert_eq!((known.spent[2].units(), known.reserved.units()), (30, 1));
    let call = account.about().reserve("p.4", cost(58));
    let answer = account.hear(&server.run(&call));
    assert_eq!(answer.outcome, Outcome::MoneyShort, "42 and 1 are gone");
    assert_eq!(answer.known.spent[2].units(), 42);
    // What ran is charged when it ends, and once.
    for outcome in [Outcome::Done, Outcome::Before] {
        let at = Some((running.epoch, running.dates));
        let call = account.about().settle("p.3", cost(4), at);
        let answer = account.hear(&server.run(&call));
        assert_eq!(
            (answer.outcome, answer.known.spent[2].units()),
            (outcome, 46)
        );
    }
}

/// A process tells what it admitted by itself, as often as it takes; what was too much comes back.
#[test]
fn what_was_spent_elsewhere_is_added_once() {
    let Some(server) = Server::start() else {
        return;
    };
    let mut account = Account::new(budget(LIMIT, Period::Day));
    let (today, before) = (dates(NOON), dates(NOON - 86_400));
    let rows = [
        (1, 60, today, Outcome::Done, 60, Some(50)),
        (1, 60, today, Outcome::Before, 60, None),
        (2, -15, today, Outcome::Done, 45, None),
        (3, 9, before, Outcome::Done, 45, None),
        (4, 55, today, Outcome::Done, 100, Some(100)),
    ];
    for (number, amount, at, outcome, spent, crossed) in rows {
        let call = account.about().add("p", number, amount, 0, at);
        let answer = account.hear(&server.run(&call));
        assert_eq!(
            (answer.outcome, answer.crossed),
            (outcome, crossed),
            "{number}"
        );
        assert_eq!(answer.known.spent[0].units(), spent, "{number}");
    }
    assert_eq!(account.known.unwrap().spent[3].units(), 109);
}

#[derive(Clone, Debug)]
enum Tokens {
    /// Microseconds pass, and so many are asked for.
    Take(u64, u64),
    /// The one at this place among those that run has used so many.
    Settle(usize, u64),
}

fn tokens() -> impl Strategy<Value = Vec<Tokens>> {
    let take = (0..40_u64, 1..60_u64).prop_map(|(wait, tokens)| Tokens::Take(wait, tokens));
    let settle = (any::<usize>(), 0..90_u64).prop_map(|(at, used)| Tokens::Settle(at, used));
    prop::collection::vec(prop_oneof![take, settle], 0..60)
}

/// The script and the bucket of one process after the same steps: the nanoseconds until all is there again in each.
fn both(server: &Server, steps: &[Tokens], rate: Rate) -> Vec<(u64, u64)> {
    server.clear();
    let mut account = Account::new(Terms {
        tokens: Some(rate),
        ..Terms::default()
    });
    let mut bucket = Bucket::new(rate);
    let (mut open, mut seen): (Vec<(Taken, usize)>, Vec<_>) = (Vec::new(), Vec::new());
    let mut now = NOON * 1_000_000;
    for (number, step) in steps.iter().enumerate() {
        let answer = match *step {
            Tokens::Take(wait, tokens) => {
                now += wait;
                server.at(now);
                let worst = Amount {
                    cost: Usd::ZERO,
                    tokens: rate.at_most(tokens),
                };
                let call = account.about().reserve(&format!("p.{number}"), worst);
                let answer = account.hear(&server.run(&call));
                if answer.outcome == Outcome::Done {
                    open.push((bucket.take(worst.tokens, now * 1_000), number));
                } else {
                    assert_eq!(answer.outcome, Outcome::TokensShort);
                }
                answer
            }
            Tokens::Settle(at, used) if !open.is_empty() => {
                let (taken, number) = open.remove(at % open.len());
                bucket.settle(taken, used);
                let used = Amount {
                    cost: Usd::ZERO,
                    tokens: used,
                };
                let call = account.about().settle(&format!("p.{number}"), used, None);
                account.hear(&server.run(&call))
            }
            Tokens::Settle(..) => continue,
        };
        seen.push((answer.known.taken(rate), bucket.taken_for(now * 1_000)));
    }
    seen
}

/// B08: the rate of the store is that of one process, which has a model of its own. Where a token is no whole number of microseconds,
/// less is given back, never more.
#[test]
fn tokens_are_counted_as_one_process_does() {
    let micros = |tokens, per| Rate::new(tokens, Duration::from_micros(per)).expect("a rate");
    played([50, 1_000], tokens(), |server, steps| {
        for (script, bucket) in both(server, &steps, micros(100, 100)) {
            prop_assert_eq!(script, bucket);
        }
        for (script, bucket) in both(server, &steps, micros(97, 1_000)) {
            prop_assert!(script >= bucket, "{} is less than {}", script, bucket);
        }
        Ok(())
    });
}

/// Another rate of the same period keeps what was taken, as a reload does.
#[test]
fn a_rate_that_changes_keeps_what_was_taken() {
    let Some(server) = Server::start() else {
        return;
    };
    let minute = Duration::from_secs(60);
    let rates = [(100, 40), (50, 40), (200, 40)]
        .map(|(tokens, taken)| (Rate::new(tokens, minute).unwrap(), taken));
    let mut account = Account::new(Terms {
        tokens: Some(rates[0].0),
        ..Terms::default()
    });
    let worst = Amount {
        cost: Usd::ZERO,
        tokens: 40,
    };
    let call = account.about().reserve("p.1", worst);
    account.hear(&server.run(&call));
    for (number, (rate, taken)) in rates.into_iter().enumerate() {
        account.terms.tokens = Some(rate);
        let free = Amount {
            cost: Usd::ZERO,
            tokens: 1,
        };
        let call = account.about().reserve(&format!("p.2{number}"), free);
        let answer = account.hear(&server.run(&call));
        let left = answer.known.bucket(rate, 0).left(0);
        let expected = u64::from(rate.tokens()) - taken - 1 - number as u64;
        assert!(
            left.abs_diff(expected) <= 1,
            "{left} and {expected} of {rate}"
        );
    }
}
