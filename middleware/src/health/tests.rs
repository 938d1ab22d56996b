use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use http::Extensions;

use super::{Board, Health, Policy, Source, State, Verdict};
use crate::{attempt::Attempt, facts::Route};

mod model;
mod races;

const SECOND: Duration = Duration::from_secs(1);

fn start() -> Instant {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let now = runtime.block_on(async { tokio::time::Instant::now() });
    now.into_std()
}

fn health(now: Instant) -> Health {
    Board::new(now).health("openai", Some("gpt-4o"))
}

/// Opens by failures in a row only.
fn in_a_row(most: u32) -> Policy {
    Policy {
        consecutive: Some(most),
        error_rate: None,
        ..Policy::default()
    }
}

fn attempt(health: &Health, verdict: Verdict, policy: &Policy, now: Instant) {
    let pass = health.enter(policy, None, now).unwrap();
    health.settle(pass, verdict, policy, now);
}

#[test]
fn failures_in_a_row_open_it_and_a_success_begins_the_row_anew() {
    let (now, policy) = (start(), in_a_row(3));
    let health = health(now);
    for verdict in [Verdict::Failure, Verdict::Failure, Verdict::Success] {
        attempt(&health, verdict, &policy, now);
    }
    attempt(&health, Verdict::Failure, &policy, now);
    attempt(&health, Verdict::Neutral, &policy, now);
    attempt(&health, Verdict::Failure, &policy, now);
    assert_eq!(health.state(now), State::Closed);
    attempt(&health, Verdict::Failure, &policy, now);
    let until = now + 30 * SECOND;
    assert_eq!(health.state(now), State::Open { until });
    assert_eq!(health.enter(&policy, None, now).unwrap_err(), until);
    assert_eq!(health.next_probe(now), Some(until));
}

#[test]
fn a_success_that_began_before_the_last_failure_does_not_begin_the_row_anew() {
    let (now, policy) = (start(), in_a_row(2));
    let health = health(now);
    let long = health.enter(&policy, None, now).unwrap();
    attempt(&health, Verdict::Failure, &policy, now);
    health.settle(long, Verdict::Success, &policy, now + SECOND);
    attempt(&health, Verdict::Failure, &policy, now + SECOND);
    assert!(!health.admits(now + SECOND));
}

#[test]
fn the_share_of_failures_opens_it_once_enough_requests_have_ended() {
    let policy = Policy {
        consecutive: None,
        error_rate: Some(5000),
        window: 10 * SECOND,
        min_requests: 4,
        ..Policy::default()
    };
    let now = start();
    let health = health(now);
    for verdict in [Verdict::Failure, Verdict::Failure, Verdict::Success] {
        attempt(&health, verdict, &policy, now);
    }
    assert!(health.admits(now), "three are too few");
    // Eleven seconds on, nothing of that is in the window.
    let later = now + 11 * SECOND;
    for verdict in [Verdict::Success, Verdict::Success, Verdict::Success] {
        attempt(&health, verdict, &policy, later);
    }
    attempt(&health, Verdict::Failure, &policy, later);
    attempt(&health, Verdict::Failure, &policy, later);
    assert!(health.admits(later), "two of five are less than half");
    attempt(&health, Verdict::Failure, &policy, later);
    assert!(!health.admits(later), "three of six are half");
}

/// Row U11: no herd at the half-open circuit.
#[test]
fn as_many_probes_pass_as_may_and_all_others_are_refused() {
    let policy = Policy {
        probes: 3,
        successes: 2,
        ..in_a_row(1)
    };
    let now = start();
    let health = health(now);
    attempt(&health, Verdict::Failure, &policy, now);
    let later = now + 30 * SECOND;
    let passes: Vec<_> = (0..10_000)
        .filter_map(|_| health.enter(&policy, None, later).ok())
        .collect();
    assert_eq!(passes.len(), 3);
    assert!(passes.iter().all(super::Pass::is_probe));
    assert_eq!(health.state(later), State::HalfOpen { free: 0 });
    let mut passes = passes.into_iter();
    health.settle(passes.next().unwrap(), Verdict::Success, &policy, later);
    assert_eq!(health.state(later), State::HalfOpen { free: 1 });
    // A neutral end gives the place back and says nothing.
    health.settle(passes.next().unwrap(), Verdict::Neutral, &policy, later);
    assert_eq!(health.state(later), State::HalfOpen { free: 2 });
    health.settle(passes.next().unwrap(), Verdict::Success, &policy, later);
    assert_eq!(health.state(later), State::Closed);
}

/// Row U11: a probe that hangs.
#[test]
fn a_probe_that_says_nothing_in_its_time_has_failed_at_that_time() {
    let (now, policy) = (start(), in_a_row(1));
    let health = health(now);
    attempt(&health, Verdict::Failure, &policy, now);
    let probing = now + 30 * SECOND;
    let hangs = health.enter(&policy, Some(5 * SECOND), probing).unwrap();
    assert!(!health.admits(probing + 4 * SECOND));
    // Nobody asked in the meantime: it counts from when the time was up.
    let until = probing + 35 * SECOND;
    assert_eq!(health.state(probing + 9 * SECOND), State::Open { until });
    // What it finds after all is over.
    health.settle(hangs, Verdict::Success, &policy, probing + 10 * SECOND);
    assert_eq!(health.state(probing + 10 * SECOND), State::Open { until });
    assert!(health.enter(&policy, None, until).unwrap().is_probe());
}

#[test]
fn a_verdict_of_an_attempt_that_began_before_the_last_change_is_dropped() {
    let (now, policy) = (start(), in_a_row(1));
    let health = health(now);
    let before = health.enter(&policy, None, now).unwrap();
    let also = health.enter(&policy, None, now).unwrap();
    attempt(&health, Verdict::Failure, &policy, now);
    let probing = now + 30 * SECOND;
    let probe = health.enter(&policy, None, probing).unwrap();
    health.settle(before, Verdict::Failure, &policy, probing);
    assert_eq!(health.state(probing), State::HalfOpen { free: 0 });
    health.settle(probe, Verdict::Success, &policy, probing);
    health.settle(also, Verdict::Failure, &policy, probing);
    assert_eq!(health.state(probing), State::Closed);
}

#[test]
fn the_attempts_of_one_request_at_one_target_count_as_one() {
    let (now, policy) = (start(), in_a_row(2));
    let board = Board::new(now);
    let (health, other) = (board.health("a", None), board.health("b", None));
    let settle = |health: &Health, tries: &Attempt, verdict| {
        let pass = health.enter(&policy, None, now).unwrap();
        health.settle_one_of(pass, verdict, Some(tries), &policy, now);
    };
    let request = Attempt::new();
    settle(&health, &request, Verdict::Failure);
    settle(&health, &request, Verdict::Failure);
    settle(&other, &request, Verdict::Failure);
    assert!(health.admits(now) && other.admits(now));
    settle(&health, &Attempt::new(), Verdict::Failure);
    assert!(!health.admits(now));
    // It has failed at the other one, too: a second request is one more.
    settle(&other, &Attempt::new(), Verdict::Failure);
    assert!(!other.admits(now));
}

#[test]
fn each_change_is_told_once_and_in_order() {
    let now = start();
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = told.clone();
    let board = Board::telling(now, move |change| {
        let name = (
            change.health.provider().clone(),
            change.health.model().cloned(),
        );
        heard.lock().unwrap().push((name, change.from, change.to));
    });
    let (health, policy) = (board.health("openai", Some("o3")), in_a_row(1));
    attempt(&health, Verdict::Failure, &policy, now);
    let until = now + 30 * SECOND;
    attempt(&health, Verdict::Success, &policy, until);
    let name = ("openai".into(), Some("o3".into()));
    let (open, half) = (State::Open { until }, State::HalfOpen { free: 1 });
    assert_eq!(
        *told.lock().unwrap(),
        [
            (name.clone(), State::Closed, open),
            (name.clone(), open, half),
            (name, half, State::Closed),
        ]
    );
}

#[test]
fn a_request_is_about_the_model_that_the_provider_is_asked_for() {
    let board = Board::new(start());
    let renamed = |model: &str| (model == "fast").then(|| "llama-3.1-8b".into());
    let source = Source::by_model(&board, "local", renamed);
    let routed = |model: Option<&str>| {
        let mut facts = Extensions::new();
        facts.insert(Route {
            name: None,
            model: model.map(Into::into),
            pin: None,
        });
        source.of(&facts).model().cloned()
    };
    assert_eq!(routed(Some("fast")).as_deref(), Some("llama-3.1-8b"));
    assert_eq!(routed(Some("other")).as_deref(), Some("other"));
    assert_eq!(routed(None), None);
    assert_eq!(source.of(&Extensions::new()).model(), None);
    let fixed = Source::fixed(&board, "local", "mine");
    assert_eq!(
        fixed.of(&Extensions::new()).model().map(|it| &**it),
        Some("mine")
    );
}

#[test]
fn names_that_callers_make_up_take_no_room_for_ever() {
    let (now, policy) = (start(), in_a_row(5));
    let board = Board::new(now);
    let known = board.health("p", Some("known"));
    attempt(&known, Verdict::Failure, &policy, now);
    drop(known);
    for made_up in 0..3 * Board::MODELS {
        let health = board.health("p", Some(&format!("m{made_up}")));
        attempt(&health, Verdict::Neutral, &policy, now);
    }
    assert!(board.all().len() <= Board::MODELS);
    // What is known stays.
    for _ in 0..4 {
        attempt(
            &board.health("p", Some("known")),
            Verdict::Failure,
            &policy,
            now,
        );
    }
    assert!(!board.health("p", Some("known")).admits(now));
    // Where all are known, those that come share one.
    for made_up in 0..2 * Board::MODELS {
        let health = board.health("p", Some(&format!("m{made_up}")));
        attempt(&health, Verdict::Failure, &in_a_row(u32::MAX), now);
    }
    assert_eq!(board.all().len(), Board::MODELS + 1);
    let shared = board.health("p", Some("one more"));
    assert_eq!(shared.model().map(|it| &**it), Some("*"));
}
