use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use http::Extensions;

use super::{
    circuit::{Changes, Circuit, Pass, Seen, Verdict},
    policy::Policy,
    pulse::Pulse,
};
use crate::{
    attempt::Attempt,
    facts::{Intent, Route},
};

/// The health of every target: one value per provider and upstream model. Clones are the same board.
///
/// Of one provider, [`MODELS`](Self::MODELS) models have a value of their own. Where callers ask for more than that, those of which
/// nothing is known make room; what finds none shares one value.
#[derive(Clone)]
pub struct Board {
    common: Arc<Common>,
    providers: Arc<RwLock<HashMap<Arc<str>, Arc<Provider>>>>,
}

/// What all values of a board share.
struct Common {
    // Moments are counted from here.
    base: Instant,
    told: Option<Box<Listener>>,
    /// Somebody goes by what runs at targets.
    counts: AtomicBool,
}

type Listener = dyn Fn(&Change) + Send + Sync;

struct Provider {
    common: Arc<Common>,
    name: Arc<str>,
    models: RwLock<HashMap<Arc<str>, Health>>,
}

/// What is known of one target. Clones are the same value.
#[derive(Clone)]
pub struct Health(Arc<Value>);

struct Value {
    common: Arc<Common>,
    provider: Arc<str>,
    model: Option<Arc<str>>,
    circuit: Circuit,
    pulse: Pulse,
}

/// A request that runs at a target.
#[derive(Debug)]
pub struct Load(Health);

/// The state of a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Requests pass.
    Closed,
    /// Requests are refused until then; the first one after it is a probe.
    Open {
        /// When the next probe may go.
        until: Instant,
    },
    /// Some requests try whether it can be closed.
    HalfOpen {
        /// So many more may.
        free: u32,
    },
}

/// A circuit has changed its state.
#[derive(Clone, Debug)]
pub struct Change {
    /// Whose circuit it is.
    pub health: Health,
    /// What it was.
    pub from: State,
    /// What it is.
    pub to: State,
    /// When it was noticed.
    pub at: Instant,
}

/// Says which health a request is about, at one target.
#[derive(Clone)]
pub struct Source {
    provider: Arc<Provider>,
    names: Names,
}

#[derive(Clone)]
enum Names {
    /// Always this one.
    Fixed(Health),
    /// By the model that is asked for, by the provider's name for it.
    Asked(Arc<Own>),
}

/// The provider's own name for a public one.
type Own = dyn Fn(&str) -> Option<Arc<str>> + Send + Sync;

// ===== impl Board =====

impl Board {
    /// How many models of one provider have a value of their own.
    pub const MODELS: usize = 1000;

    /// A board on which nothing stands yet, at this moment.
    pub fn new(now: Instant) -> Self {
        Self::make(now, None)
    }

    /// The same; `told` hears of each change of a circuit, from the task that made it or noticed it.
    pub fn telling(now: Instant, told: impl Fn(&Change) + Send + Sync + 'static) -> Self {
        Self::make(now, Some(Box::new(told)))
    }

    fn make(base: Instant, told: Option<Box<Listener>>) -> Self {
        Self {
            common: Arc::new(Common {
                base,
                told,
                counts: AtomicBool::new(false),
            }),
            providers: Arc::default(),
        }
    }

    /// What is known of a provider's model; `None` stands for requests that name none.
    pub fn health(&self, provider: &str, model: Option<&str>) -> Health {
        self.provider(provider).health(model)
    }

    /// All that stand on the board, in no order.
    pub fn all(&self) -> Vec<Health> {
        let providers = self.providers.read();
        let providers = providers.unwrap_or_else(PoisonError::into_inner);
        let models = |provider: &Arc<Provider>| {
            let models = provider.models.read();
            let models = models.unwrap_or_else(PoisonError::into_inner);
            models.values().cloned().collect::<Vec<_>>()
        };
        providers.values().flat_map(models).collect()
    }

    fn provider(&self, name: &str) -> Arc<Provider> {
        let providers = self.providers.read();
        let found = providers.unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = found.get(name) {
            return found.clone();
        }
        drop(found);
        let providers = self.providers.write();
        let mut providers = providers.unwrap_or_else(PoisonError::into_inner);
        let name: Arc<str> = name.into();
        let fresh = || {
            Arc::new(Provider {
                common: self.common.clone(),
                name: name.clone(),
                models: RwLock::default(),
            })
        };
        providers.entry(name.clone()).or_insert_with(fresh).clone()
    }
}

impl Common {
    fn micros(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.base);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    fn state(&self, seen: Seen) -> State {
        match seen {
            Seen::Closed => State::Closed,
            Seen::Open(until) => State::Open {
                until: self.instant(until),
            },
            Seen::HalfOpen { free, .. } => State::HalfOpen {
                free: u32::try_from(free).unwrap_or(u32::MAX),
            },
        }
    }

    fn instant(&self, micros: u64) -> Instant {
        let since = Duration::from_micros(micros);
        // Some hundred years from now there may be no such moment.
        self.base.checked_add(since).unwrap_or(self.base)
    }
}

impl Provider {
    fn health(&self, model: Option<&str>) -> Health {
        let key = model.unwrap_or_default();
        let models = self.models.read();
        let found = models.unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = found.get(key) {
            return found.clone();
        }
        drop(found);
        let models = self.models.write();
        let mut models = models.unwrap_or_else(PoisonError::into_inner);
        if models.len() >= Board::MODELS {
            models.retain(|_, health| !health.is_blank());
        }
        // What finds no room shares a value, under a name that stands for all of these.
        let key = if models.len() >= Board::MODELS {
            OTHERS
        } else {
            key
        };
        let key: Arc<str> = key.into();
        let fresh = || {
            Health(Arc::new(Value {
                common: self.common.clone(),
                provider: self.name.clone(),
                model: (!key.is_empty()).then(|| key.clone()),
                circuit: Circuit::new(),
                pulse: Pulse::default(),
            }))
        };
        models.entry(key.clone()).or_insert_with(fresh).clone()
    }
}

/// No provider has a model of this name.
const OTHERS: &str = "*";

// ===== impl Health =====

impl Health {
    /// The provider's name.
    pub fn provider(&self) -> &Arc<str> {
        &self.0.provider
    }

    /// The model, in the provider's words; `None` for requests that name none. `*` stands for all that found no room.
    pub fn model(&self) -> Option<&Arc<str>> {
        self.0.model.as_ref()
    }

    /// How it has been doing.
    pub fn pulse(&self) -> &Pulse {
        &self.0.pulse
    }

    /// A request runs there until the value is dropped.
    pub fn load(&self) -> Load {
        self.0.pulse.come();
        Load(self.clone())
    }

    /// Whether the circuit is closed; what is asked without the time.
    pub fn is_closed(&self) -> bool {
        self.0.circuit.is_closed()
    }

    /// The state of the circuit.
    pub fn state(&self, now: Instant) -> State {
        self.0.common.state(self.seen(now))
    }

    /// Whether a request would be let in.
    pub fn admits(&self, now: Instant) -> bool {
        match self.seen(now) {
            Seen::Closed => true,
            Seen::Open(until) => until <= self.0.common.micros(now),
            Seen::HalfOpen { free, .. } => free > 0,
        }
    }

    /// When a request may be let in, where it is not let in now: the time of the next probe, or, while others try, a second
    /// from now.
    pub fn next_probe(&self, now: Instant) -> Option<Instant> {
        match self.state(now) {
            State::Open { until } if until > now => Some(until),
            State::HalfOpen { free: 0 } => Some(now + Duration::from_secs(1)),
            _ => None,
        }
    }

    /// Leave to ask the target; `clock` is how long a probe has for its first output, if it has a limit.
    ///
    /// # Errors
    ///
    /// When to come again, if the circuit is open or as many try as may.
    pub fn enter(
        &self,
        policy: &Policy,
        clock: Option<Duration>,
        now: Instant,
    ) -> Result<Pass, Instant> {
        let (common, mut changes) = (&self.0.common, Changes::new());
        let moment = common.micros(now);
        let pass = self
            .0
            .circuit
            .enter(policy, clock, moment, &mut changes)
            .map_err(|at| common.instant(at));
        self.tell(changes, now);
        pass
    }

    /// Says what became of an attempt.
    pub fn settle(&self, pass: Pass, verdict: Verdict, policy: &Policy, now: Instant) {
        self.settle_one_of(pass, verdict, None, policy, now);
    }

    /// Says what became of an attempt of a request that may make several: its failures here count as one, and a success after
    /// a failure is no other request.
    #[expect(clippy::needless_pass_by_value, reason = "a pass is settled once")]
    pub fn settle_one_of(
        &self,
        pass: Pass,
        verdict: Verdict,
        tries: Option<&Attempt>,
        policy: &Policy,
        now: Instant,
    ) {
        let place = Arc::as_ptr(&self.0).addr();
        let repeated = tries.is_some_and(|tries| tries.has_failed(place));
        if let (Verdict::Failure, Some(tries)) = (verdict, tries) {
            let _ = tries.fail(place);
        }
        let moment = self.0.common.micros(now);
        let (judged, mut changes) = ((verdict, repeated), Changes::new());
        self.0
            .circuit
            .settle(&pass, judged, policy, moment, &mut changes);
        self.tell(changes, now);
    }

    fn seen(&self, now: Instant) -> Seen {
        let mut changes = Changes::new();
        let moment = self.0.common.micros(now);
        let seen = self.0.circuit.seen(moment, &mut changes);
        self.tell(changes, now);
        seen
    }

    fn tell(&self, changes: Changes, at: Instant) {
        let common = &self.0.common;
        let Some(told) = &common.told else { return };
        for (from, to) in changes {
            told(&Change {
                health: self.clone(),
                from: common.state(from),
                to: common.state(to),
                at,
            });
        }
    }

    /// Whether nobody holds it but the board, and nothing is known that would be missed.
    fn is_blank(&self) -> bool {
        Arc::strong_count(&self.0) == 1 && self.0.circuit.is_blank() && self.0.pulse.is_blank()
    }
}

// ===== impl Source =====

impl Source {
    /// Every request is about this model of the provider.
    pub fn fixed(board: &Board, provider: &str, model: &str) -> Self {
        let provider = board.provider(provider);
        let health = provider.health(Some(model));
        Self {
            provider,
            names: Names::Fixed(health),
        }
    }

    /// A request is about the model that it asks for: by the name that `own` has for it, else by its own. What the request
    /// asks for is in [`Route`], or else in [`Intent`].
    pub fn by_model(
        board: &Board,
        provider: &str,
        own: impl Fn(&str) -> Option<Arc<str>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            provider: board.provider(provider),
            names: Names::Asked(Arc::new(own)),
        }
    }

    /// Somebody goes by what runs at the targets of this board: from now on all who ask one count there.
    pub fn count(&self) {
        self.provider.common.counts.store(true, Ordering::Relaxed);
    }

    /// Whether somebody goes by what runs.
    pub fn counts(&self) -> bool {
        self.provider.common.counts.load(Ordering::Relaxed)
    }

    /// The health that a request with these facts is about.
    pub fn of(&self, facts: &Extensions) -> Health {
        let own = match &self.names {
            Names::Fixed(health) => return health.clone(),
            Names::Asked(own) => own,
        };
        let routed = facts.get().and_then(|route: &Route| route.model.as_deref());
        let asked = || facts.get().and_then(Intent::model);
        self.named(own, routed.or_else(asked))
    }

    /// The health that a request for this model is about, by the name that callers ask for.
    pub fn of_model(&self, model: Option<&str>) -> Health {
        match &self.names {
            Names::Fixed(health) => health.clone(),
            Names::Asked(own) => self.named(own, model),
        }
    }

    fn named(&self, own: &Arc<Own>, model: Option<&str>) -> Health {
        match model.and_then(|model| own(model)) {
            Some(own) => self.provider.health(Some(&own)),
            None => self.provider.health(model),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.pulse().leave();
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.all()).finish()
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health")
            .field("provider", &self.0.provider)
            .field("model", &self.0.model)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("provider", &self.provider.name)
            .finish_non_exhaustive()
    }
}
