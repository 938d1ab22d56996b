//! Refusals of requests that ran at once: they are one, and leave the target or the credential alone for as long as one does.

use tollgate_testing::{
    client::Message,
    upstream::{Framing, Gate, Plan, Script},
};

use super::{BODY, CHAT, Pair, fine, said};
use crate::harness::Ask;

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
