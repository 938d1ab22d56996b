//! The known paths.

use std::ops::Range;

use super::{Hints, Recognised, Surface};
use crate::dialect::{Dialect, Operation};

/// A surface whose prefix is not placed yet.
pub(super) struct Found {
    dialect: Dialect,
    operation: Operation,
    model: Option<Range<usize>>,
    stream: Option<bool>,
}

/// A fixed path behind a version, asked for with POST.
pub(super) fn posted(rest: &str) -> Option<Found> {
    exact(rest).map(|(dialect, operation)| Found::new(dialect, operation))
}

/// What stands behind an API prefix whose last segment is `path[segment]`.
pub(super) fn behind(hints: &Hints<'_>, path: &str, segment: Range<usize>) -> Option<Found> {
    let at = segment.end + 1;
    let rest = path.get(at..)?;
    let segment = &path[segment];
    if !hints.posts() {
        return hints
            .reads()
            .then(|| listing(hints, path, at, segment))
            .flatten();
    }
    if let Some((dialect, operation)) = exact(rest) {
        let azure = segment == "openai" && dialect == Dialect::OpenAi && hints.asks("api-version");
        return Some(Found::new(
            if azure { Dialect::Azure } else { dialect },
            operation,
        ));
    }
    if segment == "openai"
        && let Some(tail) = rest.strip_prefix("deployments/")
    {
        let (deployment, operation) = deployed(tail)?;
        let from = at + "deployments/".len();
        return Some(
            Found::new(Dialect::Azure, operation).with_model(from..from + deployment.len()),
        );
    }
    google(path, at)
}

/// Azure's `{deployment}/chat/completions`. A deployment that is named after a model may hold slashes.
fn deployed(tail: &str) -> Option<(&str, Operation)> {
    let mut ends = tail.rmatch_indices('/').map(|(at, _)| at);
    let (one, two) = (ends.next()?, ends.next());
    // The longer surface first: what is left of it is the name.
    [two, Some(one)].into_iter().flatten().find_map(|at| {
        let (name, surface) = (&tail[..at], &tail[at + 1..]);
        match exact(surface) {
            Some((Dialect::OpenAi, operation)) if !name.is_empty() && !name.starts_with('/') => {
                Some((name, operation))
            }
            _ => None,
        }
    })
}

/// What needs no version before it: Bedrock's and Ollama's paths, behind any mount.
pub(super) fn unversioned(hints: &Hints<'_>, path: &str) -> Option<Recognised> {
    if let Some(at) = path.find("/model/") {
        let from = at + "/model/".len();
        let end = path.rfind('/').filter(|end| *end > from)?;
        if !hints.posts() {
            return None;
        }
        let (operation, stream) = match &path[end + 1..] {
            "converse" => (Operation::Converse, Some(false)),
            "converse-stream" => (Operation::Converse, Some(true)),
            "invoke" => (Operation::Invoke, Some(false)),
            "invoke-with-response-stream" => (Operation::Invoke, Some(true)),
            "count-tokens" => (Operation::CountTokens, None),
            _ => return None,
        };
        let found = Found {
            stream,
            ..Found::new(Dialect::Bedrock, operation).with_model(from..end)
        };
        return Some(Recognised::Surface(found.placed(0..at)));
    }
    let end = path.rfind('/')?;
    let prefix = 0..path[..end].ends_with("/api").then_some(end)?;
    let operation = match (&path[end + 1..], hints.posts()) {
        ("chat", true) => Operation::Chat,
        ("generate", true) => Operation::Generate,
        ("embed" | "embeddings", true) => Operation::Embeddings,
        ("tags", false) if hints.reads() => Operation::Models,
        ("show", true) => return Some(Recognised::Prefixed(prefix)),
        ("ps" | "version", false) if hints.reads() => return Some(Recognised::Prefixed(prefix)),
        _ => return None,
    };
    Some(Recognised::Surface(
        Found::new(Dialect::Ollama, operation).placed(prefix),
    ))
}

/// What a path without any API prefix lacks.
pub(super) fn missing(hints: &Hints<'_>, path: &str) -> Recognised {
    let rest = path.trim_start_matches('/');
    let (mount, at) = match rest.split_once('/') {
        Some((mount @ ("anthropic" | "gemini"), _)) => {
            (mount, path.len() - rest.len() + mount.len() + 1)
        }
        _ => ("", path.len() - rest.len()),
    };
    let rest = &path[at..];
    let found = match exact(rest) {
        Some((dialect, operation)) => Some(Found::new(dialect, operation)),
        None if rest == "models" && hints.reads() => listing(hints, path, at, mount),
        None => google(path, at),
    };
    found.map_or(Recognised::Unknown, |found| {
        Recognised::Wrong(remedy(&found, false))
    })
}

/// Surfaces with a fixed path behind the prefix, asked for with POST.
fn exact(rest: &str) -> Option<(Dialect, Operation)> {
    use Dialect::{Anthropic, Cohere, OpenAi};
    Some(match rest {
        "chat/completions" => (OpenAi, Operation::Chat),
        "responses" | "responses/compact" => (OpenAi, Operation::Responses),
        "messages" => (Anthropic, Operation::Messages),
        "embeddings" => (OpenAi, Operation::Embeddings),
        "completions" => (OpenAi, Operation::Completions),
        "messages/count_tokens" => (Anthropic, Operation::CountTokens),
        "responses/input_tokens" => (OpenAi, Operation::CountTokens),
        "moderations" => (OpenAi, Operation::Moderations),
        "images/generations" => (OpenAi, Operation::Images),
        "images/edits" => (OpenAi, Operation::ImageEdits),
        "images/variations" => (OpenAi, Operation::ImageVariations),
        "audio/speech" => (OpenAi, Operation::Speech),
        "audio/transcriptions" => (OpenAi, Operation::Transcriptions),
        "audio/translations" => (OpenAi, Operation::Translations),
        "chat" => (Cohere, Operation::Chat),
        "embed" => (Cohere, Operation::Embeddings),
        "rerank" => (Cohere, Operation::Rerank),
        _ => return None,
    })
}

/// `models` and `models/{id}`, whose dialect the headers tell.
fn listing(hints: &Hints<'_>, path: &str, at: usize, segment: &str) -> Option<Found> {
    let rest = path[at..].strip_prefix("models")?;
    let model = match rest.strip_prefix('/') {
        Some("") => return None,
        Some(_) => Some(at + "models/".len()..path.len()),
        None if rest.is_empty() => None,
        None => return None,
    };
    let mounted = |mount: &str| {
        path.as_bytes()
            .get(1..)
            .is_some_and(|p| p.starts_with(mount.as_bytes()))
    };
    let dialect = if segment == "openai" {
        if hints.asks("api-version") {
            Dialect::Azure
        } else {
            Dialect::OpenAi
        }
    } else if segment.contains("alpha")
        || segment.contains("beta")
        || hints.google()
        || mounted("gemini/")
    {
        Dialect::Gemini
    } else if hints.headers.contains_key("anthropic-version") || mounted("anthropic/") {
        Dialect::Anthropic
    } else {
        Dialect::OpenAi
    };
    let operation = if model.is_some() {
        Operation::Model
    } else {
        Operation::Models
    };
    Some(Found {
        model,
        ..Found::new(dialect, operation)
    })
}

impl Hints<'_> {
    fn google(&self) -> bool {
        self.headers.contains_key("x-goog-api-key")
            || self.headers.contains_key("x-goog-api-client")
            || self.asks("key")
    }
}

/// `…models/{model}:{method}`, on Gemini's own API and on Vertex.
fn google(path: &str, at: usize) -> Option<Found> {
    let colon = path.rfind(':').filter(|colon| *colon > at)?;
    let rest = &path[at..colon];
    let vertex = rest.starts_with("projects/") || rest.starts_with("publishers/");
    let name = if vertex {
        let found = rest.rfind("/models/").map(|i| i + "/models/".len());
        at + found.or_else(|| rest.rfind("/endpoints/").map(|i| i + "/endpoints/".len()))?
    } else {
        at + ["models/", "tunedModels/"]
            .into_iter()
            .find(|w| rest.starts_with(w))?
            .len()
    };
    if name == colon {
        return None;
    }
    let (operation, stream) = match &path[colon + 1..] {
        "generateContent" => (Operation::Generate, Some(false)),
        "streamGenerateContent" => (Operation::Generate, Some(true)),
        "countTokens" => (Operation::CountTokens, None),
        "embedContent" | "batchEmbedContents" | "asyncBatchEmbedContent" => {
            (Operation::Embeddings, None)
        }
        "predict" => (Operation::Predict, Some(false)),
        method @ ("rawPredict" | "streamRawPredict") if vertex => {
            return partner(path, at, name..colon, method == "streamRawPredict");
        }
        _ => return None,
    };
    Some(Found {
        stream,
        ..Found::new(Dialect::Gemini, operation).with_model(name..colon)
    })
}

/// Vertex's partner models speak their makers' dialects.
fn partner(path: &str, at: usize, model: Range<usize>, stream: bool) -> Option<Found> {
    let before = &path[at..model.start];
    if before.ends_with("publishers/anthropic/models/") {
        if &path[model.clone()] == "count-tokens" {
            return Some(Found::new(Dialect::Anthropic, Operation::CountTokens));
        }
        let found = Found::new(Dialect::Anthropic, Operation::Messages).with_model(model);
        return Some(Found {
            stream: Some(stream),
            ..found
        });
    }
    before
        .ends_with("publishers/mistralai/models/")
        .then(|| Found {
            stream: Some(stream),
            ..Found::new(Dialect::OpenAi, Operation::Chat).with_model(model)
        })
}

impl Found {
    const fn new(dialect: Dialect, operation: Operation) -> Self {
        Self {
            dialect,
            operation,
            model: None,
            stream: None,
        }
    }

    fn with_model(self, model: Range<usize>) -> Self {
        Self {
            model: Some(model),
            ..self
        }
    }

    pub(super) fn placed(self, prefix: Range<usize>) -> Surface {
        let Self {
            dialect,
            operation,
            model,
            stream,
        } = self;
        Surface {
            dialect,
            operation,
            prefix,
            model,
            stream,
        }
    }
}

/// Both wordings for a path.
macro_rules! remedies {
    ($twice:expr, $($pattern:pat => $path:literal),+ $(,)?) => {
        |dialect: Dialect, operation: Operation| match (dialect, operation) {
            $($pattern => if $twice {
                concat!("the path names its API version twice; ask for ", $path,
                    ": the base URL of the client has one version too many")
            } else {
                concat!("the path lacks its API version; ask for ", $path,
                    ": the base URL of the client has one version too few")
            },)+
        }
    };
}

/// The message for a path whose prefix is missing or stands there twice.
pub(super) fn remedy(found: &Found, twice: bool) -> &'static str {
    use Dialect as D;
    use Operation as O;
    let words = remedies!(twice,
        (D::Anthropic, O::CountTokens) => "/v1/messages/count_tokens",
        (D::Anthropic, O::Models | O::Model) => "/v1/models",
        (D::Anthropic, _) => "/v1/messages",
        (D::Cohere, O::Embeddings) => "/v2/embed",
        (D::Cohere, O::Rerank) => "/v2/rerank",
        (D::Cohere, _) => "/v2/chat",
        (D::Gemini, O::Models | O::Model) => "/v1beta/models",
        (D::Gemini, _) => "/v1beta/models/{model}:{method}",
        (D::Azure, _) => "/openai/deployments/{deployment}/…",
        (_, O::Completions) => "/v1/completions",
        (_, O::Responses) => "/v1/responses",
        (_, O::Embeddings) => "/v1/embeddings",
        (_, O::Moderations) => "/v1/moderations",
        (_, O::CountTokens) => "/v1/responses/input_tokens",
        (_, O::Images) => "/v1/images/generations",
        (_, O::ImageEdits) => "/v1/images/edits",
        (_, O::ImageVariations) => "/v1/images/variations",
        (_, O::Speech) => "/v1/audio/speech",
        (_, O::Transcriptions) => "/v1/audio/transcriptions",
        (_, O::Translations) => "/v1/audio/translations",
        (_, O::Models | O::Model) => "/v1/models",
        (_, _) => "/v1/chat/completions",
    );
    words(found.dialect, found.operation)
}
