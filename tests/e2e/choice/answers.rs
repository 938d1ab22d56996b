//! Which answer is the one that is passed on, and which is thrown away.

use tollgate_testing::upstream::Script;

use super::{BODY, BOTH, CHAT, Pair, failing, fine, said};
use crate::harness::Ask;

/// After all attempts: the last real answer as it is, and that it was tried again.
#[tokio::test]
async fn the_last_real_answer_is_passed_on_untouched() {
    let pair = Pair::start(BOTH, "layers: { retry: { attempts: 2 } }\n").await;
    pair.answers(failing(500), said(502, &[("x-theirs", "kept")]));
    let answer = pair.ask("last").await;
    assert_eq!((answer.status(), pair.asked("last")), (502, (1, 1)));
    assert_eq!(answer.header("x-theirs"), Some("kept"));
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    assert_eq!(answer.header("tollgate-refused-by"), None);
    assert_eq!(
        answer.text(),
        r#"{"error":{"message":"busy","code":"rate_limit_exceeded"}}"#
    );
    assert_eq!(pair.stage.line("last").await["ended"], "complete");
    pair.stage.stop().await;
}

/// What a provider said stands over that another one cannot be reached, and is told as its own.
#[tokio::test]
async fn a_real_answer_stands_over_a_target_that_is_not_there() {
    let pair = Pair::start(BOTH, "").await;
    let Pair {
        stage,
        first,
        second,
    } = pair;
    first.serve_default(said(429, &[("retry-after", "50"), ("x-theirs", "kept")]));
    drop(second);
    let answer = stage.ask(&Ask::post("there", CHAT, BODY)).await;
    let named = [
        "retry-after",
        "x-theirs",
        "tollgate-provider",
        "tollgate-refused-by",
    ];
    assert_eq!(answer.status(), 429);
    assert_eq!(
        named.map(|name| answer.header(name)),
        [Some("50"), Some("kept"), Some("first"), None]
    );
    let line = stage.line("there").await;
    let told = ["provider", "target", "ended"].map(|key| line[key].as_str());
    assert_eq!(
        told,
        [Some("first"), Some("first"), Some("complete")],
        "{line}"
    );
    let attempts = line["attempts"].as_array().expect("a list");
    assert_eq!(attempts[0]["status"], 429, "{line}");
    assert!(
        attempts[1..].iter().all(|it| it["error"] == "connect"),
        "{line}"
    );
    stage.stop().await;
}

/// An error inside a 200 before any output is a failed attempt, whose tokens are waste and nobody's charge.
#[tokio::test]
async fn a_stream_that_begins_with_an_error_is_thrown_away_under_first_event() {
    let pair = Pair::start(BOTH, "layers: { retry: { commit: first_event } }\n").await;
    let error = "data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\"}}\n\n";
    let usage =
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":0}}\n\n";
    let text = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":null}]}\n\n";
    let last = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let told = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1,\"total_tokens\":10}}\n\n";
    pair.answers(
        Script::events([usage, error]),
        Script::events([text, last, told, "data: [DONE]\n\n"]),
    );
    let body = br#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let answer = pair.stage.ask(&Ask::post("thrown", CHAT, body)).await;
    assert_eq!(
        answer.text(),
        [text, last, told, "data: [DONE]\n\n"].concat()
    );
    let line = pair.stage.line("thrown").await;
    assert_eq!(
        (line["ended"].as_str(), line["usage"]["prompt"].as_u64()),
        (Some("complete"), Some(9))
    );
    assert_eq!(line["charged"]["prompt"], 9);
    assert!(
        line["waste"]["prompt"]
            .as_u64()
            .is_some_and(|prompt| prompt >= 7),
        "{line}"
    );
    assert_eq!(line["attempts"][0]["error"], "stream_error");
    assert_eq!(line["digest"]["upstream"], line["digest"]["client"]);
    pair.stage.stop().await;
}

/// An error document inside a 200, in the place of a stream or of a document, is a failed attempt that its circuit counts.
#[tokio::test]
async fn an_error_document_inside_a_200_is_thrown_away_under_first_event() {
    let layers = "layers: { retry: { commit: first_event }, breaker: { consecutive: 2, open_for: 3000s } }\n";
    let pair = Pair::start(BOTH, layers).await;
    let overloaded = r#"{"error":{"message":"overloaded","type":"server_error","code":503}}"#;
    let stream = [
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n\n",
        "data: [DONE]\n\n",
    ];
    pair.first
        .serve_default(Script::answer(200, "application/json", overloaded));
    pair.second.serve_default(fine());
    pair.second.serve("stream", Script::events(stream).end());
    let asks: [(&str, &[u8], usize); 3] = [
        (
            "stream",
            br#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#,
            1,
        ),
        ("document", BODY, 1),
        ("open", BODY, 0),
    ];
    for (id, body, asked) in asks {
        let answer = pair.stage.ask(&Ask::post(id, CHAT, body)).await;
        assert!(
            answer.status() == 200 && answer.whole(),
            "{id}: {}",
            answer.text()
        );
        assert!(
            !answer.text().contains("overloaded"),
            "{id}: {}",
            answer.text()
        );
        assert_eq!(pair.asked(id), (asked, 1), "{id}");
        let line = pair.stage.line(id).await;
        assert_eq!(
            (&line["ended"], &line["provider"]),
            (&"complete".into(), &"second".into())
        );
        if asked == 1 {
            assert_eq!(line["attempts"][0]["error"], "stream_error", "{line}");
        }
    }
    pair.stage.stop().await;
}

/// A stream whose reader leaves behind the provider's error has failed: SDKs close their connection there.
#[tokio::test]
async fn a_client_that_leaves_behind_an_error_event_hides_it_from_no_circuit() {
    let pair = Pair::start(
        BOTH,
        "layers: { breaker: { consecutive: 2, open_for: 3000s } }\n",
    )
    .await;
    let events = [
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":null}]}\n\n",
        "data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\"}}\n\n",
    ];
    pair.answers(Script::events(events).stall(), fine());
    let body = br#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    for id in ["one", "two"] {
        let conn = pair.stage.open(Ask::post(id, CHAT, body).bytes()).await;
        assert!(
            conn.until(|answer| answer.body == events.concat().as_bytes())
                .await
        );
        conn.reset().await;
        pair.stage.line(id).await;
    }
    assert_eq!(pair.ask("open").await.status(), 200);
    assert_eq!(pair.asked("open"), (0, 1));
    pair.stage.stop().await;
}
