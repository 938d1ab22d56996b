//! Which member names the open objects have had, so that a second one is seen in constant time.

use std::{borrow::Cow, collections::HashSet};

/// The names of all objects that are open, innermost last.
#[derive(Default)]
pub(super) struct Names<'a> {
    /// Names of the objects that have few, one object after the other.
    few: Vec<Cow<'a, [u8]>>,
    /// Names of the objects that have many.
    many: Vec<HashSet<Cow<'a, [u8]>>>,
}

/// One open object.
pub(super) struct Object {
    members: usize,
    /// Where its names begin among the `few`; None if it owns the last of the `many`.
    few_from: Option<usize>,
}

// ===== impl Names =====

impl<'a> Names<'a> {
    /// Begins an object inside of the ones that are open.
    pub(super) fn open(&self) -> Object {
        Object {
            members: 0,
            few_from: Some(self.few.len()),
        }
    }

    /// Notes a decoded name of the innermost object; false if the object has had it.
    pub(super) fn add(&mut self, object: &mut Object, name: Cow<'a, [u8]>) -> bool {
        object.members += 1;
        let Some(from) = object.few_from else {
            return self.many.last_mut().is_none_or(|names| names.insert(name));
        };
        if self.few[from..].contains(&name) {
            return false;
        }
        self.few.push(name);
        if self.few.len() - from > FEW {
            self.many.push(self.few.drain(from..).collect());
            object.few_from = None;
        }
        true
    }

    /// Ends the innermost object.
    pub(super) fn close(&mut self, object: &Object) {
        match object.few_from {
            Some(from) => self.few.truncate(from),
            None => drop(self.many.pop()),
        }
    }
}

// ===== impl Object =====

impl Object {
    pub(super) fn members(&self) -> usize {
        self.members
    }
}

/// Up to so many names are compared one by one, which is cheaper than hashing; more go into a set with a secret seed.
const FEW: usize = 24;
