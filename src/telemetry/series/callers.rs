//! Requests, tokens and money by caller, where the configuration wants that.

use std::{
    collections::HashMap,
    hash::BuildHasherDefault,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::{Ended, Mix, cell::billionths, counts::OUTCOMES};

/// The callers of one configuration that are told apart.
#[derive(Debug)]
pub(super) struct Callers {
    pub(super) named: HashMap<String, Arc<Counts>, BuildHasherDefault<Mix>>,
    /// Those that are not told apart.
    pub(super) other: Arc<Counts>,
    /// Nobody that is known.
    pub(super) none: Arc<Counts>,
}

/// What is counted for one value of the label `caller`, by worker.
#[derive(Debug)]
pub(super) struct Counts(Box<[OfWorker]>);

#[derive(Debug, Default)]
struct OfWorker {
    requests: [AtomicU64; OUTCOMES.len()],
    /// Reported and estimated, each of the input and of the output.
    tokens: [[AtomicU64; 2]; 2],
    /// Billionths of a USD, and how many requests had a price.
    cost: AtomicU64,
    priced: AtomicU64,
}

/// The sums over the workers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub(super) requests: [u64; OUTCOMES.len()],
    pub(super) tokens: [[u64; 2]; 2],
    pub(super) cost: u64,
    pub(super) priced: u64,
}

impl Callers {
    pub(super) fn of(&self, caller: Option<&str>) -> &Counts {
        match caller {
            Some(name) => self.named.get(name).unwrap_or(&self.other),
            None => &self.none,
        }
    }
}

impl Counts {
    pub(super) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| OfWorker::default()).collect())
    }

    pub(super) fn add(&self, worker: usize, ended: &Ended) {
        let counts = &self.0[worker % self.0.len()];
        counts.requests[ended.outcome as usize].fetch_add(1, Relaxed);
        let source = &counts.tokens[usize::from(!ended.reported)];
        for (sum, tokens) in source.iter().zip(ended.tokens) {
            sum.fetch_add(tokens, Relaxed);
        }
        if let Some(cost) = ended.cost {
            counts.cost.fetch_add(billionths(cost), Relaxed);
            counts.priced.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        for counts in &self.0 {
            add(&mut sums.requests, &counts.requests);
            for (sums, counts) in sums.tokens.iter_mut().zip(&counts.tokens) {
                add(sums, counts);
            }
            sums.cost += counts.cost.load(Relaxed);
            sums.priced += counts.priced.load(Relaxed);
        }
        sums
    }
}

fn add<const N: usize>(sums: &mut [u64; N], counts: &[AtomicU64; N]) {
    for (sum, count) in sums.iter_mut().zip(counts) {
        *sum += count.load(Relaxed);
    }
}
