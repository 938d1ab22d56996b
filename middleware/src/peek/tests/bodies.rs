//! What is made of a body.

use proptest::prelude::*;
use tollgate_testing::splits::splits;

use super::*;

#[tokio::test]
async fn a_json_body_is_held_byte_for_byte_and_told_with_its_spans() {
    let text = "  {\"mod\\u0065l\": \"gpt-\\u0034\", \"stream\":true , \"n\":2,\n\"max_tokens\":4e3, \
        \"stream_options\":{\"include_usage\":true},\"tools\":[{}],\"user\":\"u\", \"x\":[1.0,\"\u{e9}\"] } ";
    for split in splits(text.len(), None, 1, 8) {
        let body = Script::data(text.as_bytes(), &split).hesitating();
        let reached = peek(post(CHAT, "application/json", body)).await.unwrap();
        assert!(reached.held);
        assert_eq!(reached.body.text(), text);
        assert_eq!(reached.body.hints[0].upper, Some(text.len() as u64));
        let intent = reached.intent.expect("a JSON body on a known surface");
        assert_eq!((intent.model(), intent.user()), (Some("gpt-4"), Some("u")));
        assert!(intent.stream() && intent.include_usage() && intent.tools());
        assert_eq!(intent.choices(), 2);
        assert_eq!(&text[intent.model_span().unwrap()], "\"gpt-\\u0034\"");
        let [limit] = intent.limits() else {
            panic!("one limit");
        };
        assert_eq!(
            (limit.value, &text[limit.span.clone()]),
            (Some(4000), "4e3")
        );
        let object = &text[intent.object().unwrap()];
        assert!(object.starts_with("{\"mod") && object.ends_with("] }"));
    }
}

#[tokio::test]
async fn what_is_on_a_json_surface_is_json_whatever_its_label_says() {
    for kind in [
        "application/x-www-form-urlencoded",
        "text/plain",
        "",
        "application/json; charset=utf-8",
    ] {
        let reached = peek(post(CHAT, kind, whole(r#"{"model":"m"}"#)))
            .await
            .unwrap();
        assert!(reached.held && reached.intent.is_some(), "{kind:?}");
    }
    for kind in [
        "audio/wav",
        "image/png",
        "application/octet-stream",
        "Video/mp4",
        "multipart/mixed",
        "multipart/form-data; boundary=x",
    ] {
        let reached = peek(post(CHAT, kind, whole("not json"))).await.unwrap();
        assert!(!reached.held && reached.intent.is_none(), "{kind:?}");
        assert_eq!(reached.body.text(), "not json");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_streamed_and_says_nothing() {
    let mut compressed = json("\u{1}\u{2}");
    compressed
        .headers_mut()
        .insert("content-encoding", "gzip".parse().unwrap());
    let unknown = post("/elsewhere", "application/json", whole("{"));
    let prefixed = post("/v1/files", "application/json", whole("{"));
    for req in [compressed, unknown, prefixed] {
        let reached = peek(req).await.unwrap();
        assert!(!reached.held && reached.intent.is_none());
        assert!(reached.body.whole() && !reached.body.frames.is_empty());
    }
    let mut plain = json(r#"{"model":"m"}"#);
    plain
        .headers_mut()
        .insert("content-encoding", "Identity".parse().unwrap());
    assert!(peek(plain).await.unwrap().intent.is_some());
}

#[tokio::test]
async fn a_get_is_not_read_and_an_empty_post_is_no_json() {
    for method in ["GET", "HEAD", "OPTIONS"] {
        let mut req = json("");
        *req.method_mut() = method.parse().unwrap();
        *req.uri_mut() = "/v1/models".parse().unwrap();
        let reached = peek(req).await.unwrap();
        assert!(
            reached.intent.is_none() && reached.body.frames.is_empty(),
            "{method}"
        );
    }
    assert_eq!(refusal(json("")).await.0, Reason::Malformed);
    let empty = post(CHAT, "application/json", Script::empty());
    assert_eq!(refusal(empty).await.0, Reason::Malformed);
}

#[tokio::test]
async fn the_message_of_a_refusal_tells_the_place_of_the_fault() {
    for (text, word) in [
        (r#"{"model":"m","x":}"#, "17"),
        (r#"{"model":"m","x":1,"x":2}"#, "19"),
        (r#"{"model":"m","mod\u0065l":"n"}"#, "13"),
        (r#"{"model":"m"} x"#, "14"),
        (
            r#"{"model":7}"#,
            "`model` has a value of the wrong type (byte 9)",
        ),
        (
            r#"{"stream":"yes"}"#,
            "`stream` has a value of the wrong type (byte 10)",
        ),
        // C13: a reader in Go takes the last one, whatever its letters.
        (
            r#"{"model":"m","Model":"n"}"#,
            "`model` is spelled in other letters, which not all take for another member (byte 21)",
        ),
        (
            r#"{"m\u004fDEL":"n"}"#,
            "`model` is spelled in other letters",
        ),
        // Of a text that is no JSON nothing is told but that, though the member comes first.
        (
            r#"{"model":7,"x":nil}"#,
            "unexpected byte at line 1 column 17",
        ),
        (r#"[1]"#, "must be a JSON object"),
        ("\u{feff}{}", "byte order mark"),
    ] {
        let (reason, message) = refusal(json(text)).await;
        assert_eq!(reason, Reason::Malformed, "{text}");
        assert!(message.contains(word), "{text}: {message}");
        assert!(!message.contains("\"m\""), "no value is quoted: {message}");
    }
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(200), "]".repeat(200));
    assert_eq!(refusal(json(&deep)).await.0, Reason::Malformed);
    let bytes = Script::data(b"{\"x\":\"\xff\"}", &Split::Whole);
    assert_eq!(refusal(post(CHAT, "", bytes)).await.0, Reason::Malformed);
}

#[tokio::test]
async fn a_body_that_fails_is_refused_with_what_it_failed_of() {
    let body = whole("{").then(Item::Error);
    let error = peek(post(CHAT, "", body)).await.err().expect("refused");
    let found = Rejection::find(&*error).unwrap();
    assert_eq!(found.reason(), Reason::Malformed);
    assert!(std::error::Error::source(found).is_some_and(|it| it.is::<Fault>()));
}

// ===== size =====

#[tokio::test]
async fn an_announced_length_above_the_limit_is_refused_before_a_byte_is_read() {
    for path in [CHAT, "/elsewhere"] {
        let body = whole("{}");
        let polls: Polls = body.polls();
        let mut req = post(path, "application/json", body);
        req.headers_mut()
            .insert("content-length", (LIMIT + 1).into());
        let (reason, message) = refusal(req).await;
        assert_eq!((reason, polls.all()), (Reason::TooLarge, 0));
        assert!(message.contains("1000 bytes"));
    }
    let mut req = json(r#"{"model":"m"}"#);
    req.headers_mut().insert("content-length", LIMIT.into());
    assert!(peek(req).await.is_ok());
}

#[tokio::test]
async fn a_body_that_grows_beyond_the_limit_is_refused_whoever_reads_it() {
    let fits = format!("{{\"model\":\"{}\"}}", "m".repeat(988));
    assert_eq!(fits.len() as u64, LIMIT);
    assert!(peek(json(&fits)).await.is_ok());
    let over = format!("{fits} ");
    for split in [Split::Whole, Split::Bytes(1)] {
        let body = Script::data(over.as_bytes(), &split);
        assert_eq!(
            refusal(post(CHAT, "", body.clone())).await.0,
            Reason::TooLarge
        );
        // Streamed: it breaks where it is too much.
        let reached = peek(post("/elsewhere", "", body)).await.unwrap();
        let error = reached.body.error.expect("it is too large");
        assert_eq!(Rejection::find(&*error).unwrap().reason(), Reason::TooLarge);
    }
}

// ===== multipart =====

const FORM: &str = "multipart/form-data; boundary=XX";
const PARTS: &str = "--XX\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\nhi\r\n\
    --XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n\
    --XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n\u{1}\u{2}\u{3}\r\n--XX--\r\n";

proptest! {
    #[test]
    fn a_form_is_read_to_its_model_in_any_split_and_all_of_it_goes_on(
        sizes in proptest::collection::vec(1usize..60, 0..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let body = Script::data(PARTS.as_bytes(), &Split::Sizes(sizes));
        let reached = runtime.block_on(peek(post("/v1/audio/transcriptions", FORM, body))).unwrap();
        let intent = reached.intent.expect("a form on a known surface");
        prop_assert_eq!(intent.model(), Some("whisper-1"));
        prop_assert!(intent.model_span().is_none() && intent.object().is_none());
        let span = intent.form_span().expect("the form names it");
        prop_assert_eq!(&PARTS[span], "whisper-1");
        prop_assert_eq!(reached.body.text(), PARTS);
    }
}

#[tokio::test]
async fn a_form_is_streamed_behind_its_model() {
    let body = Script::data(PARTS.as_bytes(), &Split::Bytes(1));
    let polls = body.polls();
    let asked = polls.clone();
    let inner = service_fn(move |req: Request<Held<super::super::Limited<Script>>>| {
        let model_at = PARTS.find("whisper-1").unwrap();
        assert!(!req.body().is_whole());
        assert!(asked.all() > model_at && asked.all() < PARTS.len());
        std::future::ready(Ok::<_, BoxError>(Response::new(Script::empty())))
    });
    let req = post("/v1/audio/transcriptions", FORM, body);
    layer().layer(inner).oneshot(req).await.unwrap();
    assert!(polls.dropped());
}

#[tokio::test]
async fn a_form_without_a_model_is_held_whole_and_says_so() {
    let parts = "--XX\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\nhi\r\n--XX--\r\n";
    let reached = peek(post("/v1/images/edits", FORM, whole(parts)))
        .await
        .unwrap();
    assert!(reached.held);
    assert_eq!(reached.body.text(), parts);
    assert_eq!(reached.intent.expect("a known surface").model(), None);
}

#[tokio::test]
async fn a_surface_that_takes_forms_may_take_json_and_hides_what_is_neither() {
    let edit = r#"{"model":"m"}"#;
    for kind in ["application/json", "Application/JSON; charset=utf-8"] {
        let reached = peek(post("/v1/images/edits", kind, whole(edit))).await;
        let reached = reached.unwrap();
        assert!(reached.held);
        assert_eq!(reached.intent.expect("it is JSON").model(), Some("m"));
    }
    for kind in ["", "text/plain", "application/x-www-form-urlencoded"] {
        let reached = peek(post("/v1/images/edits", kind, whole(edit))).await;
        assert!(reached.unwrap().intent.is_none(), "{kind}");
    }
}

/// Forms of which a provider could take another part for the model, and what is told of them.
fn unclear() -> Vec<(String, &'static str)> {
    let second = "--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ntts-1-hd\r\n";
    let end = PARTS.find("--XX--").expect("it is there");
    let behind_file = format!("{}{second}{}", &PARTS[..end], &PARTS[end..]);
    vec![
        (format!("{second}{PARTS}"), "twice"),
        (behind_file, "twice"),
        (PARTS.replace("\u{2}", "\n--XX\r\n"), "within a line"),
        (
            PARTS.replace("name=\"file\"", "name*=utf-8''model"),
            "name first",
        ),
        (
            PARTS.replace("filename=\"a\"", "name=model"),
            "its name twice",
        ),
        (PARTS.replace("\r\n--XX--\r\n", ""), "without its closing"),
        (format!("{PARTS}{second}--XX--"), "behind its closing"),
        (PARTS.replacen("hi\r\n", "hi\n", 1), "within a line"),
        ("no form at all".to_owned(), "does not begin"),
        (String::new(), "without its closing"),
    ]
}

proptest! {
    /// C13: as soon as it is known, and always before the provider has all of it.
    #[test]
    fn an_unclear_form_is_refused_or_broken_off_in_any_split(
        which in 0..unclear().len(),
        sizes in proptest::collection::vec(1usize..60, 0..20),
        hinting in any::<bool>(),
    ) {
        let (form, why) = unclear().swap_remove(which);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut body = Script::data(form.as_bytes(), &Split::Sizes(sizes));
        if hinting {
            body = body.hinting();
        }
        let error = match runtime.block_on(peek(post("/v1/audio/transcriptions", FORM, body))) {
            Err(error) => error,
            Ok(reached) => {
                prop_assert!(reached.body.text().len() < form.len() || why.starts_with("without"));
                reached.body.error.expect("it is broken off")
            }
        };
        let found = Rejection::find(&*error).expect("a rejection");
        prop_assert_eq!((found.reason(), found.layer()), (Reason::Malformed, "peek"));
        prop_assert!(found.message().contains(why), "{}", found.message());
    }
}

#[tokio::test]
async fn the_last_bytes_of_a_form_without_an_end_are_kept_back() {
    let form = &PARTS[..PARTS.len() - "--XX--\r\n".len()];
    let body = Script::data(form.as_bytes(), &Split::Bytes(1)).hinting();
    let reached = peek(post("/v1/audio/transcriptions", FORM, body)).await;
    let body = reached.unwrap().body;
    assert_eq!(body.text(), form[..form.len() - 1]);
    assert!(body.error.is_some());
}

#[tokio::test]
async fn a_form_whose_head_is_unclear_is_not_read() {
    for kind in [
        "multipart/form-data",
        "multipart/form-data; boundary=a; boundary=XX",
    ] {
        let body = whole(PARTS);
        let polls = body.polls();
        let told = refusal(post("/v1/audio/transcriptions", kind, body)).await;
        assert_eq!((told.0, polls.all()), (Reason::Malformed, 0));
    }
    let mut twice = post("/v1/audio/transcriptions", FORM, whole(PARTS));
    let other = "multipart/form-data; boundary=YY".parse().unwrap();
    twice.headers_mut().append("content-type", other);
    assert_eq!(refusal(twice).await.0, Reason::Malformed);
}

#[tokio::test]
async fn the_model_of_the_path_goes_before_that_of_a_form() {
    let azure = "/openai/deployments/own%2Dwhisper/audio/transcriptions";
    let reached = peek(post(azure, FORM, whole(PARTS))).await.unwrap();
    let intent = reached.intent.expect("a known surface");
    assert_eq!(
        (intent.model(), intent.form_span()),
        (Some("own-whisper"), None)
    );
    assert_eq!(reached.body.text(), PARTS);
}

// ===== trailers =====

#[tokio::test]
async fn trailers_are_let_go_of_where_a_body_is_read_whole_and_kept_where_it_is_streamed() {
    let trailers = http::HeaderMap::from_iter([(http::header::ETAG, "x".parse().unwrap())]);
    let body = |text: &str| whole(text).then(Item::Trailers(trailers.clone()));
    let read = peek(post(CHAT, "", body(r#"{"model":"m"}"#)))
        .await
        .unwrap();
    assert_eq!(
        (read.body.text().as_str(), read.body.trailers),
        (r#"{"model":"m"}"#, None)
    );
    let streamed = peek(post("/elsewhere", "", body("x"))).await.unwrap();
    assert_eq!(streamed.body.trailers, Some(trailers.clone()));
}

#[tokio::test]
async fn the_model_of_the_path_goes_before_that_of_the_body() {
    let gemini = "/v1beta/models/gemini%2Dpro:streamGenerateContent";
    let reached = peek(post(gemini, "", whole(r#"{"model":"other"}"#)))
        .await
        .unwrap();
    let intent = reached.intent.unwrap();
    assert_eq!(
        (intent.model(), intent.model_span()),
        (Some("gemini-pro"), None)
    );
    assert!(intent.stream(), "the path says so");
}

#[tokio::test]
async fn bodies_of_all_requests_share_one_room_and_give_it_back_when_they_are_dropped() {
    let room = Room::new(100);
    let text = format!(r#"{{"model":"{}"}}"#, "m".repeat(48));
    let held = Arc::new(Mutex::new(Vec::new()));
    let keeps = held.clone();
    let service =
        PeekLayer::new(LIMIT)
            .room(room.clone())
            .layer(service_fn(move |req: Request<_>| {
                keeps.lock().unwrap().push(req);
                std::future::ready(Ok::<_, BoxError>(Response::new(())))
            }));
    let ask = || service.clone().oneshot(json(&text));
    ask().await.unwrap();
    assert_eq!(room.used(), text.len() as u64);
    let error = ask().await.unwrap_err();
    let why = Rejection::find(&*error).unwrap();
    assert_eq!((why.reason(), why.layer()), (Reason::Overloaded, "peek"));
    assert!(why.wait().is_some());
    assert_eq!(
        room.used(),
        text.len() as u64,
        "what was refused took nothing"
    );
    held.lock().unwrap().clear();
    assert_eq!(room.used(), 0);
    ask().await.unwrap();
}
