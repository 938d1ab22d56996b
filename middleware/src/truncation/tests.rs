use std::time::SystemTime;

use http::{HeaderMap, Method, Request, Response};
use tollgate_testing::{
    body::{BoxError, Collected, Item, Script, collect, collect_by_hint},
    laws::{self, Outcome},
    recordings,
    splits::Split,
};
use tower::{Layer, ServiceExt, service_fn};

use super::TruncationLayer;
use crate::{
    body::heard::{now, passes_each_ending},
    clock::{Clock, SystemClock},
    dialect::{self, Recognised},
    error::{Reason, Rejection},
    facts::Intent,
    json,
    record::{Ended, Record},
};

const CHAT: &str = "/v1/chat/completions";
const BEGUN: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
const FINISHED: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";
const FAILED: &str = "data: {\"error\":{\"message\":\"overloaded\"}}\n\n";

/// One answer to a streamed request.
struct Case {
    path: &'static str,
    body: &'static str,
    kind: &'static str,
    layer: TruncationLayer,
    record: Record,
}

impl Default for Case {
    fn default() -> Self {
        let head = (&Method::POST, &CHAT.parse().unwrap(), &HeaderMap::new());
        Self {
            path: CHAT,
            body: r#"{"stream":true}"#,
            kind: "text/event-stream",
            layer: TruncationLayer::new(),
            record: Record::new(
                http::HeaderValue::from_static("id"),
                head,
                SystemClock.now(),
                SystemTime::UNIX_EPOCH,
            ),
        }
    }
}

impl Case {
    /// The body behind the layer.
    async fn watched(&self, script: Script) -> super::ResponseBody<Script> {
        let mut req = Request::post(self.path).body(()).unwrap();
        req.extensions_mut().insert(self.record.clone());
        if let Some(intent) = intent(self.path, self.body) {
            req.extensions_mut().insert(intent);
        }
        let response = Response::builder().header("content-type", self.kind);
        let mut response = Some(response.body(script).unwrap());
        let inner = service_fn(move |_: Request<()>| {
            std::future::ready(Ok::<_, BoxError>(response.take().expect("called once")))
        });
        self.layer
            .layer(inner)
            .oneshot(req)
            .await
            .unwrap()
            .into_body()
    }

    /// An answer of these texts whose transport ends cleanly.
    async fn clean(&self, texts: &[&str]) -> Collected {
        collect(self.watched(script(texts)).await).await
    }

    /// An answer of these texts whose transport breaks.
    async fn broken(&self, texts: &[&str]) -> Collected {
        collect(self.watched(script(texts).then(Item::Error)).await).await
    }
}

fn script(texts: &[&str]) -> Script {
    Script::data(texts.concat().as_bytes(), &Split::Bytes(11))
}

fn intent(path: &str, body: &str) -> Option<Intent> {
    let path = path.split('?').next().unwrap();
    let Recognised::Surface(surface) =
        dialect::recognise(&Method::POST, path, None, &HeaderMap::new())
    else {
        return None;
    };
    let root = json::check(body.as_bytes(), &json::Limits::default()).ok()?;
    let asked = dialect::read(&surface, root).ok()?;
    Some(Intent::new(surface, None, asked, root.span()))
}

#[track_caller]
fn is_truncated(seen: &Collected) -> &Rejection {
    let error = seen.error.as_deref().expect("it must be broken");
    let found = Rejection::find(error).expect("a rejection");
    assert_eq!(
        (found.reason(), found.layer()),
        (Reason::Truncated, "upstream")
    );
    found
}

// ===== laws =====

#[tokio::test(start_paused = true)]
async fn complete_streams_and_failures_pass_untouched() {
    // The law's bodies end with `[DONE]`. Those that fail behind it are complete for this layer, which is no glass there.
    let cases = laws::cases().into_iter().map(|mut case| {
        if case.name.starts_with("errors") {
            let headers = case.response.headers_mut();
            headers.insert("content-type", "application/octet-stream".parse().unwrap());
        }
        if case.name == "no bodies" {
            case.response.headers_mut().remove("content-type");
        }
        case
    });
    laws::transparent(&TruncationLayer::new(), cases).await;
}

#[tokio::test(start_paused = true)]
async fn it_is_ready_when_the_inner_service_is() {
    laws::ready(&TruncationLayer::new()).await;
}

/// Judged, and as one document: where a stream is cut the ending is another one, as the tests below show.
#[tokio::test(start_paused = true)]
async fn each_ending_passes_once() {
    for kind in ["text/event-stream", "application/json"] {
        passes_each_ending(|body| {
            let response = Response::builder().header("content-type", kind);
            let mut response = Some(response.body(body).unwrap());
            let inner = service_fn(move |_: Request<()>| {
                std::future::ready(Ok::<_, BoxError>(response.take().expect("called once")))
            });
            let mut req = Request::post(CHAT).body(()).unwrap();
            let stream = kind != "application/json";
            let body = format!("{{\"stream\":{stream}}}");
            req.extensions_mut().insert(intent(CHAT, &body).unwrap());
            let layer = TruncationLayer::new().transport_marks(true);
            now(layer.layer(inner).oneshot(req)).unwrap().into_body()
        })
        .await;
    }
}

#[test]
fn its_types_can_cross_threads() {
    laws::types::<TruncationLayer>();
}

#[tokio::test(start_paused = true)]
async fn without_facts_the_head_tells_the_dialect() {
    let whole =
        |outcome: &Outcome| matches!(outcome, Outcome::Answered(it, _) if it.body().whole());
    laws::absent_facts(&TruncationLayer::new(), whole).await;
    // The same cut: it is noticed without an intent and without a record.
    let inner = service_fn(async |_: Request<()>| {
        let response = Response::builder().header("content-type", "text/event-stream");
        Ok::<_, BoxError>(response.body(script(&[BEGUN])).unwrap())
    });
    let req = Request::post(CHAT).body(()).unwrap();
    let response = TruncationLayer::new()
        .layer(inner)
        .oneshot(req)
        .await
        .unwrap();
    is_truncated(&collect(response.into_body()).await);
}

// ===== the table =====

#[tokio::test]
async fn a_terminal_mark_makes_it_complete_however_the_transport_ends() {
    let case = Case::default();
    for seen in [
        case.clean(&[BEGUN, DONE]).await,
        case.broken(&[BEGUN, DONE]).await,
    ] {
        assert!(seen.whole());
        assert_eq!(seen.text(), [BEGUN, DONE].concat());
    }
    assert_eq!(case.record.ended(), Some(Ended::Complete));
}

#[tokio::test]
async fn what_finished_in_other_words_is_complete_only_with_a_clean_end() {
    let case = Case::default();
    assert!(case.clean(&[BEGUN, FINISHED]).await.whole());
    let broken = case.broken(&[BEGUN, FINISHED]).await;
    assert!(broken.error.unwrap().is::<tollgate_testing::body::Fault>());
}

#[tokio::test]
async fn every_choice_that_was_seen_must_have_finished() {
    let two = Case {
        body: r#"{"stream":true,"n":2}"#,
        ..Case::default()
    };
    let other = |event: &str| event.replace("\"index\":0", "\"index\":1");
    let (begun, finished) = (other(BEGUN), other(FINISHED));
    is_truncated(&two.clean(&[BEGUN, &begun, FINISHED]).await);
    let both = two.clean(&[BEGUN, &begun, FINISHED, &finished]).await;
    assert!(both.whole());
}

#[tokio::test]
async fn the_providers_own_error_is_passed_on_and_gets_no_second_one() {
    let case = Case::default();
    let clean = case.clean(&[BEGUN, FAILED]).await;
    assert!(clean.whole());
    assert_eq!(clean.text(), [BEGUN, FAILED].concat());
    assert_eq!(case.record.ended(), Some(Ended::UpstreamError));

    let case = Case::default();
    assert!(is_truncated(&case.broken(&[BEGUN, FAILED]).await).is_silent());
    assert_eq!(case.record.ended(), Some(Ended::UpstreamError));
}

#[tokio::test]
async fn an_error_is_told_to_the_record_when_it_passes() {
    let case = Case::default();
    let text = [BEGUN, FAILED].concat();
    let script = Script::data(text.as_bytes(), &Split::Whole).then(Item::Pending);
    let mut body = Box::pin(case.watched(script).await);
    http_body_util::BodyExt::frame(&mut body)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(case.record.ended(), Some(Ended::UpstreamError));
}

#[tokio::test]
async fn neither_is_broken() {
    let case = Case::default();
    for texts in [&[][..], &[BEGUN], &[BEGUN, "data: {"], &[": ping\n\n"]] {
        let seen = case.clean(texts).await;
        assert!(!is_truncated(&seen).is_silent());
        assert_eq!(seen.text(), texts.concat());
    }
    let broken = case.broken(&[BEGUN]).await;
    assert!(
        broken.error.unwrap().is::<tollgate_testing::body::Fault>(),
        "as it was"
    );
}

// ===== lengths and hints =====

#[tokio::test]
async fn an_incomplete_stream_of_the_announced_length_keeps_its_last_byte_and_is_broken() {
    for (texts, ended) in [
        (&[BEGUN, DONE][..], Ended::Complete),
        (&[BEGUN, FAILED], Ended::UpstreamError),
    ] {
        let case = Case::default();
        let body = case.watched(script(texts).exact().hinting()).await;
        let seen = collect_by_hint(body).await;
        assert!(seen.whole() && seen.hints.last().unwrap().end);
        assert_eq!(seen.text(), texts.concat());
        assert_eq!(case.record.ended(), Some(ended));
    }
    for split in [Split::Whole, Split::Bytes(1), Split::Bytes(7)] {
        let cut = Script::data(BEGUN.as_bytes(), &split).exact().hinting();
        let seen = collect_by_hint(Case::default().watched(cut).await).await;
        is_truncated(&seen);
        assert_eq!(seen.text(), BEGUN[..BEGUN.len() - 1]);
    }
}

#[tokio::test]
async fn a_stream_that_is_announced_as_empty_is_recorded_as_incomplete() {
    let case = Case::default();
    let body = case.watched(Script::empty().exact().hinting()).await;
    assert!(http_body::Body::is_end_stream(&body));
    assert_eq!(case.record.ended(), Some(Ended::UpstreamTruncated));
}

#[tokio::test]
async fn an_incomplete_stream_that_only_hints_at_its_end_is_broken() {
    let case = Case::default();
    let body = case.watched(script(&[BEGUN]).hinting()).await;
    let seen = collect_by_hint(body).await;
    is_truncated(&seen);
    assert_eq!(seen.text(), BEGUN);
    let body = case.watched(script(&[BEGUN, DONE]).hinting()).await;
    assert!(collect_by_hint(body).await.whole());
}

// ===== what is not judged =====

#[tokio::test]
async fn what_is_no_stream_ends_as_its_transport_says() {
    let document = Case {
        body: "{}",
        kind: "application/json",
        ..Case::default()
    };
    assert!(document.clean(&["{\"a\":"]).await.whole());
    let labelled = Case {
        kind: "application/json",
        ..Case::default()
    };
    assert!(
        labelled.clean(&["{\"a\":"]).await.whole(),
        "a document after all"
    );
    is_truncated(&labelled.clean(&[BEGUN]).await);
    let opaque = Case {
        kind: "text/html",
        ..Case::default()
    };
    assert!(opaque.clean(&["<html>"]).await.whole());
    let transport = TruncationLayer::new().transport_marks(true);
    let unmarked = Case {
        layer: transport,
        ..Case::default()
    };
    assert!(unmarked.clean(&[BEGUN]).await.whole());
    assert!(!unmarked.broken(&[BEGUN]).await.whole());
}

#[tokio::test]
async fn a_compressed_stream_ends_as_its_transport_says() {
    let inner = service_fn(async |_: Request<()>| {
        let response = Response::builder()
            .header("content-type", "text/event-stream")
            .header("content-encoding", "br");
        Ok::<_, BoxError>(response.body(script(&[BEGUN])).unwrap())
    });
    let req = Request::post(CHAT).body(()).unwrap();
    let response = TruncationLayer::new()
        .layer(inner)
        .oneshot(req)
        .await
        .unwrap();
    assert!(collect(response.into_body()).await.whole());
}

// ===== recordings =====

/// The places behind each event: where a blank line ends.
fn events(body: &[u8]) -> Vec<usize> {
    let mut scanner = crate::sse::Scanner::new(crate::sse::CAP);
    let mut ends = Vec::new();
    for (at, byte) in body.iter().enumerate() {
        scanner.feed(std::slice::from_ref(byte), |_| ends.push(at + 1));
    }
    ends
}

#[tokio::test]
async fn recorded_streams_are_whole_and_cut_before_their_first_output_they_are_not() {
    let mut judged = 0;
    for recording in recordings::all() {
        let streamed = recording.stream && recording.format == "sse" && recording.status == 200;
        if !streamed || recording.unmarked || !recording.known {
            continue;
        }
        let request = String::from_utf8_lossy(&recording.request).into_owned();
        let case = Case {
            path: recording.asked.split('?').next().unwrap().to_owned().leak(),
            body: request.leak(),
            ..Case::default()
        };
        let name = &recording.name;
        let whole = collect(
            case.watched(Script::data(&recording.body, &Split::Whole))
                .await,
        )
        .await;
        assert!(whole.whole(), "{name}");
        assert_eq!(whole.bytes(), recording.body, "{name}");
        // Up to the first output nothing can have finished.
        let first = recording.expected["first_content_index"]
            .as_u64()
            .unwrap_or(0);
        let errors = !recording.expected["error"].is_null();
        for end in events(&recording.body)
            .into_iter()
            .take(usize::try_from(first).unwrap())
        {
            let cut = Script::data(&recording.body[..end], &Split::Bytes(100));
            let seen = collect(case.watched(cut).await).await;
            assert!(errors || !seen.whole(), "{name} cut at {end} ended well");
            judged += 1;
        }
    }
    assert!(judged > 10, "only {judged} cuts");
}

/// A marker that only the last event carries: every cut before it must be noticed.
#[tokio::test]
async fn a_recorded_stream_cut_at_any_event_before_its_mark_is_broken() {
    for (name, path, complete) in [
        ("anthropic/stream-text-ping-padding", "/v1/messages", 1),
        ("cohere/v2-chat-stream", "/v2/chat", 2),
    ] {
        let recording = recordings::named(name);
        let case = Case {
            path,
            ..Case::default()
        };
        let ends = events(&recording.body);
        for (at, end) in ends.iter().enumerate() {
            let cut = Script::data(&recording.body[..*end], &Split::Bytes(100));
            let whole = collect(case.watched(cut).await).await.whole();
            assert_eq!(whole, at + complete >= ends.len(), "{name}, event {at}");
        }
    }
}
