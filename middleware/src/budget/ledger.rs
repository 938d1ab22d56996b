//! The accounts of all callers: sharded, one lock each.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use super::{
    account::{Account, Reserved, Short, Terms, Worst},
    money::{Budget, Dates, Usd},
};
use crate::sync::{Mutex, MutexGuard};

/// The accounts of one process. Clones are the same: workers share them, and a reload hands them on.
#[derive(Clone, Debug)]
pub struct Ledger(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shards: [Mutex<HashMap<Arc<str>, Slot>>; SHARDS],
    // Of all callers together.
    global: Slot,
    // Accounts of names that third parties make, and how many there may be.
    strangers: AtomicUsize,
    most: usize,
    seed: RandomState,
    // What times are measured from.
    origin: OnceLock<Instant>,
    next: AtomicU64,
}

pub(super) type Slot = Arc<Mutex<Account>>;

const SHARDS: usize = 16;

/// Whose account it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) name: Arc<str>,
    /// A third party made the name: where there are too many of them, this one is used instead.
    pub(super) else_of: Option<Arc<str>>,
}

/// What was reserved for one request; given back unless it is settled.
#[derive(Debug)]
pub(super) struct Open {
    /// The account that is charged, which need not be the one of this name alone.
    pub(super) account: Arc<str>,
    slot: Slot,
    global: Slot,
    pub(super) own: Reserved,
    all: Reserved,
    settled: bool,
}

/// Why a request is not served: whose account is short, and of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) short: Short,
    pub(super) global: bool,
}

/// What is agreed with a caller, and with all together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Agreed {
    pub(super) own: Terms,
    pub(super) global: Option<Budget>,
}

impl Agreed {
    fn all(&self) -> Terms {
        Terms {
            money: self.global,
            ..Terms::default()
        }
    }
}

impl Ledger {
    /// Nothing spent; room for so many accounts of names that are not from a list that ends.
    pub fn new(most: usize) -> Self {
        Self::restored(most, 0, Account::default(), [])
    }

    /// Accounts as they were left. Times in their buckets are those of the [monotonic clock](Self::nanos) of this ledger; `next` is the
    /// number of its first request. Those of names that third parties made take of the room that there is for them.
    pub fn restored(
        most: usize,
        next: u64,
        global: Account,
        accounts: impl IntoIterator<Item = (Arc<str>, Account)>,
    ) -> Self {
        let ledger = Self(Arc::new(Inner {
            shards: Default::default(),
            global: Arc::new(Mutex::new(global)),
            strangers: AtomicUsize::new(0),
            most,
            seed: RandomState::new(),
            origin: OnceLock::new(),
            next: AtomicU64::new(next),
        }));
        for (name, account) in accounts {
            if Self::else_of(&name).is_some() {
                ledger.0.strangers.fetch_add(1, Ordering::Relaxed);
            }
            let mut shard = lock(ledger.shard(&name));
            shard.insert(name, Arc::new(Mutex::new(account)));
        }
        ledger
    }

    /// The account that is used instead of this one where there are too many of names that third parties make; none if this is no such
    /// account.
    ///
    /// ```
    /// use tollgate_middleware::budget::Ledger;
    ///
    /// assert_eq!(Ledger::else_of("team\nuser-1"), Some("team\n"));
    /// assert_eq!((Ledger::else_of("team\n"), Ledger::else_of("team")), (None, None));
    /// ```
    pub fn else_of(account: &str) -> Option<&str> {
        // No listed name has a control character.
        let (shared, own) = account.split_at(account.find('\n')? + 1);
        (!own.is_empty()).then_some(shared)
    }

    /// Nanoseconds since the first request, which this may be.
    pub fn nanos(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(*self.0.origin.get_or_init(|| now));
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Reads the account of a caller, if it has one.
    pub fn read<R>(&self, name: &str, read: impl FnOnce(&Account) -> R) -> Option<R> {
        let slot = lock(self.shard(name)).get(name).cloned();
        slot.map(|slot| read(&lock(&slot)))
    }

    /// Reads the account that is charged for what this one asks.
    pub(super) fn read_of<R>(&self, owner: &Owner, read: impl FnOnce(&Account) -> R) -> R {
        read(&lock(&self.slot(owner).1))
    }

    /// Reads the account of all together.
    pub fn read_global<R>(&self, read: impl FnOnce(&Account) -> R) -> R {
        read(&lock(&self.0.global))
    }

    fn shard(&self, name: &str) -> &Mutex<HashMap<Arc<str>, Slot>> {
        &self.0.shards[self.0.seed.hash_one(name) as usize % SHARDS]
    }

    /// The number of the next request.
    pub(super) fn number(&self) -> u64 {
        self.0.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The account that is charged, and its name.
    fn slot(&self, owner: &Owner) -> (Arc<str>, Slot) {
        let mut shard = lock(self.shard(&owner.name));
        if let Some((name, slot)) = shard.get_key_value(&*owner.name) {
            return (name.clone(), slot.clone());
        }
        if let Some(shared) = &owner.else_of
            && self.0.strangers.fetch_add(1, Ordering::Relaxed) >= self.0.most
        {
            self.0.strangers.fetch_sub(1, Ordering::Relaxed);
            drop(shard);
            let owner = Owner {
                name: shared.clone(),
                else_of: None,
            };
            return self.slot(&owner);
        }
        let mut account = Account::default();
        if owner.else_of.is_some() {
            // It may have been forgotten since its windows were over: a clock that has gone back opens none of them again.
            account = Account::opened(lock(&self.0.global).sums().dates());
        }
        let slot = Arc::new(Mutex::new(account));
        shard.insert(owner.name.clone(), slot.clone());
        (owner.name.clone(), slot)
    }

    /// Reserves in the account of a caller and in that of all, or in none of them. Both are held until that is decided, always in this
    /// order.
    pub(super) fn reserve(
        &self,
        owner: &Owner,
        agreed: &Agreed,
        worst: &Worst,
        now: u64,
        dates: Dates,
    ) -> Result<Open, Refusal> {
        let ((account, slot), global) = (self.slot(owner), self.0.global.clone());
        let (terms, of_all) = (&agreed.own, &agreed.all());
        let (own, all) = {
            let mut one = lock(&slot);
            one.check(terms, worst, now, dates)
                .map_err(|short| Refusal {
                    short,
                    global: false,
                })?;
            let mut every = lock(&global);
            every
                .check(of_all, worst, now, dates)
                .map_err(|short| Refusal {
                    short,
                    global: true,
                })?;
            (
                one.reserve(terms, worst, now, dates),
                every.reserve(of_all, worst, now, dates),
            )
        };
        Ok(Open {
            account,
            slot,
            global,
            own,
            all,
            settled: false,
        })
    }
}

/// What a budget has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) percent: u8,
    pub(super) budget: Budget,
    pub(super) spent: Usd,
    pub(super) global: bool,
}

impl Open {
    /// So much was really used. Returns the thresholds that are reached by it.
    pub(super) fn settle(
        mut self,
        agreed: &Agreed,
        tokens: u64,
        cost: Usd,
    ) -> [Option<Reached>; 2] {
        self.settled = true;
        let settle = |slot: &Slot, reserved: &Reserved, budget: Option<Budget>, global| {
            let mut account = lock(slot);
            let before = account.settle(reserved, tokens, cost);
            let budget = budget?;
            let percent = account.crossed(&before, budget)?;
            let spent = account.sums().spent(budget.per);
            Some(Reached {
                percent,
                budget,
                spent,
                global,
            })
        };
        [
            settle(&self.slot, &self.own, agreed.own.money, false),
            settle(&self.global, &self.all, agreed.global, true),
        ]
    }

    /// How the tokens of the caller stand.
    pub(super) fn read<R>(&self, read: impl FnOnce(&Account) -> R) -> R {
        read(&lock(&self.slot))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.settled {
            lock(&self.slot).settle(&self.own, 0, Usd::ZERO);
            lock(&self.global).settle(&self.all, 0, Usd::ZERO);
        }
    }
}

/// Nothing panics under the lock; a number that is whole stays whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
