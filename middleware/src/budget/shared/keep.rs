//! What runs beside the requests: hears what was answered, renews what is reserved, tells what could not be told.

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use super::{
    Errand, Errands, Settle, Shared,
    call::Answer,
    place::{Due, Place},
};
use crate::{
    budget::journal::Threshold,
    clock::{Clock, Timer},
    store::Contact,
};

/// How often it is seen what was answered.
const TURN: Duration = Duration::from_millis(50);
/// How often accounts are gone through.
const SCAN: Duration = Duration::from_secs(1);
/// Accounts that are looked at in one turn: a look costs the store some 25 us, and requests wait behind it.
const LOOKS: usize = 64;
/// Ends that are kept, and how many of them are told at once.
pub(super) const KEPT: usize = 65_536;
const AT_ONCE: usize = 256;
/// How long an end may take to be told when a process ends.
const PATIENCE: Duration = Duration::from_secs(1);

impl Errands {
    /// Keeps ends that could not be told: whether there are any, and how many were too many.
    pub(super) fn keep(&mut self, failed: &mut Vec<Settle>) -> (bool, u64) {
        let any = !failed.is_empty();
        self.failed.extend(failed.drain(..));
        let over = self.failed.len().saturating_sub(KEPT);
        self.failed.drain(..over);
        (any, over as u64)
    }
}

impl Shared {
    /// Keeps the accounts: renews what is reserved, tells what could not be told, and sees how they stand. It never ends, and is dropped
    /// with what it runs beside.
    pub async fn keep<C: Clock>(&self, clock: C) {
        let mut timer = pin!(clock.sleep_until(clock.now()));
        loop {
            timer.as_mut().await;
            self.turn(clock.now(), clock.wall());
            timer.as_mut().reset(clock.now() + TURN);
        }
    }

    /// Waits until the store knows all that has ended, a second at most: before a process ends.
    pub async fn flush<C: Clock>(&self, clock: C) {
        let until = clock.now() + PATIENCE;
        let mut timer = pin!(clock.sleep_until(clock.now()));
        loop {
            timer.as_mut().await;
            self.turn(clock.now(), clock.wall());
            let now = clock.now();
            if self.untold() == 0 || now >= until {
                return;
            }
            timer.as_mut().reset(now + TURN / 5);
        }
    }

    /// One turn of [`keep`](Self::keep).
    pub(super) fn turn(&self, now: Instant, wall: SystemTime) {
        let now = self.nanos(now);
        let failed = self.collect(now, wall);
        let scan = u64::try_from(SCAN.as_nanos()).unwrap_or(u64::MAX);
        let last = self.all.scanned.load(Ordering::Relaxed);
        if !failed && self.store.contact() == Contact::Up {
            self.tell_again();
        }
        if last != u64::MAX && now.saturating_sub(last) < scan {
            return;
        }
        // A store that is away hears nothing: what is due then is so later.
        if self.store.contact() != Contact::Up {
            return;
        }
        let mut places: Vec<_> = self.places().values().cloned().collect();
        places.push(self.all.global.clone());
        let (mut looks, mut sent) = (Vec::new(), 0);
        for place in places {
            self.tell(&place);
            match place.due(now) {
                // First, and all of them: what is not renewed is charged as lost.
                Some(Due::Renew) => self.look(place, true),
                Some(Due::Look) => looks.push(place),
                None => {}
            }
        }
        for place in looks {
            if sent == LOOKS {
                // The others have their turn at once: a burst would keep the requests of all replicas waiting.
                return;
            }
            let renews = place.holds();
            self.look(place, renews);
            sent += 1;
        }
        self.all.scanned.store(now, Ordering::Relaxed);
    }

    fn look(&self, place: Arc<Place>, renews: bool) {
        let process = self.process();
        let call = place.look(&process, renews);
        self.send(call, Errand::Look(place, renews));
    }

    /// Sees what was answered; whether an end could not be told.
    fn collect(&self, now: u64, wall: SystemTime) -> bool {
        let (mut answered, mut failed) = (Vec::new(), Vec::new());
        let (any, dropped) = {
            let mut errands = self.errands();
            for (errand, mut promise) in std::mem::take(&mut errands.flying) {
                let Some(answer) = promise.take() else {
                    errands.flying.push((errand, promise));
                    continue;
                };
                let answer = answer.ok().and_then(|numbers| Answer::read(&numbers));
                match (errand, answer) {
                    (Errand::Settle(settle), None) => failed.push(settle),
                    (errand, answer) => answered.push((errand, answer)),
                }
            }
            errands.keep(&mut failed)
        };
        self.dropped(dropped);
        for (errand, answer) in answered {
            self.answered(errand, answer, now, wall);
        }
        any
    }

    fn answered(&self, errand: Errand, answer: Option<Answer>, now: u64, wall: SystemTime) {
        match (errand, answer) {
            (Errand::Settle(settle), Some(answer)) => self.heard(&settle.place, &answer, now, wall),
            (Errand::Tell(place, number), answer) => {
                place.told(answer.map(|_| number));
                if let Some(answer) = answer {
                    self.heard(&place, &answer, now, wall);
                    self.tell(&place);
                }
            }
            (Errand::Look(place, renews), Some(answer)) => {
                if renews {
                    place.renewed(now);
                }
                self.heard(&place, &answer, now, wall);
            }
            (Errand::Look(..) | Errand::Settle(_), None) => {}
        }
    }

    /// The store has answered.
    pub(super) fn heard(&self, place: &Arc<Place>, answer: &Answer, now: u64, wall: SystemTime) {
        place.heard(answer, now);
        if answer.lost > 0 {
            self.all
                .counts
                .lost
                .fetch_add(answer.lost, Ordering::Relaxed);
        }
        let (Some(percent), Some(tell)) = (answer.crossed, &self.all.tell) else {
            return;
        };
        if let Some(budget) = place.budget() {
            tell(&Threshold {
                account: place.name.clone(),
                budget,
                percent,
                spent: answer.known.spent[budget.per as usize],
                at: wall,
            });
        }
    }

    /// So many ends were not kept.
    pub(super) fn dropped(&self, count: u64) {
        if count > 0 {
            self.all.counts.dropped.fetch_add(count, Ordering::Relaxed);
            // Nobody renews what was reserved so far, and so what is dropped does not stay reserved for ever. What runs is put right
            // when it ends.
            self.all.turn.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn tell_again(&self) {
        let again: Vec<_> = {
            let mut errands = self.errands();
            let count = errands.failed.len().min(AT_ONCE);
            errands.failed.drain(..count).collect()
        };
        self.all
            .counts
            .late
            .fetch_add(again.len() as u64, Ordering::Relaxed);
        for settle in again {
            self.send_end(settle);
        }
    }
}
