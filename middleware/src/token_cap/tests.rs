use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use proptest::prelude::*;
use tollgate_testing::{
    body::Script,
    laws::{self, Inner, Outcome},
    splits::Split,
};
use tower::{Layer, Service, ServiceExt};

use super::{Caps, Insert, OnExceed, TokenCapLayer};
use crate::{
    body::Held,
    dialect::{self, Recognised},
    error::{BoxError, Reason, Rejection},
    facts::{Intent, OutputLimit},
    json,
};

const CHAT: &str = "/v1/chat/completions";
const AZURE: &str = "/openai/deployments/d/chat/completions";
const COMPLETIONS: &str = "/v1/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";
const GEMINI: &str = "/v1beta/models/gemini-2.5-pro:generateContent";
const OLLAMA: &str = "/api/chat";
const CONVERSE: &str = "/model/amazon.nova-lite-v1:0/converse";
const CLAUDE: &str = "/model/anthropic.claude-3-haiku-20240307-v1:0/invoke";
const TITAN: &str = "/model/amazon.titan-text-lite-v1/invoke";

fn caps(max_tokens: u64) -> Caps {
    Caps {
        max_tokens: Some(max_tokens),
        ..Caps::off()
    }
}

/// A request whose body was read whole, in frames of this size.
fn post(path: &str, body: &str, frame: usize) -> Request<Held<Script>> {
    let frames = body.as_bytes().chunks(frame).map(Bytes::copy_from_slice);
    let mut req = Request::post(path).body(Held::whole(frames)).unwrap();
    let length = body.len().to_string().parse().unwrap();
    req.headers_mut().insert("content-length", length);
    let recognised = dialect::recognise(&Method::POST, path, None, &HeaderMap::new());
    let Recognised::Surface(surface) = recognised else {
        panic!("{path} is a known path");
    };
    let root = json::check(body.as_bytes(), &json::Limits::default()).unwrap();
    let asked = dialect::read(&surface, root).unwrap();
    let named = surface.model_in(path).map(|it| it.into_owned());
    let intent = Intent::new(surface, named.as_deref(), asked, root.span());
    req.extensions_mut().insert(intent);
    req
}

struct Sent {
    text: String,
    limit: Option<OutputLimit>,
}

/// What arrives inside.
async fn sends(caps: Caps, req: Request<Held<Script>>) -> Result<Sent, Rejection> {
    let inner = Inner::<BoxError>::answering(Response::new(Script::empty()));
    let calls = inner.calls();
    match TokenCapLayer::new(caps).layer(inner).oneshot(req).await {
        Ok(_) => {
            let req = calls.take().pop().expect("it was called");
            let text = req.body().text();
            let length = req.headers()["content-length"].to_str().unwrap();
            assert_eq!(length, req.body().bytes().len().to_string());
            let limit = req.extensions().get().copied();
            Ok(Sent { text, limit })
        }
        Err(error) => Err(*error.downcast().expect("a rejection")),
    }
}

async fn text(caps: Caps, path: &str, body: &str) -> String {
    sends(caps, post(path, body, 1024)).await.unwrap().text
}

async fn refused(caps: Caps, path: &str, body: &str) -> String {
    let why = sends(caps, post(path, body, 1024)).await.err();
    let why = why.unwrap_or_else(|| panic!("{body} was let through"));
    assert_eq!((why.reason(), why.layer()), (Reason::TokenCap, "token_cap"));
    why.message().to_owned()
}

#[tokio::test(start_paused = true)]
async fn keeps_the_laws() {
    let layer = TokenCapLayer::new(Caps::off());
    laws::transparent_over(|inner: Inner| held(&layer, inner), laws::cases()).await;
    laws::ready_over(
        |inner: Inner| held(&layer, inner),
        || Request::new(Script::empty()),
    )
    .await;
    // Without facts the surface is found in the head, and a body that was not read is closed to it.
    let capped = TokenCapLayer::new(caps(1));
    let closes = |outcome: &Outcome| {
        matches!(outcome, Outcome::Refused(error)
            if Rejection::find(&**error).map(Rejection::reason) == Some(Reason::UnsupportedCoding))
    };
    laws::absent_facts_over(|inner: Inner| held(&capped, inner), closes).await;
    fn types<S: Service<Request<Held<Script>>> + Clone + Send + Sync + 'static>(_: S)
    where
        S::Future: Send,
    {
    }
    types(layer.layer(Inner::<BoxError>::answering(Response::new(Script::empty()))));
}

/// The layer behind what makes bodies held.
fn held(
    layer: &TokenCapLayer,
    inner: Inner,
) -> impl Service<
    Request<Script>,
    Response = Response<Script>,
    Error = BoxError,
    Future = impl Future<Output = Result<Response<Script>, BoxError>> + Send,
> + Clone
+ Send
+ 'static {
    tower::util::MapRequest::new(layer.layer(inner), |req: Request<Script>| {
        req.map(Held::unread)
    })
}

/// D07: each body with its limit between guillemets; with the guillemets taken away it is sent, and only what stood
/// between them may be another number then.
#[tokio::test(start_paused = true)]
async fn the_cap_is_a_splice_in_every_spelling() {
    let spellings = [
        (CHAT, r#""max_tokens" :  «V»"#),
        (CHAT, r#""max_completion_tokens":«V»"#),
        (CHAT, r#""max_\u0074okens":«V»"#),
        (AZURE, r#""max_tokens":«V» "#),
        (COMPLETIONS, "\"max_tokens\"\n:\t«V»"),
        (RESPONSES, r#""max_output_tokens":«V»"#),
        (MESSAGES, r#""max_tokens":«V»"#),
        (CLAUDE, r#""max_tokens":«V»"#),
        (
            GEMINI,
            r#""generationConfig": {"temperature":1.0, "maxOutputTokens": «V»}"#,
        ),
        (
            GEMINI,
            r#""generation_config": {"max_output_tokens": «V» , "topK":40}"#,
        ),
        (OLLAMA, r#""options":{"num_predict":«V»,"num_ctx":4096}"#),
        (CONVERSE, r#""inferenceConfig":{"maxTokens":«V»}"#),
    ];
    let around = [
        r#"{LIMIT,"model":"m","messages":[]}"#,
        "{ \"x\" : 1e400 ,\r\n\tLIMIT ,\"x\u{e9}\\ud83d\": [ {\"max_tokens\" : 9999999} ] }",
        r#"{"tools":[{"name":"max_tokens","maxTokens":99999}],"a":"\"max_tokens\":1",LIMIT}"#,
        "  {\"unknown\":{\"deep\":[[[{}]]]},LIMIT,\"b\":\"\u{2028}\",\"c\":-0.0}\n\n",
        r#"{"stream":true,"messages":[{"role":"user","content":"data: \\n"}],LIMIT,"metadata":{"k":"v"}}"#,
    ];
    let mut bodies = 0;
    for (path, limit) in spellings {
        for around in around {
            for value in ["100000", "1e9", "4097.0"] {
                let marked = around.replace("LIMIT", limit).replace('V', value);
                let body = marked.replace(['«', '»'], "");
                let start = marked.find('«').unwrap();
                let end = marked.find('»').unwrap() + '»'.len_utf8();
                let expected = format!("{}4096{}", &marked[..start], &marked[end..]);
                for frame in [1, 7, 1024] {
                    let sent = sends(caps(4096), post(path, &body, frame)).await;
                    assert_eq!(sent.unwrap().text, expected, "{path}");
                }
                let fits = text(caps(u64::MAX), path, &body).await;
                assert_eq!(fits, body, "what fits is not touched");
                bodies += 1;
            }
        }
    }
    assert_eq!(bodies, 180);
}

#[tokio::test(start_paused = true)]
async fn each_alternative_counts() {
    let clamps = |path, body, expected| async move {
        let sent = sends(caps(4096), post(path, body, 1024)).await.unwrap();
        assert_eq!(sent.text, expected);
        let most = sent.limit.unwrap().tokens;
        assert!(most <= 4096, "{most}");
    };
    let n = r#"{"model":"m","max_tokens":100,"n":128}"#;
    clamps(CHAT, n, r#"{"model":"m","max_tokens":32,"n":128}"#).await;
    let best = r#"{"max_tokens":1025,"n":2,"best_of":4}"#;
    clamps(
        COMPLETIONS,
        best,
        r#"{"max_tokens":1024,"n":2,"best_of":4}"#,
    )
    .await;
    let gemini = r#"{"generationConfig":{"candidateCount":8,"maxOutputTokens":513}}"#;
    let clamped = r#"{"generationConfig":{"candidateCount":8,"maxOutputTokens":512}}"#;
    clamps(GEMINI, gemini, clamped).await;
    let absent = r#"{"model":"m","n":3}"#;
    clamps(CHAT, absent, r#"{"model":"m","n":3,"max_tokens":1365}"#).await;
    let told = refused(caps(100), CHAT, r#"{"n":101}"#).await;
    assert!(told.contains("101") && told.contains("100"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn two_spellings_beside_each_other_are_both_capped() {
    let both = r#"{"max_tokens":9000,"max_completion_tokens":5000,"max_output_tokens":7}"#;
    let clamped = r#"{"max_tokens":4096,"max_completion_tokens":4096,"max_output_tokens":7}"#;
    assert_eq!(text(caps(4096), CHAT, both).await, clamped);
    // What binds nobody at this surface is no limit.
    let other = text(caps(4096), CHAT, r#"{"max_output_tokens":7}"#).await;
    assert_eq!(other, r#"{"max_output_tokens":7,"max_tokens":4096}"#);
}

#[tokio::test(start_paused = true)]
async fn an_absent_limit_is_inserted_where_the_surface_has_it() {
    let rows = [
        (
            CHAT,
            r#"{"model":"gpt-4o"}"#,
            r#"{"model":"gpt-4o","max_tokens":50}"#,
        ),
        (
            CHAT,
            r#"{"model":"o3-mini" }"#,
            r#"{"model":"o3-mini" ,"max_completion_tokens":50}"#,
        ),
        (
            CHAT,
            r#"{"model":"openai/gpt-5"}"#,
            r#"{"model":"openai/gpt-5","max_completion_tokens":50}"#,
        ),
        (
            CHAT,
            r#"{"max_tokens":null,"model":"m"}"#,
            r#"{"max_tokens":50,"model":"m"}"#,
        ),
        (AZURE, "{}", r#"{"max_tokens":50}"#),
        (AZURE, "{ }\n", "{ \"max_tokens\":50}\n"),
        (
            RESPONSES,
            r#"{"model":"o3"}"#,
            r#"{"model":"o3","max_output_tokens":50}"#,
        ),
        (
            MESSAGES,
            r#"{"model":"c"}"#,
            r#"{"model":"c","max_tokens":50}"#,
        ),
        (
            GEMINI,
            r#"{"contents":[]}"#,
            r#"{"contents":[],"generationConfig":{"maxOutputTokens":50}}"#,
        ),
        (
            GEMINI,
            r#"{"generationConfig":{}}"#,
            r#"{"generationConfig":{"maxOutputTokens":50}}"#,
        ),
        (
            GEMINI,
            r#"{"generationConfig":null}"#,
            r#"{"generationConfig":{"maxOutputTokens":50}}"#,
        ),
        (
            GEMINI,
            r#"{"generationConfig":{"maxOutputTokens":null}}"#,
            r#"{"generationConfig":{"maxOutputTokens":50}}"#,
        ),
        (
            GEMINI,
            r#"{"generation_config":{"topK":1}}"#,
            r#"{"generation_config":{"topK":1,"maxOutputTokens":50}}"#,
        ),
        (
            OLLAMA,
            r#"{"model":"l"}"#,
            r#"{"model":"l","options":{"num_predict":50}}"#,
        ),
        (
            OLLAMA,
            r#"{"options":{"num_predict":-1}}"#,
            r#"{"options":{"num_predict":50}}"#,
        ),
        (
            CONVERSE,
            r#"{"messages":[]}"#,
            r#"{"messages":[],"inferenceConfig":{"maxTokens":50}}"#,
        ),
        (
            "/v1/embeddings",
            r#"{"model":"e","input":"x"}"#,
            r#"{"model":"e","input":"x"}"#,
        ),
    ];
    for (path, body, expected) in rows {
        let sent = text(caps(50), path, body).await;
        assert_eq!(sent, expected, "{path}");
        json::check(sent.as_bytes(), &json::Limits::default()).unwrap();
    }
    let insert = |insert| Caps { insert, ..caps(50) };
    let body = r#"{"model":"o1"}"#;
    assert_eq!(text(insert(Insert::Off), CHAT, body).await, body);
    let sent = text(insert(Insert::MaxTokens), CHAT, body).await;
    assert_eq!(sent, r#"{"model":"o1","max_tokens":50}"#);
    let sent = text(insert(Insert::MaxCompletionTokens), CHAT, "{}").await;
    assert_eq!(sent, r#"{"max_completion_tokens":50}"#);
}

#[tokio::test(start_paused = true)]
async fn what_exceeds_is_refused_where_it_is_not_to_be_clamped() {
    let rejects = Caps {
        on_exceed: OnExceed::Reject,
        ..caps(100)
    };
    let told = refused(rejects.clone(), CHAT, r#"{"max_tokens":101}"#).await;
    assert_eq!(
        told,
        "max_tokens of 101 is more than the 100 output tokens that are served here"
    );
    refused(rejects.clone(), CHAT, r#"{"max_tokens":51,"n":2}"#).await;
    refused(rejects.clone(), OLLAMA, r#"{"options":{"num_predict":-2}}"#).await;
    let body = r#"{"max_tokens":50,"n":2}"#;
    assert_eq!(text(rejects.clone(), CHAT, body).await, body);
    // What says nothing exceeds nothing.
    assert_eq!(
        text(rejects, CHAT, r#"{"n":2}"#).await,
        r#"{"n":2,"max_tokens":50}"#
    );
}

/// D07.
#[tokio::test(start_paused = true)]
async fn what_is_no_whole_number_is_refused() {
    for value in [r#""100""#, "-1", "1.5", "true", "[]", "{}", "1e40", "-0.5"] {
        let body = format!(r#"{{"max_tokens":{value}}}"#);
        let told = refused(caps(100), CHAT, &body).await;
        assert_eq!(
            told, "max_tokens is not a whole number of tokens",
            "{value}"
        );
    }
    for value in ["0", "4e1", "40.0", "-0"] {
        let body = format!(r#"{{"max_tokens":{value}}}"#);
        assert_eq!(text(caps(100), CHAT, &body).await, body);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cap_that_thinking_would_use_up_is_refused_naming_both() {
    let body = |budget: u32| {
        format!(r#"{{"max_tokens":9000,"thinking":{{"type":"enabled","budget_tokens":{budget}}}}}"#)
    };
    for budget in [4096, 8000] {
        let told = refused(caps(4096), MESSAGES, &body(budget)).await;
        assert!(
            told.contains("4096") && told.contains(&budget.to_string()),
            "{told}"
        );
    }
    let sent = text(caps(4096), MESSAGES, &body(4095)).await;
    assert_eq!(sent, body(4095).replace("9000", "4096"));
}

#[tokio::test(start_paused = true)]
async fn a_member_that_some_readers_take_for_the_limit_is_refused() {
    let told = refused(caps(10), CHAT, r#"{"max_tokens":1,"Max_Tokens":100000}"#).await;
    assert!(told.contains("Max_Tokens"), "{told}");
    refused(caps(10), OLLAMA, r#"{"Options":{"num_predict":100000}}"#).await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_closed_only_where_the_cap_is_about_it() {
    let unread = |path: &str| {
        let body = Held::unread(Script::data(b"\x1f\x8b", &Split::Bytes(2)));
        let mut req = Request::post(path).body(body).unwrap();
        let length = 2.into();
        req.headers_mut().insert("content-length", length);
        req
    };
    let input = Caps {
        max_messages: Some(3),
        ..Caps::off()
    };
    for path in [
        CHAT, RESPONSES, MESSAGES, GEMINI, OLLAMA, CONVERSE, CLAUDE, TITAN,
    ] {
        for caps in [caps(10), input.clone()] {
            let why = sends(caps, unread(path)).await.err().unwrap();
            assert_eq!(why.reason(), Reason::UnsupportedCoding, "{path}");
        }
        let passes = Caps {
            uninspected: true,
            ..caps(10)
        };
        sends(passes, unread(path)).await.unwrap();
        sends(Caps::off(), unread(path)).await.unwrap();
    }
    sends(caps(10), unread("/v1/embeddings")).await.unwrap();
    let why = sends(input, unread("/v1/embeddings")).await.err().unwrap();
    assert_eq!(why.reason(), Reason::UnsupportedCoding);
    for path in ["/v1/audio/transcriptions", "/v1/files", "/anything"] {
        sends(caps(10), unread(path)).await.unwrap();
    }
    // A body that is JSON, in words that nobody knows.
    let titan = post(TITAN, r#"{"inputText":"x","max_tokens":1}"#, 9);
    let why = sends(caps(10), titan).await.err().unwrap();
    assert_eq!(why.reason(), Reason::UnsupportedCoding);
}

#[tokio::test(start_paused = true)]
async fn messages_and_texts_are_counted_in_every_dialect() {
    let messages = |most| Caps {
        max_messages: Some(most),
        ..Caps::off()
    };
    let rows = [
        (CHAT, r#"{"messages":[{"content":"a"},{"content":"b"}]}"#),
        (
            MESSAGES,
            r#"{"system":"s","messages":[{"content":"a"},{"content":"b"}]}"#,
        ),
        (RESPONSES, r#"{"input":[{"content":"a"},{"content":"b"}]}"#),
        (
            GEMINI,
            r#"{"contents":[{"parts":[{"text":"a"}]},{"parts":[{"text":"b"}]}]}"#,
        ),
        (OLLAMA, r#"{"messages":[{"content":"a"},{"content":"b"}]}"#),
        (
            CONVERSE,
            r#"{"messages":[{"content":[{"text":"a"}]},{"content":[{"text":"b"}]}]}"#,
        ),
    ];
    for (path, body) in rows {
        assert_eq!(text(messages(2), path, body).await, body);
        let told = refused(messages(1), path, body).await;
        assert_eq!(told, "2 messages are more than the 1 that are served here");
        let input = |most: usize| Caps {
            max_input: Some(most as u64),
            ..Caps::off()
        };
        assert_eq!(text(input(body.len()), path, body).await, body);
        let told = refused(input(body.len() - 1), path, body).await;
        assert!(told.contains("bytes of input"), "{told}");
    }
}

proptest! {
    /// Whatever stands around it: the sent body parses, its limit fits, and nothing else has changed.
    #[test]
    fn what_is_sent_is_the_body_with_a_limit_that_fits(
        limit in proptest::option::of(0_u64..20_000),
        choices in 1_u64..6,
        cap in 1_u64..10_000,
        extra in "[ -~]{0,30}",
        frame in 1_usize..40,
    ) {
        let mut body = serde_json::json!({"model": "m", "n": choices, "extra": extra});
        if let Some(limit) = limit {
            body["max_tokens"] = limit.into();
        }
        let req = post(CHAT, &body.to_string(), frame);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let sent = runtime.block_on(sends(caps(cap), req));
        if cap / choices == 0 {
            prop_assert!(sent.is_err());
            return Ok(());
        }
        let sent: serde_json::Value = serde_json::from_str(&sent.unwrap().text).unwrap();
        let asks = sent["max_tokens"].as_u64().unwrap();
        prop_assert!(asks * choices <= cap);
        prop_assert!(limit.is_none_or(|limit| asks == limit || limit * choices > cap));
        body["max_tokens"] = asks.into();
        prop_assert_eq!(sent, body);
    }
}
