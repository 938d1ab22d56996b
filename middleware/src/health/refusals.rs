//! Refusals that follow each other: who refuses is left alone for twice as long each time, but not for what was asked before it was.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// What an attempt knew of refusals when it began: a refusal that it meets says nothing new if one has counted since. Small, as each
/// request holds one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Begun(u32);

/// The refusals of one sender that counted, of whatever kind. They are never taken back, so that attempts can go by them.
#[derive(Debug, Default)]
pub(super) struct Refusals(AtomicU32);

/// Refusals of one kind, one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Row {
    times: u32,
    /// What an attempt knows that began behind the last of them.
    last: u32,
    /// When the last one came.
    at: Option<Instant>,
}

/// How long to leave alone who refuses: for the first time, and at the most.
pub(super) type Bounds = (Duration, Duration);

impl Refusals {
    /// An attempt begins.
    pub(super) fn begin(&self) -> Begun {
        Begun(self.0.load(Ordering::Acquire))
    }

    /// One more refusal of this row, met by an attempt that began so: for how long to leave its sender alone. `None` if the attempt had
    /// begun before the last one that counted: then it is that one.
    pub(super) fn count(
        &self,
        row: &mut Row,
        begun: Begun,
        (first, most): Bounds,
        now: Instant,
    ) -> Option<Duration> {
        if !row.is_known(begun) {
            return None;
        }
        let factor = 1_u32.checked_shl(row.times.min(31)).unwrap_or(u32::MAX);
        row.times = row.times.saturating_add(1);
        self.told(row, now);
        Some(first.saturating_mul(factor).min(most))
    }

    /// One more refusal of this row, whose sender says for how long to leave it alone: it doubles nothing.
    pub(super) fn told(&self, row: &mut Row, now: Instant) {
        // Only who holds the lock of the row writes. Were it ever full, each would count.
        row.last = self.0.load(Ordering::Relaxed).saturating_add(1);
        self.0.store(row.last, Ordering::Release);
        row.at = Some(now);
    }
}

impl Row {
    /// Whether an attempt that began so began behind all of them: what comes of it is news.
    pub(super) fn is_known(&self, begun: Begun) -> bool {
        begun.0 >= self.last
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.last == 0
    }

    /// What an attempt knows that began so, and was sent at this moment.
    pub(super) fn sent(&self, begun: Begun, sent: Instant) -> Begun {
        let behind = self.at.is_some_and(|at| at < sent);
        if behind && !self.is_known(begun) {
            return Begun(self.last);
        }
        begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    const BOUNDS: Bounds = (Duration::from_secs(10), Duration::from_secs(60));

    fn seconds(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    /// Ten answers at once were ten refusals, and parked for an hour.
    #[test]
    fn attempts_that_run_at_once_meet_one_refusal() {
        let (refusals, mut row) = (Refusals::default(), Row::default());
        let now = SystemClock.now();
        let mut expected = [10, 20, 40, 60, 60].into_iter();
        for _ in 0..5 {
            let at_once: Vec<_> = (0..10).map(|_| refusals.begin()).collect();
            let mut count = |begun| refusals.count(&mut row, begun, BOUNDS, now);
            let waits: Vec<_> = at_once.into_iter().map(&mut count).collect();
            assert_eq!(waits[0], expected.next().and_then(seconds));
            assert_eq!(waits[1..], [None; 9]);
        }
    }

    /// One that began between two others' refusals was told of the first one only.
    #[test]
    fn who_began_behind_a_refusal_counts_unless_another_one_came_since() {
        let (refusals, mut row) = (Refusals::default(), Row::default());
        let now = SystemClock.now();
        let early = [refusals.begin(), refusals.begin()];
        assert_eq!(refusals.count(&mut row, early[0], BOUNDS, now), seconds(10));
        let late = [refusals.begin(), refusals.begin()];
        assert_eq!(refusals.count(&mut row, early[1], BOUNDS, now), None);
        assert_eq!(refusals.count(&mut row, late[1], BOUNDS, now), seconds(20));
        assert_eq!(refusals.count(&mut row, late[0], BOUNDS, now), None);
    }

    #[test]
    fn rows_and_what_follows_a_success_begin_anew() {
        let (refusals, now) = (Refusals::default(), SystemClock.now());
        let (mut one, mut other, begun) = (Row::default(), Row::default(), refusals.begin());
        assert_eq!(refusals.count(&mut one, begun, BOUNDS, now), seconds(10));
        assert_eq!(refusals.count(&mut other, begun, BOUNDS, now), seconds(10));
        assert_eq!(
            refusals.count(&mut other, refusals.begin(), BOUNDS, now),
            seconds(20)
        );
        assert_eq!(
            refusals.count(&mut Row::default(), begun, BOUNDS, now),
            seconds(10)
        );
    }

    /// It stood in a queue between.
    #[test]
    fn who_began_before_a_refusal_and_is_sent_behind_it_knows_of_it() {
        let (refusals, mut row) = (Refusals::default(), Row::default());
        let now = SystemClock.now();
        let [early, waits] = [refusals.begin(), refusals.begin()];
        assert_eq!(refusals.count(&mut row, early, BOUNDS, now), seconds(10));
        assert_eq!(
            row.sent(waits, now),
            waits,
            "nobody can tell which was first"
        );
        let knows = row.sent(waits, now + Duration::from_nanos(1));
        assert_eq!(refusals.count(&mut row, waits, BOUNDS, now), None);
        assert_eq!(refusals.count(&mut row, knows, BOUNDS, now), seconds(20));
    }
}
