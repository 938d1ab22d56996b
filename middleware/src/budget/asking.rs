//! What a request waits for before it is sent.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Instant, SystemTime},
};

use http::Request;

use super::{
    account::Worst,
    asked::{Asked, asked, recognised},
    clamp::{self, Lower},
    journal::{Admission, Journal, Receipt},
    ledger::{Agreed, Owner, Refusal},
    policy::{OnShort, Policy},
    reckoned::Reckoned,
    service::{away, refuse, unwritten},
    shared::{Denied, Leases, Reserving, Shared},
};
use crate::{body::Held, error::Rejection, record::Record};

/// What has to be there before a request is sent. All of it is on its way at once.
#[derive(Default)]
pub(super) struct Waits {
    pub(super) receipt: Option<Receipt>,
    pub(super) asking: Option<Box<Asking>>,
    pub(super) later: Option<Box<Later>>,
}

/// What is written down when it is known what was reserved.
pub(super) struct Later {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) admission: Admission,
}

/// Asks a shared store, for less where there is not enough and the policy wants that.
pub(super) struct Asking {
    reserving: Reserving,
    tokens: Option<u64>,
    shared: Shared,
    policy: Arc<Policy>,
    owner: Owner,
    agreed: Agreed,
    reckoned: Reckoned,
    record: Option<Record>,
    at: (Instant, SystemTime),
    lower: Option<Box<Lower>>,
}

/// What was reserved in a shared store.
pub(super) struct Got {
    pub(super) leases: Leases,
    pub(super) worst: Worst,
    // Of the caller, if they are limited.
    tokens: Option<u64>,
    /// Where its end is to be written down, if its admission was only now.
    pub(super) written: Option<Arc<dyn Journal>>,
    /// What the request has to be changed to, for which it was reserved.
    pub(super) lower: Option<Box<Lower>>,
}

impl Waits {
    pub(super) fn is_over(&self) -> bool {
        self.asking.is_none() && self.receipt.is_none()
    }

    /// What was reserved meanwhile, at once when it is: whoever asks must not lose it. Or why nothing is sent.
    pub(super) fn poll<B>(
        &mut self,
        req: &Request<Held<B>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Got>, Rejection>> {
        if let Some(receipt) = &mut self.receipt {
            match Pin::new(receipt).poll(cx) {
                Poll::Ready(Ok(())) => self.receipt = None,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(unwritten())),
                Poll::Pending => {}
            }
        }
        if let Some(asking) = &mut self.asking
            && let Poll::Ready(answer) = asking.poll(req, cx)
        {
            self.asking = None;
            return Poll::Ready(answer.map(|got| Some(self.write_down(got))));
        }
        if self.is_over() {
            return Poll::Ready(Ok(None));
        }
        Poll::Pending
    }

    /// It is admitted with what it got.
    fn write_down(&mut self, mut got: Got) -> Got {
        if let Some(later) = self.later.take() {
            let Later {
                journal,
                mut admission,
            } = *later;
            admission.tokens = got.tokens.unwrap_or(got.worst.tokens);
            admission.cost = got.worst.cost;
            let waits = admission.waits;
            let receipt = journal.admitted(admission);
            self.receipt = waits.then_some(receipt);
            got.written = Some(journal);
        }
        got
    }
}

impl Asking {
    /// None if nothing is limited.
    pub(super) fn new(
        shared: &Shared,
        policy: &Arc<Policy>,
        (owner, agreed): (&Owner, &Agreed),
        reckoned: &Reckoned,
        record: Option<&Record>,
        at: (Instant, SystemTime),
    ) -> Option<Box<Self>> {
        let reserving = shared.reserve(owner, agreed, &reckoned.worst(), record, at)?;
        Some(Box::new(Self {
            tokens: reserving.tokens(),
            reserving,
            shared: shared.clone(),
            policy: policy.clone(),
            owner: owner.clone(),
            agreed: *agreed,
            reckoned: reckoned.clone(),
            record: record.cloned(),
            at,
            lower: None,
        }))
    }

    /// How many tokens are reserved for the caller, if they are limited.
    pub(super) fn tokens(&self) -> Option<u64> {
        self.tokens
    }

    fn poll<B>(
        &mut self,
        req: &Request<Held<B>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Got, Rejection>> {
        loop {
            let refusal = match Pin::new(&mut self.reserving).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(Denied::Away)) => return Poll::Ready(Err(away())),
                Poll::Ready(Err(Denied::Short(refusal))) => refusal,
                Poll::Ready(Ok(leases)) => {
                    return Poll::Ready(Ok(Got {
                        leases,
                        worst: self.reckoned.worst(),
                        tokens: self.tokens,
                        written: None,
                        lower: self.lower.take(),
                    }));
                }
            };
            if !self.asks_for_less(req, &refusal) {
                return Poll::Ready(Err(refuse(&refusal)));
            }
        }
    }

    /// It asks for less each time, and so it comes to an end.
    fn asks_for_less<B>(&mut self, req: &Request<Held<B>>, refusal: &Refusal) -> bool {
        let facts = req.extensions();
        let mut unrecorded = None;
        let recognised = recognised(req, self.record.as_ref(), &mut unrecorded);
        let asked = asked(req, recognised, facts.get());
        let lower = self.policy.lower(req, &asked, &mut self.reckoned, refusal);
        let Some(lower) = lower else { return false };
        self.lower = Some(Box::new(lower));
        let worst = self.reckoned.worst();
        let (owner, agreed, record) = (&self.owner, &self.agreed, self.record.as_ref());
        let again = self.shared.reserve(owner, agreed, &worst, record, self.at);
        let Some(again) = again else { return false };
        self.tokens = again.tokens();
        self.reserving = again;
        true
    }
}

impl Policy {
    /// Asks for as little as is left, if the policy wants that and the request can.
    pub(super) fn lower<B>(
        &self,
        req: &Request<Held<B>>,
        asked: &Asked<'_>,
        reckoned: &mut Reckoned,
        refusal: &Refusal,
    ) -> Option<Lower> {
        if self.on_short == OnShort::Refuse {
            return None;
        }
        let intent = asked.intent?;
        let choices = u64::from(intent.choices());
        let each = reckoned.fitting(refusal.short.left())? / choices;
        if each == 0 {
            return None;
        }
        let text = req.body().text();
        let lower = clamp::lower(intent, asked.question.model, asked.limit, &text, each)?;
        reckoned.most = Some(each * choices);
        Some(lower)
    }
}
