//! Plain counts: statuses and outcomes, calls to providers, and where one went on to another.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tollgate_middleware::record::{Attempt, Ended};

/// Requests by the class of their status and how they ended.
#[derive(Debug)]
pub(super) struct Statuses([[AtomicU64; OUTCOMES.len()]; CLASSES.len()]);

impl Default for Statuses {
    fn default() -> Self {
        Self([const { [const { AtomicU64::new(0) }; OUTCOMES.len()] }; CLASSES.len()])
    }
}

impl Statuses {
    pub(super) fn add(&self, status: u16, ended: Ended) {
        let class = match status / 100 {
            class @ 1..=5 => usize::from(class),
            _ => 0,
        };
        self.0[class][ended as usize].fetch_add(1, Relaxed);
    }

    /// Each count that is not zero, by its labels.
    pub(super) fn each(&self) -> impl Iterator<Item = ([&'static str; 2], u64)> + '_ {
        self.0.iter().zip(CLASSES).flat_map(|(counts, class)| {
            let counts = counts.iter().map(|count| count.load(Relaxed));
            let named = counts.zip(OUTCOMES);
            named
                .filter(|(count, _)| *count > 0)
                .map(move |(count, outcome)| ([class, outcome], count))
        })
    }
}

/// A count of each worker.
#[derive(Debug)]
pub(super) struct Count(Box<[AtomicU64]>);

impl Count {
    pub(super) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| AtomicU64::new(0)).collect())
    }

    pub(super) fn add(&self, worker: usize) {
        if let Some(count) = self.0.get(worker) {
            count.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn sum(&self) -> u64 {
        self.0.iter().map(|count| count.load(Relaxed)).sum()
    }
}

/// The calls to one provider, by what came of them.
#[derive(Debug)]
pub(super) struct Asked([Count; REASONS.len()]);

impl Asked {
    pub(super) fn new(workers: usize) -> Self {
        Self(REASONS.map(|_| Count::new(workers)))
    }

    pub(super) fn add(&self, worker: usize, attempt: &Attempt) {
        self.0[reason(attempt)].add(worker);
    }

    /// Each count that is not zero.
    pub(super) fn each(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = self.0.iter().map(Count::sum);
        REASONS
            .into_iter()
            .zip(counts)
            .filter(|(_, count)| *count > 0)
    }
}

/// Where requests went on from one provider to another: a matrix over those of a route.
#[derive(Debug)]
pub(super) struct Failovers {
    pub(super) providers: usize,
    /// By the one and the other.
    pub(super) counts: Box<[Arc<Count>]>,
}

impl Failovers {
    pub(super) fn add(&self, worker: usize, from: usize, to: usize) {
        if let Some(count) = self.counts.get(from * self.providers + to) {
            count.add(worker);
        }
    }
}

/// What came of a call, as an index into [`REASONS`].
fn reason(attempt: &Attempt) -> usize {
    let word = match (attempt.error, attempt.status) {
        (Some(word), _) => word,
        (None, Some(429)) => "429",
        (None, Some(status)) => match status / 100 {
            4 => "4xx",
            5 => "5xx",
            _ => "ok",
        },
        // Its client left before the head.
        (None, None) => "unanswered",
    };
    let known = REASONS.iter().position(|reason| *reason == word);
    known.unwrap_or(REASONS.len() - 1)
}

/// The words of the label `reason`: those of the log's `attempts[].error`, and what a head says.
pub(super) const REASONS: [&str; 16] = [
    "ok",
    "429",
    "4xx",
    "5xx",
    "unanswered",
    "connect",
    "tls",
    "closed",
    "protocol",
    "timeout",
    "truncated",
    "stream_error",
    "circuit",
    "saturated",
    "credential",
    "other",
];

/// Values of the label `status_class`, by hundreds.
pub(super) const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Values of the label `outcome`, in the order of [`Ended::ALL`].
pub(super) const OUTCOMES: [&str; Ended::ALL.len()] = {
    let mut words = [""; Ended::ALL.len()];
    let mut at = 0;
    while at < words.len() {
        words[at] = Ended::ALL[at].as_str();
        at += 1;
    }
    words
};
