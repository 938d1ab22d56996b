//! D12, R01: when descriptors run out, connections wait, the program lives at little cost, and it goes on when some come
//! back.

use std::{fs, time::Duration};

use tempfile::tempdir;
use tokio::time::Instant;
use tollgate_testing::client::{Conn, call, request};

use super::MOCK;
use crate::{
    binary::{CHAT, DEADLINE, Program, chat, serve, until},
    load::scale,
};

/// The program with so many descriptors, and a connection to its admin listener, which it could not accept later.
async fn start(limits: &str, descriptors: u32) -> (Program, Conn) {
    let folder = tempdir().expect("a temporary folder");
    let file = folder.path().join("a.yaml");
    let text = format!("{MOCK}server: {{ workers: 1, limits: {{ {limits} }} }}\n");
    fs::write(&file, text).expect("written");
    let program = serve(&file).descriptors(descriptors).start();
    let admin = Conn::open(program.admin().await).await.deadline(DEADLINE);
    assert_eq!(metric(&admin, CONNECTIONS).await, 0);
    (program, admin)
}

const CONNECTIONS: &str = "tollgate_connections{side=\"client\"}";

async fn metric(admin: &Conn, name: &str) -> u64 {
    admin.next("GET");
    let get = request("GET", "/metrics", &[], "");
    admin.send(get).await.expect("it is taken");
    let text = admin.response().await.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|rest| rest.trim().parse().ok());
    value.unwrap_or_else(|| panic!("{name} is not in {text}"))
}

async fn all_is_well(program: &Program) {
    let data = program.data().await;
    let answer = call(data, "POST", CHAT, &[], chat("echo", false)).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
}

#[tokio::test]
async fn without_descriptors_connections_wait_and_are_accepted_when_some_come_back() {
    let (descriptors, count) = (scale(100, 256), scale(150, 1000));
    let (program, admin) = start("connections: 10000", descriptors as u32).await;
    let data = program.data().await;
    let mut recovered = Vec::new();
    for spell in 1..=2_u64 {
        let mut clients = Vec::new();
        for _ in 0..count {
            clients.push(Conn::open(data).await.deadline(DEADLINE));
        }
        let failures = metric(&admin, "tollgate_accept_failures_total").await;
        until("failures that go on", async || {
            let now = metric(&admin, "tollgate_accept_failures_total").await;
            (now > failures + 1).then_some(())
        })
        .await;
        // It tries on, and not all the time.
        let share = program.share(Duration::from_secs(scale(1, 5) as u64)).await;
        println!("without descriptors: {:.1} % of a processor", 100.0 * share);
        assert!(share < 0.2, "{share}");
        // Those that were accepted are served meanwhile; the mock needs no descriptor.
        clients[0]
            .send(request("POST", CHAT, &[], chat("echo", false)))
            .await
            .unwrap();
        assert_eq!(clients[0].response().await.status(), 200);
        let waiting = clients.pop().expect("many of them");
        drop(clients);
        let since = Instant::now();
        waiting
            .send(request("POST", CHAT, &[], chat("echo", false)))
            .await
            .unwrap();
        assert_eq!(waiting.response().await.status(), 200);
        recovered.push(since.elapsed());
        drop(waiting);
        all_is_well(&program).await;
        let told = |words: &str| program.said().err.matches(words).count() as u64;
        assert_eq!(
            told("cannot accept connections"),
            spell,
            "once for each spell"
        );
        // A second without a failure is the end of it, which a connection notices.
        until("the end of the spell", async || {
            all_is_well(&program).await;
            (told("connections are accepted again") == spell).then_some(())
        })
        .await;
    }
    println!("recovered after {recovered:?}");
    // The machine may be busy during one of them.
    let best = recovered.into_iter().min().expect("two of them");
    assert!(best <= Duration::from_secs(1), "{best:?}");
    assert_eq!(program.terminate().await.code, Some(0));
}

#[tokio::test]
async fn the_limit_of_connections_comes_from_the_descriptors() {
    // (100 - 64) / 2 = 18, and (70 - 64) / 2 is less than 16.
    for (limits, descriptors, most) in [
        ("connections: auto", 100, 18),
        ("headers: 50", 70, 16),
        ("connections: 3", 100, 3),
    ] {
        let (program, admin) = start(limits, descriptors).await;
        let data = program.data().await;
        let mut clients = Vec::new();
        for _ in 0..40 {
            clients.push(Conn::open(data).await.deadline(DEADLINE));
        }
        until("as many as may", async || {
            let open = metric(&admin, CONNECTIONS).await;
            (open == most).then_some(())
        })
        .await;
        // The next one is served when one of them has gone, and not before.
        let mut clients = clients.into_iter();
        let last = clients.next_back().expect("40 of them");
        last.send(request("POST", CHAT, &[], chat("echo", false)))
            .await
            .unwrap();
        assert_eq!(metric(&admin, CONNECTIONS).await, most);
        assert!(last.message().head.is_empty());
        drop(clients);
        assert_eq!(last.response().await.status(), 200);
        assert_eq!(metric(&admin, "tollgate_accept_failures_total").await, 0);
        drop(last);
        all_is_well(&program).await;
        assert_eq!(program.terminate().await.code, Some(0));
    }
}
