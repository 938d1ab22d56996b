use http::{HeaderMap, Request, Response, StatusCode};
use tollgate_testing::{
    body::{BoxError, Script},
    laws::{self, Inner, Outcome},
};
use tower::{Layer, ServiceExt};

use super::CorsLayer;
use crate::origin::OriginPattern;

const CHAT: &str = "/v1/chat/completions";
const PAGE: &str = "https://app.example.com";

fn layer() -> CorsLayer {
    let patterns = [PAGE, "https://*.corp.test", "http://localhost:3000"];
    CorsLayer::new(patterns.map(|text| OriginPattern::new(text).unwrap()))
}

fn request(method: &str, headers: &[(&'static str, &'static str)]) -> Request<Script> {
    let mut req = Request::builder().method(method).uri(CHAT);
    for (name, value) in headers {
        req = req.header(*name, *value);
    }
    req.body(Script::empty()).unwrap()
}

/// The head of the answer, and how often somebody inside was asked; a provider says that every page may read it.
async fn answer(layer: &CorsLayer, req: Request<Script>) -> (StatusCode, HeaderMap, usize) {
    let theirs = Response::builder()
        .header("access-control-allow-origin", "*")
        .header("access-control-allow-credentials", "true")
        .header("access-control-expose-headers", "openai-processing-ms")
        .header("vary", "accept-encoding")
        .body(Script::empty())
        .unwrap();
    let inner = Inner::<BoxError>::answering(theirs);
    let calls = inner.calls();
    let answer = layer.layer(inner).oneshot(req).await.unwrap();
    let (head, _) = answer.into_parts();
    (head.status, head.headers, calls.take().len())
}

fn all(headers: &HeaderMap, name: &str) -> Vec<String> {
    let values = headers.get_all(name).iter();
    values.map(|it| it.to_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn keeps_the_laws() {
    laws::types::<CorsLayer>();
    for empty in [CorsLayer::default(), CorsLayer::new([])] {
        laws::transparent(&empty, laws::cases()).await;
    }
    laws::ready(&layer()).await;
    laws::absent_facts(&layer(), |outcome| matches!(outcome, Outcome::Answered(..))).await;
}

#[tokio::test]
async fn a_browser_is_told_whether_its_page_may_ask_before_anybody_inside_is() {
    for origin in [PAGE, "https://a.corp.test", "http://localhost:3000"] {
        let asked = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            (
                "access-control-request-headers",
                "authorization, x-stainless-os",
            ),
        ];
        let (status, headers, calls) = answer(&layer(), request("OPTIONS", &asked)).await;
        assert_eq!((status, calls), (StatusCode::NO_CONTENT, 0), "{origin}");
        assert_eq!(all(&headers, "access-control-allow-origin"), [origin]);
        assert_eq!(
            all(&headers, "access-control-allow-headers"),
            ["authorization, x-stainless-os"]
        );
        assert!(
            headers["access-control-allow-methods"]
                .to_str()
                .unwrap()
                .contains("POST")
        );
        assert!(headers["vary"].to_str().unwrap().contains("origin"));
        assert!(!headers.contains_key("access-control-allow-credentials"));
    }
}

#[tokio::test]
async fn whoever_else_asks_that_goes_on_and_is_not_let_read_the_answer() {
    let method = ("access-control-request-method", "POST");
    for headers in [
        vec![("origin", "https://evil.test"), method],
        vec![("origin", "https://app.example.com.evil.test"), method],
        vec![("origin", "null"), method],
        vec![("origin", PAGE)],
        vec![method],
        vec![],
    ] {
        let (status, told, calls) = answer(&layer(), request("OPTIONS", &headers)).await;
        assert_eq!((status, calls), (StatusCode::OK, 1), "{headers:?}");
        let may = headers.contains(&("origin", PAGE));
        let expected: &[&str] = if may { &[PAGE] } else { &[] };
        assert_eq!(
            all(&told, "access-control-allow-origin"),
            expected,
            "{headers:?}"
        );
    }
}

#[tokio::test]
async fn a_page_that_may_ask_reads_the_answer_and_the_headers_of_ours() {
    let (_, headers, calls) = answer(&layer(), request("POST", &[("origin", PAGE)])).await;
    assert_eq!(calls, 1);
    assert_eq!(all(&headers, "access-control-allow-origin"), [PAGE]);
    assert!(!headers.contains_key("access-control-allow-credentials"));
    assert_eq!(all(&headers, "vary"), ["accept-encoding", "origin"]);
    let exposed = all(&headers, "access-control-expose-headers");
    assert_eq!(exposed[0], "openai-processing-ms");
    for name in [
        "x-request-id",
        "tollgate-refused-by",
        "ratelimit",
        "retry-after",
    ] {
        assert!(exposed[1].split(", ").any(|it| it == name), "{name}");
    }
    // Another page may not, whatever the provider says of it, and who is none is not told.
    for origin in [Some("https://evil.test"), None] {
        let headers: Vec<_> = origin.map(|it| ("origin", it)).into_iter().collect();
        let (_, told, _) = answer(&layer(), request("POST", &headers)).await;
        assert!(
            !told.contains_key("access-control-allow-origin"),
            "{origin:?}"
        );
        assert_eq!(all(&told, "vary"), ["accept-encoding", "origin"]);
    }
}

#[tokio::test]
async fn every_page_may_where_all_may() {
    let (_, headers, _) = answer(&CorsLayer::any(), request("POST", &[("origin", "null")])).await;
    assert_eq!(all(&headers, "access-control-allow-origin"), ["*"]);
    assert_eq!(all(&headers, "vary"), ["accept-encoding"]);
}
