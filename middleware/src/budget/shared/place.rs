//! An account as this process knows it.

use std::sync::{Arc, PoisonError};

use super::{
    super::{
        account::{Account, Recent, Short, Terms, Worst},
        money::{Budget, Dates},
        tokens::Rate,
    },
    alone::{Alone, Hold, Share, Told},
    call::{About, Amount, Answer, Keys, Known},
};
use crate::{
    store::Call,
    sync::{Mutex, MutexGuard},
};

/// One account that is kept in the store.
#[derive(Debug)]
pub(super) struct Place {
    /// Whose; none is all together.
    pub(super) name: Option<Arc<str>>,
    keys: Keys,
    state: Mutex<State>,
}

/// Times are nanoseconds of the monotonic clock.
#[derive(Debug, Default)]
struct State {
    terms: Terms,
    known: Option<Known>,
    // What was known before the store forgot the account, and since when another one is.
    before: Option<(Known, u64)>,
    heard: u64,
    renewed: u64,
    used: u64,
    // Reservations of this process that the store holds.
    open: u32,
    recent: Recent,
    alone: Alone,
    // Somebody is telling the store what it does not know.
    telling: bool,
}

/// What is to be done for an account that nobody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Look,
    Renew,
}

/// An account that was used within a minute is looked at each second, others less often.
const FRESH: u64 = 1_000_000_000;
const LATELY: u64 = 60 * FRESH;
/// No answer comes later than this: in the store's microseconds, and in nanoseconds.
const LATEST: u64 = 2_000_000;
const SETTLED: u64 = 2 * FRESH;
/// Reservations hold for 30 s: two of these may be lost.
const RENEWS: u64 = 10 * FRESH;

impl Place {
    pub(super) fn of(name: Option<Arc<str>>) -> Self {
        Self {
            keys: Keys::of(name.as_deref()),
            name,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is agreed, for whoever looks before anybody asks.
    pub(super) fn agree(&self, terms: &Terms) {
        self.state().terms = *terms;
    }

    /// What the caller used before.
    pub(super) fn remember(&self, account: &Account) {
        let mut state = self.state();
        account.recent().for_each(|tokens| state.recent.add(tokens));
    }

    /// What is reserved of so much under these terms.
    pub(super) fn reserved_of(&self, terms: &Terms, worst: &Worst) -> Amount {
        let state = self.state();
        Amount {
            cost: worst.cost,
            tokens: terms.tokens_of(&state.recent, worst.tokens),
        }
    }

    /// The command that reserves.
    pub(super) fn reserve(&self, id: &str, terms: &Terms, worst: Amount, now: u64) -> Call {
        let mut state = self.state();
        state.terms = *terms;
        state.used = now;
        self.about(&state, terms).reserve(id, worst)
    }

    fn about<'a>(&'a self, state: &'a State, terms: &'a Terms) -> About<'a> {
        About {
            keys: &self.keys,
            terms,
            known: state.known.as_ref(),
            before: state.before.as_ref().map(|(it, _)| it),
        }
    }

    /// The command that settles.
    pub(super) fn settle(
        &self,
        id: &str,
        terms: &Terms,
        used: Amount,
        at: Option<(u64, Dates)>,
    ) -> Call {
        let state = self.state();
        self.about(&state, terms).settle(id, used, at)
    }

    /// What is due now, if anything is.
    pub(super) fn due(&self, now: u64) -> Option<Due> {
        let state = self.state();
        if state.open > 0 && now.saturating_sub(state.renewed) >= RENEWS {
            return Some(Due::Renew);
        }
        if state.terms.tokens.is_none() && state.terms.money.is_none() {
            // Nothing is limited here, and nobody wants to know.
            return None;
        }
        let lately = now.saturating_sub(state.used) < LATELY;
        let every = if lately { FRESH } else { RENEWS };
        let old = now.saturating_sub(state.heard) >= every;
        (state.known.is_none() || old).then_some(Due::Look)
    }

    /// The command that looks, and renews what the process has reserved.
    pub(super) fn look(&self, process: &str, renews: bool) -> Call {
        let state = self.state();
        let about = self.about(&state, &state.terms);
        if renews {
            about.renew(process)
        } else {
            about.look(process)
        }
    }

    /// The store has answered; the latest answer holds.
    pub(super) fn heard(&self, answer: &Answer, now: u64) {
        let mut state = self.state();
        let answer = answer.known;
        // Where there was no account yet, its epoch was none.
        let Some(known) = state.known.filter(|known| known.seq > 0) else {
            state.known = Some(answer);
            state.heard = now;
            return;
        };
        if answer.seq == 0 {
            // One from before there was an account.
            return;
        }
        if answer.epoch < known.epoch {
            let later = |(before, _): &(Known, u64)| {
                let of = |it: &Known| (it.epoch, it.seq, it.now);
                of(&answer) > of(before)
            };
            if let Some((before, _)) = state.before.as_mut().filter(|it| later(it)) {
                *before = answer;
            }
            return;
        }
        if answer.epoch > known.epoch {
            state.before = Some((known, now));
        } else {
            if state
                .before
                .is_some_and(|(_, since)| now.saturating_sub(since) > SETTLED)
            {
                state.before = None;
            }
            if answer.seq < known.seq || answer.writes < known.writes {
                // One that was overtaken; or the store has forgotten some of it, and is told so by what is asked next.
                return;
            }
            let same = answer.seq == known.seq;
            if same && answer.now < known.now && known.now - answer.now < LATEST {
                // Overtaken; where the store's clock was set back, it is not.
                return;
            }
        }
        state.known = Some(answer);
        state.heard = now;
    }

    /// The store holds one reservation more.
    pub(super) fn opened(&self, now: u64) {
        let mut state = self.state();
        state.open += 1;
        state.renewed = now;
    }

    /// One of them has ended, with so many tokens.
    pub(super) fn closed(&self, tokens: u64) {
        let mut state = self.state();
        state.open = state.open.saturating_sub(1);
        state.learn(tokens);
    }

    /// The store holds what it held for another while.
    pub(super) fn renewed(&self, now: u64) {
        self.state().renewed = now;
    }

    /// How the tokens stand after what was last heard: those that are there, and the nanoseconds until more are.
    pub(super) fn tokens(&self, rate: Rate, now: u64) -> Option<(Rate, u64, u64)> {
        let state = self.state();
        if let Some(bucket) = state.alone.tokens() {
            return Some((bucket.rate(), bucket.left(now), bucket.reset(now)));
        }
        let bucket = state.known?.bucket(rate, state.heard);
        Some((rate, bucket.left(now), bucket.reset(now)))
    }

    /// Reserves of the share of this process; none if nothing was ever heard of the account.
    pub(super) fn reserve_alone(
        &self,
        replicas: u32,
        terms: &Terms,
        worst: Amount,
        now: u64,
        dates: Dates,
    ) -> Option<Result<Hold, Short>> {
        let mut state = self.state();
        state.used = now;
        let known = state.known?;
        // A clock that is behind opens no window that is over.
        let dates = dates.later(known.dates);
        let share = Share {
            known: &known,
            heard: state.heard,
            replicas,
        };
        Some(state.alone.reserve(share, terms, worst, now, dates))
    }

    /// So much of what this process admitted was used.
    pub(super) fn settle_alone(&self, hold: &Hold, used: Amount) {
        let mut state = self.state();
        state.alone.settle(hold, used);
        state.learn(used.tokens);
    }

    /// What the store is to be told of it, and the command; none if nothing is, or somebody does so.
    pub(super) fn tell(&self, process: &str) -> Option<(Told, Call)> {
        let mut state = self.state();
        if state.telling {
            return None;
        }
        let told = state.alone.next()?;
        state.telling = true;
        let about = self.about(&state, &state.terms);
        let call = about.add(process, told.number, told.cost, told.tokens, told.dates);
        Some((told, call))
    }

    /// The store knows it, or it could not be told.
    pub(super) fn told(&self, number: Option<u64>) {
        let mut state = self.state();
        state.telling = false;
        if let Some(number) = number {
            state.alone.told(number);
        }
    }

    /// Whether the store holds reservations of this process.
    pub(super) fn holds(&self) -> bool {
        self.state().open > 0
    }

    /// What was heard last.
    pub(super) fn known(&self) -> Option<Known> {
        self.state().known
    }

    /// The budget, as it was agreed last.
    pub(super) fn budget(&self) -> Option<Budget> {
        self.state().terms.money
    }

    /// Whether the store knows all of it.
    pub(super) fn is_told(&self) -> bool {
        self.state().alone.is_empty()
    }
}

impl State {
    fn learn(&mut self, tokens: u64) {
        if tokens > 0 && self.terms.tokens.is_some() {
            self.recent.add(tokens);
        }
    }
}
