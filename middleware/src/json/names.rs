//! Which brackets are open, and which member names the open objects have had, so that a second one is seen in
//! constant time.

use std::{borrow::Cow, collections::HashSet};

use super::stack::Stack;

/// The brackets that are open, innermost last.
pub(super) struct Names<'a> {
    innermost: Open,
    /// The brackets around the innermost, and `Nothing` around the outermost.
    around: Stack<Open, 12>,
    /// Names of the objects that have few, one object after the other.
    few: Stack<&'a [u8], 24>,
    /// Names of the other objects, decoded.
    many: Vec<HashSet<Cow<'a, [u8]>>>,
}

/// An open bracket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Open {
    /// No bracket is open.
    Nothing,
    /// `[`
    Array,
    /// `{` with few names, none of them escaped: they are the `few` from the place that is told on.
    Few(usize),
    /// `{` whose names are the last of the `many`, once the objects inside have closed.
    Many,
}

// ===== impl Names =====

impl<'a> Names<'a> {
    #[inline]
    pub(super) fn new() -> Self {
        Self {
            innermost: Open::Nothing,
            around: Stack::new(Open::Nothing),
            few: Stack::new(&[]),
            many: Vec::new(),
        }
    }

    /// How many brackets are open.
    #[inline]
    pub(super) fn depth(&self) -> usize {
        self.around.len()
    }

    /// The innermost bracket.
    #[inline]
    pub(super) fn innermost(&self) -> Open {
        self.innermost
    }

    /// Begins an array inside of what is open.
    #[inline]
    pub(super) fn array(&mut self) {
        self.around.push(self.innermost);
        self.innermost = Open::Array;
    }

    /// Begins an object inside of what is open.
    #[inline]
    pub(super) fn object(&mut self) {
        self.around.push(self.innermost);
        self.innermost = Open::Few(self.few.len());
    }

    /// How many names the innermost object has had.
    #[inline]
    pub(super) fn members(&self) -> usize {
        match self.innermost {
            Open::Few(from) => self.few.len() - from,
            Open::Many => self.many.last().map_or(0, HashSet::len),
            Open::Array | Open::Nothing => 0,
        }
    }

    /// Notes a name without escapes of the innermost object; false if the object has had it.
    #[inline]
    pub(super) fn add(&mut self, name: &'a [u8]) -> bool {
        if let Open::Few(from) = self.innermost
            && let Some(few) = self.few.above_with_room(from)
            && !few.iter().any(|had| is_like(had, name))
        {
            self.few.push(name);
            return true;
        }
        self.add_with_care(name)
    }

    #[inline(never)]
    fn add_with_care(&mut self, name: &'a [u8]) -> bool {
        match self.innermost {
            Open::Few(from) if self.few.len() - from < FEW => {
                let is_new = !self.few.any_above(from, |had| had == name);
                self.few.push(name);
                is_new
            }
            _ => self.add_to_many(Cow::Borrowed(name)),
        }
    }

    /// Like [`add`](Self::add), for a name that had escapes.
    pub(super) fn add_decoded(&mut self, name: Vec<u8>) -> bool {
        self.add_to_many(Cow::Owned(name))
    }

    #[inline(never)]
    fn add_to_many(&mut self, name: Cow<'a, [u8]>) -> bool {
        if let Open::Few(from) = self.innermost {
            let mut names = HashSet::new();
            self.few
                .any_above(from, |had| !names.insert(Cow::Borrowed(had)));
            self.many.push(names);
            self.few.truncate(from);
            self.innermost = Open::Many;
        }
        self.many.last_mut().is_none_or(|names| names.insert(name))
    }

    /// Ends what is innermost.
    #[inline]
    pub(super) fn close(&mut self) {
        match self.innermost {
            Open::Few(from) => self.few.truncate(from),
            Open::Many => drop(self.many.pop()),
            Open::Array | Open::Nothing => {}
        }
        self.innermost = self.around.pop().unwrap_or(Open::Nothing);
    }
}

/// Whether two names may be the same, seen without a call. Most of one length differ in the first byte or the last.
#[inline]
fn is_like(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.first() == other.first() && one.last() == other.last()
}

/// Up to so many names are compared one by one, which is cheaper than hashing; more, and names with escapes, go into a
/// set with a secret seed.
const FEW: usize = 24;
