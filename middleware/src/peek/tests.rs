mod bodies;
mod slow;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Request, Response};
use tollgate_testing::{
    body::{BoxError, Collected, Fault, Item, Polls, Script, collect},
    laws::{self, Inner, Outcome},
    splits::Split,
};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::PeekLayer;
use crate::{
    body::{
        Held, Room,
        heard::{Listened, now, passes_each_ending},
    },
    clock::{Clock, SystemClock},
    error::{Reason, Rejection},
    facts::Intent,
    record::Record,
};

const CHAT: &str = "/v1/chat/completions";
const LIMIT: u64 = 1000;

fn layer() -> PeekLayer {
    PeekLayer::new(LIMIT)
}

fn post(path: &str, kind: &str, body: Script) -> Request<Script> {
    let req = Request::post(path).header("content-type", kind);
    req.body(body).unwrap()
}

fn json(text: &str) -> Request<Script> {
    post(CHAT, "application/json", whole(text))
}

fn whole(text: &str) -> Script {
    Script::data(text.as_bytes(), &Split::Whole)
}

/// What reached the inner service.
struct Reached {
    intent: Option<Intent>,
    /// Whether the body was held whole, so that it can be edited and sent again.
    held: bool,
    body: Collected,
}

async fn peek(req: Request<Script>) -> Result<Reached, BoxError> {
    peek_by(layer(), req).await
}

async fn peek_by(layer: PeekLayer, req: Request<Script>) -> Result<Reached, BoxError> {
    let reached = Arc::new(Mutex::new(None));
    let seen = reached.clone();
    let inner = service_fn(move |req: Request<Held<super::Limited<Script>>>| {
        let seen = seen.clone();
        async move {
            let (head, body) = req.into_parts();
            let (intent, held) = (head.extensions.get().cloned(), body.is_whole());
            let body = collect(body).await;
            *seen.lock().unwrap() = Some(Reached { intent, held, body });
            Ok::<_, BoxError>(Response::new(Script::empty()))
        }
    });
    layer.layer(inner).oneshot(req).await?;
    let reached = reached.lock().unwrap().take();
    Ok(reached.expect("it was called"))
}

/// The refusal of a request.
async fn refusal(req: Request<Script>) -> (Reason, String) {
    match peek(req).await {
        Ok(_) => panic!("it was not refused"),
        Err(error) => {
            let found = Rejection::find(&*error).expect("a rejection");
            assert_eq!(found.layer(), "peek");
            (found.reason(), found.message().to_owned())
        }
    }
}

// ===== laws =====

/// On a path that nobody knows. Where a body is read, a failing one is refused and its trailers are let go of, as the tests
/// of bodies show, so the law cannot hold for those cases.
#[tokio::test(start_paused = true)]
async fn what_is_not_read_passes_untouched() {
    let unknown = laws::cases().into_iter().map(|mut case| {
        *case.request.uri_mut() = "/elsewhere?a=%2F&a=2".parse().unwrap();
        case
    });
    laws::transparent(&layer(), unknown).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_read_passes_with_its_bytes_and_its_head() {
    let cases = laws::cases().into_iter();
    let read = cases.filter(|case| case.name.starts_with("exact and hinting"));
    laws::transparent(&layer(), read).await;
}

#[tokio::test(start_paused = true)]
async fn the_instance_that_was_ready_is_the_one_that_is_called() {
    laws::ready(&layer()).await;
    let build = |inner: Inner| layer().layer(inner);
    laws::ready_over(build, || json(r#"{"model":"m"}"#)).await;
}

/// Of a request's body that is not read here. One that is read has ended when the request goes on.
#[tokio::test(start_paused = true)]
async fn each_ending_passes_once() {
    passes_each_ending(|body| {
        // The body of the request comes back as that of the answer.
        let inner = service_fn(|req: Request<Held<super::Limited<Listened>>>| {
            std::future::ready(Ok::<_, BoxError>(Response::new(req.into_body())))
        });
        let req = Request::post("/elsewhere").body(body).unwrap();
        now(layer().layer(inner).call(req)).unwrap().into_body()
    })
    .await;
}

#[test]
fn its_types_can_cross_threads() {
    laws::types::<PeekLayer>();
}

#[tokio::test(start_paused = true)]
async fn it_reads_by_the_head_where_there_is_no_record() {
    let read = |outcome: &Outcome| match outcome {
        Outcome::Answered(_, seen) => {
            let intent = seen[0].extensions().get::<Intent>();
            intent.and_then(Intent::model) == Some("m")
        }
        Outcome::Refused(_) => false,
    };
    laws::absent_facts(&layer(), read).await;
}

#[tokio::test]
async fn the_record_gets_the_intent_and_says_what_the_path_is() {
    let chat = (
        &http::Method::POST,
        &CHAT.parse().unwrap(),
        &http::HeaderMap::new(),
    );
    let record = Record::new(
        http::HeaderValue::from_static("id"),
        chat,
        SystemClock.now(),
        SystemTime::UNIX_EPOCH,
    );
    let mut req = post("/elsewhere", "application/json", whole(r#"{"model":"m"}"#));
    req.extensions_mut().insert(record.clone());
    assert!(peek(req).await.unwrap().held);
    assert_eq!(record.intent().and_then(Intent::model), Some("m"));
}
