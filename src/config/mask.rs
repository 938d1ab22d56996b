//! What of a file must not be shown.
//!
//! A value under a key whose name speaks of secrets (`credentials`, `key`, `token`, `secret`, `hash` and
//! whatever contains or nearly spells one of them) is hidden, on the key's own line and on the lines that
//! belong to it, and so is any word that looks like a provider's key. This works on the text alone, since a
//! file that is not YAML has no tree.

use super::nearest::distance;

/// What stands where a secret stood.
pub(crate) const MASK: &str = "«…»";

/// Lines longer than this are not shown at all: no person wrote them.
pub(crate) const LONGEST: usize = 4096;

/// Which characters of a line are not shown: the values of secret keys, up to the end of the line if `to_end`,
/// all of it if it `continues` such a value, and whatever looks like a key or a password.
pub(crate) fn hide(chars: &[char], continues: bool, to_end: bool) -> Vec<bool> {
    let mut hidden = vec![false; chars.len()];
    if continues {
        let shown = chars
            .iter()
            .take_while(|c| matches!(c, ' ' | '\t' | '-'))
            .count();
        hidden[shown..].fill(true);
    } else {
        hide_values(chars, &mut hidden, to_end);
    }
    hide_user(chars, &mut hidden);
    hide_lookalikes(chars, &mut hidden);
    hidden
}

/// A secret's value that goes on behind its line.
#[derive(Debug)]
pub(crate) struct Open {
    indent: usize,
    depth: usize,
    quotes: Quotes,
    /// Nothing of the value has come yet.
    awaited: bool,
}

impl Open {
    /// The value that begins on this line, if it is a secret's.
    pub(crate) fn starts(line: &str) -> Option<Self> {
        let chars: Vec<char> = line.chars().collect();
        let explicit = line
            .trim_start()
            .strip_prefix("? ")
            .is_some_and(is_secret_key);
        let value = match secret_value(&chars, 0) {
            Some((_, value)) => value,
            None if explicit => chars.len(),
            None => return None,
        };
        let rest: String = chars[value..].iter().collect();
        let rest = rest.trim();
        let mut open = Self {
            indent: indent(line),
            depth: 0,
            quotes: Quotes::default(),
            awaited: rest.is_empty() || rest.starts_with('#') || rest.ends_with(':'),
        };
        open.read(chars[value..].iter().copied());
        Some(open)
    }

    /// Whether `line` still belongs to the value.
    pub(crate) fn takes(&mut self, line: &str) -> bool {
        let text = line.trim();
        let inside = self.depth > 0 || self.quotes.0.is_some();
        let below =
            indent(line) > self.indent || (indent(line) == self.indent && text.starts_with("- "));
        let next_key =
            !text.starts_with(['"', '\'', ':']) && (text.contains(": ") || text.ends_with(':'));
        let first = self.awaited && !next_key;
        if inside || below || first || text.is_empty() {
            self.awaited &= text.is_empty();
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

/// Hides the name and password of a URL.
fn hide_user(chars: &[char], hidden: &mut [bool]) {
    let mut start = None;
    for (i, c) in chars.iter().enumerate() {
        match (c, start) {
            ('/', _) if i > 1 && chars[i - 2..i] == [':', '/'] => start = Some(i + 1),
            ('@', Some(from)) => hidden[from..i].fill(true),
            (' ' | '/' | '"' | '\'', _) => start = None,
            _ => {}
        }
    }
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

#[cfg(test)]
mod tests {
    use super::super::excerpt::Source;
    use super::super::problem::At;

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
    fn a_value_on_the_line_after_its_key_is_masked_and_the_next_key_is_not() {
        for (text, want) in [
            ("a: {\n  token:\n  \"abc\" }", "  «…»"),
            ("a: { n: 1, token: # note\n\nabc }", ""),
            ("? token\n: abc", "«…»"),
            ("token:\nlisten: x", "listen: x"),
        ] {
            let line = text
                .lines()
                .position(|l| l.contains("abc") || l.contains("listen"));
            let last = shown(text, line.unwrap_or_default() + 1);
            assert!(
                !last.contains("abc") && last.contains(want),
                "{text}: {last}"
            );
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
}
