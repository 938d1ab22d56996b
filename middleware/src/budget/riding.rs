//! What rides in the answer until it has ended.

use std::sync::Arc;

use super::{
    account::Worst,
    journal::{Journal, Settlement, Threshold},
    ledger::{Agreed, Open},
    money::Usd,
    policy::{Policy, Question, Waste},
    shared::Leases,
};
use crate::{
    body::{Ending, Guard},
    clock::Clock,
    conn::{Conn, Cut},
    error::{BoxError, Reason, Rejection},
    record::{Charge, Ended, Record, Source, Waste as Wasted},
};

// In a box: a stream of a caller without limits keeps a word, not the whole of it.
/// Settles what was reserved for a request, when the body of its answer has ended or when there will be none.
pub struct Riding<C: Clock>(Option<Box<Inside<C>>>);

pub(super) struct Inside<C> {
    pub(super) open: Open,
    // What is reserved where several processes see it.
    pub(super) leases: Leases,
    pub(super) agreed: Agreed,
    pub(super) worst: Worst,
    pub(super) number: u64,
    // By the name that aliases lead to.
    pub(super) model: Option<Arc<str>>,
    pub(super) policy: Arc<Policy>,
    // Where its end is written down, if its admission was.
    pub(super) journal: Option<Arc<dyn Journal>>,
    pub(super) record: Option<Record>,
    pub(super) conn: Option<Conn>,
    pub(super) clock: C,
    // A provider has answered, and not with an error of its own.
    pub(super) served: bool,
}

/// What a request turned out to use.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Used {
    charge: Charge,
    waste: Wasted,
    tokens: u64,
    cost: Option<Usd>,
}

impl<C: Clock> Riding<C> {
    pub(super) fn new(inside: Inside<C>) -> Self {
        Self(Some(Box::new(inside)))
    }

    /// For an answer for which nothing was reserved.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// It is reserved where several processes see it, and may have been written down only now.
    pub(super) fn reserved(
        &mut self,
        leases: Leases,
        worst: Worst,
        written: Option<Arc<dyn Journal>>,
    ) {
        if let Some(inside) = &mut self.0 {
            inside.leases = leases;
            inside.worst = worst;
            inside.journal = written.or_else(|| inside.journal.take());
        }
    }

    /// The answer has a head.
    pub(super) fn answered(&mut self, good: bool, record: Option<&Record>) {
        if let Some(inside) = &mut self.0 {
            inside.served = good;
            if inside.record.is_none() {
                inside.record = record.cloned();
            }
        }
    }

    /// Nothing was sent: all is given back, and the request ended so.
    pub(super) fn failed(mut self, ended: Ended) {
        if let Some(inside) = self.0.take() {
            inside.settle(ended);
        }
    }
}

impl<C: Clock> Drop for Riding<C> {
    fn drop(&mut self) {
        if let Some(inside) = self.0.take() {
            let ended = inside.dropped();
            inside.settle(ended);
        }
    }
}

impl<C: Clock> Guard<BoxError> for Riding<C> {
    fn end(mut self, ending: Ending<'_, BoxError>) {
        let Some(inside) = self.0.take() else { return };
        let ended = match ending {
            Ending::Complete => Ended::Complete,
            Ending::Error(error) => ended_by(error),
            Ending::Dropped => inside.dropped(),
        };
        inside.settle(ended);
    }
}

/// How a request ended that an error ended.
pub(super) fn ended_by(error: &BoxError) -> Ended {
    let reason = Rejection::find(&**error).map_or(Reason::Internal, Rejection::reason);
    reason.into()
}

impl<C: Clock> Inside<C> {
    fn dropped(&self) -> Ended {
        match self.conn.as_ref().and_then(Conn::asked_to_cut) {
            _ if std::thread::panicking() => Ended::Internal,
            Some(Cut::Drain) => Ended::Drain,
            Some(Cut::SlowReader) => Ended::SlowReader,
            None => Ended::ClientGone,
        }
    }

    fn settle(self, ended: Ended) {
        let used = self.used();
        let ended = self
            .record
            .as_ref()
            .and_then(Record::ended)
            .unwrap_or(ended);
        let Self {
            open,
            leases,
            agreed,
            number,
            journal,
            clock,
            ..
        } = self;
        leases.settle(used.tokens, used.cost.unwrap_or_default());
        let account = open.account.clone();
        let reached = open.settle(&agreed, used.tokens, used.cost.unwrap_or_default());
        let Some(journal) = journal else { return };
        journal.ended(Settlement {
            number,
            ended,
            charge: used.charge,
            waste: used.waste,
            tokens: used.tokens,
            cost: used.cost,
        });
        for reached in reached.into_iter().flatten() {
            journal.crossed(&Threshold {
                account: (!reached.global).then(|| account.clone()),
                budget: reached.budget,
                percent: reached.percent,
                spent: reached.spent,
                at: clock.wall(),
            });
        }
    }

    /// What the meter says; without one, an answer that is no error is taken to have used all that was reserved.
    fn used(&self) -> Used {
        let metered = self.record.as_ref().and_then(|record| {
            record.with_metered(|metered| metered.map(|metered| metered.charge))
        });
        let waste = self
            .record
            .as_ref()
            .and_then(Record::waste)
            .unwrap_or_default();
        let mut used = self.delivered(metered);
        used.waste = waste;
        if self.policy.waste == Waste::Charge && waste != Wasted::default() {
            used.tokens = used
                .tokens
                .saturating_add(waste.prompt)
                .saturating_add(waste.completion);
            let thrown = self.policy.wasted(&self.question(), &waste);
            used.cost = used.cost.map(|cost| cost.plus(thrown));
        }
        used
    }

    /// The same, of the answer that was delivered.
    fn delivered(&self, metered: Option<Charge>) -> Used {
        let Some(charge) = metered else {
            let Worst { tokens, cost } = if self.served {
                self.worst
            } else {
                Worst::default()
            };
            return Used {
                tokens,
                cost: Some(cost),
                ..Used::default()
            };
        };
        let priced = self
            .record
            .as_ref()
            .and_then(|record| self.policy.prices.charged(record));
        let cost = match (charge.source, priced) {
            (Source::None, _) => Some(Usd::ZERO),
            (_, Some(cost)) => Some(Usd::new(cost)),
            // What served has no price although what was asked for had one.
            (_, None) if self.worst.cost > Usd::ZERO => Some(self.worst.cost),
            (_, None) => None,
        };
        Used {
            charge,
            tokens: charge.prompt.saturating_add(charge.completion),
            cost,
            ..Used::default()
        }
    }

    /// Which targets may have been asked: by the model that was reserved for.
    fn question(&self) -> Question<'_> {
        Question {
            model: self.model.as_deref(),
            ..Question::default()
        }
    }
}

impl<C: Clock> std::fmt::Debug for Riding<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = self.0.as_ref().map(|inside| inside.number);
        f.debug_struct("Riding")
            .field("number", &number)
            .finish_non_exhaustive()
    }
}
