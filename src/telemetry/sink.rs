//! What is done when a request is over: it is counted, and its line is written.

use std::sync::Arc;

use tollgate_middleware::{
    clock::Clock,
    prices::Prices,
    record::{self, Ended, Mark, Record, Sink, Source},
    wire::Refusal,
};

use super::{
    line,
    log::Lines,
    metrics::{self, Counters},
    series::{self, View},
    webhook::Hook,
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
    prices: Prices,
    view: View,
    hook: Option<Hook>,
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
            prices: Prices::built_in(),
            view: View::default(),
            hook: None,
        }))
    }

    /// The same, at these prices, and with these series to count in.
    #[must_use]
    pub fn of(&self, prices: Prices, view: View) -> Self {
        let inner = &*self.0;
        Self(Arc::new(Inner {
            lines: inner.lines.clone(),
            counters: inner.counters.clone(),
            routes: inner.routes.clone(),
            generation: inner.generation,
            prices,
            view,
            hook: inner.hook.clone(),
        }))
    }
}

impl Told {
    /// Counts what was asked of a provider.
    fn asked(&self, record: &Record, cost: Option<f64>) {
        let charge = record.with_metered(|metered| metered.map(|metered| metered.charge));
        let charge = charge.unwrap_or_default();
        let operation = record
            .surface()
            .map(|surface| series::operation(surface.operation));
        let ended = series::Ended {
            operation: operation.unwrap_or(usize::MAX),
            duration: record.at(Mark::End).unwrap_or_default(),
            first_byte: record.at(Mark::FirstByte),
            first_token: record.at(Mark::FirstToken),
            tokens: [charge.prompt, charge.completion],
            reported: matches!(charge.source, Source::Provider | Source::Drained),
            cost,
            overhead: record.gateway_time(),
            cut: record
                .at(Mark::FirstByte)
                .and_then(|_| cause(record.ended()?)),
        };
        record.with_answered(|answered| {
            let Some(last) = answered else { return };
            let met = series::Met {
                route: record.route().map(|name| &**name),
                provider: &last.provider,
                label: last.label.as_deref(),
                upstream_model: last.model.as_deref(),
                model: record.intent().and_then(|intent| intent.model()),
            };
            self.0.counters.asked(&self.0.view, &met, &ended);
        });
    }
}

impl Told {
    /// The same, and `hook` is told too.
    #[must_use]
    pub fn telling(&self, hook: Option<Hook>) -> Self {
        let inner = &*self.0;
        Self(Arc::new(Inner {
            lines: inner.lines.clone(),
            counters: inner.counters.clone(),
            routes: inner.routes.clone(),
            generation: inner.generation,
            prices: inner.prices.clone(),
            view: inner.view.clone(),
            hook,
        }))
    }
}

/// Who cut a running answer short, as an index into [`series::CAUSES`].
fn cause(ended: Ended) -> Option<usize> {
    let word = match ended {
        Ended::UpstreamTruncated | Ended::UpstreamError => "upstream",
        Ended::ClientGone | Ended::SlowReader => "client",
        Ended::Drain => "drain",
        Ended::Timeout => "timeout",
        Ended::Complete | Ended::Internal | Ended::Refused => return None,
    };
    series::CAUSES.iter().position(|cause| *cause == word)
}

impl Told {
    /// Counts and logs a request that the transport refused before it was one, under this generation; gives the answer
    /// to it.
    pub fn refused(&self, refusal: &Refusal, generation: u64, clock: &impl Clock) -> Vec<u8> {
        let Inner {
            lines, counters, ..
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
        lines.line(|out| line::refused(out, arrived, id, generation, refusal));
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
        record.with_found(|found| self.0.counters.found(found));
        if let Some(refused) = record.refused() {
            self.0.counters.refused(&refused);
        }
        let Inner {
            lines,
            generation,
            prices,
            hook,
            ..
        } = &*self.0;
        let cost = prices.charged(record);
        self.asked(record, cost);
        let Some(hook) = hook else {
            return lines.line(|out| line::write(out, record, *generation, cost));
        };
        let mut text = Vec::new();
        line::write(&mut text, record, *generation, cost);
        lines.line(|out| out.extend_from_slice(&text));
        hook.tell(ended, &text);
    }
}
