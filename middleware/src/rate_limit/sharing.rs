//! Limits that other processes count, too: what is at hand admits at once; otherwise the store is asked, and the request waits.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use super::{
    cell::Cell,
    key::{Asked, Counted, Id},
    lease::{self, Lease, Taken},
    script,
    service::{Limit, Over, stands},
    table::{Cells, How, Open, Tag},
};
use crate::{
    record::Record,
    store::{Contact, OnError, Owner, Store},
};

/// What one limit says to a request.
#[derive(Debug)]
pub(super) enum Seat {
    /// It is counted, and admitted as far as this limit goes.
    Taken(Open),
    /// The store is asked.
    Trip(Trip),
    /// It comes too often.
    Over(Over),
    /// The store is away, and nothing passes meanwhile.
    Away,
}

/// A request that waits for the store.
#[derive(Debug)]
pub(super) struct Trip {
    cells: Cells,
    tag: Tag,
    // Which limit it is.
    limit: usize,
    want: u32,
    // Taken when it is answered.
    asked: Option<lease::Asked>,
}

/// Asks each limit for a request, from outside in. Once one has refused it those inside are asked for nothing, but for how long they would have it
/// wait.
pub(super) fn seats(
    limits: &[Limit],
    store: &Arc<dyn Store>,
    asked: &Asked<'_>,
    now: impl Fn(&Cells) -> u64,
    record: Option<&Record>,
) -> Vec<Seat> {
    let mut seats = Vec::with_capacity(limits.len());
    let mut refused = false;
    for (at, limit) in limits.iter().enumerate() {
        let counted = limit.key.count(asked).filter(|it| !it.quotas.is_empty());
        let Some(counted) = counted else { continue };
        let cells = &limit.cells;
        let (tag, now) = (cells.tag(&counted.id), now(cells));
        let mut shard = cells.shard(tag);
        let (cell, lease) = cells.shared(&mut shard, tag, &counted, store.replicas(), now);
        let desk = Desk {
            limit,
            at,
            tag,
            store,
            now,
            record,
        };
        let seat = if refused {
            desk.look(cell, lease)
        } else {
            Some(desk.seat(cell, lease, &counted))
        };
        refused |= matches!(seat, Some(Seat::Over(_) | Seat::Away));
        seats.extend(seat);
    }
    seats
}

/// One limit, and who is asked.
#[derive(Clone, Copy)]
struct Desk<'a> {
    limit: &'a Limit,
    at: usize,
    tag: Tag,
    store: &'a Arc<dyn Store>,
    now: u64,
    record: Option<&'a Record>,
}

impl Desk<'_> {
    /// How long the request would have to wait here.
    fn look(&self, cell: &Cell, lease: Option<&mut Lease>) -> Option<Seat> {
        let wait = match lease {
            Some(lease) if self.store.contact() == Contact::Up => lease.wait(self.now),
            _ => cell.wait(self.now),
        };
        wait.map(|(wait, quota)| Seat::Over(self.limit.over(quota, wait)))
    }

    fn seat(&self, cell: &mut Cell, lease: Option<&mut Lease>, counted: &Counted<'_>) -> Seat {
        let up = self.store.contact() == Contact::Up;
        let lease = match lease {
            Some(lease) if up => lease,
            // Those who find no room share what this process may do by itself.
            lease => return self.alone(cell, lease, up),
        };
        match lease.take(self.now) {
            Taken::Here => {
                cell.note(self.now);
                if let Some(want) = lease.runs_out(self.now) {
                    let asked = self.ask(lease, counted, want);
                    lease.ahead(asked);
                }
                self.tell(lease.levels(self.now));
                self.taken(How::Leased)
            }
            Taken::Over(wait, quota) => {
                self.tell(lease.levels(self.now));
                Seat::Over(self.limit.over(quota, wait))
            }
            Taken::Ask(want) => {
                let asked = self.ask(lease, counted, want);
                lease.waits();
                Seat::Trip(Trip {
                    cells: self.limit.cells.clone(),
                    tag: self.tag,
                    limit: self.at,
                    want,
                    asked: Some(asked),
                })
            }
        }
    }

    fn ask(&self, lease: &mut Lease, counted: &Counted<'_>, want: u32) -> lease::Asked {
        let address;
        let apart = self.limit.apart.as_deref();
        let names = match counted.id {
            Id::Everyone => [apart, None],
            Id::Address(ip) => {
                address = ip.to_string();
                [Some(&*address), apart]
            }
            Id::Name(name) => [Some(name), apart],
            Id::Within(outer, name) => [Some(outer), Some(name)],
        };
        let names: Vec<_> = names.into_iter().flatten().collect();
        let owner = if names.is_empty() {
            Owner::Global
        } else {
            Owner::Named(&names)
        };
        let (quotas, told) = (&counted.quotas, lease.told(self.now));
        let call = script::call(owner, &self.limit.name, quotas, want, told);
        lease.asked(self.store.run(call), self.now)
    }

    /// What holds while the store is away, and for those who find no room.
    fn alone(&self, cell: &mut Cell, lease: Option<&mut Lease>, up: bool) -> Seat {
        if !up {
            if self.store.on_error() == OnError::Refuse {
                return Seat::Away;
            }
            self.store.decided_alone();
        }
        if let Some((wait, quota)) = cell.wait(self.now) {
            self.tell(cell.levels(self.now));
            return Seat::Over(self.limit.over(quota, wait));
        }
        let charge = cell.charge(self.now, true);
        if let Some(lease) = lease {
            lease.alone(self.now);
        }
        self.tell(cell.levels(self.now));
        self.taken(How::Alone(charge))
    }

    fn taken(&self, how: How) -> Seat {
        Seat::Taken(Open::new(self.limit.cells.clone(), self.tag, how))
    }

    fn tell(&self, levels: impl Iterator<Item = super::cell::Level>) {
        if let Some(record) = self.record.filter(|_| self.limit.told) {
            stands(&self.limit.name, record, levels);
        }
    }
}

impl Trip {
    /// What the limit says, when the store has answered.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        limits: &[Limit],
        store: &Arc<dyn Store>,
        now: impl Fn(&Cells) -> u64,
        record: Option<&Record>,
    ) -> Poll<Seat> {
        let asked = self.asked.as_mut().expect("a trip ends once");
        let answer = std::task::ready!(Pin::new(&mut asked.promise).poll(cx));
        let asked = self.asked.take().expect("it was here just now");
        let now = now(&self.cells);
        let desk = Desk {
            limit: &limits[self.limit],
            at: self.limit,
            tag: self.tag,
            store,
            now,
            record,
        };
        let mut shard = self.cells.shard(self.tag);
        // One that somebody waits for is not evicted.
        let Some((cell, Some(lease))) = shard.get(self.tag) else {
            return Poll::Ready(Seat::Away);
        };
        lease.waited(self.want);
        Poll::Ready(match lease.settle(&asked, answer.ok().as_deref(), now) {
            None => desk.alone(cell, Some(lease), false),
            Some(answer) if answer.granted > 0 => {
                lease.take_own();
                cell.note(now);
                desk.tell(lease.levels(now));
                desk.taken(How::Leased)
            }
            Some(answer) => {
                desk.tell(lease.levels(now));
                let quota = lease.quota(answer.which);
                Seat::Over(desk.limit.over(quota, answer.wait))
            }
        })
    }
}

impl Drop for Trip {
    fn drop(&mut self) {
        // Nobody waits any more; what it gets is for those who come.
        let Some(asked) = self.asked.take() else {
            return;
        };
        if let Some((_, Some(lease))) = self.cells.shard(self.tag).get(self.tag) {
            lease.waited(self.want);
            lease.forgotten(asked);
        }
    }
}
