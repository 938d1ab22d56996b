//! What is reserved for one request, and the way there.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::{Duration, Instant, SystemTime},
};

use super::{
    super::{
        account::{Short, Terms, Worst},
        ledger::{Agreed, Owner, Refusal},
        money::{Dates, Usd},
        tokens::Rate,
    },
    Settle, Shared,
    alone::Hold,
    call::{Amount, Answer, Outcome},
    place::Place,
};
use crate::{
    record::{Record, Standing, Unit},
    store::{Away, Contact, OnError, Promise},
};

/// Reserves in one account after the other, or in none. A future; dropped, it gives all back.
#[derive(Debug)]
pub(in super::super) struct Reserving {
    shared: Shared,
    // The one that is asked is the first.
    asks: std::vec::IntoIter<Ask>,
    waiting: Option<Waiting>,
    leases: Leases,
    record: Option<Record>,
    now: u64,
    wall: SystemTime,
}

#[derive(Clone, Debug)]
struct Ask {
    place: Arc<Place>,
    terms: Terms,
    worst: Amount,
    global: bool,
}

#[derive(Debug)]
struct Waiting {
    ask: Ask,
    id: Box<str>,
    promise: Promise,
}

/// Why a request is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Denied {
    /// An account is short.
    Short(Refusal),
    /// The store is away, and nothing may be decided without it.
    Away,
}

/// What is reserved for a request; given back unless it is settled.
#[derive(Debug, Default)]
pub(in super::super) struct Leases(Vec<Lease>);

/// What is reserved in one account.
#[derive(Debug)]
struct Lease {
    shared: Shared,
    place: Arc<Place>,
    terms: Terms,
    // Taken when it is settled.
    held: Option<Held>,
}

#[derive(Debug)]
enum Held {
    /// By the store, under this name, since this epoch, in these windows.
    Store(Box<str>, u64, Dates),
    /// By this process alone.
    Alone(Hold),
}

impl Shared {
    /// Reserves for a request in all accounts that are limited; none if none is.
    pub(in super::super) fn reserve(
        &self,
        owner: &Owner,
        agreed: &Agreed,
        worst: &Worst,
        record: Option<&Record>,
        (now, wall): (Instant, SystemTime),
    ) -> Option<Reserving> {
        let mut asks = Vec::with_capacity(2);
        let mut ask = |place: Arc<Place>, terms: Terms, global| {
            let worst = place.reserved_of(&terms, worst);
            asks.push(Ask {
                place,
                terms,
                worst,
                global,
            });
        };
        if agreed.own.tokens.is_some() || agreed.own.money.is_some() {
            ask(self.place(owner), agreed.own, false);
        }
        if agreed.global.is_some() {
            let terms = Terms {
                money: agreed.global,
                ..Terms::default()
            };
            ask(self.all.global.clone(), terms, true);
        }
        (!asks.is_empty()).then(|| Reserving {
            shared: self.clone(),
            asks: asks.into_iter(),
            waiting: None,
            leases: Leases::default(),
            record: record.cloned(),
            now: self.nanos(now),
            wall,
        })
    }
}

impl Future for Reserving {
    type Output = Result<Leases, Denied>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            let Some(waiting) = &mut this.waiting else {
                match this.asks.next() {
                    None => return Poll::Ready(Ok(std::mem::take(&mut this.leases))),
                    Some(ask) => this.ask(ask),
                }
                continue;
            };
            let answer = ready!(Pin::new(&mut waiting.promise).poll(cx));
            let Some(waiting) = this.waiting.take() else {
                continue;
            };
            let decided = this.decide(waiting, answer);
            if let Err(denied) = decided {
                // What others would wait for comes back before this is told.
                this.leases = Leases::default();
                return Poll::Ready(Err(denied));
            }
        }
    }
}

impl Reserving {
    /// How many tokens are reserved in the account of the caller.
    pub(in super::super) fn tokens(&self) -> Option<u64> {
        let own = self.asks.as_slice().iter().find(|ask| !ask.global)?;
        own.terms.tokens.map(|_| own.worst.tokens)
    }

    fn ask(&mut self, ask: Ask) {
        // On the same connection, and so before what comes now.
        self.shared.tell(&ask.place);
        let id = self.shared.id();
        let call = ask.place.reserve(&id, &ask.terms, ask.worst, self.now);
        let promise = self.shared.store.run(call);
        self.waiting = Some(Waiting { ask, id, promise });
    }

    fn decide(&mut self, waiting: Waiting, answer: Result<Vec<i64>, Away>) -> Result<(), Denied> {
        let Waiting { ask, id, .. } = waiting;
        let read = answer.map(|numbers| Answer::read(&numbers));
        let decided = match read {
            Ok(Some(answer)) => {
                self.shared.heard(&ask.place, &answer, self.now, self.wall);
                match answer.outcome {
                    Outcome::Done => {
                        ask.place.opened(self.now);
                        Ok(Held::Store(id, answer.known.epoch, answer.known.dates))
                    }
                    outcome => Err(ask.short(outcome, &answer)),
                }
            }
            Ok(None) | Err(Away::Unanswered | Away::Refused) => {
                // Should it have been reserved, it is given back: a script that failed has not taken back what it did before.
                self.shared.give_back(&ask, id);
                self.alone(&ask)
            }
            Err(Away::Unsent) => self.alone(&ask),
        };
        if let (Some(record), Some(rate)) = (&self.record, ask.terms.tokens) {
            ask.tell_standing(record, rate, self.now);
        }
        match decided {
            Ok(held) => {
                self.leases.0.push(Lease {
                    shared: self.shared.clone(),
                    place: ask.place,
                    terms: ask.terms,
                    held: Some(held),
                });
                Ok(())
            }
            Err(denied) => {
                if denied == Denied::Away {
                    self.shared.all.counts.away.fetch_add(1, Ordering::Relaxed);
                }
                Err(denied)
            }
        }
    }

    /// Decides without the store, if that may be.
    fn alone(&self, ask: &Ask) -> Result<Held, Denied> {
        let store = &self.shared.store;
        if store.contact() == Contact::Never || store.on_error() == OnError::Refuse {
            return Err(Denied::Away);
        }
        let replicas = store.replicas();
        let dates = Dates::at(self.wall);
        let held = ask
            .place
            .reserve_alone(replicas, &ask.terms, ask.worst, self.now, dates);
        let hold = held
            .ok_or(Denied::Away)?
            .map_err(|short| ask.denied(short))?;
        self.shared.all.counts.alone.fetch_add(1, Ordering::Relaxed);
        store.decided_alone();
        Ok(Held::Alone(hold))
    }
}

impl Ask {
    fn denied(&self, short: Short) -> Denied {
        Denied::Short(Refusal {
            short,
            global: self.global,
        })
    }

    /// Why the store said no.
    fn short(&self, outcome: Outcome, answer: &Answer) -> Denied {
        match (outcome, self.terms.money, self.terms.tokens) {
            (Outcome::MoneyShort, Some(budget), _) => self.denied(Short::Money {
                left: answer.known.left(budget),
                budget,
            }),
            (Outcome::TokensShort, _, Some(rate)) => {
                let bucket = answer.known.bucket(rate, 0);
                // The store counts whole microseconds.
                let wait = bucket.wait(self.worst.tokens, 0).unwrap_or(1_000);
                self.denied(Short::Tokens {
                    wait,
                    left: bucket.left(0),
                    rate,
                })
            }
            // No script of ours says so.
            _ => Denied::Away,
        }
    }

    fn tell_standing(&self, record: &Record, rate: Rate, now: u64) {
        if let Some((rate, left, reset)) = self.place.tokens(rate, now) {
            // Once more where it is made to ask for less.
            record.set_standing(Standing {
                limit: "tokens".into(),
                quota: u64::from(rate.tokens()),
                window: rate.per(),
                left,
                reset: Duration::from_nanos(reset),
                unit: Unit::Tokens,
            });
        }
    }
}

impl Drop for Reserving {
    fn drop(&mut self) {
        if let Some(Waiting { ask, id, .. }) = self.waiting.take() {
            self.shared.give_back(&ask, id);
        }
    }
}

impl Shared {
    fn give_back(&self, ask: &Ask, id: Box<str>) {
        self.send_end(Settle {
            place: ask.place.clone(),
            id,
            terms: ask.terms,
            used: Amount::default(),
            at: None,
        });
    }
}

impl Leases {
    /// So much was really used. Nobody waits for the store to know it.
    pub(in super::super) fn settle(mut self, tokens: u64, cost: Usd) {
        for lease in &mut self.0 {
            lease.end(Amount { cost, tokens });
        }
    }
}

impl Lease {
    fn end(&mut self, used: Amount) {
        match self.held.take() {
            None => {}
            Some(Held::Alone(hold)) => self.place.settle_alone(&hold, used),
            Some(Held::Store(id, epoch, dates)) => {
                self.place.closed(used.tokens);
                self.shared.send_end(Settle {
                    place: self.place.clone(),
                    id,
                    terms: self.terms,
                    used,
                    at: Some((epoch, dates)),
                });
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.end(Amount::default());
    }
}
