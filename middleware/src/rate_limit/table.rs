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
            listed: *listed,
        });
        slot.cell.adopt(quotas, now);
        (&mut slot.cell, true)
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
            let full = slot.cell.full_at();
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

    pub(super) fn get(&mut self, tag: Tag) -> Option<&mut Cell> {
        self.cells.get_mut(&tag).map(|slot| &mut slot.cell)
    }
}

/// A charge that the layers inside may still have given back; kept when it is dropped.
#[derive(Debug)]
pub(super) struct Open {
    cells: Cells,
    tag: Tag,
    charge: Charge,
    back: bool,
}

impl Open {
    pub(super) fn new(cells: Cells, tag: Tag, charge: Charge) -> Self {
        Self {
            cells,
            tag,
            charge,
            back: false,
        }
    }

    pub(super) fn give_back(mut self) {
        self.back = true;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // A cell with an open charge is never evicted.
        if let Some(cell) = self.cells.shard(self.tag).get(self.tag) {
            if self.back {
                cell.give_back(self.charge);
            } else {
                cell.keep(self.charge);
            }
        }
    }
}

/// Nothing panics under the lock; a number that is whole stays whole.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
