use std::{
    net::IpAddr,
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderMap, HeaderValue, Method, Request, Response};
use tollgate_testing::{
    body::Script,
    laws::{self, Inner, Outcome},
};
use tower::{Layer, ServiceExt};

use super::{AuthLayer, Digest, Grant, Keys, Unknown};
use crate::{
    clock::{Clock, SystemClock},
    dialect::Operation,
    error::{BoxError, Reason, Rejection},
    facts::{Caller, ClientAddress, Terms},
    origin::OriginPattern,
    record::Record,
};

#[cfg(feature = "jwt")]
mod jwt;

const CHAT: &str = "/v1/chat/completions";
const GEMINI: &str = "/v1beta/models/gemini-2.5-pro:generateContent";
const KEY: &str = "tg-0123456789abcdef0123";
const OTHER: &str = "tg-fedcba9876543210fedc";

fn grant(name: &str) -> Grant {
    Grant::new(Caller::new(name, Terms::default()))
}

fn keys(grants: impl IntoIterator<Item = (&'static str, Grant)>) -> Keys {
    let digested = |(key, grant)| (Digest::of(key).unwrap(), grant);
    Keys::new(grants.into_iter().map(digested)).unwrap()
}

fn both() -> AuthLayer {
    AuthLayer::new(keys([(KEY, grant("a")), (OTHER, grant("b"))]))
}

fn get(uri: &str, headers: &[(&'static str, &str)]) -> Request<Script> {
    let mut req = Request::post(uri).body(Script::empty()).unwrap();
    for (name, value) in headers {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        req.headers_mut().append(*name, value);
    }
    req
}

/// What arrives inside.
async fn sends<C: Clock>(
    layer: &AuthLayer<C>,
    req: Request<Script>,
) -> Result<http::request::Parts, Rejection> {
    let inner = Inner::<BoxError>::answering(Response::new(Script::empty()));
    let calls = inner.calls();
    match layer.layer(inner).oneshot(req).await {
        Ok(_) => Ok(calls.take().pop().expect("it was called").into_parts().0),
        Err(error) => {
            assert!(calls.take().is_empty());
            Err(*error.downcast().expect("a rejection"))
        }
    }
}

fn name(head: &http::request::Parts) -> &str {
    head.extensions.get::<Caller>().expect("a caller").name()
}

async fn refused<C: Clock>(layer: &AuthLayer<C>, req: Request<Script>) -> (Reason, String) {
    let why = sends(layer, req).await.expect_err("it was let in");
    assert_eq!(why.layer(), "auth");
    (why.reason(), why.message().to_owned())
}

#[tokio::test(start_paused = true)]
async fn keeps_the_laws() {
    let open = AuthLayer::open();
    laws::types::<AuthLayer>();
    laws::transparent(&open, laws::cases()).await;
    laws::ready(&open).await;
    laws::absent_facts(&open, |outcome| matches!(outcome, Outcome::Answered(..))).await;
    let closed = |outcome: &Outcome| {
        matches!(outcome, Outcome::Refused(error)
            if Rejection::find(&**error).map(Rejection::reason) == Some(Reason::Unauthenticated))
    };
    laws::absent_facts(&both(), closed).await;
}

#[tokio::test]
async fn a_key_is_found_in_every_slot_and_goes_no_further() {
    let bearer = format!("Bearer {KEY}");
    let lower = format!("bEARER   {KEY}");
    let socket = format!("realtime, openai-insecure-api-key.{KEY}, openai-beta.realtime-v1");
    let rows = [
        (CHAT, "authorization", bearer.as_str()),
        (CHAT, "authorization", lower.as_str()),
        (CHAT, "x-api-key", KEY),
        (CHAT, "api-key", KEY),
        (CHAT, "x-goog-api-key", KEY),
        (CHAT, "tollgate-key", KEY),
        ("/v1/realtime?model=m", "sec-websocket-protocol", &socket),
        (GEMINI, "x-goog-api-key", KEY),
        ("/anything", "x-api-key", KEY),
    ];
    for (path, slot, value) in rows {
        let head = sends(&both(), get(path, &[(slot, value)])).await.unwrap();
        assert_eq!(name(&head), "a", "{slot}");
        assert_eq!(head.uri, path);
        let told = format!("{:?}", head.headers);
        assert!(!told.contains(KEY), "{told}");
    }
    let head = sends(
        &both(),
        get("/v1/realtime", &[("sec-websocket-protocol", &socket)]),
    )
    .await;
    let left = &head.unwrap().headers["sec-websocket-protocol"];
    assert_eq!(left, "realtime, openai-beta.realtime-v1");
}

#[tokio::test]
async fn a_key_in_the_query_counts_on_geminis_paths_only() {
    let rows = [
        (format!("{GEMINI}?key={KEY}"), GEMINI.to_owned()),
        (
            format!("{GEMINI}?alt=sse&key={KEY}&x=1"),
            format!("{GEMINI}?alt=sse&x=1"),
        ),
        (
            format!("{GEMINI}?%6bey=tg%2D0123456789abcdef0123"),
            GEMINI.to_owned(),
        ),
        (
            format!("/v1beta/files?key={KEY}"),
            "/v1beta/files".to_owned(),
        ),
        (
            format!("http://gate.test{GEMINI}?key={KEY}"),
            format!("http://gate.test{GEMINI}"),
        ),
    ];
    for (uri, left) in rows {
        let head = sends(&both(), get(&uri, &[])).await.unwrap();
        assert_eq!((name(&head), head.uri.to_string()), ("a", left));
    }
    for path in [CHAT, "/v1/messages", "/anything", "/v1/files"] {
        let req = get(&format!("{path}?key={KEY}"), &[]);
        assert_eq!(
            refused(&both(), req).await.0,
            Reason::Unauthenticated,
            "{path}"
        );
    }
}

#[tokio::test]
async fn equal_copies_are_one_key_and_two_keys_are_none() {
    let bearer = format!("Bearer {KEY}");
    let twice = [
        ("authorization", bearer.as_str()),
        ("api-key", KEY),
        ("x-api-key", KEY),
    ];
    let head = sends(&both(), get(CHAT, &twice)).await.unwrap();
    assert_eq!(name(&head), "a");
    assert!(head.headers.is_empty());
    let rows = [
        (
            CHAT.to_owned(),
            vec![("authorization", bearer.as_str()), ("x-api-key", OTHER)],
        ),
        (
            CHAT.to_owned(),
            vec![("x-api-key", KEY), ("x-api-key", OTHER)],
        ),
        (
            CHAT.to_owned(),
            vec![("x-api-key", KEY), ("x-goog-api-key", "nonsense")],
        ),
        (
            format!("{GEMINI}?key={OTHER}"),
            vec![("x-goog-api-key", KEY)],
        ),
        (format!("{GEMINI}?key={KEY}&key={OTHER}"), vec![]),
    ];
    for (uri, headers) in rows {
        let (reason, told) = refused(&both(), get(&uri, &headers)).await;
        assert_eq!(reason, Reason::Malformed);
        assert!(
            headers.iter().all(|(name, _)| told.contains(name)),
            "{told}"
        );
        assert!(!told.contains(KEY) && !told.contains(OTHER));
    }
}

#[tokio::test]
async fn beside_a_key_of_ours_the_usual_slots_are_the_callers_own() {
    let theirs = [
        ("tollgate-key", KEY),
        ("authorization", "Bearer sk-own"),
        ("x-api-key", "sk-other"),
    ];
    let head = sends(&both(), get(CHAT, &theirs)).await.unwrap();
    assert_eq!(name(&head), "a");
    assert!(!head.headers.contains_key("tollgate-key"));
    assert_eq!(head.headers["authorization"], "Bearer sk-own");
    // One that is wrong is not made up for by another slot.
    let wrong = [("tollgate-key", "nonsense"), ("x-api-key", KEY)];
    let (reason, _) = refused(&both(), get(CHAT, &wrong)).await;
    assert_eq!(reason, Reason::Unauthenticated);
}

/// C04, C05: one refusal for all of them.
#[tokio::test]
async fn whatever_is_wrong_with_a_key_is_told_alike() {
    let past = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    let layer = AuthLayer::new(keys([
        (KEY, grant("a")),
        ("tg-expired-expired-expired", grant("e").expires(past)),
        ("tg-revoked-revoked-revoked", grant("r").disabled(true)),
    ]));
    let long = "k".repeat(64 * 1024);
    let bearer_long = format!("Bearer {long}");
    let comma = format!("Bearer {KEY}, Bearer {KEY}");
    let prefix = format!("Bearer {}", &KEY[..KEY.len() - 1]);
    let longer = format!("Bearer {KEY}0");
    let upper = format!("Bearer {}", KEY.to_uppercase());
    let rows: &[&[(&'static str, &str)]] = &[
        &[],
        &[("authorization", "")],
        &[("authorization", "Bearer")],
        &[("authorization", "Bearer ")],
        &[("authorization", "bearer  x")],
        &[("authorization", KEY)],
        &[("authorization", "Basic dTpw")],
        &[("authorization", &bearer_long)],
        &[("authorization", &comma)],
        &[("authorization", &prefix)],
        &[("authorization", &longer)],
        &[("authorization", &upper)],
        &[("x-api-key", "")],
        &[("x-api-key", &long)],
        &[("x-api-key", "schl\u{fc}ssel")],
        &[("x-api-key", "tg-expired-expired-expired")],
        &[("x-api-key", "tg-revoked-revoked-revoked")],
        &[("x-api-key", "' OR '1'='1")],
        &[("x-api-key", "*")],
        &[("x-api-key", "../../a")],
        &[("x-api-key", "redis.call('get','a')")],
        &[("tollgate-key", "")],
    ];
    let first = refused(&layer, get(CHAT, rows[0])).await;
    assert_eq!(first.0, Reason::Unauthenticated);
    for row in rows {
        assert_eq!(refused(&layer, get(CHAT, row)).await, first, "{row:?}");
    }
    // A hash is no key.
    let digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let hashed = AuthLayer::new(Keys::new([(digest.parse().unwrap(), grant("h"))]).unwrap());
    assert_eq!(
        refused(&hashed, get(CHAT, &[("x-api-key", digest)])).await,
        first
    );
    sends(&hashed, get(CHAT, &[("x-api-key", "abc")]))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_key_ends_with_its_last_moment_by_the_wall_clock() {
    #[derive(Clone, Copy)]
    struct At(u64);
    impl Clock for At {
        type Sleep = tokio::time::Sleep;
        fn now(&self) -> Instant {
            SystemClock.now()
        }
        fn wall(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH + Duration::from_secs(self.0)
        }
        fn sleep_until(&self, at: Instant) -> Self::Sleep {
            SystemClock.sleep_until(at)
        }
    }
    let expires = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    let keys = keys([(KEY, grant("a").expires(expires))]);
    let at = |second| AuthLayer::new(keys.clone()).clock(At(second));
    let req = || get(CHAT, &[("x-api-key", KEY)]);
    sends(&at(999), req()).await.unwrap();
    assert_eq!(refused(&at(1000), req()).await.0, Reason::Unauthenticated);
}

#[tokio::test]
async fn a_key_is_valid_from_its_addresses_for_its_pages_and_its_surfaces_only() {
    let address = |ip: IpAddr| ip == IpAddr::from([10, 1, 2, 3]);
    let page = OriginPattern::new("https://*.example.com").unwrap();
    let layer = AuthLayer::new(keys([
        (KEY, grant("a").from(address)),
        (OTHER, grant("b").origins([page])),
        (
            "tg-surfaces-surfaces",
            grant("c").surfaces([Operation::Chat]),
        ),
    ]));
    let from = |ip: Option<&str>| {
        let mut req = get(CHAT, &[("x-api-key", KEY)]);
        if let Some(ip) = ip {
            let address = ClientAddress::new(ip.parse().unwrap());
            req.extensions_mut().insert(address);
        }
        req
    };
    sends(&layer, from(Some("10.1.2.3"))).await.unwrap();
    sends(&layer, from(Some("::ffff:10.1.2.3"))).await.unwrap();
    for other in [Some("10.1.2.4"), Some("::1"), None] {
        assert_eq!(refused(&layer, from(other)).await.0, Reason::Forbidden);
    }
    let page = |headers: &[(&'static str, &str)]| {
        let mut all = vec![("x-api-key", OTHER)];
        all.extend(headers);
        get(CHAT, &all)
    };
    sends(&layer, page(&[("origin", "https://a.example.com")]))
        .await
        .unwrap();
    for other in [vec![], vec![("origin", "https://evil.test")]] {
        assert_eq!(refused(&layer, page(&other)).await.0, Reason::Forbidden);
    }
    let surface = |path: &str| get(path, &[("x-api-key", "tg-surfaces-surfaces")]);
    sends(&layer, surface(CHAT)).await.unwrap();
    let mut list = surface("/v1/models");
    *list.method_mut() = Method::GET;
    sends(&layer, list).await.unwrap();
    for path in ["/v1/embeddings", "/v1/messages", "/v1/files", "/anything"] {
        assert_eq!(
            refused(&layer, surface(path)).await.0,
            Reason::Forbidden,
            "{path}"
        );
    }
}

#[tokio::test]
async fn the_record_is_told_who_it_was() {
    let record = Record::new(
        HeaderValue::from_static("r"),
        (&Method::POST, &CHAT.parse().unwrap(), &HeaderMap::new()),
        SystemClock.now(),
        SystemTime::UNIX_EPOCH,
    );
    let mut req = get(CHAT, &[("x-api-key", OTHER)]);
    req.extensions_mut().insert(record.clone());
    sends(&both(), req).await.unwrap();
    assert_eq!(record.caller().map(|it| &**it), Some("b"));
}

#[tokio::test]
async fn who_cannot_be_told_now_is_asked_to_come_again() {
    let layer = AuthLayer::new(|_: &super::Presented<'_>| {
        Err(Unknown::Unavailable(Duration::from_secs(7)))
    });
    let why = sends(&layer, get(CHAT, &[("x-api-key", KEY)]))
        .await
        .unwrap_err();
    assert_eq!(
        (why.reason(), why.wait()),
        (Reason::Overloaded, Some(Duration::from_secs(7)))
    );
}

#[test]
fn nonsense_is_no_key_and_two_callers_do_not_share_one() {
    assert!(Digest::of("").is_err());
    let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let of_abc = Digest::of("abc").unwrap();
    assert_eq!(format!("sha256:{hex}").parse(), Ok(of_abc));
    assert_eq!(format!("sha256:{}", hex.to_uppercase()).parse(), Ok(of_abc));
    for text in [
        "",
        "sha256:",
        hex,
        &format!("sha256:{}", &hex[1..]),
        &format!("sha256:{hex}00"),
        &format!("sha256:g{}", &hex[1..]),
    ] {
        assert!(text.parse::<Digest>().is_err(), "{text}");
    }
    let shared = Keys::new([(of_abc, grant("a")), (of_abc, grant("b"))]).unwrap_err();
    assert_eq!(shared.callers.map(|it| it.to_string()), ["a", "b"]);
}

/// C07: what is looked up and compared is the digest alone, and the one comparison that there is has no early end, which an example
/// measures (`constant_time`).
#[tokio::test]
async fn a_key_is_found_by_its_digest_and_compared_without_an_early_end() {
    // Made from the digest, the table never saw the key.
    let digest = Digest::of(KEY).unwrap();
    let layer = AuthLayer::new(Keys::new([(digest, grant("a"))]).unwrap());
    let head = sends(&layer, get(CHAT, &[("x-api-key", KEY)])).await;
    assert_eq!(name(&head.unwrap()), "a");
    let source = include_str!("keys.rs");
    let compares = source.split("impl PartialEq for Digest").nth(1).unwrap();
    let (compares, _) = compares.split_once("\n}\n").unwrap();
    assert!(
        compares.contains("self.0.ct_eq(&other.0).into()"),
        "{compares}"
    );
    let derives: Vec<_> = source
        .lines()
        .filter(|line| line.contains("derive(") && line.contains("PartialEq"))
        .collect();
    assert_eq!(
        derives.len(),
        2,
        "of what is no key, and of two that share one: {derives:?}"
    );
    let finds = source.split("fn find").nth(1).unwrap();
    let (finds, _) = finds.split_once("\n    }\n").unwrap();
    assert!(
        finds.contains("self.0.get(&digest)") && !finds.contains("=="),
        "{finds}"
    );
}

/// C08: nothing that is printed helps to find a key.
#[test]
fn debug_texts_hold_no_key_and_no_digest() {
    let keys = keys([(KEY, grant("a"))]);
    let digest = Digest::of(KEY).unwrap();
    let layer = AuthLayer::new(keys.clone());
    let presented = super::Presented {
        key: KEY.as_bytes(),
        bearer: true,
        now: SystemTime::UNIX_EPOCH,
        at: SystemClock.now(),
    };
    let printed = format!(
        "{keys:?} {digest:?} {layer:?} {presented:?} {:?}",
        grant("a")
    );
    let bytes = format!("{:?}", KEY.as_bytes());
    assert!(
        !printed.contains(KEY) && !printed.contains(&bytes),
        "{printed}"
    );
    assert!(printed.contains("Digest(…)"));
}
