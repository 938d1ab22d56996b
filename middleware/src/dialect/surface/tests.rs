use http::HeaderValue;
use proptest::prelude::*;

use super::*;

fn recognised(method: &Method, path: &str, headers: &[&'static str]) -> Recognised {
    let mut map = HeaderMap::new();
    for name in headers {
        map.insert(*name, HeaderValue::from_static("x"));
    }
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    recognise(method, path, query, &map)
}

/// Dialect, operation, prefix, model, stream in one line.
fn told(method: &Method, path: &str, headers: &[&'static str]) -> String {
    match recognised(method, path, headers) {
        Recognised::Surface(s) => {
            let model = s.model.clone().map_or("-", |range| &path[range]);
            let stream = s
                .stream
                .map_or("-", |stream| if stream { "stream" } else { "whole" });
            format!(
                "{} {} {} {model} {stream}",
                s.dialect,
                s.operation,
                &path[s.prefix.clone()]
            )
        }
        Recognised::Prefixed(prefix) => format!("prefixed {}", &path[prefix]),
        Recognised::Wrong(text) => format!("wrong {text}"),
        Recognised::Unknown => "unknown".to_owned(),
    }
}

fn post(path: &str) -> String {
    told(&Method::POST, path, &[])
}

#[test]
fn openai_shapes_are_known_behind_any_version() {
    assert_eq!(post("/v1/chat/completions"), "openai chat /v1 - -");
    assert_eq!(
        post("/openai/v1/chat/completions"),
        "openai chat /openai/v1 - -"
    );
    assert_eq!(post("/openai/chat/completions"), "openai chat /openai - -");
    assert_eq!(
        post("/v1beta/openai/chat/completions"),
        "openai chat /v1beta/openai - -"
    );
    assert_eq!(
        post("/api/paas/v4/chat/completions"),
        "openai chat /api/paas/v4 - -"
    );
    assert_eq!(
        post("/client/v4/accounts/a/ai/v1/chat/completions"),
        "openai chat /client/v4/accounts/a/ai/v1 - -"
    );
    assert_eq!(post("/v1/completions"), "openai completions /v1 - -");
    assert_eq!(post("/v1/responses"), "openai responses /v1 - -");
    assert_eq!(
        post("/v1/responses/input_tokens"),
        "openai count_tokens /v1 - -"
    );
    assert_eq!(post("/v1/images/edits"), "openai image_edits /v1 - -");
    assert_eq!(
        post("/v1/audio/transcriptions"),
        "openai transcriptions /v1 - -"
    );
}

#[test]
fn azure_deployments_are_the_model() {
    assert_eq!(
        post("/openai/deployments/gpt%204o/chat/completions?api-version=1"),
        "azure chat /openai gpt%204o -"
    );
    assert_eq!(
        post("/openai/responses?api-version=1"),
        "azure responses /openai - -"
    );
    for name in ["org/name", "org%2Fname", "a/b/c", "chat"] {
        assert_eq!(
            post(&format!("/openai/deployments/{name}/chat/completions")),
            format!("azure chat /openai {name} -")
        );
        assert_eq!(
            post(&format!("/openai/deployments/{name}/embeddings")),
            format!("azure embeddings /openai {name} -")
        );
    }
    for path in ["d/other", "d", "/chat/completions", "completions"] {
        let told = post(&format!("/openai/deployments/{path}"));
        assert_eq!(told, "prefixed /openai", "{path}");
    }
}

#[test]
fn anthropic_cohere_ollama_and_bedrock_are_known() {
    assert_eq!(post("/v1/messages?beta=true"), "anthropic messages /v1 - -");
    assert_eq!(
        post("/anthropic/v1/messages/count_tokens"),
        "anthropic count_tokens /anthropic/v1 - -"
    );
    assert_eq!(post("/v2/chat"), "cohere chat /v2 - -");
    assert_eq!(post("/v2/rerank"), "cohere rerank /v2 - -");
    assert_eq!(post("/api/chat"), "ollama chat /api - -");
    assert_eq!(
        post("/ollama/api/embed"),
        "ollama embeddings /ollama/api - -"
    );
    assert_eq!(
        told(&Method::GET, "/api/tags", &[]),
        "ollama models /api - -"
    );
    assert_eq!(
        post("/model/m%3A0/converse-stream"),
        "bedrock converse  m%3A0 stream"
    );
    assert_eq!(
        post("/bedrock/model/arn:aws:bedrock/profile/m/invoke"),
        "bedrock invoke /bedrock arn:aws:bedrock/profile/m whole"
    );
}

#[test]
fn google_names_model_and_method_in_the_path() {
    assert_eq!(
        post("/v1beta/models/g:streamGenerateContent?alt=sse"),
        "gemini generate /v1beta g stream"
    );
    assert_eq!(
        post("/gemini/v1/models/g:generateContent"),
        "gemini generate /gemini/v1 g whole"
    );
    assert_eq!(
        post("/v1beta/tunedModels/t:countTokens"),
        "gemini count_tokens /v1beta t -"
    );
    assert_eq!(
        post("/v1beta/models/e:batchEmbedContents"),
        "gemini embeddings /v1beta e -"
    );
    let vertex = "/v1/projects/p/locations/l/publishers";
    assert_eq!(
        post(&format!("{vertex}/google/models/g:generateContent")),
        "gemini generate /v1 g whole"
    );
    assert_eq!(
        post(&format!("{vertex}/anthropic/models/c@1:streamRawPredict")),
        "anthropic messages /v1 c@1 stream"
    );
    assert_eq!(
        post(&format!(
            "{vertex}/anthropic/models/count-tokens:rawPredict"
        )),
        "anthropic count_tokens /v1 - -"
    );
    assert_eq!(
        post(&format!("{vertex}/other/models/m:rawPredict")),
        "prefixed /v1"
    );
    assert_eq!(
        post("/v1/projects/p/locations/l/endpoints/openapi/chat/completions"),
        "openai chat /v1/projects/p/locations/l/endpoints/openapi - -"
    );
}

#[test]
fn headers_tell_whose_models_are_listed() {
    let list = |path, headers| told(&Method::GET, path, headers);
    assert_eq!(list("/v1/models", &[]), "openai models /v1 - -");
    assert_eq!(
        list("/v1/models?limit=1000", &["anthropic-version"]),
        "anthropic models /v1 - -"
    );
    assert_eq!(
        list("/v1/models", &["x-goog-api-key"]),
        "gemini models /v1 - -"
    );
    assert_eq!(
        list("/v1/models", &["x-goog-api-client"]),
        "gemini models /v1 - -"
    );
    assert_eq!(
        list("/v1beta/models?key=k", &[]),
        "gemini models /v1beta - -"
    );
    assert_eq!(
        list("/anthropic/v1/models", &[]),
        "anthropic models /anthropic/v1 - -"
    );
    assert_eq!(
        list("/v1/models/org/name", &[]),
        "openai model /v1 org/name -"
    );
    assert_eq!(
        list("/v1/models/org%2Fname", &[]),
        "openai model /v1 org%2Fname -"
    );
    assert_eq!(
        list("/v1/models/openai/gpt-4o", &[]),
        "openai model /v1 openai/gpt-4o -"
    );
    assert_eq!(list("/v1/modelsx", &[]), "prefixed /v1");
}

#[test]
fn what_is_not_known_behind_a_prefix_is_prefixed() {
    assert_eq!(post("/v1/files"), "prefixed /v1");
    assert_eq!(post("/openai/v1/files"), "prefixed /openai/v1");
    assert_eq!(post("/v1/responses/resp_1/cancel"), "prefixed /v1");
    assert_eq!(
        told(&Method::GET, "/v1/responses/resp_1", &[]),
        "prefixed /v1"
    );
    assert_eq!(
        told(&Method::GET, "/v1/realtime?model=m", &[]),
        "prefixed /v1"
    );
    assert_eq!(
        told(&Method::DELETE, "/v1/models/ft:m", &[]),
        "prefixed /v1"
    );
    assert_eq!(
        told(&Method::GET, "/v1/chat/completions", &[]),
        "prefixed /v1"
    );
    assert_eq!(told(&Method::GET, "/api/version", &[]), "prefixed /api");
}

#[test]
fn a_prefix_missing_or_twice_names_the_right_path() {
    for path in [
        "/v1/v1/chat/completions",
        "/chat/completions",
        "/v1/v1beta/chat/completions",
    ] {
        assert!(
            post(path).starts_with("wrong ") && post(path).contains("/v1/chat/completions"),
            "{path}"
        );
    }
    assert!(post("/v1/v1/messages").contains("for /v1/messages:"));
    assert!(post("/v1/v1/messages").contains("one version too many"));
    assert!(post("/anthropic/messages").contains("one version too few"));
    assert!(post("/models/g:generateContent").contains("/v1beta/models/"));
    assert!(told(&Method::GET, "/models", &[]).contains("/v1/models"));
    assert!(post("/v1/v1/files").starts_with("wrong "));
}

#[test]
fn anything_else_is_unknown() {
    for path in [
        "/",
        "",
        "/favicon.ico",
        "/serving-endpoints/chat/completions",
        "/vx/chat/completions",
        "/api/pull",
    ] {
        assert_eq!(post(path), "unknown", "{path}");
    }
    for path in [
        "/v1/../admin",
        "/v1/%2e%2E/admin",
        "/v1/./files",
        "/v1/files/..",
    ] {
        assert_eq!(post(path), "unknown", "{path}");
    }
    assert_eq!(post("/v1/files/..hidden"), "prefixed /v1");
}

#[test]
fn surfaces_know_what_their_bodies_are() {
    let of = |path: &str| match recognised(&Method::POST, path, &[]) {
        Recognised::Surface(surface) => (surface.is_json(), surface.carries_text()),
        other => panic!("{path}: {other:?}"),
    };
    assert_eq!(of("/v1/chat/completions"), (true, true));
    assert_eq!(of("/v1/images/edits"), (false, true));
    assert_eq!(of("/v1/audio/transcriptions"), (false, false));
}

#[test]
fn the_model_in_a_path_is_decoded() {
    let of = |path: &str| match recognised(&Method::POST, path, &[]) {
        Recognised::Surface(surface) => surface.model_in(path).map(Cow::into_owned),
        other => panic!("{path}: {other:?}"),
    };
    assert_eq!(
        of("/model/arn%3Aaws%2Fm/converse").as_deref(),
        Some("arn:aws/m")
    );
    assert_eq!(
        of("/v1beta/models/m%4:generateContent").as_deref(),
        Some("m%4")
    );
    assert_eq!(
        of("/v1beta/models/m%ff:generateContent").as_deref(),
        Some("m%ff")
    );
    assert_eq!(of("/v1/chat/completions"), None);
}

#[test]
fn recorded_paths_are_known_unless_they_have_no_version() {
    use crate::dialect::recordings;
    let mut bare = Vec::new();
    for recording in recordings::all() {
        let path = recording.meta["path"].as_str().expect("a path");
        let method = recording.meta["method"]
            .as_str()
            .expect("a method")
            .parse()
            .expect("a method");
        match recognised(&method, path, &[]) {
            Recognised::Surface(found) => {
                let named = if found.dialect == Dialect::Azure {
                    Dialect::OpenAi
                } else {
                    found.dialect
                };
                let operation = match found.operation {
                    Operation::ImageEdits => Operation::Images,
                    operation => operation,
                };
                let expected = (recording.surface.dialect, recording.surface.operation);
                assert_eq!((named, operation), expected, "{}", recording.name);
            }
            _ => bare.push(path.split('?').next().expect("a path").to_owned()),
        }
    }
    bare.sort();
    bare.dedup();
    let versionless = [
        "/chat/completions",
        "/models/chat/completions",
        "/serving-endpoints/chat/completions",
    ];
    assert!(
        bare.iter().all(|path| versionless.contains(&path.as_str())),
        "{bare:?}"
    );
}

#[test]
fn a_base_path_replaces_the_prefix() {
    let joined = |base: &str, path: &str| {
        let prefix = match recognised(&Method::POST, path, &[]) {
            Recognised::Surface(surface) => Some(surface.prefix),
            Recognised::Prefixed(prefix) => Some(prefix),
            _ => None,
        };
        join(base, path, prefix.as_ref()).into_owned()
    };
    assert_eq!(
        joined("/api/v9", "/v1/chat/completions"),
        "/api/v9/chat/completions"
    );
    assert_eq!(joined("/api/v9/", "/v1/files"), "/api/v9/files");
    assert_eq!(
        joined("", "/openai/v1/chat/completions"),
        "/openai/v1/chat/completions"
    );
    assert_eq!(joined("/", "/v1/messages"), "/v1/messages");
    assert_eq!(
        joined("/v1", "/openai/v1/chat/completions"),
        "/v1/chat/completions"
    );
    assert_eq!(
        joined("/anthropic/v1", "/v1/messages"),
        "/anthropic/v1/messages"
    );
    assert_eq!(
        joined("/v1", "/v1beta/models/m:generateContent"),
        "/v1/models/m:generateContent"
    );
    assert_eq!(
        joined("/base", "/model/m/converse"),
        "/base/model/m/converse"
    );
    assert_eq!(joined("/base", "/other"), "/base/other");
}

#[test]
fn the_same_prefix_is_joined_without_a_copy() {
    assert!(matches!(
        join("/v1", "/v1/chat/completions", Some(&(0..3))),
        Cow::Borrowed(_)
    ));
}

proptest! {
    /// Any path is answered, and every span told lies inside it on character boundaries.
    #[test]
    fn spans_lie_inside_the_path(
        parts in prop::collection::vec(prop_oneof![
            Just("v1".to_owned()), Just("openai".to_owned()), Just("models".to_owned()), Just("model".to_owned()),
            Just("api".to_owned()), Just("chat".to_owned()), Just("completions".to_owned()),
            Just("m:generateContent".to_owned()), Just("converse".to_owned()), Just("deployments".to_owned()),
            Just("projects".to_owned()), Just("..".to_owned()), "[a-zé%:.]{0,5}",
        ], 0..7),
        lead in any::<bool>(),
    ) {
        let path = format!("{}{}", if lead { "/" } else { "" }, parts.join("/"));
        for method in [Method::POST, Method::GET, Method::DELETE] {
            if let Recognised::Surface(surface) = recognise(&method, &path, None, &HeaderMap::new()) {
                prop_assert!(path.get(surface.prefix.clone()).is_some());
                if let Some(model) = surface.model {
                    prop_assert!(surface.prefix.end < model.start && path.get(model).is_some_and(|m| !m.is_empty()));
                }
            }
        }
    }
}
