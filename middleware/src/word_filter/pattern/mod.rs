//! Regular expressions that tell whether anything that follows could still match.
//!
//! An expression becomes a table: a row for each state, a column for each class of characters that it tells apart. A state
//! that nothing matches from is not there, so what is alive can match, and within how many characters is known. Looks at
//! what stands beside a place are answered by the character before it, which the state knows, and the one behind it, which
//! the column is. What has no table of reasonable size is refused.

mod classes;
mod edges;
mod nfa;
mod table;

use std::{fmt, ops::Range};

use regex_syntax::ParserBuilder;

pub(super) use self::table::{Heads, Needs};
use self::table::{Step, Table};
use super::{normal::Grown, text::Text};

/// An expression, ready to be matched with.
pub(super) struct Pattern {
    table: Table,
    /// Characters that may not stand before a match.
    left: Option<fn(char) -> bool>,
    /// Whether a match may end before this text, the rest of all if that is told too; none if what follows decides.
    right: Option<fn(&str, bool) -> Option<bool>>,
    /// What is to hold of a match besides.
    holds: Option<fn(&str) -> bool>,
    /// Characters that a match may have.
    most: usize,
}

/// What comes of one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Here {
    Nothing,
    /// The longest match ends there.
    Matches(usize),
    /// What follows decides.
    Open,
}

/// Why an expression is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused(pub(super) Box<str>);

// ===== impl Pattern =====

impl Pattern {
    /// An expression of the syntax of the crate `regex`, whose `\b` is of ASCII. A match has at most `most` characters.
    pub(super) fn new(text: &str, case_sensitive: bool, most: usize) -> Result<Self, Refused> {
        let text = edges::ascii(text)?;
        let hir = ParserBuilder::new()
            .case_insensitive(!case_sensitive)
            .build()
            .parse(&text)
            .map_err(|why| Refused(why.to_string().into()))?;
        match hir.properties().minimum_len() {
            Some(0) => return Err(Refused("it matches where nothing is".into())),
            None => return Err(Refused("it never matches".into())),
            Some(_) => {}
        }
        let table = Table::new(&hir, most)?;
        if table.least().is_none_or(|least| least > most) {
            return Err(Refused(
                format!("nothing of at most {most} characters matches it").into(),
            ));
        }
        Ok(Self {
            table,
            left: None,
            right: None,
            holds: None,
            most,
        })
    }

    /// No match stands behind such a character, and each ends only where it may.
    pub(super) fn apart(
        mut self,
        left: fn(char) -> bool,
        right: fn(&str, bool) -> Option<bool>,
    ) -> Self {
        (self.left, self.right) = (Some(left), Some(right));
        self
    }

    /// Only that is a match of which this holds.
    pub(super) fn holds(mut self, holds: fn(&str) -> bool) -> Self {
        self.holds = Some(holds);
        self
    }

    /// The bytes that what begins may have in its first three places, or that may stand there once it is over.
    pub(super) fn heads(&self) -> Heads {
        self.table.heads()
    }

    /// What everything has that matches, if that is rare.
    pub(super) fn needs(&self) -> Option<Needs> {
        self.table.needs()
    }

    /// Whether a match may stand behind this byte.
    pub(super) fn stands_behind(&self, byte: u8) -> bool {
        !byte.is_ascii() || self.left.is_none_or(|apart| !apart(char::from(byte)))
    }

    /// What comes of the place `at`.
    pub(super) fn here(&self, text: Text<'_>, at: usize) -> Here {
        let before = text.text[..at].chars().next_back().or(text.before.last);
        if let (Some(apart), Some(before)) = (self.left, before)
            && apart(before)
        {
            return Here::Nothing;
        }
        let mut state = self.table.start(before);
        let mut found = Here::Nothing;
        let (mut end, mut count) = (at, 0);
        for char in text.text[at..].chars() {
            if let Some(grown) = text.grown.filter(|grown| grown.at == end) {
                return self.grown(text, at, (state, count, found), grown);
            }
            let Step { next, matches } = self.table.step(state, char);
            if matches && count > 0 {
                found = self.found(text, at..end).unwrap_or(found);
            }
            match next {
                Some(next) if count < self.most => state = next,
                _ => return found,
            }
            end += char.len_utf8();
            count += 1;
        }
        if text.over {
            if count > 0 && self.table.matches_at_end(state) {
                found = self.found(text, at..end).unwrap_or(found);
            }
            return found;
        }
        if self
            .table
            .more(state)
            .is_some_and(|more| count + more <= self.most)
        {
            return Here::Open;
        }
        match self.table.here(state) {
            Some(true) => self.found(text, at..end).unwrap_or(found),
            None if self.found(text, at..end).is_some() => Here::Open,
            _ => found,
        }
    }

    /// What comes of the place `at`, where the text from `grown` on may still become something else.
    ///
    /// With marks behind it that may still be put in another order, what is alive there is held, though the marks may end it.
    fn grown(
        &self,
        text: Text<'_>,
        at: usize,
        (state, count, found): (u32, usize, Here),
        grown: &Grown,
    ) -> Here {
        let mut here = None;
        grown.each(|char, behind| {
            let Some(char) = char else {
                here = Some(Here::Open);
                return;
            };
            let Step { next, matches } = self.table.step(state, char);
            let before = match matches && count > 0 {
                true => self.found(text, at..grown.at).unwrap_or(found),
                false => found,
            };
            let then = match next {
                Some(next) if count < self.most => {
                    self.behind(text, at, (next, count + 1, before), behind)
                }
                _ => before,
            };
            if *here.get_or_insert(then) != then {
                here = Some(Here::Open);
            }
        });
        here.unwrap_or(found)
    }

    /// What comes of the place `at`, if the text ends in this state, with these marks behind it.
    fn behind(
        &self,
        text: Text<'_>,
        at: usize,
        (state, count, found): (u32, usize, Here),
        marks: &[char],
    ) -> Here {
        let more = self.table.more(state);
        if more.is_some_and(|more| count + more <= self.most) {
            return Here::Open;
        }
        let ends = || self.found(text, at..text.text.len());
        match self.table.here(state) {
            Some(false) => found,
            Some(true) if marks.is_empty() => ends().unwrap_or(found),
            None if marks.is_empty() && ends().is_none() => found,
            _ => Here::Open,
        }
    }

    /// What comes of a match of the table; none if it is none.
    fn found(&self, text: Text<'_>, at: Range<usize>) -> Option<Here> {
        let end = at.end;
        let ends = match self.right {
            Some(right) => right(&text.text[end..], text.over),
            None => Some(true),
        };
        if ends == Some(false) || self.holds.is_some_and(|holds| !holds(&text.text[at])) {
            return None;
        }
        Some(ends.map_or(Here::Open, |_| Here::Matches(end)))
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pattern")
            .field("most", &self.most)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
