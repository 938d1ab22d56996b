//! What became of budgets that several gateways share, in the metrics.

use std::fmt;

use prometheus_client::{encoding::DescriptorEncoder, metrics::MetricType};
use tollgate_middleware::budget::{Happened, Shared};

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    happened: Happened,
    untold: usize,
}

impl Accounts {
    /// Of these accounts.
    pub(crate) fn of(shared: &Shared) -> Self {
        Self {
            happened: shared.happened(),
            untold: shared.untold(),
        }
    }

    /// As families of their own.
    pub(crate) fn encode(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        to.encode_descriptor(
            "tollgate_budget_untold",
            "Ends of requests, and accounts, of which the shared store does not know all",
            None,
            MetricType::Gauge,
        )?
        .encode_gauge(&i64::try_from(self.untold).unwrap_or(i64::MAX))?;
        let Happened {
            alone,
            away,
            lost,
            late,
            dropped,
        } = self.happened;
        for (name, help, count) in [
            (
                "tollgate_budget_admitted_alone",
                "Requests admitted of this process's own share, because the shared store was away",
                alone,
            ),
            (
                "tollgate_budget_refused_away",
                "Requests refused because the shared store was away",
                away,
            ),
            (
                "tollgate_budget_lost",
                "Reservations that outlived their process and were charged, as far as this process saw it",
                lost,
            ),
            (
                "tollgate_budget_told_late",
                "Ends that were told to the shared store again",
                late,
            ),
            (
                "tollgate_budget_dropped",
                "Ends that were too many to be kept: what was reserved is charged",
                dropped,
            ),
        ] {
            to.encode_descriptor(name, help, None, MetricType::Counter)?
                .encode_counter::<prometheus_client::encoding::NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }
}
