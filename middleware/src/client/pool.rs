use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::rt::{Read, Write};

use super::{link::Link, watch::Idle};
use crate::{clock::Clock, error::BoxError};

/// How long idle connections are kept, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// An idle connection is closed after this time.
    pub idle: Duration,
    /// So many idle connections are kept; the oldest idle ones go first.
    pub max_idle: usize,
    /// A connection older than this serves no further request.
    pub max_age: Duration,
}

impl Default for Pool {
    /// 60 seconds, 128 connections, 10 minutes.
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(60),
            max_idle: 128,
            max_age: Duration::from_secs(600),
        }
    }
}

/// The idle connections of one client.
pub(crate) struct Shared<T, B, K>
where
    T: Read + Write,
    B: http_body::Body + 'static,
{
    settings: Pool,
    clock: K,
    // Taken and given back at the end. One worker uses it: the lock is never waited for.
    links: Mutex<Links<T, B>>,
}

struct Links<T, B>
where
    T: Read + Write,
    B: http_body::Body + 'static,
{
    idle: Vec<Box<Link<T, B>>>,
    /// Nothing is kept any more.
    retired: bool,
}

impl<T, B, K> Shared<T, B, K>
where
    T: Read + Write,
    B: http_body::Body + 'static,
{
    pub(super) fn new(settings: Pool, clock: K) -> Self {
        Self {
            settings,
            clock,
            links: Mutex::new(Links {
                idle: Vec::new(),
                retired: false,
            }),
        }
    }

    pub(super) fn clock(&self) -> &K {
        &self.clock
    }

    pub(super) fn idle(&self) -> usize {
        self.links().idle.len()
    }

    /// Closes the idle connections, and keeps none from now on.
    pub(super) fn retire(&self) {
        let idle = {
            let mut links = self.links();
            links.retired = true;
            std::mem::take(&mut links.idle)
        };
        drop(idle);
    }

    fn links(&self) -> MutexGuard<'_, Links<T, B>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, B, K> Shared<T, B, K>
where
    T: Read + Write + Unpin + 'static,
    B: http_body::Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
    K: Clock,
{
    /// The connection that was used last and is not past its time, at best one that the runtime, which has looked at its
    /// sockets `looks` times, has looked at while it was idle. It was free when it was given back; whether it still is
    /// open shows when something is sent over it.
    pub(super) fn take(&self, looks: u64) -> Option<(Box<Link<T, B>>, Idle)> {
        let now = self.clock.now();
        let links = &mut self.links().idle;
        loop {
            // Those that were given back since the last look stand at the end.
            let looked_at = links.iter().rposition(|link| link.was_looked_at(looks));
            let (link, idle) = match looked_at {
                Some(at) => (links.remove(at), Idle::LookedAt),
                None => (links.pop()?, Idle::Unseen),
            };
            if self.is_fresh(&link, now) {
                return Some((link, idle));
            }
        }
    }

    /// Takes back a connection that is free.
    pub(super) fn give(&self, mut link: Box<Link<T, B>>) {
        link.rest(self.clock.now());
        if self.settings.max_idle == 0 {
            return;
        }
        let mut links = self.links();
        if links.retired {
            return;
        }
        if links.idle.len() >= self.settings.max_idle {
            links.idle.remove(0);
        }
        links.idle.push(link);
    }

    pub(super) fn sweep(&self) {
        let now = self.clock.now();
        self.links().idle.retain(|link| self.is_fresh(link, now));
    }

    fn is_fresh(&self, link: &Link<T, B>, now: Instant) -> bool {
        now.saturating_duration_since(link.idle_since) < self.settings.idle
            && now.saturating_duration_since(link.born) < self.settings.max_age
    }
}
