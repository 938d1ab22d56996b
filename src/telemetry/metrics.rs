//! The figures of the process: counted per worker without a lock, summed when somebody looks.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use tollgate_middleware::record::{Attempt, Found, Refused, Running};

use super::{
    accounts::Accounts,
    circuits::Circuits,
    exposition::{self, Format},
    limited::{Left, Limited},
    series::{self, At, Histogram, OVERHEAD, Wasted},
    store::Figures,
};

mod scrape;

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
            Format::Plain => exposition::plain(&scrape::encoded(&self.0, others).0),
        }
    }

    /// Everything as OpenMetrics text, which Prometheus reads too: durations and times to the first token name traces as examples,
    /// where callers named them.
    pub fn scrape(&self, others: Others) -> String {
        let (text, examples) = scrape::encoded(&self.0, others);
        exposition::with_examples(&text, &examples)
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

#[cfg(test)]
mod tests;
