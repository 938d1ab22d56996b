//! What stands in front of a target: a bound on what its provider runs, its circuit, its clocks.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tollgate_middleware::{
    breaker::BreakerLayer,
    clock::{Clock, SystemClock},
    concurrency::{ConcurrencyLayer, Limits, Permits},
    health::{Board, Change, Policy, Source},
    record::Attempt,
    upstream::Target,
};

use crate::config::{self, Breaker, Config, Provider, Share};

/// What is known of targets, and what runs there: one for the process, kept by a reload.
#[derive(Clone, Debug)]
pub(crate) struct Targets {
    board: Board,
    // By provider: one that goes and comes again goes on.
    shares: Arc<Mutex<HashMap<String, Permits>>>,
}

impl Targets {
    /// Nothing is known yet; `told` hears of each change of a circuit.
    pub(crate) fn new(told: impl Fn(&Change) + Send + Sync + 'static) -> Self {
        Self {
            board: Board::telling(SystemClock.now(), told),
            shares: Arc::default(),
        }
    }

    /// Bounds from now on what runs as this configuration says.
    pub(crate) fn adopt(&self, config: &Config) {
        for provider in &config.providers {
            if let Some(share) = &provider.concurrency {
                self.permits(&provider.name, share).set(limits(share));
            }
        }
    }

    /// What is known of the targets.
    pub(crate) fn board(&self) -> &Board {
        &self.board
    }

    /// The bound on what a provider runs.
    pub(crate) fn share(&self, provider: &Provider, target: &Target) -> ConcurrencyLayer {
        let Some(share) = &provider.concurrency else {
            return ConcurrencyLayer::off();
        };
        let permits = self.permits(&provider.name, share);
        ConcurrencyLayer::new(permits).of_target(Attempt {
            provider: provider.name.as_str().into(),
            target: target.name().clone(),
            label: target.label_word().cloned(),
            ..Attempt::default()
        })
    }

    /// How many requests a provider runs, and may run, where that is bounded.
    pub(crate) fn held(&self, provider: &Provider) -> Option<(usize, usize)> {
        let share = provider.concurrency.as_ref()?;
        let permits = self.permits(&provider.name, share);
        Some((permits.held(), limits(share).most))
    }

    fn permits(&self, provider: &str, share: &Share) -> Permits {
        let shares = self.shares.lock();
        let mut shares = shares.unwrap_or_else(PoisonError::into_inner);
        let fresh = || Permits::new(limits(share));
        shares
            .entry(provider.to_owned())
            .or_insert_with(fresh)
            .clone()
    }

    /// The circuit of a target; `clocks` are those of its first byte, which are also those of a probe.
    pub(crate) fn breaker(
        &self,
        breaker: &Breaker,
        source: Source,
        target: &Target,
        clocks: &config::Timeout,
    ) -> BreakerLayer {
        if !breaker.on {
            return BreakerLayer::off();
        }
        let policy = Policy {
            consecutive: Some(breaker.consecutive),
            error_rate: Some(breaker.error_rate),
            window: breaker.window,
            min_requests: breaker.min_requests,
            open_for: breaker.open_for,
            probes: breaker.probes,
            successes: breaker.successes,
        };
        let (stream, document) = (clocks.first_byte_stream, clocks.first_byte_document);
        BreakerLayer::new(source, policy)
            .probes_within(stream.limit(), document.limit())
            .named(target.name().clone(), target.label_word().cloned())
    }
}

fn limits(share: &Share) -> Limits {
    let Share { max, queue, wait } = *share;
    Limits {
        most: max,
        queue,
        wait,
        ..Limits::default()
    }
}
