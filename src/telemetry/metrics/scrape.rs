//! One scrape: all that is counted, as families of text.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::SystemTime,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::Registry,
};

use super::{
    super::{
        limited::Left,
        process,
        series::{Examples, OVERHEAD, Totals, observed},
    },
    Others, Table,
};

/// Everything as OpenMetrics text, and the examples that belong into it.
pub(super) fn encoded(table: &Arc<Table>, others: Others) -> (String, Families) {
    let mut registry = Registry::default();
    let examples = Arc::<Mutex<Families>>::default();
    registry.register_collector(Box::new(Scraped {
        table: table.clone(),
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

/// The examples of the families that have any, of each row in the order of the text.
pub(super) type Families = Vec<(&'static str, Vec<Examples>)>;

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
