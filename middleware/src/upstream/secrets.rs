//! Our own credential, as a provider could echo it.

use std::{fmt, ops::Range};

use http::{HeaderMap, HeaderValue};
use memchr::memmem::Finder;

/// The spellings of a key that an echo could have.
pub(super) struct Secrets {
    needles: Box<[Finder<'static>]>,
    shortest: usize,
    longest: usize,
}

impl Secrets {
    /// The spellings of this key; `None` for one that is too short to be a secret, and would be found in any text.
    pub(super) fn of(key: &str) -> Option<Self> {
        let spellings = [
            key.to_owned(),
            key.replace('/', "\\/"),
            percent_encoded(key),
        ];
        let mut needles: Vec<&str> = Vec::new();
        for spelling in &spellings {
            if !needles.contains(&&**spelling) {
                needles.push(spelling);
            }
        }
        (key.len() >= SHORTEST).then(|| Self {
            shortest: key.len(),
            longest: needles.iter().map(|it| it.len()).max().unwrap_or_default(),
            needles: needles
                .iter()
                .map(|it| Finder::new(it.as_bytes()).into_owned())
                .collect(),
        })
    }

    /// The length of the longest spelling.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// Masks the key in the values of these headers.
    pub(super) fn mask_headers(&self, headers: &mut HeaderMap) {
        for value in headers.values_mut() {
            if value.len() < self.shortest || !self.is_in(value.as_bytes()) {
                continue;
            }
            let mut text = value.as_bytes().to_vec();
            let mut found = Vec::new();
            self.find_in(&text, 0..text.len(), &mut found);
            for place in found {
                text[place].fill(b'*');
            }
            *value = HeaderValue::from_bytes(&text).expect("a star may stand where a key stood");
        }
    }

    /// Whether the key stands in `text`.
    pub(super) fn is_in(&self, text: &[u8]) -> bool {
        self.needles.iter().any(|it| it.find(text).is_some())
    }

    /// Where in this span of `text` the key stands.
    pub(super) fn find_in(&self, text: &[u8], span: Range<usize>, found: &mut Vec<Range<usize>>) {
        for needle in &*self.needles {
            let length = needle.needle().len();
            let places = needle.find_iter(&text[span.clone()]);
            found.extend(places.map(|at| span.start + at..span.start + at + length));
        }
    }

    /// How many bytes at the end of `text` could be the beginning of the key.
    pub(super) fn begun_in(&self, text: &[u8]) -> usize {
        let longest = |needle: &Finder<'_>| {
            let needle = needle.needle();
            let from = text.len().saturating_sub(needle.len() - 1);
            memchr::memchr_iter(needle[0], &text[from..])
                .map(|at| &text[from + at..])
                .find(|end| needle.starts_with(end))
                .map_or(0, <[u8]>::len)
        };
        self.needles.iter().map(longest).max().unwrap_or_default()
    }

    /// So much of a key in an event that may be a healthy one is kept back.
    pub(super) fn suspect(&self) -> usize {
        SHORTEST.min(self.shortest / 2)
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

fn percent_encoded(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A key below this is no secret, such as the `none` that a server of one's own is given.
const SHORTEST: usize = 8;
