//! Targets that change while requests run, and what is known of them over a reload.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::task::JoinSet;
use tollgate::config::{self, Inputs};
use tollgate_testing::{
    client,
    splits::Random,
    upstream::{Gate, Plan, Script, Upstream},
};

use super::{BODY, CHAT, failing, fine, said};
use crate::{
    binary::until,
    harness::{Ask, Stage, seed},
};

const STREAM: &[u8] = br#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

/// Upstreams of which each says its own name.
struct Cast {
    names: [&'static str; 4],
    upstreams: Vec<Upstream>,
}

impl Cast {
    async fn start() -> Self {
        let names = ["a", "b", "c", "d"];
        let mut upstreams = Vec::new();
        for name in names {
            let upstream = Upstream::start().await;
            upstream.serve_default(Script::chat(name));
            upstreams.push(upstream);
        }
        Self { names, upstreams }
    }

    /// A file with these targets and weights; only the providers that are needed are in it.
    fn text(&self, strategy: &str, targets: &[(usize, u32)]) -> String {
        let provider = |at: &usize| {
            let (name, port) = (self.names[*at], self.upstreams[*at].port());
            format!(
                "  {name}: {{ dialect: openai, base_url: \"http://127.0.0.1:{port}/v1\", credentials: [] }}\n"
            )
        };
        let providers: String = targets.iter().map(|(at, _)| provider(at)).collect();
        let most = if strategy == "weighted" { 9 } else { 1 };
        let one = |(at, weight): &(usize, u32)| {
            let weight = (*weight).min(most);
            format!("{{ provider: {}, weight: {weight} }}", self.names[*at])
        };
        let targets: Vec<_> = targets.iter().map(one).collect();
        format!(
            "server: {{ workers: 2 }}\nproviders:\n{providers}\
             routes: [{{ name: r, match: {{}}, strategy: {strategy}, targets: [{}] }}]\n",
            targets.join(", ")
        )
    }

    fn attempts(&self, id: &str) -> Vec<usize> {
        self.upstreams.iter().map(|it| it.attempts(id)).collect()
    }
}

/// Some of the targets, one of them with a weight at least.
fn some(random: &mut Random) -> Vec<(usize, u32)> {
    loop {
        let drawn = (0..4).filter_map(|at| match random.below(4) {
            0 => None,
            weight => Some((at, u32::try_from(weight - 1).unwrap_or(1))),
        });
        let targets: Vec<_> = drawn.collect();
        if targets.iter().any(|(_, weight)| *weight > 0) {
            return targets;
        }
    }
}

/// U16: targets come, go and are drained by reloads while requests run: none is lost, and what has no weight gets nothing. With a
/// seed that repeats it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u16_targets_that_come_and_go_under_load_lose_no_request() {
    const RELOADS: usize = 60;
    let cast = Cast::start().await;
    let mut random = Random::new(seed());
    let stage = Arc::new(Stage::start(&cast.text("fallback", &[(0, 1)])));
    let (over, served) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let mut clients = JoinSet::new();
    for client in 0..6 {
        let (stage, over, served) = (stage.clone(), over.clone(), served.clone());
        clients.spawn(async move {
            let mut turn = 0;
            while !over.load(Ordering::Relaxed) {
                let id = format!("load-{client}-{turn}");
                let answer = stage.ask(&Ask::post(&id, CHAT, BODY)).await;
                assert!(
                    answer.status() == 200 && answer.whole(),
                    "{id}: {}",
                    answer.text()
                );
                served.fetch_add(1, Ordering::Relaxed);
                turn += 1;
            }
        });
    }
    let strategies = [
        "weighted",
        "round_robin",
        "p2c",
        "least_inflight",
        "least_latency",
        "sticky",
        "fallback",
    ];
    for reload in 0..RELOADS {
        let targets = some(&mut random);
        let strategy = strategies[reload % strategies.len()];
        stage.reload(&cast.text(strategy, &targets));
        // What begins from here on meets no other target.
        for turn in 0..3 {
            let id = format!("after-{reload}-{turn}");
            assert_eq!(stage.ask(&Ask::post(&id, CHAT, BODY)).await.status(), 200);
            let met = cast.attempts(&id);
            let met = met
                .iter()
                .position(|calls| *calls == 1)
                .expect("one was asked");
            let allowed = targets.iter().any(|(at, weight)| *at == met && *weight > 0);
            assert!(allowed, "{strategy} {targets:?}: {met}");
        }
        let wanted = (reload + 1) * 2;
        until("requests beside the reloads", async || {
            (served.load(Ordering::Relaxed) >= wanted).then_some(())
        })
        .await;
    }
    over.store(true, Ordering::Relaxed);
    clients.join_all().await;
    println!(
        "{} requests beside {RELOADS} reloads",
        served.load(Ordering::Relaxed)
    );
    let stage = Arc::into_inner(stage).expect("all clients are done");
    assert_eq!(stage.stop().await, 0, "nothing had to be cut");
}

/// U16: a stream keeps its target though it is gone, and so does the choice of whoever comes later.
#[tokio::test]
async fn u16_a_stream_runs_on_at_a_target_that_is_gone() {
    let cast = Cast::start().await;
    let gate = Gate::new("the target is gone");
    let events = [
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n",
        "data: [DONE]\n\n",
    ];
    let held = Script::events([events[0]])
        .wait(&gate)
        .body(events[1])
        .end();
    cast.upstreams[0].serve("stream", held);
    let stage = Stage::start(&cast.text("fallback", &[(0, 1), (1, 1)]));
    let conn = stage.open(Ask::post("stream", CHAT, STREAM).bytes()).await;
    assert!(
        conn.until(|answer| answer.body == events[0].as_bytes())
            .await
    );
    stage.reload(&cast.text("fallback", &[(1, 1)]));
    assert_eq!(
        stage.ask(&Ask::post("later", CHAT, BODY)).await.status(),
        200
    );
    assert_eq!(cast.attempts("later"), [0, 1, 0, 0]);
    gate.open();
    let answer = conn.response().await;
    assert!(answer.whole());
    assert_eq!(answer.body, events.concat().as_bytes());
    conn.close().await;
    let line = stage.line("stream").await;
    assert_eq!(
        (&line["ended"], &line["generation"]),
        (&"complete".into(), &1.into())
    );
    stage.stop().await;
}

/// U16: where nobody would answer, the file is refused.
#[test]
fn u16_a_route_whose_weights_are_all_zero_is_refused() {
    let text = "providers: { a: { dialect: mock }, b: { dialect: mock } }\n\
        routes: [{ name: r, match: {}, strategy: weighted, targets: [{ provider: a, weight: 0 }, { provider: b, weight: 0 }] }]\n";
    let inputs = Inputs {
        env: &|_| None,
        read: &|path| std::fs::read_to_string(path),
        listen: None,
        admin: None,
    };
    let problems = config::load(text, "test.yaml", &inputs).expect_err("it cannot work");
    let told = problems.to_string();
    assert!(
        told.contains("weight 0") && told.contains("test.yaml:2"),
        "{told}"
    );
}

/// A file with two providers; `first` has these credentials.
fn pair(ports: [u16; 2], first: &str, more: &str) -> String {
    let [one, two] = ports;
    format!(
        "server: {{ workers: 2 }}\nproviders:\n  \
         first: {{ dialect: openai, base_url: \"http://127.0.0.1:{one}/v1\", credentials: [{first}] }}\n  \
         second: {{ dialect: openai, base_url: \"http://127.0.0.1:{two}/v1\", credentials: [] }}\n{more}"
    )
}

/// What is held against a credential outlives a reload; what takes its place under the same name begins anew.
#[tokio::test]
async fn a_parked_credential_stays_parked_over_a_reload() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    first.serve_default(Plan::by(|seen| match seen.header("authorization") {
        Some("Bearer k-spent-00001") => said(429, &[("retry-after", "3000")]),
        _ => fine(),
    }));
    let of = |spent: &str, name: &str| {
        let keys = format!("{{ name: one, key: {spent} }}, {{ name: two, key: k-good-000001 }}");
        let route = format!("routes: [{{ name: {name}, match: {{}}, targets: [first] }}]\n");
        pair([first.port(), second.port()], &keys, &route)
    };
    let stage = Stage::start(&of("k-spent-00001", "r0"));
    let ask = async |id: String| {
        assert_eq!(
            stage.ask(&Ask::post(&id, CHAT, BODY)).await.status(),
            200,
            "{id}"
        );
        let keys = first.seen(&id);
        let keys = keys
            .iter()
            .map(|it| it.header("authorization").unwrap_or_default().to_owned());
        keys.collect::<Vec<_>>()
    };
    // Each worker takes turns of its own.
    let mut met = 0;
    for n in 0..20 {
        met += usize::from(ask(format!("before-{n}")).await.len() > 1);
    }
    assert_eq!(met, 1, "refused once, and left alone from then on");
    for reload in 1..4 {
        stage.reload(&of("k-spent-00001", &format!("r{reload}")));
        for n in 0..8 {
            let keys = ask(format!("after-{reload}-{n}")).await;
            assert_eq!(keys, ["Bearer k-good-000001"], "reload {reload}");
        }
    }
    stage.reload(&of("k-fresh-00001", "r4"));
    let mut fresh = 0;
    for n in 0..8 {
        let keys = ask(format!("fresh-{n}")).await;
        assert_eq!(keys.len(), 1);
        fresh += usize::from(keys[0] == "Bearer k-fresh-00001");
    }
    assert!(fresh >= 2, "another key under the name is another one");
    stage.stop().await;
}

/// A circuit that is open, and a target that asked to be left alone, stay so over a reload, whatever route leads there.
#[tokio::test]
async fn open_circuits_and_parked_targets_stay_so_over_a_reload() {
    for (breaker, fails, state) in [
        (
            "{ consecutive: 1, open_for: 3000s }",
            failing(500),
            Some("2"),
        ),
        ("off", said(503, &[("retry-after", "3000")]), None),
    ] {
        let (first, second) = (Upstream::start().await, Upstream::start().await);
        let of = |name: &str| {
            let more = format!(
                "routes: [{{ name: {name}, match: {{}}, targets: [first, second] }}]\n\
                 layers: {{ breaker: {breaker}, retry: {{ attempts: 2 }} }}\n"
            );
            pair([first.port(), second.port()], "k-first-0001", &more)
        };
        let stage = Stage::start(&of("r0"));
        let asked = async |id: &str| {
            let answer = stage.ask(&Ask::post(id, CHAT, BODY)).await;
            (answer.status(), first.attempts(id), second.attempts(id))
        };
        first.serve_default(fails);
        assert_eq!(asked("fails").await, (200, 1, 1));
        first.serve_default(fine());
        for reload in 1..4 {
            stage.reload(&of(&format!("r{reload}")));
            let id = format!("after-{reload}");
            assert_eq!(asked(&id).await, (200, 0, 1), "{breaker}");
        }
        let page = client::call(stage.admin(), "GET", "/metrics", &[], "").await;
        let told = page.text().lines().find_map(|line| {
            let state =
                line.strip_prefix("tollgate_circuit_state{provider=\"first\",model=\"other\"} ");
            state.map(str::to_owned)
        });
        assert_eq!(
            told.as_deref().filter(|state| *state != "0"),
            state,
            "{breaker}"
        );
        stage.stop().await;
    }
}
