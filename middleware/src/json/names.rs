//! Which brackets are open, and which member names the open objects have had, so that a second one is seen in
//! constant time.

use std::{borrow::Cow, collections::HashSet};

use super::stack::Stack;

/// The brackets that are open, innermost last.
pub(super) struct Names<'a> {
    open: Stack<Open, 12>,
    /// Names of the objects that have few, one object after the other.
    few: Stack<&'a [u8], 24>,
    /// Names of the other objects, decoded.
    many: Vec<HashSet<Cow<'a, [u8]>>>,
}

/// An open bracket.
#[derive(Clone, Copy)]
pub(super) enum Open {
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
            open: Stack::new(Open::Array),
            few: Stack::new(&[]),
            many: Vec::new(),
        }
    }

    /// How many brackets are open.
    #[inline]
    pub(super) fn depth(&self) -> usize {
        self.open.len()
    }

    /// The innermost bracket.
    #[inline]
    pub(super) fn innermost(&self) -> Option<Open> {
        self.open.last()
    }

    /// Begins an array inside of what is open.
    #[inline]
    pub(super) fn array(&mut self) {
        self.open.push(Open::Array);
    }

    /// Begins an object inside of what is open.
    #[inline]
    pub(super) fn object(&mut self) {
        self.open.push(Open::Few(self.few.len()));
    }

    /// How many names the innermost object has had.
    #[inline]
    pub(super) fn members(&self) -> usize {
        match self.innermost() {
            Some(Open::Few(from)) => self.few.len() - from,
            Some(Open::Many) => self.many.last().map_or(0, HashSet::len),
            Some(Open::Array) | None => 0,
        }
    }

    /// Notes a name without escapes of the innermost object; false if the object has had it.
    #[inline]
    pub(super) fn add(&mut self, name: &'a [u8]) -> bool {
        match self.innermost() {
            Some(Open::Few(from)) if self.few.len() - from < FEW => {
                let is_new = !self.few.any_above(from, |had| same(had, name));
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
        if let Some(Open::Few(from)) = self.innermost() {
            let mut names = HashSet::new();
            self.few
                .any_above(from, |had| !names.insert(Cow::Borrowed(had)));
            self.many.push(names);
            self.few.truncate(from);
            self.open.replace_last(Open::Many);
        }
        self.many.last_mut().is_none_or(|names| names.insert(name))
    }

    /// Ends what is innermost.
    #[inline]
    pub(super) fn close(&mut self) {
        match self.open.pop() {
            Some(Open::Few(from)) => self.few.truncate(from),
            Some(Open::Many) => drop(self.many.pop()),
            Some(Open::Array) | None => {}
        }
    }
}

/// Whether two names are the same. Most of one length differ in the first byte, which is cheaper to see than by a call.
#[inline]
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.first() == other.first() && one == other
}

/// Up to so many names are compared one by one, which is cheaper than hashing; more, and names with escapes, go into a
/// set with a secret seed.
const FEW: usize = 24;
