//! One request of each bucket, by the trace that its caller named.

use std::{
    fmt::Write as _,
    sync::{Mutex, PoisonError, TryLockError},
    time::SystemTime,
};

use tollgate_middleware::record::TraceId;

use super::cell::SECONDS;

/// One request for each bucket, the last beyond all bounds; each new one takes the place of the one before.
#[derive(Debug, Default)]
pub(super) struct Slots([Mutex<Option<Example>>; BUCKETS]);

/// A request that took so many seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Example {
    trace: TraceId,
    at: SystemTime,
    seconds: f64,
}

/// The latest ones of all workers, by bucket.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Examples([Option<Example>; BUCKETS]);

const BUCKETS: usize = SECONDS.len() + 1;

impl Slots {
    /// Puts a request in its bucket. Nobody waits: while somebody reads there, or writes, it is left out.
    pub(super) fn put(
        &self,
        trace: TraceId,
        at: SystemTime,
        seconds: f64,
        bounds: &[f64; BUCKETS - 1],
    ) {
        let bucket = bounds.partition_point(|bound| *bound < seconds);
        let slot = match self.0[bucket].try_lock() {
            Ok(slot) => Some(slot),
            Err(TryLockError::Poisoned(slot)) => Some(slot.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        if let Some(mut slot) = slot {
            *slot = Some(Example { trace, at, seconds });
        }
    }
}

impl Examples {
    /// Takes those of a worker that are later.
    pub(super) fn take(&mut self, slots: &Slots) {
        for (own, slot) in self.0.iter_mut().zip(&slots.0) {
            let other = *slot.lock().unwrap_or_else(PoisonError::into_inner);
            later(own, other);
        }
    }

    pub(super) fn merge(&mut self, others: &Self) {
        for (own, other) in self.0.iter_mut().zip(&others.0) {
            later(own, *other);
        }
    }

    /// As OpenMetrics has them behind the line of their bucket, in the order of these.
    pub(in super::super) fn texts(&self) -> impl Iterator<Item = Option<String>> {
        self.0.iter().map(|it| it.map(|it| it.text()))
    }
}

fn later(own: &mut Option<Example>, other: Option<Example>) {
    if own.is_none_or(|own| other.is_some_and(|other| other.at > own.at)) {
        *own = other;
    }
}

impl Example {
    fn text(&self) -> String {
        let mut text = format!("# {{trace_id=\"{}\"}} {}", self.trace, self.seconds);
        if let Ok(since) = self.at.duration_since(SystemTime::UNIX_EPOCH) {
            // Writing to a string does not fail.
            let _ = write!(text, " {}.{:03}", since.as_secs(), since.subsec_millis());
        }
        text
    }
}
