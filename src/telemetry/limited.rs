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
const KINDS: [(&str, &str); 4] = [
    ("concurrency", "overloaded"),
    // A caller's own cap.
    ("concurrency", "rate_limit_exceeded"),
    ("rate_limit", "rate_limit_exceeded"),
    ("token_cap", "token_cap"),
];

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
