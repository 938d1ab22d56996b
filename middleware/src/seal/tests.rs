mod alive;
mod breaks;

use std::{
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tollgate_testing::{
    body::{Collected, Fault, Item, Polls, Script, collect},
    laws::{self, Outcome},
    splits::Split,
};
use tower::{Layer, Service, service_fn};

use super::{ResponseBody, SealLayer};
use crate::{
    body::heard::{now, passes_each_ending},
    clock::{Clock, SystemClock},
    conn::{Conn, Cut},
    error::{BoxError, Reason, Rejection},
    record::{Ended, Record},
};

/// One answer and what the client said of itself.
struct Case {
    path: &'static str,
    kind: &'static str,
    length: Option<u64>,
    version: Version,
    coding: Option<&'static str>,
    conn: Option<Conn>,
    record: Option<Record>,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            path: "/v1/chat/completions",
            kind: "text/event-stream",
            length: None,
            version: Version::HTTP_11,
            coding: None,
            conn: None,
            record: None,
        }
    }
}

type Breaking = http_body_util::combinators::MapErr<Script, fn(BoxError) -> BoxError>;

type Sealed = std::pin::Pin<Box<ResponseBody<Breaking, SystemClock>>>;

fn truncated(_: BoxError) -> BoxError {
    Rejection::new(Reason::Truncated, "upstream", "secret cause").into()
}

fn silent(error: BoxError) -> BoxError {
    error.downcast::<Fault>().expect("the scripted one");
    let told = Rejection::new(Reason::Truncated, "upstream", "it was told");
    told.silent().into()
}

impl Case {
    fn request(&self) -> Request<()> {
        let mut req = Request::post(self.path)
            .version(self.version)
            .body(())
            .unwrap();
        if let Some(conn) = &self.conn {
            req.extensions_mut().insert(conn.clone());
        }
        if let Some(record) = &self.record {
            req.extensions_mut().insert(record.clone());
        }
        req
    }

    /// The sealed body of an answer that ends as the script says.
    fn seal(&self, script: Script, error: fn(BoxError) -> BoxError) -> Sealed {
        let mut response = Response::builder().header("content-type", self.kind);
        if let Some(length) = self.length {
            response = response.header("content-length", length);
        }
        if let Some(coding) = self.coding {
            response = response.header("content-encoding", coding);
        }
        let mut response = Some(response.body(script.map_err(error)).unwrap());
        let mut service = SealLayer::new().layer(service_fn(move |_: Request<()>| {
            std::future::ready(Ok::<_, BoxError>(response.take().expect("called once")))
        }));
        Box::pin(now(service.call(self.request())).unwrap().into_body())
    }

    /// All that the client gets of `text` and a failure behind it.
    async fn cut(&self, text: &str) -> Collected {
        let script = Script::data(text.as_bytes(), &Split::Whole).then(Item::Error);
        collect(self.seal(script, truncated)).await
    }

    /// What was added behind `text`.
    async fn added(&self, text: &str) -> String {
        let seen = self.cut(text).await;
        let error = seen.error.as_deref().expect("it must be broken");
        assert_eq!(Rejection::find(error).unwrap().reason(), Reason::Truncated);
        let all = String::from_utf8(seen.frames.concat()).unwrap();
        all.strip_prefix(text)
            .expect("what came is passed on")
            .to_owned()
    }
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn poll(body: &mut Sealed) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
    body.as_mut().poll_frame(&mut cx())
}

fn record(path: &str) -> Record {
    let req = Request::post(path).body(()).unwrap();
    let head = (req.method(), req.uri(), req.headers());
    Record::new(
        http::HeaderValue::from_static("id-1"),
        head,
        SystemClock.now(),
        SystemTime::UNIX_EPOCH,
    )
}

// ===== laws =====

#[tokio::test(start_paused = true)]
async fn answers_that_end_well_and_requests_pass_untouched() {
    // The law's failing bodies end with the scripted error inside of an event stream, which is where an event is added:
    // they are judged below.
    let cases = laws::cases();
    let well = cases
        .into_iter()
        .filter(|case| !case.name.starts_with("errors"));
    laws::transparent(&SealLayer::new(), well).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_no_stream_passes_untouched_also_when_it_fails() {
    let documents = laws::cases().into_iter().map(|mut case| {
        let headers = case.response.headers_mut();
        headers.insert("content-type", "application/json".parse().unwrap());
        case
    });
    laws::transparent(&SealLayer::new(), documents).await;
}

#[tokio::test(start_paused = true)]
async fn it_is_ready_when_the_inner_service_is() {
    laws::ready(&SealLayer::new()).await;
}

/// Where it has nothing to say: what it adds before a failure, and when, the tests of breaks show.
#[tokio::test(start_paused = true)]
async fn each_ending_passes_once() {
    passes_each_ending(|body| {
        let mut response = Some(Response::new(body));
        let mut service = SealLayer::new().layer(service_fn(move |_: Request<()>| {
            std::future::ready(Ok::<_, BoxError>(response.take().expect("called once")))
        }));
        now(service.call(Request::new(()))).unwrap().into_body()
    })
    .await;
}

#[test]
fn its_types_can_cross_threads() {
    laws::types::<SealLayer>();
}

#[tokio::test(start_paused = true)]
async fn it_needs_no_facts() {
    let passed = |outcome: &Outcome| match outcome {
        Outcome::Answered(response, _) => response.body().whole(),
        Outcome::Refused(_) => false,
    };
    laws::absent_facts(&SealLayer::new(), passed).await;
}

// ===== what is added =====

#[tokio::test(start_paused = true)]
async fn at_a_boundary_one_error_event_is_added_in_each_dialect() {
    let whole = "data: {}\n\n";
    for (path, begin) in [
        (
            "/v1/chat/completions",
            "data: {\"error\":{\"message\":\"tollgate: ",
        ),
        (
            "/v1/responses",
            "event: response.failed\ndata: {\"type\":\"response.failed\"",
        ),
        (
            "/v1/messages",
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\"",
        ),
        (
            "/v1beta/models/g:streamGenerateContent",
            "data: {\"error\":{\"code\":502",
        ),
        ("/v2/chat", "data: {\"error\":{\"message\":\"tollgate: "),
    ] {
        let case = Case {
            path,
            ..Case::default()
        };
        let added = case.added(whole).await;
        assert!(
            added.starts_with(begin) && added.ends_with("\n\n"),
            "{path}: {added}"
        );
        assert_eq!(added.matches("\n\n").count(), 1, "one event");
        assert!(!added.contains("secret cause"));
        // The same by the record, which a path of somebody else's cannot overrule.
        let case = Case {
            path: "/elsewhere",
            record: Some(record(path)),
            ..Case::default()
        };
        assert_eq!(case.added(whole).await, added);
    }
    let lines = Case {
        path: "/api/chat",
        kind: "application/x-ndjson",
        ..Case::default()
    };
    let added = lines.added("{\"done\":false}\n").await;
    assert!(added.starts_with("{\"error\":\"tollgate: ") && added.ends_with("}\n"));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_failed_before_its_first_byte_is_told_so() {
    assert!(
        Case::default()
            .added("")
            .await
            .starts_with("data: {\"error\"")
    );
}

#[tokio::test(start_paused = true)]
async fn inside_an_event_or_a_line_nothing_is_added() {
    for text in [
        "data: {}",
        "data: {}\n",
        "event: x\ndata: 1\n",
        "data: {}\n\ndata",
    ] {
        assert_eq!(Case::default().added(text).await, "", "{text:?}");
    }
    let lines = Case {
        path: "/api/chat",
        kind: "application/x-ndjson",
        ..Case::default()
    };
    assert_eq!(lines.added("{\"done\":false}").await, "");
}

#[tokio::test(start_paused = true)]
async fn where_no_event_can_stand_nothing_is_added() {
    let html = "<html><body>502</body></html>\n\n";
    assert_eq!(Case::default().added(html).await, "", "a label can lie");
    for (path, kind, coding) in [
        ("/v1/chat/completions", "application/json", None),
        ("/v1/chat/completions", "text/event-stream", Some("gzip")),
        ("/elsewhere", "text/event-stream", None),
        (
            "/v1beta/models/g:streamGenerateContent",
            "application/json",
            None,
        ),
        (
            "/model/m/converse-stream",
            "application/vnd.amazon.eventstream",
            None,
        ),
    ] {
        let case = Case {
            path,
            kind,
            coding,
            ..Case::default()
        };
        assert_eq!(case.added("data: {}\n\n").await, "", "{path} {kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_announced_length_keeps_a_byte_unsent_behind_the_event() {
    let text = "data: {}\n\n";
    let event = Case::default().added(text).await.len() as u64;
    let begun = text.len() as u64;
    for (left, told) in [
        (event + 1, true),
        (event, false),
        (event - 1, false),
        (1, false),
    ] {
        let case = Case {
            length: Some(begun + left),
            ..Case::default()
        };
        assert_eq!(
            !case.added(text).await.is_empty(),
            told,
            "{left} bytes left"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_told_its_error_gets_no_second_one() {
    let script = Script::data(b"data: {}\n\n", &Split::Whole).then(Item::Error);
    let seen = collect(Case::default().seal(script, silent)).await;
    assert_eq!(seen.text(), "data: {}\n\n");
    assert!(seen.error.is_some());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_added_where_the_stream_has_told_its_ending() {
    for ended in [Ended::UpstreamError, Ended::Complete] {
        let told = record("/v1/chat/completions");
        told.set_ended(ended);
        let case = Case {
            record: Some(told.clone()),
            ..Case::default()
        };
        assert_eq!(case.added("data: {}\n\n").await, "");
        assert_eq!(told.ended(), Some(ended));
    }
}

#[tokio::test(start_paused = true)]
async fn why_it_broke_is_known_before_the_client_has_been_told() {
    let told = record("/v1/chat/completions");
    let case = Case {
        record: Some(told.clone()),
        ..Case::default()
    };
    let script = Script::data(b"data: {}\n\n", &Split::Whole).then(Item::Error);
    let mut body = case.seal(script, truncated);
    for _ in 0..2 {
        assert!(matches!(poll(&mut body), Poll::Ready(Some(Ok(_)))));
    }
    drop(body);
    assert_eq!(told.broke(), Some(Reason::Truncated));
}

#[tokio::test(start_paused = true)]
async fn the_record_hears_of_an_added_event_and_of_nothing_else() {
    let told = record("/v1/messages");
    let case = Case {
        record: Some(told.clone()),
        ..Case::default()
    };
    case.added("data: {").await;
    assert!(!told.is_edited());
    case.added("data: {}\n\n").await;
    assert_eq!(told.edited_by(), ["seal"]);
}

#[tokio::test(start_paused = true)]
async fn an_error_that_nobody_explained_is_told_as_ours() {
    let script = Script::data(b"data: {}\n\n", &Split::Whole).then(Item::Error);
    let seen = collect(Case::default().seal(script, |error| error)).await;
    assert!(
        seen.text().contains("\"code\":\"internal\""),
        "{}",
        seen.text()
    );
    assert!(!seen.text().contains("scripted"));
    assert!(seen.error.unwrap().is::<Fault>());
}

// ===== the flush =====

/// A sealed body over an open connection, up to its failure: what came first, and how the inner body fares.
fn failing(conn: &Conn) -> (Sealed, Polls) {
    let script = Script::data(b"data: {}\n\n", &Split::Whole).then(Item::Error);
    let polls = script.polls();
    let case = Case {
        conn: Some(conn.clone()),
        ..Case::default()
    };
    let mut body = case.seal(script, truncated);
    for begin in ["data: {}", "data: {\"error\""] {
        let Poll::Ready(Some(Ok(frame))) = poll(&mut body) else {
            panic!("no frame {begin}");
        };
        assert!(frame.into_data().unwrap().starts_with(begin.as_bytes()));
    }
    (body, polls)
}

#[tokio::test(start_paused = true)]
async fn the_failure_waits_for_the_flush_and_the_inner_body_does_not() {
    let conn = Conn::new();
    conn.flushed();
    let (mut body, polls) = failing(&conn);
    assert!(polls.dropped(), "what it holds is given back at once");
    assert!(!body.is_end_stream());
    assert!(poll(&mut body).is_pending());
    assert!(poll(&mut body).is_pending());
    conn.flushed();
    assert!(matches!(poll(&mut body), Poll::Ready(Some(Err(_)))));
    assert!(matches!(poll(&mut body), Poll::Ready(None)) && body.is_end_stream());
    assert!(!conn.asked_to_reset());
}

#[tokio::test(start_paused = true)]
async fn the_flush_wakes_the_body_that_waits_for_it() {
    let conn = Conn::new();
    let (mut body, _) = failing(&conn);
    let start = SystemClock.now();
    let (frame, ()) = tokio::join!(body.frame(), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        conn.flushed();
    });
    assert!(frame.unwrap().is_err());
    assert_eq!(SystemClock.now() - start, Duration::from_millis(300));
}

#[tokio::test(start_paused = true)]
async fn a_flush_that_never_comes_is_waited_for_a_second() {
    let (mut body, _) = failing(&Conn::new());
    let start = SystemClock.now();
    assert!(body.frame().await.unwrap().is_err());
    assert_eq!(SystemClock.now() - start, Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn without_a_connection_the_failure_waits_one_turn() {
    let script = Script::data(b"data: {", &Split::Whole).then(Item::Error);
    let mut body = Case::default().seal(script, truncated);
    assert!(poll(&mut body).is_ready());
    assert!(poll(&mut body).is_pending());
    assert!(matches!(poll(&mut body), Poll::Ready(Some(Err(_)))));
}
