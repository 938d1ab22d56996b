//! The sums of what was counted, as text.

use std::{collections::BTreeMap, fmt, iter};

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet},
    metrics::MetricType,
};

use super::{
    All, CAUSES, Registry,
    cell::{ERRORS, OF_PROVIDER, PER_TOKEN, SECONDS, SERVER_FIRST_TOKEN, USAGE},
    counts::OUTCOMES,
    exemplars::Examples,
    sums::{Row, Sum, Totals, grouped, name, rows},
};

impl Registry {
    /// Everything as text; `in_flight` requests run, whether they have met a route or not. `examples` takes those of the families
    /// that have any: for each family, of each of its rows in their order.
    pub(in super::super) fn encode(
        &self,
        to: &mut DescriptorEncoder<'_>,
        in_flight: i64,
        examples: &mut Vec<(&'static str, Vec<Examples>)>,
    ) -> fmt::Result {
        let all = self.all();
        let rows = rows(&all);
        running(to, &all, in_flight)?;
        requests(to, &all, &rows)?;
        calls(to, &all)?;
        let by_target = grouped(&rows, |row| row.labels);
        for one in &BY_TARGET {
            let totals = by_target
                .iter()
                .map(|(labels, sum)| (*labels, (one.of)(sum)));
            one.encode(to, &["route", "provider", "model", "label"], totals)?;
        }
        for (at, name) in WITH_EXAMPLES.into_iter().enumerate() {
            let rows = by_target.values().map(|sum| sum.examples[at]);
            examples.push((name, rows.collect()));
        }
        let by_model = grouped(&rows, |row| [row.labels[1], row.labels[2]]);
        tokens(to, &by_model)?;
        truncated(to, &rows)?;
        let costs = by_model.iter().map(|([provider, model], sum)| {
            let labels = [("provider", *provider), ("model", *model)];
            (
                labels,
                [(sum.priced, sum.cost), (sum.wasted_priced, sum.wasted_cost)],
            )
        });
        let (costs, wasted): (Vec<_>, Vec<_>) = costs
            .map(|(labels, [cost, wasted])| ((labels, cost), (labels, wasted)))
            .unzip();
        let help = "What the tokens of models with a price cost";
        money(to, "tollgate_cost_usd", help, costs)?;
        let help = "What attempts that were thrown away cost, of models with a price";
        money(to, "tollgate_waste_cost_usd", help, wasted)?;
        callers(to, &all)?;
        let rows = grouped(&rows, |row| [row.operation, row.labels[1], row.labels[2]]);
        for one in &BY_OPERATION {
            let totals = rows.iter().map(|(labels, sum)| (*labels, (one.of)(sum)));
            one.encode(to, &GEN_AI, totals)?;
        }
        for one in &BY_ERROR {
            one.encode(to, &rows)?;
        }
        usage(to, &rows)?;
        used(to, &rows)
    }
}

/// A counter family, and what encodes its counts.
fn counters<'l, L: EncodeLabelSet>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    counts: impl Iterator<Item = (L, u64)> + 'l,
) -> fmt::Result {
    let mut family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, count) in counts.filter(|(_, count)| *count > 0) {
        family
            .encode_family(&labels)?
            .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
    }
    Ok(())
}

// ===== requests =====

fn running(to: &mut DescriptorEncoder<'_>, all: &All, in_flight: i64) -> fmt::Result {
    let of = |of: fn(&super::Running) -> i64| {
        let blocks = all.blocks.iter().map(move |block| {
            let each = block.workers.iter().map(|worker| of(&worker.running));
            (&*block.route, each.sum::<i64>())
        });
        blocks.collect::<Vec<_>>()
    };
    let (mut requests, streams) = (of(super::Running::requests), of(super::Running::streams));
    let routed = requests.iter().map(|(_, count)| count).sum::<i64>();
    for (route, count) in &mut requests {
        // What runs and has met no route yet.
        if route.is_empty() {
            *count += in_flight - routed;
        }
    }
    let mut gauges = |name: &str, help: &str, counts: &[(&str, i64)]| {
        let mut family = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (route, count) in counts {
            family
                .encode_family(&[("route", *route)])?
                // Read one after the other while they change.
                .encode_gauge(&(*count).max(0))?;
        }
        Ok(())
    };
    let help = "Requests whose answer has not ended";
    gauges("tollgate_requests_in_flight", help, &requests)?;
    let help = "Requests for a stream whose answer has not ended";
    gauges("tollgate_streams_in_flight", help, &streams)
}

fn requests(to: &mut DescriptorEncoder<'_>, all: &All, rows: &[Row<'_>]) -> fmt::Result {
    let help = "Requests whose answer has ended";
    let mut counts = BTreeMap::<[&str; 6], u64>::new();
    for row in rows {
        let [route, provider, model, _] = row.labels;
        for ([class, outcome], count) in &row.sum.requests {
            let labels = [route, provider, row.operation, model, *class, *outcome];
            *counts.entry(labels).or_default() += count;
        }
    }
    for block in &all.blocks {
        for worker in &block.workers {
            for (operation, statuses) in worker.refused.iter().enumerate() {
                let counted = statuses.get().into_iter().flat_map(|it| it.each());
                for ([class, outcome], count) in counted {
                    let labels = [&*block.route, "", name(operation), "", class, outcome];
                    *counts.entry(labels).or_default() += count;
                }
            }
        }
    }
    let names = [
        "route",
        "provider",
        "operation",
        "model",
        "status_class",
        "outcome",
    ];
    let counts = counts.into_iter();
    let named = counts.map(|(values, count)| {
        (
            std::array::from_fn::<_, 6, _>(|at| (names[at], values[at])),
            count,
        )
    });
    counters(to, "tollgate_requests", help, named)
}

fn calls(to: &mut DescriptorEncoder<'_>, all: &All) -> fmt::Result {
    let help = "Calls to a provider, by what came of them";
    let counts = all.asked.iter().flat_map(|(provider, asked)| {
        let each = asked.each();
        each.map(|(reason, count)| ([("provider", &**provider), ("reason", reason)], count))
    });
    counters(to, "tollgate_upstream_attempts", help, counts)?;
    let help = "Requests that went on to another target after a call had failed";
    let counts = all
        .failovers
        .iter()
        .map(|([from, other], count)| ([("from", &**from), ("to", &**other)], count.sum()));
    counters(to, "tollgate_failovers", help, counts)
}

// ===== times =====

/// A family of histograms.
struct Family {
    name: &'static str,
    help: &'static str,
    of: fn(&Sum) -> Totals,
    bounds: &'static [f64],
}

/// Those of the next ones that name traces, in the order of [`Sum::examples`].
const WITH_EXAMPLES: [&str; 2] = [
    "tollgate_request_duration_seconds",
    "tollgate_time_to_first_token_seconds",
];

const BY_TARGET: [Family; 4] = [
    Family {
        name: "tollgate_request_duration_seconds",
        help: "From a request's arrival to the end of its answer",
        of: |sum| Totals::of_all(&sum.durations),
        bounds: &SECONDS,
    },
    Family {
        name: "tollgate_time_to_first_byte_seconds",
        help: "To the first byte of an answer",
        of: |sum| sum.first_byte.clone(),
        bounds: &SECONDS,
    },
    Family {
        name: "tollgate_time_to_first_token_seconds",
        help: "To the first generated output",
        of: |sum| sum.first_token.clone(),
        bounds: &SECONDS,
    },
    Family {
        name: "tollgate_inter_token_seconds",
        help: "Between two tokens of an output, on its average",
        of: |sum| sum.per_token.clone(),
        bounds: &PER_TOKEN,
    },
];

/// OpenTelemetry's names, as far as they are widely read.
const BY_OPERATION: [Family; 4] = [
    Family {
        name: "gen_ai_client_operation_time_per_output_chunk_seconds",
        help: "Between two outputs of a stream, each of them",
        of: |sum| sum.per_chunk.clone(),
        bounds: &OF_PROVIDER,
    },
    Family {
        name: "gen_ai_client_operation_time_to_first_chunk_seconds",
        help: "From the request to a provider to the first byte of the stream",
        of: |sum| sum.first_chunk.clone(),
        bounds: &OF_PROVIDER,
    },
    Family {
        name: "gen_ai_server_time_to_first_token_seconds",
        help: "To the first generated output",
        of: |sum| sum.server_first_token.clone(),
        bounds: &SERVER_FIRST_TOKEN,
    },
    Family {
        name: "gen_ai_server_time_per_output_token_seconds",
        help: "For a token of an output, on its average",
        of: |sum| sum.per_token.clone(),
        bounds: &PER_TOKEN,
    },
];

/// Those of them that tell errors apart.
const BY_ERROR: [ByError; 2] = [
    ByError {
        name: "gen_ai_client_operation_duration_seconds",
        help: "From the request to a provider to the end of its answer",
        of: |sum| &sum.of_provider,
        bounds: &OF_PROVIDER,
    },
    ByError {
        name: "gen_ai_server_request_duration_seconds",
        help: "From a request's arrival to the end of its answer",
        of: |sum| &sum.durations,
        bounds: &SECONDS,
    },
];

struct ByError {
    name: &'static str,
    help: &'static str,
    of: fn(&Sum) -> &[Totals; ERRORS.len()],
    bounds: &'static [f64],
}

const GEN_AI: [&str; 3] = [
    "gen_ai_operation_name",
    "gen_ai_provider_name",
    "gen_ai_request_model",
];

impl Family {
    fn encode<'r, const L: usize>(
        &self,
        to: &mut DescriptorEncoder<'_>,
        names: &[&str; L],
        rows: impl Iterator<Item = ([&'r str; L], Totals)>,
    ) -> fmt::Result {
        let kind = MetricType::Histogram;
        let mut encoder = to.encode_descriptor(self.name, self.help, None, kind)?;
        for (values, totals) in rows {
            let labels = names.iter().copied().zip(values);
            // Few targets have a label of their own.
            let labels: Vec<_> = labels
                .filter(|(name, value)| *name != "label" || !value.is_empty())
                .collect();
            observed(&mut encoder.encode_family(&labels)?, &totals, self.bounds)?;
        }
        Ok(())
    }
}

impl ByError {
    fn encode(
        &self,
        to: &mut DescriptorEncoder<'_>,
        rows: &BTreeMap<[&str; 3], Sum>,
    ) -> fmt::Result {
        let kind = MetricType::Histogram;
        let mut encoder = to.encode_descriptor(self.name, self.help, None, kind)?;
        for (values, sum) in rows {
            for (error, totals) in ERRORS.into_iter().zip((self.of)(sum)) {
                if totals.count() > 0 {
                    let mut labels: Vec<_> =
                        GEN_AI.into_iter().zip(values.iter().copied()).collect();
                    labels.push(("error_type", error));
                    observed(&mut encoder.encode_family(&labels)?, totals, self.bounds)?;
                }
            }
        }
        Ok(())
    }
}

/// A histogram as text: every bucket, also of what nobody counted yet.
pub(in super::super) fn observed(
    to: &mut prometheus_client::encoding::MetricEncoder<'_>,
    totals: &Totals,
    bounds: &[f64],
) -> fmt::Result {
    let count = totals.count();
    let bounds = bounds.iter().copied().chain([f64::INFINITY]);
    let counts = totals.counts.iter().copied().chain(iter::repeat(0));
    let buckets: Vec<_> = bounds.zip(counts).collect();
    to.encode_histogram::<NoLabelSet>(totals.sum as f64 / 1e6, count, &buckets, None)
}

// ===== tokens and money =====

fn tokens(to: &mut DescriptorEncoder<'_>, rows: &BTreeMap<[&str; 2], Sum>) -> fmt::Result {
    let counts = rows.iter().flat_map(|([provider, model], sum)| {
        let sources = SOURCES.into_iter().zip(sum.tokens);
        sources.flat_map(move |(source, tokens)| {
            let each = DIRECTIONS.into_iter().zip(tokens);
            each.map(move |(direction, count)| {
                let labels = [
                    ("provider", *provider),
                    ("model", *model),
                    ("direction", direction),
                    ("source", source),
                ];
                (labels, count)
            })
        })
    });
    counters(to, "tollgate_tokens", "Tokens that were charged", counts)?;
    let help = "Tokens of attempts that were thrown away, which nobody is charged for unless the budget says so";
    let counts = rows.iter().flat_map(|([provider, model], sum)| {
        let each = DIRECTIONS.into_iter().zip(sum.wasted);
        each.map(move |(direction, count)| {
            let labels = [
                ("provider", *provider),
                ("model", *model),
                ("direction", direction),
            ];
            (labels, count)
        })
    });
    counters(to, "tollgate_waste_tokens", help, counts)
}

const DIRECTIONS: [&str; 2] = ["input", "output"];
const SOURCES: [&str; 2] = ["reported", "estimated"];

fn truncated(to: &mut DescriptorEncoder<'_>, rows: &[Row<'_>]) -> fmt::Result {
    let help = "Running answers that were cut short";
    let by_provider = grouped(rows, |row| [row.labels[1]]);
    let counts = by_provider.iter().flat_map(|([provider], sum)| {
        let causes = CAUSES.into_iter().zip(sum.cut);
        causes.map(move |(cause, count)| ([("provider", *provider), ("cause", cause)], count))
    });
    counters(to, "tollgate_stream_truncated", help, counts)
}

/// How many had a price, and what they cost in billionths of a USD.
fn money<L: EncodeLabelSet>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    costs: impl IntoIterator<Item = (L, (u64, u64))>,
) -> fmt::Result {
    let mut family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, (priced, billionths)) in costs {
        if priced > 0 {
            family
                .encode_family(&labels)?
                .encode_counter::<NoLabelSet, _, u64>(&(billionths as f64 / 1e9), None)?;
        }
    }
    Ok(())
}

/// Nothing where callers are not told apart.
fn callers(to: &mut DescriptorEncoder<'_>, all: &All) -> fmt::Result {
    if all.callers.is_empty() {
        return Ok(());
    }
    let sums = all.callers.iter();
    let sums: Vec<_> = sums
        .map(|(name, counts)| (&**name, counts.sums()))
        .collect();
    let counts = sums.iter().flat_map(|(caller, sums)| {
        let each = OUTCOMES.into_iter().zip(sums.requests);
        each.map(|(outcome, count)| ([("caller", *caller), ("outcome", outcome)], count))
    });
    let help = "Requests of a caller whose answer has ended";
    counters(to, "tollgate_caller_requests", help, counts)?;
    let counts = sums.iter().flat_map(|(caller, sums)| {
        let sources = SOURCES.into_iter().zip(sums.tokens);
        sources.flat_map(move |(source, tokens)| {
            let each = DIRECTIONS.into_iter().zip(tokens);
            each.map(move |(direction, count)| {
                let labels = [
                    ("caller", *caller),
                    ("direction", direction),
                    ("source", source),
                ];
                (labels, count)
            })
        })
    });
    let help = "Tokens that a caller was charged";
    counters(to, "tollgate_caller_tokens", help, counts)?;
    let costs = sums.iter().map(|(caller, sums)| {
        let labels = [("caller", *caller)];
        (labels, (sums.priced, sums.cost))
    });
    let help = "What the tokens of a caller cost, of models with a price";
    money(to, "tollgate_caller_cost_usd", help, costs)
}

fn usage(to: &mut DescriptorEncoder<'_>, rows: &BTreeMap<[&str; 3], Sum>) -> fmt::Result {
    let help = "Tokens of a request, as its provider reported them";
    let name = "gen_ai_client_token_usage";
    let mut family = to.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (values, sum) in rows {
        for (at, kind) in DIRECTIONS.into_iter().enumerate() {
            let mut labels: Vec<_> = GEN_AI.iter().copied().zip(values.iter().copied()).collect();
            labels.push(("gen_ai_token_type", kind));
            observed(&mut family.encode_family(&labels)?, &sum.usage[at], &USAGE)?;
        }
    }
    Ok(())
}

/// OpenTelemetry's newest names. What a provider reports is not told apart by what it is made of.
fn used(to: &mut DescriptorEncoder<'_>, rows: &BTreeMap<[&str; 3], Sum>) -> fmt::Result {
    for (at, (name, help)) in USED.into_iter().enumerate() {
        let counts = rows.iter().map(|(values, sum)| {
            let labels = [
                (GEN_AI[0], values[0]),
                (GEN_AI[1], values[1]),
                (GEN_AI[2], values[2]),
                ("gen_ai_token_modality", "unknown"),
            ];
            (labels, sum.used[at])
        });
        counters(to, name, help, counts)?;
    }
    Ok(())
}

const USED: [(&str, &str); 5] = [
    (
        "gen_ai_client_inference_usage_input_tokens",
        "Tokens of the input that providers reported, those of caches included",
    ),
    (
        "gen_ai_client_inference_usage_output_tokens",
        "Tokens of the output that providers reported, thoughts included",
    ),
    (
        "gen_ai_client_inference_usage_cache_read_input_tokens",
        "Those of the input that were read from a cache",
    ),
    (
        "gen_ai_client_inference_usage_cache_write_input_tokens",
        "Those of the input that were written to a cache",
    ),
    (
        "gen_ai_client_inference_usage_reasoning_output_tokens",
        "Those of the output that were thoughts",
    ),
];
