//! U09: what failing requests hold, in bytes that are alive.

use std::sync::atomic::{AtomicU64, Ordering};

use tollgate_testing::{
    alloc::{Alive, alive},
    long,
};
use tower::{service_fn, util::BoxCloneSyncService};

use super::*;
use crate::{
    balance::{Balance, Strategy, Target},
    clock::{Clock, SystemClock},
    facts::Endpoint,
    health::{Board, Source},
};

const BODY: usize = 64 << 10;
/// What one request may hold beside its body: its head, its course, its answers, its timers.
const BESIDE: u64 = 8 << 10;

type Failing = BoxCloneSyncService<Sent, Response<Script>, BoxError>;

/// Reads each body to its end, frame by frame as a connection does, and fails.
fn failing(calls: Arc<AtomicU64>) -> Failing {
    BoxCloneSyncService::new(service_fn(move |req: Sent| {
        let calls = calls.clone();
        async move {
            let (_, mut body) = req.into_parts();
            let mut length = 0;
            while let Some(frame) = body.frame().await {
                length += frame?.into_data().map_or(0, |data| data.len());
            }
            assert_eq!(length, BODY);
            calls.fetch_add(1, Ordering::Relaxed);
            let mut response = Response::new(Script::data(b"no", &Split::Whole));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            Ok::<_, BoxError>(response)
        }
    }))
}

/// A body of its own memory, in the pieces in which a connection may bring it.
fn request() -> Sent {
    let piece = |_| Bytes::from(vec![7_u8; BODY / 4]);
    let body = Held::whole((0..4).map(piece).collect::<Vec<_>>());
    Request::post("/v1/chat/completions").body(body).unwrap()
}

/// So many requests, so many of them at once; each is tried three times at two targets that fail.
fn run(
    runtime: &tokio::runtime::Runtime,
    service: &super::super::Retry<Balance<Failing>>,
    requests: usize,
    at_once: usize,
) -> Alive {
    alive(|| {
        runtime.block_on(async {
            for _ in 0..requests / at_once {
                let mut running = tokio::task::JoinSet::new();
                for _ in 0..at_once {
                    running.spawn(service.clone().oneshot(request()));
                }
                while let Some(answer) = running.join_next().await {
                    assert_eq!(answer.unwrap().unwrap().status(), 500);
                }
            }
        });
    })
}

/// U09: 10,000 requests with two retries each, and 100,000 with `TOLLGATE_LONG=1`: what is alive does not grow, and a body is
/// there once, whatever number of attempts it is sent by.
#[test]
fn u09_failing_requests_leave_nothing_and_hold_each_body_once() {
    let rounds = if long() { 100 } else { 10 };
    let calls = Arc::new(AtomicU64::new(0));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let now = runtime.block_on(async { SystemClock.now() });
    let board = Board::new(now);
    let target = |name: &'static str| {
        let source = Source::fixed(&board, name, "m");
        Target::new(
            Endpoint::new(name, name, None),
            source,
            failing(calls.clone()),
        )
    };
    let targets = [target("first"), target("second")];
    let policy = Policy {
        // Leave for two more attempts of each request, of whichever target.
        ratio: Ratio { share: 100_000 },
        ..Policy::default()
    };
    let balance = Balance::new(targets, Strategy::Weighted).unwrap();
    let service = layer(policy).layer(balance.chance(Chance::seeded(9)));
    for at_once in [1, 20] {
        // What is made once is made now.
        run(&runtime, &service, 1000, at_once);
        let (mut left, mut most, before) = (Vec::new(), 0, calls.load(Ordering::Relaxed));
        for _ in 0..rounds {
            let alive = run(&runtime, &service, 1000, at_once);
            left.push(alive.left);
            most = most.max(alive.most);
        }
        let made = calls.load(Ordering::Relaxed) - before;
        let kept: i64 = left.iter().sum();
        println!(
            "{} requests, {at_once} at once, {made} calls: {kept} bytes left, {most} at most",
            rounds * 1000
        );
        assert_eq!(made, rounds as u64 * 3000, "two retries each");
        assert!(left.iter().all(|left| *left == 0), "{left:?}");
        let expected = at_once as u64 * (BODY as u64 + BESIDE);
        assert!(
            most < expected,
            "{most} bytes at once, {expected} expected at most"
        );
    }
}
