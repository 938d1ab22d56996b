//! The service: which route, and whose readiness.

use std::time::SystemTime;

use http::{Request, Response};
use tollgate_testing::{
    body::{BoxError, Script},
    laws::{self, Inner, Outcome},
    splits::Split,
};
use tower::{Service, ServiceExt};

use super::*;
use crate::{
    clock::{Clock, SystemClock},
    facts::{Caller, Intent, Route, Terms},
    record::Record,
};

/// A router is no layer: it is judged with one route that takes every case of the laws.
fn router(inner: Inner) -> Router<Inner> {
    let all = Matcher {
        path: patterns(&["*"]),
        ..Matcher::default()
    };
    let rules = [Rule::new("all").when(all).to("a", None)];
    Router::new(Table::new([any("a")], [], rules), [inner])
}

#[tokio::test(start_paused = true)]
async fn routed_requests_and_their_answers_pass_untouched() {
    laws::transparent_over(router, laws::cases()).await;
}

#[tokio::test(start_paused = true)]
async fn the_chosen_service_is_made_ready_inside_the_future() {
    laws::ready_over(router, || Request::new(Script::empty())).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_without_facts_is_routed_by_its_head() {
    let routed = |outcome: &Outcome| match outcome {
        Outcome::Answered(_, seen) => seen[0].extensions().get::<Route>().is_some(),
        Outcome::Refused(_) => false,
    };
    laws::absent_facts_over(router, routed).await;
}

#[test]
fn its_types_can_cross_threads() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    fn sent<T: Send>() {}
    shared::<Router<Inner>>();
    sent::<ResponseFuture<Inner, Script>>();
}

fn two() -> (Router<Inner>, [laws::Calls; 2]) {
    let inner = || Inner::<BoxError>::answering(Response::new(Script::empty()));
    let (a, b) = (inner(), inner());
    let calls = [a.calls(), b.calls()];
    let streams = Matcher {
        stream: Some(true),
        ..Matcher::default()
    };
    let table = Table::new(
        [any("a"), any("b")],
        aliases(&[("alias", "real")]),
        [
            Rule::new("streams").when(streams).to("a", None),
            Rule::new("rest").to("b", None),
        ],
    );
    (Router::new(table, [a, b]), calls)
}

fn request(path: &str, body: &str) -> Request<Script> {
    let body = Script::data(body.as_bytes(), &Split::Whole);
    Request::post(path).body(body).unwrap()
}

fn intent(path: &str, body: &str) -> Intent {
    let headers = HeaderMap::new();
    let Recognised::Surface(surface) = dialect::recognise(&Method::POST, path, None, &headers)
    else {
        panic!("a known path");
    };
    let root = crate::json::check(body.as_bytes(), &crate::json::Limits::default()).unwrap();
    let asked = dialect::read(&surface, root).unwrap();
    let named = surface.model_in(path).map(|it| it.into_owned());
    Intent::new(surface, named.as_deref(), asked, root.span())
}

#[tokio::test]
async fn what_the_body_asks_for_decides_and_the_route_is_told() {
    let (router, calls) = two();
    let body = r#"{"model":"alias","stream":true}"#;
    let mut req = request(CHAT, body);
    req.extensions_mut().insert(intent(CHAT, body));
    let head = (&Method::POST, &CHAT.parse().unwrap(), &HeaderMap::new());
    let record = Record::new(
        http::HeaderValue::from_static("id"),
        head,
        SystemClock.now(),
        SystemTime::UNIX_EPOCH,
    );
    req.extensions_mut().insert(record.clone());
    router.oneshot(req).await.unwrap();
    let [seen] = &calls[0].take()[..] else {
        panic!("one call of the first route");
    };
    let route = seen.extensions().get::<Route>().unwrap();
    assert_eq!(
        (route.name.as_deref(), route.model.as_deref()),
        (Some("streams"), Some("real"))
    );
    assert_eq!(record.route().map(|it| &**it), Some("streams"));
    assert!(calls[1].take().is_empty());
}

#[tokio::test]
async fn a_body_that_nobody_read_is_routed_by_what_its_path_says() {
    let (router, calls) = two();
    for (method, route) in [("streamGenerateContent", 0), ("generateContent", 1)] {
        let path = format!("/v1beta/models/alias:{method}");
        router
            .clone()
            .oneshot(request(&path, "compressed"))
            .await
            .unwrap();
        let [seen] = &calls[route].take()[..] else {
            panic!("one call of route {route}");
        };
        let told = seen.extensions().get::<Route>().unwrap();
        assert_eq!(told.model.as_deref(), Some("real"));
    }
}

#[tokio::test]
async fn a_request_that_no_route_takes_is_an_error_and_reaches_nobody() {
    let (router, calls) = two();
    let error = router.oneshot(request("/elsewhere", "")).await.unwrap_err();
    assert_eq!(Rejection::find(&*error).unwrap().reason(), Reason::NotFound);
    assert!(calls.iter().all(|calls| calls.take().is_empty()));
}

#[tokio::test]
async fn it_is_ready_though_a_route_never_is() {
    #[derive(Clone)]
    struct Never;
    impl Service<Request<Script>> for Never {
        type Response = Response<Script>;
        type Error = BoxError;
        type Future = std::future::Ready<Result<Response<Script>, BoxError>>;

        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), BoxError>> {
            std::task::Poll::Pending
        }

        fn call(&mut self, _: Request<Script>) -> Self::Future {
            panic!("called without being ready");
        }
    }
    let table = Table::new([any("a")], [], []);
    let mut router = Router::new(table, [Never]);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(Service::<Request<Script>>::poll_ready(&mut router, &mut cx).is_ready());
    let future = std::pin::pin!(router.call(request("/v1/files", "")));
    assert!(future.poll(&mut cx).is_pending());
}

#[test]
#[should_panic(expected = "a route for each rule")]
fn a_router_without_a_service_for_each_rule_is_a_bug() {
    let table = Table::new([any("a")], [], [Rule::new("x").to("a", None)]);
    let _ = Router::<Inner>::new(table, []);
}

/// C13: the name that counts is the one that aliases lead to, wherever it stands; what names none is for those who may use any.
#[tokio::test(start_paused = true)]
async fn a_caller_is_refused_what_is_not_granted_as_if_it_were_not_there() {
    let asks = async |models: &[&str], method: &str, path: &str| {
        let (router, _) = two();
        let models = models.iter().map(|it| (*it).into()).collect();
        let terms = Terms {
            models: Some(models),
            ..Terms::default()
        };
        let mut req = Request::builder().method(method).uri(path);
        let caller = Caller::new("a", terms);
        req.extensions_mut().unwrap().insert(caller);
        let answer = router.oneshot(req.body(Script::empty()).unwrap()).await;
        answer.map(drop).map_err(|error| {
            let why = Rejection::find(&*error).unwrap();
            (why.reason(), why.message().to_owned())
        })
    };
    let gemini = |model: &str| format!("/v1beta/models/{model}:generateContent");
    let ok = Ok(());
    assert_eq!(asks(&["real"], "POST", &gemini("alias")).await, ok);
    assert_eq!(asks(&["re*"], "POST", &gemini("b/real")).await, ok);
    assert_eq!(asks(&["*"], "GET", "/v1/files").await, ok);
    let refused = asks(&["alias"], "POST", &gemini("alias")).await;
    let (reason, told) = refused.clone().unwrap_err();
    assert_eq!(reason, Reason::ModelNotFound);
    assert!(!told.contains("alias"));
    for path in [
        gemini("REAL"),
        gemini("real%20"),
        gemini("%20real"),
        gemini("other"),
    ] {
        assert_eq!(asks(&["real"], "POST", &path).await, refused, "{path}");
    }
    assert_eq!(asks(&["real"], "GET", "/v1/files").await, refused);
    assert_eq!(asks(&[], "POST", &gemini("real")).await, refused);
}
