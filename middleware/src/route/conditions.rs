//! Conditions on what stands in a header of ours, and on what the user says.

use std::{fmt, sync::Arc};

use http::HeaderMap;

use super::Pattern;
use crate::json::{self, Kind, Value};

/// The header in which a client says what else there is to know of its request: a JSON object of at most 32 scalars and 4 KiB.
pub const METADATA: &str = "x-tollgate-metadata";

const MOST_BYTES: usize = 4096;
const MOST_MEMBERS: u32 = 32;

/// A condition on the texts of the user, of a JSON body that was read. It does not hold where nobody could read one.
#[derive(Clone, Default)]
pub struct Prompt {
    /// One of these stands in some text, as it is written here; none: anything does.
    pub contains: Vec<Box<str>>,
    /// None of these stands in any.
    pub not_contains: Vec<Box<str>>,
    /// Some text is taken by this.
    pub taken: Option<Taken>,
}

/// Whether a text is meant; how it is decided is the embedder's.
#[derive(Clone)]
pub struct Taken {
    // Tells two from each other, and shows what is meant.
    source: Box<str>,
    takes: Arc<dyn Fn(&str) -> bool + Send + Sync>,
}

impl Taken {
    /// Decides by `takes`; `source` is how the condition is written.
    pub fn new(
        source: impl Into<Box<str>>,
        takes: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            source: source.into(),
            takes: Arc::new(takes),
        }
    }
}

impl PartialEq for Taken {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl PartialEq for Prompt {
    fn eq(&self, other: &Self) -> bool {
        (&self.contains, &self.not_contains, &self.taken)
            == (&other.contains, &other.not_contains, &other.taken)
    }
}

impl fmt::Debug for Prompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prompt")
            .field("contains", &self.contains)
            .field("not_contains", &self.not_contains)
            .field("taken", &self.taken.as_ref().map(|it| &it.source))
            .finish()
    }
}

impl fmt::Debug for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Taken").field(&self.source).finish()
    }
}

impl Prompt {
    /// Whether it holds for these texts; `None` where they were not read.
    pub(super) fn holds(&self, texts: Option<&[Box<str>]>) -> bool {
        let Some(texts) = texts else { return false };
        let stands = |word: &str| {
            let word = memchr::memmem::Finder::new(word);
            texts
                .iter()
                .any(|text| word.find(text.as_bytes()).is_some())
        };
        (self.contains.is_empty() || self.contains.iter().any(|word| stands(word)))
            && !self.not_contains.iter().any(|word| stands(word))
            && self
                .taken
                .as_ref()
                .is_none_or(|it| texts.iter().any(|text| (it.takes)(text)))
    }
}

/// Whether the metadata of a request has each of these members with a value that fits. Texts are compared as they are, numbers, `true`,
/// `false` and `null` as they are written. What is no such object has no members.
pub(super) fn metadata(headers: &HeaderMap, wanted: &[(Box<str>, Pattern)]) -> bool {
    if wanted.is_empty() {
        return true;
    }
    let mut all = headers.get_all(METADATA).iter();
    let (Some(text), None) = (all.next(), all.next()) else {
        return false;
    };
    let Some(object) = object(text.as_bytes()) else {
        return false;
    };
    wanted.iter().all(|(name, pattern)| {
        let value = object.get(name);
        value.is_some_and(|value| match value.as_str() {
            Some(text) => pattern.matches(&text),
            None => std::str::from_utf8(value.raw()).is_ok_and(|raw| pattern.matches(raw)),
        })
    })
}

/// An object of scalars within its bounds.
fn object(text: &[u8]) -> Option<Value<'_>> {
    let limits = json::Limits {
        depth: 1,
        members: MOST_MEMBERS,
    };
    if text.len() > MOST_BYTES {
        return None;
    }
    let root = json::check(text, &limits).ok()?;
    (root.kind() == Kind::Object).then_some(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(METADATA, text.parse().unwrap());
        headers
    }

    fn fits(text: &str, name: &str, value: &str) -> bool {
        metadata(&with(text), &[(name.into(), Pattern::new(value))])
    }

    #[test]
    fn a_member_fits_by_its_text_or_as_it_is_written() {
        let text = r#"{"team":"blue","n":7,"yes":true,"none":null,"esc":"a\u0062"}"#;
        for (name, value) in [
            ("team", "blue"),
            ("team", "bl*"),
            ("n", "7"),
            ("yes", "true"),
            ("none", "null"),
            ("esc", "ab"),
        ] {
            assert!(fits(text, name, value), "{name} {value}");
        }
        for (name, value) in [
            ("team", "red"),
            ("other", "*"),
            ("n", "70"),
            ("Team", "blue"),
        ] {
            assert!(!fits(text, name, value), "{name} {value}");
        }
        assert!(metadata(&HeaderMap::new(), &[]), "nothing is asked");
        assert!(!metadata(
            &HeaderMap::new(),
            &[("team".into(), Pattern::new("*"))]
        ));
    }

    #[test]
    fn what_is_no_small_object_of_scalars_has_no_members() {
        let object = |members: usize| {
            let all: Vec<_> = (0..members).map(|n| format!("\"m{n}\":1")).collect();
            format!("{{{}}}", all.join(","))
        };
        assert!(fits(&object(32), "m0", "1"));
        assert!(!fits(&object(33), "m0", "1"));
        let long = |bytes: usize| format!("{{\"m0\":1,\"pad\":\"{}\"}}", "x".repeat(bytes - 17));
        assert!(fits(&long(4096), "m0", "1"));
        assert!(!fits(&long(4097), "m0", "1"));
        for text in [
            "[]",
            "7",
            "{",
            "",
            "m0=1",
            r#"{"m0":1,"x":{}}"#,
            r#"{"m0":1,"x":[]}"#,
            r#"{"m0":1,"m0":1}"#,
        ] {
            assert!(!fits(text, "m0", "1"), "{text}");
        }
        // Two headers could be read as either.
        let mut twice = with(r#"{"m0":1}"#);
        twice.append(METADATA, r#"{"m0":1}"#.parse().unwrap());
        assert!(!metadata(&twice, &[("m0".into(), Pattern::new("1"))]));
    }

    #[test]
    fn a_prompt_is_asked_for_words_and_by_whoever_decides() {
        let texts: Vec<Box<str>> = vec!["what is".into(), "the price?".into()];
        let prompt = |contains: &[&str], not: &[&str]| Prompt {
            contains: contains.iter().map(|it| (*it).into()).collect(),
            not_contains: not.iter().map(|it| (*it).into()).collect(),
            taken: None,
        };
        assert!(prompt(&["price"], &[]).holds(Some(&texts)));
        assert!(
            prompt(&["cost", "price"], &[]).holds(Some(&texts)),
            "one is enough"
        );
        assert!(
            !prompt(&["Price"], &[]).holds(Some(&texts)),
            "as it is written"
        );
        assert!(
            !prompt(&["is the"], &[]).holds(Some(&texts)),
            "two texts are two"
        );
        assert!(prompt(&[], &["cost"]).holds(Some(&texts)));
        assert!(!prompt(&["price"], &["cost", "what"]).holds(Some(&texts)));
        assert!(prompt(&[], &["x"]).holds(Some(&[])));
        assert!(
            !prompt(&[], &["x"]).holds(None),
            "what nobody read is not known"
        );
        let taken = Some(Taken::new("ends so", |text| text.ends_with('?')));
        let asked = Prompt {
            taken,
            ..Prompt::default()
        };
        assert!(asked.holds(Some(&texts)) && !asked.holds(Some(&texts[..1])));
    }
}
