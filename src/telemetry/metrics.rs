//! The figures of the process: counted per worker without a lock, summed when somebody looks.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::Registry,
};
use tollgate_middleware::record::{Found, Refused};

use super::{circuits::Circuits, limited::Limited, series};

/// All counters, as the routes of one configuration see them. Clones are the same.
#[derive(Clone, Debug)]
pub struct Metrics {
    table: Arc<Table>,
    /// By route of this configuration, then none.
    blocks: Arc<[Arc<Block>]>,
}

/// The counters of one worker. Clones are the same.
#[derive(Clone, Debug)]
pub struct Counters {
    table: Arc<Table>,
    blocks: Arc<[Arc<Block>]>,
    worker: usize,
}

/// A request that has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Index of its route in the list that [`Metrics::new`] was given, if it met one.
    pub route: Option<usize>,
    /// Status of the answer; 0 if none was sent.
    pub status: u16,
    /// Index of its ending in the list that [`Metrics::new`] was given.
    pub outcome: usize,
    /// Body bytes from the client.
    pub bytes_in: u64,
    /// Body bytes to the client.
    pub bytes_out: u64,
}

/// What others count, for one scrape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// Lines of the request log that were not written.
    pub log_lines_dropped: u64,
    /// Events that the webhook's receiver was not told.
    pub webhook_events_dropped: u64,
    /// Client connections since the start.
    pub connections_accepted: u64,
    /// Client connections open now.
    pub connections_open: u64,
    /// Tasks that run on the workers.
    pub tasks: u64,
    /// Failed attempts to accept.
    pub accept_failures: u64,
    /// Number of the configuration in force.
    pub generation: u64,
    /// Reloads that changed nothing, because something was wrong.
    pub reload_failed: u64,
    /// Whether the last reload was one of them.
    pub last_reload_failed: bool,
    /// Requests that hold a permit now.
    pub permits_held: u64,
    /// Requests that wait for one now.
    pub permits_awaited: u64,
    /// The states of the circuits.
    pub circuits: Circuits,
    /// What keeps what was spent, if anything does.
    pub ledger: Option<LedgerFigures>,
}

/// How what keeps what was spent does.
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
    outcomes: &'static [&'static str],
    workers: Vec<Worker>,
    // Locked when a configuration begins and when somebody looks: a request has its blocks at hand.
    blocks: Mutex<Vec<Arc<Block>>>,
    // By rule and what it does. Locked only by what has found something.
    found: Mutex<BTreeMap<(Arc<str>, &'static str), u64>>,
}

/// What is counted for one value of the label `route`.
#[derive(Debug)]
struct Block {
    route: String,
    /// By worker, status class, outcome.
    requests: Box<[AtomicU64]>,
}

#[derive(Debug)]
struct Worker {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    // A request may end on another thread than it began on: only the sum is never negative.
    in_flight: AtomicI64,
}

impl Metrics {
    /// Counters for `workers` workers (at least one). `routes` are the values of the label
    /// `route`, of which the first `label_values` are told apart; `outcomes` those of `outcome`.
    pub fn new(
        workers: usize,
        routes: &[String],
        label_values: usize,
        outcomes: &'static [&'static str],
    ) -> Self {
        let workers = (0..workers.max(1)).map(|_| Worker {
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            in_flight: AtomicI64::new(0),
        });
        let workers: Vec<_> = workers.collect();
        let table = Arc::new(Table {
            series: series::Registry::new(workers.len(), &series::OPERATIONS),
            limited: Limited::default(),
            outcomes,
            workers,
            blocks: Mutex::default(),
            found: Mutex::default(),
        });
        Self {
            blocks: table.blocks_of(routes, label_values),
            table,
        }
    }

    /// The same counters for a configuration with other routes: what has the same name counts on,
    /// and nothing that was counted is lost. What is told apart already stays so.
    #[must_use]
    pub fn with_routes(&self, routes: &[String], label_values: usize) -> Self {
        Self {
            blocks: self.table.blocks_of(routes, label_values),
            table: self.table.clone(),
        }
    }

    /// The series of a configuration's targets; those of the same names count on.
    pub fn view(&self, places: impl IntoIterator<Item = series::Place>) -> series::View {
        self.table.series.view(places)
    }

    /// The counters of worker number `worker`; a number too great shares some.
    pub fn counters(&self, worker: usize) -> Counters {
        Counters {
            worker: worker % self.table.workers.len(),
            blocks: self.blocks.clone(),
            table: self.table.clone(),
        }
    }

    /// Everything as OpenMetrics text, which Prometheus reads too.
    pub fn scrape(&self, others: Others) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Scraped {
            table: self.table.clone(),
            others,
        }));
        let mut text = String::new();
        // Writing to a string fails only if an encoder does, and none of ours does.
        let encoded = text::encode(&mut text, &registry);
        debug_assert!(encoded.is_ok(), "an encoder failed");
        text
    }
}

impl Counters {
    /// A request has arrived. Each is followed by one [`ended`](Self::ended).
    pub fn began(&self) {
        self.worker().in_flight.fetch_add(1, Relaxed);
    }

    /// The body of its answer has ended.
    pub fn ended(&self, ended: Ended) {
        let worker = self.worker();
        worker.in_flight.fetch_sub(1, Relaxed);
        worker.bytes_in.fetch_add(ended.bytes_in, Relaxed);
        worker.bytes_out.fetch_add(ended.bytes_out, Relaxed);
        // The last block is that of no route.
        let none = self.blocks.len() - 1;
        let route = ended.route.map_or(none, |route| route.min(none));
        let cell = self.table.cell(self.worker, &ended);
        if let Some(count) = self.blocks[route].requests.get(cell) {
            count.fetch_add(1, Relaxed);
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

    /// A provider was asked, and its answer has ended.
    pub fn asked(&self, view: &series::View, met: &series::Met<'_>, ended: &series::Ended) {
        self.table.series.ended(view, self.worker, met, ended);
    }

    fn worker(&self) -> &Worker {
        &self.table.workers[self.worker]
    }
}

// ===== impl Table =====

impl Table {
    /// The blocks of these routes, in their order, and then that of no route. What is missing is made.
    fn blocks_of(&self, routes: &[String], most: usize) -> Arc<[Arc<Block>]> {
        let mut blocks = self.blocks();
        let named = routes
            .iter()
            .map(|route| self.block(&mut blocks, route, most));
        let mut found: Vec<_> = named.collect();
        found.push(self.block(&mut blocks, NO_ROUTE, most));
        found.into()
    }

    fn block(&self, blocks: &mut Vec<Arc<Block>>, route: &str, most: usize) -> Arc<Block> {
        let known = |route: &str| blocks.iter().find(|block| block.route == route).cloned();
        let full = blocks.len() >= most && route != NO_ROUTE;
        let label = if full { OTHER } else { route };
        if let Some(block) = known(route).or_else(|| known(label)) {
            return block;
        }
        let cells = self.workers.len() * CLASSES.len() * self.outcomes.len();
        let block = Arc::new(Block {
            route: label.to_owned(),
            requests: (0..cells).map(|_| AtomicU64::new(0)).collect(),
        });
        blocks.push(block.clone());
        block
    }

    fn blocks(&self) -> MutexGuard<'_, Vec<Arc<Block>>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place of a request among the counts of its route; beyond them all if its outcome is
    /// unknown.
    fn cell(&self, worker: usize, ended: &Ended) -> usize {
        let class = match ended.status / 100 {
            class @ 1..=5 => usize::from(class),
            _ => 0,
        };
        if ended.outcome >= self.outcomes.len() {
            return usize::MAX;
        }
        (worker * CLASSES.len() + class) * self.outcomes.len() + ended.outcome
    }

    fn sum(&self, of: impl Fn(&Worker) -> u64) -> u64 {
        self.workers.iter().map(of).sum()
    }

    fn in_flight(&self) -> i64 {
        let each = self.workers.iter().map(|worker| &worker.in_flight);
        each.map(|count| count.load(Relaxed)).sum::<i64>().max(0)
    }
}

/// One scrape.
#[derive(Debug)]
struct Scraped {
    table: Arc<Table>,
    others: Others,
}

impl Collector for Scraped {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let to = &mut encoder;
        self.requests(to)?;
        self.bytes(to)?;
        self.found(to)?;
        self.table.series.encode(to)?;
        self.table.limited.encode(to)?;
        let others = &self.others;
        gauge(
            to,
            "tollgate_concurrency_held",
            "Requests that hold a permit",
            i64::try_from(others.permits_held).unwrap_or(i64::MAX),
        )?;
        gauge(
            to,
            "tollgate_concurrency_queued",
            "Requests that wait for a permit",
            i64::try_from(others.permits_awaited).unwrap_or(i64::MAX),
        )?;
        gauge(
            to,
            "tollgate_requests_in_flight",
            "Requests whose answer has not ended",
            self.table.in_flight(),
        )?;
        counter(
            to,
            "tollgate_connections",
            "Client connections accepted",
            others.connections_accepted,
        )?;
        gauge(
            to,
            "tollgate_connections_open",
            "Client connections open now",
            i64::try_from(others.connections_open).unwrap_or(i64::MAX),
        )?;
        gauge(
            to,
            "tollgate_tasks",
            "Tasks that run on the workers: one for each connection, and a few for each worker",
            i64::try_from(others.tasks).unwrap_or(i64::MAX),
        )?;
        counter(
            to,
            "tollgate_accept_failures",
            "Failed attempts to accept a connection",
            others.accept_failures,
        )?;
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
        if let Some(ledger) = &others.ledger {
            let store = [("store", "spool")];
            let help = "1 while what was spent cannot be written down";
            to.encode_descriptor("tollgate_store_degraded", help, None, MetricType::Gauge)?
                .encode_family(&store)?
                .encode_gauge(&i64::from(ledger.degraded))?;
            let help = "Requests that are not in the ledger: the disk or the queue was full";
            to.encode_descriptor("tollgate_ledger_dropped", help, None, MetricType::Counter)?
                .encode_family(&store)?
                .encode_counter::<NoLabelSet, _, u64>(&ledger.dropped, None)?;
            let help = "What waits to be written to the ledger";
            let queue = i64::try_from(ledger.queue).unwrap_or(i64::MAX);
            to.encode_descriptor("tollgate_ledger_queue", help, None, MetricType::Gauge)?
                .encode_family(&store)?
                .encode_gauge(&queue)?;
        }
        gauge(
            to,
            "tollgate_generation",
            "Number of the configuration in force, 1 at the start",
            i64::try_from(others.generation).unwrap_or(i64::MAX),
        )?;
        counter(
            to,
            "tollgate_reload_failed",
            "Reloads that were refused; the configuration before stayed in force",
            others.reload_failed,
        )?;
        gauge(
            to,
            "tollgate_last_reload_successful",
            "1 unless the last reload was refused",
            i64::from(!others.last_reload_failed),
        )?;
        others.circuits.encode(to)?;
        let version = [("version", env!("CARGO_PKG_VERSION"))];
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

    fn requests(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests whose answer has ended";
        let mut family =
            to.encode_descriptor("tollgate_requests", help, None, MetricType::Counter)?;
        let (classes, outcomes) = (CLASSES.len(), self.table.outcomes);
        for block in &*self.table.blocks() {
            for cell in 0..classes * outcomes.len() {
                let each = block.requests[cell..]
                    .iter()
                    .step_by(classes * outcomes.len());
                let count = each.map(|count| count.load(Relaxed)).sum::<u64>();
                if count == 0 {
                    continue;
                }
                let labels = [
                    ("route", block.route.as_str()),
                    ("status_class", CLASSES[cell / outcomes.len()]),
                    ("outcome", outcomes[cell % outcomes.len()]),
                ];
                family
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
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
}

fn counter(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, count: u64) -> fmt::Result {
    to.encode_descriptor(name, help, None, MetricType::Counter)?
        .encode_counter::<NoLabelSet, _, u64>(&count, None)
}

fn gauge(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: i64) -> fmt::Result {
    to.encode_descriptor(name, help, None, MetricType::Gauge)?
        .encode_gauge(&value)
}

/// Values of the label `status_class`, by hundreds.
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
/// The label of those requests that met no route.
const NO_ROUTE: &str = "";
/// The label of the routes beyond.
const OTHER: &str = "other";

#[cfg(test)]
mod tests {
    use super::*;

    const OUTCOMES: &[&str] = &["complete", "refused"];

    fn metrics() -> Metrics {
        Metrics::new(2, &["fast".into(), "de\"fault".into()], 1000, OUTCOMES)
    }

    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }

    #[test]
    fn workers_are_summed_and_zeroes_left_out() {
        let metrics = metrics();
        for worker in [0, 1] {
            let counters = metrics.counters(worker);
            counters.began();
            counters.ended(Ended {
                route: Some(0),
                status: 200,
                outcome: 0,
                bytes_in: 10,
                bytes_out: 100,
            });
        }
        metrics.counters(1).began();
        let text = metrics.scrape(Others {
            log_lines_dropped: 3,
            ledger: Some(LedgerFigures {
                degraded: true,
                dropped: 4,
                queue: 5,
            }),
            ..Others::default()
        });
        has(
            &text,
            r#"tollgate_requests_total{route="fast",status_class="2xx",outcome="complete"} 2"#,
        );
        assert_eq!(text.matches("tollgate_requests_total").count(), 1);
        has(&text, r#"tollgate_body_bytes_total{direction="in"} 20"#);
        has(&text, r#"tollgate_body_bytes_total{direction="out"} 200"#);
        has(&text, "tollgate_requests_in_flight 1");
        has(&text, "tollgate_log_lines_dropped_total 3");
        has(&text, r#"tollgate_store_degraded{store="spool"} 1"#);
        has(&text, r#"tollgate_ledger_dropped_total{store="spool"} 4"#);
        has(&text, r#"tollgate_ledger_queue{store="spool"} 5"#);
        let without = metrics.scrape(Others::default());
        assert!(!without.contains("spool"));
        has(&text, r#"tollgate_build_info{version="0.1.0"} 1"#);
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn each_place_has_its_own_labels() {
        let metrics = metrics();
        let counters = metrics.counters(0);
        for (route, status, outcome) in [(None, 401, 1), (Some(1), 503, 0), (Some(0), 0, 1)] {
            counters.ended(Ended {
                route,
                status,
                outcome,
                ..Ended::default()
            });
        }
        let text = metrics.scrape(Others::default());
        for labels in [
            r#"route="",status_class="4xx",outcome="refused""#,
            r#"route="de\"fault",status_class="5xx",outcome="complete""#,
            r#"route="fast",status_class="none",outcome="refused""#,
        ] {
            has(&text, &format!("tollgate_requests_total{{{labels}}} 1"));
        }
    }

    #[test]
    fn another_configuration_counts_on_under_the_same_names() {
        let metrics = metrics();
        let later = metrics.with_routes(&["new".into(), "fast".into()], 1000);
        let ended = |route| Ended {
            route: Some(route),
            status: 200,
            ..Ended::default()
        };
        metrics.counters(0).ended(ended(0));
        metrics.counters(1).ended(ended(1));
        later.counters(1).ended(ended(1));
        later.counters(0).ended(ended(0));
        let text = later.scrape(Others::default());
        assert_eq!(text, metrics.scrape(Others::default()));
        for (route, count) in [("fast", 2), ("de\"fault", 1), ("new", 1)] {
            let labels = format!(
                r#"route="{}",status_class="2xx",outcome="complete""#,
                route.replace('"', "\\\"")
            );
            has(
                &text,
                &format!("tollgate_requests_total{{{labels}}} {count}"),
            );
        }
    }

    #[test]
    fn a_request_may_end_at_another_worker() {
        let metrics = metrics();
        metrics.counters(0).began();
        metrics.counters(1).ended(Ended::default());
        has(
            &metrics.scrape(Others::default()),
            "tollgate_requests_in_flight 0",
        );
    }

    #[test]
    fn what_is_beyond_the_tables_is_no_panic() {
        let metrics = Metrics::new(0, &[], 1000, OUTCOMES);
        let counters = metrics.counters(17);
        counters.ended(Ended {
            outcome: 99,
            status: 999,
            ..Ended::default()
        });
        counters.ended(Ended {
            status: 999,
            ..Ended::default()
        });
        let text = metrics.scrape(Others::default());
        assert_eq!(text.matches("tollgate_requests_total").count(), 1);
    }

    #[test]
    fn routes_beyond_the_most_share_one_label() {
        let routes: Vec<_> = (0..1500).map(|count| format!("r{count}")).collect();
        let metrics = Metrics::new(1, &routes, 1000, OUTCOMES);
        for route in [999, 1000, 1499] {
            metrics.counters(0).ended(Ended {
                route: Some(route),
                status: 200,
                ..Ended::default()
            });
        }
        let text = metrics.scrape(Others::default());
        has(
            &text,
            r#"tollgate_requests_total{route="r999",status_class="2xx",outcome="complete"} 1"#,
        );
        has(
            &text,
            r#"tollgate_requests_total{route="other",status_class="2xx",outcome="complete"} 2"#,
        );
    }
}
