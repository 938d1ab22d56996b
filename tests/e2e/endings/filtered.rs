//! Answers under the word filter: what waits, what is masked, what is stopped, and how each shows at the client, at the
//! provider and in the log.

use serde_json::{Value, json};
use tollgate_testing::upstream::{Framing, Gate, Script};

use super::{APIS, CHAT, Theatre, assert_broken};
use crate::harness::Ask;

fn filter(action: &str, more: &str) -> String {
    format!(
        "layers: {{ word_filter: {{ words: [blocked], whole_word: false, action: {action}{more} }} }}"
    )
}

/// The beginning of a word waits for the rest of it, what stands before it does not, and what follows is edited in place.
#[tokio::test]
async fn a_word_in_two_events_is_masked_and_only_its_beginning_waits() {
    let theatre = Theatre::open(&filter("mask", "")).await;
    let gate = Gate::new("the first half is out");
    let [clean, half, rest] = ["a ", "b blo", "cked c"].map(CHAT.event);
    let script = CHAT
        .stream(Framing::Chunked, &[clean.clone(), half])
        .wait(&gate)
        .body(rest)
        .body("data: [DONE]\n\n")
        .end();
    let conn = theatre.begin(&CHAT, "mask", script).await;
    gate.reached(1).await;
    assert!(conn.until(|answer| answer.body.len() >= clean.len()).await);
    assert_eq!(conn.message().text(), clean);
    gate.open();
    let answer = conn.response().await;
    let expected = [
        clean,
        (CHAT.event)("b ***"),
        (CHAT.event)(" c"),
        "data: [DONE]\n\n".to_owned(),
    ];
    assert_eq!((answer.text(), answer.whole()), (expected.concat(), true));
    let line = theatre.told("mask", "complete").await;
    assert_eq!(line["edited_by"], json!(["word_filter"]), "{line}");
    assert_ne!(
        line["digest"]["upstream"], line["digest"]["client"],
        "{line}"
    );
    theatre.stage.stop().await;
}

/// A letter that an accent may follow waits for what does follow, also where a word could end with it.
#[tokio::test]
async fn the_last_letter_of_a_word_waits_for_the_accent_that_makes_another_of_it() {
    let theatre = Theatre::open(&filter("mask", ", normalize: nfkc")).await;
    for (id, next, masked) in [("other", "\u{30c}!", false), ("same", "\u{200b}!", true)] {
        let gate = Gate::new("the word is out");
        let [clean, word, rest] = ["a ", "ｂlo\u{ad}cked", next].map(CHAT.event);
        let script = CHAT
            .stream(Framing::Chunked, &[clean.clone(), word.clone()])
            .wait(&gate)
            .body(rest.clone())
            .body("data: [DONE]\n\n")
            .end();
        let conn = theatre.begin(&CHAT, id, script).await;
        gate.reached(1).await;
        assert!(conn.until(|answer| answer.body.len() >= clean.len()).await);
        assert_eq!(conn.message().text(), clean);
        gate.open();
        let answer = conn.response().await;
        let word = if masked { (CHAT.event)("***") } else { word };
        let expected = [clean, word, rest, "data: [DONE]\n\n".to_owned()];
        assert_eq!((answer.text(), answer.whole()), (expected.concat(), true));
        theatre.told(id, "complete").await;
    }
    theatre.stage.stop().await;
}

/// What a rule refuses never comes; what stood before it does, then the dialect's own error event, and no clean end.
#[tokio::test]
async fn a_stream_that_is_refused_is_told_so_and_broken_and_its_provider_let_go() {
    let theatre = Theatre::open(&filter("reject", "")).await;
    for api in APIS {
        let id = format!("reject-{}", api.name);
        let [clean, half, rest] = ["a ", "b blo", "cked c"].map(api.event);
        let script = api
            .stream(Framing::Chunked, &[clean.clone(), half, rest])
            .stall();
        let answer = theatre.play(&api, &id, script).await;
        assert_broken(&id, &api, &answer, clean.as_bytes());
        let line = theatre.told(&id, "refused").await;
        assert_eq!(line["refused_by"], "word_filter", "{line}");
        assert_eq!(line["error"], "response_rejected", "{line}");
        assert!(
            theatre
                .upstream
                .finished(&id, 1)
                .await
                .peer_closed
                .is_some()
        );
    }
    theatre.stage.stop().await;
}

/// A provider's last word in the same read does not make the answer complete.
#[tokio::test]
async fn a_stream_that_came_whole_is_refused_all_the_same() {
    let theatre = Theatre::open(&filter("reject", "")).await;
    let all = [
        (CHAT.event)("a "),
        (CHAT.event)("blocked"),
        "data: [DONE]\n\n".to_owned(),
    ];
    let script = CHAT.stream(Framing::Chunked, &[all.concat()]).end();
    let answer = theatre.play(&CHAT, "at-once", script).await;
    assert_broken("at-once", &CHAT, &answer, all[0].as_bytes());
    theatre.told("at-once", "refused").await;
    theatre.stage.stop().await;
}

/// S06, O10: what waits belongs to what came before the cut, whoever cuts.
#[tokio::test]
async fn what_waits_comes_before_the_end_of_a_stream_that_is_cut() {
    let more = format!(
        "{}\nserver: {{ drain: {{ timeout: 300ms }} }}",
        filter("mask", "")
    );
    let theatre = Theatre::open(&more).await;
    let mut running = Vec::new();
    for api in APIS {
        let events = ["a ", "b blo"].map(api.event);
        let id = format!("fin-{}", api.name);
        let script = api.stream(Framing::Chunked, &events).fin();
        let answer = theatre.play(&api, &id, script).await;
        assert_broken(&id, &api, &answer, events.concat().as_bytes());
        theatre.told(&id, "upstream_truncated").await;

        let id = format!("drain-{}", api.name);
        let script = api.stream(Framing::Chunked, &events).stall();
        let conn = theatre.begin(&api, &id, script).await;
        let out = events[0].len();
        assert!(conn.until(|answer| answer.body.len() == out).await);
        running.push((api, id, events.concat(), conn));
    }
    let Theatre {
        stage,
        upstream: _upstream,
    } = theatre;
    let log = stage.log();
    assert_eq!(stage.stop().await, running.len());
    for (api, id, sent, conn) in running {
        assert_broken(&id, &api, &conn.response().await, sent.as_bytes());
        assert_eq!(log.first(&id)["ended"], "drain");
    }
}

fn document(text: &str) -> Value {
    json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]})
}

const ASKED: &[u8] = br#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;

/// A document is judged before its head is out.
#[tokio::test]
async fn a_document_is_refused_as_a_whole_or_edited_with_its_true_length() {
    for action in ["reject", "mask"] {
        let theatre = Theatre::open(&filter(action, "")).await;
        theatre
            .upstream
            .serve("doc", Script::json(&document("say blocked now")));
        let answer = theatre
            .stage
            .ask(&Ask::post("doc", "/v1/chat/completions", ASKED))
            .await;
        let line = theatre.stage.line("doc").await;
        if action == "reject" {
            assert_eq!(answer.status(), 502);
            assert_eq!(answer.json()["error"]["code"], "response_rejected");
            assert_eq!(answer.header("tollgate-refused-by"), Some("word_filter"));
            assert!(!answer.text().contains("blocked"));
            assert_eq!(
                (&line["ended"], &line["refused_by"]),
                (&"refused".into(), &"word_filter".into())
            );
        } else {
            assert_eq!(
                (answer.status(), answer.json()),
                (200, document("say *** now"))
            );
            let length = answer.body.len().to_string();
            assert_eq!(answer.header("content-length"), Some(&*length));
            assert_eq!(line["edited_by"], json!(["word_filter"]));
        }
        theatre.stage.stop().await;
    }
}

/// D04, on the way back: a coding hides what an answer says.
#[tokio::test]
async fn an_answer_that_cannot_be_inspected_is_refused_or_passes_as_configured() {
    for (uninspected, status) in [("reject", 502), ("pass", 200)] {
        let theatre =
            Theatre::open(&filter("mask", &format!(", uninspected: {uninspected}"))).await;
        let head = [
            ("content-type", "text/event-stream"),
            ("content-encoding", "gzip"),
        ];
        let script = Script::new()
            .head(200, &head, Framing::Chunked)
            .body("\x1f blocked")
            .end();
        let answer = theatre.play(&CHAT, "coded", script).await;
        assert_eq!(answer.status(), status);
        assert_eq!(answer.text().contains("blocked"), status == 200);
        theatre.stage.stop().await;
    }
}

/// S16, under the filter: an event over the limit is ended, or passes, and is never kept.
#[tokio::test]
async fn an_event_over_the_limit_is_ended_or_passes_as_configured() {
    for (uninspected, passes) in [("reject", false), ("pass", true)] {
        let theatre =
            Theatre::open(&filter("mask", &format!(", uninspected: {uninspected}"))).await;
        let all = [
            (CHAT.event)("a "),
            (CHAT.event)(&"x".repeat(3 << 20)),
            (CHAT.event)("blocked"),
            "data: [DONE]\n\n".to_owned(),
        ];
        let script = CHAT.stream(Framing::Chunked, &all).end();
        let answer = theatre.play(&CHAT, "large", script).await;
        if passes {
            let expected = all.concat().replace("blocked", "***");
            assert!(answer.whole() && answer.text() == expected);
        } else {
            assert_broken("large", &CHAT, &answer, all[0].as_bytes());
            theatre.told("large", "refused").await;
        }
        theatre.stage.stop().await;
    }
}
