//! The sums of what was counted, as text.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{OnceLock, atomic::Ordering::Relaxed},
};

use prometheus_client::{
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
};

use super::{
    CAUSES, Labels, OTHER, Registry, Series,
    cell::{Cell, Histogram, OVERHEAD, PER_TOKEN, SECONDS, SERVER_FIRST_TOKEN, USAGE},
};

impl Registry {
    /// Everything as text.
    pub fn encode(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.all().clone();
        let rows: Vec<_> = all
            .iter()
            .flat_map(|(labels, series)| self.rows(labels, series))
            .collect();
        let by_target = grouped(&rows, |row| row.labels);
        for one in &BY_TARGET {
            histogram(
                to,
                one,
                &["route", "provider", "model", "label"],
                &by_target,
            )?;
        }
        tokens(to, &rows)?;
        let rows = grouped(&rows, |row| [row.operation, row.labels[1], row.labels[2]]);
        for one in &BY_OPERATION {
            histogram(to, one, &GEN_AI, &rows)?;
        }
        usage(to, &rows)
    }

    /// The sums of a series, an operation each; what was never counted is left out.
    fn rows<'r>(
        &'r self,
        labels: &'r Labels,
        series: &'r Series,
    ) -> impl Iterator<Item = Row<'r>> + 'r {
        let operations = self.0.operations.len() + 1;
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
                operation: self.0.operations.get(operation).copied().unwrap_or(OTHER),
                sum,
            })
        })
    }
}

// ===== summing =====

/// The sums of one operation of one series.
#[derive(Clone, Debug)]
struct Row<'r> {
    labels: [&'r str; 4],
    operation: &'r str,
    sum: Sum,
}

#[derive(Clone, Debug, Default)]
struct Sum {
    duration: Totals,
    first_byte: Totals,
    first_token: Totals,
    server_first_token: Totals,
    per_token: Totals,
    usage: [Totals; 2],
    tokens: [[u64; 2]; 2],
    cost: u64,
    priced: u64,
    overhead: Totals,
    cut: [u64; CAUSES.len()],
}

/// The counts of a histogram, the last beyond all bounds.
#[derive(Clone, Debug, Default)]
struct Totals {
    counts: Vec<u64>,
    sum: u64,
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

    fn take<const N: usize>(&mut self, from: &Histogram<N>) {
        let mut counts: Vec<u64> = from
            .counts
            .iter()
            .map(|count| count.load(Relaxed))
            .collect();
        counts.push(from.beyond.load(Relaxed));
        self.add(counts.into_iter(), from.sum.load(Relaxed));
    }

    fn merge(&mut self, other: &Self) {
        self.add(other.counts.iter().copied(), other.sum);
    }
}

impl Sum {
    fn add(&mut self, cell: &Cell) {
        self.duration.take(&cell.duration);
        self.first_byte.take(&cell.first_byte);
        self.first_token.take(&cell.first_token);
        self.server_first_token.take(&cell.server_first_token);
        self.per_token.take(&cell.per_token);
        for at in [0, 1] {
            self.usage[at].take(&cell.usage[at]);
            for source in [0, 1] {
                self.tokens[source][at] += cell.tokens[source][at].load(Relaxed);
            }
        }
        self.cost += cell.cost.load(Relaxed);
        self.priced += cell.priced.load(Relaxed);
        self.overhead.take(&cell.overhead);
        for (all, one) in self.cut.iter_mut().zip(&cell.cut) {
            *all += one.load(Relaxed);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.duration.merge(&other.duration);
        self.first_byte.merge(&other.first_byte);
        self.first_token.merge(&other.first_token);
        self.server_first_token.merge(&other.server_first_token);
        self.per_token.merge(&other.per_token);
        for at in [0, 1] {
            self.usage[at].merge(&other.usage[at]);
            for source in [0, 1] {
                self.tokens[source][at] += other.tokens[source][at];
            }
        }
        self.cost += other.cost;
        self.priced += other.priced;
        self.overhead.merge(&other.overhead);
        for (all, one) in self.cut.iter_mut().zip(other.cut) {
            *all += one;
        }
    }
}

/// Rows of the same labels, summed.
fn grouped<'r, const L: usize>(
    rows: &[Row<'r>],
    labels: impl Fn(&Row<'r>) -> [&'r str; L],
) -> BTreeMap<[&'r str; L], Sum> {
    let mut groups = BTreeMap::<_, Sum>::new();
    for row in rows {
        groups.entry(labels(row)).or_default().merge(&row.sum);
    }
    groups
}

/// A family of histograms.
struct Family {
    name: &'static str,
    help: &'static str,
    of: fn(&Sum) -> &Totals,
    bounds: &'static [f64],
}

const BY_TARGET: [Family; 5] = [
    Family {
        name: "tollgate_request_duration_seconds",
        help: "From a request's arrival to the end of its answer",
        of: |sum| &sum.duration,
        bounds: &SECONDS,
    },
    Family {
        name: "tollgate_time_to_first_byte_seconds",
        help: "To the first byte of an answer",
        of: |sum| &sum.first_byte,
        bounds: &SECONDS,
    },
    Family {
        name: "tollgate_time_to_first_token_seconds",
        help: "To the first generated output",
        of: |sum| &sum.first_token,
        bounds: &SECONDS,
    },
    Family {
        name: "tollgate_inter_token_seconds",
        help: "Between two tokens of an output, on its average",
        of: |sum| &sum.per_token,
        bounds: &PER_TOKEN,
    },
    Family {
        name: "tollgate_overhead_seconds",
        help: "Time inside the gateway: without waits for the provider and the client",
        of: |sum| &sum.overhead,
        bounds: &OVERHEAD,
    },
];

/// OpenTelemetry's names, as far as they are widely read.
const BY_OPERATION: [Family; 3] = [
    Family {
        name: "gen_ai_server_request_duration_seconds",
        help: "From a request's arrival to the end of its answer",
        of: |sum| &sum.duration,
        bounds: &SECONDS,
    },
    Family {
        name: "gen_ai_server_time_to_first_token_seconds",
        help: "To the first generated output",
        of: |sum| &sum.server_first_token,
        bounds: &SERVER_FIRST_TOKEN,
    },
    Family {
        name: "gen_ai_server_time_per_output_token_seconds",
        help: "For a token of an output, on its average",
        of: |sum| &sum.per_token,
        bounds: &PER_TOKEN,
    },
];

const GEN_AI: [&str; 3] = [
    "gen_ai_operation_name",
    "gen_ai_provider_name",
    "gen_ai_request_model",
];

fn histogram<const L: usize>(
    to: &mut DescriptorEncoder<'_>,
    family: &Family,
    names: &[&str; L],
    rows: &BTreeMap<[&str; L], Sum>,
) -> fmt::Result {
    let kind = MetricType::Histogram;
    let mut encoder = to.encode_descriptor(family.name, family.help, None, kind)?;
    for (values, sum) in rows {
        let totals = (family.of)(sum);
        let labels = names.iter().copied().zip(values.iter().copied());
        // Few targets have a label of their own.
        let labels: Vec<_> = labels
            .filter(|(name, value)| *name != "label" || !value.is_empty())
            .collect();
        observed(&mut encoder.encode_family(&labels)?, totals, family.bounds)?;
    }
    Ok(())
}

fn observed(
    to: &mut prometheus_client::encoding::MetricEncoder<'_>,
    totals: &Totals,
    bounds: &[f64],
) -> fmt::Result {
    let count = totals.counts.iter().sum();
    let bounds = bounds.iter().copied().chain([f64::INFINITY]);
    let buckets: Vec<_> = bounds.zip(totals.counts.iter().copied()).collect();
    to.encode_histogram::<NoLabelSet>(totals.sum as f64 / 1e6, count, &buckets, None)
}

fn tokens(to: &mut DescriptorEncoder<'_>, all: &[Row<'_>]) -> fmt::Result {
    let rows = grouped(all, |row| [row.labels[1], row.labels[2]]);
    let help = "Tokens that were charged";
    let mut family = to.encode_descriptor("tollgate_tokens", help, None, MetricType::Counter)?;
    for ([provider, model], sum) in &rows {
        for (source, word) in ["reported", "estimated"].into_iter().enumerate() {
            for (at, direction) in ["input", "output"].into_iter().enumerate() {
                let count = sum.tokens[source][at];
                if count > 0 {
                    let labels = [
                        ("provider", *provider),
                        ("model", model),
                        ("direction", direction),
                        ("source", word),
                    ];
                    family
                        .encode_family(&labels)?
                        .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
                }
            }
        }
    }
    let help = "Running answers that were cut short";
    let name = "tollgate_stream_truncated";
    let mut family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
    for ([provider], sum) in &grouped(all, |row| [row.labels[1]]) {
        for (cause, count) in CAUSES
            .into_iter()
            .zip(sum.cut)
            .filter(|(_, count)| *count > 0)
        {
            let labels = [("provider", *provider), ("cause", cause)];
            family
                .encode_family(&labels)?
                .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
    }
    let help = "What the tokens of models with a price cost";
    let mut family = to.encode_descriptor("tollgate_cost_usd", help, None, MetricType::Counter)?;
    for ([provider, model], sum) in rows.iter().filter(|(_, sum)| sum.priced > 0) {
        let labels = [("provider", *provider), ("model", model)];
        family
            .encode_family(&labels)?
            .encode_counter::<NoLabelSet, _, u64>(&(sum.cost as f64 / 1e9), None)?;
    }
    Ok(())
}

fn usage(to: &mut DescriptorEncoder<'_>, rows: &BTreeMap<[&str; 3], Sum>) -> fmt::Result {
    let help = "Tokens of a request, as its provider reported them";
    let name = "gen_ai_client_token_usage";
    let mut family = to.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (values, sum) in rows {
        for (at, kind) in ["input", "output"].into_iter().enumerate() {
            let mut labels: Vec<_> = GEN_AI.iter().copied().zip(values.iter().copied()).collect();
            labels.push(("gen_ai_token_type", kind));
            observed(&mut family.encode_family(&labels)?, &sum.usage[at], &USAGE)?;
        }
    }
    Ok(())
}
