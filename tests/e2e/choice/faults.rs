//! The fault run: faults of many kinds in every state of a stream, at two providers behind one route, with a seed that repeats them.
//!
//! 2,000 faults; `TOLLGATE_LONG=1` takes 100,000. The laws are those of a ledger: what the client has is what one attempt sent,
//! from its first byte on, and whole if it ended well; nothing is tried again once a byte of a body has come; what is charged for a
//! whole answer is what the provider said; and when all is over nothing is left: no request, permit, place, task or socket.

mod left;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use serde_json::Value;
use tollgate_testing::{
    client::{Conn, Message},
    long,
    splits::{Random, Split},
    upstream::{Exchange, Framing, Plan, Script, Upstream},
};

use super::{CHAT, failing};
use crate::harness::{Ask, Stage, each, random_split, seed};

/// Runs at a time.
const AT_ONCE: usize = 16;
/// Exactly as many places at each provider; what is idle there goes soon.
const PLACES: &str = "concurrency: { max: 16, queue: 0, wait: 1s }, pool: { idle: 1s }";

/// What goes wrong with the first call of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    // Before the head: an answer that may be tried again.
    Status408,
    Status429,
    Status429Soon,
    Status500,
    Status502,
    Status503,
    Status504,
    Status529,
    Status500Cut,
    // Before the head: no answer, and the request may have been served.
    FinWithoutAByte,
    ResetWithoutAByte,
    FinInTheHead,
    GarbageForAHead,
    InterimThenFin,
    // An answer that is none of these.
    Status400,
    Status404,
    // Behind the head.
    FinBehindTheHead,
    ResetBehindTheHead,
    FinBetweenEvents,
    ResetBetweenEvents,
    FinInAnEvent,
    ResetInAnEvent,
    FinBeforeUsage,
    ErrorEvent,
    ErrorEventThenReset,
    BadChunk,
    // The client's.
    ClientGoesBeforeTheHead,
    ClientGoesInTheStream,
    // Nothing.
    Healthy,
    HealthyInterim,
    HealthyInPieces,
}

use Kind::*;

const KINDS: [Kind; 31] = [
    Status408,
    Status429,
    Status429Soon,
    Status500,
    Status502,
    Status503,
    Status504,
    Status529,
    Status500Cut,
    FinWithoutAByte,
    ResetWithoutAByte,
    FinInTheHead,
    GarbageForAHead,
    InterimThenFin,
    Status400,
    Status404,
    FinBehindTheHead,
    ResetBehindTheHead,
    FinBetweenEvents,
    ResetBetweenEvents,
    FinInAnEvent,
    ResetInAnEvent,
    FinBeforeUsage,
    ErrorEvent,
    ErrorEventThenReset,
    BadChunk,
    ClientGoesBeforeTheHead,
    ClientGoesInTheStream,
    Healthy,
    HealthyInterim,
    HealthyInPieces,
];

impl Kind {
    /// The status of an answer that may be tried again.
    fn retryable(self) -> Option<u16> {
        Some(match self {
            Status408 => 408,
            Status429 | Status429Soon => 429,
            Status500 | Status500Cut => 500,
            Status502 => 502,
            Status503 => 503,
            Status504 => 504,
            Status529 => 529,
            _ => return None,
        })
    }

    fn is_fault(self) -> bool {
        !matches!(self, Healthy | HealthyInterim | HealthyInPieces)
    }
}

/// A stream: its events, whose places are known.
#[derive(Clone)]
struct Stream {
    text: String,
    /// Where events end.
    ends: Vec<usize>,
    /// Where the usage report begins.
    usage: usize,
    tokens: (u64, u64),
}

impl Stream {
    fn any(random: &mut Random) -> Self {
        let (mut text, mut ends) = (String::new(), Vec::new());
        let count = 2 + random.below(10);
        for n in 0..count {
            text += &format!(
                "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"word {n} \"}},\"finish_reason\":null}}]}}\n\n"
            );
            ends.push(text.len());
        }
        let usage = text.len();
        let tokens = (1 + random.below(1000) as u64, count as u64);
        text += &format!(
            "data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":{},\"completion_tokens\":{}}}}}\n\ndata: [DONE]\n\n",
            tokens.0, tokens.1
        );
        Self {
            text,
            ends,
            usage,
            tokens,
        }
    }

    fn events() -> Script {
        Script::new().head(
            200,
            &[("content-type", "text/event-stream")],
            Framing::Chunked,
        )
    }

    fn whole(&self, split: Split) -> Script {
        Self::events().body_in(self.text.clone(), split).end()
    }

    /// Up to this byte.
    fn begun(&self, end: usize) -> Script {
        match end {
            0 => Self::events(),
            end => Self::events().body(self.text[..end].to_owned()),
        }
    }
}

/// One request: what goes wrong, and what would be sent.
#[derive(Clone)]
struct Run {
    kind: Kind,
    stream: Stream,
    split: Split,
    event: usize,
    inside: usize,
}

const ERROR: &str =
    "data: {\"error\":{\"message\":\"the provider's own\",\"type\":\"server_error\"}}\n\n";

impl Run {
    fn any(random: &mut Random, kind: Kind) -> Self {
        let stream = Stream::any(random);
        let split = random_split(random, stream.text.len());
        let event = random.below(stream.ends.len());
        let inside = 1 + random.below(20);
        Self {
            kind,
            stream,
            split,
            event,
            inside,
        }
    }

    /// What the first call is answered with.
    fn first(&self) -> Script {
        let end = self.stream.ends[self.event];
        let inside = end - self.inside;
        match self.kind {
            Status429Soon => {
                let headers = [
                    ("content-type", "application/json"),
                    ("retry-after-ms", "20"),
                ];
                let script = Script::new().head(429, &headers, Framing::Length(None));
                script.body("{}").end()
            }
            Status500Cut => Script::new()
                .head(500, &[], Framing::Length(Some(900)))
                .body("<html>")
                .fin(),
            kind if kind.retryable().is_some() => failing(kind.retryable().unwrap_or_default()),
            Status400 => failing(400),
            Status404 => failing(404),
            FinWithoutAByte => Script::new().fin(),
            ResetWithoutAByte => Script::new().rst(),
            FinInTheHead => Script::new().raw("HTTP/1.1 200 OK\r\ncontent-ty").fin(),
            GarbageForAHead => Script::new().raw("SSH-2.0-OpenSSH_9.2\r\n\r\n").fin(),
            InterimThenFin => Script::new().raw("HTTP/1.1 103 Early Hints\r\n\r\n").fin(),
            FinBehindTheHead => Stream::events().fin(),
            ResetBehindTheHead => Stream::events().rst(),
            FinBetweenEvents => self.stream.begun(end).fin(),
            ResetBetweenEvents => self.stream.begun(end).rst(),
            FinInAnEvent => self.stream.begun(inside).fin(),
            ResetInAnEvent => self.stream.begun(inside).rst(),
            FinBeforeUsage => self.stream.begun(self.stream.usage).fin(),
            ErrorEvent => self.stream.begun(end).body(ERROR).end(),
            ErrorEventThenReset => self.stream.begun(end).body(ERROR).rst(),
            BadChunk => self.stream.begun(end).raw("no chunk\r\n").fin(),
            ClientGoesBeforeTheHead => Script::new().stall(),
            ClientGoesInTheStream => self.stream.begun(end).stall(),
            HealthyInterim => {
                let script = Script::new().raw("HTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n");
                script
                    .head(
                        200,
                        &[("content-type", "text/event-stream")],
                        Framing::Chunked,
                    )
                    .body(self.stream.text.clone())
                    .end()
            }
            _ => self.stream.whole(self.split.clone()),
        }
    }

    /// What every further call is answered with.
    fn again(&self) -> Script {
        self.stream.whole(self.split.clone())
    }
}

/// Two providers that share what they are to do.
struct Theatre {
    stage: Stage,
    upstreams: [Upstream; 2],
    runs: Arc<Mutex<HashMap<String, (Run, usize)>>>,
}

impl Theatre {
    async fn open() -> Arc<Self> {
        let upstreams = [Upstream::start().await, Upstream::start().await];
        let runs: Arc<Mutex<HashMap<String, (Run, usize)>>> = Arc::default();
        for upstream in &upstreams {
            let runs = runs.clone();
            upstream.serve_default(Plan::by(move |seen: &Exchange| {
                let mut runs = runs.lock().expect("nothing panics under it");
                let Some((run, calls)) = runs.get_mut(&seen.id) else {
                    return Script::new();
                };
                *calls += 1;
                if *calls == 1 {
                    run.first()
                } else {
                    run.again()
                }
            }));
        }
        let [one, two] = [&upstreams[0], &upstreams[1]].map(Upstream::port);
        let stage = Stage::start(&format!(
            "server: {{ workers: 2 }}\nproviders:\n  \
             one: {{ dialect: openai, base_url: \"http://127.0.0.1:{one}/v1\", credentials: [], {PLACES} }}\n  \
             two: {{ dialect: openai, base_url: \"http://127.0.0.1:{two}/v1\", credentials: [], {PLACES} }}\n\
             routes:\n  - {{ name: both, match: {{}}, strategy: p2c, targets: [one, two] }}\n\
             layers: {{ breaker: off }}\n"
        ));
        Arc::new(Self {
            stage,
            upstreams,
            runs,
        })
    }

    fn calls(&self, id: &str) -> usize {
        self.runs.lock().expect("nothing panics under it")[id].1
    }

    /// One request, to its end; whether it went on to a second call.
    async fn play(&self, id: String, run: Run) -> (bool, (u64, u64)) {
        self.runs
            .lock()
            .expect("nothing panics under it")
            .insert(id.clone(), (run.clone(), 0));
        let body = br#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
        let ask = Ask::post(&id, CHAT, body);
        let conn = self.stage.open(ask.bytes()).await;
        if matches!(run.kind, ClientGoesBeforeTheHead | ClientGoesInTheStream) {
            self.leave(&id, &run, conn).await;
            return (false, (0, 0));
        }
        let answer = conn.response().await;
        conn.close().await;
        let line = self.stage.line(&id).await;
        let calls = self.calls(&id);
        let what = format!(
            "{id}: {:?}, event {}, {} calls: {line}",
            run.kind, run.event, calls
        );
        assert_eq!(
            line["attempts"].as_array().map(Vec::len),
            Some(calls),
            "{what}"
        );
        self.judge(&run, calls, &answer, &line, &what);
        let whole = answer.status() == 200 && line["ended"] == "complete";
        let told = |field: &str| line["usage"][field].as_u64().unwrap_or(0);
        let charged = (told("prompt"), told("completion"));
        if whole {
            assert_eq!(charged, run.stream.tokens, "{what}");
            assert_eq!(line["charged"]["source"], "provider", "{what}");
        }
        (calls > 1, if whole { charged } else { (0, 0) })
    }

    /// What the client has is what one attempt sent, and looks whole only if it is.
    fn judge(&self, run: &Run, calls: usize, answer: &Message, line: &Value, what: &str) {
        let (status, body) = (answer.status(), answer.body.as_slice());
        let stream = run.stream.text.as_bytes();
        let whole = |what: &str| {
            assert!(status == 200 && answer.whole() && body == stream, "{what}");
            assert_eq!(line["ended"], "complete", "{what}");
        };
        if calls > 1 {
            assert!(run.kind.retryable().is_some(), "tried again: {what}");
            return whole(what);
        }
        match run.kind {
            kind if kind.retryable().is_some() => {
                assert_eq!(Some(status), kind.retryable(), "{what}");
            }
            Status400 => assert_eq!(status, 400, "{what}"),
            Status404 => assert_eq!(status, 404, "{what}"),
            FinWithoutAByte | ResetWithoutAByte | FinInTheHead | GarbageForAHead
            | InterimThenFin => {
                assert_eq!(status, 502, "{what}");
                assert_eq!(line["ended"], "upstream_error", "{what}");
            }
            Healthy | HealthyInterim | HealthyInPieces => whole(what),
            _ => {
                assert!(
                    !answer.whole() || run.kind == ErrorEvent,
                    "a cut that looks whole: {what}"
                );
                if status == 502 {
                    // The reset has overtaken the head.
                    assert!(
                        matches!(
                            run.kind,
                            ResetBehindTheHead
                                | ResetBetweenEvents
                                | ResetInAnEvent
                                | ErrorEventThenReset
                        ),
                        "{what}"
                    );
                    return;
                }
                assert_eq!(status, 200, "{what}");
                let same = body.iter().zip(stream).take_while(|(a, b)| a == b).count();
                let behind = &body[same..];
                let tail = String::from_utf8_lossy(behind);
                // At most one event stands behind it, which tells of the error.
                let at = run
                    .stream
                    .ends
                    .iter()
                    .rev()
                    .find(|end| **end <= same)
                    .copied()
                    .unwrap_or(0);
                let told = String::from_utf8_lossy(&body[at..]);
                assert!(
                    behind.is_empty()
                        || told.starts_with("data: {\"error\"")
                            && told.matches("\n\n").count() == 1,
                    "{what}: {tail}"
                );
                assert!(
                    matches!(
                        line["ended"].as_str(),
                        Some("upstream_truncated" | "upstream_error")
                    ),
                    "{what}"
                );
            }
        }
    }

    async fn leave(&self, id: &str, run: &Run, conn: Conn) {
        let end = run.stream.ends[run.event];
        if run.kind == ClientGoesInTheStream {
            assert!(conn.until(|answer| answer.body.len() == end).await, "{id}");
        } else {
            let [one, two] = &self.upstreams;
            tokio::select! {
                _ = one.wait_for(|seen| seen.attempts(id) == 1) => {}
                _ = two.wait_for(|seen| seen.attempts(id) == 1) => {}
            }
        }
        conn.reset().await;
        let line = self.stage.line(id).await;
        assert_eq!(
            (line["ended"].as_str(), self.calls(id)),
            (Some("client_gone"), 1),
            "{id}: {line}"
        );
    }
}

/// S24, S27, U04: see the head of this file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s24_no_fault_loses_doubles_or_reorders_a_byte_or_is_tried_again_behind_the_first() {
    let mut random = Random::new(seed());
    let (rounds, faults) = if long() { (50, 2000) } else { (1, 2000) };
    for _ in 0..rounds {
        round(&mut random, faults).await;
    }
}

async fn round(random: &mut Random, faults: usize) {
    let theatre = Theatre::open().await;
    let tasks = theatre.figure("tollgate_tasks").await;
    let mut runs = Vec::new();
    let mut injected = 0;
    while injected < faults {
        let kind = KINDS[runs.len() % KINDS.len()];
        injected += usize::from(kind.is_fault());
        runs.push(Run::any(random, kind));
    }
    let count = runs.len();
    let went_on = Arc::new(Mutex::new((0, (0, 0))));
    let told = runs.into_iter().enumerate().map(|(n, run)| {
        let (theatre, went_on) = (theatre.clone(), went_on.clone());
        async move {
            let (again, charged) = theatre.play(format!("run-{n}"), run).await;
            let mut sum = went_on.lock().expect("nothing panics under it");
            sum.0 += usize::from(again);
            sum.1.0 += charged.0;
            sum.1.1 += charged.1;
        }
    });
    each(AT_ONCE, told).await;
    let (again, charged) = *went_on.lock().expect("nothing panics under it");
    println!(
        "{injected} faults in {count} requests, {again} of them made once more, {charged:?} tokens"
    );
    assert!(again > 0, "none was tried again");
    let theatre = Arc::into_inner(theatre).expect("all runs are over");
    theatre.is_idle(tasks).await;
    theatre.every_place_is_free().await;
    theatre.is_idle(tasks).await;
    // Every worker ended well, every request has one line, and nothing had to be cut.
    assert_eq!(theatre.stage.stop().await, 0);
    for upstream in &theatre.upstreams {
        let seen = upstream.wait_for(|seen| {
            seen.exchanges
                .iter()
                .all(|it| it.done || it.peer_closed.is_some())
        });
        seen.await;
    }
}
