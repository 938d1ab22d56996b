//! The sums over the workers, and over what has the same labels.

use std::{
    collections::BTreeMap,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::{
    All, CAUSES, Labels, OPERATIONS, OTHER, Series,
    cell::{Cell, ERRORS, Histogram},
    exemplars::Examples,
};

/// The sums of one operation of one series.
#[derive(Clone, Debug)]
pub(super) struct Row<'r> {
    /// Route, provider, model.
    pub(super) labels: [&'r str; 4],
    pub(super) operation: &'static str,
    pub(super) sum: Sum,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Sum {
    /// By the class of the status and the outcome.
    pub(super) requests: BTreeMap<[&'static str; 2], u64>,
    pub(super) durations: [Totals; ERRORS.len()],
    pub(super) of_provider: [Totals; ERRORS.len()],
    pub(super) first_byte: Totals,
    pub(super) first_chunk: Totals,
    pub(super) first_token: Totals,
    pub(super) server_first_token: Totals,
    pub(super) per_token: Totals,
    pub(super) per_chunk: Totals,
    /// Of durations, and of times to the first token.
    pub(super) examples: [Examples; 2],
    pub(super) usage: [Totals; 2],
    pub(super) used: [u64; 5],
    pub(super) tokens: [[u64; 2]; 2],
    pub(super) cost: u64,
    pub(super) priced: u64,
    pub(super) wasted: [u64; 2],
    pub(super) wasted_cost: u64,
    pub(super) wasted_priced: u64,
    pub(super) cut: [u64; CAUSES.len()],
}

/// The counts of a histogram, the last beyond all bounds.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Totals {
    pub(super) counts: Vec<u64>,
    /// Millionths.
    pub(super) sum: u64,
}

/// The sums of all series, an operation each; what was never counted is left out.
pub(super) fn rows(all: &All) -> Vec<Row<'_>> {
    let each = all.series.iter();
    each.flat_map(|(labels, series)| of_series(labels, series))
        .collect()
}

fn of_series<'r>(labels: &'r Labels, series: &'r Series) -> impl Iterator<Item = Row<'r>> + 'r {
    let operations = OPERATIONS.len() + 1;
    (0..operations).filter_map(move |operation| {
        let cells = series.cells[operation..].iter().step_by(operations);
        let mut sum = Sum::default();
        let mut seen = false;
        for cell in cells.filter_map(OnceLock::get) {
            sum.add(cell);
            seen = true;
        }
        seen.then(|| Row {
            labels: labels.each_ref().map(|label| &**label),
            operation: name(operation),
            sum,
        })
    })
}

/// The word of an operation.
pub(super) fn name(operation: usize) -> &'static str {
    OPERATIONS.get(operation).copied().unwrap_or(OTHER)
}

/// Rows of the same labels, summed.
pub(super) fn grouped<'r, const L: usize>(
    rows: &[Row<'r>],
    labels: impl Fn(&Row<'r>) -> [&'r str; L],
) -> BTreeMap<[&'r str; L], Sum> {
    let mut groups = BTreeMap::<_, Sum>::new();
    for row in rows {
        groups.entry(labels(row)).or_default().merge(&row.sum);
    }
    groups
}

impl Totals {
    fn add(&mut self, counts: impl ExactSizeIterator<Item = u64>, sum: u64) {
        self.counts.resize(counts.len().max(self.counts.len()), 0);
        self.counts
            .iter_mut()
            .zip(counts)
            .for_each(|(all, one)| *all += one);
        self.sum += sum;
    }

    /// Adds what a worker has counted.
    pub(in super::super) fn take<const N: usize>(&mut self, from: &Histogram<N>) {
        let mut counts: Vec<u64> = from
            .counts
            .iter()
            .map(|count| count.load(Relaxed))
            .collect();
        counts.push(from.beyond.load(Relaxed));
        self.add(counts.into_iter(), from.sum.load(Relaxed));
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.add(other.counts.iter().copied(), other.sum);
    }

    /// The sum of several.
    pub(super) fn of_all(all: &[Self]) -> Self {
        let mut sum = Self::default();
        all.iter().for_each(|one| sum.merge(one));
        sum
    }

    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

impl Sum {
    fn add(&mut self, cell: &Cell) {
        for (labels, count) in cell.requests.each() {
            *self.requests.entry(labels).or_default() += count;
        }
        for (at, durations) in cell.durations.iter().enumerate() {
            if let Some(durations) = durations.get() {
                self.durations[at].take(&durations.all);
                self.of_provider[at].take(&durations.of_provider);
            }
        }
        self.first_byte.take(&cell.first_byte);
        self.first_chunk.take(&cell.first_chunk);
        self.first_token.take(&cell.first_token);
        self.server_first_token.take(&cell.server_first_token);
        self.per_token.take(&cell.per_token);
        self.per_chunk.take(&cell.per_chunk);
        for (all, one) in self
            .examples
            .iter_mut()
            .zip(cell.examples.get().into_iter().flat_map(|it| &**it))
        {
            all.take(one);
        }
        for at in [0, 1] {
            self.usage[at].take(&cell.usage[at]);
            for source in [0, 1] {
                add(&mut self.tokens[source][at], &cell.tokens[source][at]);
            }
            add(&mut self.wasted[at], &cell.wasted[at]);
        }
        for (all, one) in self.used.iter_mut().zip(&cell.used) {
            add(all, one);
        }
        add(&mut self.cost, &cell.cost);
        add(&mut self.priced, &cell.priced);
        add(&mut self.wasted_cost, &cell.wasted_cost);
        add(&mut self.wasted_priced, &cell.wasted_priced);
        for (all, one) in self.cut.iter_mut().zip(&cell.cut) {
            add(all, one);
        }
    }

    fn merge(&mut self, other: &Self) {
        for (labels, count) in &other.requests {
            *self.requests.entry(*labels).or_default() += count;
        }
        for at in 0..ERRORS.len() {
            self.durations[at].merge(&other.durations[at]);
            self.of_provider[at].merge(&other.of_provider[at]);
        }
        self.first_byte.merge(&other.first_byte);
        self.first_chunk.merge(&other.first_chunk);
        self.first_token.merge(&other.first_token);
        self.server_first_token.merge(&other.server_first_token);
        self.per_token.merge(&other.per_token);
        self.per_chunk.merge(&other.per_chunk);
        for (all, one) in self.examples.iter_mut().zip(&other.examples) {
            all.merge(one);
        }
        for at in [0, 1] {
            self.usage[at].merge(&other.usage[at]);
            for source in [0, 1] {
                self.tokens[source][at] += other.tokens[source][at];
            }
            self.wasted[at] += other.wasted[at];
        }
        for (all, one) in self.used.iter_mut().zip(other.used) {
            *all += one;
        }
        self.cost += other.cost;
        self.priced += other.priced;
        self.wasted_cost += other.wasted_cost;
        self.wasted_priced += other.wasted_priced;
        for (all, one) in self.cut.iter_mut().zip(other.cut) {
            *all += one;
        }
    }
}

fn add(sum: &mut u64, one: &AtomicU64) {
    *sum += one.load(Relaxed);
}
