//! Counts what code allocates, on the thread that runs it.
//!
//! The feature `alloc` links the crate `allocation-counter`, which is then the global allocator of the test binary: the
//! system's, with counters of each thread. It excludes another global allocator in the same binary. Growing a vector counts as
//! one more allocation of its new size.

use std::{future::poll_fn, ops::AddAssign, pin::pin};

/// What was allocated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocations {
    /// Number of allocations.
    pub count: u64,
    /// Bytes asked for, freed or not.
    pub bytes: u64,
}

/// Runs the closure and counts what it allocates. Other threads and other tests do not count.
///
/// ```
/// # use tollgate_testing::alloc::count;
/// let mut vec = Vec::<u8>::with_capacity(64);
/// assert_eq!(count(|| vec.extend_from_slice(&[0; 64])).count, 0);
/// ```
pub fn count(run: impl FnOnce()) -> Allocations {
    let counted = allocation_counter::measure(run);
    Allocations {
        count: counted.count_total,
        bytes: counted.bytes_total,
    }
}

/// What is alive of what was allocated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alive {
    /// Bytes that were not freed in the end; below zero where older ones were.
    pub left: i64,
    /// Most bytes at any one moment.
    pub most: u64,
}

/// Runs the closure and counts what is alive of what it allocates. Other threads and other tests do not count.
///
/// ```
/// # use tollgate_testing::alloc::alive;
/// let mut kept = Vec::new();
/// let counted = alive(|| {
///     drop(std::hint::black_box(Box::new([0_u8; 1000])));
///     kept = std::hint::black_box(vec![0_u8; 10]);
/// });
/// assert_eq!((counted.left, counted.most), (10, 1000));
/// ```
pub fn alive(run: impl FnOnce()) -> Alive {
    let counted = allocation_counter::measure(run);
    Alive {
        left: counted.bytes_current,
        most: counted.bytes_max,
    }
}

/// Runs the future and counts what its polls allocate, in whatever task and on whatever thread they happen.
///
/// What it spawns is polled elsewhere and does not count.
pub async fn count_polls<T>(run: impl Future<Output = T>) -> (T, Allocations) {
    let (mut run, mut all) = (pin!(run), Allocations::default());
    let out = poll_fn(|cx| {
        let mut polled = None;
        all += count(|| polled = Some(run.as_mut().poll(cx)));
        polled.expect("the closure was run")
    })
    .await;
    (out, all)
}

impl AddAssign for Allocations {
    fn add_assign(&mut self, more: Self) {
        self.count += more.count;
        self.bytes += more.bytes;
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[test]
    fn allocations_are_counted_with_their_bytes() {
        let boxes = || {
            for _ in 0..3 {
                drop(black_box(Box::new([0_u8; 100])));
            }
        };
        assert_eq!(
            count(boxes),
            Allocations {
                count: 3,
                bytes: 300
            }
        );
        assert_eq!(count(|| _ = black_box(1)), Allocations::default());
    }

    #[test]
    fn other_threads_do_not_count() {
        let (go, wait) = std::sync::mpsc::sync_channel::<()>(0);
        let (told, done) = std::sync::mpsc::sync_channel::<()>(0);
        let other = std::thread::spawn(move || {
            wait.recv().unwrap();
            let kept = black_box(vec![0_u8; 1 << 20]);
            told.send(()).unwrap();
            kept.len()
        });
        let counted = count(|| {
            go.send(()).unwrap();
            done.recv().unwrap();
        });
        assert_eq!(other.join().unwrap(), 1 << 20);
        assert!(counted.bytes < 1 << 20, "{counted:?}");
    }

    #[tokio::test]
    async fn polls_of_a_future_are_counted_and_what_it_waits_for_is_not() {
        let other = async {
            for _ in 0..10 {
                drop(black_box(Box::new([0_u8; 100])));
                tokio::task::yield_now().await;
            }
        };
        let counted = count_polls(async {
            drop(black_box(Box::new([0_u8; 7])));
            tokio::task::yield_now().await;
            drop(black_box(Box::new([0_u8; 7])));
        });
        let ((), ((), counted)) = tokio::join!(other, counted);
        // The runtime may allocate when a task yields; the boxes of the other future would show in the bytes.
        assert!(
            counted.count >= 2 && (14..1000).contains(&counted.bytes),
            "{counted:?}"
        );
    }
}
