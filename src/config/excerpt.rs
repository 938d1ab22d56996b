//! Shows a line of the file without showing a secret.
//!
//! A value under a key whose name speaks of secrets (`credentials`, `key`, `token`, `secret`, `hash` and
//! whatever contains or nearly spells one of them) is shown as `«…»`, on the key's own line and on the
//! lines that belong to it, and so is any word that looks like a provider's key. This works on the text
//! alone, since a file that is not YAML has no tree.

use super::nearest::distance;
use super::problem::At;

/// What stands where a secret stood.
pub(crate) const MASK: &str = "«…»";

/// A line is shown at most this wide, around its caret.
const WIDEST: usize = 120;

/// Lines longer than this are not shown at all: no person wrote them.
const LONGEST: usize = 4096;

/// One masked line and where its caret goes, in characters from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Excerpt {
    pub(crate) text: String,
    pub(crate) caret: usize,
    pub(crate) width: usize,
}

/// The lines of a file, each with the mark whether it continues a secret's value.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    lines: Vec<Line<'a>>,
}

#[derive(Debug)]
struct Line<'a> {
    text: &'a str,
    continues_secret: bool,
}

impl<'a> Source<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let mut open: Option<Open> = None;
        let lines = text.lines().map(|text| {
            let continues_secret = open.as_mut().is_some_and(|o| o.takes(text));
            if !continues_secret {
                open = Open::starts(text);
            }
            Line {
                text,
                continues_secret,
            }
        });
        Self {
            lines: lines.collect(),
        }
    }

    /// The text of a line, counted from 1.
    pub(crate) fn line(&self, number: usize) -> Option<&'a str> {
        self.lines.get(number.checked_sub(1)?).map(|l| l.text)
    }

    /// The line of `at` with its secrets masked; `to_end` masks from the first secret to the end of the line.
    pub(crate) fn excerpt(&self, at: At, to_end: bool) -> Option<Excerpt> {
        let line = self.lines.get(at.line.checked_sub(1)?)?;
        if line.text.len() > LONGEST {
            return None;
        }
        let chars: Vec<char> = line.text.chars().collect();
        let mut hidden = vec![false; chars.len()];
        if line.continues_secret {
            let start = chars
                .iter()
                .position(|c| !matches!(c, ' ' | '\t' | '-'))
                .unwrap_or(chars.len());
            hidden[start..].fill(true);
        } else {
            hide_values(&chars, &mut hidden, to_end);
        }
        hide_lookalikes(&chars, &mut hidden);
        Some(draw(&chars, &hidden, at))
    }
}

/// A secret's value that goes on behind its line.
#[derive(Debug)]
struct Open {
    indent: usize,
    depth: usize,
    quotes: Quotes,
}

impl Open {
    fn starts(line: &str) -> Option<Self> {
        let chars: Vec<char> = line.chars().take(LONGEST).collect();
        let (_, value) = secret_value(&chars, 0)?;
        let mut open = Self {
            indent: indent(line),
            depth: 0,
            quotes: Quotes::default(),
        };
        open.read(chars[value..].iter().copied());
        Some(open)
    }

    /// Whether `line` still belongs to the value.
    fn takes(&mut self, line: &str) -> bool {
        let inside = self.depth > 0 || self.quotes.0.is_some();
        let below = indent(line) > self.indent
            || (indent(line) == self.indent && line.trim_start().starts_with("- "));
        if inside || below || line.trim().is_empty() {
            self.read(line.chars());
            return true;
        }
        false
    }

    fn read(&mut self, chars: impl Iterator<Item = char>) {
        for c in chars {
            match c {
                _ if self.quotes.hide(c) => {}
                '[' | '{' => self.depth += 1,
                ']' | '}' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }
}

/// Follows quotes along a text.
#[derive(Debug, Default)]
pub(crate) struct Quotes(Option<char>);

impl Quotes {
    /// Whether this next character stands in quotes or is one.
    pub(crate) fn hide(&mut self, c: char) -> bool {
        let quote = matches!(c, '"' | '\'');
        match self.0 {
            Some(open) if open == c => self.0 = None,
            None if quote => self.0 = Some(c),
            open => return open.is_some(),
        }
        true
    }
}

fn indent(line: &str) -> usize {
    line.chars().take_while(|c| matches!(c, ' ' | '\t')).count()
}

/// Whether a key's name says that its value is secret.
pub(crate) fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let words = [
        "credential",
        "key",
        "token",
        "secret",
        "hash",
        "password",
        "passwd",
        "authorization",
        "cookie",
        "bearer",
    ];
    // `tokens`, `max_tokens`, `first_token` and `token_cap` hold numbers, and nobody keeps a secret in them.
    let plain = [
        "tokens",
        "max_tokens",
        "first_token",
        "token_cap",
        "max_completion_tokens",
        "keepalive",
        "keep_alive",
    ];
    !plain.contains(&key.as_str())
        && (words.iter().any(|w| key.contains(w))
            || distance(&key, "credentials").is_some_and(|d| d <= 3))
}

/// The next secret key at or behind `from`: where it begins and where its value does.
fn secret_value(chars: &[char], from: usize) -> Option<(usize, usize)> {
    let mut begin = from;
    for (i, c) in chars.iter().enumerate().skip(from) {
        match c {
            ':' if chars
                .get(i + 1)
                .is_none_or(|n| matches!(n, ' ' | '\t' | '"' | '\'' | '[' | '{')) =>
            {
                let key: String = chars[begin..i]
                    .iter()
                    .filter(|c| !matches!(c, '"' | '\'' | ' ' | '\t'))
                    .collect();
                if is_secret_key(key.trim_start_matches("- ")) {
                    return Some((begin, i + 1));
                }
                begin = i + 1;
            }
            '{' | '[' | ',' => begin = i + 1,
            _ => {}
        }
    }
    None
}

fn hide_values(chars: &[char], hidden: &mut [bool], to_end: bool) {
    let mut from = 0;
    while let Some((key, value)) = secret_value(chars, from) {
        let start = (value..chars.len())
            .find(|&i| !matches!(chars[i], ' ' | '\t'))
            .unwrap_or(chars.len());
        let in_flow = chars[..key].iter().any(|c| matches!(c, '{' | '['));
        let end = if to_end {
            chars.len()
        } else {
            value_end(chars, start, in_flow)
        };
        hidden[start..end].fill(true);
        from = end.max(value);
    }
}

/// Where the value that begins at `start` ends.
fn value_end(chars: &[char], start: usize, in_flow: bool) -> usize {
    let (mut depth, mut quotes) = (0_usize, Quotes::default());
    for (i, &c) in chars.iter().enumerate().skip(start) {
        match c {
            _ if quotes.hide(c) => {}
            '[' | '{' => depth += 1,
            ']' | '}' | ',' if depth == 0 && in_flow => return i,
            ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    chars.len()
}

/// Hides words that look like a key, wherever they stand.
fn hide_lookalikes(chars: &[char], hidden: &mut [bool]) {
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let mut i = 0;
    while i < chars.len() {
        let end = (i..chars.len())
            .find(|&j| !part(chars[j]))
            .unwrap_or(chars.len());
        if looks_secret(&chars[i..end].iter().collect::<String>()) {
            hidden[i..end].fill(true);
        }
        i = end + 1;
    }
}

/// Whether a word is probably a provider's key: a known beginning, or long, mixed and with digits.
pub(crate) fn looks_secret(word: &str) -> bool {
    let known = [
        "sk-", "sk_", "sk-ant-", "AIza", "gsk_", "hf_", "xai-", "ghp_", "AKIA", "tg-", "tg_",
    ];
    let has = |test: fn(&char) -> bool| word.chars().any(|c| test(&c));
    let mixed =
        has(char::is_ascii_digit) && has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase);
    let hex = word.len() >= 32 && word.chars().all(|c| c.is_ascii_hexdigit());
    (word.len() >= 8 && known.iter().any(|k| word.starts_with(k)))
        || (word.len() >= 24 && mixed)
        || hex
}

fn draw(chars: &[char], hidden: &[bool], at: At) -> Excerpt {
    let (mut text, mut caret, mut end) = (Vec::new(), None, None);
    let first = at.column.saturating_sub(1);
    for i in 0..chars.len() {
        let masked_before = i > 0 && hidden[i - 1];
        if hidden[i] && !masked_before {
            text.extend(MASK.chars());
        } else if !hidden[i] {
            text.push(if chars[i].is_control() { ' ' } else { chars[i] });
        }
        let here = if hidden[i] {
            text.len() - MASK.chars().count()
        } else {
            text.len() - 1
        };
        if i == first {
            caret = Some(here);
        }
        if i + 1 == first + at.width.max(1) {
            end = Some(text.len());
        }
    }
    let caret = caret.unwrap_or(text.len());
    let width = end.unwrap_or(text.len()).saturating_sub(caret).max(1);
    clip(&text, caret, width)
}

fn clip(text: &[char], caret: usize, width: usize) -> Excerpt {
    if text.len() <= WIDEST {
        return Excerpt {
            text: text.iter().collect::<String>().trim_end().to_owned(),
            caret,
            width,
        };
    }
    let from = caret.saturating_sub(WIDEST / 2).min(text.len() - WIDEST);
    let mut shown: Vec<char> = text[from..from + WIDEST].to_vec();
    if from > 0 {
        shown[0] = '…';
    }
    if from + WIDEST < text.len() {
        shown[WIDEST - 1] = '…';
    }
    let caret = caret - from;
    Excerpt {
        text: shown.into_iter().collect(),
        caret,
        width: width.min(WIDEST.saturating_sub(caret)).max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, line: usize) -> String {
        Source::new(text)
            .excerpt(
                At {
                    line,
                    column: 1,
                    width: 1,
                },
                false,
            )
            .map(|e| e.text)
            .unwrap_or_default()
    }

    #[test]
    fn a_value_under_a_secret_key_is_masked_and_its_neighbours_are_not() {
        for (line, want) in [
            ("credentials: [abc, def]", "credentials: «…»"),
            (
                "  a: { key: abc, models: [x] }",
                "  a: { key: «…», models: [x] }",
            ),
            ("  a: { key: \"a,b}\", n: 1 }", "  a: { key: «…», n: 1 }"),
            ("{\"token\":\"abc\",\"n\":1}", "{\"token\":«…»,\"n\":1}"),
            ("credentails: [abc]", "credentails: «…»"),
            ("api_key: abc # note", "api_key: «…»"),
            ("- key: abc", "- key: «…»"),
            ("max_tokens: 12", "max_tokens: 12"),
            ("auth: sk-canary-1234567890", "auth: «…»"),
            (
                "base_url: https://api.openai.com/v1",
                "base_url: https://api.openai.com/v1",
            ),
        ] {
            assert_eq!(shown(line, 1), want, "{line}");
        }
    }

    #[test]
    fn lines_that_belong_to_a_secret_are_masked() {
        let text = "credentials:\n  - abc\n  - key: def\nmodels:\n- x\ntoken: \"a\nb\"\nkey: [a,\nb\n]\nend: marks";
        let want = [
            "credentials:",
            "  - «…»",
            "  - «…»",
            "models:",
            "- x",
            "token: «…»",
            "«…»",
            "key: «…»",
            "«…»",
            "«…»",
            "end: marks",
        ];
        for (i, want) in want.iter().enumerate() {
            assert_eq!(shown(text, i + 1), *want, "line {}", i + 1);
        }
    }

    #[test]
    fn the_caret_follows_what_the_mask_moved() {
        let source = Source::new("a: { key: abcdefghijkl, nonsense: 1 }");
        let excerpt = source
            .excerpt(
                At {
                    line: 1,
                    column: 25,
                    width: 8,
                },
                false,
            )
            .expect("the line exists");
        let under: String = excerpt
            .text
            .chars()
            .skip(excerpt.caret)
            .take(excerpt.width)
            .collect();
        assert_eq!(under, "nonsense");
    }

    #[test]
    fn a_long_line_is_shown_around_its_caret() {
        let text = format!("a: {}nonsense{}", " ".repeat(400), " x".repeat(300));
        let excerpt = Source::new(&text)
            .excerpt(
                At {
                    line: 1,
                    column: 404,
                    width: 8,
                },
                false,
            )
            .expect("the line exists");
        let under: String = excerpt
            .text
            .chars()
            .skip(excerpt.caret)
            .take(excerpt.width)
            .collect();
        assert_eq!(
            (under.as_str(), excerpt.text.chars().count()),
            ("nonsense", WIDEST)
        );
    }
}
