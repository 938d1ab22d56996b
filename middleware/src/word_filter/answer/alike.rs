//! Events that are like the one before them, all but their text: most of a stream are.
//!
//! What an event says depends on what stands around its strings, not on what a text says. Where that is the same as it was,
//! only the text is read.

use crate::{
    dialect::{
        said::{Text, Times, Told},
        units::Carried,
    },
    json::Cursor,
};

/// What stands around the text of an event that says one piece of one.
#[derive(Debug, Default)]
pub(super) struct Alike {
    text: Option<Text>,
    name: Vec<u8>,
    /// Up to the text, its first quote included, and behind its last one.
    before: Vec<u8>,
    after: Vec<u8>,
    /// Behind `after` stands a string that nobody reads, and then the end.
    padded: bool,
}

impl Alike {
    /// The text of an event, if all but that is as in the last one.
    pub(super) fn text(&self, carried: &Carried<'_>) -> Option<Text> {
        let text = self.text.as_ref()?;
        let data = carried.data;
        let start = text.span.start;
        if !data.starts_with(&self.before) || !self.is_named(carried.name) {
            return None;
        }
        let end = start + string(&data[start..])?;
        let mut after = data[end..].strip_prefix(&*self.after)?;
        if self.padded {
            after = after[string(after)?..].strip_prefix(CLOSE)?;
        }
        // Of one without text nothing is told.
        (after.is_empty() && end - start > 2).then(|| Text {
            span: start..end,
            ..text.clone()
        })
    }

    fn is_named(&self, name: &[u8]) -> bool {
        // Most have none. To compare nothing where an empty vector points takes a hundred times as long as to see that.
        name.len() == self.name.len() && (name.is_empty() || name == self.name)
    }

    /// Takes over what an event looks like that has said this.
    pub(super) fn learn(&mut self, carried: &Carried<'_>, told: &[Told]) {
        self.text = None;
        let [Told::Text(text)] = told else { return };
        let (before, after) = (
            &carried.data[..=text.span.start],
            &carried.data[text.span.end..],
        );
        if text.told != Times::Piece || before.len() + after.len() > LARGEST {
            return;
        }
        let padding = padding(after);
        self.padded = padding.is_some();
        replace(&mut self.before, before);
        replace(&mut self.after, padding.unwrap_or(after));
        replace(&mut self.name, carried.name);
        self.text = Some(text.clone());
    }
}

/// What stands before the padding that OpenAI ends its events with, so that their lengths say nothing: the last member of the
/// outermost object, which no text is. It is of another length in each.
fn padding(after: &[u8]) -> Option<&[u8]> {
    let at = memchr::memmem::rfind(after, PADDING)? + PADDING.len() - 1;
    let end = at + string(&after[at..])?;
    (&after[end..] == CLOSE).then(|| &after[..at])
}

/// How long the string is that `data` begins with, quotes included.
fn string(data: &[u8]) -> Option<usize> {
    let is_string = data.first() == Some(&b'"');
    let value = is_string.then(|| Cursor::new(data).value())?;
    Some(value?.span().end)
}

fn replace(old: &mut Vec<u8>, new: &[u8]) {
    old.clear();
    old.extend_from_slice(new);
}

const PADDING: &[u8] = b"\"obfuscation\":\"";
/// Behind it nothing is open.
const CLOSE: &[u8] = b"}";

/// An event of which there is more than this besides its text is read each time.
const LARGEST: usize = 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dialect::{
        Framing,
        said::Reader,
        surface_of,
        units::{Scratch, carried},
    };

    fn reader() -> Reader {
        let chat = http::Request::post("/v1/chat/completions").body(());
        let surface = chat.ok().as_ref().and_then(surface_of);
        Reader::new(&surface.unwrap()).unwrap()
    }

    const SHAPES: [&str; 9] = [
        r#"{"choices":[{"index":0,"delta":{"content":"@"},"finish_reason":null}],"obfuscation":"@"}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"@"},"finish_reason":null}]}"#,
        r#"{"choices":[{"index":1,"delta":{"content":"@","refusal":"@"}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"@"},"finish_reason":"@"}],"obfuscation":"@"}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"@","tool_calls":[{"function":{"arguments":{"a":"@","obfuscation":"@"}}}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"function":{"arguments":{"a":"@","obfuscation":"@"}}}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"function":{"arguments":"@"}}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"@"}}],"x":"@","obfuscation":"@"}}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"@"}}],"obfuscation":"@""#,
    ];

    fn event() -> impl Strategy<Value = String> {
        let text = prop::sample::select(vec![
            "",
            "a",
            "word",
            r#"\""#,
            r"\u00e9\\",
            "é",
            "\n",
            "stop",
        ]);
        let texts = prop::collection::vec(text, 4);
        (prop::sample::select(&SHAPES[..]), texts).prop_map(|(shape, texts)| {
            let mut out = String::new();
            for (at, piece) in shape.split('@').enumerate() {
                out += if at == 0 { "" } else { texts[(at - 1) % 4] };
                out += piece;
            }
            out
        })
    }

    #[test]
    fn an_event_that_is_like_the_last_one_is_known_whatever_its_text_and_its_padding() {
        let event = |text: &str, padding: &str| {
            let with = SHAPES[0].replacen('@', text, 1).replacen('@', padding, 1);
            format!("data: {with}\n\n")
        };
        let mut alike = Alike::default();
        let (mut scratch, mut other) = (Scratch::default(), Scratch::default());
        let first = event("one", "abc");
        let first = carried(Framing::Sse, false, first.as_bytes(), &mut scratch).unwrap();
        let mut told = Vec::new();
        reader().read(first.name, first.data, &mut told);
        alike.learn(&first, &told);
        let next = event(r#"an \"other\""#, "");
        let next = carried(Framing::Sse, false, next.as_bytes(), &mut other).unwrap();
        let text = alike.text(&next).expect("it is like the first one");
        assert_eq!(&next.data[text.span], br#""an \"other\"""#);
    }

    proptest! {
        /// Whatever came before, an event says what it says by itself.
        #[test]
        fn what_is_told_is_what_reading_it_tells(events in prop::collection::vec(event(), 1..8)) {
            let reader = reader();
            let mut alike = Alike::default();
            for event in events {
                let mut scratch = Scratch::default();
                let event = carried(Framing::Lines, false, event.as_bytes(), &mut scratch).unwrap();
                let mut told = Vec::new();
                reader.read(event.name, event.data, &mut told);
                if let Some(text) = alike.text(&event) {
                    prop_assert_eq!(&told, &[Told::Text(text)]);
                }
                alike.learn(&event, &told);
            }
        }
    }
}
