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

    /// The provider took the credential at this place.
    pub fn taken(&self, at: usize, model: Option<&str>) {
        if let Some((_, key)) = self.0.keys.get(at) {
            key.taken(model);
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
                let wait = wait.or_else(|| refusals.count(&mut model.row, begun, UNTOLD));
                let until = now + wait.unwrap_or_default().min(LONGEST_PARK);
                if until > model.park.until {
                    model.park = Parked { until, told };
                }
            }
        }
    }

    fn taken(&self, model: Option<&str>) {
        if !self.0.marked.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.lock();
        (state.parked, state.row) = (None, Row::default());
        (state.forbidden, state.first, state.others) = (0, None, false);
        state.models.remove(model.unwrap_or_default());
        if state.models.is_empty() {
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
        if let Some(wait) = refusals.count(&mut self.row, begun, REFUSED) {
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
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn keys(count: u64) -> Keys {
        let wallet = Wallet::new();
        Keys::new((0..count).map(|id| (Some(format!("key-{id}").into()), wallet.key("p", id))))
    }

    fn picks(keys: &Keys, now: Instant, count: usize) -> Vec<usize> {
        let want = Want {
            model: Some("m"),
            ..Want::default()
        };
        (0..count)
            .filter_map(|_| keys.pick(&want, || now))
            .collect()
    }

    /// An attempt that begins now is refused now.
    fn refuse(keys: &Keys, at: usize, why: Refused<'_>, now: Instant) {
        keys.refused(at, Some("m"), why, keys.begin(at), now);
    }

    fn returns(keys: &Keys, at: usize, now: Instant) -> Option<Duration> {
        let want = Want {
            model: Some("m"),
            ..Want::default()
        };
        let parked = keys.0.keys[at].1.parked(want.model, || now);
        parked.map(|park| park.until - now)
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_take_turns_and_a_parked_one_is_left_out() {
        let (keys, now) = (keys(3), SystemClock.now());
        assert_eq!(picks(&keys, now, 6), [0, 1, 2, 0, 1, 2]);
        refuse(&keys, 1, Refused::Rejected, now);
        assert!(!picks(&keys, now, 12).contains(&1));
        assert!(picks(&keys, now + seconds(10), 12).contains(&1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejected_one_is_parked_for_ten_seconds_doubling_to_an_hour() {
        let (keys, mut now) = (keys(2), SystemClock.now());
        let expected = [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600];
        for expected in expected.map(seconds) {
            refuse(&keys, 0, Refused::Rejected, now);
            assert_eq!(returns(&keys, 0, now), Some(expected));
            now += expected;
        }
        keys.taken(0, Some("m"));
        refuse(&keys, 0, Refused::Rejected, now);
        assert_eq!(returns(&keys, 0, now), Some(seconds(10)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_is_that_of_one_model_until_its_reset() {
        let (keys, now) = (keys(2), SystemClock.now());
        refuse(&keys, 0, Refused::Limited(Some(seconds(7))), now);
        assert_eq!(returns(&keys, 0, now), Some(seconds(7)));
        let other = Want {
            model: Some("other"),
            ..Want::default()
        };
        assert!((0..4).any(|_| keys.pick(&other, || now) == Some(0)));
        for expected in [5, 10, 20, 40, 60, 60].map(seconds) {
            refuse(&keys, 1, Refused::Limited(None), now);
            assert!(returns(&keys, 1, now) >= Some(expected));
        }
        assert_eq!(returns(&keys, 1, now), Some(seconds(60)));
        let first = picks(&keys, now, 4);
        assert_eq!(first, [0; 4], "all are parked: the one that returns first");
    }

    #[tokio::test(start_paused = true)]
    async fn three_403s_in_a_row_park_only_if_two_callers_had_them() {
        let (one, two): (Arc<str>, Arc<str>) = ("one".into(), "two".into());
        let (keys, now) = (keys(2), SystemClock.now());
        let forbid = |who| refuse(&keys, 0, Refused::Forbidden(Some(who)), now);
        (0..5).for_each(|_| forbid(&one));
        assert_eq!(returns(&keys, 0, now), None, "flagged input of one caller");
        forbid(&two);
        assert_eq!(returns(&keys, 0, now), Some(seconds(10)));
        keys.taken(0, Some("m"));
        forbid(&one);
        keys.taken(0, Some("m"));
        forbid(&two);
        forbid(&one);
        assert_eq!(
            returns(&keys, 0, now),
            None,
            "a success between breaks the row"
        );
    }

    /// Of whatever kind they are, and however late.
    #[tokio::test(start_paused = true)]
    async fn refusals_of_attempts_that_ran_at_once_park_as_one() {
        let callers: [Arc<str>; 2] = ["one".into(), "two".into()];
        let forbidden = [
            Refused::Forbidden(Some(&callers[0])),
            Refused::Forbidden(Some(&callers[1])),
        ];
        for (kinds, first) in [
            ([Refused::Rejected; 2], 10),
            ([Refused::Limited(None); 2], 5),
            (forbidden, 10),
        ] {
            let (keys, start) = (keys(2), SystemClock.now());
            let at_once = [(); 10].map(|()| keys.begin(0));
            let kind = kinds.into_iter().cycle();
            for (begun, kind) in at_once.into_iter().zip(kind) {
                keys.refused(0, Some("m"), kind, begun, start);
            }
            let late = start + seconds(1);
            keys.refused(0, Some("m"), kinds[0], at_once[0], late);
            assert_eq!(returns(&keys, 0, start), Some(seconds(first)), "{kinds:?}");
            // Somebody tries whether it is over.
            let now = start + seconds(first);
            refuse(&keys, 0, kinds[0], now);
            assert_eq!(
                returns(&keys, 0, now),
                Some(seconds(2 * first)),
                "{kinds:?}"
            );
        }
    }

    /// What one model has met is no other's.
    #[tokio::test(start_paused = true)]
    async fn attempts_for_several_models_that_ran_at_once_are_limited_each() {
        let (keys, now) = (keys(2), SystemClock.now());
        let begun = keys.begin(0);
        for model in ["other", "m"] {
            keys.refused(0, Some(model), Refused::Limited(None), begun, now);
        }
        assert_eq!(returns(&keys, 0, now), Some(seconds(5)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sole_one_is_never_parked() {
        let (keys, now) = (keys(1), SystemClock.now());
        refuse(&keys, 0, Refused::Rejected, now);
        assert_eq!(
            (returns(&keys, 0, now), picks(&keys, now, 2)),
            (None, vec![0, 0])
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_pinned_one_is_used_and_no_other() {
        let (keys, now) = (keys(3), SystemClock.now());
        let mut want = Want {
            pins: [Some("of another provider"), Some("key-2")],
            ..Want::default()
        };
        assert_eq!(keys.pick(&want, || now), Some(2));
        want.tried = 0b100;
        assert_eq!(keys.pick(&want, || now), None);
        assert!(!keys.has_other(&want, now));
        want.pins = [Some("of another provider"), None];
        assert!(keys.pick(&want, || now).is_some());
    }

    #[test]
    fn what_is_known_of_a_credential_survives_whoever_asks_for_it() {
        let wallet = Wallet::new();
        let one = wallet.key("p", 1);
        assert!(Arc::ptr_eq(&one.0, &wallet.key("p", 1).0));
        assert!(!Arc::ptr_eq(&one.0, &wallet.key("q", 1).0));
    }
}
