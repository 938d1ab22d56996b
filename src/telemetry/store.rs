//! What the shared store did, in the metrics.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
};

/// What the store of this process did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Whether it is away.
    pub degraded: bool,
    /// Calls, by how they ended.
    pub calls: [(&'static str, u64); 4],
    /// What was decided without it.
    pub alone: u64,
    /// How often it went away.
    pub outages: u64,
}

impl Figures {
    /// As families of their own.
    pub(crate) fn encode(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut calls = to.encode_descriptor(
            "tollgate_store_calls",
            "Calls of the shared store; unanswered: nobody knows whether they ran; unsent: it was away",
            None,
            MetricType::Counter,
        )?;
        for (result, count) in self.calls {
            calls
                .encode_family(&[("result", result)])?
                .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        for (name, help, count) in [
            (
                "tollgate_store_decided_alone",
                "Decisions of this process by itself, because the shared store was away",
                self.alone,
            ),
            (
                "tollgate_store_outages",
                "How often the shared store went away",
                self.outages,
            ),
        ] {
            to.encode_descriptor(name, help, None, MetricType::Counter)?
                .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }
}
