//! Finds secrets in whatever a test made: as they are, in base64, percent-encoded and in hexadecimal.
//!
//! ```
//! use tollgate_testing::canary::Hunt;
//!
//! let hunt = Hunt::new(["sk-canary-0123456789"]);
//! assert!(hunt.find(b"a line with y-0123456789 in it").is_some(), "twelve characters are enough");
//! assert!(hunt.find(b"736B2D63616E6172792D").is_some());
//! assert_eq!(hunt.find(b"a line without"), None);
//! ```

use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
};

/// As many characters of any form are a find.
const PIECE: usize = 12;

/// Secrets, in all the forms that are looked for. Clones are the same.
#[derive(Clone, Debug)]
pub struct Hunt(Arc<Forms>);

#[derive(Debug)]
struct Forms {
    pieces: HashMap<[u8; PIECE], String>,
    // By the first two bytes of a piece: nearly every place of a text is passed by these.
    begins: Vec<bool>,
}

/// Listens to a text that comes in parts. Clones hear for the same.
#[derive(Clone, Debug)]
pub struct Ear {
    hunt: Hunt,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Debug, Default)]
struct Heard {
    // The end of the last part, shorter than a piece.
    tail: Vec<u8>,
    found: Vec<String>,
}

impl Hunt {
    /// Looks for these. What is shorter than a piece is taken for no secret.
    pub fn new(secrets: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let mut forms = Forms {
            pieces: HashMap::new(),
            begins: vec![false; 1 << 16],
        };
        for secret in secrets {
            forms.add(secret.as_ref());
        }
        Self(Arc::new(forms))
    }

    /// The first piece of a secret in a text, with the text around it.
    #[must_use]
    pub fn find(&self, text: &[u8]) -> Option<String> {
        let Forms { pieces, begins } = &*self.0;
        let begins = |at: &[u8]| begins[usize::from(at[0]) << 8 | usize::from(at[1])];
        let mut windows = text.windows(PIECE).enumerate();
        let (at, name) = windows.find_map(|(at, window)| {
            let piece = <&[u8; PIECE]>::try_from(window).ok()?;
            begins(window)
                .then(|| pieces.get(piece))
                .flatten()
                .map(|name| (at, name))
        })?;
        let around = &text[at.saturating_sub(80)..text.len().min(at + 80)];
        Some(format!("{name} in {:?}", String::from_utf8_lossy(around)))
    }

    /// An ear for one text.
    #[must_use]
    pub fn ear(&self) -> Ear {
        Ear {
            hunt: self.clone(),
            heard: Arc::default(),
        }
    }
}

impl Forms {
    fn add(&mut self, secret: &str) {
        let bytes = secret.as_bytes();
        if bytes.len() < PIECE {
            return;
        }
        let hex = |upper: bool, before: &str| {
            bytes.iter().fold(String::new(), |mut out, byte| {
                // Writing to a string does not fail.
                let _ = if upper {
                    write!(out, "{before}{byte:02X}")
                } else {
                    write!(out, "{before}{byte:02x}")
                };
                out
            })
        };
        self.put("plain", secret, secret);
        for upper in [false, true] {
            self.put("hex", secret, &hex(upper, ""));
            self.put("percent", secret, &hex(upper, "%"));
        }
        // Encoded behind other bytes, a secret begins at any of three places of a group.
        for skipped in 0..3 {
            for safe in [false, true] {
                self.put("base64", secret, &base64(&bytes[skipped..], safe));
            }
        }
    }

    fn put(&mut self, form: &str, secret: &str, text: &str) {
        for window in text.as_bytes().windows(PIECE) {
            let Ok(piece) = window.try_into() else {
                continue;
            };
            self.begins[usize::from(window[0]) << 8 | usize::from(window[1])] = true;
            let name = || format!("{} ({form})", &secret[..8]);
            self.pieces.entry(piece).or_insert_with(name);
        }
    }
}

/// Whole groups of RFC 4648, section 4, or 5 where it has to be safe in URLs.
fn base64(bytes: &[u8], safe: bool) -> String {
    const DIGITS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let last = if safe { *b"-_" } else { *b"+/" };
    let digit = |at: u32| {
        let at = at as usize & 63;
        char::from(*DIGITS.get(at).unwrap_or_else(|| &last[at - 62]))
    };
    let (groups, _) = bytes.as_chunks::<3>();
    let groups = groups.iter().flat_map(|[one, two, three]| {
        let bits = u32::from_be_bytes([0, *one, *two, *three]);
        [18, 12, 6, 0].map(|shift| digit(bits >> shift))
    });
    groups.collect()
}

impl Ear {
    /// Hears the next part.
    pub fn hear(&self, part: &[u8]) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let Heard { tail, found } = &mut *heard;
        // What lies across the border.
        let edge = [tail, &part[..part.len().min(PIECE - 1)]].concat();
        found.extend(self.hunt.find(&edge).or_else(|| self.hunt.find(part)));
        let whole = if part.len() >= PIECE { part } else { &edge };
        *tail = whole[whole.len().saturating_sub(PIECE - 1)..].to_vec();
    }

    /// What it has found so far.
    #[must_use]
    pub fn found(&self) -> Vec<String> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.found.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "sk-canary-0123456789abcdef";

    #[test]
    fn every_form_is_found_wherever_it_begins() {
        let hunt = Hunt::new([SECRET, "short"]);
        let percent: String = SECRET.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
        let mut texts = vec![SECRET.to_owned(), SECRET[7..20].to_owned(), percent, hex];
        for before in ["", "u", "us", "user:"] {
            for safe in [false, true] {
                texts.push(base64(format!("{before}{SECRET}").as_bytes(), safe));
            }
        }
        for text in texts {
            let text = format!("before {text} after");
            assert!(hunt.find(text.as_bytes()).is_some(), "{text}");
            for size in [1, 5, 11, 12, 13] {
                let ear = hunt.ear();
                for part in text.as_bytes().chunks(size) {
                    ear.hear(part);
                }
                assert!(!ear.found().is_empty(), "{size}: {text}");
            }
        }
        for text in [
            "",
            "short",
            "sk-canary-0",
            "a line of some length without any of them",
        ] {
            assert_eq!(hunt.find(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        assert_eq!(base64(b"foobar", false), "Zm9vYmFy");
        assert_eq!(
            (
                base64(b"\xfb\xff\xbf", false),
                base64(b"\xfb\xff\xbf", true)
            ),
            ("+/+/".into(), "-_-_".into())
        );
    }
}
