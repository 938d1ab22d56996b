//! What limits refused, by the layer that did and its reason.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use prometheus_client::{
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
};
use tollgate_middleware::record::Refused;

/// The layers that bound what comes, each with its reasons.
const KINDS: [(&str, &str); 6] = [
    // Money, and tokens.
    ("budget", "insufficient_quota"),
    ("budget", "rate_limit_exceeded"),
    ("concurrency", "overloaded"),
    // A caller's own cap.
    ("concurrency", "rate_limit_exceeded"),
    ("rate_limit", "rate_limit_exceeded"),
    ("token_cap", "token_cap"),
];

/// What is left of a limit: of one that all share, or to the caller who has the least left.
#[derive(Clone, Debug, PartialEq)]
pub struct Left {
    /// The layer.
    pub limit: &'static str,
    /// Which of its limits.
    pub kind: String,
    /// From 0, nothing, to 1, all.
    pub ratio: f64,
}

impl Left {
    /// As a family of gauges; nothing where there is none.
    pub(crate) fn encode(all: &[Self], to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        if all.is_empty() {
            return Ok(());
        }
        let help = "What is left of a limit, from 0 to 1: of one that all share, or to the caller who has the least left";
        let name = "tollgate_limit_remaining_ratio";
        let mut family = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for left in all {
            let labels = [("limit", left.limit), ("kind", left.kind.as_str())];
            family.encode_family(&labels)?.encode_gauge(&left.ratio)?;
        }
        Ok(())
    }
}

/// The counts, shared by all workers: only a refusal touches them.
#[derive(Debug, Default)]
pub(crate) struct Limited([AtomicU64; KINDS.len()]);

impl Limited {
    /// Counts a refusal, if a limit made it.
    pub(crate) fn note(&self, refused: &Refused) {
        let is = |kind: &(&str, &str)| *kind == (refused.layer, refused.reason.as_str());
        if let Some(at) = KINDS.iter().position(is) {
            self.0[at].fetch_add(1, Relaxed);
        }
    }

    /// Writes what is not zero.
    pub(crate) fn encode(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests that a limit refused";
        let mut family =
            to.encode_descriptor("tollgate_limited", help, None, MetricType::Counter)?;
        for ((limit, kind), count) in KINDS.iter().zip(&self.0) {
            let count = count.load(Relaxed);
            if count > 0 {
                let labels = [("limit", *limit), ("kind", *kind)];
                family
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        Ok(())
    }
}
