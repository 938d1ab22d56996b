//! What the store is asked, and what it answers.

use std::fmt::Write;

use super::super::{
    account::Terms,
    money::{Budget, Dates, Usd},
    tokens::{Bucket, Rate},
};
use crate::store::{Call, Owner, Script, key};

/// Keeps an account: reserves, settles, looks and adds, each once.
pub(super) static ACCOUNT: Script = Script::new("budget", include_str!("account.lua"));

/// Where an account is kept: what `account.lua` calls sums, open, live, lost and done.
#[derive(Clone, Debug)]
pub(super) struct Keys([Box<str>; 5]);

/// An account as the store has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// The moment at which the store began it: another one, and it has forgotten the account meanwhile.
    pub(super) epoch: u64,
    /// How often it was written in this epoch, and how often by this process: less than was heard, and the store has forgotten some of it.
    pub(super) seq: u64,
    pub(super) writes: u64,
    /// The store's time, in microseconds since 1970.
    pub(super) now: u64,
    /// The windows that are open.
    pub(super) dates: Dates,
    /// What is spent in them: day, week, month, ever.
    pub(super) spent: [Usd; 4],
    /// What is reserved in the window of the budget that was asked for.
    pub(super) reserved: Usd,
    /// When all tokens are there again, in microseconds and parts of one.
    pub(super) full: (u64, u64),
}

/// How a command went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    MoneyShort,
    TokensShort,
    /// It had been done before, or what it is about has ended.
    Before,
}

/// What the store answers to each command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) outcome: Outcome,
    pub(super) known: Known,
    /// The share of the budget, in percent, that has just been reached.
    pub(super) crossed: Option<u8>,
    /// Reservations that outlived their process, and were charged just now.
    pub(super) lost: u64,
}

/// What was used or reserved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) cost: Usd,
    pub(super) tokens: u64,
}

/// Whom a command is about: the account, what is agreed, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    pub(super) keys: &'a Keys,
    pub(super) terms: &'a Terms,
    pub(super) known: Option<&'a Known>,
    /// What was known of the epoch before, as long as answers of that may still come.
    pub(super) before: Option<&'a Known>,
}

/// What the numbers of Lua hold.
const EXACT: u64 = 1 << 52;

impl Keys {
    /// Those of a caller, or of all together.
    pub(super) fn of(name: Option<&str>) -> Self {
        let name = name.as_slice();
        let owner = match name {
            [] => Owner::Global,
            names => Owner::Named(names),
        };
        Self(
            ["sums", "open", "live", "lost", "done"]
                .map(|it| key(owner, format_args!("budget:{it}"))),
        )
    }
}

impl About<'_> {
    fn call(&self, verb: &str, id: &str) -> Call {
        let mut call = Call::new(&ACCOUNT);
        call.keys.extend(self.keys.0.iter().cloned());
        let mut known = String::new();
        for it in self.known.into_iter().chain(self.before) {
            it.text(&mut known);
        }
        let (tokens, per) = self
            .terms
            .tokens
            .map_or((0, 0), |rate| (u64::from(rate.tokens()), micros(rate)));
        let (period, amount) = self.terms.money.map_or((0, 0), |Budget { amount, per }| {
            (per as u64 + 1, amount.units())
        });
        call.args.reserve(14);
        call.arg(verb)
            .arg(id)
            .arg(&*known)
            .arg(whole(tokens))
            .arg(whole(per))
            .arg(whole(period))
            .arg(whole(amount))
    }

    fn of(&self, call: Call, cost: i64, tokens: u64) -> Call {
        let (us, rest) = self.terms.tokens.map_or((0, 0), |rate| ticks(rate, tokens));
        call.arg(cost).arg(whole(us)).arg(whole(rest))
    }

    /// Reserves, or says why not.
    pub(super) fn reserve(&self, id: &str, worst: Amount) -> Call {
        let call = self.call("reserve", id);
        self.of(call, whole(worst.cost.units()), worst.tokens)
    }

    /// So much of a reservation was used, that was admitted in this epoch and these windows; none is known if nobody said that it was.
    pub(super) fn settle(&self, id: &str, used: Amount, at: Option<(u64, Dates)>) -> Call {
        let call = self.call("settle", id);
        let (epoch, dates) = at.unwrap_or_default();
        let call = self.of(call, whole(used.cost.units()), used.tokens);
        dated(call.arg(whole(epoch)), dates)
    }

    /// How the account stands, for this process, or for nobody.
    pub(super) fn look(&self, process: &str) -> Call {
        self.call("look", process)
    }

    /// The same; the reservations of the process hold for another while.
    pub(super) fn renew(&self, process: &str) -> Call {
        self.call("renew", process)
    }

    /// So much was spent without the store, or less than it was told; the number of the process counts up.
    pub(super) fn add(
        &self,
        process: &str,
        number: u64,
        cost: i64,
        tokens: u64,
        dates: Dates,
    ) -> Call {
        let call = self.call("add", process);
        let call = self.of(call, cost, tokens);
        dated(call.arg(whole(number)), dates)
    }
}

fn dated(call: Call, dates: Dates) -> Call {
    let numbers = dates.numbers().into_iter();
    numbers.fold(call, |call, number| call.arg(i64::from(number)))
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The period of a rate in microseconds: what the store measures in.
fn micros(rate: Rate) -> u64 {
    let micros = u64::try_from(rate.per().as_micros()).unwrap_or(EXACT);
    micros.clamp(1, EXACT)
}

/// Tokens as microseconds of a rate, and what is over.
fn ticks(rate: Rate, tokens: u64) -> (u64, u64) {
    let all = u128::from(tokens) * u128::from(micros(rate));
    let each = u128::from(rate.tokens());
    let whole = |number: u128| u64::try_from(number).map_or(EXACT, |it| it.min(EXACT));
    (whole(all / each), whole(all % each))
}

impl Known {
    /// As a command tells it.
    fn text(&self, to: &mut String) {
        let [day, week, month] = self.dates.numbers();
        let [one, two, three, four] = self.spent.map(Usd::units);
        let (us, rest) = self.full;
        let Self {
            epoch,
            seq,
            writes,
            now,
            ..
        } = self;
        // A text takes all that is written to it.
        _ = write!(
            to,
            "{epoch} {seq} {writes} {now} {day} {week} {month} {one} {two} {three} {four} {us} {rest} "
        );
    }

    /// Nanoseconds until all tokens of a rate are there again, after the moment of the answer.
    pub(super) fn taken(&self, rate: Rate) -> u64 {
        let (us, rest) = self.full;
        let Some(us) = us.checked_sub(self.now) else {
            return 0;
        };
        let rest = rest.saturating_mul(1000).div_ceil(u64::from(rate.tokens()));
        us.saturating_mul(1000).saturating_add(rest)
    }

    /// The tokens as a bucket that was asked at this moment.
    pub(super) fn bucket(&self, rate: Rate, at: u64) -> Bucket {
        Bucket::restored(rate, self.taken(rate), at)
    }

    /// What is left of a budget.
    pub(super) fn left(&self, budget: Budget) -> Usd {
        let spent = self.spent[budget.per as usize].plus(self.reserved);
        Usd::from_units(budget.amount.units().saturating_sub(spent.units()))
    }
}

impl Answer {
    /// Reads an answer; none if it is not one of our script.
    pub(super) fn read(numbers: &[i64]) -> Option<Self> {
        let numbers: Option<Vec<u64>> = numbers.iter().map(|it| u64::try_from(*it).ok()).collect();
        let numbers = numbers?;
        let [
            code,
            epoch,
            seq,
            writes,
            now,
            day,
            week,
            month,
            money @ ..,
            us,
            rest,
            crossed,
            lost,
        ] = &*numbers
        else {
            return None;
        };
        let date = |number: u64| u32::try_from(number).ok();
        let usd = |at: usize| {
            let (whole, rest) = (money.get(2 * at)?, money.get(2 * at + 1)?);
            Some(Usd::from_units(whole.checked_mul(ONE)?.checked_add(*rest)?))
        };
        Some(Self {
            outcome: match code {
                0 => Outcome::Done,
                1 => Outcome::MoneyShort,
                2 => Outcome::TokensShort,
                3 => Outcome::Before,
                _ => return None,
            },
            known: Known {
                epoch: *epoch,
                seq: *seq,
                writes: *writes,
                now: *now,
                dates: Dates::of_numbers([date(*day)?, date(*week)?, date(*month)?]),
                spent: [usd(0)?, usd(1)?, usd(2)?, usd(3)?],
                reserved: usd(4)?,
                full: (*us, *rest),
            },
            crossed: u8::try_from(*crossed).ok().filter(|it| *it > 0),
            lost: *lost,
        })
    }
}

/// Units of one USD.
const ONE: u64 = 10_000_000_000;

/// What a text argument says, or a number: for tests that stand in for the store.
#[cfg(test)]
pub(super) fn words(call: &Call) -> Vec<String> {
    let words = call.args.iter().map(|arg| {
        let mut word = String::new();
        arg.write(&mut word);
        word
    });
    words.collect()
}
