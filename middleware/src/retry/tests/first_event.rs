//! `commit: first_event`: an error or an empty stream inside a 200 is a failed attempt.

use super::*;
use crate::{
    dialect::{self, Surface},
    facts::Intent,
    json,
    record::{Charge, Record},
};

const TEXT: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":null}]}\n\n";
const ROLE: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"},\"finish_reason\":null}]}\n\n";
const ERROR: &str = "data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\"}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

fn streaming() -> Sent {
    asking(r#"{"model":"m","stream":true}"#)
}

fn asking(body: &'static str) -> Sent {
    let mut req = post(body);
    let surface: Surface = dialect::surface_of(&req).unwrap();
    let text = req.body().text().into_owned();
    let root = json::Value::parse(&text).unwrap();
    let asked = dialect::read(&surface, root).unwrap();
    let intent = Intent::new(surface, None, asked, 0..text.len());
    req.extensions_mut().insert(intent);
    req
}

fn stream(parts: &[&str]) -> Act {
    let text: &'static str = Box::leak(parts.concat().into_boxed_str());
    Act::Status(200, &[("content-type", "text/event-stream")], text)
}

fn policy(commit: Commit) -> Policy {
    Policy {
        commit,
        ..Policy::default()
    }
}

async fn told(commit: Commit, acts: Vec<Act>) -> (Vec<u8>, usize) {
    let stage = Stage::of(acts);
    let answer = layer(policy(commit))
        .layer(stage.clone())
        .oneshot(streaming())
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (body.to_vec(), stage.calls())
}

#[tokio::test(start_paused = true)]
async fn an_error_before_any_output_is_a_failed_attempt() {
    let whole = [ROLE, TEXT, DONE].concat().into_bytes();
    for bad in [
        vec![ERROR],
        vec![ROLE, ERROR],
        vec![": wait\n\n", ERROR],
        vec![],
        vec![ROLE],
        vec![DONE],
    ] {
        let acts = vec![stream(&bad), stream(&[ROLE, TEXT, DONE])];
        assert_eq!(
            told(Commit::FirstEvent, acts.clone()).await,
            (whole.clone(), 2),
            "{bad:?}"
        );
        assert_eq!(
            told(Commit::Head, acts).await,
            (bad.concat().into_bytes(), 1),
            "{bad:?}"
        );
    }
}

/// S24: nothing is tried again once output has been seen.
#[tokio::test(start_paused = true)]
async fn s24_an_error_behind_output_is_passed_on() {
    let acts = vec![stream(&[ROLE, TEXT, ERROR]), stream(&[TEXT, DONE])];
    let expected = [ROLE, TEXT, ERROR].concat().into_bytes();
    assert_eq!(told(Commit::FirstEvent, acts).await, (expected, 1));
}

#[tokio::test(start_paused = true)]
async fn after_the_last_attempt_the_failed_stream_itself_is_the_answer() {
    let (body, calls) = told(Commit::FirstEvent, vec![stream(&[ROLE, ERROR])]).await;
    assert_eq!((body, calls), ([ROLE, ERROR].concat().into_bytes(), 3));
}

fn document(kind: &'static str, text: &'static str) -> Act {
    match kind {
        "sse" => Act::Status(200, &[("content-type", "text/event-stream")], text),
        _ => Act::Status(200, &[("content-type", "application/json")], text),
    }
}

/// An error document that is labelled 200 is no answer, whatever was asked for and however it is labelled.
#[tokio::test(start_paused = true)]
async fn an_error_document_inside_a_200_is_a_failed_attempt() {
    const ANSWER: &str = r#"{"choices":[{"index":0,"message":{"content":"hi"}}]}"#;
    const REFUSED: &str = r#"{"error":{"message":"overloaded","code":503}}"#;
    let tried = async |body, commit, first: Act, second: Act| {
        let stage = Stage::of([first, second]);
        let service = layer(policy(commit)).layer(stage.clone());
        let answer = service.oneshot(asking(body)).await.unwrap();
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        (String::from_utf8(text.to_vec()).unwrap(), stage.calls())
    };
    for (body, kind) in [
        (r#"{"model":"m","stream":true}"#, "json"),
        (r#"{"model":"m","stream":true}"#, "sse"),
        (r#"{"model":"m"}"#, "json"),
    ] {
        let good = || document("json", ANSWER);
        for bad in [REFUSED, r#"{"error":"model is loading"}"#, ""] {
            let got = tried(body, Commit::FirstEvent, document(kind, bad), good()).await;
            assert_eq!(got, (ANSWER.to_owned(), 2), "{body} {kind} {bad}");
            let got = tried(body, Commit::Head, document(kind, bad), good()).await;
            assert_eq!(got, (bad.to_owned(), 1), "{body} {kind} {bad}");
        }
        // What is an answer is passed on as it came, and so is what is no JSON.
        for fine in [ANSWER, "{\"id\":", "<html>"] {
            let got = tried(body, Commit::FirstEvent, document("json", fine), good()).await;
            assert_eq!(got, (fine.to_owned(), 1), "{body} {kind} {fine}");
        }
    }
    // Longer than any error is: passed on when so much of it is there.
    let long = format!(r#"{{"error":{{"message":"{}"}}}}"#, "x".repeat(70 << 10));
    let long: &'static str = Box::leak(long.into_boxed_str());
    for body in [r#"{"model":"m","stream":true}"#, r#"{"model":"m"}"#] {
        let first = document("json", long);
        let got = tried(body, Commit::FirstEvent, first, document("json", ANSWER)).await;
        assert_eq!((got.0.len(), got.1), (long.len(), 1), "{body}");
    }
}

/// What cannot be read is not held: a document, an error, a stream of a kind that nobody describes.
#[tokio::test(start_paused = true)]
async fn what_has_no_events_is_not_held() {
    let document = Act::Status(
        200,
        &[("content-type", "application/octet-stream")],
        "whatever",
    );
    assert_eq!(
        told(Commit::FirstEvent, vec![document]).await,
        (b"whatever".to_vec(), 1)
    );
}

/// What a thrown-away answer has used is waste, and how it ended is not how the request did.
#[tokio::test(start_paused = true)]
async fn a_discarded_answer_leaves_waste_and_nothing_else() {
    let stage = Stage::of([stream(&[ERROR]), stream(&[TEXT, DONE])]);
    let mut req = streaming();
    let now = Instant::now().into_std();
    let head = (req.method(), req.uri(), req.headers());
    let record = Record::new(
        "-".parse().unwrap(),
        head,
        now,
        std::time::SystemTime::UNIX_EPOCH,
    );
    req.extensions_mut().insert(record.clone());
    // As a meter and a judge inside would have told.
    record.begin_metering();
    record.update_metered(|metered| {
        metered.charge = Charge {
            prompt: 5,
            completion: 2,
            ..Charge::default()
        };
    });
    record.set_ended(crate::record::Ended::UpstreamError);
    record.set_edited_by("upstream");
    let answer = layer(policy(Commit::FirstEvent))
        .layer(stage)
        .oneshot(req)
        .await
        .unwrap();
    let waste = record.waste().unwrap();
    assert_eq!((waste.prompt, waste.completion), (5, 2));
    assert_eq!(
        (record.ended(), record.edited_by().is_empty()),
        (None, true)
    );
    drop(answer);
}
