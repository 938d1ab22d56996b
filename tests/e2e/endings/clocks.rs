//! Clocks that run out, before the first byte and after it, in each dialect.

use std::{sync::Arc, time::Duration};

use tollgate_testing::upstream::{Framing, Script};

use super::{APIS, Api, Theatre, assert_broken};
use crate::harness::each;

/// The head of a stream, its events, and then drops of what is no output, for as long as somebody listens.
fn dripping(api: &Api, events: &[String]) -> Script {
    let drop = match api.name {
        "ollama" => "\n",
        "gemini" => ": drip\r\n\r\n",
        _ => ": drip\n\n",
    };
    let script = api.stream(Framing::Chunked, events);
    let drips = (0..200).fold(script, |script, _| {
        script.sleep(Duration::from_millis(50)).body(drop)
    });
    drips.stall()
}

/// An answer whose head came is broken with an error event, however alive it looks; the log says whose clock it was.
async fn ends_by(limits: &str, count: usize) {
    let theatre = Theatre::open(&format!("layers: {{ timeout: {{ {limits} }} }}")).await;
    for api in APIS {
        ends(&theatre, api, count).await;
    }
    theatre.stage.stop().await;
}

/// The same, on one surface.
async fn ends(theatre: &Theatre, api: Api, count: usize) {
    let id = format!("{}-{count}", api.name);
    let events = api.events(count);
    let answer = theatre.play(&api, &id, dripping(&api, &events)).await;
    let sent = events.concat();
    // Some drips, then the event.
    let drips = answer.text().match_indices("drip").count();
    let sent = match api.name {
        "ollama" => {
            let rest = &answer.body[sent.len()..];
            let blank = rest.iter().take_while(|byte| **byte == b'\n').count();
            sent + &"\n".repeat(blank)
        }
        "gemini" => sent + &": drip\r\n\r\n".repeat(drips),
        _ => sent + &": drip\n\n".repeat(drips),
    };
    assert_broken(&id, &api, &answer, sent.as_bytes());
    let line = theatre.told(&id, "timeout").await;
    assert_eq!(line["error"], "upstream_timeout", "{line}");
    assert_eq!(line["attempts"][0]["error"], "timeout", "{line}");
    let closed = theatre.upstream.finished(&id, 1).await.peer_closed;
    assert!(closed.is_some(), "{id}");
}

/// Too little in thirty seconds: a stream is cut though no silence was long. The span is no setting, so this takes as long; all
/// surfaces at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_brings_too_little_is_cut_when_its_span_is_over() {
    let clocks = "layers: { timeout: { min_rate: 1KiB/s, idle: 300s } }";
    let theatre = Arc::new(Theatre::open(clocks).await);
    let began = tokio::time::Instant::now();
    let runs = APIS.map(|api| {
        let theatre = theatre.clone();
        async move { ends(&theatre, api, 2).await }
    });
    each(APIS.len(), runs).await;
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(30), "{took:?}");
    let theatre = Arc::into_inner(theatre).expect("all runs are over");
    theatre.stage.stop().await;
}

#[tokio::test]
async fn a_stream_without_output_in_time_is_cut_however_alive_it_looks() {
    ends_by("first_token: 300ms, idle: 10s", 0).await;
}

/// S21, over sockets.
#[tokio::test]
async fn a_stream_that_is_not_over_in_time_is_cut_however_alive_it_looks() {
    ends_by("total: 400ms, idle: 10s", 2).await;
}

/// Before the head each clock is a 504 of the dialect.
#[tokio::test]
async fn a_head_that_does_not_come_in_time_is_a_504() {
    let clocks = [
        "first_byte: 200ms",
        "first_token: 200ms",
        "total: 200ms",
        "first_byte: 10s, total: 200ms",
    ];
    for (n, limits) in clocks.into_iter().enumerate() {
        let theatre = Theatre::open(&format!("layers: {{ timeout: {{ {limits} }} }}")).await;
        for api in APIS {
            let id = format!("{}-{n}", api.name);
            let answer = theatre.play(&api, &id, Script::new().stall()).await;
            assert_eq!(answer.status(), 504, "{limits}: {}", answer.text());
            assert!(answer.whole(), "{id}");
            let by = answer.header("tollgate-refused-by");
            assert_eq!(by, Some("upstream"), "{id}");
            theatre.told(&id, "timeout").await;
        }
        theatre.stage.stop().await;
    }
}
