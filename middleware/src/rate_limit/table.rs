//! The cells of all keys: sharded, bounded, exact under threads.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, OnceLock, PoisonError},
    time::Instant,
};

use super::{
    cell::{Cell, Charge},
    key::{Counted, Id},
    lease::{Lease, shares},
};
use crate::sync::{Mutex, MutexGuard};

/// The cells of one limit. Clones are the same cells: workers share them, and a reload hands them on.
#[derive(Clone, Debug)]
pub struct Cells(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shards: [Mutex<Shard>; SHARDS],
    // Keys in each shard that may be evicted.
    most: usize,
    // Two, for 128 bits: what a key is called is not kept, and no caller can aim at the cell of another.
    seeds: [RandomState; 2],
    // What times are measured from.
    origin: OnceLock<Instant>,
}

/// What is kept of a key.
pub(super) type Tag = [u64; 2];

#[derive(Debug, Default)]
pub(super) struct Shard {
    cells: HashMap<Tag, Slot>,
    // Cells that may be evicted.
    strangers: usize,
    // For those who find no room; one for each shard.
    overflow: Option<Cell>,
    // Before this moment no cell is full again.
    next_full: u64,
}

#[derive(Debug)]
struct Slot {
    cell: Cell,
    // Where other processes count, too: what this one has of it. The cell is then what it may do by itself.
    lease: Option<Box<Lease>>,
    listed: bool,
}

const SHARDS: usize = 16;
/// Nanoseconds between two sweeps of a shard.
const REST: u64 = 1_000_000;

impl Cells {
    /// Room for about so many keys that are not listed; those that are have room of their own.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Inner {
            shards: Default::default(),
            most: most.div_ceil(SHARDS),
            seeds: Default::default(),
            origin: OnceLock::new(),
        }))
    }

    /// How many keys have a cell.
    pub fn len(&self) -> usize {
        let shards = self.0.shards.iter();
        shards.map(|shard| lock(shard).cells.len()).sum()
    }

    /// Whether no key has a cell.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is left to a key: the lowest share of any of its quotas, from 0 to 1. `None` where it has no cell, or others count in a store,
    /// too.
    pub fn left(&self, id: &Id<'_>, now: Instant) -> Option<f64> {
        let (tag, now) = (self.tag(id), self.nanos(now));
        let shard = self.shard(tag);
        shard.cells.get(&tag)?.left(now)
    }

    /// The same to the key that has the least, of those that are not listed. Takes each lock once: for those who look now and then.
    pub fn least_left_unlisted(&self, now: Instant) -> Option<f64> {
        let now = self.nanos(now);
        let least = self.0.shards.iter().filter_map(|shard| {
            let shard = lock(shard);
            let unlisted = shard.cells.values().filter(|slot| !slot.listed);
            unlisted.filter_map(|slot| slot.left(now)).reduce(f64::min)
        });
        least.reduce(f64::min)
    }

    pub(super) fn are(&self, others: &Self) -> bool {
        Arc::ptr_eq(&self.0, &others.0)
    }

    /// Nanoseconds since the first request.
    pub(super) fn nanos(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(*self.0.origin.get_or_init(|| now));
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn tag(&self, id: &Id<'_>) -> Tag {
        [0, 1].map(|seed: usize| self.0.seeds[seed].hash_one(id))
    }

    pub(super) fn shard(&self, tag: Tag) -> MutexGuard<'_, Shard> {
        lock(&self.0.shards[tag[0] as usize % SHARDS])
    }

    /// The cell of a key, made if need be; that of all who find no room if there is none. The flag says whether it is the key's own.
    pub(super) fn cell<'a>(
        &self,
        shard: &'a mut Shard,
        tag: Tag,
        counted: &Counted<'_>,
        now: u64,
    ) -> (&'a mut Cell, bool) {
        let Counted { quotas, listed, .. } = counted;
        let known = shard.cells.contains_key(&tag);
        if !known && !listed && shard.strangers >= self.0.most {
            shard.sweep(now);
            if shard.strangers >= self.0.most {
                let shared = shard.overflow.get_or_insert_with(|| Cell::new(quotas));
                shared.adopt(quotas, now);
                return (shared, false);
            }
        }
        shard.strangers += usize::from(!known && !listed);
        let slot = shard.cells.entry(tag).or_insert_with(|| Slot {
            cell: Cell::new(quotas),
            lease: None,
            listed: *listed,
        });
        slot.cell.adopt(quotas, now);
        (&mut slot.cell, true)
    }

    /// As [`cell`](Self::cell), where so many processes count together: what this one may do by itself, and, unless the key finds no room,
    /// what it has of the whole.
    pub(super) fn shared<'a>(
        &self,
        shard: &'a mut Shard,
        tag: Tag,
        counted: &Counted<'_>,
        replicas: u32,
        now: u64,
    ) -> (&'a mut Cell, Option<&'a mut Lease>) {
        // The quotas of the cell are those that the lease keeps: made once, and known by their place.
        let known = shard.cells.get_mut(&tag);
        let lease = known.and_then(|slot| slot.lease.as_mut());
        let shares = match lease {
            Some(lease) => {
                lease.adopt(&counted.quotas, now);
                lease.shares().clone()
            }
            None => shares(&counted.quotas, replicas),
        };
        let share = Counted {
            quotas: shares,
            ..*counted
        };
        let (_, own) = self.cell(shard, tag, &share, now);
        if !own {
            // Once more: what was borrowed for the question cannot be kept.
            return (self.cell(shard, tag, &share, now).0, None);
        }
        let slot = shard.cells.entry(tag).or_insert_with(|| Slot {
            cell: Cell::new(&share.quotas),
            lease: None,
            listed: counted.listed,
        });
        let lease = slot.lease.get_or_insert_with(|| {
            Box::new(Lease::new(&counted.quotas, share.quotas.clone(), replicas))
        });
        (&mut slot.cell, Some(lease))
    }
}

impl Slot {
    /// The lowest share of any quota.
    fn left(&self, now: u64) -> Option<f64> {
        let levels = self.lease.is_none().then(|| self.cell.levels(now))?;
        let shares = levels.map(|it| f64::from(it.left) / f64::from(it.quota.burst().max(1)));
        shares.reduce(f64::min)
    }
}

impl Shard {
    /// Evicts what is full again: nobody can tell it from a new cell.
    fn sweep(&mut self, now: u64) {
        if now < self.next_full {
            return;
        }
        let mut next = u64::MAX;
        self.cells.retain(|_, slot| {
            let cell = slot.cell.full_at();
            let lease = slot.lease.as_ref().map_or(Some(0), |it| it.over_at());
            let full = cell.zip(lease).map(|(cell, lease)| cell.max(lease));
            let keeps = slot.listed || full.is_none_or(|full| full > now);
            if keeps && !slot.listed {
                next = next.min(full.unwrap_or(now));
            }
            keeps
        });
        self.strangers = self.cells.values().filter(|slot| !slot.listed).count();
        // Charges move these moments on; what is given back moves them back, and such a cell is found a little later. A
        // flood of strangers makes nobody look all the time.
        self.next_full = next.max(now.saturating_add(REST));
    }

    pub(super) fn get(&mut self, tag: Tag) -> Option<(&mut Cell, Option<&mut Lease>)> {
        let slot = self.cells.get_mut(&tag)?;
        Some((&mut slot.cell, slot.lease.as_deref_mut()))
    }
}

/// A charge that the layers inside may still have given back; kept when it is dropped.
#[derive(Debug)]
pub(super) struct Open {
    cells: Cells,
    tag: Tag,
    how: How,
    back: bool,
}

/// How a request was counted.
#[derive(Clone, Copy, Debug)]
pub(super) enum How {
    /// Here, and nowhere else.
    Here(Charge),
    /// In a store, by a lease.
    Leased,
    /// Here, while the store is away.
    Alone(Charge),
}

impl Open {
    pub(super) fn new(cells: Cells, tag: Tag, how: How) -> Self {
        Self {
            cells,
            tag,
            how,
            back: false,
        }
    }

    pub(super) fn is_of(&self, cells: &Cells) -> bool {
        self.cells.are(cells)
    }

    pub(super) fn give_back(mut self) {
        self.back = true;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // A cell with an open charge is never evicted; one with a lease may be, and what is left of that with it.
        let mut shard = self.cells.shard(self.tag);
        let Some((cell, lease)) = shard.get(self.tag) else {
            return;
        };
        match (self.how, self.back) {
            (How::Here(charge) | How::Alone(charge), false) => cell.keep(charge),
            (How::Here(charge), true) => cell.give_back(charge),
            (How::Alone(charge), true) => {
                cell.give_back(charge);
                if let Some(lease) = lease {
                    lease.not_alone();
                }
            }
            (How::Leased, false) => {}
            (How::Leased, true) => {
                cell.unnote();
                if let Some(lease) = lease {
                    lease.give_back();
                }
            }
        }
    }
}

/// Nothing panics under the lock; a number that is whole stays whole.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
