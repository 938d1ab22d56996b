//! The end of the drain window: what still runs is told so and broken, and the gateway stops.

use std::time::Duration;

use tokio::{task::JoinSet, time::Instant};
use tollgate_testing::upstream::{Framing, Gate};

use super::{APIS, CHAT, Theatre, assert_broken};

/// O10: streams that outlive the window end in an error event, and `stop` returns.
#[tokio::test]
async fn streams_that_outlive_the_drain_window_are_told_and_cut() {
    let theatre = Theatre::open("server: { drain: { timeout: 300ms } }").await;
    let mut running = Vec::new();
    for api in APIS {
        let id = format!("drain-{}", api.name);
        let events = api.events(3);
        let conn = theatre
            .begin(&api, &id, api.stream(Framing::Chunked, &events).stall())
            .await;
        let sent = events.concat();
        assert!(conn.until(|answer| answer.body.len() == sent.len()).await);
        running.push((api, id, sent, conn));
    }
    let Theatre { stage, upstream } = theatre;
    let log = stage.log();
    let began = Instant::now();
    assert_eq!(stage.stop().await, running.len());
    let took = began.elapsed();
    assert!(
        (Duration::from_millis(250)..Duration::from_secs(5)).contains(&took),
        "{took:?}"
    );
    for (api, id, sent, conn) in running {
        assert_broken(&id, &api, &conn.response().await, sent.as_bytes());
        let line = log.first(&id);
        assert_eq!(line["ended"], "drain", "{line}");
        assert_eq!(line["error"], "draining", "{line}");
        assert!(upstream.finished(&id, 1).await.peer_closed.is_some());
    }
}

/// O09: a stream that ends within the window ends as if nothing had happened.
#[tokio::test]
async fn a_stream_that_ends_within_the_window_is_whole() {
    let theatre = Theatre::open("server: { drain: { timeout: 30s } }").await;
    let gate = Gate::new("drain has begun");
    let mut events = CHAT.events(2);
    let script = CHAT
        .stream(Framing::Chunked, &events)
        .wait(&gate)
        .body("data: [DONE]\n\n")
        .end();
    let conn = theatre.begin(&CHAT, "in-time", script).await;
    let sent = events.concat();
    assert!(conn.until(|answer| answer.body.len() == sent.len()).await);
    let Theatre { stage, upstream } = theatre;
    let (log, addr) = (stage.log(), stage.addr());
    let mut stopping = JoinSet::new();
    stopping.spawn(stage.stop());
    // The listeners close first: once nobody can connect, the drain has begun.
    while tokio::net::TcpStream::connect(addr).await.is_ok() {
        tokio::task::yield_now().await;
    }
    gate.open();
    let answer = conn.response().await;
    events.push("data: [DONE]\n\n".to_owned());
    assert_eq!((answer.text(), answer.whole()), (events.concat(), true));
    assert_eq!(stopping.join_all().await, [0]);
    assert_eq!(log.first("in-time")["ended"], "complete");
    assert_eq!(upstream.attempts("in-time"), 1);
}
