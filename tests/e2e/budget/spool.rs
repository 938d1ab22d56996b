//! What of it is left when the process is not.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tollgate_testing::{
    client::{Conn, call, request},
    needs,
    upstream::{ID, SCRIPT, Script, Upstream},
};

use super::{CHAT, answer, file, folder};
use crate::{
    binary::{Program, serve, tollgate, until},
    harness::CALLER,
};

const STREAM: &str = r#"{"model":"m1","stream":true,"max_tokens":2,"messages":[]}"#;
const DEGRADED: &str = "tollgate_store_degraded{store=\"spool\"} ";
const DROPPED: &str = "tollgate_ledger_dropped_total{store=\"spool\"} ";
const PLAIN: &str = r#"{"model":"m1","max_tokens":1,"messages":[]}"#;

/// The file of a gateway, in the folder where its spool is.
fn config(upstream: &Upstream, dir: &Path, budget: &str) -> PathBuf {
    let path = dir.join("tollgate.yaml");
    let terms = format!("budget: {budget}");
    let text = file(
        upstream,
        &terms,
        &dir.join("state"),
        "layers: { concurrency: { per_caller: 2000 } }\n",
    );
    fs::write(&path, format!("version: 1\n{text}")).expect("a file");
    path
}

async fn open(address: SocketAddr, id: &str, script: &str, body: &str) -> Conn {
    let bearer = format!("Bearer {CALLER}");
    let headers = [
        ("content-type", "application/json"),
        ("authorization", bearer.as_str()),
        ("x-request-id", id),
        (ID, id),
        (SCRIPT, script),
    ];
    let conn = Conn::open(address).await;
    let _took = conn.send(request("POST", CHAT, &headers, body)).await;
    conn
}

async fn status(address: SocketAddr, id: &str) -> u16 {
    let conn = open(address, id, "plain", PLAIN).await;
    conn.response().await.status()
}

/// What `tollgate usage` says.
async fn usage(config: &Path, by: &str) -> Vec<Value> {
    let config = config.to_str().expect("text");
    let flags = ["usage", "--config", config, "--format", "json", "--by", by];
    let told = tollgate(flags).run().await;
    assert_eq!(told.code, Some(0), "{}", told.err);
    serde_json::from_str(&told.out).expect("JSON")
}

async fn upstream() -> Upstream {
    let upstream = Upstream::start().await;
    upstream.serve(
        "plain",
        Script::answer(200, "application/json", answer(3, 1)),
    );
    let event = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
    upstream.serve("held", Script::events([event]).stall());
    upstream
}

async fn streams(address: SocketAddr, count: usize) -> Vec<Conn> {
    let mut open_streams = Vec::new();
    for at in 0..count {
        let conn = open(address, &format!("held-{at}"), "held", STREAM).await;
        open_streams.push(conn);
    }
    for conn in &open_streams {
        assert!(
            conn.until(|message| message.body.starts_with(b"data:"))
                .await
        );
    }
    open_streams
}

async fn kill(program: Program) {
    program.signal("KILL");
    program.ended().await;
}

/// R10: what ran is charged with what was reserved for it, once, and told as lost; nothing else is charged twice.
#[tokio::test]
async fn what_ran_when_the_process_died_is_lost_and_charged_once() {
    let (upstream, dir) = (upstream().await, folder());
    let config = config(&upstream, dir.path(), "408usd/month");
    let first = serve(&config).start();
    let address = first.data().await;
    for at in 0..3 {
        assert_eq!(status(address, &format!("before-{at}")).await, 200);
    }
    // Each reserves two USD.
    let held = streams(address, 200).await;
    // The last end is written behind its answer.
    until("three are written", async || {
        let sums = usage(&config, "caller").await;
        (sums.first()?["requests"] == 3).then_some(())
    })
    .await;
    let running = &usage(&config, "caller").await[0];
    assert_eq!(
        (&running["running"], &running["cost_usd"]),
        (&200.into(), &3.0.into())
    );
    kill(first).await;
    drop(held);

    for round in 0..2 {
        let again = serve(&config).start();
        let address = again.data().await;
        if round == 0 {
            let lost = again.until(|said| {
                let lost = said
                    .out
                    .lines()
                    .filter(|line| line.contains("\"ended\":\"lost\""));
                (lost.count() == 200).then(|| said.out.clone())
            });
            let line = lost.await;
            let line: Value =
                serde_json::from_str(line.lines().next().expect("a line")).expect("JSON");
            assert_eq!(
                (&line["caller"], &line["cost_usd"]),
                (&"a".into(), &2.into())
            );
        } else {
            assert!(!again.said().out.contains("lost"), "nothing ran");
        }
        let sums = &usage(&config, "model").await[0];
        assert_eq!((&sums["lost"], &sums["running"]), (&200.into(), &0.into()));
        if round == 1 {
            // 403 USD are spent: five are left.
            let mut seen = Vec::new();
            for at in 0..6 {
                seen.push(status(address, &format!("after-{at}")).await);
            }
            assert_eq!(seen, [200, 200, 200, 200, 200, 429]);
        }
        kill(again).await;
    }
}

/// A line that was being written, and a head that was: the first is left out, the second is not believed.
#[tokio::test]
async fn a_spool_that_was_cut_in_the_middle_is_read_as_far_as_it_goes() {
    let (upstream, dir) = (upstream().await, folder());
    let config = config(&upstream, dir.path(), "5usd");
    let newest = || {
        let files = fs::read_dir(dir.path().join("state")).expect("a folder");
        let files = files.map(|file| file.expect("an entry").path());
        let files = files.filter(|path| path.extension().is_some_and(|it| it == "jsonl"));
        files.max().expect("a file")
    };
    let first = serve(&config).start();
    for at in 0..2 {
        assert_eq!(status(first.data().await, &format!("one-{at}")).await, 200);
    }
    assert_eq!(first.terminate().await.code, Some(0));
    let text = fs::read(newest()).expect("a file");
    let torn = [&text[..], b"{\"admitted\":{\"id\":77,\"re"].concat();
    fs::write(newest(), torn).expect("a file");

    let second = serve(&config).start();
    assert_eq!(status(second.data().await, "two").await, 200);
    assert_eq!(second.terminate().await.code, Some(0));
    // The next one began and did not come to the end of its head.
    let third = newest().with_file_name("usage-00000099.jsonl");
    fs::write(third, &text[..20]).expect("a file");

    let last = serve(&config).start();
    let address = last.data().await;
    let mut seen = Vec::new();
    for at in 0..3 {
        seen.push(status(address, &format!("three-{at}")).await);
    }
    assert_eq!(seen, [200, 200, 429], "three of five were spent");
    kill(last).await;
}

/// R10: a disk that is full closes budgets of money, and nothing else; it is counted, and it is over when there is room.
#[tokio::test]
async fn a_full_disk_is_a_503_under_budgets_of_money_and_others_go_on() {
    if !needs::command("prlimit") {
        return;
    }
    let (upstream, dir) = (upstream().await, folder());
    let path = config(&upstream, dir.path(), "1000usd");
    let other = "sk-caller-without-a-budget";
    let text = fs::read_to_string(&path).expect("a file");
    let callers = format!("callers:\n  b: {{ key: {other} }}\n");
    fs::write(&path, text.replace("callers:\n", &callers)).expect("a file");
    let program = serve(&path).file_blocks(4).start();
    let (address, admin) = (program.data().await, program.admin().await);
    let figure = async |name: &str| {
        let page = call(admin, "GET", "/metrics", &[], "").await.text();
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        let value = line.and_then(|rest| rest.trim().parse::<u64>().ok());
        value.unwrap_or_else(|| panic!("{name} is not in {page}"))
    };
    assert_eq!(figure(DEGRADED).await, 0);
    let mut passed = 0;
    // Two kilobytes are full after a few lines.
    let refused = until("a refusal", async || {
        passed += 1;
        let conn = open(address, &format!("fills-{passed}"), "plain", PLAIN).await;
        let answer = conn.response().await;
        (answer.status() != 200).then_some(answer)
    })
    .await;
    assert!(passed > 1);
    assert_eq!(refused.status(), 503, "{}", refused.text());
    assert_eq!(refused.header("tollgate-refused-by"), Some("budget"));
    assert!(refused.header("retry-after").is_some());
    assert_eq!(upstream.attempts(&format!("fills-{passed}")), 0);
    let bearer = format!("Bearer {other}");
    let headers = [
        ("content-type", "application/json"),
        ("authorization", bearer.as_str()),
        (ID, "other"),
        (SCRIPT, "plain"),
    ];
    for _ in 0..3 {
        let answer = call(address, "POST", CHAT, &headers, PLAIN).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
    }
    assert_eq!(figure(DEGRADED).await, 1);
    assert!(figure(DROPPED).await >= 3);

    program.frees();
    until("room again", async || {
        (figure(DEGRADED).await == 0).then_some(())
    })
    .await;
    assert_eq!(status(address, "again").await, 200);
    let ended = program.terminate().await;
    assert_eq!(ended.code, Some(0));
    let told = ended.err.matches("the spool cannot be written").count();
    assert_eq!(told, 1, "one line for the change: {}", ended.err);
    assert_eq!(ended.err.matches("the spool is written again").count(), 1);
    // What was cut in the middle of a line went on there: each that was charged is in the file, once.
    let sums = usage(&path, "caller").await;
    let of_a = sums
        .iter()
        .find(|it| it["caller"] == "a")
        .expect("a caller");
    assert_eq!((&of_a["running"], &of_a["lost"]), (&0.into(), &0.into()));
    assert_eq!(of_a["cost_usd"], f64::from(passed));
}

#[tokio::test]
async fn a_second_process_on_the_directory_does_not_start() {
    let (upstream, dir) = (upstream().await, folder());
    let config = config(&upstream, dir.path(), "5usd");
    let first = serve(&config).start();
    first.data().await;
    let second = serve(&config).run().await;
    assert_eq!(second.code, Some(1));
    assert!(
        second.err.contains("is used by another process"),
        "{}",
        second.err
    );
    assert_eq!(first.terminate().await.code, Some(0));
}

#[tokio::test]
async fn money_that_nobody_would_remember_is_refused() {
    let (upstream, dir) = (upstream().await, folder());
    let path = config(&upstream, dir.path(), "5usd");
    let text = fs::read_to_string(&path).expect("a file");
    let without: String = text
        .lines()
        .filter(|line| !line.starts_with("state"))
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(&path, without).expect("a file");
    let told = tollgate(["check", "--config", path.to_str().expect("text")])
        .run()
        .await;
    assert_eq!(told.code, Some(1));
    assert!(
        told.err.contains("state: { dir:") || told.out.contains("state: { dir:"),
        "{} {}",
        told.out,
        told.err
    );
}
