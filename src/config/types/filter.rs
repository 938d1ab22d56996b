//! The word filter.

use tollgate_middleware::word_filter::{Action, ApplyTo, Entity, Filter, Normalize, Rule};

/// What is looked for in texts, of which some parts may be left to another one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WordFilter {
    /// Nothing is looked for, whatever the other one says.
    pub off: bool,
    /// The rule `default`: the keys beside `rules`.
    pub default: FilterRule,
    /// The other rules.
    pub rules: Option<Vec<FilterRule>>,
    /// All of it with what it leaves open, ready to search with.
    pub filter: Filter,
}

/// A rule, as far as the file says something of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterRule {
    /// What it is called.
    pub id: String,
    /// Words and phrases.
    pub words: Option<Vec<String>>,
    /// Files of words.
    pub files: Option<Vec<WordFile>>,
    /// Regular expressions.
    pub regex: Option<Vec<String>>,
    /// Things that are known by their form.
    pub entities: Option<Vec<Entity>>,
    /// Characters that a match of these has at most.
    pub max_match: Option<usize>,
    /// Whether case matters.
    pub case_sensitive: Option<bool>,
    /// Whether words inside longer words are none.
    pub whole_word: Option<bool>,
    /// What is done to a text before it is searched.
    pub normalize: Option<Normalize>,
    /// Where it looks.
    pub apply_to: Option<ApplyTo>,
    /// What happens where it finds something.
    pub action: Option<Action>,
    /// What a match is replaced with.
    pub mask: Option<String>,
    /// Whether what cannot be read passes.
    pub uninspected: Option<bool>,
}

/// A file of words, and what stood in it when it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WordFile {
    /// Where it is.
    pub path: String,
    /// Its entries.
    pub words: Vec<String>,
}

impl WordFilter {
    /// These, and what they leave open as `under` says.
    #[must_use]
    pub(crate) fn over(&self, under: &Self) -> Self {
        if self.off || under.off {
            return self.clone();
        }
        Self {
            off: false,
            default: self.default.over(&under.default),
            rules: self.rules.clone().or_else(|| under.rules.clone()),
            filter: Filter::default(),
        }
    }

    /// The rules that find something.
    pub(crate) fn ready(&self) -> Vec<Rule> {
        if self.off {
            return Vec::new();
        }
        let rules = self.rules.iter().flatten();
        let all = [&self.default].into_iter().chain(rules);
        all.map(FilterRule::ready)
            .filter(|rule| !rule.is_empty())
            .collect()
    }

    /// Whether no rule refuses what cannot be read.
    pub(crate) fn passes_uninspected(&self) -> bool {
        let usual = self.default.uninspected;
        let mut rules = self.rules.iter().flatten();
        let passes = |rule: &FilterRule| rule.uninspected.or(usual).unwrap_or_default();
        let others = self.rules.as_ref().is_some_and(|rules| !rules.is_empty());
        let default = passes(&self.default) || others && self.default.ready().is_empty();
        default && rules.all(passes)
    }
}

impl FilterRule {
    fn over(&self, under: &Self) -> Self {
        Self {
            id: self.id.clone(),
            words: self.words.clone().or_else(|| under.words.clone()),
            files: self.files.clone().or_else(|| under.files.clone()),
            regex: self.regex.clone().or_else(|| under.regex.clone()),
            entities: self.entities.clone().or_else(|| under.entities.clone()),
            max_match: self.max_match.or(under.max_match),
            case_sensitive: self.case_sensitive.or(under.case_sensitive),
            whole_word: self.whole_word.or(under.whole_word),
            normalize: self.normalize.or(under.normalize),
            apply_to: self.apply_to.or(under.apply_to),
            action: self.action.or(under.action),
            mask: self.mask.clone().or_else(|| under.mask.clone()),
            uninspected: self.uninspected.or(under.uninspected),
        }
    }

    fn ready(&self) -> Rule {
        let usual = Rule::new(self.id.as_str());
        let files = self.files.iter().flatten().flat_map(|file| &file.words);
        let words = self.words.iter().flatten().chain(files);
        Rule {
            words: words.cloned().collect(),
            regex: self.regex.clone().unwrap_or_default(),
            entities: self.entities.clone().unwrap_or_default(),
            max_match: self.max_match.unwrap_or(usual.max_match),
            case_sensitive: self.case_sensitive.unwrap_or(usual.case_sensitive),
            whole_word: self.whole_word.unwrap_or(usual.whole_word),
            normalize: self.normalize.unwrap_or(usual.normalize),
            action: self.action.unwrap_or(usual.action),
            mask: self
                .mask
                .as_deref()
                .map_or_else(|| usual.mask.clone(), Into::into),
            apply_to: self.apply_to.unwrap_or(usual.apply_to),
            ..usual
        }
    }
}
