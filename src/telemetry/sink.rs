//! What is done when a request is over: it is counted, and its line is written.

use std::sync::Arc;

use tollgate_middleware::{
    clock::Clock,
    dialect::Dialect,
    prices::Prices,
    record::{self, Charge, Ended, Mark, Record, Running, Sink, Source},
    wire::Refusal,
};

use super::{
    line,
    log::Lines,
    metrics::Counters,
    series::{self, At, Wasted},
    webhook::Hook,
};

/// Counts and logs the requests of one worker. Clones are the same.
#[derive(Clone, Debug)]
pub struct Told(Arc<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    lines: Lines,
    counters: Counters,
    generation: u64,
    prices: Prices,
    hook: Option<Hook>,
}

impl Told {
    /// `generation` is the number of the configuration, whose names `counters` know. At the built-in prices.
    pub fn new(lines: Lines, counters: Counters, generation: u64) -> Self {
        Self(Arc::new(Inner {
            lines,
            counters,
            generation,
            prices: Prices::built_in(),
            hook: None,
        }))
    }

    /// The same, at these prices.
    #[must_use]
    pub fn at(&self, prices: Prices) -> Self {
        let inner = Inner::clone(&self.0);
        Self(Arc::new(Inner { prices, ..inner }))
    }

    /// The same, and `hook` is told too.
    #[must_use]
    pub fn telling(&self, hook: Option<Hook>) -> Self {
        let inner = Inner::clone(&self.0);
        Self(Arc::new(Inner { hook, ..inner }))
    }

    /// Counts a request that has ended so; returns what it cost.
    fn count(&self, record: &Record, outcome: Ended) -> Option<f64> {
        let Inner {
            counters, prices, ..
        } = &*self.0;
        let cost = prices.charged(record);
        let metered = record.with_metered(|it| it.map(|it| (it.charge, it.usage, it.gaps)));
        let (charge, usage, gaps) = metered.unwrap_or_default();
        let (surface, intent) = (record.surface(), record.intent());
        let dialect = surface.map_or(Dialect::Raw, |surface| surface.dialect);
        let usage = usage.map(|usage| series::Usage::of(dialect, &usage));
        let operation = surface.map(|surface| series::operation(surface.operation));
        let first_byte = record.at(Mark::FirstByte);
        let asked = || surface.and_then(|surface| surface.stream) == Some(true);
        let duration = record.at(Mark::End).unwrap_or_default();
        let trace = record.trace();
        let ended = series::Ended {
            status: record.status().unwrap_or(0),
            operation: operation.unwrap_or(usize::MAX),
            duration,
            sent: record.at(Mark::Sent),
            first_byte,
            first_token: record.at(Mark::FirstToken),
            stream: intent.map_or_else(asked, |intent| intent.stream()),
            tokens: [charge.prompt, charge.completion],
            reported: matches!(charge.source, Source::Provider | Source::Drained),
            usage,
            cost,
            cut: first_byte.and_then(|_| cause(outcome)),
            gaps,
            trace: trace.map(|trace| (trace, record.arrived() + duration)),
            outcome,
        };
        let at = At {
            route: record.route_place(),
            model: intent.and_then(|intent| intent.model()),
            caller: record.caller().map(|name| &**name),
            answered: None,
        };
        let bytes = (record.bytes_in(), record.bytes_out());
        record.with_calls(|attempts, answered| {
            counters.ended(&At { answered, ..at }, attempts, &ended, bytes);
        });
        prices.wasted(record, |attempt, metered, cost| {
            let Charge {
                prompt, completion, ..
            } = metered.charge;
            let tokens = [prompt, completion];
            counters.wasted(&at, ended.operation, attempt, &Wasted { tokens, cost });
        });
        if let Some((request, answer)) = record.gateway_times() {
            counters.overhead(request, answer);
        }
        record.with_found(|found| counters.found(found));
        if let Some(refused) = record.refused() {
            counters.refused(&refused);
        }
        cost
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
        let ended = series::Ended {
            status: refusal.status(),
            ..series::Ended::of(Ended::Refused)
        };
        counters.ended(&At::default(), &[], &ended, (0, 0));
        lines.line(|out| line::refused(out, arrived, id, generation, refusal));
        refusal.answer(Some(id))
    }
}

impl Sink for Told {
    fn began(&self) {
        self.0.counters.began();
    }

    fn running(&self, route: Option<usize>) -> Option<Arc<Running>> {
        Some(self.0.counters.running(route))
    }

    fn ended(&self, record: &Record) {
        let ended = record.ended().unwrap_or(Ended::Internal);
        let cost = self.count(record, ended);
        let Inner {
            lines,
            generation,
            hook,
            ..
        } = &*self.0;
        let Some(hook) = hook else {
            return lines.line(|out| line::write(out, record, *generation, cost));
        };
        let mut text = Vec::new();
        line::write(&mut text, record, *generation, cost);
        lines.line(|out| out.extend_from_slice(&text));
        hook.tell(ended, &text);
    }
}
