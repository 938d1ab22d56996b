//! What a budget costs that is kept in a Redis of this machine: nanoseconds of a request, the way there and back included.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;
use tollgate_middleware::{
    budget::{BudgetLayer, Ledger, Policy, Shared},
    clock::SystemClock,
    facts::{Caller, Terms},
    store::{
        Contact, OnError, Store,
        redis::{Redis, Settings},
    },
};
use tollgate_testing::redis::Redis as Server;
use tower_layer::Layer;
use tower_service::Service;

use super::{OneEvent, ROUNDS, guards, head};
use crate::stats::median;

/// Requests that run at once, where several do.
const AT_ONCE: usize = 64;
/// Requests of one round.
const TIMES: usize = if cfg!(test) { AT_ONCE } else { 6_400 };

/// Tells what a request costs with accounts here and in Redis, one after the other and many at once; nothing where no server is
/// installed, which is said.
pub(super) fn each(mut tell: impl FnMut(&str, f64)) {
    let Some(server) = Server::start() else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime of this thread");
    runtime.block_on(async {
        let settings = Settings {
            timeout: Duration::from_secs(1),
            replicas: 1,
            on_error: OnError::Refuse,
        };
        let redis = Redis::new(&server.url(), settings).expect("the server's own address");
        let (link, upkeep) = redis.link();
        let kept = JoinSet::from_iter([upkeep.run()]);
        while link.contact() != Contact::Up {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let shared = Shared::new(Arc::new(link), 0);
        let here = BudgetLayer::new(guards::limited(), Ledger::new(0));
        let there = BudgetLayer::new(guards::limited(), Ledger::new(0)).shared(shared.clone());
        let off = BudgetLayer::new(Policy::off(), Ledger::new(0));
        let keeps = {
            let shared = shared.clone();
            JoinSet::from_iter([async move { shared.keep(SystemClock).await }])
        };
        for (at_once, how) in [(1, "one after the other"), (AT_ONCE, "64 at once")] {
            let base = rounds(&off, at_once).await;
            for (name, layer) in [("in memory", &here), ("in Redis", &there)] {
                let took = rounds(layer, at_once).await;
                tell(&format!("budget {name}, {how}"), took - base);
            }
        }
        drop((kept, keeps));
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
