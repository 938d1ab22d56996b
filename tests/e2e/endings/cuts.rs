//! Streams that the provider ends too early, in every framing and dialect.

use tollgate_testing::{
    client::Ended,
    upstream::{Framing, Gate, Script},
};

use super::{ANTHROPIC, APIS, CHAT, FRAMINGS, Theatre, assert_broken};

/// S06: FIN between events, in each framing and dialect.
#[tokio::test]
async fn a_fin_between_events_is_told_in_the_dialect_and_breaks_the_transport() {
    let theatre = Theatre::open("").await;
    for api in APIS {
        for framing in FRAMINGS {
            let id = format!("fin-{}-{framing:?}", api.name).replace(['(', ')', ' '], "-");
            let events = api.events(5);
            let script = api.stream(framing, &events).fin();
            let answer = theatre.play(&api, &id, script).await;
            assert_broken(&id, &api, &answer, events.concat().as_bytes());
            assert!(!answer.text().contains("[DONE]"));
            let line = theatre.told(&id, "upstream_truncated").await;
            assert_eq!(line["error"], "truncated", "{line}");
            assert_eq!(line["attempts"][0]["error"], "truncated", "{line}");
            assert_eq!(line["edited_by"], serde_json::json!(["seal"]), "{line}");
            assert_ne!(
                line["digest"]["upstream"], line["digest"]["client"],
                "{line}"
            );
            assert_eq!(line["bytes_out"], answer.body.len(), "{line}");
        }
    }
    theatre.stage.stop().await;
}

/// S06: FIN inside an event: nothing may be added to it.
#[tokio::test]
async fn a_fin_inside_an_event_only_breaks_the_transport() {
    let theatre = Theatre::open("").await;
    for api in APIS {
        for framing in FRAMINGS {
            let id = format!("inside-{}-{framing:?}", api.name).replace(['(', ')', ' '], "-");
            let sent = api.events(3).concat();
            let sent = &sent[..sent.len() - 9];
            let script = api.stream(framing, &[sent.to_owned()]).fin();
            let answer = theatre.play(&api, &id, script).await;
            assert_eq!(answer.text(), sent, "{id}");
            assert!(!answer.whole(), "{id}: {:?}", answer.ended);
            let line = theatre.told(&id, "upstream_truncated").await;
            assert_eq!(
                line["digest"]["upstream"], line["digest"]["client"],
                "{line}"
            );
        }
    }
    theatre.stage.stop().await;
}

/// S06 with a content-length: an event that filled what is left would make the cut a clean end.
#[tokio::test]
async fn an_event_is_added_only_where_the_announced_length_leaves_a_byte_behind_it() {
    let theatre = Theatre::open("").await;
    for api in [CHAT, ANTHROPIC] {
        let sent = api.events(5).concat();
        let cut = async |id: &str, room: usize| {
            let framing = Framing::Length(Some((sent.len() + room) as u64));
            let script = api.stream(framing, std::slice::from_ref(&sent)).fin();
            let answer = theatre.play(&api, id, script).await;
            assert!(answer.body.starts_with(sent.as_bytes()), "{id}");
            assert!(!answer.whole(), "{id}: {room} bytes to come look whole");
            theatre.told(id, "upstream_truncated").await;
            answer.body[sent.len()..].to_vec()
        };
        let event = cut(&format!("room-{}", api.name), 10_000).await;
        assert!(api.is_error_event(&event));
        let size = event.len();
        for (room, fits) in [
            (1, false),
            (size - 1, false),
            (size, false),
            (size + 1, true),
            (size + 2, true),
        ] {
            let tail = cut(&format!("room-{}-{room}", api.name), room).await;
            assert_eq!(tail == event, fits, "{room} bytes for an event of {size}");
            assert!(fits || tail.is_empty());
        }
    }
    theatre.stage.stop().await;
}

/// S06 towards a client that knows no chunks: only a reset shows that its answer is not whole.
#[tokio::test]
async fn an_old_client_sees_a_cut_as_a_reset() {
    let theatre = Theatre::open("").await;
    let events = CHAT.events(3);
    for (id, framing) in [
        ("old-chunked", Framing::Chunked),
        ("old-close", Framing::Close),
    ] {
        theatre
            .upstream
            .serve(id, CHAT.stream(framing, &events).fin());
        let request = String::from_utf8(CHAT.ask(id).bytes()).expect("ASCII");
        let conn = theatre
            .stage
            .open(request.replacen("HTTP/1.1", "HTTP/1.0", 1))
            .await;
        let answer = conn.response().await;
        assert_eq!(answer.ended, Some(Ended::Reset), "{id}: {answer:#?}");
        theatre.told(id, "upstream_truncated").await;
    }
    theatre.stage.stop().await;
}

/// S08: RST after the first or the fourth event, in each framing.
#[tokio::test]
async fn a_reset_is_told_as_a_cut_is() {
    let theatre = Theatre::open("").await;
    for framing in FRAMINGS {
        for count in [1, 4] {
            let id = format!("rst-{framing:?}-{count}").replace(['(', ')', ' '], "-");
            let events = CHAT.events(count);
            let gate = Gate::new(&id);
            let script = CHAT.stream(framing, &events).wait(&gate).rst();
            let conn = theatre.begin(&CHAT, &id, script).await;
            let sent = events.concat();
            assert!(
                conn.until(|answer| answer.body.len() == sent.len()).await,
                "{id}"
            );
            gate.open();
            assert_broken(&id, &CHAT, &conn.response().await, sent.as_bytes());
            theatre.told(&id, "upstream_truncated").await;
        }
    }
    theatre.stage.stop().await;
}

/// S10: the provider's own error event, then a clean end or a cut: told once, in its words.
#[tokio::test]
async fn a_stream_that_carries_its_own_error_gets_no_second_one() {
    let errors = [
        (
            CHAT,
            "data: {\"error\":{\"message\":\"boom\",\"code\":502}}\n\n",
        ),
        (
            CHAT,
            "event: error\ndata: {\"error\":{\"message\":\"boom\",\"type\":\"server_error\"}}\n\n",
        ),
        (
            ANTHROPIC,
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"x\"}}\n\n",
        ),
    ];
    let theatre = Theatre::open("").await;
    for (n, (api, error)) in errors.into_iter().enumerate() {
        let mut events = api.events(4);
        events.push(error.to_owned());
        let script = api.stream(Framing::Chunked, &events);
        let gate = Gate::new("the client has it all");
        for (ending, script, whole) in [
            ("end", script.clone().end(), true),
            ("fin", script.clone().fin(), false),
            ("rst", script.wait(&gate).rst(), false),
        ] {
            let id = format!("own-{n}-{ending}");
            let conn = theatre.begin(&api, &id, script).await;
            let sent = events.concat();
            assert!(
                conn.until(|answer| answer.body.len() == sent.len()).await,
                "{id}"
            );
            gate.open();
            let answer = conn.response().await;
            assert_eq!((answer.text(), answer.whole()), (sent, whole), "{id}");
            let line = theatre.told(&id, "upstream_error").await;
            assert_eq!(line["attempts"][0]["error"], "stream_error", "{line}");
            assert!(
                line["edited_by"].as_array().is_none_or(Vec::is_empty),
                "{line}"
            );
        }
    }
    theatre.stage.stop().await;
}

/// S11: something else behind the label of an event stream: its bytes, and a log that agrees with the transport.
#[tokio::test]
async fn what_is_no_event_stream_passes_as_it_is() {
    let pages = [
        (
            "json",
            r#"{"error":{"message":"no","type":"server_error"}}"#,
        ),
        ("html", "<html><h1>502</h1></html>\n"),
    ];
    let theatre = Theatre::open("").await;
    for (name, page) in pages {
        for (framing, end) in [
            (Framing::Chunked, true),
            (Framing::Chunked, false),
            (Framing::Length(None), true),
        ] {
            let id = format!("page-{name}-{end}-{framing:?}").replace(['(', ')'], "-");
            let script = CHAT.stream(framing, &[page.to_owned()]);
            let script = if end { script.end() } else { script.fin() };
            let answer = theatre.play(&CHAT, &id, script).await;
            assert_eq!(answer.text(), page, "{id}");
            let line = theatre.stage.line(&id).await;
            let ended = if end {
                "complete"
            } else {
                "upstream_truncated"
            };
            assert_eq!(line["ended"], ended, "{line}");
            assert_eq!(answer.whole(), end, "{id}: {:?}", answer.ended);
            assert_eq!(line["attempts"].as_array().map(Vec::len), Some(1), "{line}");
        }
    }
    theatre.stage.stop().await;
}

/// S20: the provider stalls after its head, and after three events.
#[tokio::test]
async fn a_stalled_stream_is_cut_at_the_idle_limit() {
    let theatre = Theatre::open("layers: { timeout: { idle: 300ms } }").await;
    for api in APIS {
        for count in [0, 3] {
            let id = format!("stall-{}-{count}", api.name);
            let events = api.events(count);
            let conn = theatre
                .begin(&api, &id, api.stream(Framing::Chunked, &events).stall())
                .await;
            let sent = events.concat();
            assert!(
                conn.until(|answer| answer.status() == 200 && answer.body.len() == sent.len())
                    .await
            );
            let answer = conn.response().await;
            assert_broken(&id, &api, &answer, sent.as_bytes());
            let line = theatre.told(&id, "timeout").await;
            assert_eq!(line["error"], "upstream_timeout", "{line}");
            let took = line["duration_ms"].as_f64().unwrap_or_default();
            assert!((250.0..5000.0).contains(&took), "{took} ms: {line}");
            assert!(
                theatre
                    .upstream
                    .finished(&id, 1)
                    .await
                    .peer_closed
                    .is_some(),
                "{id}"
            );
        }
    }
    theatre.stage.stop().await;
}

/// S06, S17: the transport ends right behind a terminal event whose blank line is missing: complete.
#[tokio::test]
async fn a_terminal_event_without_its_blank_line_completes_the_stream() {
    let theatre = Theatre::open("").await;
    for (n, tail) in ["data: [DONE]\n", "data: [DONE]"].into_iter().enumerate() {
        for framing in [Framing::Chunked, Framing::Close] {
            let id = format!("tail-{n}-{framing:?}");
            let mut events = CHAT.events(2);
            events.push(tail.to_owned());
            let answer = theatre
                .play(&CHAT, &id, CHAT.stream(framing, &events).end())
                .await;
            assert_eq!(answer.text(), events.concat(), "{id}");
            assert!(answer.whole(), "{id}: {:?}", answer.ended);
            theatre.told(&id, "complete").await;
        }
    }
    theatre.stage.stop().await;
}

/// S24: a document that is cut short must not look whole.
#[tokio::test]
async fn a_cut_document_never_looks_whole() {
    let theatre = Theatre::open("").await;
    let body = r#"{"object":"chat.completion","choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}"#;
    let request = CHAT.request.replace("true", "false");
    for (n, framing) in [Framing::Chunked, Framing::Length(Some(1000))]
        .into_iter()
        .enumerate()
    {
        for (ending, reset) in [("fin", false), ("rst", true)] {
            let id = format!("document-{n}-{ending}");
            let script = Script::new()
                .head(200, &[("content-type", "application/json")], framing)
                .body(body);
            let gate = Gate::new(&id);
            let script = script.wait(&gate);
            theatre
                .upstream
                .serve(&id, if reset { script.rst() } else { script.fin() });
            let mut ask = CHAT.ask(&id);
            ask.body = request.as_bytes();
            let conn = theatre.stage.open(ask.bytes()).await;
            assert!(conn.until(|answer| answer.text() == body).await, "{id}");
            gate.open();
            let answer = conn.response().await;
            assert_eq!(answer.text(), body, "{id}");
            assert!(!answer.whole(), "{id}: {:?}", answer.ended);
            theatre.told(&id, "upstream_truncated").await;
        }
    }
    theatre.stage.stop().await;
}
