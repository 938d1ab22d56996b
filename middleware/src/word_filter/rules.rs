use std::sync::Arc;

use super::{fold::fold, whole::Edge};

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
pub struct Rules(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    all: Vec<Told>,
    words: Vec<Word>,
}

/// What is told of a rule.
#[derive(Debug)]
struct Told {
    id: Arc<str>,
    action: Action,
    mask: Box<str>,
}

/// A rule among the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RuleIndex(pub(super) u32);

/// A word or phrase of a rule.
#[derive(Debug)]
pub(super) struct Word {
    /// Folded, if case does not matter.
    pub(super) chars: Box<[char]>,
    pub(super) folded: bool,
    /// Which edges want a boundary.
    pub(super) left: bool,
    pub(super) right: bool,
    pub(super) rule: RuleIndex,
}

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
}

// ===== impl Rules =====

impl Rules {
    /// Those of the rules that look at this side. Rules keep their index, whatever the side.
    pub(super) fn new(rules: &[Rule], side: Side) -> Self {
        let told = |rule: &Rule| Told {
            id: rule.id.as_ref().into(),
            action: rule.action,
            mask: rule.mask.clone(),
        };
        let here = rules.iter().zip(0..).filter(|(rule, _)| match side {
            Side::Request => rule.apply_to.request,
            Side::Response => rule.apply_to.response,
        });
        let words = here.flat_map(|(rule, index)| {
            let words = rule.words.iter().filter(|word| !word.is_empty());
            words.map(move |word| Word::new(word, rule, RuleIndex(index)))
        });
        Self(Arc::new(Inner {
            words: words.collect(),
            all: rules.iter().map(told).collect(),
        }))
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.0.words.is_empty()
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

    pub(super) fn words(&self) -> &[Word] {
        &self.0.words
    }

    fn told(&self, rule: RuleIndex) -> &Told {
        &self.0.all[rule.0 as usize]
    }
}

// ===== impl Word =====

impl Word {
    fn new(word: &str, rule: &Rule, index: RuleIndex) -> Self {
        let first = word.chars().next().map_or(Edge::Open, Edge::of);
        let last = word.chars().rev().map(Edge::of);
        let last = last.into_iter().find(|edge| *edge != Edge::Mark);
        let folded = !rule.case_sensitive;
        let chars = word
            .chars()
            .map(|char| if folded { fold(char) } else { char });
        Self {
            chars: chars.collect(),
            folded,
            left: rule.whole_word && first.wants_left(),
            right: rule.whole_word && last.is_some_and(Edge::wants_right),
            rule: index,
        }
    }
}
