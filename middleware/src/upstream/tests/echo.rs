//! Our credential in what the provider says.

use proptest::prelude::*;
use tollgate_testing::body::Item;

use super::*;

/// The spellings that are looked for.
const SPELLINGS: [&str; 3] = [KEY, "sk-echo\\/7f31c0a9+e5", "sk-echo%2F7f31c0a9%2Be5"];

/// What is shown of an answer to a chat that asked for a stream, and the record of it.
async fn shown(response: Response<Script>) -> (Response<Collected>, Record) {
    let kept = record(CHAT);
    let mut req = post(CHAT, r#"{"model":"m","stream":true}"#);
    kept.set_intent(req.extensions().get::<Intent>().cloned().unwrap());
    req.extensions_mut().insert(kept.clone());
    let layer = UpstreamLayer::new(keyed());
    let inner = Inner::<BoxError>::answering(response);
    let (head, body) = layer.layer(inner).oneshot(req).await.unwrap().into_parts();
    (Response::from_parts(head, collect(body).await), kept)
}

fn answer(status: u16, kind: &str, body: Script) -> Response<Script> {
    let response = Response::builder().status(status);
    response.header("content-type", kind).body(body).unwrap()
}

/// The text without the key, in any spelling.
fn starred(text: &str) -> String {
    SPELLINGS.iter().fold(text.to_owned(), |text, spelling| {
        text.replace(spelling, &"*".repeat(spelling.len()))
    })
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(future)
}

/// Text with the key, parts of it, and what ends events, in any order.
fn text() -> impl Strategy<Value = String> {
    let words = prop_oneof![
        4 => prop::sample::select(SPELLINGS.to_vec()).prop_map(str::to_owned),
        4 => (0..KEY.len()).prop_map(|end| KEY[..end].to_owned()),
        2 => (0..KEY.len()).prop_map(|start| KEY[start..].to_owned()),
        3 => "[a-z \"{}:,*\u{e9}-]{0,9}",
        1 => Just("\n".to_owned()),
    ];
    prop::collection::vec(words, 0..12).prop_map(|words| words.concat())
}

proptest! {
    /// No key survives in an error's body, whatever its frames, and nothing else changes.
    #[test]
    fn an_error_has_no_key_in_any_split(
        text in text(),
        sizes in prop::collection::vec(1usize..30, 0..40),
        hinting in any::<bool>(),
        status in prop::sample::select(vec![300u16, 400, 401, 429, 500, 503]),
    ) {
        let body = Script::data(text.as_bytes(), &Split::Sizes(sizes));
        let body = if hinting { body.hinting() } else { body };
        let (got, kept) = run(shown(answer(status, "application/json", body)));
        prop_assert_eq!(got.body().text(), starred(&text));
        prop_assert_eq!(!kept.edited_by().is_empty(), starred(&text) != text);
    }

    /// As far as an event tells of an error before it names the key, none of it survives; and other events are not touched.
    #[test]
    fn an_error_event_has_no_key_in_any_split(
        events in prop::collection::vec((any::<bool>(), text()), 0..6),
        ending in prop::sample::select(vec!["\n\n", "\r\n\r\n"]),
        sizes in prop::collection::vec(1usize..30, 0..60),
        lines in any::<bool>(),
    ) {
        let (mut given, mut expected) = (String::new(), String::new());
        for (fails, text) in events {
            let text = text.replace('\n', " ");
            let start = if fails { "data: {\"error\":\"" } else { "data: {\"text\":\"" };
            let end = if lines { "\n" } else { ending };
            given += &format!("{start}{text}{end}");
            let text = if fails { starred(&text) } else { text };
            expected += &format!("{start}{text}{end}");
        }
        let kind = if lines { "application/x-ndjson" } else { "text/event-stream" };
        let body = Script::data(given.as_bytes(), &Split::Sizes(sizes));
        let (got, _) = run(shown(answer(200, kind, body)));
        prop_assert_eq!(got.body().text(), expected);
    }

    /// Also where the word comes behind the key: then the first bytes of it may have gone.
    #[test]
    fn an_event_that_says_late_that_it_is_an_error_has_no_whole_key(
        before in "[a-z ]{0,20}",
        between in "[a-z ]{0,20}",
        sizes in prop::collection::vec(1usize..30, 0..60),
    ) {
        let given = format!("data: ok\n\ndata: {before}{KEY}{between}\",\"type\":\"error\"\n\ndata: {KEY}\n\n");
        let body = Script::data(given.as_bytes(), &Split::Sizes(sizes));
        let (got, _) = run(shown(answer(200, "text/event-stream", body)));
        let text = got.body().text();
        prop_assert_eq!(text.matches(KEY).count(), 1, "{}", text);
        let healthy = format!("data: {KEY}\n\n");
        prop_assert!(text.ends_with(&healthy));
        prop_assert_eq!(text.len(), given.len());
        let other = text.bytes().zip(given.bytes()).filter(|(shown, given)| shown != given);
        prop_assert!(other.clone().all(|(shown, _)| shown == b'*'));
        prop_assert!(other.count() > KEY.len() / 2);
    }
}

/// A healthy frame goes on in the poll that it came in, also one that ends like a key begins.
#[tokio::test]
async fn no_healthy_frame_is_kept_back() {
    let frames = [
        "data: s",
        "k\n\ndata: sk-",
        "\n\n",
        "data: ok\n\n",
        "data: {\"error\":null}\n\n",
    ];
    let body = Script::new(frames.map(|text| Item::Data(text.into())));
    let (got, _) = shown(answer(200, "text/event-stream", body)).await;
    let seen: Vec<_> = got.body().frames.iter().map(|it| it.to_vec()).collect();
    assert_eq!(seen, frames.map(|text| text.as_bytes().to_vec()));
}

/// It is not kept for ever either until its event has ended.
#[tokio::test]
async fn an_event_with_the_key_that_never_ends_is_masked_when_too_much_is_held() {
    let mut frames = vec![Item::Data(format!("data: {KEY}").into())];
    frames.extend((0..9).map(|_| Item::Data(vec![b'x'; 10_000].into())));
    let (got, _) = shown(answer(200, "text/event-stream", Script::new(frames))).await;
    assert_eq!(got.body().bytes().len(), 6 + KEY.len() + 90_000);
    assert!(got.body().text().starts_with("data: ******"));
    let largest = got.body().frames.iter().map(|it| it.len()).max();
    assert!(largest < Some(80_000), "{largest:?}");
}

#[tokio::test]
async fn the_key_is_masked_in_the_headers_of_every_answer_and_in_trailers_of_errors() {
    for status in [200, 204, 404] {
        let mut response = answer(status, "application/json", Script::empty());
        let echo = format!("Bearer {KEY} and {KEY}");
        response
            .headers_mut()
            .insert("x-echo", echo.parse().unwrap());
        let other = HeaderValue::from_bytes(b"caf\xe9 sk-echo").unwrap();
        response.headers_mut().insert("x-other", other.clone());
        let (got, _) = shown(response).await;
        assert_eq!(got.headers()["x-echo"], starred(&echo), "{status}");
        assert_eq!(got.headers()["x-other"], other);
    }
    let trailers = HeaderMap::from_iter([(http::header::ETAG, KEY.parse().unwrap())]);
    let body = Script::data(&KEY.as_bytes()[..9], &Split::Whole).then(Item::Trailers(trailers));
    let (got, _) = shown(answer(500, "text/plain", body)).await;
    assert_eq!(
        got.body().text(),
        &KEY[..9],
        "what was kept back comes before them"
    );
    assert_eq!(got.body().trailers.as_ref().unwrap()["etag"], starred(KEY));
}

#[tokio::test]
async fn what_was_kept_back_comes_before_the_failure() {
    let body = Script::data(&KEY.as_bytes()[..9], &Split::Whole).then(Item::Error);
    let (got, _) = shown(answer(500, "text/plain", body)).await;
    assert_eq!(got.body().text(), &KEY[..9]);
    assert!(got.body().error.is_some());
}

#[tokio::test]
async fn a_success_that_is_no_stream_is_not_looked_into() {
    let text = format!("{{\"error\":\"{KEY}\"}}");
    for kind in ["application/octet-stream", "audio/mpeg"] {
        let body = Script::data(text.as_bytes(), &Split::Whole);
        let (got, kept) = shown(answer(200, kind, body)).await;
        assert_eq!(got.body().text(), text, "{kind}");
        assert!(kept.edited_by().is_empty());
    }
}

/// What cannot be looked into is not shown: its status and other headers are.
#[tokio::test]
async fn an_error_that_cannot_be_read_is_replaced() {
    let small = || Script::data(b"\x1f\x8b", &Split::Whole);
    let large = Script::data(&vec![b'x'; 256 * 1024 + 1], &Split::Bytes(10_000)).exact();
    let most = Script::data(&vec![b'x'; 256 * 1024], &Split::Bytes(10_000)).exact();
    for (name, coding, body, replaced) in [
        ("gzip", "gzip", small(), true),
        ("identity", "identity", small(), false),
        ("large", "identity", large, true),
        ("most", "identity", most.clone(), false),
        ("empty", "gzip", Script::empty(), false),
    ] {
        let mut response = answer(429, "text/html", body.clone());
        response
            .headers_mut()
            .insert("retry-after", "7".parse().unwrap());
        response
            .headers_mut()
            .insert("content-encoding", coding.parse().unwrap());
        let (got, kept) = shown(response).await;
        assert_eq!(
            (got.status().as_u16(), &got.headers()["retry-after"]),
            (429, &HeaderValue::from(7))
        );
        let told = got.body().text();
        let error = told.contains("upstream_error");
        assert_eq!(error, replaced, "{name}: {told:.100}");
        assert_eq!(kept.edited_by() == ["upstream"], replaced, "{name}");
        if replaced {
            assert_eq!(got.headers()["content-type"], "application/json");
            assert_eq!(got.headers()["content-length"], told.len().to_string());
            assert!(!got.headers().contains_key("content-encoding"));
            assert!(json::Value::parse(told.as_bytes()).is_some());
        } else {
            assert_eq!(got.headers()["content-encoding"], coding, "{name}");
            assert_eq!(got.body().bytes(), collect(body).await.bytes());
        }
    }
}

#[tokio::test]
async fn without_a_key_nothing_is_looked_into() {
    for credential in [Credential::None, Credential::bearer("none").unwrap()] {
        let mut response = answer(401, "text/plain", Script::data(b"none", &Split::Whole));
        let gzip = HeaderValue::from_static("gzip");
        response.headers_mut().insert("content-encoding", gzip);
        let layer = UpstreamLayer::new(bare().credential(credential));
        let inner = Inner::<BoxError>::answering(response);
        let got = layer.layer(inner).oneshot(post(CHAT, "{}")).await.unwrap();
        assert_eq!(collect(got.into_body()).await.text(), "none");
    }
}
