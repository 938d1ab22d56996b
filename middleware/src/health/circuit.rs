//! The state machine of one circuit, in microseconds since its board was made.
//!
//! Its state is mirrored in one word, which readers load. Writers hold the lock.

use std::{num::NonZeroU64, sync::PoisonError, time::Duration};

use super::{
    policy::Policy,
    sync::{AtomicU64, Mutex, MutexGuard, Ordering},
    window::Windows,
};

/// Leave to ask the target once. It is to be settled, once: a probe holds one of few places.
#[derive(Debug)]
#[must_use = "a pass that is not settled may hold the place of a probe until its time is up"]
pub struct Pass {
    turn: u64,
    probe: Option<NonZeroU64>,
}

impl Pass {
    /// Whether it tries if an open circuit can be closed.
    pub fn is_probe(&self) -> bool {
        self.probe.is_some()
    }
}

/// What an attempt says of its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The target did not do what it is there for.
    Failure,
    /// Nothing: it ended for a reason that is not the target's.
    Neutral,
    /// It answered, to the end; of a probe, its first output is enough.
    Success,
}

/// The state as readers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Closed,
    /// Until this moment; from then on the next request is a probe.
    Open(u64),
    /// So many more may try; some probe has to say something by this moment.
    HalfOpen {
        free: u64,
        due: u64,
    },
}

/// Changes of state, in order.
pub(super) type Changes = Vec<(Seen, Seen)>;

#[derive(Debug)]
pub(super) struct Circuit {
    word: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    at: At,
    /// Grows with each failure that counts and with each change of state: who began before one has a smaller number.
    turn: u64,
    /// The turn of the last change.
    since: u64,
    consecutive: u32,
    windows: Windows,
}

#[derive(Debug)]
enum At {
    // → Open, by a failure
    Closed,
    // → HalfOpen, by who comes when the time is over
    Open {
        until: u64,
    },
    // → Closed, by enough successes; → Open, by a failure or a probe that is late
    HalfOpen {
        probes: Vec<Probe>,
        most: u32,
        succeeded: u32,
        last: u64,
    },
}

#[derive(Debug)]
struct Probe {
    id: NonZeroU64,
    due: u64,
    open_for: u64,
}

impl Circuit {
    pub(super) fn new() -> Self {
        let inner = Inner {
            at: At::Closed,
            turn: 1,
            since: 0,
            consecutive: 0,
            windows: Windows::default(),
        };
        Self {
            word: AtomicU64::new(inner.word()),
            inner: Mutex::new(inner),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        unpack(self.word.load(Ordering::Acquire)) == Seen::Closed
    }

    /// The state at this moment.
    pub(super) fn seen(&self, now: u64, changes: &mut Changes) -> Seen {
        let seen = unpack(self.word.load(Ordering::Acquire));
        match seen {
            Seen::HalfOpen { due, .. } if due <= now => {
                let mut inner = self.lock();
                inner.expire(now, changes);
                self.show(&inner);
                inner.seen()
            }
            _ => seen,
        }
    }

    /// Leave to ask, or the moment at which to come again. `clock` is how long a probe has for its first output.
    pub(super) fn enter(
        &self,
        policy: &Policy,
        clock: Option<Duration>,
        now: u64,
        changes: &mut Changes,
    ) -> Result<Pass, u64> {
        let word = self.word.load(Ordering::Acquire);
        if word & TAG == CLOSED {
            return Ok(Pass {
                turn: word >> TAG_BITS,
                probe: None,
            });
        }
        let mut inner = self.lock();
        inner.expire(now, changes);
        let pass = inner.enter(policy, clock, now, changes);
        self.show(&inner);
        pass
    }

    /// What became of an attempt. `repeated`: its request has failed here before, and was counted.
    pub(super) fn settle(
        &self,
        pass: &Pass,
        (verdict, repeated): (Verdict, bool),
        policy: &Policy,
        now: u64,
        changes: &mut Changes,
    ) {
        if !pass.is_probe() && verdict == Verdict::Neutral {
            return;
        }
        let mut inner = self.lock();
        inner.expire(now, changes);
        inner.settle(pass, (verdict, repeated), policy, now, changes);
        self.show(&inner);
    }

    /// Whether nothing is known that would be missed.
    pub(super) fn is_blank(&self) -> bool {
        let inner = self.lock();
        matches!(inner.at, At::Closed) && !inner.windows.hold_failures()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics under the lock: the state stays whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called under the lock, so that words follow each other as states do.
    fn show(&self, inner: &Inner) {
        self.word.store(inner.word(), Ordering::Release);
    }
}

impl Inner {
    /// A probe that has said nothing in its time has failed, at that time.
    fn expire(&mut self, now: u64, changes: &mut Changes) {
        let At::HalfOpen { probes, .. } = &self.at else {
            return;
        };
        let late = probes.iter().filter(|probe| probe.due <= now);
        if let Some(first) = late.min_by_key(|probe| probe.due) {
            let until = later(first.due, first.open_for);
            self.change(At::Open { until }, changes);
        }
    }

    fn enter(
        &mut self,
        policy: &Policy,
        clock: Option<Duration>,
        now: u64,
        changes: &mut Changes,
    ) -> Result<Pass, u64> {
        if let At::Open { until } = self.at {
            if now < until {
                return Err(until);
            }
            let half = At::HalfOpen {
                probes: Vec::new(),
                most: policy.probes.clamp(1, MOST_PROBES),
                succeeded: 0,
                last: 0,
            };
            self.change(half, changes);
        }
        let turn = self.turn;
        let At::HalfOpen {
            probes, most, last, ..
        } = &mut self.at
        else {
            return Ok(Pass { turn, probe: None });
        };
        if probes.len() >= *most as usize {
            return Err(later(now, micros(SOON)));
        }
        *last += 1;
        let id = NonZeroU64::MIN.saturating_add(*last);
        probes.push(Probe {
            id,
            due: clock.map_or(NEVER, |clock| later(now, micros(clock))),
            open_for: micros(policy.open_for),
        });
        Ok(Pass {
            turn,
            probe: Some(id),
        })
    }

    fn settle(
        &mut self,
        pass: &Pass,
        (verdict, repeated): (Verdict, bool),
        policy: &Policy,
        now: u64,
        changes: &mut Changes,
    ) {
        let Pass { turn, probe } = *pass;
        if turn < self.since {
            // It began before the last change: what it has seen is over.
            return;
        }
        if let (At::HalfOpen { probes, .. }, Some(id)) = (&mut self.at, probe) {
            probes.retain(|probe| probe.id != id);
        }
        let open = At::Open {
            until: later(now, micros(policy.open_for)),
        };
        match (&mut self.at, verdict) {
            (At::Closed, Verdict::Success) => {
                if !repeated {
                    self.windows.count(micros(policy.window), false, now);
                }
                if turn == self.turn {
                    self.consecutive = 0;
                }
            }
            (At::Closed, Verdict::Failure) if !repeated => {
                self.windows.count(micros(policy.window), true, now);
                self.consecutive = self.consecutive.saturating_add(1);
                self.turn += 1;
                if self.is_over(policy, now) {
                    self.change(open, changes);
                }
            }
            (At::HalfOpen { .. }, Verdict::Failure) => self.change(open, changes),
            (At::HalfOpen { succeeded, .. }, Verdict::Success) => {
                *succeeded += 1;
                if *succeeded >= policy.successes {
                    self.change(At::Closed, changes);
                }
            }
            _ => {}
        }
    }

    fn is_over(&self, policy: &Policy, now: u64) -> bool {
        if policy
            .consecutive
            .is_some_and(|most| self.consecutive >= most)
        {
            return true;
        }
        let Some(share) = policy.error_rate else {
            return false;
        };
        let (failures, requests) = self.windows.sum(micros(policy.window), now);
        requests >= u64::from(policy.min_requests)
            && failures * 10_000 >= requests * u64::from(share)
    }

    fn change(&mut self, to: At, changes: &mut Changes) {
        let from = self.seen();
        self.at = to;
        self.turn += 1;
        self.since = self.turn;
        self.consecutive = 0;
        self.windows.clear();
        changes.push((from, self.seen()));
    }

    fn seen(&self) -> Seen {
        match &self.at {
            At::Closed => Seen::Closed,
            At::Open { until } => Seen::Open(*until),
            At::HalfOpen { probes, most, .. } => Seen::HalfOpen {
                free: u64::from(*most).saturating_sub(probes.len() as u64),
                due: probes.iter().map(|probe| probe.due).min().unwrap_or(NEVER),
            },
        }
    }

    fn word(&self) -> u64 {
        match self.seen() {
            Seen::Closed => CLOSED | self.turn << TAG_BITS,
            Seen::Open(until) => OPEN | until << TAG_BITS,
            Seen::HalfOpen { free, due } => {
                HALF_OPEN | free << TAG_BITS | due << (TAG_BITS + FREE_BITS)
            }
        }
    }
}

fn unpack(word: u64) -> Seen {
    match word & TAG {
        CLOSED => Seen::Closed,
        OPEN => Seen::Open(word >> TAG_BITS),
        _ => Seen::HalfOpen {
            free: word >> TAG_BITS & u64::from(MOST_PROBES),
            due: word >> (TAG_BITS + FREE_BITS),
        },
    }
}

/// Rounded up: nothing happens too early.
pub(super) fn micros(time: Duration) -> u64 {
    let whole = u64::try_from(time.as_nanos().div_ceil(1000));
    whole.unwrap_or(NEVER).min(NEVER)
}

fn later(now: u64, by: u64) -> u64 {
    now.saturating_add(by).min(NEVER)
}

/// When to come again while others try: nobody knows what they will find.
const SOON: Duration = Duration::from_secs(1);

const TAG_BITS: u32 = 2;
const TAG: u64 = 3;
const CLOSED: u64 = 0;
const OPEN: u64 = 1;
const HALF_OPEN: u64 = 2;
const FREE_BITS: u32 = 8;
/// More probes than this are no probes.
pub(super) const MOST_PROBES: u32 = 255;
/// 570 years.
const NEVER: u64 = (1 << (64 - TAG_BITS - FREE_BITS)) - 1;
