//! The choice itself: among targets that may be asked, one.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use super::target::Seat;
use crate::{
    attempt::Ask,
    chance::{self, Chance},
    facts::Endpoint,
    health::{Health, Reading},
    prices::Price,
};

/// How a target is picked among those that may be asked.
#[derive(Clone, Default)]
pub enum Strategy {
    /// The first one.
    #[default]
    Fallback,
    /// By chance, each as often as its weight says; to whom the choice sticks, always the same one.
    Weighted,
    /// One after the other.
    RoundRobin,
    /// The one where the fewest requests run.
    LeastInflight,
    /// The better one of two by chance: by its slowest answers of late, times the requests that run there.
    P2c,
    /// The one that is fastest to its first output; whom nobody has measured is asked first, and one request in ten goes anywhere, to
    /// find out.
    LeastLatency,
    /// The one where the request costs least; without a price: last.
    Cheapest,
    /// The same one for the same session, cache key, caller or address.
    Sticky,
    /// One's own.
    Own(Arc<dyn Choose>),
}

/// A strategy of one's own. It is asked on a request's way: it must not wait.
///
/// ```
/// use std::sync::Arc;
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::{BodyExt, Full};
/// use tollgate_middleware::{
///     attempt::Ask, balance::{Balance, Candidate, Choose, Strategy, Target}, clock::{Clock, SystemClock},
///     error::BoxError, facts::Endpoint, health::{Board, Source},
/// };
/// use tower::{ServiceExt, service_fn};
///
/// /// Long answers to the target that is labelled for them.
/// struct ByLength;
///
/// impl Choose for ByLength {
///     fn choose(&self, ask: &Ask, candidates: &[Candidate<'_>]) -> usize {
///         let (_input, output) = ask.tokens;
///         let wanted = if output > 2000 { "long" } else { "short" };
///         let labelled = |it: &Candidate<'_>| it.endpoint().label().is_some_and(|label| **label == *wanted);
///         candidates.iter().position(labelled).unwrap_or(0)
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let board = Board::new(SystemClock.now());
/// let target = |label: &'static str| {
///     let service = service_fn(move |_: Request<()>| {
///         std::future::ready(Ok::<_, BoxError>(Response::new(Full::<Bytes>::from(label))))
///     });
///     Target::new(Endpoint::new("p", label, Some(label.into())), Source::fixed(&board, "p", label), service)
/// };
/// let balance = Balance::new([target("short"), target("long")], Strategy::Own(Arc::new(ByLength))).unwrap();
/// // Nobody says how long the answer may be: then 4,096 tokens are reckoned with.
/// let req = Request::post("/v1/chat/completions").body(()).unwrap();
/// let answer = balance.oneshot(req).await.unwrap();
/// assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "long");
/// # });
/// ```
pub trait Choose: Send + Sync + 'static {
    /// The place, in `candidates`, of the one to ask; there is at least one. A place that is not there means the last.
    fn choose(&self, ask: &Ask, candidates: &[Candidate<'_>]) -> usize;
}

/// A target that may be asked.
#[derive(Debug)]
pub struct Candidate<'a> {
    index: usize,
    seat: &'a Seat,
    health: Health,
    now: Instant,
}

/// What picking needs besides the targets.
#[derive(Debug)]
pub(super) struct Dice {
    pub(super) chance: Chance,
    turn: AtomicUsize,
}

// ===== impl Candidate =====

impl<'a> Candidate<'a> {
    pub(super) fn new(index: usize, seat: &'a Seat, health: Health, now: Instant) -> Self {
        Self {
            index,
            seat,
            health,
            now,
        }
    }

    /// Its place among all targets.
    pub fn index(&self) -> usize {
        self.index
    }

    /// What it is called.
    pub fn endpoint(&self) -> &'a Endpoint {
        &self.seat.endpoint
    }

    /// Its weight, at least 1.
    pub fn weight(&self) -> u32 {
        self.seat.weight
    }

    /// What is known of it.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// How it has been doing.
    pub fn reading(&self) -> Reading {
        self.health.pulse().read(self.now)
    }

    /// What a request would cost there, in millionths of a USD; `None` where that is not known.
    pub fn cost(&self, ask: &Ask) -> Option<f64> {
        let Price { input, output, .. } = self.seat.price(ask.model.as_deref())?;
        Some(ask.tokens.0 as f64 * input + ask.tokens.1 as f64 * output)
    }
}

// ===== impl Dice =====

impl Dice {
    pub(super) fn new(chance: Chance) -> Self {
        Self {
            chance,
            turn: AtomicUsize::new(0),
        }
    }
}

// ===== impl Strategy =====

impl Strategy {
    /// Whether it goes by how targets are doing, so that this is to be measured.
    pub(super) fn measures(&self) -> bool {
        matches!(
            self,
            Self::LeastInflight | Self::P2c | Self::LeastLatency | Self::Own(_)
        )
    }

    /// The place, in `candidates`, of the one to ask. There is at least one.
    pub(super) fn pick(&self, ask: &Ask, candidates: &[Candidate<'_>], dice: &Dice) -> usize {
        let chance = &dice.chance;
        match self {
            _ if candidates.len() < 2 => 0,
            Self::Fallback => 0,
            Self::Weighted | Self::Sticky => match ask.key {
                Some(key) => rendezvous(key, candidates),
                None => drawn(candidates, chance),
            },
            Self::RoundRobin => dice.turn.fetch_add(1, Ordering::Relaxed) % candidates.len(),
            Self::LeastInflight => best(candidates, chance, |it| {
                let reading = it.reading();
                burdened(reading.running as f64 + 1.0, &reading)
            }),
            Self::P2c => {
                let one = place(chance, candidates.len());
                // Another one: as many places further as there are others.
                let other = (one + 1 + place(chance, candidates.len() - 1)) % candidates.len();
                let (left, right) = (strain(&candidates[one]), strain(&candidates[other]));
                if right < left { other } else { one }
            }
            Self::LeastLatency if chance.below(EXPLORED) == 0 => place(chance, candidates.len()),
            Self::LeastLatency => best(candidates, chance, |it| {
                let reading = it.reading();
                let latency = reading.latency.unwrap_or_else(|| unmeasured(&reading));
                burdened(latency, &reading)
            }),
            Self::Cheapest => {
                let costs = candidates
                    .iter()
                    .map(|it| it.cost(ask).unwrap_or(f64::INFINITY));
                let least = costs
                    .enumerate()
                    .min_by(|one, other| one.1.total_cmp(&other.1));
                least.map_or(0, |(at, _)| at)
            }
            Self::Own(own) => own.choose(ask, candidates).min(candidates.len() - 1),
        }
    }
}

/// One of so many places.
fn place(chance: &Chance, places: usize) -> usize {
    usize::try_from(chance.below(places as u64)).unwrap_or(0)
}

/// The one of which `of` is least; of several, one by chance.
fn best(
    candidates: &[Candidate<'_>],
    chance: &Chance,
    of: impl Fn(&Candidate<'_>) -> f64,
) -> usize {
    let (mut found, mut least, mut equal) = (0, f64::INFINITY, 0);
    for (at, candidate) in candidates.iter().enumerate() {
        let value = of(candidate);
        if value < least {
            (found, least, equal) = (at, value, 1);
        } else if value == least {
            equal += 1;
            if chance.below(equal) == 0 {
                found = at;
            }
        }
    }
    found
}

/// A measure that grows with the share of failures: a target that fails fast is not a fast one.
fn burdened(measure: f64, reading: &Reading) -> f64 {
    match 1.0 - reading.failing {
        none if none <= 0.0 => f64::INFINITY,
        well => measure / well,
    }
}

/// Stands for the time that nobody has measured: whom nobody has asked of late is asked first, by one request, and what has
/// answered without a time is left to those that explore.
fn unmeasured(reading: &Reading) -> f64 {
    if reading.running == 0 && reading.answers == 0 {
        0.0
    } else {
        UNKNOWN
    }
}

/// The slowest answers of late, times the requests that run; whom nobody has measured yet stands before the others.
fn strain(candidate: &Candidate<'_>) -> f64 {
    let reading = candidate.reading();
    let peak = reading.peak.unwrap_or(0.0).max(f64::MIN_POSITIVE);
    burdened(peak * (reading.running as f64 + 1.0), &reading)
}

fn drawn(candidates: &[Candidate<'_>], chance: &Chance) -> usize {
    let whole = candidates.iter().map(|it| u64::from(it.weight())).sum();
    let mut left = chance.below(whole);
    for (at, candidate) in candidates.iter().enumerate() {
        match left.checked_sub(u64::from(candidate.weight())) {
            Some(less) => left = less,
            None => return at,
        }
    }
    0
}

/// Weighted rendezvous (Schindelhauer and Schomaker, 2005): each target draws a number from the key and its own name, and the
/// least wins. Whoever has the same targets decides alike; one that goes takes only its own keys with it.
fn rendezvous(key: u64, candidates: &[Candidate<'_>]) -> usize {
    let drawn = |it: &Candidate<'_>| {
        let bits = Chance::seeded(key ^ it.seat.hash()).bits();
        // Never 0, whose logarithm is none.
        -(chance::unit(bits) + f64::EPSILON).ln() / f64::from(it.weight().max(1))
    };
    let all = candidates.iter().map(drawn).enumerate();
    let least = all.min_by(|one, other| one.1.total_cmp(&other.1));
    least.map_or(0, |(at, _)| at)
}

/// One in so many requests goes anywhere.
const EXPLORED: u64 = 10;
/// Seconds, for comparing.
const UNKNOWN: f64 = 1e9;

impl fmt::Debug for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fallback => "Fallback",
            Self::Weighted => "Weighted",
            Self::RoundRobin => "RoundRobin",
            Self::LeastInflight => "LeastInflight",
            Self::P2c => "P2c",
            Self::LeastLatency => "LeastLatency",
            Self::Cheapest => "Cheapest",
            Self::Sticky => "Sticky",
            Self::Own(_) => "Own",
        })
    }
}
