//! Refusals of requests that ran at once: they are one, and leave the target or the credential alone for as long as one does.

use tollgate_testing::{
    client::{self, Message},
    upstream::{Framing, Gate, Plan, Script},
};

use super::{BODY, CHAT, Pair, fine, said};
use crate::{binary::until, harness::Ask};

const AT_ONCE: usize = 10;
const OFF: &str = "layers: { retry: off, breaker: off }\n";

/// A status, the code of its error, and how long the other one asks to be left alone, in seconds: for longer than who is refused once
/// so is, and for less than who is refused twice.
type Refusal = (u16, &'static str, &'static str);

const SPENT: Refusal = (429, "insufficient_quota", "15");
const LIMITED: Refusal = (429, "rate_limit_exceeded", "8");
const REJECTED: Refusal = (401, "invalid_api_key", "15");

/// Goes on with the refusal.
fn refused(script: Script, (status, code, _): Refusal) -> Script {
    let body = format!(r#"{{"error":{{"message":"no","code":"{code}"}}}}"#);
    let headers = [("content-type", "application/json")];
    script
        .head(status, &headers, Framing::Length(None))
        .body(body)
        .end()
}

fn busy((_, _, seconds): Refusal) -> Script {
    said(429, &[("retry-after", seconds)])
}

/// Ten answers at once double nothing: the target returns before the other one, which said when it does. Who is refused when it
/// was left alone already doubles.
///
/// Each answer doubled the time once: ten of them parked a target for an hour.
#[tokio::test]
async fn refusals_that_come_at_once_leave_a_target_alone_as_one_does() {
    for kind in [SPENT, LIMITED] {
        let pair = Pair::start("targets: [first, second]", OFF).await;
        let gate = Gate::new("all of them are there");
        let held = refused(Script::new().wait(&gate), kind);
        pair.answers(held, busy(kind));
        let answers = at_once(&pair, AT_ONCE, &gate).await;
        assert!(answers.iter().all(|it| it.status() == 429));
        pair.first.serve_default(refused(Script::new(), kind));
        for (id, asked) in [
            ("left-alone", (0, 1)),
            ("returns-first", (1, 0)),
            ("doubled", (0, 1)),
        ] {
            assert_eq!(pair.ask(id).await.status(), 429);
            assert_eq!(pair.asked(id), asked, "{kind:?}: {id}");
        }
        pair.stage.stop().await;
    }
}

/// The same of one credential among several.
#[tokio::test]
async fn refusals_that_come_at_once_leave_a_credential_alone_as_one_does() {
    for kind in [SPENT, LIMITED, REJECTED] {
        let keys = "k-refused-001, k-other-0001";
        let pair = Pair::with_keys(keys, "k-second-001", "targets: [first]", OFF).await;
        let plan = |refused: Script, other: Script| {
            Plan::by(move |seen| match seen.header("authorization") {
                Some("Bearer k-refused-001") => refused.clone(),
                _ => other.clone(),
            })
        };
        let gate = Gate::new("all of them are there");
        let held = refused(Script::new().wait(&gate), kind);
        pair.first.serve_default(plan(held, fine()));
        // They take turns.
        let answers = at_once(&pair, 2 * AT_ONCE, &gate).await;
        let refusals = answers.iter().filter(|it| it.status() != 200).count();
        assert_eq!(refusals, AT_ONCE, "{kind:?}");
        let plan = plan(refused(Script::new(), kind), busy(kind));
        pair.first.serve_default(plan);
        for (id, key) in [
            ("left-alone", "Bearer k-other-0001"),
            ("returns-first", "Bearer k-refused-001"),
            ("doubled", "Bearer k-other-0001"),
        ] {
            pair.ask(id).await;
            let sent = pair.first.finished(id, 1).await;
            assert_eq!(sent.header("authorization"), Some(key), "{kind:?}: {id}");
        }
        pair.stage.stop().await;
    }
}

/// What stood in a target's queue while another one was refused is asked behind it: refused as well, it doubles the time.
///
/// It counted as having run at once with the one that it waited for: where a provider had places, nothing was ever doubled.
#[tokio::test]
async fn what_waited_for_a_place_is_asked_behind_the_refusal() {
    let first = "credentials: [k-first-0001], concurrency: { max: 1, queue: 1, wait: 60s }";
    let second = "credentials: [k-second-001]";
    let pair = Pair::of(first, second, "targets: [first, second]", OFF).await;
    let gate = Gate::new("the first one is there");
    let held = refused(Script::new().wait(&gate), LIMITED);
    pair.answers(refused(Script::new(), LIMITED), busy(LIMITED));
    pair.first.serve("holds", held);
    let open = async |id| pair.stage.open(Ask::post(id, CHAT, BODY).bytes()).await;
    let holds = open("holds").await;
    gate.reached(1).await;
    let displaced = open("displaced").await;
    until("it is there", async || {
        let page = client::call(pair.stage.admin(), "GET", "/metrics", &[], "").await;
        let both = r#"tollgate_requests_in_flight{route="both"} 2"#;
        page.text().lines().any(|line| line == both).then_some(())
    })
    .await;
    let waits = open("waits").await;
    // The queue has one place, which the youngest has.
    assert_eq!(displaced.response().await.status(), 503);
    displaced.close().await;
    assert_eq!(pair.asked("waits"), (0, 0));
    gate.open_for_all();
    for conn in [holds, waits] {
        assert_eq!(conn.response().await.status(), 429);
        conn.close().await;
    }
    assert_eq!(pair.asked("waits"), (1, 0));
    // Ten seconds, longer than the other one asks for.
    for id in ["parks-the-other", "returns-first"] {
        pair.ask(id).await;
        assert_eq!(pair.asked(id), (0, 1), "{id}");
    }
    pair.stage.stop().await;
}

/// A limit that a credential was told of holds, whatever comes of what was asked before.
///
/// The head of an older request's answer ended it, and the credential was asked again at once.
#[tokio::test]
async fn a_limit_outlives_the_success_of_what_was_asked_before() {
    let keys = "k-limited-001, k-other-0001";
    let pair = Pair::with_keys(keys, "k-second-001", "targets: [first]", OFF).await;
    let gate = Gate::new("it was asked before");
    let json = [("content-type", "application/json")];
    let held = Script::new()
        .wait(&gate)
        .head(200, &json, Framing::Length(None));
    pair.first.serve("before", held.body("{}").end());
    let limited = said(429, &[("retry-after", "30")]);
    pair.first
        .serve_default(Plan::by(move |seen| match seen.header("authorization") {
            Some("Bearer k-limited-001") => limited.clone(),
            _ => fine(),
        }));
    let ask = Ask::post("before", CHAT, BODY);
    let conn = pair.stage.open(ask.bytes()).await;
    gate.reached(1).await;
    // They take turns.
    for (id, status) in [("other", 200), ("limited", 429)] {
        assert_eq!(pair.ask(id).await.status(), status, "{id}");
    }
    gate.open_for_all();
    assert_eq!(conn.response().await.status(), 200);
    conn.close().await;
    for id in ["a", "b", "c", "d"] {
        assert_eq!(pair.ask(id).await.status(), 200, "{id}");
    }
    pair.stage.stop().await;
}

/// The answers of so many requests; [`AT_ONCE`] of them wait at the gate until all of these do.
async fn at_once(pair: &Pair, count: usize, gate: &Gate) -> Vec<Message> {
    let mut conns = Vec::new();
    for n in 0..count {
        let id = format!("at-once-{n}");
        let ask = Ask::post(&id, CHAT, BODY).bytes();
        conns.push(pair.stage.open(ask).await);
    }
    gate.reached(AT_ONCE).await;
    gate.open_for_all();
    let mut answers = Vec::new();
    for conn in conns {
        answers.push(conn.response().await);
        conn.close().await;
    }
    answers
}
