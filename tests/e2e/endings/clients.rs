//! Clients that leave: while a stream runs, before it begins, while they upload.

use std::time::Duration;

use tollgate_testing::upstream::{Framing, Reads, Script};

use super::{CHAT, Theatre};
use crate::harness::{Ask, cancelled, leave};

/// S03: the client leaves by FIN or RST after 0, 1, … events.
#[tokio::test]
async fn a_client_that_leaves_cancels_the_provider_at_once() {
    let theatre = Theatre::open("").await;
    let mut slowest = Duration::ZERO;
    for reset in [false, true] {
        for count in 0..8 {
            let id = format!("leave-{reset}-{count}");
            let events = CHAT.events(count);
            let sent = events.concat();
            let conn = theatre
                .begin(&CHAT, &id, CHAT.stream(Framing::Chunked, &events).stall())
                .await;
            assert!(
                conn.until(|answer| answer.status() == 200 && answer.body.len() == sent.len())
                    .await
            );
            let left = leave(conn, reset).await;
            let took = cancelled(&theatre.upstream, &id, left).await;
            slowest = slowest.max(took);
            let line = theatre.told(&id, "client_gone").await;
            assert_eq!(line["status"], 200, "{line}");
            assert_eq!(line["bytes_out"], sent.len(), "{line}");
        }
    }
    println!("slowest cancellation: {slowest:?}");
    theatre.stage.stop().await;
}

/// S03 before the head: nothing has come back yet.
#[tokio::test]
async fn a_client_that_leaves_before_the_head_cancels_the_provider_at_once() {
    let theatre = Theatre::open("").await;
    for reset in [false, true] {
        let id = format!("early-{reset}");
        let conn = theatre.begin(&CHAT, &id, Script::new().stall()).await;
        theatre
            .upstream
            .wait_for(|seen| seen.attempts(&id) == 1)
            .await;
        let left = leave(conn, reset).await;
        cancelled(&theatre.upstream, &id, left).await;
        let line = theatre.told(&id, "client_gone").await;
        assert!(line["status"].is_null(), "{line}");
    }
    theatre.stage.stop().await;
}

/// A JSON body that breaks off is never sent on.
#[tokio::test]
async fn an_upload_that_breaks_off_while_it_is_read_reaches_nobody() {
    let theatre = Theatre::open("").await;
    for reset in [false, true] {
        let id = format!("upload-{reset}");
        let conn = theatre.stage.open(CHAT.ask(&id).head(500)).await;
        conn.send(r#"{"model":"m","messages":["#)
            .await
            .expect("the gateway reads");
        leave(conn, reset).await;
        let line = theatre.stage.line(&id).await;
        assert_eq!(line["ended"], "client_gone", "{line}");
        assert_eq!(line["attempts"], serde_json::json!([]), "{line}");
        assert_eq!(theatre.upstream.attempts(&id), 0);
    }
    theatre.stage.stop().await;
}

/// A body that is relayed while it comes, and breaks off: the provider never takes it for whole.
#[tokio::test]
async fn an_upload_that_breaks_off_while_it_is_relayed_is_cancelled() {
    let theatre = Theatre::open("").await;
    for reset in [false, true] {
        let id = format!("stream-up-{reset}");
        theatre
            .upstream
            .serve(&id, Script::new().stall().reads(Reads::Beside));
        let part = "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nm\r\n\
                    --b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n";
        let ask = Ask {
            path: "/v1/audio/transcriptions",
            headers: &[("content-type", "multipart/form-data; boundary=b")],
            ..CHAT.ask(&id)
        };
        let conn = theatre.stage.open(ask.head(100_000)).await;
        conn.send(format!("{part}RIFF"))
            .await
            .expect("the gateway reads");
        let came = |seen: &tollgate_testing::upstream::Seen| {
            seen.of(&id).any(|it| it.body.ends_with(b"RIFF"))
        };
        theatre.upstream.wait_for(came).await;
        let left = leave(conn, reset).await;
        cancelled(&theatre.upstream, &id, left).await;
        let seen = theatre.upstream.seen(&id).remove(0);
        let cut = matches!(
            seen.request_ended,
            Some(tollgate_testing::client::Ended::Cut | tollgate_testing::client::Ended::Reset)
        );
        assert!(cut, "{id}: {:?}", seen.request_ended);
        theatre.told(&id, "client_gone").await;
    }
    theatre.stage.stop().await;
}
