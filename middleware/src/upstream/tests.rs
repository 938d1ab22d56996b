mod echo;
mod edits;
mod forms;
mod outcome;

use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri};
use tollgate_testing::{
    body::{BoxError, Collected, Script, collect},
    laws::{self, Inner, Outcome},
    splits::Split,
};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::{Credential, Target, UpstreamLayer};
use crate::{
    body::{
        Held,
        heard::{now, passes_each_ending},
    },
    clock::{Clock, SystemClock},
    dialect::{self, Dialect, Recognised},
    error::{Reason, Rejection},
    facts::{Intent, OutputLimit, Route},
    json,
    record::Record,
};

const CHAT: &str = "/v1/chat/completions";

fn target(base: &'static str) -> Target {
    Target::new("acme", &Uri::from_static(base)).unwrap()
}

fn bare() -> Target {
    target("https://api.acme.test")
}

/// A request whose body was read whole, with the intent that it has if it is JSON on a known surface.
fn post(path: &str, body: &str) -> Request<Held<Script>> {
    let held = Held::whole([Bytes::copy_from_slice(body.as_bytes())]);
    let mut req = Request::post(path).body(held).unwrap();
    let length = body.len().to_string().parse().unwrap();
    req.headers_mut().insert("content-length", length);
    let uri = req.uri().clone();
    if let Recognised::Surface(surface) =
        dialect::recognise(&Method::POST, uri.path(), uri.query(), req.headers())
        && let Ok(root) = json::check(body.as_bytes(), &json::Limits::default())
    {
        let asked = dialect::read(&surface, root).unwrap();
        let named = surface.model_in(uri.path()).map(|it| it.into_owned());
        let intent = Intent::new(surface, named.as_deref(), asked, root.span());
        req.extensions_mut().insert(intent);
    }
    req
}

fn record(path: &str) -> Record {
    let head = (&Method::POST, &path.parse().unwrap(), &HeaderMap::new());
    Record::new(
        HeaderValue::from_static("id-1"),
        head,
        SystemClock.now(),
        SystemTime::UNIX_EPOCH,
    )
}

/// What arrives at the provider.
async fn arrives(target: Target, req: Request<Held<Script>>) -> Request<Collected> {
    let inner = Inner::<BoxError>::answering(Response::new(Script::empty()));
    let calls = inner.calls();
    UpstreamLayer::new(target)
        .layer(inner)
        .oneshot(req)
        .await
        .unwrap();
    calls.take().pop().expect("one call")
}

fn header<'a>(req: &'a Request<Collected>, name: &str) -> Option<&'a str> {
    req.headers().get(name).map(|value| value.to_str().unwrap())
}

fn routed(mut req: Request<Held<Script>>, model: &str) -> Request<Held<Script>> {
    let route = Route {
        name: None,
        model: Some(model.into()),
        pin: None,
    };
    req.extensions_mut().insert(route);
    req
}

// ===== laws =====

/// The layer as the laws can call it: with a body that nobody read, and without the `host` that every target adds.
#[derive(Clone)]
struct Unread<S>(S);

impl<S> Service<Request<Script>> for Unread<S>
where
    S: Service<Request<Held<Script>>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, req: Request<Script>) -> S::Future {
        self.0.call(req.map(Held::unread))
    }
}

/// Takes the `host` off again, which says where the request went and is no part of the law.
#[derive(Clone)]
struct Hostless(Inner);

impl Service<Request<Held<Script>>> for Hostless {
    type Response = Response<Script>;
    type Error = BoxError;
    type Future = <Inner as Service<Request<Held<Script>>>>::Future;

    fn poll_ready(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), BoxError>> {
        Service::<Request<Held<Script>>>::poll_ready(&mut self.0, cx)
    }

    fn call(&mut self, mut req: Request<Held<Script>>) -> Self::Future {
        assert_eq!(req.headers_mut().remove("host").unwrap(), "api.acme.test");
        req.headers_mut().remove("authorization");
        self.0.call(req)
    }
}

fn law(
    inner: Inner,
) -> impl Service<
    Request<Script>,
    Response = Response<super::ResponseBody<Script>>,
    Error = BoxError,
    Future: Send,
> + Clone
+ Send
+ Sync
+ 'static {
    Unread(UpstreamLayer::new(bare()).layer(Hostless(inner)))
}

/// A target with a key, whose answers are looked into.
fn keyed() -> Target {
    bare().credential(Credential::bearer(KEY).unwrap())
}

const KEY: &str = "sk-echo/7f31c0a9+e5";

#[tokio::test(start_paused = true)]
async fn a_bare_target_changes_the_host_and_nothing_else() {
    laws::transparent_over(law, laws::cases()).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_looked_into_passes_untouched() {
    let keyed = |inner| Unread(UpstreamLayer::new(keyed()).layer(Hostless(inner)));
    for (status, kind) in [
        (200, "text/event-stream"),
        (200, "text/plain"),
        (429, "text/plain"),
    ] {
        let cases = laws::cases().into_iter().map(|mut case| {
            *case.response.status_mut() = status.try_into().unwrap();
            let kind = HeaderValue::from_static(kind);
            case.response.headers_mut().insert("content-type", kind);
            case
        });
        laws::transparent_over(keyed, cases).await;
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_ready_when_the_inner_service_is() {
    laws::ready_over(law, || Request::new(Script::empty())).await;
}

#[tokio::test(start_paused = true)]
async fn without_facts_a_request_goes_out_as_it_came() {
    let same = |outcome: &Outcome| match outcome {
        Outcome::Answered(_, seen) => seen[0].body().text() == "{\"model\": \"m\"}",
        Outcome::Refused(_) => false,
    };
    laws::absent_facts_over(law, same).await;
}

#[tokio::test(start_paused = true)]
async fn each_ending_passes_once() {
    for (target, status) in [(bare(), 200), (keyed(), 200), (keyed(), 500)] {
        passes_each_ending(|body| {
            let response = Response::builder().status(status);
            let response = response.header("content-type", "text/event-stream");
            let mut response = Some(response.body(body).unwrap());
            let inner = service_fn(move |_: Request<Held<Script>>| {
                std::future::ready(Ok::<_, BoxError>(response.take().expect("called once")))
            });
            let service = UpstreamLayer::new(target.clone()).layer(inner);
            now(service.oneshot(post(CHAT, "{}"))).unwrap().into_body()
        })
        .await;
    }
}

#[test]
fn its_types_can_cross_threads() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    fn sent<T: Send>() {}
    type Layered = super::Upstream<Inner>;
    shared::<Layered>();
    sent::<<Layered as Service<Request<Held<Script>>>>::Future>();
}

// ===== targets =====

#[test]
fn a_key_is_never_shown() {
    let key = "sk-very-secret";
    for credential in [
        Credential::bearer(key),
        Credential::of(Dialect::Anthropic, key),
        Credential::of(Dialect::Gemini, key),
    ] {
        let credential = credential.unwrap();
        let target = target("https://user:sk-very-secret@api.acme.test/v1");
        let layer = UpstreamLayer::new(target.credential(credential.clone()));
        let shown = format!("{credential:?} {layer:?} {layer:#?}");
        assert!(!shown.contains("very-secret"), "{shown}");
    }
    assert!(Credential::bearer("a\nb").is_none());
}

#[test]
fn a_target_needs_an_authority() {
    assert!(Target::new("x", &Uri::from_static("/v1")).is_err());
}
