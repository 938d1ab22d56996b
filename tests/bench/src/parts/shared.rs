//! What a budget costs that is kept in a Redis of this machine: nanoseconds of a request, the way there and back included.

use std::{hint::black_box, time::Instant};

use tokio::{runtime::Builder, task::JoinSet};
use tollgate_middleware::{
    budget::{BudgetLayer, Ledger, Policy, Shared},
    clock::SystemClock,
    facts::{Caller, Terms},
};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    OneEvent, ROUNDS,
    guards::{self, shared::Server},
    head,
};
use crate::stats::median;

/// Requests that run at once, where several do.
const AT_ONCE: usize = 64;
/// Requests of one round.
const TIMES: usize = if cfg!(test) { AT_ONCE } else { 6_400 };

/// Tells what a request costs with accounts here and in Redis, one after the other and many at once; nothing where no server is
/// installed, which is said.
pub(super) fn each(mut tell: impl FnMut(&str, f64)) {
    let Some(server) = Server::start() else {
        eprintln!("not measured: a budget that is kept in Redis needs redis-server");
        return;
    };
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime of this thread");
    let shared = Shared::new(server.link(&runtime), 0);
    let here = BudgetLayer::new(guards::limited(), Ledger::new(0));
    let there = here.clone().shared(shared.clone());
    let off = BudgetLayer::new(Policy::off(), Ledger::new(0));
    runtime.spawn(async move { shared.keep(SystemClock).await });
    runtime.block_on(async {
        for (at_once, how) in [(1, "one after the other"), (AT_ONCE, "64 at once")] {
            let base = rounds(&off, at_once).await;
            for (name, layer) in [("in memory", &here), ("in Redis", &there)] {
                let took = rounds(layer, at_once).await;
                tell(&format!("budget {name}, {how}"), took - base);
            }
        }
    });
}

/// The median of the rounds.
async fn rounds(layer: &BudgetLayer, at_once: usize) -> f64 {
    let mut took = Vec::new();
    for round in 0..=ROUNDS {
        let began = Instant::now();
        let mut running = JoinSet::new();
        for _ in 0..at_once {
            let layer = layer.clone();
            running.spawn(async move {
                for _ in 0..TIMES / at_once {
                    ask(&layer).await;
                }
            });
        }
        while let Some(ended) = running.join_next().await {
            ended.expect("no task panics");
        }
        // The first round only warms.
        if round > 0 {
            took.push(began.elapsed().as_nanos() as f64 / TIMES as f64);
        }
    }
    median(&took).expect("there are rounds")
}

async fn ask(layer: &BudgetLayer) {
    let mut service = layer.layer(OneEvent::new());
    let request = guards::routed(&head(), &Caller::new("team-500", Terms::default()));
    let answer = service.call(request).await;
    assert!(answer.is_ok(), "the request is let in");
    drop(black_box(answer));
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_budget_lets_its_requests_in_wherever_it_is_kept() {
        let mut parts = Vec::new();
        super::each(|part, cost| {
            assert!(cost.is_finite(), "{part}");
            parts.push(part.to_owned());
        });
        // None where no redis-server is installed.
        assert!([0, 4].contains(&parts.len()), "{parts:?}");
    }
}
