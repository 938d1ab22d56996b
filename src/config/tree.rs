//! A YAML file as an owned tree in which every key and value knows its line and column.

use super::problem::At;

/// A value and where it stands.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) at: At,
    pub(crate) value: Value,
}

/// What a node holds.
#[derive(Clone)]
pub(crate) enum Value {
    List(Vec<Node>),
    Map(Vec<Entry>),
    Scalar(Scalar),
}

/// One member of a map.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: At,
    pub(crate) value: Node,
}

/// Text, and what it was before expansion.
#[derive(Clone)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Written without quotes, so that `true`, `5` and nothing mean more than their letters.
    pub(crate) plain: bool,
    pub(crate) origin: Origin,
}

/// Where a scalar's text came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The file.
    File,
    /// One variable and nothing else.
    Variable(String),
    /// Text with variables in it.
    Mixed,
    /// A variable that is not set: reported, and no value any more.
    Unset,
}

impl Node {
    pub(crate) const fn scalar(&self) -> Option<&Scalar> {
        match &self.value {
            Value::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// The text of a scalar that is neither null nor missing its variable.
    pub(crate) fn text(&self) -> Option<&str> {
        self.scalar()
            .filter(|s| !s.is_null() && s.origin != Origin::Unset)
            .map(|s| s.text.as_str())
    }

    /// The entries of a map; none for anything else.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; none for anything else.
    pub(crate) fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// A list's items, or the node itself as the only one.
    pub(crate) fn one_or_many(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => std::slice::from_ref(self),
        }
    }

    /// The value of a map's member.
    pub(crate) fn member(&self, key: &str) -> Option<&Self> {
        self.entries()
            .iter()
            .find(|e| e.key == key)
            .map(|e| &e.value)
    }

    pub(crate) fn is_null(&self) -> bool {
        self.scalar().is_some_and(Scalar::is_null)
    }

    /// What a person would call this value.
    pub(crate) fn noun(&self) -> &'static str {
        match &self.value {
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
            Value::Scalar(s) if s.is_null() => "nothing",
            Value::Scalar(_) => "a single value",
        }
    }
}

impl Scalar {
    /// YAML's null: nothing, `~` or `null` without quotes.
    pub(crate) fn is_null(&self) -> bool {
        self.plain
            && self.origin == Origin::File
            && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }
}
