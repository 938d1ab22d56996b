//! How a request is admitted.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use http::Request;

use super::{
    account::{Account, Reserve, Terms, Worst},
    asked::{Asked, asked, recognised},
    asking::{Asking, Later, Waits},
    clamp::Lower,
    journal::Admission,
    ledger::{Agreed, Ledger, Open, Owner},
    money::{Dates, Period},
    policy::{OnShort, Policy},
    reckoned::Reckoned,
    riding::{Inside, Riding},
    service::{BudgetLayer, Budgeted, refuse},
    shared::Leases,
};
use crate::{
    body::Held,
    clock::Clock,
    conn::Conn,
    error::Rejection,
    facts::{Caller, PricedOnly},
    record::{Record, Standing, Unit},
};

/// What a request is admitted with.
pub(super) struct Admitted<C: Clock> {
    pub(super) riding: Riding<C>,
    pub(super) waits: Waits,
    pub(super) change: Change,
}

/// What is to change in a request before it is sent.
#[derive(Default)]
pub(super) struct Change {
    lower: Option<Box<Lower>>,
    priced_only: bool,
}

/// What is reserved of the accounts of this process.
struct Here {
    open: Open,
    worst: Worst,
    change: Change,
}

impl Change {
    /// False if it cannot be made, which nobody brings about.
    pub(super) fn apply<B>(self, req: &mut Request<Held<B>>) -> bool {
        if self.priced_only {
            req.extensions_mut().insert(PricedOnly);
        }
        self.lower.is_none_or(|lower| lower.apply(req))
    }
}

impl<S, C: Clock> Budgeted<S, C> {
    /// Reserves; none if the request costs nothing, whatever comes.
    pub(super) fn admit<B>(
        &self,
        req: &Request<Held<B>>,
    ) -> Result<Option<Admitted<C>>, Rejection> {
        let BudgetLayer {
            policy,
            journal,
            shared,
            clock,
            ..
        } = &self.layer;
        let facts = req.extensions();
        let (caller, record) = (facts.get::<Caller>(), facts.get::<Record>());
        let agreed = policy.agreed(caller);
        if agreed.own == Terms::default() && agreed.global.is_none() && journal.is_none() {
            return Ok(None);
        }
        let mut unrecorded = None;
        let recognised = recognised(req, record, &mut unrecorded);
        let asked = asked(req, recognised, facts.get());
        let Some(reckoned) = policy.worst(&agreed, &asked)? else {
            return Ok(None);
        };
        let at = (clock.now(), clock.wall());
        let owner = Policy::owner(caller);
        let mut asking = None;
        let mut here = agreed;
        if let Some(shared) = shared {
            // What is limited is kept there; here it is only added up.
            asking = Asking::new(shared, policy, (&owner, &agreed), &reckoned, record, at);
            here = Agreed::default();
        }
        let held = self.reserve(req, &asked, reckoned, (&owner, &here), at)?;
        let model: Option<Arc<str>> = asked.question.model.map(Into::into);
        let mut riding = Inside {
            open: held.open,
            leases: Leases::default(),
            agreed: here,
            worst: held.worst,
            number: self.layer.ledger.number(),
            model,
            policy: policy.clone(),
            journal: None,
            record: record.cloned(),
            conn: facts.get::<Conn>().cloned(),
            clock: clock.clone(),
            served: false,
        };
        let waits = self.write_down(&mut riding, &agreed, caller, asking, at);
        Ok(Some(Admitted {
            riding: Riding::new(riding),
            waits,
            change: held.change,
        }))
    }

    /// Reserves of the accounts here, of less where there is not enough and the policy wants that.
    fn reserve<B>(
        &self,
        req: &Request<Held<B>>,
        asked: &Asked<'_>,
        mut reckoned: Reckoned,
        (owner, agreed): (&Owner, &Agreed),
        (now, wall): (Instant, SystemTime),
    ) -> Result<Here, Rejection> {
        let (policy, ledger) = (&self.layer.policy, &self.layer.ledger);
        let now = ledger.nanos(now);
        let mut change = Change::default();
        let (worst, reserved) = loop {
            let worst = reckoned.worst();
            let reserved = ledger.reserve(owner, agreed, &worst, now, Dates::at(wall));
            let Err(refusal) = &reserved else {
                break (worst, reserved);
            };
            // It asks for less each time, and so it comes to an end.
            match policy.lower(req, asked, &mut reckoned, refusal) {
                Some(lower) => change.lower = Some(Box::new(lower)),
                None => break (worst, reserved),
            }
        };
        let record = req.extensions().get::<Record>();
        if let (Some(record), Some(_)) = (record, agreed.own.tokens) {
            let read = |account: &Account| standing(record, account, now);
            match &reserved {
                Ok(open) => open.read(read),
                Err(_) => ledger.read_of(owner, read),
            }
        }
        change.priced_only = reckoned.leaves_out();
        Ok(Here {
            open: reserved.map_err(|refusal| refuse(&refusal))?,
            worst,
            change,
        })
    }

    /// Writes down that it is admitted, if there is a journal; and what it waits for.
    fn write_down(
        &self,
        riding: &mut Inside<C>,
        agreed: &Agreed,
        caller: Option<&Caller>,
        asking: Option<Box<Asking>>,
        (now, wall): (Instant, SystemTime),
    ) -> Waits {
        let mut waits = Waits {
            asking,
            ..Waits::default()
        };
        let Some(journal) = &self.layer.journal else {
            return waits;
        };
        let (open, record) = (&riding.open, riding.record.as_ref());
        let asked_for = waits.asking.as_ref().and_then(|asking| asking.tokens());
        let admission = Admission {
            number: riding.number,
            request_id: record.map(Record::request_id).unwrap_or_default().into(),
            at: wall,
            nanos: self.layer.ledger.nanos(now),
            caller: caller.map(|caller| caller.name().clone()),
            account: open.account.clone(),
            passing: is_passing(&open.account, &agreed.own),
            model: riding.model.clone(),
            rate: agreed.own.tokens,
            tokens: asked_for.unwrap_or(open.own.tokens),
            cost: open.own.cost,
            dates: open.own.at,
            waits: agreed.own.money.is_some() || agreed.global.is_some(),
        };
        if waits.asking.is_some() && self.layer.policy.on_short == OnShort::Clamp {
            // It may have to ask for less, and that is what it is admitted with.
            waits.later = Some(Box::new(Later {
                journal: journal.clone(),
                admission,
            }));
            return waits;
        }
        let waits_for_it = admission.waits;
        let receipt = journal.admitted(admission);
        waits.receipt = waits_for_it.then_some(receipt);
        riding.journal = Some(journal.clone());
        waits
    }
}

/// Whether nothing asks for what an account spent once its windows are over.
fn is_passing(account: &str, terms: &Terms) -> bool {
    let prepaid = terms.money.is_some_and(|it| it.per == Period::Ever);
    let typical = terms.tokens.is_some() && terms.reserve == Reserve::Typical;
    Ledger::else_of(account).is_some() && !prepaid && !typical
}

fn standing(record: &Record, account: &Account, now: u64) {
    let Some(bucket) = account.bucket() else {
        return;
    };
    record.add_standing(Standing {
        limit: "tokens".into(),
        quota: u64::from(bucket.rate().tokens()),
        window: bucket.rate().per(),
        left: bucket.left(now),
        reset: Duration::from_nanos(bucket.reset(now)),
        unit: Unit::Tokens,
    });
}
