//! The names that a request and its answer carry: its id, its times, and who served it where that may be told.

use tollgate_testing::{
    client::{Message, call},
    upstream::{Framing, ID, SCRIPT, Script, Upstream},
};

use crate::{
    binary::{CHAT, chat, shown},
    inside::{Inside, config, one},
};

const ANSWER: &str = r#"{"id":"a","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"a"},"finish_reason":"stop"}]}"#;

async fn gateway(more: &str) -> (Upstream, Inside) {
    let upstream = Upstream::start().await;
    let headers = [
        ("content-type", "application/json"),
        ("x-request-id", "the-provider-s"),
        ("server-timing", "theirs;dur=1"),
    ];
    upstream.serve(
        "named",
        Script::new()
            .head(200, &headers, Framing::Length(None))
            .body(ANSWER)
            .end(),
    );
    let inside = Inside::start(&config(&one(upstream.addr(), more)));
    (upstream, inside)
}

fn is_uuid_v7(id: &str) -> bool {
    uuid::Uuid::parse_str(id)
        .is_ok_and(|uuid| uuid.get_version_num() == 7 && uuid.to_string() == id)
}

#[tokio::test]
async fn a_sane_id_of_the_caller_is_kept_and_any_other_is_replaced() {
    let (upstream, inside) = gateway("").await;
    let (longest, too_long) = ("a".repeat(128), "a".repeat(129));
    let tries = [
        ("abc-DEF_1.2", true),
        (&*longest, true),
        (&*too_long, false),
        ("with space", false),
        ("a/b", false),
        ("h\u{e9}", false),
        ("", false),
    ];
    for (at, (theirs, kept)) in tries.into_iter().enumerate() {
        let test = at.to_string();
        let headers = [("x-request-id", theirs), (ID, &*test)];
        let answer = call(inside.data(), "POST", CHAT, &headers, chat("m", false)).await;
        let id = answer.header("x-request-id").unwrap().to_owned();
        assert_eq!(id == theirs, kept, "{theirs:?}: {id}");
        assert!(kept || is_uuid_v7(&id), "{theirs:?}: {id}");
        let line = inside.lines(at + 1).await.swap_remove(at);
        assert_eq!(line["request_id"], id, "{line}");
        // The provider's operator finds our line by it.
        assert_eq!(
            upstream
                .finished(&test, 1)
                .await
                .header("x-client-request-id"),
            Some(&*id)
        );
    }
    let ids = [(); 2].map(async |()| {
        let answer = call(inside.data(), "POST", CHAT, &[], chat("m", false)).await;
        answer.header("x-request-id").unwrap().to_owned()
    });
    let [first, second] = ids;
    let (first, second) = (first.await, second.await);
    assert!(
        is_uuid_v7(&first) && is_uuid_v7(&second) && first != second,
        "{first} {second}"
    );
}

#[tokio::test]
async fn the_provider_s_own_id_is_kept_beside_ours() {
    let (_upstream, inside) = gateway("").await;
    let headers = [("x-request-id", "the-caller-s"), (SCRIPT, "named")];
    let answer = call(inside.data(), "POST", CHAT, &headers, chat("m", false)).await;
    assert_eq!(answer.all("x-request-id"), ["the-provider-s"]);
    assert_eq!(answer.all("tollgate-request-id"), ["the-caller-s"]);
    assert_eq!(inside.lines(1).await[0]["request_id"], "the-caller-s");
}

#[tokio::test]
async fn our_share_of_the_time_is_told_beside_the_provider_s() {
    let (_upstream, inside) = gateway("").await;
    let answer = call(
        inside.data(),
        "POST",
        CHAT,
        &[(SCRIPT, "named")],
        chat("m", false),
    )
    .await;
    let timings = answer.all("server-timing");
    assert_eq!(timings.len(), 2, "{}", shown(&answer));
    assert_eq!(timings[0], "theirs;dur=1");
    let parts: Vec<_> = timings[1]
        .split(", ")
        .map(|part| part.split_once(";dur=").unwrap())
        .collect();
    let [("tollgate", own), ("up", waited)] = parts[..] else {
        panic!("{timings:?}")
    };
    for millis in [own, waited] {
        let millis: f64 = millis.parse().unwrap();
        assert!((0.0..10_000.0).contains(&millis), "{timings:?}");
    }
}

#[tokio::test]
async fn who_served_is_told_where_it_is_asked_for() {
    let names = |answer: &Message| {
        ["route", "provider", "model", "attempts"].map(|name| {
            answer
                .header(&format!("tollgate-{name}"))
                .map(str::to_owned)
        })
    };
    let (_upstream, inside) = gateway("server: { expose: debug }").await;
    let answer = call(inside.data(), "POST", CHAT, &[], chat("m-1", false)).await;
    let told = ["all", "one", "m-1", "1"].map(|name| Some(name.to_owned()));
    assert_eq!(names(&answer), told, "{}", shown(&answer));

    for more in ["", "server: { expose: none }"] {
        let (_upstream, inside) = gateway(more).await;
        let answer = call(inside.data(), "POST", CHAT, &[], chat("m-1", false)).await;
        assert_eq!(
            (answer.status(), names(&answer)),
            (200, [None, None, None, None])
        );
    }
}
