//! Many runs with seeded chance: exact bytes however they are cut, and no fault that looks like an end.
//!
//! `TOLLGATE_LONG=1` runs the numbers of the matrix: 1,000 seeds, every place, 100,000 faults. They go in rounds, each with a
//! gateway and an upstream of its own, since these remember all that they have seen.

use std::{sync::Arc, time::Duration};

use tollgate_testing::{
    long,
    recordings::{Recording, all},
    splits::{Random, Split},
    upstream::{Framing, Gate, Script},
};

use super::{APIS, Api, CHAT, FRAMINGS, Theatre};
use crate::harness::{each, random_split, seed};

/// Runs at a time.
const AT_ONCE: usize = 8;

/// S01: pieces of 1 byte to 64 KiB.
#[tokio::test]
async fn a_stream_is_exact_however_the_provider_writes_it() {
    let mut random = Random::new(seed());
    for _ in 0..if long() { 10 } else { 1 } {
        a_hundred_streams(&mut random).await;
    }
}

async fn a_hundred_streams(random: &mut Random) {
    let theatre = Theatre::shared().await;
    let runs = (0..100).map(|n| {
        let api = APIS[n % APIS.len()];
        let (size, end) = (1 + random.below(100_000), random.below(2));
        let mut sent = String::new();
        while sent.len() < size {
            sent += &(api.event)(&"token ".repeat(1 + sent.len() % 700));
        }
        sent += last(&api);
        let split = random_split(random, sent.len());
        let (theatre, id) = (Arc::clone(&theatre), format!("exact-{n}"));
        async move {
            let framing = [Framing::Chunked, Framing::Close][end];
            let script = Script::new().head(200, &[("content-type", api.kind)], framing);
            let script = script.body_in(sent.clone(), split.clone()).end();
            let answer = theatre.play(&api, &id, script).await;
            assert!(
                answer.text() == sent,
                "{id}: {split:?}: {} bytes of {}",
                answer.body.len(),
                sent.len()
            );
            assert!(answer.whole(), "{id}");
            let line = theatre.told(&id, "complete").await;
            assert_eq!(line["digest"]["upstream"], line["digest"]["client"]);
        }
    });
    each(AT_ONCE, runs).await;
    theatre.close().await;
}

/// What makes a stream of this surface complete.
fn last(api: &Api) -> &'static str {
    match api.name {
        "anthropic" => "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        "responses" => {
            "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\"}}\n\n"
        }
        "gemini" => "data: {\"candidates\":[{\"finishReason\":\"STOP\",\"index\":0}]}\r\n\r\n",
        "ollama" => "{\"model\":\"m\",\"done\":true,\"done_reason\":\"stop\"}\n",
        _ => "data: [DONE]\n\n",
    }
}

/// S02: recorded streams in two pieces; the places are sampled, each run takes others.
#[tokio::test]
async fn a_recorded_stream_is_exact_wherever_it_is_cut_in_two() {
    let small: Vec<_> = all()
        .iter()
        .filter(|it| {
            it.shape == "openai.chat"
                && it.format == "sse"
                && !it.unmarked
                && it.ended() == ["complete"]
        })
        .filter(|it| it.body.len() < 8000)
        .collect();
    assert!(small.len() >= 2, "only {} small streams", small.len());
    let places: Vec<_> = if long() {
        let each = |it: &&'static Recording| {
            let recording = *it;
            (1..recording.body.len()).map(move |at| (recording, at))
        };
        small.iter().flat_map(each).collect()
    } else {
        let mut random = Random::new(seed());
        let any = |n: usize| {
            let recording = small[n % small.len()];
            (recording, 1 + random.below(recording.body.len() - 1))
        };
        (0..150).map(any).collect()
    };
    for round in places.chunks(2000) {
        cut_in_two(round).await;
    }
}

/// Replays each of these recordings in two pieces, the second of which begins at its place.
async fn cut_in_two(places: &[(&'static Recording, usize)]) {
    let theatre = Theatre::shared().await;
    let runs = places.iter().enumerate().map(|(n, &(recording, at))| {
        let (theatre, id) = (Arc::clone(&theatre), format!("two-{n}"));
        async move {
            let (first, second) = recording.body.split_at(at);
            let script = Script::new().head(
                200,
                &[("content-type", "text/event-stream")],
                Framing::Chunked,
            );
            // The pause lets the gateway see the first piece alone.
            let script = script
                .body(first)
                .sleep(Duration::from_millis(5))
                .body(second)
                .end();
            let answer = theatre.play(&CHAT, &id, script).await;
            assert!(
                answer.body == recording.body && answer.whole(),
                "{} cut at {at}",
                recording.name
            );
            theatre.told(&id, "complete").await;
        }
    });
    each(AT_ONCE, runs).await;
    theatre.close().await;
}

/// One run of S24.
struct Fault {
    api: Api,
    framing: Framing,
    /// Bytes of the stream that are sent, at least one.
    cut: usize,
    reset: bool,
    /// Whether the client has all that was sent before the fault.
    pause: bool,
    split: Split,
}

impl Fault {
    fn any(random: &mut Random, length: impl Fn(&Api) -> usize) -> Self {
        let api = APIS[random.below(APIS.len())];
        Self {
            api,
            framing: FRAMINGS[random.below(FRAMINGS.len())],
            cut: 1 + random.below(length(&api)),
            reset: random.below(2) == 0,
            pause: random.below(2) == 0,
            split: Split::Random(random.bits()),
        }
    }

    /// Held at the gate, if it is to be, when all has been sent.
    fn script(&self, sent: &str, gate: &Gate) -> Script {
        let script = Script::new().head(200, &[("content-type", self.api.kind)], self.framing);
        let mut script = script.body_in(sent.as_bytes()[..self.cut].to_vec(), self.split.clone());
        if self.pause {
            script = script.wait(gate);
        }
        if self.reset {
            script.rst()
        } else {
            script.fin()
        }
    }
}

/// S24: any fault after the first byte.
#[tokio::test]
async fn no_fault_after_the_first_byte_looks_like_an_end_or_is_tried_again() {
    let mut random = Random::new(seed());
    let (rounds, runs) = if long() { (50, 2000) } else { (1, 320) };
    for _ in 0..rounds {
        faults(&mut random, runs).await;
    }
}

async fn faults(random: &mut Random, runs: usize) {
    let theatre = Theatre::shared().await;
    let runs = (0..runs).map(|n| {
        let fault = Fault::any(random, |api| api.events(12).concat().len());
        let (theatre, id) = (Arc::clone(&theatre), format!("fault-{n}"));
        async move {
            let stream = fault.api.events(12).concat();
            let what = format!(
                "{id}: {} {:?} cut at {}, reset {}, pause {}, {:?}",
                fault.api.name, fault.framing, fault.cut, fault.reset, fault.pause, fault.split
            );
            let gate = Gate::new(&id);
            let conn = theatre
                .begin(&fault.api, &id, fault.script(&stream, &gate))
                .await;
            if fault.pause {
                assert!(
                    conn.until(|answer| answer.body.len() == fault.cut).await,
                    "{what}"
                );
                gate.open();
            }
            let answer = conn.response().await;
            conn.close().await;
            let line = theatre.stage.line(&id).await;
            assert_eq!(
                line["attempts"].as_array().map(Vec::len),
                Some(1),
                "{what}: {line}"
            );
            assert_eq!(theatre.upstream.attempts(&id), 1, "{what}");
            assert!(!answer.whole(), "{what}: {:?}", answer.ended);
            if answer.status() == 502 && fault.reset && !fault.pause {
                // The reset has overtaken the head.
                assert_eq!(line["ended"], "upstream_error", "{what}: {line}");
                return;
            }
            assert_eq!(line["ended"], "upstream_truncated", "{what}: {line}");
            assert_eq!(answer.status(), 200, "{what}");
            let sent = &stream.as_bytes()[..fault.cut];
            let same = answer
                .body
                .iter()
                .zip(sent)
                .take_while(|(a, b)| a == b)
                .count();
            let told = same < answer.body.len();
            assert!(
                !told || told_behind(&fault.api, &answer.body, sent),
                "{what}: {:?}",
                answer.text()
            );
            if !fault.reset || fault.pause {
                assert!(same == sent.len(), "{what}: {same} of {} bytes", sent.len());
            }
        }
    });
    each(AT_ONCE, runs).await;
    theatre.close().await;
}

/// Whether what stands behind some whole events of these is an error event.
fn told_behind(api: &Api, body: &[u8], sent: &[u8]) -> bool {
    (0..=body.len().min(sent.len()))
        .any(|at| body[..at] == sent[..at] && api.is_error_event(&body[at..]))
}

/// S06: the last good event and the error event arrive before the break, each time.
#[tokio::test]
async fn the_last_event_arrives_before_the_break_every_time() {
    let theatre = Theatre::shared().await;
    let mut random = Random::new(seed());
    let runs = (0..200).map(|n| {
        let api = APIS[n % APIS.len()];
        let (count, framing) = (1 + random.below(20), FRAMINGS[random.below(FRAMINGS.len())]);
        let split = Split::Random(random.bits());
        let (theatre, id) = (Arc::clone(&theatre), format!("flush-{n}"));
        async move {
            let sent = api.events(count).concat();
            let script = Script::new().head(200, &[("content-type", api.kind)], framing);
            let script = script.body_in(sent.clone(), split).fin();
            let answer = theatre.play(&api, &id, script).await;
            super::assert_broken(&id, &api, &answer, sent.as_bytes());
            theatre.told(&id, "upstream_truncated").await;
        }
    });
    each(AT_ONCE, runs).await;
    theatre.close().await;
}
