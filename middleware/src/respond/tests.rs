use std::{
    convert::Infallible,
    fmt,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::Value;
use tollgate_testing::{
    body::Script,
    laws::{self, Inner, Outcome},
};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::RespondLayer;
use crate::{
    clock::{Clock, SystemClock},
    conn::{Conn, Cut},
    error::{BoxError, Reason, Rejection},
    record::{Ended, Record},
};

struct Told {
    head: http::response::Parts,
    text: String,
}

impl Told {
    fn header(&self, name: &str) -> Option<&str> {
        let value = self.head.headers.get(name)?;
        Some(value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }
}

/// What is answered to a request of `path` that fails with `error`.
async fn told(path: &str, error: impl Into<BoxError>, record: Option<&Record>) -> Told {
    let mut error = Some(error.into());
    let inner = service_fn(move |_: Request<()>| {
        let error = error.take().expect("called once");
        std::future::ready(Err::<Response<Script>, _>(error))
    });
    let mut req = Request::post(path).body(()).unwrap();
    if let Some(record) = record {
        req.extensions_mut().insert(record.clone());
    }
    let response = RespondLayer::new().layer(inner).oneshot(req).await;
    let (head, body) = response.unwrap_or_else(|never| match never {}).into_parts();
    let text = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8(text.into()).unwrap();
    Told { head, text }
}

#[tokio::test]
async fn a_request_without_a_head_is_answered_when_the_server_ends() {
    let conn = Conn::new();
    let inner =
        service_fn(|_: Request<()>| std::future::pending::<Result<Response<Script>, BoxError>>());
    let mut req = Request::post("/v1/messages").body(()).unwrap();
    req.extensions_mut().insert(conn.clone());
    let mut answer = std::pin::pin!(RespondLayer::new().layer(inner).oneshot(req));
    let pending = std::future::poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx).is_pending()));
    assert!(pending.await);
    conn.cut(Cut::Drain);
    let response = answer.await.unwrap_or_else(|never| match never {});
    assert_eq!(
        response.status(),
        529,
        "503, as Anthropic's clients know it"
    );
    assert!(response.headers().contains_key("retry-after"));
}

fn refused(reason: Reason) -> Rejection {
    Rejection::new(reason, "test", "ask again")
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

const CHAT: &str = "/v1/chat/completions";

// ===== laws =====

/// Errors of the inner service become answers, which is the layer's work; all else is glass.
#[tokio::test(start_paused = true)]
async fn answers_pass_untouched() {
    let build = |inner: Inner<Infallible>| RespondLayer::new().layer(Boxed(inner));
    laws::transparent_over(build, laws::cases()).await;
}

fn never(never: Infallible) -> BoxError {
    match never {}
}

#[tokio::test(start_paused = true)]
async fn it_is_ready_when_the_inner_service_is() {
    let build = |inner: Inner<Infallible>| RespondLayer::new().layer(Boxed(inner));
    laws::ready_over(build, || Request::new(Script::empty())).await;
}

/// An inner service whose error is boxed, cloned with its readiness left behind.
#[derive(Clone)]
struct Boxed(Inner<Infallible>);

impl Service<Request<Script>> for Boxed {
    type Response = Response<Script>;
    type Error = BoxError;
    type Future = futures::Boxed;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let inner: &mut Inner<Infallible> = &mut self.0;
        Service::<Request<Script>>::poll_ready(inner, cx).map_err(never)
    }

    fn call(&mut self, req: Request<Script>) -> futures::Boxed {
        let answer = self.0.call(req);
        Box::pin(async move { answer.await.map_err(never) })
    }
}

mod futures {
    use super::{BoxError, Response, Script};

    pub(super) type Boxed =
        std::pin::Pin<Box<dyn Future<Output = Result<Response<Script>, BoxError>> + Send>>;
}

#[test]
fn its_types_can_cross_threads() {
    laws::types::<RespondLayer>();
}

#[tokio::test(start_paused = true)]
async fn it_needs_no_facts() {
    let passed =
        |outcome: &Outcome| matches!(outcome, Outcome::Answered(it, _) if it.status() == 200);
    laws::absent_facts(&RespondLayer::new(), passed).await;
}

#[tokio::test]
async fn an_inner_service_that_cannot_get_ready_is_the_answer_of_the_next_call() {
    let mut service = RespondLayer::new().layer(Inner::<BoxError>::failing_ready());
    std::future::poll_fn(|cx| Service::<Request<Script>>::poll_ready(&mut service, cx))
        .await
        .unwrap_or_else(|never| match never {});
    // A clone has readiness of its own, and so an answer of its own.
    let mut clone = service.clone();
    let req = || Request::new(Script::empty());
    let response = service
        .call(req())
        .await
        .unwrap_or_else(|never| match never {});
    assert_eq!(response.status(), 500);
    std::future::poll_fn(|cx| Service::<Request<Script>>::poll_ready(&mut clone, cx))
        .await
        .unwrap_or_else(|never| match never {});
    let response = clone
        .call(req())
        .await
        .unwrap_or_else(|never| match never {});
    assert_eq!(response.status(), 500);
}

// ===== reasons =====

/// Status, OpenAI's type and code, as the project's contract lists them.
const TERMS: [(Reason, u16, &str, &str); 29] = {
    const INVALID: &str = "invalid_request_error";
    const SERVER: &str = "server_error";
    [
        (Reason::Closed, 502, SERVER, "upstream_error"),
        (Reason::Connect, 502, SERVER, "upstream_error"),
        (Reason::ContentBlocked, 400, INVALID, "content_blocked"),
        (Reason::Draining, 503, SERVER, "overloaded"),
        (Reason::Forbidden, 403, "permission_error", "forbidden"),
        (Reason::HeadersTooLarge, 431, INVALID, "headers_too_large"),
        (Reason::Internal, 500, SERVER, "internal"),
        (
            Reason::InsufficientQuota,
            429,
            "insufficient_quota",
            "insufficient_quota",
        ),
        (Reason::Malformed, 400, INVALID, "malformed_request"),
        (Reason::MethodNotAllowed, 405, INVALID, "method_not_allowed"),
        (Reason::ModelNotFound, 404, INVALID, "model_not_found"),
        (Reason::ModelUnpriced, 400, INVALID, "model_unpriced"),
        (Reason::NoTarget, 503, SERVER, "no_target"),
        (Reason::NotFound, 404, INVALID, "not_found"),
        (Reason::Overloaded, 503, SERVER, "overloaded"),
        (Reason::Protocol, 502, SERVER, "upstream_error"),
        (
            Reason::RateLimit,
            429,
            "rate_limit_error",
            "rate_limit_exceeded",
        ),
        (Reason::RequestTimeout, 408, INVALID, "request_timeout"),
        (Reason::ResponseRejected, 502, SERVER, "response_rejected"),
        (Reason::SlowReader, 408, INVALID, "slow_reader"),
        (Reason::Tls, 502, SERVER, "upstream_error"),
        (Reason::TokenCap, 400, INVALID, "token_cap"),
        (Reason::TooLarge, 413, INVALID, "request_too_large"),
        (Reason::Truncated, 502, SERVER, "upstream_error"),
        (
            Reason::Unauthenticated,
            401,
            "authentication_error",
            "invalid_api_key",
        ),
        (
            Reason::UnsupportedCoding,
            415,
            INVALID,
            "unsupported_coding",
        ),
        (Reason::UpgradeRequired, 426, INVALID, "upgrade_required"),
        (Reason::UriTooLong, 414, INVALID, "uri_too_long"),
        (Reason::UpstreamTimeout, 504, SERVER, "upstream_timeout"),
    ]
};

#[tokio::test]
async fn each_reason_has_its_status_type_and_code() {
    for (reason, status, kind, code) in TERMS {
        let told = told(CHAT, refused(reason), None).await;
        assert_eq!(told.head.status, status, "{reason}");
        let error = &told.json()["error"];
        assert_eq!(
            (&error["type"], &error["code"]),
            (&kind.into(), &code.into())
        );
        assert_eq!(error["message"], "tollgate: ask again");
        assert_eq!(told.header("tollgate-refused-by"), Some("test"));
        assert_eq!(told.header("cache-control"), Some("no-store"));
        assert_eq!(told.header("content-type"), Some("application/json"));
    }
}

#[tokio::test]
async fn each_dialect_is_answered_in_its_words() {
    for (path, status, pointer, word) in [
        ("/v1/messages", 529, "/error/type", "overloaded_error"),
        (
            "/v1beta/models/g:generateContent",
            503,
            "/error/status",
            "UNAVAILABLE",
        ),
        ("/api/chat", 503, "/error", "tollgate: ask again"),
        ("/v2/chat", 503, "/message", "tollgate: ask again"),
        ("/model/m/converse", 503, "/message", "tollgate: ask again"),
        ("/elsewhere", 503, "/error/code", "overloaded"),
    ] {
        let by_head = told(path, refused(Reason::Overloaded), None).await;
        let by_record = told("/", refused(Reason::Overloaded), Some(&record(path))).await;
        for told in [by_head, by_record] {
            assert_eq!(told.head.status, status, "{path}");
            assert_eq!(told.json().pointer(pointer), Some(&word.into()), "{path}");
        }
    }
}

#[tokio::test]
async fn the_record_hears_who_refused_and_the_answer_names_the_request() {
    let kept = record("/v1/messages");
    let answer = told("/", refused(Reason::RateLimit), Some(&kept)).await;
    assert_eq!(answer.json()["request_id"], "id-1");
    assert_eq!(answer.header("request-id"), Some("id-1"));
    let why = kept.refused().unwrap();
    assert_eq!((why.layer, why.reason), ("test", Reason::RateLimit));
    assert_eq!(kept.ended(), Some(Ended::Refused));

    let kept = record(CHAT);
    told(CHAT, "unexplained", Some(&kept)).await;
    let why = kept.refused().unwrap();
    assert_eq!((why.layer, why.reason), ("respond", Reason::Internal));
    assert_eq!(kept.ended(), Some(Ended::Internal));
}

#[derive(Debug)]
struct Wrapped(Rejection);

impl fmt::Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("wrapped by 10.1.2.3")
    }
}

impl std::error::Error for Wrapped {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

#[tokio::test]
async fn no_cause_is_ever_told() {
    let secret = || BoxError::from("sk-secret at 10.1.2.3");
    let causes: [BoxError; 4] = [
        secret(),
        refused(Reason::Connect).because(secret()).into(),
        refused(Reason::Internal).because(secret()).into(),
        Wrapped(refused(Reason::Connect).because(secret())).into(),
    ];
    for error in causes {
        let shown = format!("{error:?}");
        let told = told(CHAT, error, None).await;
        let all = format!("{} {:?}", told.text, told.head);
        assert!(
            !all.contains("sk-secret") && !all.contains("10.1.2.3"),
            "{shown}: {all}"
        );
        let status = if shown.contains("Connect") { 502 } else { 500 };
        assert_eq!(told.head.status, status, "{shown}");
    }
}

#[tokio::test]
async fn an_error_without_a_reason_is_a_bug_of_the_gateway() {
    let told = told(CHAT, "unexplained", None).await;
    assert_eq!(told.header("tollgate-refused-by"), Some("respond"));
    assert_eq!(told.json()["error"]["code"], "internal");
}

// ===== waits =====

#[tokio::test]
async fn a_wait_is_told_in_seconds_rounded_up_and_in_milliseconds_below_one() {
    let nanos = Duration::from_nanos;
    for (wait, seconds, millis) in [
        (nanos(0), "1", Some("0")),
        (nanos(1), "1", Some("1")),
        (Duration::from_micros(250_500), "1", Some("251")),
        (nanos(999_999_999), "1", Some("1000")),
        (Duration::from_secs(1), "1", None),
        (Duration::from_millis(1001), "2", None),
        (Duration::from_secs(59) + nanos(1), "60", None),
    ] {
        let error = refused(Reason::RateLimit).retry_after(wait);
        let told = told(CHAT, error, None).await;
        assert_eq!(told.header("retry-after"), Some(seconds), "{wait:?}");
        assert_eq!(told.header("retry-after-ms"), millis, "{wait:?}");
        assert_eq!(told.header("x-should-retry"), None, "{wait:?}");
    }
    let told = told(CHAT, refused(Reason::RateLimit), None).await;
    assert_eq!(told.header("retry-after"), None);
}

#[tokio::test]
async fn a_wait_beyond_a_minute_and_a_spent_budget_are_not_worth_a_retry() {
    let minute = Duration::from_secs(60);
    for (error, hopeless) in [
        (refused(Reason::RateLimit).retry_after(minute), false),
        (
            refused(Reason::RateLimit).retry_after(minute + Duration::from_nanos(1)),
            true,
        ),
        (refused(Reason::InsufficientQuota), true),
        (refused(Reason::Overloaded), false),
    ] {
        let told = told(CHAT, error, None).await;
        let expected = hopeless.then_some("false");
        assert_eq!(told.header("x-should-retry"), expected);
    }
}

#[tokio::test]
async fn an_upgrade_is_told_which() {
    let told = told(CHAT, refused(Reason::UpgradeRequired), None).await;
    assert_eq!(told.header("upgrade"), Some("websocket"));
}

#[tokio::test]
async fn a_method_that_is_not_served_is_told_which_are() {
    let told = told(CHAT, refused(Reason::MethodNotAllowed), None).await;
    assert!(told.header("allow").unwrap().contains("POST"));
}

#[tokio::test]
async fn a_refusal_can_close_the_connection() {
    let open = told(CHAT, refused(Reason::Malformed), None).await;
    assert_eq!(open.header("connection"), None);
    let closing = told(CHAT, refused(Reason::Malformed).close(), None).await;
    assert_eq!(closing.header("connection"), Some("close"));
}

#[tokio::test]
async fn the_root_is_answered_before_anything_inside_is_asked() {
    for (method, path, root, asked) in [
        ("GET", "/", true, false),
        ("HEAD", "/?x=1", true, false),
        ("POST", "/", true, true),
        ("GET", "/v1/models", true, true),
        ("GET", "/", false, true),
    ] {
        let inner = service_fn(|_: Request<()>| {
            std::future::ready(Err::<Response<Script>, BoxError>(
                refused(Reason::NotFound).into(),
            ))
        });
        let req = Request::builder().method(method).uri(path);
        let service = RespondLayer::new().root(root).layer(inner);
        let answer = service.oneshot(req.body(()).unwrap()).await;
        let answer = answer.unwrap_or_else(|never| match never {});
        let status = if asked { 404 } else { 200 };
        assert_eq!(answer.status(), status, "{method} {path}");
        if !asked {
            assert_eq!(answer.headers()["cache-control"], "no-store");
            assert_eq!(answer.headers().len(), 1);
            assert!(
                answer
                    .into_body()
                    .collect()
                    .await
                    .unwrap()
                    .to_bytes()
                    .is_empty()
            );
        }
    }
}
