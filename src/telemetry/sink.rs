//! What is done when a request is over: it is counted, and its line is written.

use std::sync::Arc;

use tollgate_middleware::{
    clock::Clock,
    record::{self, Ended, Record, Sink},
    wire::Refusal,
};

use super::{
    line,
    log::Lines,
    metrics::{self, Counters},
};

/// The words of the metrics' label `outcome`, in the order of [`Ended::ALL`].
pub const OUTCOMES: [&str; Ended::ALL.len()] = {
    let mut words = [""; Ended::ALL.len()];
    let mut at = 0;
    while at < words.len() {
        words[at] = Ended::ALL[at].as_str();
        at += 1;
    }
    words
};

/// Counts and logs the requests of one worker. Clones are the same.
#[derive(Clone, Debug)]
pub struct Told(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    lines: Lines,
    counters: Counters,
    routes: Arc<[String]>,
    generation: u64,
}

impl Told {
    /// `routes` are the names in the order in which the metrics know them; `generation` is the
    /// number of the configuration.
    pub fn new(lines: Lines, counters: Counters, routes: Arc<[String]>, generation: u64) -> Self {
        Self(Arc::new(Inner {
            lines,
            counters,
            routes,
            generation,
        }))
    }
}

impl Told {
    /// Counts and logs a request that the transport refused before it was one; gives the answer to it.
    pub fn refused(&self, refusal: &Refusal, clock: &impl Clock) -> Vec<u8> {
        let Inner {
            lines,
            counters,
            generation,
            ..
        } = &*self.0;
        let arrived = clock.wall();
        let id = record::new_request_id(arrived);
        let id = id.to_str().unwrap_or_default();
        counters.began();
        counters.ended(metrics::Ended {
            status: refusal.status(),
            outcome: Ended::Refused as usize,
            ..metrics::Ended::default()
        });
        lines.line(|out| line::refused(out, arrived, id, *generation, refusal));
        refusal.answer(Some(id))
    }
}

impl Sink for Told {
    fn began(&self) {
        self.0.counters.began();
    }

    fn ended(&self, record: &Record) {
        let ended = record.ended().unwrap_or(Ended::Internal);
        let name = record.route();
        let route = name.and_then(|name| self.0.routes.iter().position(|route| **route == **name));
        self.0.counters.ended(metrics::Ended {
            route,
            status: record.status().unwrap_or(0),
            outcome: ended as usize,
            bytes_in: record.bytes_in(),
            bytes_out: record.bytes_out(),
        });
        let Inner {
            lines, generation, ..
        } = &*self.0;
        lines.line(|out| line::write(out, record, *generation));
    }
}
