//! The targets and the strategy: who is to be asked first, and who next.

use std::time::Instant;

use super::{
    strategy::{Candidate, Dice, Strategy},
    target::Seat,
};
use crate::{
    attempt::{Ahead, Ask, Chosen, Course, Failure, Next, bit},
    health::{Health, Ratio, Want},
};

#[derive(Debug)]
pub(super) struct Field {
    pub(super) seats: Box<[Seat]>,
    pub(super) strategy: Strategy,
    pub(super) dice: Dice,
    /// Where that goes which a provider keeps.
    pub(super) state: usize,
}

/// Nobody can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nobody {
    /// When the first circuit lets somebody through again.
    pub(super) until: Option<Instant>,
}

impl Field {
    /// The targets that a request for this model may go to, a bit for each; `pin` names the only provider.
    pub(super) fn eligible(&self, model: Option<&str>, pin: Option<&str>, bound: bool) -> u64 {
        let seats = self.seats.iter().enumerate();
        let may = seats.filter(|(at, seat)| self.admits(*at, seat, model, pin, bound).is_ok());
        may.fold(0, |all, (at, _)| all | bit(at))
    }

    /// Those of these targets whose price for this model is known.
    pub(super) fn priced(&self, among: u64, model: Option<&str>) -> u64 {
        let seats = self.seats.iter().enumerate();
        let priced =
            seats.filter(|(at, seat)| among & bit(*at) != 0 && seat.price(model).is_some());
        priced.fold(0, |all, (at, _)| all | bit(at))
    }

    /// Whether a target takes such a request at all, or why not.
    pub(super) fn admits(
        &self,
        at: usize,
        seat: &Seat,
        model: Option<&str>,
        pin: Option<&str>,
        bound: bool,
    ) -> Result<(), &'static str> {
        match pin {
            _ if bound && at == self.state => Ok(()),
            _ if bound => Err("it is not the state target"),
            _ if seat.weight == 0 => Err("its weight is 0"),
            Some(pin) if **seat.endpoint.provider() != *pin => Err("another provider was named"),
            None if seat.only_by_name => Err("it lists no models, and was not named"),
            _ if !seat.takes(model) => Err("it does not list the model"),
            _ => Ok(()),
        }
    }

    /// The one to ask first.
    pub(super) fn first(&self, ask: &Ask, now: impl Fn() -> Instant) -> Result<Chosen, Nobody> {
        let model = ask.model.as_deref();
        if ask.eligible.is_power_of_two() {
            // There is no choice: what stands in front of the target has the last word.
            let index = ask.eligible.trailing_zeros() as usize;
            let health = self.seats[index].health(model);
            return Ok(self.seats[index].chosen(index, health));
        }
        let now = now();
        let free = self.candidates(ask, ask.eligible, now, |candidate| {
            self.is_free(candidate, ask, now)
        });
        if !free.is_empty() {
            let picked = &free[self.strategy.pick(ask, &free, &self.dice)];
            return Ok(self.chosen(picked));
        }
        // All want to be left alone: the one that returns first. Its own word is better than ours.
        let admitted = self.candidates(ask, ask.eligible, now, |it| it.health().admits(now));
        let soonest = admitted
            .iter()
            .min_by_key(|it| self.returns(it, ask, now).0);
        if let Some(soonest) = soonest {
            return Ok(self.chosen(soonest));
        }
        let all = self.candidates(ask, ask.eligible, now, |_| true);
        let until = all
            .iter()
            .filter_map(|it| it.health().next_probe(now))
            .min();
        Err(Nobody { until })
    }

    /// The one that was planned.
    pub(super) fn at(&self, index: usize, model: Option<&str>) -> Option<Chosen> {
        let seat = self.seats.get(index)?;
        Some(seat.chosen(index, seat.health(model)))
    }

    fn chosen(&self, candidate: &Candidate<'_>) -> Chosen {
        let index = candidate.index();
        self.seats[index].chosen(index, candidate.health().clone())
    }

    fn candidates(
        &self,
        ask: &Ask,
        among: u64,
        now: Instant,
        may: impl Fn(&Candidate<'_>) -> bool,
    ) -> Vec<Candidate<'_>> {
        let model = ask.model.as_deref();
        let seats = self
            .seats
            .iter()
            .enumerate()
            .filter(|(at, _)| among & bit(*at) != 0);
        let all = seats.map(|(at, seat)| Candidate::new(at, seat, seat.health(model), now));
        all.filter(may).collect()
    }

    /// Whether a target can be asked at once.
    fn is_free(&self, candidate: &Candidate<'_>, ask: &Ask, now: Instant) -> bool {
        candidate.health().admits(now) && self.returns(candidate, ask, now) == (now, false)
    }

    /// When a target, and one of its credentials, may be asked; and whether it said so itself.
    fn returns(&self, candidate: &Candidate<'_>, ask: &Ask, now: Instant) -> (Instant, bool) {
        let seat = &self.seats[candidate.index()];
        let own = candidate.health().pulse().parked(now);
        let want = self.want(candidate.health(), seat, ask);
        let keys = seat.keys.as_ref().and_then(|keys| keys.parked(&want, now));
        let later = own.into_iter().chain(keys).max_by_key(|park| park.until);
        later.map_or((now, false), |park| (park.until, park.told))
    }

    fn want<'a>(&self, health: &'a Health, seat: &'a Seat, ask: &'a Ask) -> Want<'a> {
        let own = ask
            .terms
            .as_ref()
            .and_then(|terms| terms.credential.as_deref());
        Want {
            pins: [own, seat.pin.as_deref()],
            model: health.model().map(|model| &**model),
            tried: 0,
            first: ask.bound,
        }
    }

    /// One that was not asked yet, for which there is leave. `Err` if there are some, but for none of them.
    fn other(&self, course: &Course, ratio: Ratio, now: Instant) -> Result<Option<usize>, ()> {
        let ask = &course.ask;
        let among = ask.eligible & !course.tried & !course.barred;
        let mut free = self.candidates(ask, among, now, |it| self.is_free(it, ask, now));
        let any = !free.is_empty();
        while !free.is_empty() {
            let picked = free.remove(self.strategy.pick(ask, &free, &self.dice));
            let pulse = picked.health().pulse();
            if !pulse.is_failing(now) || pulse.spend(ratio, now) {
                return Ok(Some(picked.index()));
            }
        }
        if any { Err(()) } else { Ok(None) }
    }

    /// One that was asked, once more: the one that may be asked first.
    fn again(&self, course: &Course, ratio: Ratio, now: Instant) -> Option<Next> {
        let ask = &course.ask;
        let among = ask.eligible & course.tried & !course.barred;
        let has_leave = |at: usize| {
            let most = self.seats[at].attempts;
            most.is_none_or(|most| course.times(at) < most)
        };
        // What a target only seems to want binds nobody who was not told.
        let not_before = |it: &Candidate<'_>| {
            let (until, told) = self.returns(it, ask, now);
            let alone = course.told.filter(|(at, _)| *at == it.index());
            let alone = alone.map(|(_, until)| until);
            told.then_some(until).max(alone)
        };
        let may = |it: &Candidate<'_>| has_leave(it.index()) && it.health().admits(now);
        let mut free = self.candidates(ask, among, now, may);
        let soonest = free.iter().map(not_before).min()?;
        free.retain(|it| not_before(it) == soonest);
        let picked = &free[self.strategy.pick(ask, &free, &self.dice)];
        let pulse = picked.health().pulse();
        pulse.spend(ratio, now).then(|| Next {
            index: picked.index(),
            again: true,
            not_before: soonest,
        })
    }

    /// The same target with another credential.
    fn other_key(&self, course: &Course, ratio: Ratio, now: Instant) -> Option<Next> {
        let chosen = course.chosen.as_ref()?;
        let seat = &self.seats[chosen.index];
        let want = Want {
            tried: course.keys,
            ..self.want(&chosen.health, seat, &course.ask)
        };
        let keys = seat.keys.as_ref()?;
        let may = keys.has_other(&want, now)
            && seat
                .attempts
                .is_none_or(|most| course.times(chosen.index) < most);
        (may && chosen.health.pulse().spend(ratio, now)).then_some(Next {
            index: chosen.index,
            again: false,
            not_before: None,
        })
    }
}

impl Ahead for Field {
    fn next(&self, course: &Course, failure: Failure, ratio: Ratio, now: Instant) -> Option<Next> {
        if matches!(failure, Failure::Credential { .. })
            && let Some(next) = self.other_key(course, ratio, now)
        {
            return Some(next);
        }
        if let Some(index) = self.other(course, ratio, now).ok()? {
            return Some(Next {
                index,
                again: false,
                not_before: None,
            });
        }
        match failure {
            Failure::Retryable | Failure::Credential { limited: true } => {
                self.again(course, ratio, now)
            }
            Failure::Elsewhere | Failure::Credential { limited: false } => None,
        }
    }
}
