//! Counts a text that comes in pieces.

use std::borrow::Cow;

use crate::{dialect::ending::output::BREAK, json::Value};

/// The end of a text that more may be joined to. A token may go over from one piece to the next: what is behind the last place
/// where none can is counted anew with the next piece.
#[derive(Debug, Default)]
pub(super) struct Tail {
    open: String,
    /// Tokens of that, and of all before it.
    open_tokens: u64,
    closed: u64,
}

impl Tail {
    /// Takes the next piece, as it stands between quotes of JSON.
    pub(super) fn join(&mut self, piece: &[u8], count: impl Fn(&str) -> u64) {
        for (place, text) in piece.split(|byte| *byte == BREAK).enumerate() {
            if place > 0 {
                self.close(self.open.len(), &count);
            }
            self.open.push_str(&unquoted(text));
            self.open_tokens = count(&self.open);
            let end = self.open.len();
            let at = if end > LONGEST { end } else { seam(&self.open) };
            self.close(at, &count);
        }
    }

    /// Tokens so far.
    pub(super) fn tokens(&self) -> u64 {
        self.closed + self.open_tokens
    }

    /// Nothing is joined to what is before `at` any more.
    fn close(&mut self, at: usize, count: impl Fn(&str) -> u64) {
        if at == 0 {
            return;
        }
        let rest = count(&self.open[at..]);
        self.closed += self.open_tokens.saturating_sub(rest);
        self.open_tokens = rest;
        self.open.drain(..at);
    }
}

/// The last place where no token goes over: before a space between a letter or digit and a letter, where both vocabularies
/// begin a word.
fn seam(text: &str) -> usize {
    let at = |window: &[u8]| {
        let [before, space, after] = window else {
            return false;
        };
        before.is_ascii_alphanumeric() && *space == b' ' && after.is_ascii_alphabetic()
    };
    text.as_bytes()
        .windows(3)
        .rposition(at)
        .map_or(0, |place| place + 1)
}

/// What a string's inside stands for. What is no JSON is taken as it is.
fn unquoted(inside: &[u8]) -> Cow<'_, str> {
    if !inside.contains(&b'\\') {
        return String::from_utf8_lossy(inside);
    }
    let quoted = [b"\"", inside, b"\""].concat();
    let text = Value::parse(&quoted).and_then(|text| text.as_str().map(Cow::into_owned));
    match text {
        Some(text) => Cow::Owned(text),
        None => String::from_utf8_lossy(inside),
    }
}

/// A text without a seam is closed after so many bytes, so that the work stays linear.
const LONGEST: usize = 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn count(text: &str) -> u64 {
        bpe_openai::o200k_base().count(text) as u64
    }

    fn joined<'p>(pieces: impl IntoIterator<Item = &'p str>) -> u64 {
        let mut tail = Tail::default();
        for piece in pieces {
            let quoted = serde_json::Value::from(piece).to_string();
            tail.join(&quoted.as_bytes()[1..quoted.len() - 1], count);
        }
        tail.tokens()
    }

    #[test]
    fn what_does_not_belong_together_is_counted_apart() {
        let mut tail = Tail::default();
        tail.join(b"hel", count);
        tail.join(&[&[BREAK], &b"lo"[..]].concat(), count);
        assert_eq!(tail.tokens(), count("hel") + count("lo"));
        assert_eq!(joined(["hel", "lo"]), count("hello"));
    }

    #[test]
    fn what_is_no_json_is_counted_as_it_stands() {
        let mut tail = Tail::default();
        tail.join(b"\\u12", count);
        tail.join(b"\xe4\xb8", count);
        assert!(tail.tokens() > 0);
    }

    #[test]
    fn a_text_without_a_seam_is_linear() {
        let pieces = vec!["a"; 20_000];
        let whole = count(&"a".repeat(20_000));
        let told = joined(pieces);
        assert!(told.abs_diff(whole) <= 20, "{told} {whole}");
    }

    proptest! {
        /// Against the whole text at once.
        #[test]
        fn pieces_count_as_the_whole_does(
            pieces in prop::collection::vec("[a-zA-Z0-9 .,'\"\\\\\nä中]{0,9}", 0..30),
        ) {
            let whole = pieces.concat();
            prop_assume!(whole.len() < LONGEST);
            prop_assert_eq!(joined(pieces.iter().map(String::as_str)), count(&whole));
        }
    }
}
