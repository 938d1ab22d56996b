use std::{ops::Range, sync::Arc};

use super::{
    request,
    rules::{Action, Rule, RuleIndex, Rules, Side, Unfit},
};
use crate::{
    dialect::{Role, Surface},
    error::{Reason, Rejection},
    json::Value,
};

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

/// What a filter makes of a request: for who explains. The layer itself stops at the first thing that it refuses.
#[derive(Debug)]
pub struct Judged<'f> {
    /// Everything that was found, in the order of the body.
    pub findings: Vec<Finding<'f>>,
    /// In how many texts it was looked for.
    pub texts: u64,
    /// The refusal that the request meets.
    pub refused: Option<Rejection>,
}

/// Something that a rule has found in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding<'f> {
    /// The rule's id.
    pub rule: &'f str,
    /// What comes of it there: under a signature nothing is masked, and over the end of an argument neither.
    pub action: Action,
    /// Who wrote the text.
    pub role: Role,
    /// The string that it begins in, or the arguments of a tool call: bytes of the body.
    pub at: Range<usize>,
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

    /// What it makes of the checked body of a request.
    pub fn judge(&self, surface: &Surface, root: Value<'_>) -> Judged<'_> {
        let rules = self.request();
        let (verdict, told, texts) = request::explain(rules, surface, root);
        let findings = told.into_iter().map(|told| Finding {
            rule: rules.id(told.rule),
            action: told.action,
            role: told.role,
            at: told.at,
        });
        Judged {
            findings: findings.collect(),
            texts,
            refused: verdict.refused.map(|rule| self.refusal(rule)),
        }
    }

    /// What comes of a request at this surface whose body nobody can read.
    ///
    /// # Errors
    ///
    /// It is refused, since the surface carries text and there are rules for it.
    pub fn unread(&self, surface: &Surface) -> Result<(), Rejection> {
        if self.0.uninspected || self.request().is_empty() || !surface.carries_text() {
            return Ok(());
        }
        let told = "texts are inspected here, and this body cannot be read; send plain JSON in the words of a known API";
        Err(Rejection::new(
            Reason::UnsupportedCoding,
            "word_filter",
            told,
        ))
    }

    /// This rule does not let a request pass.
    pub(super) fn refusal(&self, rule: RuleIndex) -> Rejection {
        let told = format!(
            "the rule {:?} of this gateway's word filter does not let this request pass",
            self.request().id(rule)
        );
        Rejection::new(Reason::ContentBlocked, "word_filter", told)
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
