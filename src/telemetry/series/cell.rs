//! What is counted for one operation of one series, by one worker.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tollgate_middleware::record::{self, Gaps};

use super::{CAUSES, Ended, Wasted, counts::Statuses, exemplars::Slots};

#[derive(Debug, Default)]
pub(super) struct Cell {
    pub(super) requests: Statuses,
    /// By the type of the error; most requests have none.
    pub(super) durations: [OnceLock<Box<Durations>>; ERRORS.len()],
    pub(super) first_byte: Histogram<16>,
    pub(super) first_chunk: Histogram<14>,
    pub(super) first_token: Histogram<16>,
    pub(super) server_first_token: Histogram<16>,
    pub(super) per_token: Histogram<13>,
    pub(super) per_chunk: Histogram<14>,
    /// Of durations, and of times to the first token; only where a caller names a trace.
    pub(super) examples: OnceLock<Box<[Slots; 2]>>,
    /// Of the input, of the output.
    pub(super) usage: [Histogram<14>; 2],
    /// In the order of [`Usage::counts`](super::Usage).
    pub(super) used: [AtomicU64; 5],
    /// Reported and estimated, each of the input and of the output.
    pub(super) tokens: [[AtomicU64; 2]; 2],
    /// Billionths of a USD, and how many requests had a price.
    pub(super) cost: AtomicU64,
    pub(super) priced: AtomicU64,
    /// The same of answers that were thrown away.
    pub(super) wasted: [AtomicU64; 2],
    pub(super) wasted_cost: AtomicU64,
    pub(super) wasted_priced: AtomicU64,
    pub(super) cut: [AtomicU64; CAUSES.len()],
}

/// How long requests took.
#[derive(Debug, Default)]
pub(super) struct Durations {
    /// From their arrival.
    pub(super) all: Histogram<16>,
    /// From the moment at which the last attempt had gone out.
    pub(super) of_provider: Histogram<14>,
}

/// Counts between bounds, and beyond the last.
#[derive(Debug)]
pub(in super::super) struct Histogram<const N: usize> {
    pub(super) counts: [AtomicU64; N],
    pub(super) beyond: AtomicU64,
    /// Millionths.
    pub(super) sum: AtomicU64,
}

impl Cell {
    pub(super) fn ended(&self, ended: &Ended) {
        self.requests.add(ended.status, ended.outcome);
        self.times(ended);
        let source = &self.tokens[usize::from(!ended.reported)];
        for (sum, tokens) in source.iter().zip(ended.tokens) {
            sum.fetch_add(tokens, Relaxed);
        }
        // What is guessed has no place in these.
        if let Some(usage) = &ended.usage {
            self.usage[0].observe(usage.input as f64, &USAGE);
            self.usage[1].observe(usage.output as f64, &USAGE);
            for (sum, tokens) in self.used.iter().zip(usage.counts()) {
                sum.fetch_add(tokens, Relaxed);
            }
        }
        if let Some(count) = ended.cut.and_then(|cause| self.cut.get(cause)) {
            count.fetch_add(1, Relaxed);
        }
        if let Some(cost) = ended.cost {
            self.cost.fetch_add(billionths(cost), Relaxed);
            self.priced.fetch_add(1, Relaxed);
        }
    }

    fn times(&self, ended: &Ended) {
        let durations = self.durations[error(ended)].get_or_init(Box::default);
        let seconds = ended.duration.as_secs_f64();
        if ended.trace.is_some() {
            self.example(ended);
        }
        self.per_chunk.take(&ended.gaps);
        durations.all.observe(seconds, &SECONDS);
        if let Some(sent) = ended.sent {
            let own = ended.duration.saturating_sub(sent).as_secs_f64();
            durations.of_provider.observe(own, &OF_PROVIDER);
        }
        if let Some(first) = ended.first_byte {
            self.first_byte.observe(first.as_secs_f64(), &SECONDS);
            if let Some(sent) = ended.sent.filter(|_| ended.stream) {
                let own = first.saturating_sub(sent).as_secs_f64();
                self.first_chunk.observe(own, &OF_PROVIDER);
            }
        }
        if let Some(first) = ended.first_token {
            let seconds = first.as_secs_f64();
            self.first_token.observe(seconds, &SECONDS);
            self.server_first_token
                .observe(seconds, &SERVER_FIRST_TOKEN);
            if ended.tokens[1] > 1 {
                let rest = ended.duration.saturating_sub(first).as_secs_f64();
                self.per_token
                    .observe(rest / (ended.tokens[1] - 1) as f64, &PER_TOKEN);
            }
        }
    }

    #[cold]
    fn example(&self, ended: &Ended) {
        let [durations, first_tokens] = &**self.examples.get_or_init(Box::default);
        if let Some((trace, at)) = ended.trace {
            durations.put(trace, at, ended.duration.as_secs_f64(), &SECONDS);
            if let Some(first) = ended.first_token {
                first_tokens.put(trace, at, first.as_secs_f64(), &SECONDS);
            }
        }
    }

    pub(super) fn wasted(&self, wasted: &Wasted) {
        for (sum, tokens) in self.wasted.iter().zip(wasted.tokens) {
            sum.fetch_add(tokens, Relaxed);
        }
        if let Some(cost) = wasted.cost {
            self.wasted_cost.fetch_add(billionths(cost), Relaxed);
            self.wasted_priced.fetch_add(1, Relaxed);
        }
    }
}

pub(super) fn billionths(usd: f64) -> u64 {
    (usd * 1e9).round() as u64
}

/// The type of the error with which a request ended, as an index into [`ERRORS`].
fn error(ended: &Ended) -> usize {
    let word = match (ended.outcome, ended.status) {
        (record::Ended::Complete, 400..=499) => "4xx",
        (record::Ended::Complete, 500..) => "5xx",
        (record::Ended::Complete, _) => "",
        (outcome, _) => outcome.as_str(),
    };
    let known = ERRORS.iter().position(|error| *error == word);
    known.unwrap_or(0)
}

/// Values of the label `error_type`; none, and Prometheus takes an empty label for none.
pub(super) const ERRORS: [&str; 11] = [
    "",
    "4xx",
    "5xx",
    "client_gone",
    "drain",
    "internal",
    "refused",
    "slow_reader",
    "timeout",
    "upstream_error",
    "upstream_truncated",
];

impl<const N: usize> Histogram<N> {
    pub(in super::super) fn observe(&self, value: f64, bounds: &[f64; N]) {
        let at = bounds.partition_point(|bound| *bound < value);
        let count = self.counts.get(at).unwrap_or(&self.beyond);
        count.fetch_add(1, Relaxed);
        self.sum.fetch_add((value * 1e6).round() as u64, Relaxed);
    }
}

impl Histogram<{ Gaps::BOUNDS.len() }> {
    /// Adds what one stream has counted between the same bounds.
    fn take(&self, gaps: &Gaps) {
        let cells = self.counts.iter().chain([&self.beyond]);
        let mut some = false;
        for (cell, count) in cells.zip(gaps.counts()).filter(|(_, count)| **count > 0) {
            cell.fetch_add((*count).into(), Relaxed);
            some = true;
        }
        if some {
            let micros = u64::try_from(gaps.total().as_micros()).unwrap_or(u64::MAX);
            self.sum.fetch_add(micros, Relaxed);
        }
    }
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; N],
            beyond: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }
}

/// OpenTelemetry's bounds for generative models, and two more: answers take minutes.
pub(super) const SECONDS: [f64; 16] = [
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84,
    327.68,
];
/// OpenTelemetry's for `gen_ai.client.operation.duration`, `.time_to_first_chunk` and `.time_per_output_chunk`.
pub(super) const OF_PROVIDER: [f64; 14] = [
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
];
/// From ten microseconds on.
pub(in super::super) const OVERHEAD: [f64; 13] = [
    0.000_01, 0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25,
    1.0,
];
/// OpenTelemetry's for `gen_ai.server.time_to_first_token`.
pub(super) const SERVER_FIRST_TOKEN: [f64; 16] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];
/// OpenTelemetry's for `gen_ai.server.time_per_output_token`.
pub(super) const PER_TOKEN: [f64; 13] = [
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5,
];
/// OpenTelemetry's for `gen_ai.client.token.usage`.
pub(super) const USAGE: [f64; 14] = [
    1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0,
    16777216.0, 67108864.0,
];
