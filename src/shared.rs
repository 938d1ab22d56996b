//! What several gateways count together: one store for the process, one connection for each worker.

#[cfg(not(feature = "redis"))]
pub(crate) use in_nothing::Shared;
#[cfg(feature = "redis")]
pub(crate) use in_redis::Shared;

use std::sync::Arc;

use tollgate_middleware::store::Store;

/// The store of one worker, if there is one.
pub(crate) type Link = Option<Arc<dyn Store>>;

#[cfg(feature = "redis")]
mod in_redis {
    use std::sync::{Arc, Mutex, PoisonError};

    use tollgate_middleware::store::redis::{Event, Redis, Settings, Upkeep};

    use super::Link;
    use crate::{config, telemetry::store::Figures};

    /// The store of a process. What it does is logged once for each change.
    pub(crate) struct Shared {
        redis: Redis,
        links: Vec<Link>,
        // Taken by each worker when it begins.
        upkeeps: Mutex<Vec<Option<Upkeep>>>,
    }

    impl Shared {
        /// Nothing is connected yet.
        pub(crate) fn new(shared: &config::Shared, workers: usize) -> Self {
            let settings = Settings {
                timeout: shared.timeout,
                replicas: shared.replicas,
                on_error: shared.on_error,
            };
            let redis = Redis::new(shared.url.expose(), settings);
            let redis = redis.expect("an address that is none is refused when the file is read");
            let redis = redis.telling(log);
            let mut links: Vec<Link> = Vec::with_capacity(workers);
            let mut upkeeps = Vec::with_capacity(workers);
            for _ in 0..workers {
                let (link, upkeep) = redis.link();
                links.push(Some(Arc::new(link)));
                upkeeps.push(Some(upkeep));
            }
            Self {
                redis,
                links,
                upkeeps: Mutex::new(upkeeps),
            }
        }

        /// The store of this worker.
        pub(crate) fn link(&self, worker: usize) -> Link {
            self.links.get(worker).cloned().flatten()
        }

        /// Begins to keep the link of a worker up, once. Inside the worker's runtime.
        #[expect(
            clippy::disallowed_methods,
            reason = "a worker's own task, as its sweep is"
        )]
        pub(crate) fn keep(&self, worker: usize) {
            let mut upkeeps = self.upkeeps.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(upkeep) = upkeeps.get_mut(worker).and_then(Option::take) {
                tokio::spawn(upkeep.run());
            }
        }

        /// For the metrics.
        pub(crate) fn figures(&self) -> Figures {
            let figures = self.redis.figures();
            Figures {
                degraded: figures.degraded,
                calls: [
                    ("answered", figures.answered),
                    ("refused", figures.refused),
                    ("unanswered", figures.unanswered),
                    ("unsent", figures.unsent),
                ],
                alone: figures.alone,
                outages: figures.outages,
            }
        }
    }

    fn log(event: &Event) {
        match event {
            Event::Away { cause, told } => tracing::warn!(
                cause = cause.as_str(),
                told = &**told,
                "Redis is away: what it counts is decided as `state.redis.on_error` says"
            ),
            Event::Up { after: None } => tracing::info!("Redis answers"),
            Event::Up { after: Some(after) } => tracing::info!(
                after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
                "Redis answers again"
            ),
            Event::Fails { script, told } => tracing::warn!(
                script,
                told = &**told,
                "Redis refuses a script: what it was to count is decided as if Redis were away"
            ),
            Event::Evicts { policy } => tracing::warn!(
                policy = &**policy,
                "Redis may throw away what is counted there: its `maxmemory-policy` is to be `noeviction`"
            ),
        }
    }

    impl std::fmt::Debug for Shared {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("Shared")
                .field("redis", &self.redis)
                .finish_non_exhaustive()
        }
    }
}

#[cfg(not(feature = "redis"))]
mod in_nothing {
    use super::Link;
    use crate::{config, telemetry::store::Figures};

    /// A program that was built without Redis has no store: its key is refused when the file is read.
    #[derive(Debug)]
    pub(crate) enum Shared {}

    impl Shared {
        pub(crate) fn new(_: &config::Shared, _: usize) -> Self {
            unreachable!("`state.redis` is refused when the file is read")
        }

        pub(crate) fn link(&self, _: usize) -> Link {
            match *self {}
        }

        pub(crate) fn keep(&self, _: usize) {
            match *self {}
        }

        pub(crate) fn figures(&self) -> Figures {
            match *self {}
        }
    }
}
