//! The filter around a service: heads, lengths, trailers, errors.

use http::{Request, Response, StatusCode, header};
use tollgate_testing::body::{Collected, Fault, Item, Script, collect, collect_by_hint};

use super::{
    super::{Answering, Asked, Policy, ResponseBody},
    *,
};
use crate::{
    body::{
        Guarded, Room,
        heard::{Heard, now, passes_each_ending},
    },
    error::{BoxError, Reason, Rejection},
    record::{Ended, Record},
};

fn policy(words: &[&str], action: Action) -> Policy {
    Policy {
        rules: rules(words, action),
        limits: LIMITS,
        room: None,
    }
}

/// The answer to a request at `path`, with this head.
async fn answer(
    policy: &Policy,
    path: &str,
    head: &[(&str, &str)],
    body: Script,
) -> Result<(Response<ResponseBody<Script>>, Record), BoxError> {
    let id = http::HeaderValue::from_static("id");
    let clock = crate::clock::SystemClock;
    let parts = (&Method::POST, &path.parse().unwrap(), &HeaderMap::new());
    let record = Record::new(
        id,
        parts,
        crate::clock::Clock::now(&clock),
        std::time::SystemTime::UNIX_EPOCH,
    );
    let mut request = Request::post(path).body(()).unwrap();
    request.extensions_mut().insert(record.clone());
    let asked = Asked::of(policy, &request);
    let mut response = Response::builder();
    for (name, value) in head {
        response = match *name {
            "status" => response.status(value.parse::<u16>().unwrap()),
            name => response.header(name, *value),
        };
    }
    let response = response.body(body).unwrap();
    let inner = async { Ok::<_, BoxError>(response) };
    Ok((Answering::new(Box::pin(inner), asked).await?, record))
}

const SSE: (&str, &str) = ("content-type", "text/event-stream");
const JSON: (&str, &str) = ("content-type", "application/json");

const DOCUMENT: &str = r#"{"choices":[{"index":0,"message":{"content":"a blocked b"}}]}"#;

fn reason(error: &BoxError) -> Option<Reason> {
    Rejection::find(&**error).map(Rejection::reason)
}

#[tokio::test]
async fn a_document_is_edited_and_its_length_is_that_of_what_comes() {
    let masked = DOCUMENT.replace("blocked", "***");
    for split in [Split::Whole, Split::Bytes(1), Split::Random(3)] {
        let length = DOCUMENT.len().to_string();
        let head = [JSON, ("content-length", &*length)];
        let body = Script::data(DOCUMENT.as_bytes(), &split).hesitating();
        let (response, record) = answer(&policy(&["blocked"], Action::Mask), CHAT, &head, body)
            .await
            .unwrap();
        assert_eq!(
            response.headers()[header::CONTENT_LENGTH],
            masked.len().to_string()
        );
        let seen = collect(response.into_body()).await;
        assert_eq!(
            (seen.text(), seen.hints[0].upper),
            (masked.clone(), Some(masked.len() as u64))
        );
        assert_eq!(record.edited_by(), ["word_filter"]);
    }
}

#[tokio::test]
async fn a_clean_document_is_the_frames_that_came() {
    let length = DOCUMENT.len().to_string();
    let head = [JSON, ("content-length", &*length), ("x-own", "1")];
    let body = Script::data(DOCUMENT.as_bytes(), &Split::Bytes(20));
    let (response, record) = answer(&policy(&["nowhere"], Action::Mask), CHAT, &head, body)
        .await
        .unwrap();
    assert_eq!(response.headers()[header::CONTENT_LENGTH], length);
    assert_eq!(response.headers().len(), 3);
    let seen = collect(response.into_body()).await;
    assert_eq!(
        (seen.frames[0].len(), seen.text()),
        (20, DOCUMENT.to_owned())
    );
    assert!(record.edited_by().is_empty());
}

#[tokio::test]
async fn a_document_is_refused_before_its_head_is_out() {
    let body = Script::data(DOCUMENT.as_bytes(), &Split::Whole);
    let refused = answer(&policy(&["blocked"], Action::Reject), CHAT, &[JSON], body).await;
    let error = refused.expect_err("a refusal");
    let why = Rejection::find(&*error).unwrap();
    assert_eq!(
        (why.reason(), why.layer()),
        (Reason::ResponseRejected, "word_filter")
    );
    assert!(why.message().contains("rule \"words\"") && !why.message().contains("blocked"));
}

#[tokio::test]
async fn a_document_that_breaks_off_is_an_error_and_nothing_of_it_comes() {
    let body = Script::data(&DOCUMENT.as_bytes()[..40], &Split::Whole).then(Item::Error);
    let broken = answer(&policy(&["nowhere"], Action::Mask), CHAT, &[JSON], body).await;
    assert!(broken.expect_err("an error").is::<Fault>());
}

#[tokio::test]
async fn parts_of_a_document_that_stand_side_by_side_are_one_text() {
    let parts = r#"{"content":[{"type":"text","text":"a blo"},{"type":"text","text":"cked b"},{"type":"tool_use","input":{"q":["blo"]}},{"type":"text","text":"cked"}]}"#;
    let body = Script::data(parts.as_bytes(), &Split::Whole);
    let (response, _) = answer(
        &policy(&["blocked"], Action::Mask),
        "/v1/messages",
        &[JSON],
        body,
    )
    .await
    .unwrap();
    let expected = parts.replace("a blo", "a ***").replace("cked b", " b");
    assert_eq!(collect(response.into_body()).await.text(), expected);
}

#[tokio::test]
async fn a_stream_labelled_a_document_goes_on_as_a_stream() {
    let frames = [
        chunk(0, "a "),
        chunk(0, "blo"),
        chunk(0, "cked"),
        DONE.to_vec(),
    ];
    let items = frames.iter().map(|frame| Item::Data(frame.clone().into()));
    // The head does not wait for the end, which would never come here.
    let stalls = Script::new(items.clone().chain([Item::Error]));
    let (response, _) = answer(&policy(&["blocked"], Action::Mask), CHAT, &[JSON], stalls)
        .await
        .unwrap();
    let seen = collect(response.into_body()).await;
    let expected = [chunk(0, "a "), chunk(0, "***"), chunk(0, ""), DONE.to_vec()].concat();
    assert_eq!(seen.bytes(), expected);
    assert!(!seen.whole());
}

#[tokio::test]
async fn a_stream_is_stopped_with_an_error_behind_what_was_clean() {
    let frames = [
        chunk(0, "a "),
        chunk(0, "blo"),
        chunk(0, "cked"),
        DONE.to_vec(),
    ];
    let body = Script::data(&frames.concat(), &Split::Bytes(16));
    let polls = body.polls();
    let (response, record) = answer(&policy(&["blocked"], Action::Reject), CHAT, &[SSE], body)
        .await
        .unwrap();
    // A layer inside may have seen the provider's last word already.
    record.set_ended(Ended::Complete);
    let mut body = Box::pin(response.into_body());
    let seen = collect(&mut body).await;
    assert_eq!(seen.bytes(), frames[0]);
    assert_eq!(
        reason(&seen.error.expect("an error")),
        Some(Reason::ResponseRejected)
    );
    assert!(polls.dropped(), "the provider is asked for no more");
    assert_eq!(
        record.refused().map(|refused| refused.layer),
        Some("word_filter")
    );
    assert_eq!(record.ended(), Some(Ended::Refused));
    // And then nothing.
    let after = collect(body).await;
    assert!(after.frames.is_empty() && after.whole() && after.hints[0].end);
}

#[tokio::test]
async fn an_error_from_inside_comes_behind_what_waited() {
    let frames = [
        chunk(0, "a "),
        chunk(0, "blo"),
        chunk(0, "ck")[..10].to_vec(),
    ];
    let body = Script::data(&frames.concat(), &Split::Bytes(7)).then(Item::Error);
    let (response, _) = answer(&policy(&["blocked"], Action::Mask), CHAT, &[SSE], body)
        .await
        .unwrap();
    let seen = collect(response.into_body()).await;
    assert_eq!(seen.bytes(), frames[..2].concat());
    assert!(seen.error.expect("an error").is::<Fault>());
}

#[tokio::test]
async fn trailers_come_behind_what_waited() {
    let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "7".parse().unwrap())]);
    let text = chunk(0, "blo");
    let body = Script::data(&text, &Split::Whole).then(Item::Trailers(trailers.clone()));
    let (response, _) = answer(&policy(&["blocked"], Action::Mask), CHAT, &[SSE], body)
        .await
        .unwrap();
    let seen = collect(response.into_body()).await;
    assert_eq!((seen.bytes(), seen.trailers), (text, Some(trailers)));
}

#[tokio::test]
async fn a_reader_that_trusts_the_hint_gets_all() {
    let text = [chunk(0, "a"), chunk(0, "blo")].concat();
    for split in [Split::Whole, Split::Bytes(9)] {
        let body = Script::data(&text, &split).hinting();
        let (response, _) = answer(&policy(&["blocked"], Action::Mask), CHAT, &[SSE], body)
            .await
            .unwrap();
        assert_eq!(collect_by_hint(response.into_body()).await.bytes(), text);
    }
}

#[tokio::test]
async fn the_length_of_a_stream_stays_where_nothing_can_change_it() {
    let text = [chunk(0, "a blo"), DONE.to_vec()].concat();
    let length = text.len().to_string();
    let head = [SSE, ("content-length", &*length)];
    for (action, kept) in [
        (Action::Mask, false),
        (Action::Reject, true),
        (Action::Log, true),
    ] {
        let body = Script::data(&text, &Split::Bytes(30)).exact();
        let (response, _) = answer(&policy(&["blocked"], action), CHAT, &head, body)
            .await
            .unwrap();
        assert_eq!(
            response.headers().contains_key(header::CONTENT_LENGTH),
            kept
        );
        let Collected { hints, frames, .. } = collect(response.into_body()).await;
        let mut left = text.len();
        for (hint, frame) in hints.iter().zip(&frames) {
            assert!(hint.upper.is_none_or(|upper| upper == left as u64));
            assert_eq!(
                hint.upper.is_some(),
                kept || hint.end || left == 0 || hint.upper.is_some()
            );
            left -= frame.len();
        }
        assert_eq!(left, 0);
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_or_passes() {
    let head = [SSE, ("content-encoding", "gzip")];
    let body = || Script::data(b"\x1f\x8bblocked", &Split::Whole);
    let mut policy = policy(&["blocked"], Action::Mask);
    let refused = answer(&policy, CHAT, &head, body()).await;
    assert_eq!(
        refused.err().as_ref().and_then(reason),
        Some(Reason::ResponseRejected)
    );
    policy.limits.passes = true;
    let (response, _) = answer(&policy, CHAT, &head, body()).await.unwrap();
    assert_eq!(
        collect(response.into_body()).await.bytes(),
        b"\x1f\x8bblocked"
    );
    // Where answers carry no text, nobody asks.
    policy.limits.passes = false;
    let (response, _) = answer(&policy, "/v1/embeddings", &head, body())
        .await
        .unwrap();
    assert_eq!(
        collect(response.into_body()).await.bytes(),
        b"\x1f\x8bblocked"
    );
}

#[tokio::test]
async fn what_a_provider_says_of_a_failure_is_not_looked_at() {
    let body = Script::data(br#"{"error":{"message":"blocked"}}"#, &Split::Whole);
    let (response, _) = answer(
        &policy(&["blocked"], Action::Reject),
        CHAT,
        &[("status", "400"), JSON],
        body,
    )
    .await
    .unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(
        collect(response.into_body()).await.text(),
        r#"{"error":{"message":"blocked"}}"#
    );
}

/// S16: a document has a bound of its own.
#[tokio::test]
async fn a_document_over_its_limit_is_refused_or_goes_on_unread() {
    let text = DOCUMENT.replace("a ", &"a".repeat(2 << 20));
    let body = || Script::data(text.as_bytes(), &Split::Bytes(10_000));
    let mut policy = policy(&["blocked"], Action::Mask);
    let refused = answer(&policy, CHAT, &[JSON], body()).await;
    assert_eq!(
        refused.err().as_ref().and_then(reason),
        Some(Reason::ResponseRejected)
    );
    policy.limits.passes = true;
    let (response, _) = answer(&policy, CHAT, &[JSON], body()).await.unwrap();
    assert!(collect(response.into_body()).await.text() == text);
    policy.limits.document = 4 << 20;
    let (response, _) = answer(&policy, CHAT, &[JSON], body()).await.unwrap();
    assert!(collect(response.into_body()).await.text() == text.replace("blocked", "***"));
}

/// What was held when the drain window was over: `seal` asks for it, and then ends the answer itself.
#[tokio::test]
async fn what_waits_is_let_go_before_the_server_ends_the_answer() {
    let conn = crate::conn::Conn::new();
    let policy = policy(&["blocked"], Action::Mask);
    let mut request = Request::post(CHAT).body(()).unwrap();
    request.extensions_mut().insert(conn.clone());
    let asked = Asked::of(&policy, &request);
    let frames = [chunk(0, "a "), chunk(0, "blo"), chunk(0, "cked")];
    let body = Script::data(&frames[..2].concat(), &Split::Whole)
        .then(Item::Pending)
        .then(Item::Data(frames[2].clone().into()));
    let response = Response::builder().header(SSE.0, SSE.1).body(body).unwrap();
    let inner = Box::pin(async { Ok::<_, BoxError>(response) });
    let response = Answering::new(inner, asked).await.unwrap();
    let mut body = Box::pin(response.into_body());
    assert!(conn.is_withholding());
    let next = async |body: &mut std::pin::Pin<Box<ResponseBody<Script>>>| {
        let mut seen = Collected::default();
        tollgate_testing::body::next(body.as_mut(), &mut seen).await;
        seen.bytes()
    };
    assert_eq!(next(&mut body).await, frames[0]);
    conn.cut(crate::conn::Cut::Drain);
    assert_eq!(next(&mut body).await, frames[1]);
    // And this is no clean end, also where nobody stands outside.
    let seen = collect(&mut body).await;
    assert!(seen.frames.is_empty() && seen.error.is_some());
    drop(body);
    assert!(!conn.is_withholding());
}

#[tokio::test]
async fn documents_that_are_held_share_a_room() {
    let room = Room::new(100);
    let policy = Policy {
        room: Some(room.clone()),
        ..policy(&["nowhere"], Action::Mask)
    };
    let body = || Script::data(DOCUMENT.as_bytes(), &Split::Bytes(7));
    let (first, _) = answer(&policy, CHAT, &[JSON], body()).await.unwrap();
    assert_eq!(room.used(), DOCUMENT.len() as u64);
    let second = answer(&policy, CHAT, &[JSON], body()).await;
    let why = second.expect_err("no room");
    assert_eq!(reason(&why), Some(Reason::Overloaded));
    assert_eq!(collect(first.into_body()).await.text(), DOCUMENT);
    assert_eq!(room.used(), 0);
    assert!(answer(&policy, CHAT, &[JSON], body()).await.is_ok());
}

/// What is held of a stream is in the same room, for as long as it is held.
#[tokio::test]
async fn streams_that_are_held_share_a_room() {
    let room = Room::new(chunk(0, "blo").len() as u64);
    let mut policy = Policy {
        room: Some(room.clone()),
        ..policy(&["blocked"], Action::Mask)
    };
    let frames = [
        chunk(0, "a "),
        chunk(0, "blo"),
        chunk(0, "x"),
        chunk(0, "blo"),
    ];
    let body = || {
        let items = frames.iter().map(|frame| Item::Data(frame.clone().into()));
        Script::new(items)
    };
    let next = async |body: &mut std::pin::Pin<Box<ResponseBody<Script>>>| {
        let mut seen = Collected::default();
        tollgate_testing::body::next(body.as_mut(), &mut seen).await;
        seen
    };
    let (first, _) = answer(&policy, CHAT, &[SSE], body()).await.unwrap();
    let mut first = Box::pin(first.into_body());
    assert_eq!(next(&mut first).await.bytes(), frames[0]);
    assert_eq!(room.used(), 0);
    // The second event waits for the third.
    assert_eq!(next(&mut first).await.bytes(), frames[1]);
    assert_eq!(room.used(), 0);
    assert_eq!(next(&mut first).await.bytes(), frames[2]);
    let mut taken = room.take();
    assert!(taken.more(1));
    let refused = next(&mut first).await.error.expect("an error");
    assert_eq!(reason(&refused), Some(Reason::Overloaded));
    assert!(Rejection::find(&*refused).is_some_and(|it| it.layer() == "word_filter"));
    drop(first);
    assert_eq!(room.used(), 1);
    // Where what cannot be inspected passes, so does what cannot be held.
    policy.limits.passes = true;
    let (passed, _) = answer(&policy, CHAT, &[SSE], body()).await.unwrap();
    assert_eq!(collect(passed.into_body()).await.bytes(), frames.concat());
    assert_eq!(room.used(), 1);
}

/// The digest of these bytes, as the record would have it.
fn digest(bytes: &[u8]) -> u128 {
    xxhash_rust::xxh3::xxh3_128(bytes)
}

#[tokio::test]
async fn the_record_learns_what_had_come_where_something_else_goes() {
    let frames = [chunk(0, "a blo"), chunk(0, "cked"), DONE.to_vec()].concat();
    let body = || Script::data(&frames, &Split::Bytes(11));
    for (action, edited) in [(Action::Mask, true), (Action::Log, false)] {
        let (response, record) = answer(&policy(&["blocked"], action), CHAT, &[SSE], body())
            .await
            .unwrap();
        collect(response.into_body()).await;
        assert_eq!(record.upstream_digest(), edited.then(|| digest(&frames)));
    }
    // A client that leaves in the middle: what had come by then.
    let (response, record) = answer(&policy(&["a "], Action::Mask), CHAT, &[SSE], body())
        .await
        .unwrap();
    let mut body = Box::pin(response.into_body());
    let mut seen = Collected::default();
    tollgate_testing::body::next(body.as_mut(), &mut seen).await;
    drop(body);
    let first = chunk(0, "a blo").len().div_ceil(11) * 11;
    assert_eq!(record.upstream_digest(), Some(digest(&frames[..first])));
}

#[tokio::test]
async fn what_a_layer_inside_has_changed_is_told_as_it_had_come() {
    let frame = chunk(0, "a");
    let (response, record) = answer(
        &policy(&["nowhere"], Action::Mask),
        CHAT,
        &[SSE],
        Script::data(&frame, &Split::Whole),
    )
    .await
    .unwrap();
    record.set_edited_by("upstream");
    record.set_original("as it came".into());
    collect(response.into_body()).await;
    assert_eq!(record.upstream_digest(), Some(digest(b"as it came")));
}

#[tokio::test(start_paused = true)]
async fn each_ending_passes_once() {
    let on = policy(&["blocked"], Action::Mask);
    let off = policy(&[], Action::Mask);
    for (policy, kind) in [
        (&on, "text/event-stream"),
        (&off, "text/event-stream"),
        (&off, "application/json"),
    ] {
        passes_each_ending(|body| {
            let response = Response::builder().header("content-type", kind);
            let response = response.body(body).unwrap();
            let asked = Asked::of(policy, &Request::post(CHAT).body(()).unwrap());
            let inner = std::future::ready(Ok::<_, BoxError>(response));
            now(Answering::new(inner, asked)).unwrap().into_body()
        })
        .await;
    }
}

#[tokio::test]
async fn a_document_with_trailers_is_read_to_its_end() {
    let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "7".parse().unwrap())]);
    let body =
        Script::data(DOCUMENT.as_bytes(), &Split::Whole).then(Item::Trailers(trailers.clone()));
    let heard = Heard::default();
    let body = Guarded::new(body.hesitating(), heard.clone());
    let response = Response::builder()
        .header(JSON.0, JSON.1)
        .body(body)
        .unwrap();
    let asked = Asked::of(
        &policy(&["blocked"], Action::Mask),
        &Request::post(CHAT).body(()).unwrap(),
    );
    let inner = std::future::ready(Ok::<_, BoxError>(response));
    let response = Answering::new(inner, asked).await.unwrap();
    assert_eq!(heard.ends(), ["complete"]);
    let seen = collect(response.into_body()).await;
    assert_eq!(
        (seen.text(), seen.trailers),
        (DOCUMENT.replace("blocked", "***"), Some(trailers))
    );
}
