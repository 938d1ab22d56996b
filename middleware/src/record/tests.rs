use std::{
    convert::Infallible,
    future::{Pending, Ready},
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};

use http::{Request, Response};
use http_body_util::BodyExt;
use tollgate_testing::{
    body::{Item, Script, collect},
    laws::{self, Inner, Outcome},
    splits::Split,
};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::*;
use crate::{
    clock::{Clock, SystemClock},
    conn::{Conn, Cut},
    error::{BoxError, Reason, Rejection},
};

/// Keeps every record that was told to be over.
#[derive(Clone, Debug, Default)]
struct Seen(Arc<Mutex<(usize, Vec<Record>)>>);

impl Seen {
    fn records(&self) -> Vec<Record> {
        self.0.lock().unwrap().1.clone()
    }

    fn one(&self) -> Record {
        let records = self.records();
        assert_eq!(records.len(), 1, "told once");
        records.into_iter().next().unwrap()
    }
}

impl Sink for Seen {
    fn began(&self) {
        self.0.lock().unwrap().0 += 1;
    }

    fn ended(&self, record: &Record) {
        self.0.lock().unwrap().1.push(record.clone());
    }
}

/// Wall time that stands still at a known second; monotonic time is the runtime's.
#[derive(Clone, Copy, Debug)]
struct Still;

impl Clock for Still {
    type Sleep = tokio::time::Sleep;

    fn now(&self) -> Instant {
        SystemClock.now()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(0x0123_4567_89ab)
    }

    fn sleep_until(&self, at: Instant) -> Self::Sleep {
        SystemClock.sleep_until(at)
    }
}

fn asked() -> Request<Script> {
    Request::post("/v1/chat/completions")
        .body(Script::data(b"0123456789", &Split::Bytes(4)))
        .unwrap()
}

/// Answers everything with this body, having read the request.
async fn answer(
    seen: &Seen,
    req: Request<Script>,
    response: Response<Script>,
) -> Response<ResponseBody<Script, Seen, SystemClock>> {
    let service = RecordLayer::new(seen.clone()).layer(Inner::<Infallible>::answering(response));
    service
        .oneshot(req)
        .await
        .unwrap_or_else(|never| match never {})
}

// ===== laws =====

/// The headers that the layer adds are taken off again: it names every answer.
#[derive(Clone)]
struct Unnamed<S>(S);

impl<S, B> Service<Request<Script>> for Unnamed<S>
where
    S: Service<Request<Script>, Response = Response<B>, Future: Send + 'static>,
    B: 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<Response<B>, S::Error>> + Send + 'static>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, req: Request<Script>) -> Self::Future {
        let answer = self.0.call(req);
        Box::pin(async move {
            let mut response = answer.await?;
            for name in ["x-request-id", "server-timing"] {
                assert!(response.headers_mut().remove(name).is_some(), "{name}");
            }
            Ok(response)
        })
    }
}

fn layer() -> RecordLayer<Seen> {
    RecordLayer::new(Seen::default())
}

#[tokio::test(start_paused = true)]
async fn but_for_the_name_nothing_changes() {
    let build = |inner: Inner| Unnamed(layer().layer(inner));
    laws::transparent_over(build, laws::cases()).await;
}

#[tokio::test(start_paused = true)]
async fn it_is_ready_when_the_inner_service_is() {
    laws::ready(&layer()).await;
}

#[test]
fn its_types_can_cross_threads() {
    laws::types_of(&layer());
}

#[tokio::test(start_paused = true)]
async fn it_needs_no_facts() {
    let named = |outcome: &Outcome| match outcome {
        Outcome::Answered(response, _) => response.headers().contains_key("x-request-id"),
        Outcome::Refused(_) => false,
    };
    laws::absent_facts(&layer(), named).await;
}

#[tokio::test(start_paused = true)]
async fn each_ending_of_the_body_is_told_once() {
    let wrap = |script: Script| {
        let seen = Seen::default();
        let (body, _) = running(&seen, script);
        (body, seen)
    };
    let endings = |seen: &Seen| {
        let records = seen.records();
        records.iter().filter_map(Record::ended).collect::<Vec<_>>()
    };
    for (way, ended) in laws::endings(wrap, endings).await {
        let expected = match way {
            laws::Ending::Drop => Ended::ClientGone,
            // The scripted error is nobody's rejection.
            laws::Ending::Error => Ended::Internal,
            _ => Ended::Complete,
        };
        assert_eq!(ended, expected, "{way:?}");
    }
}

/// An answer that runs, and its record.
fn running(seen: &Seen, script: Script) -> (ResponseBody<Script, Seen, SystemClock>, Record) {
    let (mut script, mut record) = (Some(script), None);
    let inner = service_fn(|req: Request<RequestBody<Script, SystemClock>>| {
        record = req.extensions().get::<Record>().cloned();
        let body = script.take().expect("called once");
        std::future::ready(Ok::<_, Infallible>(Response::new(body)))
    });
    let response = now(layer_of(seen)
        .layer(inner)
        .call(Request::new(Script::empty())));
    let body = response.unwrap_or_else(|never| match never {}).into_body();
    (body, record.expect("it is in the extensions"))
}

fn layer_of(seen: &Seen) -> RecordLayer<Seen> {
    RecordLayer::new(seen.clone())
}

/// What a future that does not wait comes to.
fn now<F: Future>(future: F) -> F::Output {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    match pin!(future).poll(&mut cx) {
        Poll::Ready(out) => out,
        Poll::Pending => panic!("it waits"),
    }
}

// ===== names =====

#[tokio::test(start_paused = true)]
async fn a_harmless_name_of_the_caller_is_kept_and_any_other_replaced() {
    let longest = "a".repeat(128);
    for id in ["a", "Req_1.2-x", &longest] {
        let seen = Seen::default();
        let mut req = asked();
        req.headers_mut()
            .insert("x-request-id", id.parse().unwrap());
        let response = answer(&seen, req, Response::new(Script::empty())).await;
        assert_eq!(response.headers()["x-request-id"], id);
        drop(response);
        assert_eq!(seen.one().request_id(), id);
    }
    let too_long = "a".repeat(129);
    for id in ["", "a b", "a/b", "ä", "a\"", &too_long] {
        let seen = Seen::default();
        let mut req = asked();
        let value = http::HeaderValue::from_bytes(id.as_bytes()).unwrap();
        req.headers_mut().insert("x-request-id", value);
        drop(answer(&seen, req, Response::new(Script::empty())).await);
        let named = seen.one();
        assert!(named.request_id() != id && named.request_id().len() == 36);
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_of_ours_is_a_uuid_of_version_7_that_begins_with_the_time() {
    let seen = Seen::default();
    let layer = layer_of(&seen).clock(Still);
    for _ in 0..2 {
        let inner = Inner::<Infallible>::answering(Response::new(Script::empty()));
        let _ = layer.layer(inner).oneshot(asked()).await.unwrap();
    }
    let ids: Vec<_> = seen
        .records()
        .iter()
        .map(|it| it.request_id().to_owned())
        .collect();
    for id in &ids {
        // RFC 9562 section 5.7: 48 bits of milliseconds, then the version, then the variant.
        assert!(id.starts_with("01234567-89ab-7"), "{id}");
        assert!("89ab".contains(&id[19..20]), "{id}");
    }
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test(start_paused = true)]
async fn the_providers_own_name_stays_and_ours_stands_beside_it() {
    let seen = Seen::default();
    let mut req = asked();
    req.headers_mut()
        .insert("x-request-id", "ours".parse().unwrap());
    let mut response = Response::new(Script::empty());
    response
        .headers_mut()
        .insert("x-request-id", "theirs".parse().unwrap());
    let response = answer(&seen, req, response).await;
    assert_eq!(response.headers()["x-request-id"], "theirs");
    assert_eq!(response.headers()["tollgate-request-id"], "ours");
}

// ===== times =====

#[tokio::test(start_paused = true)]
async fn the_head_tells_our_share_of_the_time_and_the_providers() {
    let seen = Seen::default();
    let inner = service_fn(async |req: Request<RequestBody<Script, SystemClock>>| {
        let record: Record = req.extensions().get::<Record>().unwrap().clone();
        req.into_body().collect().await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
        record.mark(Mark::Sent, SystemClock.now());
        tokio::time::sleep(Duration::from_millis(40)).await;
        record.mark(Mark::UpstreamHead, SystemClock.now());
        tokio::time::sleep(Duration::from_millis(3)).await;
        let mut response = Response::new(Script::empty());
        response
            .headers_mut()
            .insert("server-timing", "theirs;dur=1".parse().unwrap());
        Ok::<_, Infallible>(response)
    });
    let response = layer_of(&seen).layer(inner).oneshot(asked()).await.unwrap();
    let told: Vec<_> = response.headers().get_all("server-timing").iter().collect();
    assert_eq!(told, ["theirs;dur=1", "tollgate;dur=5.000, up;dur=40.000"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_asked_of_a_provider_has_our_time_alone() {
    let seen = Seen::default();
    let response = answer(&seen, asked(), Response::new(Script::empty())).await;
    assert_eq!(response.headers()["server-timing"], "tollgate;dur=0.000");
}

#[tokio::test(start_paused = true)]
async fn time_in_queues_is_told_by_itself_and_is_no_share_of_ours() {
    let inner = service_fn(async |req: Request<RequestBody<Script, SystemClock>>| {
        let record: Record = req.extensions().get::<Record>().unwrap().clone();
        req.into_body().collect().await.unwrap();
        for millis in [3, 4] {
            let waited = Duration::from_millis(millis);
            tokio::time::sleep(waited).await;
            record.add_queued(waited);
            record.add_waited(waited);
        }
        record.mark(Mark::Sent, SystemClock.now());
        tokio::time::sleep(Duration::from_millis(40)).await;
        record.mark(Mark::UpstreamHead, SystemClock.now());
        Ok::<_, Infallible>(Response::new(Script::empty()))
    });
    let seen = Seen::default();
    let response = layer_of(&seen).layer(inner).oneshot(asked()).await.unwrap();
    assert_eq!(
        response.headers()["server-timing"],
        "tollgate;dur=0.000, up;dur=40.000, q;dur=7.000"
    );
}

// ===== counts =====

#[tokio::test(start_paused = true)]
async fn bytes_are_counted_and_hashed_both_ways() {
    let seen = Seen::default();
    let body = Script::data(b"hello world", &Split::Bytes(3));
    let mut response = Response::new(body);
    *response.status_mut() = http::StatusCode::CREATED;
    let response = answer(&seen, asked(), response).await;
    assert!(seen.records().is_empty(), "the body has not ended");
    assert_eq!(collect(response.into_body()).await.text(), "hello world");
    let record = seen.one();
    assert_eq!((record.bytes_in(), record.bytes_out()), (10, 11));
    assert_eq!(record.status(), Some(201));
    let known = XXH3_128_HELLO_WORLD;
    let digest = record.digest().unwrap();
    assert_eq!((digest.upstream, digest.client), (known, known));
    for mark in [Mark::BodyRead, Mark::Head, Mark::FirstByte, Mark::End] {
        assert!(record.at(mark).is_some(), "{mark:?}");
    }
    assert_eq!(seen.0.lock().unwrap().0, 1, "it began once");
}

/// As `xxhsum -H128` prints it for these 11 bytes.
const XXH3_128_HELLO_WORLD: u128 = 0xdf8d_09e9_3f87_4900_a99b_8775_cc15_b6c7;
/// As `xxhsum -H128` prints it for no bytes.
const XXH3_128_NOTHING: u128 = 0x99aa_06d3_0147_98d8_6001_c324_468d_497f;

#[tokio::test(start_paused = true)]
async fn the_digest_of_nothing_is_that_of_no_bytes() {
    let seen = Seen::default();
    drop(answer(&seen, asked(), Response::new(Script::empty())).await);
    let digest = seen.one().digest().unwrap();
    assert_eq!(digest.client, XXH3_128_NOTHING);
}

#[tokio::test(start_paused = true)]
async fn what_a_layer_appends_is_in_the_clients_digest_alone() {
    let seen = Seen::default();
    let body = Script::data(b"hello world", &Split::Whole).then(Item::Data("!".into()));
    let (mut body, record) = running(&seen, body);
    body.frame().await.unwrap().unwrap();
    record.set_edited_by("seal");
    collect(body).await;
    let digest = seen.one().digest().unwrap();
    assert_eq!(digest.upstream, XXH3_128_HELLO_WORLD);
    assert_ne!(digest.client, digest.upstream);
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_changes_bytes_on_their_way_says_what_they_were() {
    let seen = Seen::default();
    let frames = ["hello", " w***d", "!", "?"].map(|text| Item::Data(text.into()));
    let (mut body, record) = running(&seen, Script::new(frames));
    body.frame().await.unwrap().unwrap();
    record.set_edited_by("upstream");
    record.set_original(" world".into());
    body.frame().await.unwrap().unwrap();
    // What nobody sent is added.
    collect(body).await;
    let digest = seen.one().digest().unwrap();
    assert_eq!(digest.upstream, XXH3_128_HELLO_WORLD);
    assert_ne!(digest.client, digest.upstream);
}

#[tokio::test(start_paused = true)]
async fn the_first_bytes_may_be_changed_already() {
    let seen = Seen::default();
    let (body, record) = running(&seen, Script::data(b"hello *****", &Split::Whole).hinting());
    record.set_edited_by("upstream");
    record.set_original("hello world".into());
    collect(body).await;
    let digest = seen.one().digest().unwrap();
    assert_eq!(digest.upstream, XXH3_128_HELLO_WORLD);
    assert_ne!(digest.client, digest.upstream);
}

// ===== endings =====

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_before_the_head_is_gone() {
    let seen = Seen::default();
    let inner = service_fn(|_: Request<RequestBody<Script, SystemClock>>| -> Pending<Result<Response<Script>, Infallible>> {
        std::future::pending()
    });
    let mut future = Box::pin(layer_of(&seen).layer(inner).oneshot(asked()));
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(future.as_mut().poll(&mut cx).is_pending());
    assert!(seen.records().is_empty());
    drop(future);
    let record = seen.one();
    assert_eq!(
        (record.ended(), record.status()),
        (Some(Ended::ClientGone), None)
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_server_cut_was_not_left_by_its_client() {
    for (cut, ended) in [
        (Cut::Drain, Ended::Drain),
        (Cut::SlowReader, Ended::SlowReader),
    ] {
        let (seen, conn) = (Seen::default(), Conn::new());
        let inner = service_fn(|_: Request<RequestBody<Script, SystemClock>>| -> Pending<Result<Response<Script>, Infallible>> {
            std::future::pending()
        });
        let mut req = asked();
        req.extensions_mut().insert(conn.clone());
        let future = Box::pin(layer_of(&seen).layer(inner).oneshot(req));
        conn.cut(cut);
        drop(future);
        assert!(seen.records().is_empty(), "it had not begun");
        let mut req = asked();
        req.extensions_mut().insert(conn.clone());
        let mut future = Box::pin(layer_of(&seen).layer(inner).oneshot(req));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(future.as_mut().poll(&mut cx).is_pending());
        drop(future);
        assert_eq!(seen.one().ended(), Some(ended));
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_nobody_answered_is_a_bug_and_not_a_client_that_left() {
    let seen = Seen::default();
    let inner = service_fn(|_: Request<RequestBody<Script, SystemClock>>| -> Ready<Result<Response<Script>, BoxError>> {
        std::future::ready(Err("unexplained".into()))
    });
    assert!(layer_of(&seen).layer(inner).oneshot(asked()).await.is_err());
    assert_eq!(seen.one().ended(), Some(Ended::Internal));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_fails_ends_by_its_reason() {
    for (reason, ended) in [
        (Reason::Truncated, Ended::UpstreamTruncated),
        (Reason::UpstreamTimeout, Ended::Timeout),
        (Reason::Draining, Ended::Drain),
        (Reason::SlowReader, Ended::SlowReader),
        (Reason::Closed, Ended::UpstreamError),
        (Reason::ResponseRejected, Ended::Refused),
        (Reason::Internal, Ended::Internal),
    ] {
        let seen = Seen::default();
        let (inner, mut error) = (
            Script::data(b"x", &Split::Whole).then(Item::Error),
            Some(Rejection::new(reason, "test", "")),
        );
        // The scripted error stands for the rejection.
        let inner = inner.map_err(move |_| BoxError::from(error.take().expect("one error")));
        let mut inner = Some(inner);
        let service = service_fn(move |_: Request<RequestBody<Script, SystemClock>>| {
            std::future::ready(Ok::<_, Infallible>(Response::new(
                inner.take().expect("one call"),
            )))
        });
        let response = layer_of(&seen)
            .layer(service)
            .oneshot(asked())
            .await
            .unwrap();
        assert!(collect(response.into_body()).await.error.is_some());
        let record = seen.one();
        assert_eq!(
            (record.ended(), record.broke()),
            (Some(ended), Some(reason))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn who_knows_the_ending_first_is_right() {
    let seen = Seen::default();
    let (body, record) = running(&seen, Script::data(b"x", &Split::Whole));
    record.set_ended(Ended::UpstreamError);
    collect(body).await;
    assert_eq!(seen.one().ended(), Some(Ended::UpstreamError));
}

/// Found by the acceptance suite: of a stream that came in one read, its provider's last word was seen before a rule stopped it.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_stopped_ends_so_whatever_its_provider_had_said() {
    for said in [Ended::Complete, Ended::UpstreamError] {
        let seen = Seen::default();
        let (body, record) = running(&seen, Script::data(b"x", &Split::Whole));
        record.set_ended(said);
        record.set_stopped(&Rejection::new(Reason::ResponseRejected, "word_filter", ""));
        collect(body).await;
        assert_eq!(seen.one().ended(), Some(Ended::Refused));
        assert_eq!(record.refused().unwrap().layer, "word_filter");
    }
}

#[test]
fn a_refusal_is_kept_once_and_settles_the_ending() {
    let req = asked();
    let head = (req.method(), req.uri(), req.headers());
    let record = Record::new(
        http::HeaderValue::from_static("id"),
        head,
        SystemClock.now(),
        SystemTime::UNIX_EPOCH,
    );
    record.set_refused(&Rejection::new(Reason::RateLimit, "rate_limit", ""));
    record.set_refused(&Rejection::new(Reason::Internal, "respond", ""));
    let refused = record.refused().unwrap();
    assert_eq!(
        (refused.layer, refused.reason),
        ("rate_limit", Reason::RateLimit)
    );
    assert_eq!(record.ended(), Some(Ended::Refused));
    let same = record.clone();
    assert!(record.settle() && !same.settle(), "settled once");
}

#[tokio::test(start_paused = true)]
async fn an_answer_says_how_the_callers_limits_stand_beside_the_providers() {
    let inner = service_fn(async |req: Request<RequestBody<Script, SystemClock>>| {
        let record: &Record = req.extensions().get().unwrap();
        record.add_standing(Standing {
            limit: "team-a".into(),
            quota: 60,
            window: Duration::from_secs(60),
            left: 12,
            reset: Duration::from_millis(30_001),
            unit: Unit::Requests,
        });
        record.add_standing(Standing {
            limit: "tokens".into(),
            quota: 500,
            window: Duration::from_secs(3600),
            left: 20,
            reset: Duration::from_secs(9),
            unit: Unit::Tokens,
        });
        let answer = Response::builder().header("ratelimit", "\"theirs\";r=1;t=2");
        Ok::<_, Infallible>(answer.body(Script::empty()).unwrap())
    });
    let service = RecordLayer::new(Seen::default()).layer(inner);
    let answer = service.oneshot(asked()).await.unwrap();
    let values = |name: &str| {
        let values = answer.headers().get_all(name).iter();
        values.map(|it| it.to_str().unwrap()).collect::<Vec<_>>()
    };
    let policies = [
        "\"team-a\";q=60;w=60",
        "\"tokens\";q=500;w=3600;tollgate-unit=\"tokens\"",
    ];
    assert_eq!(values("ratelimit-policy"), policies);
    let stands = [
        "\"theirs\";r=1;t=2",
        "\"team-a\";r=12;t=31",
        "\"tokens\";r=20;t=9",
    ];
    assert_eq!(values("ratelimit"), stands);
}
