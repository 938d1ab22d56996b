//! The strategies in simulation: arrivals at a fixed rate, targets that take their time, 10^5 draws with a fixed seed. The shares
//! are printed, and after how many draws they have settled; their bounds are those that are promised.

use std::{cmp::Reverse, collections::BinaryHeap, time::Instant};

use super::*;
use crate::{attempt::Ask, health::Load, prices::Price};

const DRAWS: usize = 100_000;

/// How a target behaves: how long it takes, and whether it fails.
#[derive(Clone, Copy)]
struct Server {
    takes: Duration,
    fails: bool,
}

fn serves(millis: u64) -> Server {
    Server {
        takes: Duration::from_millis(millis),
        fails: false,
    }
}

fn fails(millis: u64) -> Server {
    Server {
        takes: Duration::from_millis(millis),
        fails: true,
    }
}

const NAMES: [&str; 4] = ["one", "two", "three", "four"];

/// Who was drawn, in order.
struct Drawn {
    picks: Vec<usize>,
    shares: Vec<f64>,
}

impl Drawn {
    fn new(picks: Vec<usize>, targets: usize) -> Self {
        let of = |at| picks.iter().filter(|pick| **pick == at).count() as f64;
        let shares = (0..targets).map(|at| of(at) / picks.len() as f64).collect();
        Self { picks, shares }
    }

    /// After so many draws the share of a target is what `holds` says, and stays so.
    fn converges(&self, at: usize, holds: impl Fn(f64) -> bool) -> usize {
        let (mut count, mut since) = (0, 0);
        for (draws, pick) in self.picks.iter().enumerate() {
            count += usize::from(*pick == at);
            if !holds(f64::from(count as u32) / (draws + 1) as f64) {
                since = draws + 1;
            }
        }
        since
    }

    /// Prints from which draw on the share of a target is what it has to be; it has to be so within a tenth of all draws.
    fn settles(&self, at: usize, bound: &str, holds: impl Fn(f64) -> bool) {
        let since = self.converges(at, holds);
        println!("    {}: {bound} from draw {since} on", NAMES[at]);
        assert!(since <= DRAWS / 10, "{} settles after {since}", NAMES[at]);
    }
}

/// What each target is given, under one arrival a millisecond.
fn drawn(
    strategy: &Strategy,
    servers: &[Server],
    shape: impl Fn(usize, Target<Stub>) -> Target<Stub>,
) -> Drawn {
    let rig = Rig::new();
    let targets = (0..servers.len()).map(|at| shape(at, rig.target(NAMES[at], 200)));
    let balance = Balance::new(targets, strategy.clone())
        .unwrap()
        .chance(Chance::seeded(20_261_130));
    let ask = Ask {
        eligible: (1 << servers.len()) - 1,
        tokens: (1000, 500),
        ..Ask::default()
    };
    let mut picks = Vec::with_capacity(DRAWS);
    let mut running: Vec<Option<(usize, Health, Load)>> = Vec::new();
    let mut ends: BinaryHeap<Reverse<(Instant, usize)>> = BinaryHeap::new();
    let start = SystemClock.now();
    for arrival in 0..DRAWS {
        let now = start + Duration::from_millis(arrival as u64);
        while let Some(Reverse((end, place))) =
            ends.peek().copied().filter(|Reverse((end, _))| *end <= now)
        {
            ends.pop();
            let (at, health, load) = running[place].take().unwrap();
            drop(load);
            health.pulse().answered(true, servers[at].fails, end);
            if !servers[at].fails {
                health.pulse().took(servers[at].takes, end);
            }
        }
        let chosen = balance.field.first(&ask, || now).unwrap();
        picks.push(chosen.index);
        ends.push(Reverse((now + servers[chosen.index].takes, running.len())));
        let load = chosen.health.load();
        running.push(Some((chosen.index, chosen.health, load)));
    }
    let drawn = Drawn::new(picks, servers.len());
    let told: Vec<_> = drawn
        .shares
        .iter()
        .map(|share| format!("{:.1} %", share * 100.0))
        .collect();
    println!("{strategy:?}: {}", told.join(", "));
    drawn
}

fn same(_: usize, target: Target<Stub>) -> Target<Stub> {
    target
}

#[tokio::test(start_paused = true)]
async fn weights_are_kept_within_two_percent() {
    let drawn = drawn(&Strategy::Weighted, &[serves(10); 3], |at, target| {
        target.weight([5, 3, 2][at])
    });
    for (at, weight) in [0.5, 0.3, 0.2].into_iter().enumerate() {
        let holds = |share: f64| (share - weight).abs() <= 0.02;
        assert!(holds(drawn.shares[at]), "{} for {weight}", drawn.shares[at]);
        drawn.settles(at, "within 2 % of its weight", holds);
    }
}

/// Rendezvous keeps the weights, too.
#[tokio::test(start_paused = true)]
async fn weights_are_kept_within_two_percent_where_the_choice_sticks() {
    let rig = Rig::new();
    let targets = [
        rig.target("one", 200).weight(3),
        rig.target("two", 200).weight(1),
    ];
    let balance = Balance::new(targets, Strategy::Sticky).unwrap();
    let (mut ones, now) = (0, SystemClock.now());
    for key in 0..DRAWS as u64 {
        let ask = Ask {
            eligible: 0b11,
            key: Some(super::super::ask::hash("caller", &key.to_le_bytes())),
            ..Ask::default()
        };
        ones += usize::from(balance.field.first(&ask, || now).unwrap().index == 0);
    }
    let share = ones as f64 / DRAWS as f64;
    println!("Sticky, weights 3 and 1: {:.1} %", share * 100.0);
    assert!((share - 0.75).abs() <= 0.02, "{share}");
}

#[tokio::test(start_paused = true)]
async fn turns_are_equal() {
    let servers = [serves(10), serves(20), serves(30)];
    for share in drawn(&Strategy::RoundRobin, &servers, same).shares {
        assert!((share - 1.0 / 3.0).abs() < 0.001, "{share}");
    }
}

/// One of three that is ten times slower gets at most 15 %.
#[tokio::test(start_paused = true)]
async fn a_slow_one_of_three_gets_little() {
    for strategy in [
        Strategy::LeastInflight,
        Strategy::P2c,
        Strategy::LeastLatency,
    ] {
        let drawn = drawn(&strategy, &[serves(20), serves(200), serves(20)], same);
        let slow = drawn.shares[1];
        assert!(slow <= 0.15, "{strategy:?}: {slow}");
        assert!(
            slow > 0.0,
            "{strategy:?}: nobody finds out when it gets better"
        );
        drawn.settles(1, "at most 15 %", |share| share <= 0.15);
    }
}

/// One of three that fails at once gets no more than its fair share.
#[tokio::test(start_paused = true)]
async fn one_that_fails_fast_gets_no_more_than_its_share() {
    for strategy in [
        Strategy::LeastInflight,
        Strategy::P2c,
        Strategy::LeastLatency,
    ] {
        let drawn = drawn(&strategy, &[serves(50), fails(1), serves(50)], same);
        let failing = drawn.shares[1];
        assert!(failing <= 1.0 / 3.0, "{strategy:?}: {failing}");
        drawn.settles(1, "at most its fair share", |share| share <= 1.0 / 3.0);
    }
}

#[tokio::test(start_paused = true)]
async fn equal_ones_share_equally() {
    for strategy in [Strategy::LeastInflight, Strategy::P2c] {
        let drawn = drawn(&strategy, &[serves(40); 4], same);
        for (at, share) in drawn.shares.iter().enumerate() {
            let holds = |share: f64| (share - 0.25).abs() <= 0.05;
            assert!(holds(*share), "{strategy:?}: {share}");
            drawn.settles(at, "within 5 % of a quarter", holds);
        }
    }
}

/// Nine in ten go to the fastest, and the tenth explores.
#[tokio::test(start_paused = true)]
async fn the_fastest_gets_all_but_what_explores() {
    let servers = [serves(30), serves(10), serves(20)];
    let drawn = drawn(&Strategy::LeastLatency, &servers, same);
    let expected = 0.9 + 0.1 / 3.0;
    let share = drawn.shares[1];
    assert!((share - expected).abs() <= 0.01, "{share}");
    drawn.settles(
        1,
        "within 1 % of nine in ten and its part of the tenth",
        |share| (share - expected).abs() <= 0.01,
    );
}

#[tokio::test(start_paused = true)]
async fn the_cheapest_gets_all_and_the_unpriced_is_last() {
    let prices = [None, Some((1.0, 9.0)), Some((2.0, 2.0))];
    let priced = |at: usize, target: Target<Stub>| {
        target.prices(move |_| {
            prices[at].map(|(input, output)| Price {
                input,
                output,
                ..Price::default()
            })
        })
    };
    // 1000 tokens in and 500 out: 5500 and 3000 millionths.
    let drawn = drawn(&Strategy::Cheapest, &[serves(10); 3], priced);
    assert_eq!(drawn.shares, [0.0, 0.0, 1.0]);
}

/// What was measured is forgotten after five minutes: then the fast one of long ago is no better than others.
#[tokio::test(start_paused = true)]
async fn a_measured_time_is_forgotten_after_five_minutes() {
    let rig = Rig::new();
    let targets = NAMES.map(|name| rig.target(name, 200));
    let balance = Balance::new(targets, Strategy::LeastLatency)
        .unwrap()
        .chance(Chance::seeded(1));
    let (start, ask) = (
        SystemClock.now(),
        Ask {
            eligible: 0b1111,
            ..Ask::default()
        },
    );
    for (name, took) in NAMES.into_iter().zip([50, 5, 60, 70]) {
        let health = rig.health(name);
        health.pulse().took(Duration::from_millis(took), start);
    }
    let share = |now| {
        let hits = (0..1000).filter(|_| balance.field.first(&ask, || now).unwrap().index == 1);
        hits.count()
    };
    assert!(share(start + seconds(299)) > 850);
    assert!(share(start + seconds(300)) < 350);
}

/// Whom nobody has measured is asked before the others, by one request at a time: it may be the fastest of all. Left to chance, it was
/// not found for dozens of requests. One that gives no time to measure is not asked so again for as long as that is known.
#[tokio::test(start_paused = true)]
async fn whom_nobody_has_measured_is_asked_at_once_and_once() {
    let rig = Rig::new();
    let targets = ["one", "two"].map(|name| rig.target(name, 200));
    let balance = Balance::new(targets, Strategy::LeastLatency)
        .unwrap()
        .chance(Chance::seeded(3));
    let (start, ask) = (
        SystemClock.now(),
        Ask {
            eligible: 0b11,
            ..Ask::default()
        },
    );
    let twos = |now, count: usize| {
        let picks = (0..count).map(|_| balance.field.first(&ask, || now).unwrap().index);
        picks.filter(|at| *at == 1).count()
    };
    rig.health("one").pulse().took(seconds(1), start);
    assert!(twos(start, 100) > 85, "it is unknown and idle");
    let load = rig.health("two").load();
    assert!(twos(start, 1000) < 100, "somebody asks it already");
    drop(load);
    rig.health("two").pulse().answered(true, false, start);
    assert!(
        twos(start, 1000) < 100,
        "it has answered, and cannot be measured"
    );
    assert!(twos(start + seconds(10), 100) > 85, "that is long ago");
}
