use http::{HeaderMap, HeaderName};

use super::{Ask, Prompt, conditions};
use crate::{
    dialect::{Dialect, Recognised},
    facts::Caller,
};

/// A name, or the beginning of one: a trailing `*` stands for any rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    open: bool,
}

impl Pattern {
    /// Reads a pattern; only a `*` at the end is special.
    pub fn new(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(text) => Self {
                text: text.into(),
                open: true,
            },
            None => Self {
                text: text.into(),
                open: false,
            },
        }
    }

    /// This name alone, whatever characters it has.
    pub fn exactly(text: &str) -> Self {
        Self {
            text: text.into(),
            open: false,
        }
    }

    /// Every name that begins so.
    pub fn starting(text: &str) -> Self {
        Self {
            text: text.into(),
            open: true,
        }
    }

    /// Whether the name fits.
    pub fn matches(&self, name: &str) -> bool {
        if self.is_any() {
            // Asked first: an empty text need not lie anywhere, and what compares memory may stumble over that.
            true
        } else if self.open {
            name.starts_with(&*self.text)
        } else {
            *name == *self.text
        }
    }

    /// Whether every name fits.
    pub fn is_any(&self) -> bool {
        self.open && self.text.is_empty()
    }

    /// The one name that fits; `None` if others do as well.
    pub fn exact(&self) -> Option<&str> {
        (!self.open).then_some(&self.text)
    }
}

/// The conditions of a rule; all must hold, and one that is absent holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matcher {
    /// Any of these models, after aliases were resolved.
    pub model: Vec<Pattern>,
    /// Any of these paths, without the query.
    pub path: Vec<Pattern>,
    /// Any of these callers, by their names in the list of callers.
    pub caller: Vec<Pattern>,
    /// Any of these dialects of the caller.
    pub dialect: Vec<Dialect>,
    /// Whether a stream is asked for.
    pub stream: Option<bool>,
    /// Whether tools are offered.
    pub tools: Option<bool>,
    /// Each of these members of the metadata, with a value that fits.
    pub metadata: Vec<(Box<str>, Pattern)>,
    /// What the user says.
    pub prompt: Option<Prompt>,
    /// Each of these headers, with a value that fits.
    pub header: Vec<(HeaderName, Pattern)>,
}

impl Matcher {
    /// The first condition that does not hold, in the words of the configuration. `any_path`: also a path that no API has.
    pub(super) fn fails(
        &self,
        ask: &Ask<'_>,
        model: Option<&str>,
        any_path: bool,
    ) -> Option<&'static str> {
        let model = || self.model.is_empty() || model.is_some_and(|it| any(&self.model, it));
        let dialect = || self.dialect.is_empty() || self.takes_dialect(ask.recognised);
        let header = || {
            let mut all = self.header.iter();
            all.all(|(name, value)| has(ask.headers, name, value))
        };
        let caller = || {
            let fits = |it: &Caller| any(&self.caller, it.listed_as());
            self.caller.is_empty() || ask.caller.is_some_and(fits)
        };
        // What costs most is asked last.
        let conditions: [(&str, &dyn Fn() -> bool); 9] = [
            ("path", &|| self.takes_path(ask, any_path)),
            ("model", &model),
            ("caller", &caller),
            ("dialect", &dialect),
            ("stream", &|| self.stream.is_none_or(|it| it == ask.stream)),
            ("tools", &|| self.tools.is_none_or(|it| it == ask.tools)),
            ("header", &header),
            ("metadata", &|| {
                conditions::metadata(ask.headers, &self.metadata)
            }),
            ("prompt", &|| {
                let prompt = self.prompt.as_ref();
                prompt.is_none_or(|it| it.holds(ask.texts))
            }),
        ];
        let mut conditions = conditions.into_iter();
        conditions.find_map(|(word, holds)| (!holds()).then_some(word))
    }

    fn takes_path(&self, ask: &Ask<'_>, any_path: bool) -> bool {
        if !self.path.is_empty() {
            return any(&self.path, ask.path);
        }
        match ask.recognised {
            Recognised::Surface(_) | Recognised::Prefixed(_) => true,
            Recognised::Wrong(_) | Recognised::Unknown => any_path,
        }
    }

    fn takes_dialect(&self, recognised: &Recognised) -> bool {
        match recognised {
            Recognised::Surface(surface) => self.dialect.contains(&surface.dialect),
            _ => self.dialect.contains(&Dialect::Raw),
        }
    }
}

fn any(patterns: &[Pattern], name: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(name))
}

fn has(headers: &HeaderMap, name: &HeaderName, value: &Pattern) -> bool {
    let mut values = headers
        .get_all(name)
        .iter()
        .filter_map(|it| it.to_str().ok());
    values.any(|it| value.matches(it))
}
