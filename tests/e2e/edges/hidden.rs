//! A model that cannot be read, or can be read in two ways, is not let through where the models are limited.

use tollgate::explain::{Question, explain};
use tollgate_testing::{
    client::Ended,
    upstream::{Reads, Script, Upstream},
};

use super::{BODY, CHAT, assert_line, assert_told};
use crate::harness::{Ask, Stage, load, provider};

const SPEECH: &str = "/v1/audio/transcriptions";
const FORM: [(&str, &str); 1] = [("content-type", "multipart/form-data; boundary=b")];

/// One part of a form with this boundary.
fn part(disposition: &str, value: &str) -> String {
    format!("--b\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{value}\r\n")
}

fn form(parts: &[String]) -> String {
    format!("{}--b--\r\n", parts.concat())
}

/// C13: a label or a coding that keeps the gateway from reading, but not a provider that ignores it, buys no model. Whoever
/// may ask for any model is let through as before. `explain` says the same of each.
#[tokio::test]
async fn a_body_that_hides_its_model_passes_only_where_every_model_may_be_asked_for() {
    let upstream = Upstream::start().await;
    upstream.serve_default(Script::answer(200, "application/json", "{}"));
    let sole = |more| {
        format!(
            "providers:\n{}",
            provider("p", "openai", &upstream, "/v1", more)
        )
    };
    let listed = sole(", models: [m]");
    let stages = [
        (listed.clone(), false),
        (
            format!("{listed}routes: [{{ match: {{}}, targets: [p] }}]\n"),
            false,
        ),
        (
            format!(
                "{}routes: [{{ match: {{}}, targets: [{{ provider: p, model: m }}] }}]\n",
                sole("")
            ),
            false,
        ),
        (sole(""), true),
        (sole(", models: ['*']"), true),
        (
            format!("{}routes: [{{ match: {{}}, targets: [p] }}]\n", sole("")),
            true,
        ),
    ];
    let other = BODY.strip_prefix(br#"{"model":"m""#).expect("it begins so");
    let body = [br#"{"model":"other""#, other].concat();
    let cases = [
        (
            "form",
            CHAT,
            "content-type",
            "multipart/form-data; boundary=x",
        ),
        ("form-without", CHAT, "content-type", "multipart/form-data"),
        (
            "related",
            CHAT,
            "content-type",
            "Multipart/Related; boundary=x",
        ),
        ("octets", CHAT, "content-type", "application/octet-stream"),
        ("gzip", CHAT, "content-encoding", "gzip"),
        (
            "messages",
            "/v1/messages",
            "content-type",
            "multipart/form-data; boundary=x",
        ),
        ("speech", SPEECH, "content-type", "audio/wav"),
        ("speech-gzip", SPEECH, "content-encoding", "br"),
        (
            "speech-url",
            SPEECH,
            "content-type",
            "application/x-www-form-urlencoded",
        ),
    ];
    for (number, (file, passes)) in stages.iter().enumerate() {
        let yaml = format!("version: 1\n{file}");
        let (stage, config) = (Stage::start(&yaml), load(&yaml));
        for (name, path, header, value) in cases {
            let id = format!("{name}-{number}");
            let headers = [(header, value)];
            let ask = Ask {
                headers: &headers,
                ..Ask::post(&id, path, &body)
            };
            let answer = stage.ask(&ask).await;
            let (text, served) = explain(&config, &Question::of_text(&ask.bytes()).unwrap());
            assert_eq!(served, *passes, "{id}: {text}");
            let seen = upstream.seen(&id);
            if *passes {
                assert_eq!(answer.status(), 200, "{id}");
                assert_eq!(seen[0].body, body, "{id}");
                continue;
            }
            assert!(seen.is_empty(), "{id} has arrived");
            let line = stage.line(&id).await;
            assert_line(&line, "refused", "route", "unsupported_coding");
            assert_eq!(
                (answer.status(), line["model"].is_null()),
                (415, true),
                "{id}"
            );
            assert!(text.contains("by route, unsupported_coding"), "{text}");
        }
        stage.stop().await;
    }
}

/// What is read is held to the list, in JSON and in forms, and `explain` reads as the gateway does.
#[tokio::test]
async fn a_model_is_held_to_the_list_wherever_it_stands() {
    let upstream = Upstream::start().await;
    upstream.serve_default(Script::answer(200, "application/json", "{}"));
    let providers = provider("p", "openai", &upstream, "/v1", ", models: [m]");
    let yaml = format!("version: 1\nproviders:\n{providers}");
    let (stage, config) = (Stage::start(&yaml), load(&yaml));
    let [ours, other] = ["m", "other"].map(|model| form(&[part("name=\"model\"", model)]));
    let json: &[(&str, &str)] = &[("content-type", "application/json")];
    for (id, headers, path, body, status) in [
        ("form-m", &FORM[..], SPEECH, &ours[..], 200),
        ("form-other", &FORM, SPEECH, &other, 404),
        (
            "edits-json-m",
            json,
            "/v1/images/edits",
            r#"{"model":"m"}"#,
            200,
        ),
        (
            "edits-json-other",
            json,
            "/v1/images/edits",
            r#"{"model":"other"}"#,
            404,
        ),
        (
            "labelled-text",
            &[("content-type", "text/plain")],
            CHAT,
            r#"{"model":"m"}"#,
            200,
        ),
        (
            "labelled-url",
            &[("content-type", "application/x-www-form-urlencoded")],
            CHAT,
            r#"{"model":"other"}"#,
            404,
        ),
        (
            "identity",
            &[("content-encoding", "identity")],
            CHAT,
            r#"{"model":"other"}"#,
            404,
        ),
        ("empty", json, CHAT, "", 400),
        ("unclear", &FORM, SPEECH, "{\"model\":\"m\"}", 400),
    ] {
        let ask = Ask {
            headers,
            ..Ask::post(id, path, body.as_bytes())
        };
        let answer = stage.ask(&ask).await;
        assert_eq!(answer.status(), status, "{id}: {}", answer.text());
        let (text, served) = explain(&config, &Question::of_text(&ask.bytes()).unwrap());
        assert_eq!(served, status == 200, "{id}: {text}");
        let line = stage.line(id).await;
        if let Some(reason) = line["error"].as_str() {
            let by = line["refused_by"].as_str().unwrap_or_default();
            assert!(text.contains(&format!("by {by}, {reason}")), "{id}: {text}");
        }
    }
    stage.stop().await;
}

/// C13: a form in which the provider could take another part for the model is refused before anything is sent.
#[tokio::test]
async fn a_form_that_can_be_read_in_two_ways_is_refused() {
    let upstream = Upstream::start().await;
    let providers = provider("p", "openai", &upstream, "/v1", ", models: [m]");
    let stage = Stage::start(&format!("version: 1\nproviders:\n{providers}"));
    let model = part("name=\"model\"", "m");
    for (id, body) in [
        (
            "twice",
            form(&[model.clone(), part("name=\"model\"", "other")]),
        ),
        (
            "case",
            form(&[part("name=\"Model\"", "other"), model.clone()]),
        ),
        (
            "starred",
            form(&[part("name*=utf-8''model", "other"), model.clone()]),
        ),
        (
            "named-twice",
            form(&[part("name=\"a\"; name=\"model\"", "other"), model.clone()]),
        ),
        (
            "bare-lf",
            form(&[
                part(
                    "name=\"a\"",
                    "b\n--b\nContent-Disposition: form-data; name=\"model\"\n\nother",
                ),
                model.clone(),
            ]),
        ),
        (
            "long-head",
            form(&[
                part(&format!("name=\"a\"\r\nX: {}", "x".repeat(9000)), "b"),
                model.clone(),
            ]),
        ),
        (
            "preamble",
            format!("x\r\n{}", form(std::slice::from_ref(&model))),
        ),
        ("endless", model.clone()),
    ] {
        let ask = Ask {
            headers: &FORM,
            ..Ask::post(id, SPEECH, body.as_bytes())
        };
        let answer = stage.ask(&ask).await;
        assert_told(id, &answer, "openai", 400, "malformed_request", "peek");
        assert_line(
            &stage.line(id).await,
            "refused",
            "peek",
            "malformed_request",
        );
        assert!(upstream.seen(id).is_empty(), "{id} has arrived");
    }
    stage.stop().await;
}

/// C13: what comes behind the file comes when the upload is under way: it breaks off, and the provider has no whole form.
#[tokio::test]
async fn a_form_that_turns_out_to_be_unclear_is_broken_off() {
    let upstream = Upstream::start().await;
    let providers = provider("p", "openai", &upstream, "/v1", ", models: [m]");
    let stage = Stage::start(&format!("version: 1\nproviders:\n{providers}"));
    let start = format!(
        "{}--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF",
        part("name=\"model\"", "m")
    );
    let second = format!("\r\n{}--b--\r\n", part("name=\"model\"", "other"));
    for (id, rest, chunked) in [
        ("second", &second[..], false),
        ("second-chunked", &second, true),
        ("epilogue", "\r\n--b--\r\nmore", false),
        ("no-end", "\r\n", false),
        ("no-end-chunked", "\r\n", true),
    ] {
        upstream.serve(id, Script::chat("heard").reads(Reads::Whole));
        let ask = Ask {
            headers: &FORM,
            ..Ask::post(id, SPEECH, b"")
        };
        let length = start.len() + rest.len();
        let mut head = ask.head(length as u64);
        let mut pieces = [start.clone().into_bytes(), rest.as_bytes().to_vec()];
        if chunked {
            let text = String::from_utf8(head).expect("ASCII");
            let announced = format!("content-length: {length}");
            head = text
                .replace(&announced, "transfer-encoding: chunked")
                .into_bytes();
            for piece in &mut pieces {
                let size = format!("{:x}\r\n", piece.len());
                *piece = [size.as_bytes(), piece, b"\r\n"].concat();
            }
            pieces[1].extend_from_slice(b"0\r\n\r\n");
        }
        let conn = stage.open(head).await;
        conn.send(&pieces[0]).await.expect("the gateway reads");
        let begun = |seen: &tollgate_testing::upstream::Seen| {
            seen.of(id).any(|it| it.body.ends_with(b"RIFF"))
        };
        upstream.wait_for(begun).await;
        // The gateway may refuse by the first of these bytes.
        let _took = conn.send(&pieces[1]).await;
        let answer = conn.response().await;
        assert_told(id, &answer, "openai", 400, "malformed_request", "peek");
        assert_line(
            &stage.line(id).await,
            "refused",
            "peek",
            "malformed_request",
        );
        let seen = upstream.finished(id, 1).await;
        let cut = matches!(seen.request_ended, Some(Ended::Cut | Ended::Reset));
        assert!(cut, "{id}: {:?}", seen.request_ended);
        let body = String::from_utf8_lossy(&seen.body);
        assert!(
            !body.contains("other") && !body.contains("--b--"),
            "{id}: {body}"
        );
    }
    stage.stop().await;
}
