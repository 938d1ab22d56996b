//! What comes back, and what the record says of it.

use std::time::Duration;

use super::*;
use crate::record::Mark;

async fn answered(
    req: Request<Held<Script>>,
    response: Response<Script>,
) -> Result<Response<super::super::ResponseBody<Script>>, BoxError> {
    let inner = Inner::<BoxError>::answering(response);
    UpstreamLayer::new(bare()).layer(inner).oneshot(req).await
}

#[tokio::test]
async fn a_redirect_is_a_broken_protocol_and_no_other_status_is() {
    for status in [101, 301, 302, 303, 307, 308] {
        let response = Response::builder()
            .status(status)
            .header("location", "https://evil.test/")
            .body(Script::empty())
            .unwrap();
        let kept = record(CHAT);
        let mut req = post(CHAT, "{}");
        req.extensions_mut().insert(kept.clone());
        let error = answered(req, response).await.unwrap_err();
        let found = Rejection::find(&*error).unwrap();
        assert_eq!(
            (found.reason(), found.layer()),
            (Reason::Protocol, "upstream")
        );
        assert!(!found.message().contains("evil"));
        assert_eq!(kept.attempts()[0].error, Some("protocol"));
    }
    for status in [200, 204, 300, 304, 400, 404, 429, 500, 503] {
        let response = Response::builder()
            .status(status)
            .body(Script::empty())
            .unwrap();
        assert_eq!(
            answered(post(CHAT, "{}"), response).await.unwrap().status(),
            status
        );
    }
}

#[tokio::test]
async fn what_belongs_to_the_providers_connection_stays_there() {
    let response = Response::builder()
        .header("connection", "close, X-Own")
        .header("x-own", "1")
        .header("keep-alive", "timeout=5")
        .header("transfer-encoding", "chunked")
        .header("set-cookie", "a=b")
        .header("proxy-authenticate", "Basic")
        .header("server", "theirs")
        .header("x-request-id", "theirs")
        .body(Script::empty())
        .unwrap();
    let got = answered(post(CHAT, "{}"), response).await.unwrap();
    let names: Vec<_> = got.headers().keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["server", "x-request-id"]);
}

#[tokio::test(start_paused = true)]
async fn the_record_gets_the_attempt_with_its_time() {
    let kept = record(CHAT);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let inner = service_fn(async |_: Request<Held<Script>>| {
        tokio::time::sleep(Duration::from_millis(70)).await;
        let response = Response::builder().status(429).body(Script::empty());
        Ok::<_, BoxError>(response.unwrap())
    });
    let target = bare().renames(|_| Some("own".into())).label("control");
    let mut req = routed(post(CHAT, "{\"model\":\"m\"}"), "resolved");
    req.extensions_mut().insert(kept.clone());
    UpstreamLayer::new(target)
        .layer(inner)
        .oneshot(req)
        .await
        .unwrap();
    let [attempt] = &kept.attempts()[..] else {
        panic!("one attempt");
    };
    assert_eq!((&*attempt.provider, &*attempt.target), ("acme", "acme"));
    assert_eq!(
        (attempt.label.as_deref(), attempt.model.as_deref()),
        (Some("control"), Some("own"))
    );
    assert_eq!((attempt.status, attempt.error), (Some(429), None));
    assert_eq!(attempt.took, Duration::from_millis(70));
    let waited = kept.at(Mark::UpstreamHead).unwrap() - kept.at(Mark::Sent).unwrap();
    assert_eq!(waited, Duration::from_millis(70));
}

#[tokio::test(start_paused = true)]
async fn a_failed_attempt_is_told_in_a_fixed_word() {
    for (error, word) in [
        (BoxError::from("unexplained"), "internal"),
        (
            Rejection::new(Reason::Connect, "upstream", "").into(),
            "connect",
        ),
        (
            Rejection::new(Reason::UpstreamTimeout, "upstream", "").into(),
            "timeout",
        ),
        (
            Rejection::new(Reason::Closed, "upstream", "").into(),
            "closed",
        ),
    ] {
        let kept = record(CHAT);
        let mut error = Some(error);
        let inner = service_fn(move |_: Request<Held<Script>>| {
            std::future::ready(Err::<Response<Script>, _>(
                error.take().expect("called once"),
            ))
        });
        let mut req = post(CHAT, "{\"model\":\"x\"}");
        req.extensions_mut().insert(kept.clone());
        let layer = UpstreamLayer::new(bare().model("m"));
        assert!(layer.layer(inner).oneshot(req).await.is_err());
        let [attempt] = &kept.attempts()[..] else {
            panic!("one attempt");
        };
        assert_eq!((attempt.status, attempt.error), (None, Some(word)));
        assert_eq!(
            (&*attempt.target, attempt.model.as_deref()),
            ("acme/m", Some("m"))
        );
        assert_eq!(kept.at(Mark::UpstreamHead), None);
    }
}
