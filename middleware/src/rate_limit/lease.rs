//! What this process has of a key that is counted elsewhere: requests that are counted there already and may be admitted here.

use super::{
    quota::{Quota, Quotas},
    script::{Answer, MOST, Told},
};
use crate::store::Promise;

/// One second, in nanoseconds.
const SECOND: u64 = 1_000_000_000;
/// A lease that is so small is not renewed before it is spent: each request asks for itself.
const SMALL: u32 = 4;

/// The lease of one key. Times are nanoseconds since a moment that the table chose.
#[derive(Debug)]
pub(super) struct Lease {
    quotas: Quotas,
    // What this process may do by itself.
    shares: Quotas,
    replicas: u32,
    windows: Box<[Window]>,
    // Requests at hand, and until when.
    left: u32,
    until: u64,
    // Of this lease, since it began.
    taken: u32,
    // How large the next one is, and how large it may be.
    want: u32,
    most: u32,
    // Requests to be given back to the store with the next call, until this moment: later, their time has passed.
    back: u32,
    back_until: u64,
    // The store has none until this moment, as far as is known, and because of this quota; and when it is asked again whether that is so.
    none_until: u64,
    none_of: usize,
    again_at: u64,
    // When the call was sent whose answer was heard last, and what time it was there.
    heard: u64,
    said_at: i64,
    // A renewal that nobody waits for.
    ahead: Option<Asked>,
    // Somebody who waits asks for more than for itself.
    leasing: bool,
    // A call under way tells what was admitted alone: no other does.
    telling: bool,
    // The store has answered since something was admitted alone. Before it has nothing is told: a call that a hanging store hears when it
    // goes on would have told it once more.
    reached: bool,
    // How many wait.
    trips: u32,
}

/// One quota, in its ticks; all but one are moments.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    // When what the store says is spent will be there again: not earlier than that.
    told: u128,
    // What the store said last, and what was given back since.
    said: u128,
    // When what was admitted without the store will be there again, if each process has its part of the rate: what comes back counts once,
    // however many of them were alone.
    alone: u128,
}

/// A call that is under way.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) promise: Promise,
    sent: u64,
    // By which measure.
    quotas: Quotas,
    // What it tells of what was admitted alone, as the windows keep it; nothing if another call tells it.
    owed: Vec<u128>,
}

/// Whether a request is admitted.
#[derive(Debug)]
pub(super) enum Taken {
    /// It is: it was counted already.
    Here,
    /// Not before so many nanoseconds have passed, because of this quota.
    Over(u64, Quota),
    /// The store has to be asked, for so many; more than one: the rest is the next lease.
    Ask(u32),
}

impl Lease {
    pub(super) fn new(quotas: &Quotas, shares: Quotas, replicas: u32) -> Self {
        Self {
            shares,
            replicas: replicas.max(1),
            windows: quotas.iter().map(|_| Window::default()).collect(),
            most: largest(quotas, replicas),
            quotas: quotas.clone(),
            left: 0,
            until: 0,
            taken: 0,
            want: 1,
            back: 0,
            back_until: 0,
            none_until: 0,
            none_of: 0,
            again_at: 0,
            heard: 0,
            said_at: 0,
            ahead: None,
            leasing: false,
            telling: false,
            reached: false,
            trips: 0,
        }
    }

    /// One of the quotas; the first for a number that none has.
    pub(super) fn quota(&self, which: usize) -> Quota {
        self.quotas[if which < self.quotas.len() { which } else { 0 }]
    }

    /// What this process may do by itself.
    pub(super) fn shares(&self) -> &Quotas {
        &self.shares
    }

    /// The quotas are these from now on. What is known to be spent of a period stays so.
    pub(super) fn adopt(&mut self, quotas: &Quotas, now: u64) {
        if self.quotas.are(quotas) {
            return;
        }
        let mut next = Self::new(quotas, shares(quotas, self.replicas), self.replicas);
        for (quota, window) in quotas.iter().zip(&mut next.windows) {
            let mut before = self.quotas.iter().zip(&self.windows);
            if let Some((old, was)) = before.find(|(old, _)| old.per() == quota.per()) {
                let carry = |at: u128| {
                    let spent = at.saturating_sub(old.ticks(now));
                    quota.ticks(now) + old.carry(spent, quota)
                };
                *window = Window {
                    told: carry(was.told),
                    said: old.carry(was.said, quota),
                    alone: carry(was.alone),
                };
            }
        }
        // Those that wait are answered by the measure of before: they find that, and count for themselves alone.
        next.trips = self.trips;
        next.said_at = self.said_at;
        *self = next;
    }

    /// Admits a request, if that can be said here.
    pub(super) fn take(&mut self, now: u64) -> Taken {
        self.pass(now);
        if self.left > 0 {
            self.left -= 1;
            self.taken += 1;
            return Taken::Here;
        }
        if let Some((wait, quota)) = self.wait(now) {
            return Taken::Over(wait, quota);
        }
        if self.leasing || self.ahead.is_some() {
            return Taken::Ask(1);
        }
        if !self.reached {
            // Not more, before it has been told what it does not know.
            return Taken::Ask(1);
        }
        self.grow(now);
        self.leasing = self.want > 1;
        Taken::Ask(self.want)
    }

    /// As far as is known: nanoseconds until the store has one, and the quota that wants them.
    pub(super) fn wait(&self, now: u64) -> Option<(u64, Quota)> {
        let wait = self.none_until.checked_sub(now)?;
        let quota = *self.quotas.get(self.none_of)?;
        (now < self.again_at && wait > 0).then_some((wait, quota))
    }

    /// How many to ask for now, so that nobody has to wait when what is left is spent.
    pub(super) fn runs_out(&mut self, now: u64) -> Option<u32> {
        let asks = self.ahead.is_none() && !self.leasing && self.wait(now).is_none();
        if !asks || self.want < SMALL || self.left > self.want / 4 {
            return None;
        }
        self.grow(now);
        Some(self.want - self.left)
    }

    /// A lease that was spent within half its time is followed by one twice as large.
    fn grow(&mut self, now: u64) {
        if self.taken > 0 && now < self.until.saturating_sub(SECOND / 2) {
            self.want = (self.want * 2).min(self.most);
        }
    }

    /// What has run out is given back with the next call.
    fn pass(&mut self, now: u64) {
        if let Some(mut asked) = self.ahead.take() {
            match asked.promise.take() {
                None => self.ahead = Some(asked),
                Some(answer) => {
                    self.settle(&asked, answer.ok().as_deref(), now);
                }
            }
        }
        if now >= self.until {
            if self.left > 0 {
                self.back = self.back.saturating_add(self.left).min(MOST);
                self.back_until = self.until.saturating_add(SECOND);
                self.want = self.taken.clamp(1, self.most);
            }
            self.left = 0;
            self.taken = 0;
        }
        if now > self.back_until {
            self.back = 0;
        }
    }

    /// What the store is told with a call, beside what is asked for.
    pub(super) fn told(&self, now: u64) -> (i64, impl Iterator<Item = Told>) {
        // What others hold they may have given back since.
        let replicas = u128::from(self.replicas);
        let held = u128::from(self.most) * replicas;
        let windows = self.quotas.iter().zip(&self.windows);
        let told = windows.map(move |(quota, window)| Told {
            least: window.said.saturating_sub(held * quota.step()),
            back: self.back,
            owed: if self.tells() {
                window.alone.saturating_sub(quota.ticks(now)) / replicas
            } else {
                0
            },
        });
        (self.said_at, told)
    }

    /// The call is under way.
    pub(super) fn asked(&mut self, promise: Promise, now: u64) -> Asked {
        let back = u128::from(std::mem::take(&mut self.back));
        let (mut owed, tells) = (Vec::new(), self.tells());
        let windows = self.quotas.iter().zip(&mut self.windows);
        for (at, (quota, window)) in windows.enumerate() {
            window.told = window.told.saturating_sub(back * quota.step());
            window.said = window.said.saturating_sub(back * quota.step());
            let alone = window.alone.saturating_sub(quota.ticks(now));
            if alone > 0 && tells {
                owed.resize(self.quotas.len(), 0);
                owed[at] = alone;
            }
        }
        self.telling |= !owed.is_empty();
        Asked {
            owed,
            quotas: self.quotas.clone(),
            promise,
            sent: now,
        }
    }

    /// Nobody waits for this call; its answer is looked at when the next request comes.
    pub(super) fn ahead(&mut self, asked: Asked) {
        self.ahead = Some(asked);
    }

    /// Somebody waits; or no longer does, and asked for `want`.
    pub(super) fn waits(&mut self) {
        self.trips += 1;
    }

    pub(super) fn waited(&mut self, want: u32) {
        self.trips = self.trips.saturating_sub(1);
        if want > 1 {
            self.leasing = false;
        }
    }

    /// A call that somebody waited for and does not any more.
    pub(super) fn forgotten(&mut self, asked: Asked) {
        // What a second one gets is lost: its time passes.
        if self.ahead.is_none() {
            self.ahead = Some(asked);
        } else {
            self.settle(&asked, None, 0);
        }
    }

    /// What the store answered to a call: all that it granted is at hand. None without an answer, and for one to another question.
    pub(super) fn settle(
        &mut self,
        asked: &Asked,
        answer: Option<&[i64]>,
        now: u64,
    ) -> Option<Answer> {
        let same = asked.quotas.are(&self.quotas);
        let answer = answer.filter(|_| same);
        let answer = answer.and_then(|answer| Answer::read(answer, &self.quotas));
        if same && !asked.owed.is_empty() {
            self.telling = false;
        }
        // Without an answer it is told again. If it was heard, it counts twice: too much rather than too little; and what was given back is
        // lost.
        self.reached = answer.is_some();
        let answer = answer?;
        for (window, owed) in self.windows.iter_mut().zip(&asked.owed) {
            window.alone = window.alone.saturating_sub(*owed);
        }
        if asked.sent >= self.heard {
            self.heard = asked.sent;
            self.said_at = answer.at;
            let windows = self.quotas.iter().zip(&mut self.windows);
            for ((quota, window), spent) in windows.zip(&answer.spent) {
                // It was so after the call was sent: the moment is not earlier than this.
                window.told = quota.ticks(asked.sent) + spent;
                window.said = *spent;
            }
        }
        if answer.granted > 0 {
            self.pass_on(asked.sent);
            self.left = self.left.saturating_add(answer.granted);
            self.none_until = 0;
        } else {
            // Others may give back what they have: it is asked again after a second.
            self.none_until = now.saturating_add(answer.wait);
            self.again_at = now.saturating_add(SECOND);
            self.none_of = answer.which;
        }
        Some(answer)
    }

    /// A new lease, which began then.
    fn pass_on(&mut self, sent: u64) {
        self.until = self.until.max(sent.saturating_add(SECOND));
        self.taken = 0;
    }

    /// Of what was just granted, one is for who asked.
    pub(super) fn take_own(&mut self) {
        self.left = self.left.saturating_sub(1);
        self.taken += 1;
    }

    /// A request that was counted has not come.
    pub(super) fn give_back(&mut self) {
        self.left = self.left.saturating_add(1);
        self.taken = self.taken.saturating_sub(1);
        self.none_until = 0;
    }

    /// Whether the next call tells what was admitted alone.
    fn tells(&self) -> bool {
        self.reached && !self.telling
    }

    /// A request was admitted without the store; it is told when it is back.
    pub(super) fn alone(&mut self, now: u64) {
        self.reached = false;
        let replicas = u128::from(self.replicas);
        for (quota, window) in self.quotas.iter().zip(&mut self.windows) {
            window.alone = window.alone.max(quota.ticks(now)) + quota.step() * replicas;
        }
    }

    /// One of those has not come.
    pub(super) fn not_alone(&mut self) {
        let replicas = u128::from(self.replicas);
        for (quota, window) in self.quotas.iter().zip(&mut self.windows) {
            window.alone = window.alone.saturating_sub(quota.step() * replicas);
        }
    }

    /// How each quota stands, by what was heard last: requests left, and nanoseconds until there is one, or until all are.
    pub(super) fn levels(&self, now: u64) -> impl Iterator<Item = super::cell::Level> {
        let windows = self.quotas.iter().zip(&self.windows);
        windows.map(move |(quota, window)| {
            let told = window.told.saturating_sub(quota.ticks(now));
            let here = quota.step() * u128::from(self.left);
            quota.level(told.saturating_sub(here))
        })
    }

    /// The moment from which this lease says no more than a new one; `None` while somebody waits.
    pub(super) fn over_at(&self) -> Option<u64> {
        let windows = self.quotas.iter().zip(&self.windows);
        let spent = windows.map(|(quota, window)| quota.nanos(window.told.max(window.alone)));
        let spent = spent.max().unwrap_or(0);
        (self.trips == 0).then(|| spent.max(self.until).max(self.back_until))
    }
}

/// The largest lease: a tenth of the limit for all processes together, and what comes in a second; at least the one that is asked for.
fn largest(quotas: &Quotas, replicas: u32) -> u32 {
    let of = |quota: &Quota| {
        let tenth = quota.count().min(quota.burst()) / 10 / replicas.max(1);
        let second = quota.ticks(SECOND) / quota.step();
        u128::from(tenth).min(second)
    };
    let least = quotas.iter().map(of).min().unwrap_or(1);
    u32::try_from(least).unwrap_or(MOST).clamp(1, MOST)
}

/// The part of one process: of the rate, and of what may come at once; at least one.
pub(super) fn shares(quotas: &Quotas, replicas: u32) -> Quotas {
    quotas.iter().map(|quota| quota.share(replicas)).collect()
}
