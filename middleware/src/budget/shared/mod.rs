//! Budgets that several processes share: the accounts are in a [`Store`], and each request asks it once.

mod alone;
mod call;
mod keep;
mod lease;
mod place;

#[cfg(test)]
mod tests;

pub(super) use self::lease::{Denied, Leases, Reserving};

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{
        Arc, OnceLock, PoisonError,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use self::{call::Amount, place::Place};
use super::{
    account::Terms,
    journal::Threshold,
    ledger::{Ledger, Owner},
    money::{Dates, Sums},
};
use crate::{
    chance::Chance,
    store::{Call, Contact, Promise, Store},
    sync::{Mutex, MutexGuard},
};

/// Accounts that several processes share. Clones are the same; [`keep`](Self::keep) has to run beside what uses them.
///
/// **Once.** Each attempt at an admission has an id of its own; reserving, settling and giving back apply once, however often they are
/// sent. What is not answered in time is given back, should it have been reserved after all. An end that could not be told is kept, at
/// most 65,536 of them, and told when the store is there again.
///
/// **The caller first**, then all together: who has nothing left takes nothing from the others, not for a moment. That is one trip, and two
/// where there is a global budget. What was reserved first is given back where the second says no.
///
/// **Lost.** What a process has reserved holds for 30 s after it was heard last; [`keep`](Self::keep) has it heard, once for all its
/// reservations of an account. What is not settled by then is charged as it stands; should it end after all within the hour, that is put
/// right.
///
/// **Away.** What `on_error: local` leaves to this process is what was left when the store was heard last, divided by the replicas; tokens
/// come back at that part of their rate, money does not. What was never heard of is refused. What was spent meanwhile, and what still
/// runs, is told before anything else is asked. A store that has forgotten the accounts, or comes back older than it was,
/// is told what they were when they were heard last; what was reserved and runs is unknown to it until it ends, and is charged then; an end of which nobody heard whether it was told before
/// that counts again. That it is older is seen by the first who had heard more, within a second: what others spend before, who had heard
/// nothing of what is lost, may stay uncounted, and what was lost, charged and then put right behind a snapshot stays charged.
///
/// **Silent.** A process that was silent for a day finds the account as it is, and so do all where the clock of the store jumps as far:
/// what they held is lost, and what they told counts once, for 40 days of silence. What the store has lost of such a process is not seen
/// where others have written more since.
///
/// **Time** is the store's, and so are the windows. What is known here of an account that was used within a minute is a second old at
/// most, of others ten. A clock of the store that is set back opens no window again, and neither gives nor takes tokens.
///
/// ```
/// use std::sync::Arc;
/// use tollgate_middleware::{
///     budget::Shared,
///     store::{Away, Call, Contact, OnError, Promise, Store},
/// };
///
/// /// A store that nobody has reached yet: whoever has a limit is refused.
/// struct Nowhere;
///
/// impl Store for Nowhere {
///     fn run(&self, _: Call) -> Promise {
///         Promise::kept(Err(Away::Unsent))
///     }
///     fn contact(&self) -> Contact { Contact::Never }
///     fn replicas(&self) -> u32 { 2 }
///     fn on_error(&self) -> OnError { OnError::Local }
/// }
///
/// let shared = Shared::new(Arc::new(Nowhere), 0);
/// assert_eq!((shared.sums(Some("team-a")), shared.untold()), (None, 0));
/// ```
#[derive(Clone)]
pub struct Shared {
    all: Arc<Inner>,
    store: Arc<dyn Store>,
}

struct Inner {
    // No two processes have the same.
    process: Box<str>,
    // Counts up when what was reserved so far cannot be told apart any more, and is left to be lost.
    turn: AtomicU32,
    next: AtomicU64,
    global: Arc<Place>,
    places: Mutex<HashMap<Arc<str>, Arc<Place>>>,
    strangers: AtomicUsize,
    most: usize,
    errands: Mutex<Errands>,
    origin: OnceLock<Instant>,
    // When accounts were gone through, if they were.
    scanned: AtomicU64,
    tell: Option<Box<Tell>>,
    past: Option<Ledger>,
    counts: Counts,
}

type Tell = dyn Fn(&Threshold) + Send + Sync;

#[derive(Default)]
struct Errands {
    // Sent, and not answered yet.
    flying: Vec<(Errand, Promise)>,
    // Ends that the store could not be told.
    failed: VecDeque<Settle>,
}

enum Errand {
    Settle(Settle),
    Tell(Arc<Place>, u64),
    Look(Arc<Place>, bool),
}

/// The end of a reservation.
struct Settle {
    place: Arc<Place>,
    id: Box<str>,
    terms: Terms,
    used: Amount,
    // The epoch and the windows of the admission; none where nobody said that it was admitted.
    at: Option<(u64, Dates)>,
}

/// What has happened so far to accounts that are shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Happened {
    /// Requests that this process admitted of its own share.
    pub alone: u64,
    /// Requests that were refused because the store was away.
    pub away: u64,
    /// Reservations that outlived their process and were charged, as far as this process saw it happen.
    pub lost: u64,
    /// Ends that were told later than they happened.
    pub late: u64,
    /// Ends that were too many to be kept: what was reserved for them is charged.
    pub dropped: u64,
}

#[derive(Debug, Default)]
struct Counts {
    alone: AtomicU64,
    away: AtomicU64,
    lost: AtomicU64,
    late: AtomicU64,
    dropped: AtomicU64,
}

impl Shared {
    /// The accounts of this store; room for so many of names that are not from a list that ends.
    pub fn new(store: Arc<dyn Store>, most: usize) -> Self {
        let all = Arc::new(Inner {
            process: format!("{:016x}", Chance::of_process().bits()).into(),
            turn: AtomicU32::new(0),
            next: AtomicU64::new(0),
            global: Arc::new(Place::of(None)),
            places: Mutex::default(),
            strangers: AtomicUsize::new(0),
            most,
            errands: Mutex::default(),
            origin: OnceLock::new(),
            scanned: AtomicU64::new(u64::MAX),
            tell: None,
            past: None,
            counts: Counts::default(),
        });
        Self { all, store }
    }

    /// The same accounts over another way to the same store: each worker may have a connection of its own.
    #[must_use]
    pub fn over(&self, store: Arc<dyn Store>) -> Self {
        Self {
            all: self.all.clone(),
            store,
        }
    }

    /// Tells of shares of budgets that are spent: once, by the process whose request came to it.
    ///
    /// # Panics
    ///
    /// If there are clones already.
    #[must_use]
    pub fn telling(mut self, tell: impl Fn(&Threshold) + Send + Sync + 'static) -> Self {
        let inner = Arc::get_mut(&mut self.all).expect("nobody else has it yet");
        inner.tell = Some(Box::new(tell));
        self
    }

    /// What callers used lately, before this process began, is known from these accounts: what [`Reserve::Typical`](super::Reserve) goes by.
    /// The store does not know it.
    ///
    /// # Panics
    ///
    /// If there are clones already.
    #[must_use]
    pub fn remembering(mut self, past: Ledger) -> Self {
        let inner = Arc::get_mut(&mut self.all).expect("nobody else has it yet");
        inner.past = Some(past);
        self
    }

    /// Looks at the account of a caller before it asks, so that what is left is known should the store go away; that of all together, if no
    /// name is given. Without limits it is not looked at.
    pub fn watch(&self, name: Option<&str>, terms: &Terms) {
        let place = match name {
            None => self.all.global.clone(),
            Some(name) => self.place(&Owner {
                name: name.into(),
                else_of: None,
            }),
        };
        place.agree(terms);
    }

    /// What an account was when it was heard of last: that of all together, if no name is given.
    pub fn sums(&self, name: Option<&str>) -> Option<Sums> {
        let place = match name {
            None => Some(self.all.global.clone()),
            Some(name) => self.places().get(name).cloned(),
        };
        let known = place?.known()?;
        Some(Sums::restored(known.dates, known.spent))
    }

    /// What has happened so far.
    pub fn happened(&self) -> Happened {
        let Counts {
            alone,
            away,
            lost,
            late,
            dropped,
        } = &self.all.counts;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Happened {
            alone: read(alone),
            away: read(away),
            lost: read(lost),
            late: read(late),
            dropped: read(dropped),
        }
    }

    /// Ends that the store does not know yet, and accounts of which it does not know all.
    pub fn untold(&self) -> usize {
        let errands = self.errands();
        let flying = errands.flying.iter();
        let settles = flying.filter(|(errand, _)| !matches!(errand, Errand::Look(..)));
        let untold = errands.failed.len() + settles.count();
        drop(errands);
        let places = self.places();
        let places = places.values().chain([&self.all.global]);
        untold + places.filter(|place| !place.is_told()).count()
    }

    fn nanos(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(*self.all.origin.get_or_init(|| now));
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Tells the store what only this process knows of an account.
    fn tell(&self, place: &Arc<Place>) {
        if self.store.contact() != Contact::Up {
            return;
        }
        if let Some((told, call)) = place.tell(&self.all.process) {
            self.send(call, Errand::Tell(place.clone(), told.number));
        }
    }

    fn send_end(&self, settle: Settle) {
        let call = settle
            .place
            .settle(&settle.id, &settle.terms, settle.used, settle.at);
        self.send(call, Errand::Settle(settle));
    }

    fn send(&self, call: Call, errand: Errand) {
        let promise = self.store.run(call);
        self.errands().flying.push((errand, promise));
    }

    /// The name under which this process reserves at the moment.
    fn process(&self) -> Box<str> {
        let turn = self.all.turn.load(Ordering::Relaxed);
        format!("{}-{turn}", self.all.process).into()
    }

    /// A name for an attempt to reserve.
    fn id(&self) -> Box<str> {
        let number = self.all.next.fetch_add(1, Ordering::Relaxed);
        format!("{}.{number}", self.process()).into()
    }

    fn place(&self, owner: &Owner) -> Arc<Place> {
        let mut places = self.places();
        if let Some(place) = places.get(&*owner.name) {
            return place.clone();
        }
        let mut name = &owner.name;
        if let Some(shared) = &owner.else_of
            && self.all.strangers.fetch_add(1, Ordering::Relaxed) >= self.all.most
        {
            self.all.strangers.fetch_sub(1, Ordering::Relaxed);
            name = shared;
            if let Some(place) = places.get(&**name) {
                return place.clone();
            }
        }
        let place = Place::of(Some(name.clone()));
        let past = self.all.past.as_ref();
        past.and_then(|past| past.read(name, |account| place.remember(account)));
        let place = Arc::new(place);
        places.insert(name.clone(), place.clone());
        place
    }

    fn places(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Place>>> {
        lock(&self.all.places)
    }

    fn errands(&self) -> MutexGuard<'_, Errands> {
        lock(&self.all.errands)
    }
}

/// Nothing panics under the lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("process", &self.all.process)
            .field("happened", &self.happened())
            .finish_non_exhaustive()
    }
}
