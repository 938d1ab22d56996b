//! From a whole request to its reply.

use std::time::Duration;

use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use serde_json::{Value, json};

use super::{
    answer::{Answer, Api},
    body::Body,
    call::{Call, Dialect, Framing, dialect, request_id},
    embeddings, listing,
    model::Model,
    prompt,
    refusal::Refusal,
    script::Script,
};

/// An answer, and the time before its head.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) wait: Duration,
    pub(super) answer: Response<Body>,
}

/// `now`: seconds since the epoch.
pub(super) fn reply(head: &Parts, body: &[u8], now: i64) -> Reply {
    let call = Call::of(head);
    let (dialect, reply) = match call {
        Call::Count { dialect, model } => (dialect, count(body, dialect, model)),
        Call::Embed => (Dialect::OpenAi, embed(body)),
        Call::List(dialect) => (dialect, Ok(Reply::found(&listing::list(dialect), false))),
        Call::Show(dialect, name) => (dialect, show(dialect, name)),
        Call::Speak {
            api,
            model,
            framing,
        } => {
            let id = request_id(&head.headers);
            (api.dialect(), speak(body, api, model, framing, id, now))
        }
        Call::Unknown => (dialect(head), Err(Refusal::UnknownPath)),
    };
    reply.unwrap_or_else(|refusal| refusal.reply(dialect, &head.headers))
}

fn speak(
    body: &[u8],
    api: Api,
    model: Option<&str>,
    framing: Option<Framing>,
    id: &str,
    now: i64,
) -> Result<Reply, Refusal> {
    let request = parse(body)?;
    let (model, name) = played(&request, model)?;
    let answer = Answer::new(&request, model, name, id, now);
    let framing = framing.unwrap_or_else(|| match request["stream"] {
        Value::Bool(true) => Framing::Events,
        _ => Framing::Document,
    });
    let content_type = match framing {
        Framing::Array => "application/json; charset=utf-8",
        Framing::Document => {
            let words = u32::try_from(answer.words).unwrap_or(u32::MAX);
            let mut reply = Reply::found(&api.document(&answer), model == Model::Cut);
            reply.wait = model.pace() * words;
            return Ok(reply);
        }
        Framing::Events => "text/event-stream; charset=utf-8",
    };
    let script = Script::new(api, answer, framing == Framing::Array, model);
    Ok(Reply::stream(script, content_type))
}

fn count(body: &[u8], dialect: Dialect, model: Option<&str>) -> Result<Reply, Refusal> {
    let request = parse(body)?;
    let (model, _) = played(&request, model)?;
    let words = prompt::words(&request);
    let document = match dialect {
        Dialect::Gemini => json!({ "totalTokens": words }),
        Dialect::Anthropic | Dialect::OpenAi => json!({ "input_tokens": words }),
    };
    Ok(Reply::found(&document, model == Model::Cut))
}

fn embed(body: &[u8]) -> Result<Reply, Refusal> {
    let request = parse(body)?;
    let (model, name) = played(&request, None)?;
    let document = embeddings::document(&request, name)?;
    Ok(Reply::found(&document, model == Model::Cut))
}

fn show(dialect: Dialect, name: &str) -> Result<Reply, Refusal> {
    match Model::of(name) {
        Some(_) => Ok(Reply::found(&listing::entry(dialect, name), false)),
        None => Err(Refusal::UnknownModel(name.to_owned())),
    }
}

fn parse(body: &[u8]) -> Result<Value, Refusal> {
    let request: Value =
        serde_json::from_slice(body).map_err(|error| Refusal::Malformed(error.to_string()))?;
    if !request.is_object() {
        return Err(Refusal::Malformed("it is not a JSON object".to_owned()));
    }
    Ok(request)
}

/// The behaviour that the path's model, else the body's, asks for, and the model's name.
fn played<'a>(request: &'a Value, model: Option<&'a str>) -> Result<(Model, &'a str), Refusal> {
    let name = model
        .or_else(|| request["model"].as_str())
        .ok_or_else(|| Refusal::Malformed("it names no `model`".to_owned()))?;
    match Model::of(name) {
        Some(Model::E429) => Err(Refusal::Throttled),
        Some(Model::E500) => Err(Refusal::Failed),
        Some(model) => Ok((model, name)),
        None => Err(Refusal::UnknownModel(name.to_owned())),
    }
}

// ===== impl Reply =====

impl Reply {
    /// `cut`: the body dies in its middle.
    pub(super) fn document(status: StatusCode, document: &Value, cut: bool) -> Self {
        let document = document.to_string();
        let length = document.len();
        let mut answer = Response::new(Body::document(document, cut));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        Self {
            wait: Duration::ZERO,
            answer,
        }
    }

    fn found(document: &Value, cut: bool) -> Self {
        Self::document(StatusCode::OK, document, cut)
    }

    fn stream(script: Script, content_type: &'static str) -> Self {
        let mut answer = Response::new(Body::script(script));
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        Self {
            wait: Duration::ZERO,
            answer,
        }
    }
}
