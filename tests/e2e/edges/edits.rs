//! What is edited on the way to a provider, to the byte: nothing else changes.

use tollgate_testing::upstream::{Reads, Script, Upstream};

use super::CHAT;
use crate::harness::{Ask, Stage, provider};

/// White space, escapes, numbers beyond every type, the model's name in other places.
const ODD: &str = "{ \"messages\" : [ {\"role\":\"user\",\"content\":\"\\u00e9 public \\/ \"} ] ,\r\n\t\"model\":  \"MODEL\" ,\
                   \"x\": 1e400, \"y\":-0.0E+1, \"z\":[1,{\"model\":\"public\"}], \"\u{1f600}\" : null }\n ";

async fn stage() -> (Stage, Upstream) {
    let upstream = Upstream::start().await;
    let extra = ", models: { public: own-model, plain: plain, \"vendor/x\": \"acme/x:free\" }, \
                 extra_body: { service_tier: flex, n: 2 }, headers: { openai-organization: org-1, x-title: gateway }";
    let gemini = provider(
        "g",
        "gemini",
        &upstream,
        "",
        ", models: { public: own-model, plain: plain }",
    );
    let stage = Stage::start(&format!(
        "version: 1\nproviders:\n{}{}{gemini}\
         aliases: {{ old: public, older: old }}\n\
         routes:\n\
         \x20 - {{ name: fixed, match: {{ model: fast }}, targets: [{{ provider: plain, model: 'an \"odd\" name' }}] }}\n\
         \x20 - {{ name: untouched, match: {{ header: {{ x-to: plain }} }}, targets: [plain] }}\n\
         \x20 - {{ name: gemini, match: {{ dialect: gemini }}, targets: [g] }}\n\
         \x20 - {{ name: rest, match: {{}}, targets: [edited] }}\n",
        provider("edited", "openai", &upstream, "/v1", extra),
        provider("plain", "openai", &upstream, "/v1", ""),
    ));
    (stage, upstream)
}

#[tokio::test]
async fn only_the_configured_spans_of_a_body_change() {
    let (stage, upstream) = stage().await;
    let extra = ",\"service_tier\":\"flex\",\"n\":2}";
    for (id, asked, own, log) in [
        ("renamed", "public", "own-model", "own-model"),
        ("alias", "old", "own-model", "own-model"),
        ("alias-of-alias", "older", "own-model", "own-model"),
        ("unchanged", "plain", "plain", "plain"),
        ("escaped", "pl\\u0061in", "pl\\u0061in", "plain"),
        ("slash", "vendor/x", "acme/x:free", "acme/x:free"),
    ] {
        let body = ODD.replace("MODEL", asked);
        let answer = stage.ask(&Ask::post(id, CHAT, body.as_bytes())).await;
        assert_eq!(answer.status(), 200, "{id}: {}", answer.text());
        let seen = upstream.seen(id).remove(0);
        let expected = ODD
            .replace("MODEL", own)
            .replace(": null }", &format!(": null {extra}"));
        assert_eq!(String::from_utf8_lossy(&seen.body), expected, "{id}");
        assert_eq!(
            seen.header("content-length"),
            Some(&*expected.len().to_string()),
            "{id}"
        );
        let line = stage.line(id).await;
        assert_eq!(line["upstream_model"], log, "{line}");
        assert_eq!(line["bytes_in"], body.len(), "{line}");
    }
    let body = ODD.replace("MODEL", "fast");
    stage.ask(&Ask::post("fixed", CHAT, body.as_bytes())).await;
    let expected = ODD.replace("MODEL", "an \\\"odd\\\" name");
    assert_eq!(
        String::from_utf8_lossy(&upstream.seen("fixed")[0].body),
        expected
    );
    stage.stop().await;
}

#[tokio::test]
async fn members_and_headers_of_the_configuration_are_added() {
    let (stage, upstream) = stage().await;
    for (id, body, expected) in [
        (
            "none",
            r#"{"model":"plain"}"#,
            r#"{"model":"plain","service_tier":"flex","n":2}"#,
        ),
        (
            "set",
            r#"{"service_tier":"default","model":"plain"}"#,
            r#"{"service_tier":"default","model":"plain","n":2}"#,
        ),
        (
            "null",
            r#"{"model":"plain","n":null}"#,
            r#"{"model":"plain","n":null,"service_tier":"flex"}"#,
        ),
        (
            "escaped",
            r#"{"model":"plain","\u006e":1}"#,
            r#"{"model":"plain","\u006e":1,"service_tier":"flex"}"#,
        ),
        (
            "inner",
            r#"{"model":"plain","x":{"n":1}}"#,
            r#"{"model":"plain","x":{"n":1},"service_tier":"flex","n":2}"#,
        ),
    ] {
        let headers = [
            ("content-type", "application/json"),
            ("OpenAI-Organization", "org-of-the-caller"),
        ];
        stage
            .ask(&Ask {
                headers: &headers,
                ..Ask::post(id, CHAT, body.as_bytes())
            })
            .await;
        let seen = upstream.seen(id).remove(0);
        assert_eq!(String::from_utf8_lossy(&seen.body), expected, "{id}");
        let all: Vec<_> = seen
            .headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("openai-organization"))
            .map(|(_, value)| value.as_str())
            .collect();
        assert_eq!(all, ["org-1"], "{id}");
        assert_eq!(seen.header("x-title"), Some("gateway"), "{id}");
    }
    let body = ODD.replace("MODEL", "anything");
    let headers = [
        ("content-type", "application/json"),
        ("x-to", "plain"),
        ("openai-organization", "mine"),
    ];
    stage
        .ask(&Ask {
            headers: &headers,
            ..Ask::post("untouched", CHAT, body.as_bytes())
        })
        .await;
    assert_eq!(
        String::from_utf8_lossy(&upstream.seen("untouched")[0].body),
        body
    );
    stage.stop().await;
}

#[tokio::test]
async fn a_model_in_the_path_is_renamed_there() {
    let (stage, upstream) = stage().await;
    let body = br#"{"contents":[{"parts":[{"text":"models/public"}]}]}"#;
    for (id, path, arrives) in [
        (
            "path",
            "/v1beta/models/public:generateContent",
            "/v1beta/models/own-model:generateContent",
        ),
        (
            "same",
            "/v1beta/models/plain:generateContent?alt=json",
            "/v1beta/models/plain:generateContent?alt=json",
        ),
        (
            "key",
            "/v1beta/models/old:streamGenerateContent?alt=sse&key=sk-caller",
            "/v1beta/models/own-model:streamGenerateContent?alt=sse",
        ),
    ] {
        stage.ask(&Ask::post(id, path, body)).await;
        let seen = upstream.seen(id).remove(0);
        assert_eq!(seen.target(), arrives, "{id}");
        assert_eq!(seen.body, body, "{id}");
    }
    stage.stop().await;
}

#[tokio::test]
async fn a_model_in_a_form_is_renamed_while_the_upload_comes() {
    let (stage, upstream) = stage().await;
    let headers = [("content-type", "multipart/form-data; boundary=b")];
    // The public name stands in the file too, and a delimiter that is none.
    let file = b"public\r\n--a\r\nname=\"model\"\r\n\r\npublic\0\xff".repeat(10_000);
    for (id, asked, own) in [
        ("form-renamed", "public", "own-model"),
        ("form-alias", "older", "own-model"),
        ("form-same", "plain", "plain"),
    ] {
        let form = |model| {
            let start = format!(
                "--b\r\ncontent-disposition: form-data; name=prompt\r\n\r\npublic\r\n\
                 --b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n\
                 --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"public\"\r\n\r\n"
            );
            [start.as_bytes(), &file, b"\r\n--b--\r\n"].concat()
        };
        let (body, expected) = (form(asked), form(own));
        upstream.serve(id, Script::chat("heard").reads(Reads::Whole));
        let ask = Ask {
            headers: &headers,
            path: "/v1/audio/transcriptions",
            ..Ask::post(id, CHAT, b"")
        };
        let conn = stage.open(ask.head(body.len() as u64)).await;
        let (first, second) = body.split_at(100_000);
        conn.send(first).await.expect("the gateway reads");
        let arrived = first.len() + expected.len() - body.len();
        let seen = upstream
            .wait_for(|seen| seen.of(id).any(|it| it.body.len() == arrived))
            .await;
        let begun = seen.of(id).next().expect("it has arrived");
        assert_eq!(begun.request_ended, None, "{id}");
        conn.send(second).await.expect("the gateway reads");
        assert_eq!(conn.response().await.status(), 200, "{id}");
        let seen = upstream.seen(id).remove(0);
        assert!(seen.body == expected, "{id}: {} bytes", seen.body.len());
        let length = expected.len().to_string();
        assert_eq!(seen.header("content-length"), Some(&*length), "{id}");
        let line = stage.line(id).await;
        assert_eq!(line["upstream_model"], own, "{line}");
        assert_eq!(line["bytes_in"], body.len(), "{line}");
    }
    stage.stop().await;
}
