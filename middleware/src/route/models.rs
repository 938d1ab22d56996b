use std::sync::Arc;

use super::Pattern;

/// The models that a provider serves, by their public names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Models {
    /// Any: the provider lists nothing.
    #[default]
    Any,
    /// These, each with the provider's own name for it where that is another.
    Listed(Vec<(Pattern, Option<Arc<str>>)>),
}

impl Models {
    /// Models whose public name is the provider's.
    pub fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self::Listed(
            names
                .into_iter()
                .map(|name| (Pattern::new(name), None))
                .collect(),
        )
    }

    /// Models by public name and the provider's name.
    pub fn renamed<'a>(names: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let pair = |(public, own): (&str, &str)| (Pattern::new(public), Some(own.into()));
        Self::Listed(names.into_iter().map(pair).collect())
    }

    /// Whether every model is served, under the caller's name for it.
    pub fn takes_all(&self) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(names) => names.iter().all(|(it, own)| it.is_any() && own.is_none()),
        }
    }

    /// Whether the provider serves this model.
    pub fn serves(&self, model: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(names) => names.iter().any(|(pattern, _)| pattern.matches(model)),
        }
    }

    /// Whether the list holds exactly this name.
    pub fn names(&self, model: &str) -> bool {
        match self {
            Self::Any => false,
            Self::Listed(names) => names.iter().any(|(it, _)| it.exact() == Some(model)),
        }
    }

    /// The provider's own name for a model, if it has another. A name that is listed exactly goes
    /// before a pattern.
    pub fn own_name(&self, model: &str) -> Option<&Arc<str>> {
        let Self::Listed(names) = self else {
            return None;
        };
        let exact = names
            .iter()
            .find(|(pattern, _)| pattern.exact() == Some(model));
        let found = exact.or_else(|| names.iter().find(|(pattern, _)| pattern.matches(model)));
        found
            .and_then(|(_, own)| own.as_ref())
            .filter(|own| ***own != *model)
    }
}

/// A provider as routing knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalogue {
    pub(super) provider: Arc<str>,
    pub(super) models: Models,
    pub(super) unread: bool,
}

impl Catalogue {
    /// A provider and what it serves.
    pub fn new(provider: impl Into<Arc<str>>, models: Models) -> Self {
        Self {
            provider: provider.into(),
            models,
            unread: false,
        }
    }

    /// Nobody reads what this provider is sent or answers: it takes any path.
    #[must_use]
    pub fn unread(mut self, yes: bool) -> Self {
        self.unread = yes;
        self
    }
}
