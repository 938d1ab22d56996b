//! What can be put between two events so that a silent stream is not taken for a dead one.

use super::{Dialect, Framing, Surface};

/// A frame that the clients of a surface read over; it stands between two events, never inside one. `None` where there is none that
/// all of them bear: in other framings than an event stream, and on other surfaces than those of OpenAI, Anthropic and Gemini.
///
/// A comment with a blank line behind it breaks OpenAI's own client where events carry ids, and Gemini's clients take any comment for an
/// answer that they cannot read; so it is a comment without one, Anthropic's own event, and a bare line feed.
pub fn keep_alive(surface: Option<&Surface>, framing: Framing) -> Option<&'static str> {
    if framing != Framing::Sse {
        return None;
    }
    match surface?.dialect {
        Dialect::OpenAi | Dialect::Azure | Dialect::Mock => Some(": \n"),
        Dialect::Anthropic => Some("event: ping\ndata: {\"type\":\"ping\"}\n\n"),
        Dialect::Gemini => Some("\n"),
        Dialect::Bedrock | Dialect::Cohere | Dialect::Ollama | Dialect::Raw => None,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use super::*;
    use crate::{
        dialect::{Recognised, recognise},
        sse::{Boundary, Scanner},
    };

    fn surface(path: &str) -> Surface {
        match recognise(&Method::POST, path, None, &HeaderMap::new()) {
            Recognised::Surface(surface) => surface,
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn each_dialect_has_the_frame_that_its_clients_bear_or_none() {
        for (path, frame) in [
            ("/v1/chat/completions", Some(": \n")),
            ("/v1/completions", Some(": \n")),
            ("/v1/responses", Some(": \n")),
            ("/openai/deployments/d/chat/completions", Some(": \n")),
            (
                "/v1/messages",
                Some("event: ping\ndata: {\"type\":\"ping\"}\n\n"),
            ),
            ("/v1beta/models/m:streamGenerateContent", Some("\n")),
            ("/api/chat", None),
            ("/v2/chat", None),
        ] {
            assert_eq!(
                keep_alive(Some(&surface(path)), Framing::Sse),
                frame,
                "{path}"
            );
            for framing in [
                Framing::Array,
                Framing::Document,
                Framing::Lines,
                Framing::Opaque,
            ] {
                assert_eq!(keep_alive(Some(&surface(path)), framing), None, "{path}");
            }
        }
        assert_eq!(keep_alive(None, Framing::Sse), None);
    }

    /// A reader of event streams dispatches what it would have, and Anthropic's ping.
    #[test]
    fn a_frame_between_two_events_changes_neither() {
        let events = |text: &[u8]| {
            let (mut scanner, mut found) = (Scanner::new(1024), Vec::new());
            scanner.feed(text, |event| found.push(event.data.to_vec()));
            found
        };
        let one = b"id: 1\ndata: a\n\n";
        for path in [
            "/v1/responses",
            "/v1/messages",
            "/v1beta/models/m:streamGenerateContent",
        ] {
            let frame = keep_alive(Some(&surface(path)), Framing::Sse).unwrap();
            let mut boundary = Boundary::new();
            boundary.feed(one);
            assert!(boundary.at_boundary());
            boundary.feed(frame.as_bytes());
            assert!(boundary.at_boundary(), "{path}: another may follow");
            let told = events(&[one, frame.as_bytes(), one].concat());
            let own: Vec<_> = told.iter().filter(|it| !it.starts_with(b"{")).collect();
            assert_eq!(own, [b"a", b"a"], "{path}");
        }
    }
}
