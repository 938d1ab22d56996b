//! The figures of the process: counted per worker without a lock, summed when somebody looks.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::Registry,
};
use tollgate_middleware::record::{Attempt, Found, Refused, Running};

use super::{
    accounts::Accounts,
    circuits::Circuits,
    exposition::{self, Format},
    limited::{Left, Limited},
    process,
    series::{self, At, Examples, Histogram, OVERHEAD, Totals, Wasted, observed},
    store::Figures,
};

/// All counters. Clones are the same.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Table>);

/// The counters of one worker, as one configuration names them. Clones are the same.
#[derive(Clone, Debug)]
pub struct Counters {
    table: Arc<Table>,
    view: series::View,
    worker: usize,
}

/// What others count, for one scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Others {
    /// Lines of the request log that were not written.
    pub log_lines_dropped: u64,
    /// Events that the webhook's receiver was not told.
    pub webhook_events_dropped: u64,
    /// Client connections since the start.
    pub connections_accepted: u64,
    /// Client connections open now.
    pub connections_open: u64,
    /// Connections to providers open now.
    pub upstream_connections: u64,
    /// Tasks that run on the workers.
    pub tasks: u64,
    /// Failed attempts to accept.
    pub accept_failures: u64,
    /// Number of the configuration in force.
    pub generation: u64,
    /// What tells the configuration in force from others.
    pub config_hash: String,
    /// Reloads that changed nothing, because something was wrong.
    pub reload_failed: u64,
    /// Whether the last reload was one of them.
    pub last_reload_failed: bool,
    /// When the configuration in force was put there.
    pub reloaded: Option<SystemTime>,
    /// Requests that hold a permit now.
    pub permits_held: u64,
    /// Requests that wait for one now.
    pub permits_awaited: u64,
    /// What is left of limits that all share.
    pub left: Vec<Left>,
    /// The states of the circuits.
    pub circuits: Circuits,
    /// What the shared store did, if there is one.
    pub store: Option<Figures>,
    /// What became of budgets in it, if there is one.
    pub accounts: Option<Accounts>,
    /// What keeps what was spent, where there is such a thing.
    pub ledger: Option<LedgerFigures>,
}

/// What keeps what was spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LedgerFigures {
    /// It takes nothing at the moment.
    pub degraded: bool,
    /// Requests that are not in it.
    pub dropped: u64,
    /// What waits to be written.
    pub queue: u64,
}

#[derive(Debug)]
struct Table {
    series: series::Registry,
    limited: Limited,
    workers: Vec<Worker>,
    // By rule and what it does. Locked only by what has found something.
    found: Mutex<BTreeMap<(Arc<str>, &'static str), u64>>,
}

#[derive(Debug, Default)]
struct Worker {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    // A request may end on another thread than it began on: only the sum is never negative.
    in_flight: AtomicI64,
    /// Of requests and of answers.
    overhead: [Histogram<13>; 2],
}

impl Metrics {
    /// Counters for `workers` workers (at least one).
    pub fn new(workers: usize) -> Self {
        let series = series::Registry::new(workers);
        let workers = (0..series.workers()).map(|_| Worker::default());
        Self(Arc::new(Table {
            limited: Limited::default(),
            workers: workers.collect(),
            series,
            found: Mutex::default(),
        }))
    }

    /// The series of a configuration with these routes, of which the first `label_values` are told apart, and these targets: what has
    /// the same names counts on, and nothing that was counted is lost.
    pub fn view(
        &self,
        routes: &[String],
        label_values: usize,
        places: impl IntoIterator<Item = series::Place>,
    ) -> series::View {
        self.0.series.view(routes, label_values, places)
    }

    /// The same, where these callers are told apart, the first `label_values` of all that there have been.
    #[must_use]
    pub fn with_callers<'n>(
        &self,
        view: &series::View,
        callers: impl IntoIterator<Item = &'n str>,
        label_values: usize,
    ) -> series::View {
        self.0.series.with_callers(view, callers, label_values)
    }

    /// The counters of worker number `worker`; a number too great shares some.
    pub fn counters(&self, worker: usize, view: &series::View) -> Counters {
        Counters {
            worker: worker % self.0.workers.len(),
            view: view.clone(),
            table: self.0.clone(),
        }
    }

    /// Everything as text of this format.
    pub fn told(&self, others: Others, format: Format) -> String {
        match format {
            Format::OpenMetrics => self.scrape(others),
            Format::Plain => exposition::plain(&self.encoded(others).0),
        }
    }

    /// Everything as OpenMetrics text, which Prometheus reads too: durations and times to the first token name traces as examples,
    /// where callers named them.
    pub fn scrape(&self, others: Others) -> String {
        let (text, examples) = self.encoded(others);
        exposition::with_examples(&text, &examples)
    }

    fn encoded(&self, others: Others) -> (String, Families) {
        let mut registry = Registry::default();
        let examples = Arc::<Mutex<Families>>::default();
        registry.register_collector(Box::new(Scraped {
            table: self.0.clone(),
            others,
            examples: examples.clone(),
        }));
        let mut text = String::new();
        // Writing to a string fails only if an encoder does, and none of ours does.
        let encoded = text::encode(&mut text, &registry);
        debug_assert!(encoded.is_ok(), "an encoder failed");
        let examples = std::mem::take(&mut *lock(&examples));
        (text, examples)
    }
}

impl Counters {
    /// A request has arrived. Each is followed by one [`ended`](Self::ended).
    pub fn began(&self) {
        self.worker().in_flight.fetch_add(1, Relaxed);
    }

    /// Where requests are counted while they run on this route, by its place.
    pub fn running(&self, route: Option<usize>) -> Arc<Running> {
        self.view.running(self.worker, route).clone()
    }

    /// The body of its answer has ended, after these calls to providers; body bytes from and to the client.
    pub fn ended(
        &self,
        at: &At<'_>,
        attempts: &[Attempt],
        ended: &series::Ended,
        (bytes_in, bytes_out): (u64, u64),
    ) {
        let worker = self.worker();
        worker.in_flight.fetch_sub(1, Relaxed);
        worker.bytes_in.fetch_add(bytes_in, Relaxed);
        worker.bytes_out.fetch_add(bytes_out, Relaxed);
        self.view.ended(self.worker, at, attempts, ended);
    }

    /// An answer to this attempt was thrown away.
    pub fn wasted(&self, at: &At<'_>, operation: usize, attempt: &Attempt, wasted: &Wasted) {
        self.view
            .wasted(self.worker, at, operation, attempt, wasted);
    }

    /// So long a request was inside the gateway, and its answer, where it was a provider's.
    pub fn overhead(&self, request: Duration, answer: Option<Duration>) {
        let [of_request, of_answer] = &self.worker().overhead;
        of_request.observe(request.as_secs_f64(), &OVERHEAD);
        if let Some(answer) = answer {
            of_answer.observe(answer.as_secs_f64(), &OVERHEAD);
        }
    }

    /// Rules of the word filter have found something. There are as many rules as the configurations had.
    pub fn found(&self, found: &[Found]) {
        if found.is_empty() {
            return;
        }
        let counts = self.table.found.lock();
        let mut counts = counts.unwrap_or_else(PoisonError::into_inner);
        for found in found {
            let key = (found.rule.clone(), found.action);
            *counts.entry(key).or_default() += found.times;
        }
    }

    /// A layer refused a request.
    pub fn refused(&self, refused: &Refused) {
        self.table.limited.note(refused);
    }

    fn worker(&self) -> &Worker {
        &self.table.workers[self.worker]
    }
}

// ===== impl Table =====

impl Table {
    fn sum(&self, of: impl Fn(&Worker) -> u64) -> u64 {
        self.workers.iter().map(of).sum()
    }

    fn in_flight(&self) -> i64 {
        let each = self.workers.iter().map(|worker| &worker.in_flight);
        each.map(|count| count.load(Relaxed)).sum()
    }
}

/// The examples of the families that have any, of each row in the order of the text.
type Families = Vec<(&'static str, Vec<Examples>)>;

/// One scrape.
#[derive(Debug)]
struct Scraped {
    table: Arc<Table>,
    others: Others,
    // Of this scrape: no encoder takes them.
    examples: Arc<Mutex<Families>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Collector for Scraped {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let to = &mut encoder;
        self.bytes(to)?;
        self.found(to)?;
        let mut examples = Families::new();
        let in_flight = self.table.in_flight();
        self.table.series.encode(to, in_flight, &mut examples)?;
        *lock(&self.examples) = examples;
        self.overhead(to)?;
        self.limits(to)?;
        self.connections(to)?;
        self.lost(to)?;
        self.configuration(to)?;
        self.others.circuits.encode(to)?;
        if let Some(store) = &self.others.store {
            store.encode(to)?;
        }
        if let Some(accounts) = &self.others.accounts {
            accounts.encode(to)?;
        }
        process::encode(to)?;
        let version = [
            ("version", env!("CARGO_PKG_VERSION")),
            ("revision", crate::REVISION),
        ];
        // A gauge and not an info: the older text format knows no such type.
        to.encode_descriptor(
            "tollgate_build_info",
            "The program that runs",
            None,
            MetricType::Gauge,
        )?
        .encode_family(&version)?
        .encode_gauge(&1_i64)
    }
}

impl Scraped {
    fn found(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let counts = self.table.found.lock();
        let counts = counts.unwrap_or_else(PoisonError::into_inner);
        let help = "What rules of the word filter have found in requests and answers";
        let name = "tollgate_word_filter_matches";
        let mut family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
        for ((rule, action), count) in &*counts {
            family
                .encode_family(&[("rule", &**rule), ("action", *action)])?
                .encode_counter::<NoLabelSet, _, u64>(count, None)?;
        }
        Ok(())
    }

    fn bytes(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Body bytes from and to clients";
        let mut family =
            to.encode_descriptor("tollgate_body_bytes", help, None, MetricType::Counter)?;
        let sum_in = self.table.sum(|worker| worker.bytes_in.load(Relaxed));
        let sum_out = self.table.sum(|worker| worker.bytes_out.load(Relaxed));
        for (direction, count) in [("in", sum_in), ("out", sum_out)] {
            family
                .encode_family(&[("direction", direction)])?
                .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }

    fn overhead(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let name = "tollgate_overhead_seconds";
        let help = "Time inside the gateway: without waits for the provider and the client";
        let mut family = to.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (at, phase) in ["request", "response"].into_iter().enumerate() {
            let mut totals = Totals::default();
            for worker in &self.table.workers {
                totals.take(&worker.overhead[at]);
            }
            let labels = [("phase", phase)];
            observed(&mut family.encode_family(&labels)?, &totals, &OVERHEAD)?;
        }
        Ok(())
    }

    fn limits(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let others = &self.others;
        self.table.limited.encode(to)?;
        Left::encode(&others.left, to)?;
        gauge(
            to,
            "tollgate_concurrency_held",
            "Requests that hold a permit",
            others.permits_held,
        )?;
        gauge(
            to,
            "tollgate_concurrency_queued",
            "Requests that wait for a permit",
            others.permits_awaited,
        )
    }

    fn connections(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let others = &self.others;
        let (name, help) = ("tollgate_connections", "Connections that are open");
        let mut family = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (side, count) in [
            ("client", others.connections_open),
            ("upstream", others.upstream_connections),
        ] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            family
                .encode_family(&[("side", side)])?
                .encode_gauge(&count)?;
        }
        gauge(
            to,
            "tollgate_tasks",
            "Tasks that run on the workers: one for each connection, and a few for each worker",
            others.tasks,
        )?;
        counter(
            to,
            "tollgate_connections_accepted",
            "Client connections accepted",
            others.connections_accepted,
        )?;
        counter(
            to,
            "tollgate_accept_failures",
            "Failed attempts to accept a connection",
            others.accept_failures,
        )
    }

    fn lost(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let others = &self.others;
        counter(
            to,
            "tollgate_log_lines_dropped",
            "Lines of the request log that were not written",
            others.log_lines_dropped,
        )?;
        counter(
            to,
            "tollgate_webhook_events_dropped",
            "Events that the webhook's receiver was not told",
            others.webhook_events_dropped,
        )?;
        let spool = others.ledger.as_ref().map(|it| ("spool", it.degraded));
        let redis = others.store.as_ref().map(|it| ("redis", it.degraded));
        if spool.or(redis).is_some() {
            let help = "1 while what was spent cannot be written down, or Redis is away for a worker or was never reached";
            let mut degraded =
                to.encode_descriptor("tollgate_store_degraded", help, None, MetricType::Gauge)?;
            for (store, is) in spool.into_iter().chain(redis) {
                degraded
                    .encode_family(&[("store", store)])?
                    .encode_gauge(&i64::from(is))?;
            }
        }
        let Some(ledger) = &others.ledger else {
            return Ok(());
        };
        let store = [("store", "spool")];
        let help = "Requests that are not in the ledger: the disk or the queue was full";
        to.encode_descriptor("tollgate_ledger_dropped", help, None, MetricType::Counter)?
            .encode_family(&store)?
            .encode_counter::<NoLabelSet, _, u64>(&ledger.dropped, None)?;
        let help = "What waits to be written to the ledger";
        let queue = i64::try_from(ledger.queue).unwrap_or(i64::MAX);
        to.encode_descriptor("tollgate_ledger_queue", help, None, MetricType::Gauge)?
            .encode_family(&store)?
            .encode_gauge(&queue)
    }

    fn configuration(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let others = &self.others;
        gauge(
            to,
            "tollgate_generation",
            "Number of the configuration in force, 1 at the start",
            others.generation,
        )?;
        counter(
            to,
            "tollgate_reload_failed",
            "Reloads that were refused; the configuration before stayed in force",
            others.reload_failed,
        )?;
        gauge(
            to,
            "tollgate_config_last_reload_successful",
            "1 unless the last reload was refused",
            u64::from(!others.last_reload_failed),
        )?;
        let since = others
            .reloaded
            .and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        if let Some(since) = since {
            let name = "tollgate_config_last_reload_timestamp_seconds";
            let help = "When the configuration in force was put there";
            to.encode_descriptor(name, help, None, MetricType::Gauge)?
                .encode_gauge(&since.as_secs_f64())?;
        }
        let (name, help) = ("tollgate_config_info", "The configuration in force");
        to.encode_descriptor(name, help, None, MetricType::Gauge)?
            .encode_family(&[("hash", others.config_hash.as_str())])?
            .encode_gauge(&1_i64)
    }
}

fn counter(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, count: u64) -> fmt::Result {
    to.encode_descriptor(name, help, None, MetricType::Counter)?
        .encode_counter::<NoLabelSet, _, u64>(&count, None)
}

fn gauge(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    to.encode_descriptor(name, help, None, MetricType::Gauge)?
        .encode_gauge(&i64::try_from(value).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use tollgate_middleware::{
        clock::{Clock, SystemClock},
        record::{Ended, Record, TraceId},
    };

    use super::*;

    const ROUTES: [&str; 2] = ["fast", "de\"fault"];

    fn view(metrics: &Metrics, routes: &[&str]) -> series::View {
        let routes: Vec<_> = routes.iter().map(|&route| route.to_owned()).collect();
        metrics.view(&routes, 1000, [])
    }

    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }

    /// A request that no provider was asked for.
    fn end(counters: &Counters, route: Option<usize>, status: u16, outcome: Ended) {
        let at = At {
            route,
            ..At::default()
        };
        let ended = series::Ended {
            status,
            outcome,
            ..series::Ended::of(outcome)
        };
        counters.ended(&at, &[], &ended, (10, 100));
    }

    #[test]
    fn workers_are_summed_and_zeroes_left_out() {
        let metrics = Metrics::new(2);
        let view = view(&metrics, &ROUTES);
        for worker in [0, 1] {
            let counters = metrics.counters(worker, &view);
            counters.began();
            end(&counters, Some(0), 200, Ended::Complete);
            counters.overhead(Duration::from_micros(30), Some(Duration::from_micros(9)));
        }
        metrics.counters(1, &view).began();
        let text = metrics.scrape(Others {
            log_lines_dropped: 3,
            ..Others::default()
        });
        let labels = r#"route="fast",provider="",operation="other",model="",status_class="2xx",outcome="complete""#;
        has(&text, &format!("tollgate_requests_total{{{labels}}} 2"));
        assert_eq!(text.matches("tollgate_requests_total").count(), 1);
        has(&text, r#"tollgate_body_bytes_total{direction="in"} 20"#);
        has(&text, r#"tollgate_body_bytes_total{direction="out"} 200"#);
        has(&text, r#"tollgate_requests_in_flight{route=""} 1"#);
        has(&text, "tollgate_log_lines_dropped_total 3");
        let without = metrics.scrape(Others::default());
        assert!(!without.contains("spool") && !without.contains("degraded"));
        let with_both = metrics.scrape(Others {
            ledger: Some(LedgerFigures::default()),
            store: Some(Figures {
                degraded: true,
                ..Figures::default()
            }),
            ..Others::default()
        });
        has(&with_both, r#"tollgate_store_degraded{store="spool"} 0"#);
        has(&with_both, r#"tollgate_store_degraded{store="redis"} 1"#);
        assert_eq!(
            with_both.matches("# TYPE tollgate_store_degraded ").count(),
            1
        );
        for (phase, bound) in [("request", "0.00005"), ("response", "0.00001")] {
            let labels = format!(r#"le="{bound}",phase="{phase}""#);
            has(
                &text,
                &format!("tollgate_overhead_seconds_bucket{{{labels}}} 2"),
            );
        }
        assert!(text.contains("\ntollgate_build_info{version=\"0.1.0\",revision=\""));
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn durations_and_first_tokens_name_traces_where_openmetrics_is_asked_for() {
        let metrics = Metrics::new(2);
        let place = |route: &str, model: &str| series::Place {
            route: Some(route.to_owned()),
            provider: "p".to_owned(),
            label: None,
            models: vec![model.to_owned()],
        };
        let places = [place("fast", "m"), place("slow", "m")];
        let routes = ["fast", "slow"].map(str::to_owned);
        let view = metrics.view(&routes, 1000, places);
        let began = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let call = [Attempt {
            provider: "p".into(),
            model: Some("m".into()),
            status: Some(200),
            ..Attempt::default()
        }];
        let end = |worker, route, trace: Option<&str>, seconds: u64, first| {
            let at = At {
                route: Some(route),
                ..At::default()
            };
            let trace = trace.map(|trace| (trace_id(trace), began + Duration::from_secs(seconds)));
            let ended = series::Ended {
                status: 200,
                duration: Duration::from_secs(seconds),
                first_token: first,
                trace,
                ..series::Ended::of(Ended::Complete)
            };
            let counters = metrics.counters(worker, &view);
            counters.ended(&at, &call, &ended, (0, 0));
        };
        let [one, two, three] = ["a", "b", "c"].map(|digit| digit.repeat(32));
        let first = Some(Duration::from_millis(15));
        end(0, 1, Some(&one), 3, first);
        // Later, at another worker, in the same bucket; and one without a trace.
        end(1, 1, Some(&two), 4, None);
        end(1, 1, None, 5, None);
        end(0, 1, Some(&three), 400, None);
        let text = metrics.scrape(Others::default());
        let labels = r#"route="slow",provider="p",model="m""#;
        let duration = "tollgate_request_duration_seconds_bucket";
        for line in [
            format!(r#"{duration}{{le="2.56",{labels}}} 0"#),
            format!(
                r#"{duration}{{le="5.12",{labels}}} 3 # {{trace_id="{two}"}} 4 1700000004.000"#
            ),
            format!(r#"{duration}{{le="10.24",{labels}}} 3"#),
            format!(
                r#"{duration}{{le="+Inf",{labels}}} 4 # {{trace_id="{three}"}} 400 1700000400.000"#
            ),
            format!(
                r#"tollgate_time_to_first_token_seconds_bucket{{le="0.02",{labels}}} 1 # {{trace_id="{one}"}} 0.015 1700000003.000"#
            ),
        ] {
            has(&text, &line);
        }
        assert_eq!(text.matches("trace_id").count(), 3, "{text}");
        assert!(text.ends_with("# EOF\n"));
        let plain = metrics.told(Others::default(), Format::Plain);
        assert!(!plain.contains("trace_id") && !plain.contains("# EOF"));
        has(&plain, "# TYPE tollgate_requests_total counter");
        has(&plain, &format!(r#"{duration}{{le="5.12",{labels}}} 3"#));
    }

    fn trace_id(trace: &str) -> TraceId {
        let mut headers = http::HeaderMap::new();
        let value = format!("00-{trace}-b7ad6b7169203331-01");
        headers.insert("traceparent", value.parse().unwrap());
        let id = http::HeaderValue::from_static("-");
        let uri = http::Uri::from_static("/");
        let head = (&http::Method::POST, &uri, &headers);
        let now = SystemTime::UNIX_EPOCH;
        Record::new(id, head, SystemClock.now(), now)
            .trace()
            .unwrap()
    }

    #[test]
    fn each_place_has_its_own_labels() {
        let metrics = Metrics::new(2);
        let counters = metrics.counters(0, &view(&metrics, &ROUTES));
        for (route, status, outcome) in [
            (None, 401, Ended::Refused),
            (Some(1), 503, Ended::Complete),
            (Some(0), 0, Ended::ClientGone),
            // Beyond all.
            (Some(99), 999, Ended::Drain),
        ] {
            end(&counters, route, status, outcome);
        }
        let text = metrics.scrape(Others::default());
        for (route, class, outcome) in [
            ("", "4xx", "refused"),
            ("de\\\"fault", "5xx", "complete"),
            ("fast", "none", "client_gone"),
            ("", "none", "drain"),
        ] {
            let labels = format!(
                r#"route="{route}",provider="",operation="other",model="",status_class="{class}",outcome="{outcome}""#
            );
            has(&text, &format!("tollgate_requests_total{{{labels}}} 1"));
        }
    }

    #[test]
    fn another_configuration_counts_on_under_the_same_names() {
        let metrics = Metrics::new(2);
        let (before, later) = (view(&metrics, &ROUTES), view(&metrics, &["new", "fast"]));
        for (worker, view, route) in [
            (0, &before, 0),
            (1, &before, 1),
            (1, &later, 1),
            (0, &later, 0),
        ] {
            end(
                &metrics.counters(worker, view),
                Some(route),
                200,
                Ended::Complete,
            );
        }
        let text = metrics.scrape(Others::default());
        for (route, count) in [("fast", 2), ("de\\\"fault", 1), ("new", 1)] {
            let labels = format!(
                r#"route="{route}",provider="",operation="other",model="",status_class="2xx",outcome="complete""#
            );
            has(
                &text,
                &format!("tollgate_requests_total{{{labels}}} {count}"),
            );
        }
    }

    #[test]
    fn what_runs_is_told_by_route_and_may_end_at_another_worker() {
        let metrics = Metrics::new(2);
        let view = view(&metrics, &ROUTES);
        let (here, there) = (metrics.counters(0, &view), metrics.counters(1, &view));
        let uri = http::Uri::from_static("/v1beta/models/m:streamGenerateContent");
        let headers = http::HeaderMap::new();
        let record = Record::new(
            http::HeaderValue::from_static("-"),
            (&http::Method::POST, &uri, &headers),
            SystemClock.now(),
            SystemClock.wall(),
        );
        here.began();
        here.began();
        record.set_running(&here.running(Some(0)));
        let text = metrics.scrape(Others::default());
        for line in [
            r#"tollgate_requests_in_flight{route="fast"} 1"#,
            r#"tollgate_requests_in_flight{route=""} 1"#,
            r#"tollgate_streams_in_flight{route="fast"} 1"#,
            r#"tollgate_streams_in_flight{route=""} 0"#,
        ] {
            has(&text, line);
        }
        assert!(record.settle());
        end(&there, Some(0), 200, Ended::Complete);
        end(&there, None, 200, Ended::Complete);
        let text = metrics.scrape(Others::default());
        for line in [
            r#"tollgate_requests_in_flight{route="fast"} 0"#,
            r#"tollgate_requests_in_flight{route=""} 0"#,
            r#"tollgate_streams_in_flight{route="fast"} 0"#,
        ] {
            has(&text, line);
        }
    }

    #[test]
    fn routes_beyond_the_most_share_one_label() {
        let routes: Vec<_> = (0..1500).map(|count| format!("r{count}")).collect();
        let metrics = Metrics::new(1);
        let counters = metrics.counters(0, &metrics.view(&routes, 1000, []));
        for route in [999, 1000, 1499] {
            end(&counters, Some(route), 200, Ended::Complete);
        }
        let text = metrics.scrape(Others::default());
        for (route, count) in [("r999", 1), ("other", 2)] {
            let labels = format!(
                r#"route="{route}",provider="",operation="other",model="",status_class="2xx",outcome="complete""#
            );
            has(
                &text,
                &format!("tollgate_requests_total{{{labels}}} {count}"),
            );
        }
    }

    #[test]
    fn what_keeps_the_money_and_the_configuration_are_told() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let text = Metrics::new(1).scrape(Others {
            config_hash: "abc".into(),
            reloaded: Some(at),
            upstream_connections: 7,
            ledger: Some(LedgerFigures {
                degraded: true,
                dropped: 3,
                queue: 5,
            }),
            left: vec![Left {
                limit: "concurrency",
                kind: "global".into(),
                ratio: 0.25,
            }],
            ..Others::default()
        });
        for line in [
            r#"tollgate_config_info{hash="abc"} 1"#,
            "tollgate_config_last_reload_successful 1",
            "tollgate_config_last_reload_timestamp_seconds 1700000000.0",
            r#"tollgate_connections{side="upstream"} 7"#,
            r#"tollgate_store_degraded{store="spool"} 1"#,
            r#"tollgate_ledger_dropped_total{store="spool"} 3"#,
            r#"tollgate_ledger_queue{store="spool"} 5"#,
            r#"tollgate_limit_remaining_ratio{limit="concurrency",kind="global"} 0.25"#,
        ] {
            has(&text, line);
        }
    }
}
