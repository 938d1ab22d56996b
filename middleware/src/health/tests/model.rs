//! Against a small sequential model: what the rules say, in lists and without words or turns.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{Health, Policy, State, Verdict, start};
use crate::health::Pass;

/// Time stands on whole milliseconds; a step of the window is 100 of them.
const STEP: u64 = 100;

#[derive(Clone, Copy, Debug)]
enum Act {
    Wait(u64),
    Enter,
    /// The attempt at this place among those that run, if there is one.
    Settle(usize, Verdict),
}

fn act() -> impl Strategy<Value = Act> {
    let verdict = prop_oneof![
        3 => Just(Verdict::Failure),
        2 => Just(Verdict::Success),
        1 => Just(Verdict::Neutral),
    ];
    prop_oneof![
        2 => (0..700_u64).prop_map(Act::Wait),
        4 => Just(Act::Enter),
        4 => (0..6_usize, verdict).prop_map(|(place, verdict)| Act::Settle(place, verdict)),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Is {
    Closed,
    Open(u64),
    Half,
}

/// An attempt that runs.
#[derive(Clone, Copy, Debug)]
struct Run {
    began: usize,
    due: Option<u64>,
}

struct Model {
    policy: Policy,
    clock: u64,
    is: Is,
    now: u64,
    /// Everything that has happened, counted: its length is the order of things.
    events: usize,
    changed: usize,
    last_failure: usize,
    row: u32,
    /// When requests ended, and whether they failed.
    ended: Vec<(u64, bool)>,
    probes: Vec<Run>,
    succeeded: u32,
}

impl Model {
    fn change(&mut self, is: Is) {
        self.events += 1;
        self.changed = self.events;
        self.is = is;
        self.row = 0;
        self.ended.clear();
        self.probes.clear();
        self.succeeded = 0;
    }

    fn expire(&mut self) {
        let late = self.probes.iter().filter_map(|run| run.due);
        if self.is == Is::Half
            && let Some(due) = late.min()
            && due <= self.now
        {
            self.change(Is::Open(due + ms(self.policy.open_for)));
        }
    }

    fn enter(&mut self) -> Option<Run> {
        self.expire();
        if let Is::Open(until) = self.is
            && self.now >= until
        {
            self.change(Is::Half);
        }
        self.events += 1;
        let mut run = Run {
            began: self.events,
            due: None,
        };
        match self.is {
            Is::Closed => Some(run),
            Is::Half if self.probes.len() < self.policy.probes as usize => {
                run.due = Some(self.now + self.clock);
                self.probes.push(run);
                Some(run)
            }
            _ => None,
        }
    }

    fn settle(&mut self, run: Run, verdict: Verdict) {
        self.expire();
        if run.began < self.changed {
            return;
        }
        self.probes.retain(|probe| probe.began != run.began);
        match (self.is, verdict) {
            (_, Verdict::Neutral) => {}
            (Is::Half, Verdict::Failure) => {
                self.change(Is::Open(self.now + ms(self.policy.open_for)));
            }
            (Is::Half, Verdict::Success) => {
                self.succeeded += 1;
                if self.succeeded == self.policy.successes {
                    self.change(Is::Closed);
                }
            }
            (_, Verdict::Success) => {
                self.ended.push((self.now, false));
                if run.began > self.last_failure {
                    self.row = 0;
                }
            }
            (_, Verdict::Failure) => {
                self.ended.push((self.now, true));
                self.events += 1;
                self.last_failure = self.events;
                self.row += 1;
                let share = self.policy.error_rate.is_some_and(|share| {
                    let ended = self.in_window();
                    let failed = ended.iter().filter(|failed| **failed).count();
                    ended.len() >= self.policy.min_requests as usize
                        && failed * 10_000 >= ended.len() * share as usize
                });
                if share || self.policy.consecutive == Some(self.row) {
                    self.change(Is::Open(self.now + ms(self.policy.open_for)));
                }
            }
        }
    }

    fn in_window(&self) -> Vec<bool> {
        let first = (self.now / STEP).saturating_sub(9);
        let ended = self.ended.iter();
        let inside = ended.filter(|(at, _)| at / STEP >= first);
        inside.map(|(_, failed)| *failed).collect()
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap()
}

fn agrees(model: &Model, health: &Health, base: Instant) {
    let at = |ms| base + Duration::from_millis(ms);
    let expected = match model.is {
        Is::Closed => State::Closed,
        Is::Open(until) => State::Open { until: at(until) },
        Is::Half => State::HalfOpen {
            free: model.policy.probes - u32::try_from(model.probes.len()).unwrap(),
        },
    };
    assert_eq!(health.state(at(model.now)), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn it_does_what_the_rules_say(
        acts in prop::collection::vec(act(), 1..120),
        (consecutive, error_rate) in prop_oneof![
            Just((Some(3), None)),
            Just((None, Some(4000))),
            Just((Some(4), Some(6000))),
        ],
        probes in 1..4_u32,
        successes in 1..4_u32,
    ) {
        let policy = Policy {
            consecutive,
            error_rate,
            window: Duration::from_millis(10 * STEP),
            min_requests: 5,
            open_for: Duration::from_millis(900),
            probes,
            successes,
        };
        let base = start();
        let health = super::health(base);
        let mut model = Model {
            policy, clock: 400, is: Is::Closed, now: 0, events: 0, changed: 0, last_failure: 0,
            row: 0, ended: Vec::new(), probes: Vec::new(), succeeded: 0,
        };
        let mut running: Vec<(Run, Pass)> = Vec::new();
        for act in acts {
            let now = base + Duration::from_millis(model.now);
            match act {
                Act::Wait(ms) => model.now += ms,
                Act::Enter => {
                    let clock = Some(Duration::from_millis(model.clock));
                    match (model.enter(), health.enter(&policy, clock, now)) {
                        (Some(run), Ok(pass)) => {
                            prop_assert_eq!(run.due.is_some(), pass.is_probe());
                            running.push((run, pass));
                        }
                        (None, Err(at)) => prop_assert!(at > now),
                        (expected, got) => prop_assert!(false, "{:?} {:?}", expected, got),
                    }
                }
                Act::Settle(place, verdict) => if place < running.len() {
                    let (run, pass) = running.remove(place);
                    model.settle(run, verdict);
                    health.settle(pass, verdict, &policy, now);
                },
            }
            model.expire();
            agrees(&model, &health, base);
        }
    }
}
