//! Two gateways, one Redis, one budget.

use std::{
    collections::HashMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tollgate_testing::{
    client::{self, Conn, request},
    redis::Redis,
    upstream::{Gate, ID, SCRIPT, Script, Upstream},
};

use super::{BODY, CHAT, ask, error, folder, held, upstream};
use crate::{
    binary::{Program, serve, until},
    harness::{CALLER, Stage, provider},
};

/// 1 while Redis is away.
const AWAY: &str = "tollgate_store_degraded{store=\"redis\"}";
const PRICES: &str = "prices: { overrides: { m1: { input: 0, output: 1000000 } } }\n";

/// A file of a gateway that shares its budgets, without a folder of its own.
fn file(upstream: &Upstream, redis: &Redis, terms: &str, more: &str) -> String {
    let provider = provider("acme", "openai", upstream, "/v1", "");
    let url = redis.url();
    format!(
        "providers:\n{provider}callers:\n  a: {{ key: {CALLER}, {terms} }}\nstate: {{ redis: {{ url: \"{url}\", replicas: 2, timeout: 250ms }} }}\n{PRICES}{more}"
    )
}

/// The figures of a gateway whose names begin so.
async fn figures(admin: SocketAddr) -> HashMap<String, u64> {
    let page = client::call(admin, "GET", "/metrics", &[], "").await;
    let page = String::from_utf8(page.body).expect("text");
    let figures = page.lines().filter_map(|line| line.split_once(' '));
    let ours = figures.filter(|(name, _)| name.starts_with("tollgate_budget") || *name == AWAY);
    ours.map(|(name, value)| (name.to_owned(), value.parse().expect("a number")))
        .collect()
}

/// Waits until a gateway's figures are so.
async fn shows(
    admin: SocketAddr,
    what: &str,
    so: impl Fn(&HashMap<String, u64>) -> bool,
) -> HashMap<String, u64> {
    until(what, async || Some(figures(admin).await).filter(&so)).await
}

async fn connected(admin: SocketAddr) {
    shows(admin, "the store is there", |it| it[AWAY] == 0).await;
}

/// Nothing is left that the store does not know.
async fn told(admin: SocketAddr) -> HashMap<String, u64> {
    shows(admin, "all is told", |it| it["tollgate_budget_untold"] == 0).await
}

/// The name under which Redis keeps a part of the caller's account.
fn key(part: &str) -> String {
    use tollgate_middleware::store::{Owner, key};
    key(Owner::Named(&["a"]), format_args!("budget:{part}")).into()
}

/// What is spent and reserved in the account, prepaid, in USD.
fn account(redis: &Redis) -> (u64, u64) {
    let sums = redis.command(&["HMGET", &key("sums"), "spent.ever", "reserved.ever"]);
    let mut sums = sums
        .lines()
        .map(|units| units.parse::<u64>().unwrap_or_default());
    let mut next = || {
        let units = sums.next().unwrap_or_default();
        assert_eq!(units % 10_000_000_000, 0, "all cost whole USD");
        units / 10_000_000_000
    };
    (next(), next())
}

/// Waits until so much is spent and reserved in the account.
async fn has(redis: &Redis, spent: u64, reserved: u64) {
    until("Redis has it", async || {
        (account(redis) == (spent, reserved)).then_some(())
    })
    .await;
}

/// B01, across two processes' gateways: all at once, and none has ended before all have come.
#[tokio::test]
async fn a_thousand_at_once_at_two_gateways_against_a_budget_for_ten() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let (upstream, gate) = (Upstream::start().await, Gate::new("all have come"));
    upstream.serve_default(held(&gate, 3, 1));
    let more = "layers: { concurrency: { per_caller: 2000 } }\n";
    let text = file(&upstream, &redis, "budget: 10usd", more);
    // A busy machine is not to be taken for one whose store is away.
    let text = text.replace("250ms", "20s");
    let stages = [Arc::new(Stage::start(&text)), Arc::new(Stage::start(&text))];
    for stage in &stages {
        connected(stage.admin()).await;
    }
    let mut asking = tokio::task::JoinSet::new();
    for at in 0..1000 {
        let stage = stages[at % 2].clone();
        asking.spawn(async move { ask(&stage, &format!("shared-b01-{at}"), BODY).await });
    }
    let (mut passed, mut refused) = (0, 0);
    while let Some(message) = asking.join_next().await {
        let message = message.expect("no task panics");
        if message.status() == 200 {
            passed += 1;
            continue;
        }
        assert_eq!(message.status(), 429, "{}", error(&message));
        assert_eq!(error(&message)["code"], "insufficient_quota");
        refused += 1;
        if refused == 990 {
            assert_eq!(account(&redis), (0, 10));
            gate.open_for_all();
        }
    }
    assert_eq!((passed, refused), (10, 990));
    assert_eq!(upstream.snapshot().exchanges.len(), 10);
    for stage in stages {
        let stage = Arc::into_inner(stage).expect("all have asked");
        told(stage.admin()).await;
        stage.stop().await;
    }
    assert_eq!(account(&redis), (10, 0));
}

/// Tokens: what one gateway takes the other has not, and both say so.
#[tokio::test]
async fn tokens_are_those_of_all_gateways() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let upstream = upstream(20, 30).await;
    let text = file(&upstream, &redis, "tokens: 100/hour", "");
    let stages = [Stage::start(&text), Stage::start(&text)];
    for stage in &stages {
        connected(stage.admin()).await;
    }
    assert_eq!(ask(&stages[0], "one", BODY).await.status(), 200);
    told(stages[0].admin()).await;
    let second = ask(&stages[1], "two", BODY).await;
    assert_eq!(second.status(), 200);
    let limit = second.header("ratelimit").expect("how it stands");
    let left = limit.split("r=").nth(1).and_then(|it| it.split(';').next());
    let left: u64 = left.and_then(|it| it.parse().ok()).expect("a number");
    // 50 are used, and some are reserved for this one.
    assert!((1..50).contains(&left), "{limit}");
    told(stages[1].admin()).await;
    let third = ask(&stages[0], "three", BODY).await;
    assert_eq!(third.status(), 429);
    assert_eq!(error(&third)["code"], "rate_limit_exceeded");
    assert!(third.header("retry-after").is_some());
    for stage in stages {
        stage.stop().await;
    }
}

/// What `reserve: typical` goes by is in the files of a gateway: after a restart it reserves no worst case.
#[tokio::test]
async fn with_a_spool_what_is_typical_survives_a_restart() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let (upstream, dir) = (upstream(20, 30).await, folder());
    let state = format!(
        "state: {{ dir: \"{}\", ",
        dir.path().join("state").display()
    );
    let terms = "tokens: { rate: 600/hour, reserve: typical }";
    let text = file(&upstream, &redis, terms, "").replace("state: { ", &state);
    let body = br#"{"model":"m1","max_tokens":590,"messages":[]}"#;
    for run in ["first", "second"] {
        let stage = Stage::start(&text);
        connected(stage.admin()).await;
        // The first takes all that there is, and gives most of it back.
        assert_eq!(ask(&stage, run, body).await.status(), 200, "{run}");
        told(stage.admin()).await;
        stage.stop().await;
    }
}

/// What loads a gateway until it is told to stop; each request costs one USD.
struct Load {
    stop: Arc<AtomicBool>,
    admitted: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
    running: tokio::task::JoinSet<()>,
}

impl Load {
    fn on(address: SocketAddr, count: usize) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            admitted: Arc::default(),
            refused: Arc::default(),
            running: tokio::task::JoinSet::new(),
        };
        for _ in 0..count {
            let stop = load.stop.clone();
            let (admitted, refused) = (load.admitted.clone(), load.refused.clone());
            load.running.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let count = match status(address).await {
                        200 => &admitted,
                        429 | 503 => &refused,
                        other => panic!("{other}"),
                    };
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        load
    }

    fn admitted(&self) -> u64 {
        self.admitted.load(Ordering::Relaxed)
    }

    /// Waits until so many more were admitted.
    async fn admits(&self, more: u64) {
        let goal = self.admitted() + more;
        until("more are admitted", async || {
            (self.admitted() >= goal).then_some(())
        })
        .await;
    }

    async fn end(mut self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.running.join_next().await {
            ended.expect("no task panics");
        }
        (self.admitted(), self.refused.load(Ordering::Relaxed))
    }
}

/// A load on each gateway.
struct Loads([Load; 2]);

impl Loads {
    fn on(stages: &[Stage; 2]) -> Self {
        Self(stages.each_ref().map(|stage| Load::on(stage.addr(), 2)))
    }

    /// Waits until each has admitted so many more.
    async fn admit(&self, more: u64) {
        for load in &self.0 {
            load.admits(more).await;
        }
    }

    async fn end(self) -> (u64, u64) {
        let (mut admitted, mut refused) = (0, 0);
        for load in self.0 {
            let (some, others) = load.end().await;
            (admitted, refused) = (admitted + some, refused + others);
        }
        (admitted, refused)
    }
}

/// Ends that gateways told later than they happened.
async fn late(stages: &[Stage]) -> u64 {
    let mut late = 0;
    for stage in stages {
        late += figures(stage.admin()).await["tollgate_budget_told_late_total"];
    }
    late
}

async fn status(address: SocketAddr) -> u16 {
    let bearer = format!("Bearer {CALLER}");
    let headers = [
        ("content-type", "application/json"),
        ("authorization", bearer.as_str()),
    ];
    let conn = Conn::open(address).await;
    let _took = conn.send(request("POST", CHAT, &headers, BODY)).await;
    conn.response().await.status()
}

/// R08, R10: Redis is hung, emptied, killed and started again under load, with nothing in it and with what it once saved. Each time it has
/// in the end what the provider was asked for, once; where it has forgotten some, what was told late may count again, if another gateway
/// had heard of it.
#[tokio::test]
async fn redis_hung_emptied_killed_and_started_again_under_load() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let upstream = upstream(0, 1).await;
    let text = file(&upstream, &redis, "budget: 1000000usd", "");
    let stages = [Stage::start(&text), Stage::start(&text)];
    let (mut sum, mut charged) = (0, 0);
    for fault in ["none", "hung", "emptied", "killed", "older"] {
        for stage in &stages {
            connected(stage.admin()).await;
        }
        let before = late(&stages).await;
        // Each gateway hears of the store before and after.
        let loads = Loads::on(&stages);
        loads.admit(20).await;
        match fault {
            "hung" => {
                redis.hang();
                loads.admit(20).await;
                redis.resume();
            }
            "emptied" => drop(redis.command(&["FLUSHALL"])),
            "killed" => {
                redis.kill();
                loads.admit(20).await;
                redis.restart();
            }
            "older" => {
                redis.command(&["SAVE"]);
                loads.admit(20).await;
                redis.kill();
                loads.admit(20).await;
                redis.restart();
            }
            _ => {}
        }
        for stage in &stages {
            connected(stage.admin()).await;
        }
        loads.admit(20).await;
        let (admitted, refused) = loads.end().await;
        sum += admitted;
        for stage in &stages {
            told(stage.admin()).await;
        }
        let late = late(&stages).await - before;
        let (spent, reserved) = account(&redis);
        let new = spent - charged;
        println!(
            "{fault}: {admitted} admitted, {refused} refused, {late} told late, {new} charged"
        );
        assert_eq!(upstream.snapshot().exchanges.len() as u64, sum, "{fault}");
        assert_eq!(reserved, 0, "{fault}");
        let forgets = matches!(fault, "emptied" | "killed" | "older");
        let again = if forgets { late } else { 0 };
        assert!((admitted..=admitted + again).contains(&new), "{fault}");
        charged = spent;
    }
    for stage in stages {
        stage.stop().await;
    }
}

/// R08: Redis saves, is killed, and comes back with what it had saved: what was spent since is told to it, what it had reserved and what
/// was reserved since is charged when it ends, each once, and nothing stays reserved that does not run.
#[tokio::test]
async fn a_redis_that_comes_back_older_charges_all_once_and_holds_no_ghosts() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let (upstream, gate) = (upstream(0, 1).await, Gate::new("Redis is back"));
    for id in ["before", "since"] {
        upstream.serve(id, held(&gate, 0, 1));
    }
    let text = file(&upstream, &redis, "budget: 100usd", "");
    let stages = [Arc::new(Stage::start(&text)), Arc::new(Stage::start(&text))];
    let mut running = tokio::task::JoinSet::new();
    let mut hold = |stage: &Arc<Stage>, id: &'static str| {
        let stage = stage.clone();
        running.spawn(async move { ask(&stage, id, BODY).await.status() });
    };
    for stage in &stages {
        connected(stage.admin()).await;
    }
    assert_eq!(ask(&stages[0], "one", BODY).await.status(), 200);
    hold(&stages[0], "before");
    has(&redis, 1, 1).await;
    redis.command(&["SAVE"]);
    hold(&stages[1], "since");
    for (at, stage) in stages.iter().cycle().take(6).enumerate() {
        assert_eq!(ask(stage, &format!("more-{at}"), BODY).await.status(), 200);
    }
    has(&redis, 7, 2).await;
    for stage in &stages {
        told(stage.admin()).await;
    }
    redis.kill();
    redis.restart();
    for stage in &stages {
        connected(stage.admin()).await;
    }
    // Nobody asks: who looks tells it.
    has(&redis, 7, 0).await;
    gate.open_for_all();
    while let Some(status) = running.join_next().await {
        assert_eq!(status.expect("no task panics"), 200);
    }
    has(&redis, 9, 0).await;
    assert_eq!(ask(&stages[0], "after", BODY).await.status(), 200);
    for stage in stages {
        told(stage.admin()).await;
        Arc::into_inner(stage).expect("all have asked").stop().await;
    }
    assert_eq!(account(&redis), (10, 0));
}

/// R08: a budget that ends while Redis is away: each gateway has half of what was left, and no more.
#[tokio::test]
async fn away_two_gateways_admit_no_more_than_was_left() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let upstream = upstream(0, 1).await;
    let text = file(&upstream, &redis, "budget: 20usd", "");
    let stages = [Stage::start(&text), Stage::start(&text)];
    for stage in &stages {
        connected(stage.admin()).await;
    }
    for at in 0..4 {
        assert_eq!(
            ask(&stages[at % 2], &format!("before-{at}"), BODY)
                .await
                .status(),
            200
        );
    }
    // Both have heard of all four.
    for stage in &stages {
        told(stage.admin()).await;
    }
    until("both look again", async || {
        let calls = async |stage: &Stage| {
            let page = client::call(stage.admin(), "GET", "/metrics", &[], "").await;
            let page = String::from_utf8(page.body).expect("text");
            let line = page
                .lines()
                .find(|line| line.contains("calls_total{result=\"answered\"}"));
            line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
                .unwrap_or_default()
        };
        // Of each the admissions and ends, and some looks.
        (calls(&stages[0]).await > 8 && calls(&stages[1]).await > 8).then_some(())
    })
    .await;
    redis.kill();
    let mut passed = [0; 2];
    for (stage, passed) in stages.iter().zip(&mut passed) {
        loop {
            let message = ask(stage, &format!("away-{passed}"), BODY).await;
            if message.status() == 200 {
                *passed += 1;
                continue;
            }
            assert_eq!(message.status(), 429);
            assert_eq!(error(&message)["code"], "insufficient_quota");
            break;
        }
    }
    assert_eq!(passed, [8, 8]);
    redis.restart();
    for stage in &stages {
        connected(stage.admin()).await;
        told(stage.admin()).await;
    }
    assert_eq!(account(&redis), (20, 0));
    assert_eq!(ask(&stages[1], "after", BODY).await.status(), 429);
    for stage in stages {
        stage.stop().await;
    }
}

/// R08: never in contact since the start is a 503 that says when to ask again, and `on_error: refuse` is one at any time. Nobody who has no
/// limits notices.
#[tokio::test]
async fn without_redis_who_has_a_budget_waits() {
    let Some(mut redis) = Redis::stopped(&[]) else {
        return;
    };
    let upstream = upstream(0, 1).await;
    let free = "sk-free-77b1c05f21";
    let text = file(&upstream, &redis, "budget: 10usd", "")
        .replace("callers:\n", &format!("callers:\n  b: {{ key: {free} }}\n"))
        .replace("timeout: 250ms", "on_error: refuse");
    let stage = Stage::start(&text);
    for round in 0..2 {
        let message = ask(&stage, &format!("down-{round}"), BODY).await;
        assert_eq!(message.status(), 503);
        assert_eq!(message.header("tollgate-refused-by"), Some("budget"));
        assert!(message.header("retry-after").is_some());
        let bearer = format!("Bearer {free}");
        let headers = [
            ("content-type", "application/json"),
            ("authorization", bearer.as_str()),
        ];
        let other = client::call(stage.addr(), "POST", CHAT, &headers, BODY).await;
        assert_eq!(other.status(), 200);
        if round == 0 {
            redis.restart();
            connected(stage.admin()).await;
            assert_eq!(ask(&stage, "up", BODY).await.status(), 200);
            redis.kill();
        }
    }
    stage.stop().await;
}

const STREAM: &str = r#"{"model":"m1","stream":true,"max_tokens":2,"messages":[]}"#;

/// Streams that go on until they are left.
async fn streams(address: SocketAddr, count: usize) -> Vec<Conn> {
    let bearer = format!("Bearer {CALLER}");
    let mut open = Vec::new();
    for at in 0..count {
        let id = format!("held-{at}");
        let headers = [
            ("content-type", "application/json"),
            ("authorization", bearer.as_str()),
            (ID, id.as_str()),
            (SCRIPT, "held"),
        ];
        let conn = Conn::open(address).await;
        let _took = conn.send(request("POST", CHAT, &headers, STREAM)).await;
        assert!(
            conn.until(|message| message.body.starts_with(b"data:"))
                .await
        );
        open.push(conn);
    }
    open
}

fn config(text: &str, dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, format!("version: 1\n{text}")).expect("a file");
    path
}

async fn kill(program: Program) {
    program.signal("KILL");
    program.ended().await;
}

/// R10: what a gateway was running when it was killed is charged with what was reserved for it when its time is over, once; a gateway that
/// comes again does not charge it once more.
#[tokio::test]
async fn what_a_killed_gateway_ran_is_lost_and_charged_once() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let (upstream, dir) = (upstream(0, 1).await, folder());
    let event = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
    upstream.serve("held", Script::events([event]).stall());
    // One of them has a spool, too.
    let text = file(&upstream, &redis, "budget: 1000usd", "");
    let spool = dir.path().join("state");
    let with_spool = text.replace(
        "state: { ",
        &format!("state: {{ dir: \"{}\", ", spool.display()),
    );
    let (one, other) = (
        config(&with_spool, dir.path(), "one.yaml"),
        config(&text, dir.path(), "other.yaml"),
    );
    let first = serve(&one).start();
    let second = serve(&other).start();
    for program in [&first, &second] {
        connected(program.admin().await).await;
    }
    let held = streams(first.data().await, 50).await;
    assert_eq!(status(second.data().await).await, 200);
    told(second.admin().await).await;
    assert_eq!(account(&redis), (1, 100));
    kill(first).await;
    drop(held);
    assert_eq!(status(second.data().await).await, 200);
    told(second.admin().await).await;
    assert_eq!(
        account(&redis),
        (2, 100),
        "nobody is given up before his time"
    );
    if tollgate_testing::long() {
        tokio::time::sleep(Duration::from_secs(31)).await;
    } else {
        // What 30 seconds bring about.
        for process in redis.command(&["ZRANGE", &key("live"), "0", "-1"]).lines() {
            redis.command(&["ZADD", &key("live"), "1", process]);
        }
    }
    let address = second.admin().await;
    assert_eq!(status(second.data().await).await, 200);
    let figures = told(address).await;
    println!(
        "50 streams of 2 USD each were lost: {figures:?}, Redis: {:?}",
        account(&redis)
    );
    assert_eq!(account(&redis), (103, 0));
    assert_eq!(figures["tollgate_budget_lost_total"], 50);

    let again = serve(&one).start();
    connected(again.admin().await).await;
    let lost = again.until(|said| {
        let lines = said
            .out
            .lines()
            .filter(|line| line.contains("\"ended\":\"lost\""));
        (lines.count() == 50).then_some(())
    });
    lost.await;
    assert_eq!(status(again.data().await).await, 200);
    told(again.admin().await).await;
    assert_eq!(account(&redis), (104, 0));
    again.terminate().await;
    second.terminate().await;
}

/// A gateway that ends in order leaves nothing reserved and nothing untold.
#[tokio::test]
async fn what_ends_with_a_gateway_is_told_before_it_is_gone() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let upstream = upstream(0, 1).await;
    let stage = Stage::start(&file(&upstream, &redis, "budget: 10usd", ""));
    connected(stage.admin()).await;
    for at in 0..5 {
        assert_eq!(ask(&stage, &format!("last-{at}"), BODY).await.status(), 200);
    }
    stage.stop().await;
    assert_eq!(account(&redis), (5, 0));
}
