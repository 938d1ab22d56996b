//! Keep-alive frames: when, where, and what they are told as.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tollgate_testing::laws::{self, Outcome};
use tower::{Layer, Service, service_fn};

use super::{Case, record};
use crate::{
    body::heard::now,
    clock::{Clock, SystemClock},
    error::{BoxError, Reason, Rejection},
    record::{Ended, Record},
    seal::SealLayer,
};

const EVERY: Duration = Duration::from_secs(15);
const EVENT: &str = "data: {\"a\":1}\n\n";
const PING: &str = "event: ping\ndata: {\"type\":\"ping\"}\n\n";

/// A body whose frames come at these seconds, and which then ends or fails.
struct Timed {
    frames: VecDeque<(Instant, &'static str)>,
    timer: Pin<Box<tokio::time::Sleep>>,
    fails: bool,
}

impl Timed {
    fn new(frames: &[(u64, &'static str)]) -> Self {
        let start = SystemClock.now();
        let at = |(at, text): &(u64, _)| (start + Duration::from_secs(*at), *text);
        Self {
            frames: frames.iter().map(at).collect(),
            timer: Box::pin(SystemClock.sleep_until(start)),
            fails: false,
        }
    }
}

impl Body for Timed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some((at, text)) = self.frames.front().copied() else {
            let cut = || Rejection::new(Reason::Truncated, "upstream", "cut").into();
            return Poll::Ready(self.fails.then(|| Err(cut())));
        };
        self.timer.as_mut().reset(at.into());
        std::task::ready!(self.timer.as_mut().poll(cx));
        self.frames.pop_front();
        // An empty text is the end.
        Poll::Ready(
            (!text.is_empty()).then(|| Ok(Frame::data(Bytes::from_static(text.as_bytes())))),
        )
    }
}

/// What the client gets, each frame with the second at which it comes.
async fn seen(case: &Case, body: Timed) -> Vec<(u64, String)> {
    let mut response = Response::builder().header("content-type", case.kind);
    if let Some(length) = case.length {
        response = response.header("content-length", length);
    }
    let mut response = Some(response.body(body).unwrap());
    let layer = SealLayer::new().keepalive(Some(EVERY));
    let mut service = layer.layer(service_fn(move |_| {
        std::future::ready(Ok::<_, BoxError>(response.take().expect("called once")))
    }));
    let start = SystemClock.now();
    let mut body = Box::pin(now(service.call(case.request())).unwrap().into_body());
    let mut all = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let text = frame.into_data().unwrap();
        let text = String::from_utf8(text.to_vec()).unwrap();
        all.push(((SystemClock.now() - start).as_secs(), text));
    }
    all
}

fn frames(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
    let all = expected.iter();
    all.map(|(at, text)| (*at, (*text).to_owned())).collect()
}

#[tokio::test(start_paused = true)]
async fn keeps_the_laws_with_it() {
    let layer = SealLayer::new().keepalive(Some(EVERY));
    // Failing streams get an error event, with frames or without.
    let well = laws::cases()
        .into_iter()
        .filter(|case| !case.name.starts_with("errors"));
    laws::transparent(&layer, well).await;
    laws::ready(&layer).await;
    laws::absent_facts(&layer, |outcome| matches!(outcome, Outcome::Answered(..))).await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_gets_the_frame_of_its_dialect_and_no_other_does() {
    for (path, frame) in [
        ("/v1/chat/completions", ": \n"),
        ("/v1/responses", ": \n"),
        ("/v1/messages", PING),
        ("/v1beta/models/m:streamGenerateContent", "\n"),
        ("/v2/chat", ""),
        ("/unknown", ""),
    ] {
        let case = Case {
            path,
            ..Case::default()
        };
        let body = Timed::new(&[(3, EVENT), (40, EVENT), (54, EVENT), (60, "")]);
        let mut expected = frames(&[
            (3, EVENT),
            (18, frame),
            (33, frame),
            (40, EVENT),
            (54, EVENT),
        ]);
        expected.retain(|(_, text)| !text.is_empty());
        assert_eq!(seen(&case, body).await, expected, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_without_events_is_silence_too() {
    let body = Timed::new(&[(31, EVENT), (32, "")]);
    let expected = frames(&[(15, ": \n"), (30, ": \n"), (31, EVENT)]);
    assert_eq!(seen(&Case::default(), body).await, expected);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_put_into_an_event() {
    for (first, rest) in [
        ("data: {\"a\"", ":1}\n\n"),
        ("data: {\"a\":1}\n", "\n"),
        ("data: {\"a\":1}", "\n\n"),
        ("id: 7\n", "data: x\n\n"),
        // The line feed of the last line may be still to come.
        ("data: {\"a\":1}\r\n\r", "\n"),
    ] {
        let body = Timed::new(&[(1, first), (90, rest), (110, EVENT), (111, "")]);
        let expected = frames(&[(1, first), (90, rest), (105, ": \n"), (110, EVENT)]);
        assert_eq!(seen(&Case::default(), body).await, expected, "{first:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_event_stream_or_has_a_length_gets_nothing() {
    let body = || Timed::new(&[(1, EVENT), (90, EVENT), (91, "")]);
    let expected = frames(&[(1, EVENT), (90, EVENT)]);
    for case in [
        Case {
            kind: "application/json",
            ..Case::default()
        },
        Case {
            kind: "application/x-ndjson",
            path: "/api/chat",
            ..Case::default()
        },
        Case {
            length: Some(30),
            ..Case::default()
        },
    ] {
        assert_eq!(
            seen(&case, body()).await,
            expected,
            "{} {:?}",
            case.kind,
            case.length
        );
    }
    // A label that lies.
    let page = Timed::new(&[(1, "<html>\n\n"), (90, "</html>\n"), (91, "")]);
    let expected = frames(&[(1, "<html>\n\n"), (90, "</html>\n")]);
    assert_eq!(seen(&Case::default(), page).await, expected);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_put_behind_the_end_of_a_stream_or_for_a_client_that_has_left() {
    let over = |tell: fn(&Record)| async move {
        let record = record("/v1/chat/completions");
        tell(&record);
        let case = Case {
            record: Some(record),
            ..Case::default()
        };
        let body = Timed::new(&[(1, EVENT), (90, EVENT), (91, "")]);
        seen(&case, body).await.len()
    };
    assert_eq!(over(|_| {}).await, 7);
    assert_eq!(over(|record| record.set_ended(Ended::Complete)).await, 2);
    assert_eq!(
        over(|record| record.set_ended(Ended::UpstreamError)).await,
        2
    );
    assert_eq!(over(Record::set_gone).await, 2);
}

/// The frames are an edit; what the provider sent is known for all that.
#[tokio::test(start_paused = true)]
async fn a_frame_is_told_as_an_edit_and_all_others_as_the_provider_s() {
    let record = record("/v1/chat/completions");
    let case = Case {
        record: Some(record.clone()),
        ..Case::default()
    };
    let body = Timed::new(&[(1, EVENT), (17, EVENT), (18, EVENT), (19, "")]);
    let mut response = Some(
        Response::builder()
            .header("content-type", case.kind)
            .body(body)
            .unwrap(),
    );
    let layer = SealLayer::new().keepalive(Some(EVERY));
    let mut service = layer.layer(service_fn(move |_| {
        std::future::ready(Ok::<_, BoxError>(response.take().expect("called once")))
    }));
    let mut body = Box::pin(now(service.call(case.request())).unwrap().into_body());
    let mut told = Vec::new();
    while let Some(Ok(_)) = body.frame().await {
        told.push((
            record.is_edited(),
            record.take_original().map(|it| it == EVENT),
        ));
    }
    assert_eq!(
        told,
        [
            (false, None),
            (true, None),
            (true, Some(true)),
            (true, Some(true))
        ]
    );
    assert_eq!(record.edited_by(), ["seal"]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_after_a_frame_still_gets_its_error_event() {
    for path in [
        "/v1/chat/completions",
        "/v1/messages",
        "/v1beta/models/m:streamGenerateContent",
    ] {
        let case = Case {
            path,
            ..Case::default()
        };
        let mut body = Timed::new(&[(1, EVENT), (20, EVENT), (36, EVENT)]);
        body.fails = true;
        let seen = seen(&case, body).await;
        assert_eq!(seen.len(), 6, "{path}: {seen:?}");
        assert!(seen[5].1.contains("error"), "{path}: {seen:?}");
    }
}
