//! Races of the circuit: its own source over the locks of a scheduler that tries orders (rows U11, O16).

use std::time::Duration;

use shuttle::sync::Arc;

mod sync {
    pub(super) use shuttle::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    };
}

#[expect(
    clippy::duplicate_mod,
    dead_code,
    unreachable_pub,
    reason = "it is the same source, over other locks; what the board alone asks for is not asked for here"
)]
#[path = "../circuit.rs"]
mod circuit;

use self::circuit::{Changes, Circuit, Seen, Verdict};
use super::super::{policy, window};

const SECOND: u64 = 1_000_000;

fn once() -> policy::Policy {
    policy::Policy {
        consecutive: Some(1),
        error_rate: None,
        ..policy::Policy::default()
    }
}

fn opened() -> (Arc<Circuit>, u64) {
    let circuit = Circuit::new();
    let mut changes = Changes::new();
    let pass = circuit.enter(&once(), None, 0, &mut changes).unwrap();
    circuit.settle(&pass, (Verdict::Failure, false), &once(), 0, &mut changes);
    (Arc::new(circuit), 30 * SECOND)
}

#[test]
fn of_many_that_come_at_once_one_probes() {
    shuttle::check_random(
        || {
            let (circuit, until) = opened();
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let circuit = circuit.clone();
                    shuttle::thread::spawn(move || {
                        let mut changes = Changes::new();
                        let pass = circuit.enter(&once(), None, until, &mut changes);
                        (pass.is_ok(), changes.len())
                    })
                })
                .collect();
            let ended: Vec<_> = threads.into_iter().map(|it| it.join().unwrap()).collect();
            assert_eq!(ended.iter().filter(|(passed, _)| *passed).count(), 1);
            // One change, noticed by one of them.
            assert_eq!(ended.iter().map(|(_, changes)| changes).sum::<usize>(), 1);
        },
        2000,
    );
}

#[test]
fn a_verdict_of_before_cannot_close_or_open_what_others_are_trying() {
    shuttle::check_random(
        || {
            let circuit = Arc::new(Circuit::new());
            let mut changes = Changes::new();
            let mut pass = || circuit.enter(&once(), None, 0, &mut changes).unwrap();
            let (first, second, third) = (pass(), pass(), pass());
            let late: Vec<_> = [
                (first, Verdict::Failure),
                (second, Verdict::Success),
                (third, Verdict::Failure),
            ]
            .into_iter()
            .map(|(pass, verdict)| {
                let circuit = circuit.clone();
                shuttle::thread::spawn(move || {
                    let mut changes = Changes::new();
                    circuit.settle(&pass, (verdict, false), &once(), 0, &mut changes);
                    changes.len()
                })
            })
            .collect();
            let prober = {
                let circuit = circuit.clone();
                shuttle::thread::spawn(move || {
                    let (mut changes, at) = (Changes::new(), 30 * SECOND);
                    let pass = circuit.enter(&once(), None, at, &mut changes).unwrap();
                    let probes = pass.is_probe();
                    circuit.settle(&pass, (Verdict::Neutral, false), &once(), at, &mut changes);
                    (probes, changes.len())
                })
            };
            let opened: usize = late.into_iter().map(|it| it.join().unwrap()).sum();
            let (probed, half_opened) = prober.join().unwrap();
            // It opened once, whoever came first.
            assert_eq!(opened, 1);
            assert_eq!(half_opened, usize::from(probed));
            let seen = circuit.seen(30 * SECOND, &mut Changes::new());
            if probed {
                assert!(matches!(seen, Seen::HalfOpen { free: 1, .. }), "{seen:?}");
            } else {
                assert_eq!(seen, Seen::Open(30 * SECOND));
            }
        },
        2000,
    );
}

#[test]
fn readers_see_a_state_that_has_been() {
    shuttle::check_random(
        || {
            let (circuit, until) = opened();
            let reader = {
                let circuit = circuit.clone();
                shuttle::thread::spawn(move || {
                    let mut changes = Changes::new();
                    let seen: Vec<_> = (0..3).map(|_| circuit.seen(until, &mut changes)).collect();
                    seen
                })
            };
            let mut changes = Changes::new();
            let clock = Some(Duration::from_secs(5));
            let pass = circuit.enter(&once(), clock, until, &mut changes).unwrap();
            circuit.settle(
                &pass,
                (Verdict::Success, false),
                &once(),
                until,
                &mut changes,
            );
            let due = until + 5 * SECOND;
            let states = [
                Seen::Open(until),
                Seen::HalfOpen { free: 0, due },
                Seen::Closed,
            ];
            let mut from = 0;
            for seen in reader.join().unwrap() {
                // In their order, some left out.
                let at = states[from..].iter().position(|state| *state == seen);
                from += at.unwrap_or_else(|| panic!("{seen:?} after {:?}", states[from]));
            }
        },
        2000,
    );
}
