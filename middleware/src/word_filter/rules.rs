use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use unicode_normalization::char::canonical_combining_class;

use super::{
    engine::Engine,
    entities::Entity,
    literals::{Literal, Literals},
    normal::Normal,
    pattern::Pattern,
    patterns::Patterns,
    whole::Edge,
};

/// A rule, as somebody writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it is called where it is told of: in refusals, metrics and logs.
    pub id: Box<str>,
    /// Words and phrases.
    pub words: Vec<String>,
    /// Regular expressions.
    pub regex: Vec<String>,
    /// Things that are known by their form.
    pub entities: Vec<Entity>,
    /// Characters that a match of an expression or entity has at most.
    pub max_match: usize,
    /// Whether upper and lower case differ.
    pub case_sensitive: bool,
    /// Whether words inside longer words are none.
    pub whole_word: bool,
    /// What is done to a text before it is searched.
    pub normalize: Normalize,
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

/// What is done to a text before it is searched; what is found in it is what it was made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Normalize {
    /// Nothing but that case is folded, where it does not matter.
    #[default]
    None,
    /// Normalization form KC of Unicode, without what is not to be seen (`Default_Ignorable_Code_Point`). Where case does not matter,
    /// words are compared by full case folding: `STRASSE` is `straße`.
    Nfkc,
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
    tools: Vec<Tool>,
}

/// What searches for one kind of thing, and what it does.
#[derive(Debug)]
pub(super) struct Tool {
    pub(super) action: Action,
    pub(super) form: Form,
    pub(super) engine: Engine,
}

/// The form of a text that is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    /// As it came.
    Plain,
    /// Normalised.
    Normal,
    /// Normalised, and in one case.
    Folded,
}

/// Words that are searched for at once: what they do, the form of the text, whether case is folded, whether an edge is wanted on
/// their left.
type Group = (Action, Form, bool, bool);

/// What is told of a rule.
#[derive(Debug)]
struct Told {
    id: Arc<str>,
    action: Action,
    mask: Box<str>,
}

/// A rule that nothing can search with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    rule: Box<str>,
    regex: Option<usize>,
    why: Box<str>,
}

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
            regex: Vec::new(),
            entities: Vec::new(),
            max_match: 256,
            case_sensitive: false,
            whole_word: true,
            normalize: Normalize::None,
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
        self.words.is_empty() && self.regex.is_empty() && self.entities.is_empty()
    }

    /// The words, and the group that each belongs to.
    fn literals(&self, rule: RuleIndex) -> impl Iterator<Item = (Group, Literal<'_>)> {
        let form = match (self.normalize, self.case_sensitive) {
            (Normalize::None, _) => Form::Plain,
            (Normalize::Nfkc, true) => Form::Normal,
            (Normalize::Nfkc, false) => Form::Folded,
        };
        let words = self.words.iter().map(move |word| match form {
            Form::Plain => Cow::Borrowed(word.as_str()),
            _ => Cow::Owned(Normal::of(word, form == Form::Folded)),
        });
        let words = words.filter(|word| !word.is_empty());
        words.map(move |text| {
            let (left, right) = edges(&text);
            let folds = form == Form::Plain && !self.case_sensitive;
            let group = (self.action, form, folds, left && self.whole_word);
            let right = right && self.whole_word;
            (group, Literal { text, right, rule })
        })
    }

    /// A word that nothing is found by: none of it is to be seen, or it begins with what belongs to the letter before it.
    fn unfit(&self) -> Option<Unfit> {
        if self.normalize == Normalize::None {
            return None;
        }
        let why = self
            .words
            .iter()
            .filter(|word| !word.is_empty())
            .find_map(|word| {
                let why = match Normal::of(word, false).chars().next() {
                    None => "has nothing that is to be seen",
                    Some(char) if canonical_combining_class(char) > 0 => {
                        "begins with a mark, which belongs to the letter before it"
                    }
                    Some(_) => return None,
                };
                Some(format!("its word {word:?} {why}"))
            })?;
        Some(Unfit {
            rule: self.id.clone(),
            regex: None,
            why: why.into(),
        })
    }

    /// The form of text that its expressions and entities are searched for in.
    fn form(&self) -> Form {
        match self.normalize {
            Normalize::None => Form::Plain,
            Normalize::Nfkc => Form::Normal,
        }
    }

    fn patterns(&self) -> impl Iterator<Item = Result<Pattern, Unfit>> {
        self.regex.iter().enumerate().map(|(place, text)| {
            let made = Pattern::new(text, self.case_sensitive, self.max_match);
            made.map_err(|why| Unfit {
                rule: self.id.clone(),
                regex: Some(place),
                why: why.0,
            })
        })
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
        let mut words = BTreeMap::<_, Vec<Literal<'_>>>::new();
        let mut patterns = BTreeMap::<_, Vec<(Pattern, RuleIndex)>>::new();
        for (rule, index) in here.map(|(rule, index)| (rule, RuleIndex(index))) {
            if let Some(unfit) = rule.unfit() {
                return Err(unfit);
            }
            for (group, literal) in rule.literals(index) {
                words.entry(group).or_default().push(literal);
            }
            let found = patterns.entry((rule.action, rule.form())).or_default();
            for pattern in rule.patterns() {
                found.push((pattern?, index));
            }
            for entity in &rule.entities {
                let made = entity.patterns(rule.max_match).map_err(|why| Unfit {
                    rule: rule.id.clone(),
                    regex: None,
                    why: format!("{entity}: {why}").into(),
                })?;
                found.extend(made.into_iter().map(|pattern| (pattern, index)));
            }
        }
        let mut tools = Vec::new();
        for ((action, form, folds, left), words) in words {
            let first = words[0].rule;
            let made = Literals::new(words.into_iter(), folds, left).map_err(|why| Unfit {
                rule: rules[first.0 as usize].id.clone(),
                regex: None,
                why: why.to_string().into(),
            })?;
            let engine = Engine::Literals(Box::new(made));
            tools.push(Tool {
                action,
                form,
                engine,
            });
        }
        for ((action, form), mut all) in patterns {
            while !all.is_empty() {
                let rest = all.split_off(all.len().min(Patterns::MOST));
                let engine = Engine::Patterns(Patterns::new(all));
                tools.push(Tool {
                    action,
                    form,
                    engine,
                });
                all = rest;
            }
        }
        Ok(Self(Arc::new(Inner {
            tools,
            all: rules.iter().map(told).collect(),
        })))
    }

    /// Whether there is nothing to look for.
    pub(super) fn is_empty(&self) -> bool {
        self.0.tools.is_empty()
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

    pub(super) fn tools(&self) -> &[Tool] {
        &self.0.tools
    }

    /// Whether any of them searches text of this form.
    pub(super) fn reads(&self, form: Form) -> bool {
        self.0.tools.iter().any(|tool| tool.form == form)
    }

    fn told(&self, rule: RuleIndex) -> &Told {
        &self.0.all[rule.0 as usize]
    }
}

// ===== impl Unfit =====

impl Unfit {
    /// The rule's id.
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// The place of the expression that is at fault among the rule's, from 0; none if it is none of them.
    pub fn regex(&self) -> Option<usize> {
        self.regex
    }

    /// What is wrong with it.
    pub fn why(&self) -> &str {
        &self.why
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.regex {
            Some(place) => write!(
                f,
                "regex[{place}] of the rule {:?}: {}",
                self.rule, self.why
            ),
            None => write!(f, "the rule {:?}: {}", self.rule, self.why),
        }
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
