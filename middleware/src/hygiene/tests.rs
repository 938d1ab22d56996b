use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use http::{Extensions, HeaderMap, Request, Response};
use tollgate_testing::{
    body::{BoxError, Item, Script, collect},
    laws::{self, Inner, Outcome},
    splits::Split,
};
use tower::{Layer, ServiceExt, service_fn};

use super::{HygieneLayer, RequestBody};
use crate::{
    clock::{Clock, SystemClock},
    conn::Conn,
    error::{Reason, Rejection},
    facts::ClientAddress,
    record::Record,
};

const CHAT: &str = "/v1/chat/completions";

/// What reached the inner service of a request, or why nothing did.
async fn pass(layer: &HygieneLayer, req: Request<Script>) -> Result<Passed, Reason> {
    let passed = Arc::new(Mutex::new(None));
    let seen = passed.clone();
    let inner = service_fn(move |req: Request<RequestBody<Script>>| {
        let (head, _) = req.into_parts();
        *seen.lock().unwrap() = Some(Passed(head.headers, head.extensions));
        std::future::ready(Ok::<_, BoxError>(Response::new(())))
    });
    match layer.layer(inner).oneshot(req).await {
        Ok(_) => Ok(passed.lock().unwrap().take().expect("it was called")),
        Err(error) => {
            assert!(passed.lock().unwrap().is_none(), "refused and called");
            let refused = Rejection::find(&*error).expect("a typed refusal");
            assert_eq!(refused.layer(), "hygiene");
            Err(refused.reason())
        }
    }
}

#[derive(Debug)]
struct Passed(HeaderMap, Extensions);

fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> Request<Script> {
    let mut req = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        req = req.header(*name, *value);
    }
    req.body(Script::empty()).unwrap()
}

fn from(peer: Option<&str>, mut req: Request<Script>) -> Request<Script> {
    let peer: Option<SocketAddr> = peer.map(|peer| peer.parse().unwrap());
    req.extensions_mut().insert(Conn::of(peer));
    req
}

#[tokio::test]
async fn methods_that_nobody_serves_are_refused() {
    let layer = HygieneLayer::new();
    for method in ["CONNECT", "TRACE", "post", "PROPFIND", "PRI", "GETS"] {
        let told = pass(&layer, request(method, CHAT, &[])).await.err();
        assert_eq!(told, Some(Reason::MethodNotAllowed), "{method}");
    }
    let tunnel = pass(&layer, request("CONNECT", "evil:443", &[]))
        .await
        .err();
    assert_eq!(tunnel, Some(Reason::MethodNotAllowed));
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let passed = pass(&layer, request(method, "/v1/files/f", &[])).await;
        assert!(passed.is_ok(), "{method}");
    }
}

#[tokio::test]
async fn a_head_that_can_be_read_in_two_ways_is_refused() {
    let layer = HygieneLayer::new();
    for (target, headers) in [
        ("/v1/../admin", &[][..]),
        (CHAT, &[("host", "a"), ("host", "b")]),
        ("http://evil/v1/messages", &[("host", "a")]),
        (CHAT, &[("connection", "close, host")]),
        (CHAT, &[("x-http-method-override", "DELETE")]),
    ] {
        let told = pass(&layer, request("POST", target, headers)).await.err();
        assert_eq!(told, Some(Reason::Malformed), "{target} {headers:?}");
    }
}

/// The record has read the path already; it is not read again, and says the same.
#[tokio::test]
async fn a_recorded_path_is_judged_like_any_other() {
    let layer = HygieneLayer::new();
    for target in [
        "/v1beta/models/org%2Fname:generateContent",
        "/v1/chat/completions/",
        "/v1/Files",
        "/v1/chat/complet%69ons",
        "/openai/deployments/a%2Fb/chat/completions?api-version=1",
    ] {
        let plain = pass(&layer, request("POST", target, &[])).await.err();
        let mut req = request("POST", target, &[]);
        let head = (req.method(), req.uri(), req.headers());
        let id = http::HeaderValue::from_static("id");
        let record = Record::new(id, head, SystemClock.now(), SystemTime::UNIX_EPOCH);
        req.extensions_mut().insert(record);
        assert_eq!(pass(&layer, req).await.err(), plain, "{target}");
    }
}

#[tokio::test]
async fn names_of_ours_do_not_come_in_from_outside() {
    let headers = [
        ("tollgate-route", "forged"),
        ("x_api_key", "forged"),
        ("x-tollgate-metadata", "a=b"),
        ("x-forwarded-for", "10.1.2.3"),
    ];
    let req = request("POST", CHAT, &headers);
    let passed = pass(&HygieneLayer::new(), req).await.expect("served");
    let names: Vec<_> = passed.0.keys().map(http::HeaderName::as_str).collect();
    assert_eq!(names, ["x-forwarded-for", "x-tollgate-metadata"]);
}

/// Who the client is to the layers inside.
async fn client(peer: Option<&str>, list: &str) -> Option<String> {
    let layer = HygieneLayer::new().trusted_hops(|ip| ip.to_string().starts_with("127."));
    let req = from(peer, request("POST", CHAT, &[("x-forwarded-for", list)]));
    let passed = pass(&layer, req).await.expect("served");
    ClientAddress::of(&passed.1).map(|ip| ip.to_string())
}

#[tokio::test]
async fn a_client_is_believed_from_a_trusted_hop_only() {
    let list = "6.6.6.6, 198.51.100.7";
    let theirs = Some("198.51.100.7".to_owned());
    for trusted in ["127.0.0.1:9", "[::1]:9", "[::ffff:127.0.0.1]:9"] {
        assert_eq!(client(Some(trusted), list).await, theirs, "{trusted}");
    }
    assert_eq!(client(None, list).await, theirs, "a unix socket");
    let stranger = client(Some("203.0.113.5:9"), list).await;
    assert_eq!(stranger.as_deref(), Some("203.0.113.5"));
    let nobody = client(Some("127.0.0.1:9"), "unknown").await;
    assert_eq!(nobody.as_deref(), Some("127.0.0.1"));
    let mapped = client(Some("[::ffff:203.0.113.5]:9"), list).await;
    assert_eq!(mapped.as_deref(), Some("203.0.113.5"));
}

#[tokio::test]
async fn without_trusted_hops_the_client_is_the_peer() {
    let req = request("POST", CHAT, &[("x-forwarded-for", "198.51.100.7")]);
    let req = from(Some("127.0.0.1:9"), req);
    let passed = pass(&HygieneLayer::new(), req).await.expect("served");
    assert!(passed.1.get::<ClientAddress>().is_none());
    assert!(
        passed.0.contains_key("x-forwarded-for"),
        "it passes as it came"
    );
}

#[tokio::test]
async fn only_this_machine_is_served_where_nobody_says_who_they_are() {
    let layer = HygieneLayer::new().local_only(true);
    let local = [("host", "localhost:8080")];
    let ask = |peer, headers: &[_]| from(peer, request("POST", CHAT, headers));
    for peer in [
        None,
        Some("127.3.2.1:9"),
        Some("[::1]:9"),
        Some("[::ffff:127.0.0.1]:9"),
    ] {
        assert!(pass(&layer, ask(peer, &local)).await.is_ok(), "{peer:?}");
    }
    for peer in [
        Some("10.0.0.1:9"),
        Some("[2001:db8::1]:9"),
        Some("0.0.0.0:9"),
    ] {
        let told = pass(&layer, ask(peer, &local)).await.err();
        assert_eq!(told, Some(Reason::Forbidden), "{peer:?}");
    }
    for more in [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "localhost"),
        ("forwarded", "for=127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("via", "1.1 proxy"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let told = pass(&layer, ask(None, &[local[0], more])).await.err();
        assert_eq!(told, Some(Reason::Forbidden), "{more:?}");
    }
    for host in ["evil.example", "10.0.0.1", "127.0.0.1.evil.example", ""] {
        let told = pass(&layer, ask(None, &[("host", host)])).await.err();
        assert_eq!(told, Some(Reason::Forbidden), "{host}");
    }
    assert!(
        pass(&layer, ask(None, &[])).await.is_err(),
        "no host at all"
    );
    let target = from(None, request("POST", "http://[::1]:80/v1/messages", &[]));
    assert!(pass(&layer, target).await.is_ok(), "as HTTP/2 names it");
    let page = [
        local[0],
        ("origin", "http://localhost:3000"),
        ("sec-fetch-site", "same-site"),
    ];
    assert!(pass(&layer, ask(None, &page)).await.is_ok());
}

#[tokio::test]
async fn trailers_of_a_request_end_here() {
    let trailers = || {
        let mut map = HeaderMap::new();
        map.insert("authorization", "Bearer evil".parse().unwrap());
        Item::Trailers(map)
    };
    for split in [Split::Whole, Split::Bytes(1)] {
        for body in [
            Script::data(b"hello", &split).then(trailers()),
            Script::data(b"hello", &split).then(trailers()).hinting(),
        ] {
            let body = collect(RequestBody::new(body)).await;
            assert!(body.trailers.is_none() && body.error.is_none());
            assert_eq!(body.bytes(), b"hello");
        }
    }
    let broken = collect(RequestBody::new(
        Script::data(b"a", &Split::Whole).then(Item::Error),
    ))
    .await;
    assert!(broken.error.is_some());
}

// ===== the laws =====

#[tokio::test(start_paused = true)]
async fn it_is_glass_to_an_ordinary_head() {
    let cases = laws::cases().into_iter().map(|mut case| {
        if case.name.starts_with("trailers") {
            // They are dropped, as the contract says.
            *case.request.body_mut() = Script::data(b"hello", &Split::Bytes(2));
        }
        case
    });
    laws::transparent(&HygieneLayer::new(), cases).await;
}

#[tokio::test(start_paused = true)]
async fn it_is_ready_when_the_inner_service_is() {
    laws::ready(&HygieneLayer::new()).await;
}

#[test]
fn its_types_can_cross_threads() {
    laws::types::<HygieneLayer>();
}

/// Without a `Conn` nobody is trusted, and where only this machine is served, nobody is served.
#[tokio::test(start_paused = true)]
async fn without_facts_nobody_is_believed() {
    let layer = HygieneLayer::new().trusted_hops(|_| true);
    let served = |outcome: &Outcome| matches!(outcome, Outcome::Answered(_, reached) if reached[0].extensions().get::<ClientAddress>().is_none());
    laws::absent_facts(&layer, served).await;
    let refused = |outcome: &Outcome| {
        let Outcome::Refused(error) = outcome else {
            return false;
        };
        Rejection::find(&**error).map(Rejection::reason) == Some(Reason::Forbidden)
    };
    laws::absent_facts(&HygieneLayer::new().local_only(true), refused).await;
}

/// An inner service that fails is told as it fails.
#[tokio::test(start_paused = true)]
async fn the_error_inside_is_passed_on() {
    let service = HygieneLayer::new().layer(Inner::<BoxError>::failing());
    let error = service
        .oneshot(request("POST", CHAT, &[]))
        .await
        .unwrap_err();
    assert!(Rejection::find(&*error).is_none());
}
