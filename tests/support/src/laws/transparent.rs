//! Law 1: with an empty policy a layer is glass.

use std::future::poll_fn;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    in_time,
    inner::{Calls, Failure, Inner, is_fault},
};
use crate::{
    body::{BoxError, Collected, Hint, Item, Polls, Script, collect},
    splits::Split,
};

/// One request and the response it gets.
#[derive(Clone, Debug)]
pub struct Case {
    /// Says what is special about it, and is shown when it fails.
    pub name: String,
    /// The request; facts that the layer reads belong in its extensions.
    pub request: Request<Script>,
    /// The response of the inner service.
    pub response: Response<Script>,
}

/// Bodies of each kind and in many splits, with heads that a careless layer would normalise.
///
/// # Panics
/// Never: the literals are well formed.
#[must_use]
pub fn cases() -> Vec<Case> {
    let splits = [Split::Whole, Split::Bytes(1), Split::Bytes(7)]
        .into_iter()
        .chain((0..4).map(Split::Random));
    let mut cases: Vec<_> = splits.flat_map(|split| with_bodies(&split)).collect();
    let mut bare = Case::new("no bodies", Script::empty(), Script::empty());
    *bare.request.method_mut() = Method::GET;
    *bare.response.status_mut() = http::StatusCode::NO_CONTENT;
    cases.push(bare);
    cases
}

/// The law, for a layer over an inner service with boxed errors.
///
/// Method, target, version, headers (order, duplicates and bytes beyond ASCII), body bytes, trailers and body errors are the
/// same behind the layer as without it; so are, for each body, the first size hint and end-of-stream hint, and the later ones
/// too where the frames are the same. Frames may be cut anew. Bodies are dropped when they are done with and not polled after
/// their end. An error of the inner service comes out, itself or as a source.
///
/// # Panics
/// When the law is broken.
pub async fn transparent<L, RB>(layer: &L, cases: impl IntoIterator<Item = Case>)
where
    L: Layer<Inner>,
    L::Service: Service<Request<Script>, Response = Response<RB>>,
    <L::Service as Service<Request<Script>>>::Error: Into<BoxError>,
    RB: Body,
    RB::Error: Into<BoxError>,
{
    transparent_over(|inner: Inner| layer.layer(inner), cases).await;
}

/// The law, for whatever the closure builds over the inner service.
///
/// # Panics
/// As [`transparent`].
pub async fn transparent_over<E, S, RB>(
    build: impl Fn(Inner<E>) -> S,
    cases: impl IntoIterator<Item = Case>,
) where
    E: Failure + Into<BoxError>,
    S: Service<Request<Script>, Response = Response<RB>>,
    S::Error: Into<BoxError>,
    RB: Body,
    RB::Error: Into<BoxError>,
{
    let mut count = 0;
    for case in cases {
        let bare = observe(&case, |inner: Inner<E>| inner).await;
        let layered = observe(&case, &build).await;
        compare(&case.name, "request", &layered.request, &bare.request);
        compare(&case.name, "response", &layered.response, &bare.response);
        count += 1;
    }
    assert!(count > 0, "transparent: there was no case to judge by");
    if E::failure().is_some() {
        let (_, outcome) = run(&build, Inner::failing(), Request::new(Script::empty())).await;
        let error = outcome
            .err()
            .expect("transparent: the inner service's error was swallowed");
        assert!(
            is_fault(&error),
            "transparent: the inner service's error was lost in {error:?}"
        );
    }
}

// ===== impl Case =====

impl Case {
    /// A POST and a 200 with these bodies.
    ///
    /// # Panics
    /// Never: the literals are well formed.
    #[must_use]
    pub fn new(name: &str, request: Script, response: Script) -> Self {
        let mut request = Request::new(request);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static("/v1/chat/completions?a=%2F&a=2");
        request.headers_mut().extend(odd_headers());
        request
            .headers_mut()
            .insert("content-type", HeaderValue::from_static("application/json"));
        let mut response = Response::new(response);
        response.headers_mut().extend(odd_headers());
        response.headers_mut().insert(
            "content-type",
            HeaderValue::from_static("text/event-stream"),
        );
        Self {
            name: name.to_owned(),
            request,
            response,
        }
    }
}

fn odd_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.append("x-twice", HeaderValue::from_static("one"));
    headers.append(
        "x-odd",
        HeaderValue::from_bytes(b"caf\xe9").expect("bytes above 0x7f are allowed in values"),
    );
    headers.append("x-twice", HeaderValue::from_static("two"));
    headers.append("x-empty", HeaderValue::from_static(""));
    headers
}

const ASKED: &[u8] = br#"{"model": "m", "stream":true, "messages":[{"role":"user","content":"h\u00e9llo"}], "n":1e0 }"#;

const ANSWERED: &[u8] = b": hi\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\r\n\r\n\
    data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1,\"total_tokens\":2}}\n\ndata: [DONE]\n\n";

fn with_bodies(split: &Split) -> Vec<Case> {
    let trailers = || {
        Item::Trailers(HeaderMap::from_iter(
            odd_headers().into_iter().filter_map(|(k, v)| Some((k?, v))),
        ))
    };
    let asked = || Script::data(ASKED, split);
    let answered = || Script::data(ANSWERED, split);
    let case =
        |name: &str, request, response| Case::new(&format!("{name}, {split:?}"), request, response);
    vec![
        case(
            "exact and hinting",
            asked().exact().hinting(),
            answered().exact().hinting(),
        ),
        case(
            "neither hint",
            asked().hesitating(),
            answered().hesitating(),
        ),
        case("hint without size", asked().hinting(), answered().hinting()),
        case(
            "trailers",
            asked().then(trailers()),
            answered().then(trailers()).hinting(),
        ),
        case(
            "errors",
            asked().then(Item::Error),
            answered().then(Item::Error),
        ),
    ]
}

// ===== observation =====

struct Observed {
    request: Seen,
    response: Seen,
}

struct Seen {
    message: Told,
    sizes: Vec<usize>,
    hints: Vec<Hint>,
}

/// What must be the same.
#[derive(Debug, PartialEq)]
struct Told {
    line: String,
    version: Version,
    headers: Vec<(String, HeaderValue)>,
    text: String,
    bytes: Vec<u8>,
    trailers: Option<HeaderMap>,
    /// Whether the body failed, and with the scripted error.
    failed: Option<bool>,
    first: Option<Hint>,
}

impl Seen {
    fn new(line: String, version: Version, headers: &HeaderMap, body: &Collected) -> Self {
        let message = Told {
            line,
            version,
            headers: headers
                .iter()
                .map(|(name, value)| (name.to_string(), value.clone()))
                .collect(),
            text: body.text(),
            bytes: body.bytes(),
            trailers: body.trailers.clone(),
            failed: body.error.as_ref().map(is_fault),
            first: body.hints.first().copied(),
        };
        Self {
            message,
            sizes: body.frames.iter().map(Bytes::len).collect(),
            hints: body.hints.clone(),
        }
    }
}

fn compare(case: &str, side: &str, layered: &Seen, bare: &Seen) {
    assert_eq!(
        layered.message, bare.message,
        "transparent, {case}: the {side} differs (left: behind the layer)"
    );
    if layered.sizes == bare.sizes {
        assert_eq!(
            layered.hints, bare.hints,
            "transparent, {case}: the {side}'s hints differ between frames"
        );
    }
}

async fn observe<E, S, RB>(case: &Case, build: impl Fn(Inner<E>) -> S) -> Observed
where
    E: Failure,
    S: Service<Request<Script>, Response = Response<RB>>,
    S::Error: Into<BoxError>,
    RB: Body,
    RB::Error: Into<BoxError>,
{
    let name = &case.name;
    let request = case.request.clone();
    let asked = request.body().polls();
    let (calls, outcome) = run(&build, Inner::answering(case.response.clone()), request).await;
    let (head, body) = match outcome {
        Ok(response) => response.into_parts(),
        Err(error) => panic!("transparent, {name}: refused with {error}"),
    };
    let body = in_time("transparent", collect(body)).await;
    let response = Seen::new(head.status.to_string(), head.version, &head.headers, &body);

    let requests = calls.take();
    assert_eq!(
        requests.len(),
        1,
        "transparent, {name}: the inner service was not called exactly once"
    );
    let (head, body) = requests
        .into_iter()
        .next()
        .expect("there is one")
        .into_parts();
    let request = Seen::new(
        format!("{} {}", head.method, head.uri),
        head.version,
        &head.headers,
        &body,
    );

    let answered = calls.bodies().pop().expect("the inner service answered");
    let_go(name, "request", &asked);
    let_go(name, "response", &answered);
    Observed { request, response }
}

fn let_go(case: &str, side: &str, polls: &Polls) {
    assert_eq!(
        polls.after_end(),
        0,
        "transparent, {case}: the {side} body was polled after its end"
    );
    assert!(
        polls.dropped(),
        "transparent, {case}: the {side} body outlives its end"
    );
}

/// Makes the service ready and calls it once.
async fn run<E, S, RB>(
    build: impl Fn(Inner<E>) -> S,
    inner: Inner<E>,
    request: Request<Script>,
) -> (Calls, Result<Response<RB>, BoxError>)
where
    E: Failure,
    S: Service<Request<Script>, Response = Response<RB>>,
    S::Error: Into<BoxError>,
{
    let calls = inner.calls();
    let mut service = build(inner);
    let outcome = in_time("transparent", async {
        poll_fn(|cx| service.poll_ready(cx))
            .await
            .map_err(Into::into)?;
        service.call(request).await.map_err(Into::into)
    });
    (calls, outcome.await)
}
