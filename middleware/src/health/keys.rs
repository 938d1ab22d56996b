//! What is known of a provider's credentials: which one is to be used next, and which are better left alone.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    pulse::{LONGEST_PARK, Parked, REFUSED, UNTOLD},
    refusals::{Begun, Refusals, Row},
};

/// The credentials that this process has ever used, by provider and what tells them apart: what is known of one survives a
/// reload. Clones are the same. Of the credentials themselves it knows nothing.
#[derive(Clone, Debug, Default)]
pub struct Wallet(Arc<Mutex<Known>>);

/// By provider and id.
type Known = HashMap<(Box<str>, u64), Key>;

/// What is known of one credential. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Key(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    // So that a credential that nothing is held against costs no lock.
    marked: AtomicBool,
    refusals: Refusals,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// As a whole.
    parked: Option<Instant>,
    row: Row,
    /// 403s in a row, and of whom the first was; whether another one had one, too.
    forbidden: u32,
    first: Option<Arc<str>>,
    others: bool,
    models: HashMap<Box<str>, Model>,
}

#[derive(Clone, Copy, Debug)]
struct Model {
    park: Parked,
    row: Row,
}

/// Why a provider did not take a request with this credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused<'a> {
    /// The credential is not good, or nothing is left to spend: 401, 402, and 429 with `insufficient_quota`.
    Rejected,
    /// 403, to this caller: some providers say so of what was asked.
    Forbidden(Option<&'a Arc<str>>),
    /// 429: of one model, for so long where that was said, an hour at most.
    Limited(Option<Duration>),
}

/// The credentials of one provider, in the order of the configuration. Clones are the same.
#[derive(Clone)]
pub struct Keys(Arc<Ring>);

struct Ring {
    keys: Box<[(Option<Box<str>>, Key)]>,
    turn: AtomicUsize,
}

/// What a request wants of a credential.
#[derive(Clone, Copy, Debug, Default)]
pub struct Want<'a> {
    /// The one of this name, else the one of that; what has no such name is none.
    pub pins: [Option<&'a str>; 2],
    /// For this model.
    pub model: Option<&'a str>,
    /// None of these, by place.
    pub tried: u64,
    /// The first one: what the provider keeps belongs to it.
    pub first: bool,
}

// ===== impl Wallet =====

impl Wallet {
    /// One that is empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is known of a provider's credential; `id` tells it from its others and says nothing of it, such as a hash.
    pub fn key(&self, provider: &str, id: u64) -> Key {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.entry((provider.into(), id)).or_default().clone()
    }
}

// ===== impl Keys =====

impl Keys {
    /// So many credentials of one provider are told apart.
    pub const MOST: usize = 64;

    /// Credentials with their names, of which the first [`MOST`](Self::MOST) are used.
    pub fn new(keys: impl IntoIterator<Item = (Option<Box<str>>, Key)>) -> Self {
        Self(Arc::new(Ring {
            keys: keys.into_iter().take(Self::MOST).collect(),
            turn: AtomicUsize::new(0),
        }))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.keys.is_empty()
    }

    /// Whether there is but one, which is never parked.
    pub fn is_sole(&self) -> bool {
        self.len() <= 1
    }

    /// The place of the credential to use: in turn, those that are parked left out; if all are, the one that returns first.
    /// `None` if none is left untried.
    pub fn pick(&self, want: &Want<'_>, now: impl Fn() -> Instant) -> Option<usize> {
        let keys = &self.0.keys;
        if self.is_sole() {
            return (!keys.is_empty() && want.tried & 1 == 0).then_some(0);
        }
        let untried = |at: &usize| want.tried & (1 << at) == 0;
        if let Some(pinned) = self.pinned(want) {
            return Some(pinned).filter(untried);
        }
        if want.first {
            return Some(0).filter(untried);
        }
        let turn = self.0.turn.fetch_add(1, Ordering::Relaxed);
        let mut soonest: Option<(Instant, usize)> = None;
        for at in (0..keys.len()).map(|step| turn.wrapping_add(step) % keys.len()) {
            if !untried(&at) {
                continue;
            }
            let Some(park) = keys[at].1.parked(want.model, &now) else {
                return Some(at);
            };
            if soonest.is_none_or(|(until, _)| park.until < until) {
                soonest = Some((park.until, at));
            }
        }
        soonest.map(|(_, at)| at)
    }

    /// Whether one that was not tried yet could be used at once.
    pub fn has_other(&self, want: &Want<'_>, now: Instant) -> bool {
        if self.is_sole() || want.first || self.pinned(want).is_some() {
            return false;
        }
        let keys = self.0.keys.iter().enumerate();
        let mut untried = keys.filter(|(at, _)| want.tried & (1 << at) == 0);
        untried.any(|(_, (_, key))| key.parked(want.model, || now).is_none())
    }

    /// When the first of them returns, if all are parked now.
    pub fn parked(&self, want: &Want<'_>, now: Instant) -> Option<Parked> {
        if self.is_sole() || want.first || self.pinned(want).is_some() {
            return None;
        }
        let mut soonest: Option<Parked> = None;
        for (_, key) in &*self.0.keys {
            let park = key.parked(want.model, || now)?;
            if soonest.is_none_or(|old| park.until < old.until) {
                soonest = Some(park);
            }
        }
        soonest
    }

    /// An attempt begins with the credential at this place; what it knows is to be told with a refusal that it meets.
    pub fn begin(&self, at: usize) -> Begun {
        let key = self.0.keys.get(at);
        key.map_or_else(Begun::default, |(_, key)| key.0.refusals.begin())
    }

    /// The provider refused the credential at this place to an attempt that began so. It is left alone for twice as long each time, but
    /// for what an attempt meets that had begun before the last time.
    pub fn refused(
        &self,
        at: usize,
        model: Option<&str>,
        why: Refused<'_>,
        begun: Begun,
        now: Instant,
    ) {
        if let Some((_, key)) = self.0.keys.get(at)
            && !self.is_sole()
        {
            key.refused(model, why, begun, now);
        }
    }

    /// The provider took the credential at this place from an attempt that began so. It ends no refusal that this attempt had begun
    /// before.
    pub fn taken(&self, at: usize, model: Option<&str>, begun: Begun) {
        if let Some((_, key)) = self.0.keys.get(at) {
            key.taken(model, begun);
        }
    }

    fn pinned(&self, want: &Want<'_>) -> Option<usize> {
        let named = |name| {
            self.0
                .keys
                .iter()
                .position(|(own, _)| own.as_deref() == Some(name))
        };
        want.pins.into_iter().flatten().find_map(named)
    }
}

// ===== impl Key =====

impl Key {
    fn parked(&self, model: Option<&str>, now: impl Fn() -> Instant) -> Option<Parked> {
        if !self.0.marked.load(Ordering::Acquire) {
            return None;
        }
        let (now, state) = (now(), self.lock());
        let whole = state.parked.map(|until| Parked { until, told: false });
        let own = state
            .models
            .get(model.unwrap_or_default())
            .map(|it| it.park);
        let parks = whole.into_iter().chain(own);
        parks
            .filter(|park| park.until > now)
            .max_by_key(|park| park.until)
    }

    fn refused(&self, model: Option<&str>, why: Refused<'_>, begun: Begun, now: Instant) {
        let (refusals, mut state) = (&self.0.refusals, self.lock());
        self.0.marked.store(true, Ordering::Release);
        match why {
            Refused::Rejected => state.park(refusals, begun, now),
            Refused::Forbidden(caller) => {
                if state.forbidden == 0 {
                    state.first = caller.cloned();
                }
                state.others |= state.first.as_ref() != caller;
                state.forbidden = state.forbidden.saturating_add(1);
                if state.forbidden >= ENOUGH && state.others {
                    state.park(refusals, begun, now);
                }
            }
            Refused::Limited(wait) => {
                if state.models.len() >= MODELS {
                    state.models.retain(|_, model| model.park.until > now);
                }
                if state.models.len() >= MODELS {
                    return;
                }
                let entry = state.models.entry(model.unwrap_or_default().into());
                let model = entry.or_insert_with(|| Model {
                    park: Parked {
                        until: now,
                        told: false,
                    },
                    row: Row::default(),
                });
                let told = wait.is_some();
                let wait = match wait {
                    Some(wait) => {
                        refusals.told(&mut model.row, now);
                        Some(wait)
                    }
                    None => refusals.count(&mut model.row, begun, UNTOLD, now),
                };
                let until = now + wait.unwrap_or_default().min(LONGEST_PARK);
                if until > model.park.until {
                    model.park = Parked { until, told };
                }
            }
        }
    }

    fn taken(&self, model: Option<&str>, begun: Begun) {
        if !self.0.marked.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.lock();
        if state.row.is_known(begun) {
            (state.parked, state.row) = (None, Row::default());
            (state.forbidden, state.first, state.others) = (0, None, false);
        }
        let model = model.unwrap_or_default();
        let limit = state.models.get(model);
        if limit.is_some_and(|limit| limit.row.is_known(begun)) {
            state.models.remove(model);
        }
        if state.row.is_empty() && state.models.is_empty() {
            self.0.marked.store(false, Ordering::Release);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock: what is known stays whole.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn park(&mut self, refusals: &Refusals, begun: Begun, now: Instant) {
        if let Some(wait) = refusals.count(&mut self.row, begun, REFUSED, now) {
            self.parked = self.parked.max(Some(now + wait));
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// So many 403s in a row, not all to one caller, are about the credential.
const ENOUGH: u32 = 3;
/// Models of which a credential remembers its limits.
const MODELS: usize = 1000;

#[cfg(test)]
mod tests;
