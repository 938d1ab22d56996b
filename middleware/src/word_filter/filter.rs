use std::sync::Arc;

use super::rules::{Rule, Rules, Side, Unfit};

/// Rules, ready to be searched with. Clones are the same filter.
#[derive(Clone, Debug)]
pub struct Filter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rules: Vec<Rule>,
    uninspected: bool,
    request: Rules,
    response: Rules,
}

// ===== impl Filter =====

impl Filter {
    /// A filter of these rules; of two that find the same, the first is told of.
    ///
    /// # Errors
    ///
    /// Rules that nothing can search with.
    pub fn new(rules: impl Into<Vec<Rule>>) -> Result<Self, Unfit> {
        let rules = rules.into();
        Ok(Self(Arc::new(Inner {
            request: Rules::new(&rules, Side::Request)?,
            response: Rules::new(&rules, Side::Response)?,
            uninspected: false,
            rules,
        })))
    }

    /// A filter that finds nothing.
    pub fn off() -> Self {
        Self::new([]).expect("nothing is too large")
    }

    /// Whether what cannot be read passes; else it is refused.
    #[must_use]
    pub fn uninspected(self, passes: bool) -> Self {
        let Inner {
            rules,
            request,
            response,
            ..
        } = &*self.0;
        Self(Arc::new(Inner {
            rules: rules.clone(),
            uninspected: passes,
            request: request.clone(),
            response: response.clone(),
        }))
    }

    /// The rules, as they were written.
    pub fn rules(&self) -> &[Rule] {
        &self.0.rules
    }

    /// Whether what cannot be read passes.
    pub fn passes_uninspected(&self) -> bool {
        self.0.uninspected
    }

    /// The rules for requests.
    pub(super) fn request(&self) -> &Rules {
        &self.0.request
    }

    /// The rules for answers.
    pub(super) fn response(&self) -> &Rules {
        &self.0.response
    }
}

impl Default for Filter {
    fn default() -> Self {
        Self::off()
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || self.0.rules == other.0.rules && self.0.uninspected == other.0.uninspected
    }
}

impl Eq for Filter {}
