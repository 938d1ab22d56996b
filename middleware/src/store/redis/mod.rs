//! A [`Store`](super::Store) in Redis, or in what speaks like it.
//!
//! [`Redis`] is one for the process; each worker has a [`Link`] of its own, one connection on the worker's own runtime, so that no call
//! crosses threads. A link does nothing but answer; what connects, probes and connects again is the [`Upkeep`] that comes with it, a future
//! that whoever made it runs beside.
//!
//! **Away.** A call is answered within [`Settings::timeout`], or it is not answered. Two calls in a row that are not, a lost
//! connection, or a server that says that it serves nobody ([`LOADING`, `READONLY`, `OOM` and their kin](Cause)) break the link: calls
//! fail at once, unsent, until a new connection has been made and a script that writes has been answered in time. That is tried at once, then
//! after 100 ms, and twice that each time, up to a second. Time is the runtime's own, monotonic one.
//!
//! **Bounds.** So many calls may wait for their answers at once ([`WAITING`]); one more is not sent. Whoever goes away has its call answered
//! nevertheless.
//!
//! What the server must be able to do: `EVAL`, `EVALSHA`, `SET`, `GET`, `TIME`, for budgets also `DEL`, `EXPIRE`, `PEXPIRE`, `PERSIST`, `PTTL` and the
//! commands of hashes and sorted sets, on keys that begin with `tollgate:`.
//!
//! ```no_run
//! use std::time::Duration;
//! use tollgate_middleware::store::{Contact, OnError, Store, redis::{Redis, Settings}};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let settings = Settings { timeout: Duration::from_millis(20), replicas: 2, on_error: OnError::Local };
//! let redis = Redis::new("redis://127.0.0.1:6379", settings).unwrap();
//! let (link, upkeep) = redis.link();
//! tokio::spawn(upkeep.run());
//! assert_eq!(link.contact(), Contact::Never);
//! # });
//! ```

mod link;
#[cfg(test)]
mod tests;
mod upkeep;
mod verdict;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use redis::{Client, ConnectionInfo, IntoConnectionInfo};
use tokio::time::Instant;

use super::OnError;

pub use self::{
    link::{Link, WAITING},
    upkeep::Upkeep,
    verdict::Cause,
};

/// One for the process. Clones are the same.
#[derive(Clone)]
pub struct Redis(Arc<Inner>);

/// How a store is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Within this a call is answered, or it is not.
    pub timeout: Duration,
    /// How many processes share it; 0 is 1.
    pub replicas: u32,
    /// What holds while it is away.
    pub on_error: OnError,
}

/// What has changed, once for each change and for all links together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A link is away, and none was before; or there has been no contact at all.
    Away {
        /// Why.
        cause: Cause,
        /// In other words: the server's, or the system's.
        told: Box<str>,
    },
    /// All links are up.
    Up {
        /// After so long; none for the first time.
        after: Option<Duration>,
    },
    /// A call is answered with an error that is none of the server's as a whole. Told once until the next [`Event::Up`].
    Fails {
        /// The name of the script.
        script: &'static str,
        /// The server's words.
        told: Box<str>,
    },
    /// The server throws away what it has no room for: what is counted there may be forgotten.
    Evicts {
        /// Its `maxmemory-policy`.
        policy: Box<str>,
    },
}

/// What has happened so far, of all links together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Whether a link is away, or all have never been up.
    pub degraded: bool,
    /// Calls that were answered.
    pub answered: u64,
    /// Calls that the server refused.
    pub refused: u64,
    /// Calls that were sent and not answered in time, or whose connection was lost.
    pub unanswered: u64,
    /// Calls that were not sent: the link is away, or too many wait.
    pub unsent: u64,
    /// Decisions without the store: see [`decided_alone`](super::Store::decided_alone).
    pub alone: u64,
    /// How often the store has gone away.
    pub outages: u64,
}

/// An address that says nothing: `redis://`, `rediss://` or `unix://` is expected. It may hold a password, and is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadUrl(());

struct Inner {
    client: Client,
    settings: Settings,
    told: Box<dyn Fn(&Event) + Send + Sync>,
    whole: Mutex<Whole>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    answered: AtomicU64,
    refused: AtomicU64,
    unanswered: AtomicU64,
    unsent: AtomicU64,
    alone: AtomicU64,
    outages: AtomicU64,
}

/// All links together.
#[derive(Default)]
struct Whole {
    links: usize,
    up: usize,
    // What was told last; nothing yet at the start.
    told: Option<bool>,
    met: bool,
    away: Option<Instant>,
    failing: bool,
    // The policy that was warned of.
    evicts: Option<Box<str>>,
}

impl Redis {
    /// A store at this address: `redis://[[user]:password@]host[:port][/db]`, `rediss://` with TLS, `unix:///path[?db=…]`. Nothing is
    /// connected yet.
    ///
    /// # Errors
    ///
    /// An address that is none.
    pub fn new(url: &str, settings: Settings) -> Result<Self, BadUrl> {
        let info: ConnectionInfo = url.into_connection_info().map_err(|_| BadUrl(()))?;
        let client = Client::open(info).map_err(|_| BadUrl(()))?;
        Ok(Self(Arc::new(Inner {
            client,
            settings,
            told: Box::new(|_| {}),
            whole: Mutex::default(),
            counts: Counts::default(),
        })))
    }

    /// Tells what has changed. It is called where calls run: it must be quick.
    ///
    /// # Panics
    ///
    /// If there are links already.
    #[must_use]
    pub fn telling(self, told: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        let mut inner = Arc::into_inner(self.0).expect("no link has been made");
        inner.told = Box::new(told);
        Self(Arc::new(inner))
    }

    /// A connection for one worker, and what keeps it up: to be run on the same runtime. Whoever drops the upkeep drops the connection.
    pub fn link(&self) -> (Link, Upkeep) {
        self.whole().links += 1;
        link::pair(self.clone())
    }

    /// What has happened so far.
    pub fn figures(&self) -> Figures {
        let counts = &self.0.counts;
        let whole = self.whole();
        Figures {
            degraded: whole.up < whole.links.max(1),
            answered: counts.answered.load(Relaxed),
            refused: counts.refused.load(Relaxed),
            unanswered: counts.unanswered.load(Relaxed),
            unsent: counts.unsent.load(Relaxed),
            alone: counts.alone.load(Relaxed),
            outages: counts.outages.load(Relaxed),
        }
    }

    fn settings(&self) -> &Settings {
        &self.0.settings
    }

    fn whole(&self) -> MutexGuard<'_, Whole> {
        // Nothing panics under the lock.
        self.0.whole.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: &Event) {
        (self.0.told)(event);
    }

    /// Whether any link has ever been up.
    fn has_met(&self) -> bool {
        self.whole().met
    }

    /// A link is up.
    fn came(&self, now: Instant) {
        let mut whole = self.whole();
        whole.up += 1;
        whole.met = true;
        if whole.up < whole.links || whole.told == Some(true) {
            return;
        }
        let after = whole.away.take().map(|since| now - since);
        whole.told = Some(true);
        whole.failing = false;
        drop(whole);
        self.tell(&Event::Up { after });
    }

    /// A link is not up; `was`: it has been until now.
    fn went(&self, was: bool, cause: Cause, told: Box<str>, now: Instant) {
        let mut whole = self.whole();
        whole.up -= usize::from(was);
        if whole.told == Some(false) {
            return;
        }
        whole.told = Some(false);
        whole.away = Some(now);
        drop(whole);
        self.0.counts.outages.fetch_add(1, Relaxed);
        self.tell(&Event::Away { cause, told });
    }

    /// A link is no more.
    fn left(&self, was: bool) {
        let mut whole = self.whole();
        whole.links -= 1;
        whole.up -= usize::from(was);
    }

    fn fails(&self, script: &'static str, told: Box<str>) {
        if !std::mem::replace(&mut self.whole().failing, true) {
            self.tell(&Event::Fails { script, told });
        }
    }

    fn has_policy(&self, policy: &str) {
        let mut whole = self.whole();
        if policy == "noeviction" || whole.evicts.as_deref() == Some(policy) {
            return;
        }
        whole.evicts = Some(policy.into());
        drop(whole);
        let policy = policy.into();
        self.tell(&Event::Evicts { policy });
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its address may hold a password.
        f.debug_struct("Redis")
            .field("settings", self.settings())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for BadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an address of Redis: `redis://host:port/db`, `rediss://` with TLS, or `unix:///path`")
    }
}

impl std::error::Error for BadUrl {}
