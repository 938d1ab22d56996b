//! A JSON document that comes in pieces, kept without what is long in it.

use memchr::memchr2;

/// Keeps the shape of a document, its names and its short values: of a long text and of a long row of numbers only the
/// beginning. So the usage at the end of a document of any size is found, and nothing of its bulk is copied.
#[derive(Debug, Default)]
pub(super) struct Outline {
    kept: Vec<u8>,
    state: State,
    /// How much has been kept of the text, or of the row of numbers, at hand.
    run: usize,
    /// Bytes of texts that were left out.
    dropped: u64,
    /// More than the cap would have to be kept: what is kept ends somewhere.
    full: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Outside of strings.
    #[default]
    Open,
    /// In a string.
    Text,
    /// Behind a backslash in a string; whether that was kept.
    Escape(bool),
}

impl Outline {
    /// Takes the next frame.
    pub(super) fn feed(&mut self, mut frame: &[u8]) {
        while let Some(first) = frame.first() {
            match self.state {
                State::Open => frame = self.open(frame),
                State::Text => frame = self.text(frame),
                State::Escape(kept) => {
                    if kept {
                        self.keep(&[*first]);
                    }
                    self.state = State::Text;
                    frame = &frame[1..];
                }
            }
        }
    }

    /// What is kept; none if it would be more than the cap.
    pub(super) fn document(&self) -> Option<&[u8]> {
        (!self.full).then_some(&self.kept)
    }

    /// Bytes of texts that are not in what is kept.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Passes bytes up to a string's first quote.
    fn open<'f>(&mut self, frame: &'f [u8]) -> &'f [u8] {
        for (at, byte) in frame.iter().enumerate() {
            match byte {
                b'"' => {
                    self.keep(b"\"");
                    self.run = 0;
                    self.state = State::Text;
                    return &frame[at + 1..];
                }
                b'[' | b']' | b'{' | b'}' | b':' => {
                    self.run = 0;
                    self.keep(&[*byte]);
                }
                _ if self.run < LONGEST => {
                    self.run += 1;
                    self.keep(&[*byte]);
                }
                _ => {}
            }
        }
        &[]
    }

    /// Passes bytes of a string up to its end or an escape.
    fn text<'f>(&mut self, frame: &'f [u8]) -> &'f [u8] {
        let end = memchr2(b'"', b'\\', frame);
        let inner = &frame[..end.unwrap_or(frame.len())];
        let room = LONGEST.saturating_sub(self.run).min(inner.len());
        self.keep(&inner[..room]);
        self.run += room;
        self.dropped += (inner.len() - room) as u64;
        let Some(end) = end else { return &[] };
        if frame[end] == b'"' {
            self.keep(b"\"");
            self.run = 0;
            self.state = State::Open;
        } else {
            // Whole, or not at all.
            let kept = self.run + 2 <= LONGEST;
            if kept {
                self.keep(b"\\");
                self.run += 2;
            } else {
                self.run = LONGEST;
                self.dropped += 1;
            }
            self.state = State::Escape(kept);
        }
        &frame[end + 1..]
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.kept.len() + bytes.len() > CAP {
            self.full = true;
        } else {
            self.kept.extend_from_slice(bytes);
        }
    }
}

/// The most of one text, or one row of numbers, that is kept.
const LONGEST: usize = 256;

/// The most of one document that is kept.
const CAP: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn outline<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> (Option<String>, u64) {
        let mut outline = Outline::default();
        pieces.into_iter().for_each(|piece| outline.feed(piece));
        let kept = outline.document();
        let kept = kept.map(|kept| String::from_utf8_lossy(kept).into_owned());
        (kept, outline.dropped())
    }

    #[test]
    fn a_short_document_is_kept_as_it_is() {
        let text = r#"{"a": ["\"x\\", 1.5, {"b": null}], "usage": {"prompt_tokens": 3}}"#;
        assert_eq!(outline([text.as_bytes()]), (Some(text.to_owned()), 0));
    }

    #[test]
    fn the_bulk_is_left_out_and_the_rest_still_reads() {
        let vector = vec![0.125; 200_000];
        let text = "a\"b\\".repeat(500_000);
        let whole =
            json!({"data": [{"embedding": vector, "text": text}], "usage": {"prompt_tokens": 7}});
        let whole = whole.to_string();
        let (kept, dropped) = outline(whole.as_bytes().chunks(1000));
        let kept = kept.expect("below the cap");
        assert!(kept.len() < 1000, "{} bytes", kept.len());
        assert!(dropped > 1_900_000, "{dropped}");
        let root = crate::json::Value::parse(kept.as_bytes()).expect("a document");
        let usage = root
            .get("usage")
            .and_then(|usage| usage.get("prompt_tokens"));
        assert_eq!(usage.and_then(|tokens| tokens.as_u64()), Some(7));
    }

    #[test]
    fn what_has_too_many_members_is_given_up() {
        let many = "[],".repeat(CAP / 2);
        assert_eq!(outline([many.as_bytes()]).0, None);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<u32>().prop_map(Value::from),
            "[a\"\\\\é]{0,600}".prop_map(Value::from),
            Just(Value::Null),
        ];
        leaf.prop_recursive(3, 20, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[a-c\"]{1,3}", inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_split_keeps_the_same_and_it_parses(value in value(), size in 1usize..50) {
            let text = value.to_string();
            let whole = outline([text.as_bytes()]);
            prop_assert_eq!(&outline(text.as_bytes().chunks(size)), &whole);
            let kept = whole.0.expect("below the cap");
            // A cut inside a character is no JSON for a strict reader, and of no matter here.
            let parsed: Value = serde_json::from_str(&kept).expect("still JSON");
            prop_assert_eq!(parsed.is_object(), value.is_object());
        }
    }
}
