//! How an answer is cut into events.

use http::{HeaderMap, StatusCode, header};

use super::{Dialect, Operation, Surface};

/// How an answer's bytes are cut into events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// Server-sent events.
    Sse,
    /// One JSON document a line.
    Lines,
    /// One JSON array sent in pieces, an element an event: Gemini without `alt=sse`.
    Array,
    /// Amazon's binary event stream.
    EventStream,
    /// One document.
    Document,
    /// Bytes that cannot be read: compressed, binary, unknown.
    Opaque,
}

/// What an answer's head says about its framing.
///
/// `stream` is whether the request asked for a stream; `encoded` whether the body has a content coding other
/// than `identity`. A head can be wrong: recordings hold event streams labelled JSON. So what a stream really
/// is, is settled on its first bytes by [`Judge`](super::Judge); its `framing` is the one to trust.
pub fn framing(
    surface: Option<&Surface>,
    stream: bool,
    status: u16,
    content_type: Option<&str>,
    encoded: bool,
) -> Framing {
    if encoded {
        return Framing::Opaque;
    }
    let failed = !(200..300).contains(&status);
    // What nearly all documents say.
    if content_type == Some("application/json") {
        return of_json(surface.filter(|_| stream && !failed), "application/json");
    }
    let kind = content_type.map_or("", essence);
    let is = |word: &str| kind.eq_ignore_ascii_case(word);
    if is("text/event-stream") {
        return if failed {
            Framing::Document
        } else {
            Framing::Sse
        };
    }
    if is("application/vnd.amazon.eventstream") {
        return Framing::EventStream;
    }
    if LINES.into_iter().any(is) {
        return Framing::Lines;
    }
    let json = is("application/json") || kind.len() > 5 && is_json_suffix(kind);
    match surface {
        _ if json => of_json(surface.filter(|_| stream && !failed), kind),
        Some(surface) if stream && !failed => labelled(surface, json, kind),
        Some(surface)
            if kind.is_empty() && surface.is_json() && surface.operation != Operation::Speech =>
        {
            Framing::Document
        }
        _ => Framing::Opaque,
    }
}

/// The framing of what is labelled JSON; `surface` if a stream was asked for, and granted.
fn of_json(surface: Option<&Surface>, kind: &str) -> Framing {
    surface.map_or(Framing::Document, |surface| labelled(surface, true, kind))
}

/// As [`framing`], from the head of an answer.
pub fn framing_of(
    surface: Option<&Surface>,
    stream: bool,
    status: StatusCode,
    headers: &HeaderMap,
) -> Framing {
    let coding = headers.get(header::CONTENT_ENCODING);
    let encoded = coding.is_some_and(|value| {
        !value
            .as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(b"identity")
    });
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|value| value.to_str().ok());
    framing(surface, stream, status.as_u16(), kind, encoded)
}

/// The framing of a stream that was asked for and whose label is JSON, missing, or something else.
fn labelled(surface: &Surface, json: bool, kind: &str) -> Framing {
    match surface.dialect {
        Dialect::Ollama if json || kind.is_empty() => Framing::Lines,
        Dialect::Gemini if json && surface.operation == Operation::Generate => Framing::Array,
        Dialect::Bedrock if kind.is_empty() => Framing::EventStream,
        _ if json => Framing::Document,
        _ if kind.is_empty() || kind.eq_ignore_ascii_case("text/plain") => Framing::Sse,
        _ => Framing::Opaque,
    }
}

/// A media type without its parameters.
fn essence(content_type: &str) -> &str {
    let end = memchr::memchr(b';', content_type.as_bytes());
    content_type[..end.unwrap_or(content_type.len())].trim_ascii()
}

fn is_json_suffix(kind: &str) -> bool {
    kind.as_bytes()
        .last_chunk::<5>()
        .is_some_and(|tail| tail.eq_ignore_ascii_case(b"+json"))
}

/// Labels seen for one document a line.
const LINES: [&str; 4] = [
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/stream+json",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn surface(dialect: Dialect, operation: Operation) -> Surface {
        Surface {
            dialect,
            operation,
            prefix: 0..0,
            model: None,
            stream: None,
        }
    }

    #[test]
    fn the_label_decides_where_it_is_clear() {
        let chat = surface(Dialect::OpenAi, Operation::Chat);
        let of = |kind| framing(Some(&chat), true, 200, Some(kind), false);
        assert_eq!(of("text/event-stream; charset=utf-8"), Framing::Sse);
        assert_eq!(of("Text/Event-Stream;charset=UTF-8"), Framing::Sse);
        assert_eq!(of("application/x-ndjson"), Framing::Lines);
        assert_eq!(
            of("application/vnd.amazon.eventstream"),
            Framing::EventStream
        );
        assert_eq!(of("application/json"), Framing::Document);
        assert_eq!(of("text/html"), Framing::Opaque);
    }

    #[test]
    fn a_coding_hides_everything() {
        assert_eq!(
            framing(None, true, 200, Some("text/event-stream"), true),
            Framing::Opaque
        );
    }

    #[test]
    fn a_failure_is_one_document_whatever_was_asked() {
        let gemini = surface(Dialect::Gemini, Operation::Generate);
        assert_eq!(
            framing(Some(&gemini), true, 429, Some("application/json"), false),
            Framing::Document
        );
        assert_eq!(
            framing(Some(&gemini), true, 500, Some("text/event-stream"), false),
            Framing::Document
        );
    }

    #[test]
    fn a_missing_label_is_read_from_the_surface() {
        let of = |dialect, operation, stream| {
            framing(Some(&surface(dialect, operation)), stream, 200, None, false)
        };
        assert_eq!(of(Dialect::OpenAi, Operation::Chat, true), Framing::Sse);
        assert_eq!(
            of(Dialect::OpenAi, Operation::Chat, false),
            Framing::Document
        );
        assert_eq!(of(Dialect::Ollama, Operation::Chat, true), Framing::Lines);
        assert_eq!(
            of(Dialect::Bedrock, Operation::Converse, true),
            Framing::EventStream
        );
        assert_eq!(framing(None, true, 200, None, false), Framing::Opaque);
    }

    #[test]
    fn a_streamed_json_answer_of_gemini_is_an_array() {
        let gemini = surface(Dialect::Gemini, Operation::Generate);
        let of = |stream| {
            framing(
                Some(&gemini),
                stream,
                200,
                Some("application/json; charset=UTF-8"),
                false,
            )
        };
        assert_eq!(of(true), Framing::Array);
        assert_eq!(of(false), Framing::Document);
    }
}
