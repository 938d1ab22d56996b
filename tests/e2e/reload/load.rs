//! Reloads under load: no request fails, each has one generation, and memory stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::task::JoinSet;
use tollgate::{config::Config, gateway::Gateway};

use super::*;
use crate::inside::{Inside, config};

/// O05, in one process: as many reloads as can be, under requests on kept connections and on fresh ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_reloads_under_load_lose_and_mix_nothing() {
    const RELOADS: u32 = 1000;
    let (even, odd) = (Upstream::start().await, Upstream::start().await);
    // Every generation is told apart at the provider; two providers, so that connections change too.
    let of = |number: u32| -> Config {
        let upstream = if number.is_multiple_of(2) {
            &even
        } else {
            &odd
        };
        config(&numbered(upstream, number))
    };
    let inside = Inside::start(&of(1));
    let data = inside.data();
    let (over, asked) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU32::new(0)),
    );
    let mut clients = JoinSet::new();
    for client in 0..6 {
        let (over, asked) = (over.clone(), asked.clone());
        clients.spawn(async move {
            let mut conn = Conn::open(data).await.deadline(DEADLINE);
            while !over.load(Ordering::Relaxed) {
                if client % 2 == 0 {
                    conn = Conn::open(data).await.deadline(DEADLINE);
                }
                conn.next("POST");
                conn.send(request("POST", CHAT, &[], chat("m", false)))
                    .await
                    .expect("it is taken");
                let answer = conn.response().await;
                assert!(
                    answer.status() == 200 && answer.whole(),
                    "{}",
                    shown(&answer)
                );
                asked.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for number in 2..=RELOADS + 1 {
        let generation = gateway(&inside)
            .reload(of(number))
            .expect("a good configuration");
        assert_eq!(generation, u64::from(number));
        // At least one request for each few reloads, however busy the machine is.
        let wanted = number / 4;
        until("requests", async || {
            (asked.load(Ordering::Relaxed) >= wanted).then_some(())
        })
        .await;
    }
    over.store(true, Ordering::Relaxed);
    clients.join_all().await;

    let asked = asked.load(Ordering::Relaxed) as usize;
    let mut met: Vec<u32> = Vec::new();
    for (upstream, rest) in [(&even, 0), (&odd, 1)] {
        for exchange in upstream.snapshot().exchanges {
            let numbers = numbers(&exchange);
            assert!(
                numbers.len() == 1 && numbers[0] % 2 == rest,
                "{numbers:?} at the provider {rest}"
            );
            met.push(numbers[0]);
        }
    }
    // The log tells the same generations as the provider has seen.
    let lines = inside.lines(asked).await;
    let mut logged: Vec<u32> = lines
        .iter()
        .map(|line| line["generation"].as_u64().unwrap() as u32)
        .collect();
    met.sort_unstable();
    logged.sort_unstable();
    assert_eq!((met.len(), logged.len()), (asked, asked));
    assert_eq!(met, logged);
    assert!(
        lines
            .iter()
            .all(|line| line["route"] == format!("route-gen{}", line["generation"]))
    );
    met.dedup();
    println!(
        "{asked} requests met {} of {RELOADS} generations",
        met.len()
    );
}

fn gateway(inside: &Inside) -> &Gateway {
    inside
        .gateway
        .as_ref()
        .expect("it runs until it is stopped")
}

/// The memory of the program after many reloads is that after some.
#[tokio::test]
async fn reloads_leave_nothing_behind() {
    let upstream = Upstream::start().await;
    let served = Served::start(&numbered(&upstream, 1)).await;
    let conn = Conn::open(served.program.data().await)
        .await
        .deadline(DEADLINE);
    let mut sizes = Vec::new();
    for round in 0..3_u32 {
        for turn in 0..150 {
            served.write(&numbered(&upstream, 2 + turn % 2));
            assert_eq!(
                served.reload().await.status(),
                200,
                "round {round}, turn {turn}"
            );
            conn.next("POST");
            conn.send(request("POST", CHAT, &[], chat("m", false)))
                .await
                .unwrap();
            assert_eq!(conn.response().await.status(), 200);
        }
        sizes.push(served.program.resident());
    }
    println!("resident kilobytes after 150, 300 and 450 reloads: {sizes:?}");
    // A generation of this file takes some 30 KB: 300 of them would be 9 MB.
    assert!(sizes[2] < sizes[0] + 3000, "{sizes:?}");
}
