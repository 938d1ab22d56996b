use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Room for the bytes that requests, and answers, hold in memory.
///
/// Divided among workers, each of which counts for itself: as long as one is within its share it looks at
/// no other. So the sum may be over the limit by what workers take in the same moment.
///
/// ```
/// use tollgate_middleware::body::Room;
///
/// let room = Room::new(100);
/// let mut one = room.take();
/// assert!(one.more(80));
/// assert!(!room.take().more(30));
/// drop(one);
/// assert!(room.take().more(30));
/// ```
#[derive(Clone, Debug)]
pub struct Room {
    shares: Arc<[Share]>,
    mine: usize,
    limit: u64,
}

/// On a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Share(AtomicU64);

impl Room {
    /// Room for `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self {
            shares: Arc::new([Share::default()]),
            mine: 0,
            limit,
        }
    }

    /// Room for `limit` bytes in all, for so many workers (at least one).
    pub fn divided(limit: u64, workers: usize) -> Vec<Self> {
        let workers = workers.max(1);
        let shares: Arc<[Share]> = (0..workers).map(|_| Share::default()).collect();
        let one = |mine| Self {
            shares: shares.clone(),
            mine,
            limit,
        };
        (0..workers).map(one).collect()
    }

    /// Bytes that are held at present, by all.
    pub fn used(&self) -> u64 {
        self.shares.iter().map(|share| share.0.load(Relaxed)).sum()
    }

    /// Nothing yet, for a request that begins to hold.
    pub fn take(&self) -> Taken {
        Taken {
            room: self.clone(),
            bytes: 0,
        }
    }

    fn mine(&self) -> &AtomicU64 {
        &self.shares[self.mine].0
    }
}

/// What a request holds; given back when it is dropped.
#[derive(Debug)]
pub struct Taken {
    room: Room,
    bytes: u64,
}

impl Taken {
    /// Takes so many bytes more; false, and nothing taken, if there is no room for them.
    pub fn more(&mut self, bytes: usize) -> bool {
        let (bytes, room) = (bytes as u64, &self.room);
        let mine = room.mine().fetch_add(bytes, Relaxed) + bytes;
        let fits = mine <= room.limit / room.shares.len() as u64 || room.used() <= room.limit;
        if fits {
            self.bytes += bytes;
        } else {
            room.mine().fetch_sub(bytes, Relaxed);
        }
        fits
    }

    /// Bytes that are taken.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives back all that was taken.
    pub fn give_back(&mut self) {
        self.room.mine().fetch_sub(self.bytes, Relaxed);
        self.bytes = 0;
    }
}

impl Clone for Taken {
    /// Counts the same bytes once more, for who holds them too; also where there is no room for them.
    fn clone(&self) -> Self {
        self.room.mine().fetch_add(self.bytes, Relaxed);
        Self {
            room: self.room.clone(),
            bytes: self.bytes,
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_worker_may_use_what_others_leave_and_no_more() {
        let rooms = Room::divided(100, 4);
        let mut most = rooms[0].take();
        assert!(most.more(90));
        let mut other = rooms[3].take();
        assert!(other.more(10) && rooms[1].used() == 100);
        // Within its own share a worker does not ask: at most the shares of the others come on top.
        assert!(rooms[1].take().more(25));
        assert!(!rooms[1].take().more(26));
        assert!(!most.more(1));
        drop(other);
        assert!(most.more(10));
        assert_eq!(most.bytes(), 100);
        most.give_back();
        assert_eq!((most.bytes(), rooms[2].used()), (0, 0));
    }

    proptest! {
        #[test]
        fn what_was_taken_is_given_back_whatever_happened(
            steps in prop::collection::vec((0usize..3, 0usize..60, any::<bool>()), 0..50),
        ) {
            let rooms = Room::divided(100, 3);
            let mut held: Vec<Taken> = Vec::new();
            for (worker, bytes, ends) in steps {
                let mut taken = rooms[worker].take();
                let before = rooms[0].used();
                let fits = taken.more(bytes);
                prop_assert_eq!(rooms[0].used(), before + if fits { bytes as u64 } else { 0 });
                held.push(taken.clone());
                held.push(taken);
                if ends {
                    held.swap_remove(0);
                }
            }
            drop(held);
            prop_assert_eq!(rooms[2].used(), 0);
        }
    }
}
