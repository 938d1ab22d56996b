//! Asking for usage in the caller's stead.

use bytes::Bytes;
use proptest::prelude::*;
use tollgate_testing::recordings;
use tower::ServiceBuilder;

use super::*;
use crate::{body::Held, meter::InjectLayer};

type Asked = Held<http_body_util::Empty<Bytes>>;

/// What arrives at the provider, what the client gets, what is recorded.
async fn exchange(request: &str, answer: &[u8], split: Split) -> (Vec<u8>, Collected, Record) {
    let case = Case {
        request: request.into(),
        ..Case::default()
    };
    let mut req = Request::post(CHAT)
        .body(Asked::whole([Bytes::copy_from_slice(request.as_bytes())]))
        .unwrap();
    let record = case.record();
    req.extensions_mut().insert(record.clone());
    req.extensions_mut()
        .insert(case.intent().expect("it can be read"));
    let (sent, arrived) = std::sync::mpsc::channel();
    let body = Script::data(answer, &split);
    let inner = service_fn(move |req: Request<Asked>| {
        let (sent, body) = (sent.clone(), body.clone());
        async move {
            let whole = http_body_util::BodyExt::collect(req.into_body()).await;
            let whole = whole.map_err(|_| "a body of frames cannot fail")?;
            sent.send(whole.to_bytes().to_vec())?;
            let response = Response::builder().header("content-type", EVENTS);
            Ok::<_, BoxError>(response.header("content-length", "9").body(body)?)
        }
    });
    let service = ServiceBuilder::new()
        .layer(InjectLayer::new(true))
        .layer(MeterLayer::new())
        .service(inner);
    let response = service.oneshot(req).await.unwrap();
    let seen = collect(response.into_body()).await;
    (arrived.recv().unwrap(), seen, record)
}

const EXTRA: &str = "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}\n\n";

#[tokio::test(start_paused = true)]
async fn the_member_is_spliced_in_wherever_the_body_has_room() {
    for (request, want) in [
        (
            r#"{"stream":true}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{"stream" : true , "stream_options":{ }} "#,
            r#"{"stream" : true , "stream_options":{ "include_usage":true}} "#,
        ),
        (
            r#"{"stream":true,"stream_options":{"x":1}}"#,
            r#"{"stream":true,"stream_options":{"x":1,"include_usage":true}}"#,
        ),
        (
            r#"{"stream_options":null,"stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"stream":true}"#,
        ),
        (
            r#"{"stream":true,"stream_options":{"include_usage":false}}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (r#"{"stream":false}"#, r#"{"stream":false}"#),
        (r"{}", r"{}"),
    ] {
        let (arrived, _, _) = exchange(request, DONE.as_bytes(), Split::Whole).await;
        assert_eq!(String::from_utf8_lossy(&arrived), want);
    }
}

#[tokio::test(start_paused = true)]
async fn exactly_the_extra_chunk_is_taken_out() {
    let (before, after) = ([content("a"), FINISHED.to_owned()].concat(), DONE);
    let whole = [&before, EXTRA, after].concat();
    for split in [
        Split::Whole,
        Split::Bytes(1),
        Split::Bytes(7),
        Split::Random(3),
    ] {
        let (_, seen, record) = exchange(STREAM, whole.as_bytes(), split).await;
        assert!(seen.whole());
        assert_eq!(seen.text(), [&before, after].concat());
        let told = metered(&record);
        assert_eq!(
            (told.charge.completion, told.charge.source),
            (2, Source::Provider)
        );
        assert_eq!(record.edited_by(), ["meter"]);
        assert!(record.upstream_digest().is_some());
        assert_eq!(told.events, Some(4), "as the provider sent them");
    }
}

#[tokio::test(start_paused = true)]
async fn who_asked_gets_the_chunk() {
    let asked = r#"{"stream":true,"stream_options":{"include_usage":true}}"#;
    let whole = [&content("a"), FINISHED, EXTRA, DONE].concat();
    let (_, seen, record) = exchange(asked, whole.as_bytes(), Split::Bytes(5)).await;
    assert_eq!(seen.text(), whole);
    assert!(record.edited_by().is_empty() && record.upstream_digest().is_none());
}

#[tokio::test(start_paused = true)]
async fn what_is_no_such_chunk_stays() {
    let filter = "data: {\"choices\":[],\"prompt_filter_results\":[{}]}\n\n";
    let null = "data: {\"choices\":[],\"usage\":null}\n\n";
    let both = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}],\"usage\":{\"prompt_tokens\":1}}\n\n";
    let whole = [
        filter,
        null,
        both,
        ": ping\n\n",
        DONE,
        "data: {\"choices\":[],\"usage\":{",
    ]
    .concat();
    let (_, seen, record) = exchange(STREAM, whole.as_bytes(), Split::Bytes(3)).await;
    assert_eq!(seen.text(), whole);
    assert!(record.edited_by().is_empty());
}

/// Against a direct call: the recordings that end with a report for itself, and those that have none.
#[tokio::test(start_paused = true)]
async fn recorded_streams_lose_their_extra_chunk_and_nothing_else() {
    let (mut lost, mut kept) = (0, 0);
    for recording in recordings::all() {
        let dialect = &recording.expected["dialect"];
        let chat = dialect == "openai.chat" || dialect == "openai.completions";
        if !chat || recording.format != "sse" || recording.status != 200 {
            continue;
        }
        let body = &recording.body;
        let text = String::from_utf8_lossy(body);
        let gap = if text.contains("\r\n\r\n") {
            "\r\n\r\n"
        } else {
            "\n\n"
        };
        let stays = |event: &&str| {
            let data = event.lines().find_map(|line| line.strip_prefix("data:"));
            let value: serde_json::Value = data
                .and_then(|data| serde_json::from_str(data).ok())
                .unwrap_or_default();
            !(value["choices"].as_array().is_some_and(Vec::is_empty) && value["usage"].is_object())
        };
        let want: String = text.split_inclusive(gap).filter(stays).collect();
        lost += u64::from(want.len() < text.len());
        kept += u64::from(want.len() == text.len());
        for split in recording.splits(1, 3) {
            let (_, seen, _) = exchange(STREAM, body, split).await;
            assert!(seen.whole());
            assert_eq!(
                String::from_utf8_lossy(&seen.bytes()),
                want,
                "{}",
                recording.name
            );
        }
    }
    assert!(
        lost > 0 && kept > 0,
        "some have one, some have none: {lost}, {kept}"
    );
}

proptest! {
    #[test]
    fn any_stream_without_the_chunk_passes_whole(
        pieces in prop::collection::vec(prop_oneof![
            Just("data: x\n"), Just("\n"), Just("\r"), Just("\r\n"), Just(": c\n"), Just("data: {\"choices\":[]}\n\n"), Just("id: 1\n"),
        ], 0..20),
        size in 1usize..20,
    ) {
        let body = pieces.concat();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (_, seen, _) = runtime.block_on(exchange(STREAM, body.as_bytes(), Split::Bytes(size)));
        prop_assert_eq!(seen.text(), body);
    }
}
