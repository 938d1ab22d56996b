use std::fmt;

use crate::{
    attempt::Chosen,
    facts::Endpoint,
    health::{Health, Keys, Source},
    prices::Price,
};

/// One of the targets of a [`Balance`](super::Balance): its name, its service, and what is to be known for picking it.
pub struct Target<S> {
    pub(super) seat: Seat,
    pub(super) service: S,
}

/// A target without its service.
pub(super) struct Seat {
    pub(super) endpoint: Endpoint,
    pub(super) weight: u32,
    pub(super) attempts: Option<u32>,
    pub(super) keys: Option<Keys>,
    pub(super) pin: Option<Box<str>>,
    pub(super) only_by_name: bool,
    pub(super) callers_own: bool,
    pub(super) source: Source,
    serves: Option<Box<Serves>>,
    prices: Option<Box<Prices>>,
    hash: u64,
}

type Serves = dyn Fn(&str) -> bool + Send + Sync;
type Prices = dyn Fn(Option<&str>) -> Option<Price> + Send + Sync;

impl<S> Target<S> {
    /// A target of weight 1 that takes any model; `source` says what is known of it.
    pub fn new(endpoint: Endpoint, source: Source, service: S) -> Self {
        Self {
            seat: Seat {
                endpoint,
                weight: 1,
                attempts: None,
                keys: None,
                pin: None,
                only_by_name: false,
                callers_own: false,
                source,
                serves: None,
                prices: None,
                hash: 0,
            },
            service,
        }
    }

    /// How much of the traffic it gets beside others; 0 is none at all, whatever the strategy.
    #[must_use]
    pub fn weight(mut self, weight: u32) -> Self {
        self.seat.weight = weight;
        self
    }

    /// How often it is asked for one request at the most; unless set, as often as `retry` has leave.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.seat.attempts = Some(attempts);
        self
    }

    /// The credentials that its service uses, and the name of the one that it always uses, if there is one.
    #[must_use]
    pub fn keys(mut self, keys: Keys, pin: Option<Box<str>>) -> Self {
        self.seat.keys = Some(keys);
        self.seat.pin = pin;
        self
    }

    /// Callers bring their own credentials: that one of them has to wait is nothing to the others.
    #[must_use]
    pub fn callers_own(mut self, yes: bool) -> Self {
        self.seat.callers_own = yes;
        self
    }

    /// Which models it can be asked for. A request that names none may go to it in any case.
    #[must_use]
    pub fn serves(mut self, serves: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.seat.serves = Some(Box::new(serves));
        self
    }

    /// It is asked only by requests that name its provider.
    #[must_use]
    pub fn only_by_name(mut self) -> Self {
        self.seat.only_by_name = true;
        self
    }

    /// What a model costs there, by the name that callers ask for.
    #[must_use]
    pub fn prices(
        mut self,
        prices: impl Fn(Option<&str>) -> Option<Price> + Send + Sync + 'static,
    ) -> Self {
        self.seat.prices = Some(Box::new(prices));
        self
    }
}

impl Seat {
    pub(super) fn takes(&self, model: Option<&str>) -> bool {
        match (&self.serves, model) {
            (Some(serves), Some(model)) => serves(model),
            _ => true,
        }
    }

    pub(super) fn health(&self, model: Option<&str>) -> Health {
        self.source.of_model(model)
    }

    /// What tells it from others where keys are spread: the same in every replica.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn price(&self, model: Option<&str>) -> Option<Price> {
        self.prices.as_ref()?(model)
    }

    pub(super) fn chosen(&self, index: usize, health: Health) -> Chosen {
        Chosen {
            index,
            health,
            keys: self.keys.clone(),
        }
    }
}

impl<S> fmt::Debug for Target<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.seat.fmt(f)
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("endpoint", &self.endpoint)
            .field("weight", &self.weight)
            .finish_non_exhaustive()
    }
}

/// Gives each target its hash: of its name and label, and of its place among those that have the same.
pub(super) fn tell_apart(seats: &mut [Seat]) {
    for at in 0..seats.len() {
        let (before, rest) = seats.split_at_mut(at);
        let Some(seat) = rest.first_mut() else { return };
        let like = before
            .iter()
            .filter(|it| it.endpoint == seat.endpoint)
            .count();
        let label = seat.endpoint.label().map_or("", |label| label);
        let name = format!("{}\n{label}\n{like}", seat.endpoint.target());
        seat.hash = super::ask::hash("target", name.as_bytes());
    }
}
