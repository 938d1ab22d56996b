//! Figures by route, provider, model and operation: counted per worker without a lock, summed when somebody looks.
//!
//! Every label is from the configuration or from the price table, so that no client can make a series.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
};
use tollgate_middleware::dialect::Operation;

/// All series that there have been. Clones are the same.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    operations: &'static [&'static str],
    workers: usize,
    // Locked when a configuration begins and when somebody looks.
    all: Mutex<BTreeMap<Labels, Arc<Series>>>,
}

/// Route, provider, model.
type Labels = [Box<str>; 3];

/// One target of a configuration.
#[derive(Clone, Debug)]
pub struct Place {
    /// The route's name; `None` for the implicit routes.
    pub route: Option<String>,
    /// The provider's name.
    pub provider: String,
    /// The models that are told apart.
    pub models: Vec<String>,
}

/// The series of one configuration, to be found by what a request met.
#[derive(Clone, Debug, Default)]
pub struct View(Arc<HashMap<String, Vec<Targets>>>);

#[derive(Debug)]
struct Targets {
    provider: String,
    models: HashMap<String, Arc<Series>>,
    other: Arc<Series>,
}

#[derive(Debug)]
struct Series {
    /// By worker and operation.
    cells: Box<[OnceLock<Box<Cell>>]>,
}

/// What is known of a request that a provider was asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ended {
    /// Its operation, as an index; beyond the list for one that has none.
    pub operation: usize,
    /// From its arrival to its end.
    pub duration: Duration,
    /// To the first byte of the answer.
    pub first_byte: Option<Duration>,
    /// To the first output.
    pub first_token: Option<Duration>,
    /// Tokens of the input and of the output.
    pub tokens: [u64; 2],
    /// The provider said so.
    pub reported: bool,
    /// What they cost, in USD.
    pub cost: Option<f64>,
    /// Our own share of the time.
    pub overhead: Option<Duration>,
    /// Who cut a running answer short, as an index into [`CAUSES`].
    pub cut: Option<usize>,
}

/// The words of the label `cause`.
pub const CAUSES: [&str; 4] = ["upstream", "client", "drain", "timeout"];

#[derive(Debug, Default)]
struct Cell {
    duration: Histogram<16>,
    first_byte: Histogram<16>,
    first_token: Histogram<16>,
    server_first_token: Histogram<16>,
    per_token: Histogram<13>,
    /// Of the input, of the output.
    usage: [Histogram<14>; 2],
    /// Reported and estimated, each of the input and of the output.
    tokens: [[AtomicU64; 2]; 2],
    /// Billionths of a USD, and how many requests had a price.
    cost: AtomicU64,
    priced: AtomicU64,
    overhead: Histogram<13>,
    cut: [AtomicU64; CAUSES.len()],
}

/// Counts between bounds, and beyond the last.
#[derive(Debug)]
struct Histogram<const N: usize> {
    counts: [AtomicU64; N],
    beyond: AtomicU64,
    /// Millionths.
    sum: AtomicU64,
}

// ===== impl Registry =====

impl Registry {
    /// For `workers` workers (at least one) and requests of these operations.
    pub fn new(workers: usize, operations: &'static [&'static str]) -> Self {
        Self(Arc::new(Inner {
            operations,
            workers: workers.max(1),
            all: Mutex::default(),
        }))
    }

    /// The series of a configuration. Those of the same labels count on; beyond a thousand, models share one.
    pub fn view(&self, places: impl IntoIterator<Item = Place>) -> View {
        let mut all = self.all();
        let targets = places.into_iter().map(|place| {
            let labels = |model: &str| -> Labels {
                let route = place.route.as_deref().unwrap_or_default();
                [route.into(), place.provider.as_str().into(), model.into()]
            };
            let other = self.series(&mut all, labels(OTHER));
            let mut models = HashMap::new();
            for model in &place.models {
                if all.len() < MOST || all.contains_key(&labels(model)) {
                    let series = self.series(&mut all, labels(model));
                    models.insert(model.clone(), series);
                }
            }
            let targets = Targets {
                provider: place.provider,
                models,
                other,
            };
            (place.route.unwrap_or_default(), targets)
        });
        let mut by_route = HashMap::<_, Vec<_>>::new();
        for (route, targets) in targets {
            by_route.entry(route).or_default().push(targets);
        }
        View(Arc::new(by_route))
    }

    fn series(&self, all: &mut BTreeMap<Labels, Arc<Series>>, labels: Labels) -> Arc<Series> {
        let cells = self.0.workers * (self.0.operations.len() + 1);
        all.entry(labels)
            .or_insert_with(|| {
                Arc::new(Series {
                    cells: (0..cells).map(|_| OnceLock::new()).collect(),
                })
            })
            .clone()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<Labels, Arc<Series>>> {
        self.0.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has ended at worker number `worker`.
    pub fn ended(&self, view: &View, worker: usize, met: &Met<'_>, ended: &Ended) {
        let Some(series) = view.find(met) else {
            return;
        };
        let operations = self.0.operations.len();
        let operation = ended.operation.min(operations);
        let at = (worker % self.0.workers) * (operations + 1) + operation;
        if let Some(cell) = series.cells.get(at) {
            cell.get_or_init(Box::default).ended(ended);
        }
    }

    /// Everything as text.
    pub fn encode(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.all().clone();
        let rows: Vec<_> = all
            .iter()
            .flat_map(|(labels, series)| self.rows(labels, series))
            .collect();
        let by_target = grouped(&rows, |row| row.labels);
        let names = ["route", "provider", "model"];
        for (name, help, of, bounds) in [
            (
                "tollgate_request_duration_seconds",
                "From a request's arrival to the end of its answer",
                (|sum: &Sum| &sum.duration) as fn(&Sum) -> &Totals,
                &SECONDS[..],
            ),
            (
                "tollgate_time_to_first_byte_seconds",
                "To the first byte of an answer",
                |sum| &sum.first_byte,
                &SECONDS,
            ),
            (
                "tollgate_time_to_first_token_seconds",
                "To the first generated output",
                |sum| &sum.first_token,
                &SECONDS,
            ),
            (
                "tollgate_inter_token_seconds",
                "Between two tokens of an output, on its average",
                |sum| &sum.per_token,
                &PER_TOKEN,
            ),
            (
                "tollgate_overhead_seconds",
                "Time inside the gateway: without waits for the provider and the client",
                |sum| &sum.overhead,
                &OVERHEAD,
            ),
        ] {
            histogram(to, name, help, &names, &by_target, of, bounds)?;
        }
        tokens(to, &rows)?;
        let names = [
            "gen_ai_operation_name",
            "gen_ai_provider_name",
            "gen_ai_request_model",
        ];
        let rows = grouped(&rows, |row| [row.operation, row.labels[1], row.labels[2]]);
        for (name, help, of, bounds) in [
            (
                "gen_ai_server_request_duration_seconds",
                "From a request's arrival to the end of its answer",
                (|sum: &Sum| &sum.duration) as fn(&Sum) -> &Totals,
                &SECONDS[..],
            ),
            (
                "gen_ai_server_time_to_first_token_seconds",
                "To the first generated output",
                |sum| &sum.server_first_token,
                &SERVER_FIRST_TOKEN,
            ),
            (
                "gen_ai_server_time_per_output_token_seconds",
                "For a token of an output, on its average",
                |sum| &sum.per_token,
                &PER_TOKEN,
            ),
        ] {
            histogram(to, name, help, &names, &rows, of, bounds)?;
        }
        usage(to, &names, &rows)
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
                labels: [&*labels[0], &*labels[1], &*labels[2]],
                operation: self.0.operations.get(operation).copied().unwrap_or(OTHER),
                sum,
            })
        })
    }
}

/// What a request met.
#[derive(Clone, Copy, Debug)]
pub struct Met<'a> {
    /// The route's name.
    pub route: Option<&'a str>,
    /// The provider's name.
    pub provider: &'a str,
    /// The model as the provider was asked for it.
    pub upstream_model: Option<&'a str>,
    /// The model that was asked for.
    pub model: Option<&'a str>,
}

impl View {
    fn find(&self, met: &Met<'_>) -> Option<&Series> {
        let targets = self.0.get(met.route.unwrap_or_default())?;
        let mut targets = targets.iter();
        let targets = targets.find(|targets| targets.provider == met.provider)?;
        let known = |model: Option<&str>| targets.models.get(model?);
        let series = known(met.upstream_model).or_else(|| known(met.model));
        Some(series.unwrap_or(&targets.other))
    }
}

// ===== counting =====

impl Cell {
    fn ended(&self, ended: &Ended) {
        self.duration
            .observe(ended.duration.as_secs_f64(), &SECONDS);
        if let Some(first) = ended.first_byte {
            self.first_byte.observe(first.as_secs_f64(), &SECONDS);
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
        let source = &self.tokens[usize::from(!ended.reported)];
        for (at, tokens) in ended.tokens.into_iter().enumerate() {
            source[at].fetch_add(tokens, Relaxed);
            // What is guessed has no place in these.
            if ended.reported {
                self.usage[at].observe(tokens as f64, &USAGE);
            }
        }
        if let Some(overhead) = ended.overhead {
            self.overhead.observe(overhead.as_secs_f64(), &OVERHEAD);
        }
        if let Some(count) = ended.cut.and_then(|cause| self.cut.get(cause)) {
            count.fetch_add(1, Relaxed);
        }
        if let Some(cost) = ended.cost {
            self.cost.fetch_add((cost * 1e9).round() as u64, Relaxed);
            self.priced.fetch_add(1, Relaxed);
        }
    }
}

impl<const N: usize> Histogram<N> {
    fn observe(&self, value: f64, bounds: &[f64; N]) {
        let at = bounds.partition_point(|bound| *bound < value);
        let count = self.counts.get(at).unwrap_or(&self.beyond);
        count.fetch_add(1, Relaxed);
        self.sum.fetch_add((value * 1e6).round() as u64, Relaxed);
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

// ===== summing =====

/// The sums of one operation of one series.
#[derive(Clone, Debug)]
struct Row<'r> {
    labels: [&'r str; 3],
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

// ===== text =====

fn histogram<const L: usize>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    names: &[&str; L],
    rows: &BTreeMap<[&str; L], Sum>,
    of: fn(&Sum) -> &Totals,
    bounds: &[f64],
) -> fmt::Result {
    let mut family = to.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (values, sum) in rows {
        let totals = of(sum);
        let labels: Vec<_> = names.iter().copied().zip(values.iter().copied()).collect();
        observed(&mut family.encode_family(&labels)?, totals, bounds)?;
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

fn usage(
    to: &mut DescriptorEncoder<'_>,
    names: &[&str; 3],
    rows: &BTreeMap<[&str; 3], Sum>,
) -> fmt::Result {
    let help = "Tokens of a request, as its provider reported them";
    let name = "gen_ai_client_token_usage";
    let mut family = to.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (values, sum) in rows {
        for (at, kind) in ["input", "output"].into_iter().enumerate() {
            let mut labels: Vec<_> = names.iter().copied().zip(values.iter().copied()).collect();
            labels.push(("gen_ai_token_type", kind));
            observed(&mut family.encode_family(&labels)?, &sum.usage[at], &USAGE)?;
        }
    }
    Ok(())
}

/// The words of the label `gen_ai_operation_name`: OpenTelemetry's where it has one, else the configuration's.
pub const OPERATIONS: [&str; 20] = {
    let mut words = [""; 20];
    let mut at = 0;
    while at < words.len() {
        words[at] = NAMED[at].1;
        at += 1;
    }
    words
};

/// The place of an operation in [`OPERATIONS`].
#[must_use]
pub fn operation(operation: Operation) -> usize {
    let named = NAMED.iter().position(|(named, _)| *named == operation);
    named.unwrap_or(NAMED.len())
}

const NAMED: [(Operation, &str); 20] = [
    (Operation::Chat, "chat"),
    (Operation::Completions, "text_completion"),
    (Operation::Responses, "chat"),
    (Operation::Messages, "chat"),
    (Operation::Generate, "generate_content"),
    (Operation::Converse, "chat"),
    (Operation::Invoke, "invoke"),
    (Operation::Predict, "predict"),
    (Operation::Embeddings, "embeddings"),
    (Operation::Rerank, "rerank"),
    (Operation::Moderations, "moderations"),
    (Operation::CountTokens, "count_tokens"),
    (Operation::Images, "images"),
    (Operation::ImageEdits, "image_edits"),
    (Operation::ImageVariations, "image_variations"),
    (Operation::Speech, "speech"),
    (Operation::Transcriptions, "transcriptions"),
    (Operation::Translations, "translations"),
    (Operation::Models, "models"),
    (Operation::Model, "model"),
];

/// Models that are not told apart, and operations that have no name.
const OTHER: &str = "other";
/// Series that are told apart.
const MOST: usize = 1000;

/// OpenTelemetry's bounds for generative models, and two more: answers take minutes.
const SECONDS: [f64; 16] = [
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84,
    327.68,
];
/// From ten microseconds on.
const OVERHEAD: [f64; 13] = [
    0.000_01, 0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25,
    1.0,
];
/// OpenTelemetry's for `gen_ai.server.time_to_first_token`.
const SERVER_FIRST_TOKEN: [f64; 16] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];
/// OpenTelemetry's for `gen_ai.server.time_per_output_token`.
const PER_TOKEN: [f64; 13] = [
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5,
];
/// OpenTelemetry's for `gen_ai.client.token.usage`.
const USAGE: [f64; 14] = [
    1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0,
    16777216.0, 67108864.0,
];

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::{collector::Collector, encoding::text};

    #[derive(Debug)]
    struct Told(Registry);

    impl Collector for Told {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
            self.0.encode(&mut encoder)
        }
    }

    fn text(registry: &Registry) -> String {
        let mut all = prometheus_client::registry::Registry::default();
        all.register_collector(Box::new(Told(registry.clone())));
        let mut out = String::new();
        text::encode(&mut out, &all).unwrap();
        out
    }

    fn place(models: &[&str]) -> Place {
        Place {
            route: Some("r".to_owned()),
            provider: "p".to_owned(),
            models: models.iter().map(|&model| model.to_owned()).collect(),
        }
    }

    fn met(model: &str) -> Met<'_> {
        Met {
            route: Some("r"),
            provider: "p",
            upstream_model: Some(model),
            model: None,
        }
    }

    fn ended() -> Ended {
        Ended {
            operation: 0,
            duration: Duration::from_secs(100),
            first_byte: Some(Duration::from_millis(5)),
            first_token: Some(Duration::from_millis(30)),
            tokens: [700, 500],
            reported: true,
            cost: Some(0.0011),
            overhead: Some(Duration::from_micros(30)),
            cut: Some(1),
        }
    }

    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }

    #[test]
    fn workers_are_summed_and_every_figure_is_told() {
        let registry = Registry::new(2, &["chat"]);
        let view = registry.view([place(&["m"])]);
        registry.ended(&view, 0, &met("m"), &ended());
        registry.ended(&view, 1, &met("m"), &ended());
        let guessed = Ended {
            reported: false,
            cost: None,
            first_token: None,
            ..ended()
        };
        registry.ended(&view, 1, &met("m"), &guessed);
        let text = text(&registry);
        let target = r#"route="r",provider="p",model="m""#;
        has(
            &text,
            &format!("tollgate_request_duration_seconds_count{{{target}}} 3"),
        );
        has(
            &text,
            &format!("tollgate_request_duration_seconds_sum{{{target}}} 300.0"),
        );
        has(
            &text,
            &format!(r#"tollgate_request_duration_seconds_bucket{{le="81.92",{target}}} 0"#),
        );
        has(
            &text,
            &format!(r#"tollgate_request_duration_seconds_bucket{{le="163.84",{target}}} 3"#),
        );
        has(
            &text,
            &format!(r#"tollgate_request_duration_seconds_bucket{{le="+Inf",{target}}} 3"#),
        );
        has(
            &text,
            &format!("tollgate_time_to_first_token_seconds_count{{{target}}} 2"),
        );
        has(
            &text,
            r#"tollgate_tokens_total{provider="p",model="m",direction="input",source="reported"} 1400"#,
        );
        has(
            &text,
            r#"tollgate_tokens_total{provider="p",model="m",direction="output",source="estimated"} 500"#,
        );
        has(
            &text,
            r#"tollgate_stream_truncated_total{provider="p",cause="client"} 3"#,
        );
        has(
            &text,
            &format!(r#"tollgate_overhead_seconds_bucket{{le="0.00005",{target}}} 3"#),
        );
        has(
            &text,
            r#"tollgate_cost_usd_total{provider="p",model="m"} 0.0022"#,
        );
        let labels =
            r#"gen_ai_operation_name="chat",gen_ai_provider_name="p",gen_ai_request_model="m""#;
        has(
            &text,
            &format!("gen_ai_server_time_to_first_token_seconds_count{{{labels}}} 2"),
        );
        has(
            &text,
            &format!(
                r#"gen_ai_client_token_usage_sum{{{labels},gen_ai_token_type="output"}} 1000.0"#
            ),
        );
    }

    #[test]
    fn a_client_makes_no_series() {
        let registry = Registry::new(1, &["chat"]);
        let view = registry.view([place(&["m"])]);
        let before = registry.all().len();
        for model in 0..5000 {
            registry.ended(&view, 0, &met(&format!("made-up-{model}")), &ended());
        }
        let elsewhere = Met {
            provider: "nobody",
            ..met("m")
        };
        registry.ended(&view, 0, &elsewhere, &ended());
        assert_eq!(registry.all().len(), before);
        let target = r#"route="r",provider="p",model="other""#;
        has(
            &text(&registry),
            &format!("tollgate_request_duration_seconds_count{{{target}}} 5000"),
        );
    }

    #[test]
    fn another_configuration_counts_on_and_a_thousand_are_told_apart() {
        let registry = Registry::new(1, &["chat"]);
        registry.ended(&registry.view([place(&["m"])]), 0, &met("m"), &ended());
        let many: Vec<String> = (0..3000).map(|model| format!("m{model}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).chain(["m"]).collect();
        let view = registry.view([place(&many)]);
        registry.ended(&view, 0, &met("m"), &ended());
        registry.ended(&view, 0, &met("m2999"), &ended());
        assert!(registry.all().len() <= MOST + 1);
        let text = text(&registry);
        for (model, count) in [("m", 2), ("other", 1)] {
            let target = format!(r#"route="r",provider="p",model="{model}""#);
            has(
                &text,
                &format!("tollgate_request_duration_seconds_count{{{target}}} {count}"),
            );
        }
    }
}
