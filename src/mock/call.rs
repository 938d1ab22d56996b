//! What a request asks for, read off its method, path and headers.

use http::{HeaderMap, Method, request::Parts};

use super::answer::Api;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Anthropic,
    Gemini,
    OpenAi,
}

/// How text is to be framed; `None` in [`Call::Speak`] leaves it to the body's `stream`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Array,
    Document,
    Events,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call<'a> {
    Count {
        dialect: Dialect,
        model: Option<&'a str>,
    },
    Embed,
    List(Dialect),
    Show(Dialect, &'a str),
    Speak {
        api: Api,
        model: Option<&'a str>,
        framing: Option<Framing>,
    },
    Unknown,
}

impl<'a> Call<'a> {
    pub(super) fn of(head: &'a Parts) -> Self {
        let path = without_prefix(head.uri.path());
        match (&head.method, path) {
            (&Method::GET, "/models") => Self::List(dialect(head)),
            (&Method::GET, _) => path
                .strip_prefix("/models/")
                .map_or(Self::Unknown, |model| Self::Show(dialect(head), model)),
            (&Method::POST, "/chat/completions") => Self::speak(Api::Chat),
            (&Method::POST, "/completions") => Self::speak(Api::Completions),
            (&Method::POST, "/embeddings") => Self::Embed,
            (&Method::POST, "/messages") => Self::speak(Api::Messages),
            (&Method::POST, "/messages/count_tokens") => Self::Count {
                dialect: Dialect::Anthropic,
                model: None,
            },
            (&Method::POST, "/responses") => Self::speak(Api::Responses),
            (&Method::POST, _) => gemini(path, head.uri.query().unwrap_or_default()),
            _ => Self::Unknown,
        }
    }

    fn speak(api: Api) -> Self {
        Self::Speak {
            api,
            model: None,
            framing: None,
        }
    }
}

/// The dialect in which a request expects even an error.
pub(super) fn dialect(head: &Parts) -> Dialect {
    let path = head.uri.path();
    let has = |name| head.headers.contains_key(name);
    if without_prefix(path).starts_with("/messages") || has("anthropic-version") {
        Dialect::Anthropic
    } else if path.starts_with("/v1beta/")
        || matches!(
            gemini(without_prefix(path), ""),
            Call::Speak { .. } | Call::Count { .. }
        )
        || has("x-goog-api-key")
        || has("x-goog-api-client")
    {
        Dialect::Gemini
    } else {
        Dialect::OpenAi
    }
}

/// The id that a caller or a gateway gave the request, `mock` without one.
pub(super) fn request_id(headers: &HeaderMap) -> &str {
    ["x-client-request-id", "x-request-id"]
        .into_iter()
        .filter_map(|name| headers.get(name)?.to_str().ok())
        .find(|id| (1..=MAX_ID).contains(&id.len()))
        .unwrap_or("mock")
}

fn gemini<'a>(path: &'a str, query: &str) -> Call<'a> {
    let Some((model, verb)) = path
        .strip_prefix("/models/")
        .or_else(|| path.strip_prefix("/tunedModels/"))
        .and_then(|rest| rest.rsplit_once(':'))
    else {
        return Call::Unknown;
    };
    let speak = |framing| Call::Speak {
        api: Api::Gemini,
        model: Some(model),
        framing: Some(framing),
    };
    match verb {
        "countTokens" => Call::Count {
            dialect: Dialect::Gemini,
            model: Some(model),
        },
        "generateContent" => speak(Framing::Document),
        "streamGenerateContent" if query.split('&').any(|pair| pair == "alt=sse") => {
            speak(Framing::Events)
        }
        "streamGenerateContent" => speak(Framing::Array),
        _ => Call::Unknown,
    }
}

fn without_prefix(path: &str) -> &str {
    ["/v1beta", "/v1"]
        .into_iter()
        .filter_map(|prefix| path.strip_prefix(prefix))
        .find(|rest| rest.starts_with('/'))
        .unwrap_or(path)
}

/// Every event repeats the id; a gateway takes ids of at most 128 characters too.
const MAX_ID: usize = 128;
