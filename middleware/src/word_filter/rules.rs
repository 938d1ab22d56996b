use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{
    literals::{Literal, Literals},
    whole::Edge,
};

/// A rule, as somebody writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it is called where it is told of: in refusals, metrics and logs.
    pub id: Box<str>,
    /// Words and phrases.
    pub words: Vec<String>,
    /// Whether upper and lower case differ.
    pub case_sensitive: bool,
    /// Whether words inside longer words are none.
    pub whole_word: bool,
    /// What happens to a text that it matches.
    pub action: Action,
    /// What [`Action::Mask`] puts in the place of a match.
    pub mask: Box<str>,
    /// Where it looks.
    pub apply_to: ApplyTo,
}

/// What happens to a text in which a rule has found something; the later one is the stronger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// It passes as it is, and is counted.
    Log,
    /// The match is replaced.
    Mask,
    /// The request or the answer is refused.
    #[default]
    Reject,
}

/// Where a rule looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApplyTo {
    /// In the texts of requests.
    pub request: bool,
    /// In the texts of answers.
    pub response: bool,
}

/// Which way a text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Response,
}

/// The rules of one side, ready to search with. Clones are the same rules.
#[derive(Clone, Debug)]
pub(super) struct Rules(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    all: Vec<Told>,
    engines: Vec<(Action, Literals)>,
}

/// What is told of a rule.
#[derive(Debug)]
struct Told {
    id: Arc<str>,
    action: Action,
    mask: Box<str>,
}

/// Rules that nothing can search with, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit(Box<str>);

/// A rule among the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RuleIndex(pub(super) u32);

// ===== impl Rule =====

impl Rule {
    /// A rule that matches nothing yet: whole words in any case, on both sides, refusing.
    pub fn new(id: impl Into<Box<str>>) -> Self {
        Self {
            id: id.into(),
            words: Vec::new(),
            case_sensitive: false,
            whole_word: true,
            action: Action::default(),
            mask: "***".into(),
            apply_to: ApplyTo {
                request: true,
                response: true,
            },
        }
    }

    /// Whether it finds nothing, in whatever text.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }
}

// ===== impl Action =====

impl Action {
    /// The word of the configuration and of the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Mask => "mask",
            Self::Reject => "reject",
        }
    }
}

// ===== impl Rules =====

impl Rules {
    /// Those of the rules that look at this side. Rules keep their index, whatever the side.
    ///
    /// # Errors
    ///
    /// What is too large to search with.
    pub(super) fn new(rules: &[Rule], side: Side) -> Result<Self, Unfit> {
        let told = |rule: &Rule| Told {
            id: rule.id.as_ref().into(),
            action: rule.action,
            mask: rule.mask.clone(),
        };
        let here = rules.iter().zip(0..).filter(|(rule, _)| match side {
            Side::Request => rule.apply_to.request,
            Side::Response => rule.apply_to.response,
        });
        let mut groups = BTreeMap::<_, Vec<Literal<'_>>>::new();
        for (rule, index) in here {
            for word in rule.words.iter().filter(|word| !word.is_empty()) {
                let (left, right) = edges(word);
                let literal = Literal {
                    text: word,
                    right: right && rule.whole_word,
                    rule: RuleIndex(index),
                };
                let left = left && rule.whole_word;
                let group = groups.entry((rule.action, !rule.case_sensitive, left));
                group.or_default().push(literal);
            }
        }
        let engines = groups.into_iter().map(|((action, folded, left), words)| {
            Ok((action, Literals::new(words.into_iter(), folded, left)?))
        });
        let engines = engines
            .collect::<Result<_, aho_corasick::BuildError>>()
            .map_err(|why| Unfit(why.to_string().into()))?;
        Ok(Self(Arc::new(Inner {
            engines,
            all: rules.iter().map(told).collect(),
        })))
    }

    /// Whether there is nothing to look for.
    pub(super) fn is_empty(&self) -> bool {
        self.0.engines.is_empty()
    }

    /// What the rule is called.
    pub(super) fn id(&self, rule: RuleIndex) -> &Arc<str> {
        &self.told(rule).id
    }

    /// What the rule does.
    pub(super) fn action(&self, rule: RuleIndex) -> Action {
        self.told(rule).action
    }

    /// What the rule puts in the place of a match.
    pub(super) fn mask(&self, rule: RuleIndex) -> &str {
        &self.told(rule).mask
    }

    /// Whether any of them changes what it finds.
    pub(super) fn masks(&self) -> bool {
        self.0.all.iter().any(|rule| rule.action == Action::Mask)
    }

    pub(super) fn engines(&self) -> &[(Action, Literals)] {
        &self.0.engines
    }

    fn told(&self, rule: RuleIndex) -> &Told {
        &self.0.all[rule.0 as usize]
    }
}

// ===== impl Unfit =====

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unfit {}

/// Whether a word wants a boundary on its left and on its right.
fn edges(word: &str) -> (bool, bool) {
    let left = word.chars().next().map(Edge::of);
    // Marks belong to what stands before them.
    let mut back = word.chars().rev().map(Edge::of);
    let right = back.find(|edge| *edge != Edge::Mark);
    (
        left.is_some_and(Edge::wants_left),
        right.is_some_and(Edge::wants_right),
    )
}
