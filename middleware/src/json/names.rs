//! Which member names the open objects have had, so that a second one is seen in constant time.

use std::{borrow::Cow, collections::HashSet};

/// The names of all objects that are open, innermost last.
pub(super) struct Names<'a> {
    objects: Vec<Object>,
    /// Names of the objects that have few, one object after the other.
    few: Vec<Cow<'a, [u8]>>,
    /// Names of the objects that have many.
    many: Vec<HashSet<Cow<'a, [u8]>>>,
}

/// One open object.
struct Object {
    members: usize,
    /// Where its names begin among the `few`.
    few_from: usize,
    /// Its names are the last of the `many`, once the objects inside have closed.
    is_large: bool,
}

// ===== impl Names =====

impl<'a> Names<'a> {
    pub(super) fn new() -> Self {
        Self {
            objects: Vec::with_capacity(8),
            few: Vec::with_capacity(FEW),
            many: Vec::new(),
        }
    }

    /// Begins an object inside of the ones that are open.
    pub(super) fn open(&mut self) {
        self.objects.push(Object {
            members: 0,
            few_from: self.few.len(),
            is_large: false,
        });
    }

    /// How many names the innermost object has had.
    pub(super) fn members(&self) -> usize {
        self.objects.last().map_or(0, |object| object.members)
    }

    /// Notes a decoded name of the innermost object; false if the object has had it.
    pub(super) fn add(&mut self, name: Cow<'a, [u8]>) -> bool {
        let Some(object) = self.objects.last_mut() else {
            return true;
        };
        object.members += 1;
        if object.is_large {
            return self.many.last_mut().is_none_or(|names| names.insert(name));
        }
        let names = &self.few[object.few_from..];
        if names.contains(&name) {
            return false;
        }
        if names.len() < FEW {
            self.few.push(name);
        } else {
            let mut names: HashSet<_> = self.few.drain(object.few_from..).collect();
            names.insert(name);
            self.many.push(names);
            object.is_large = true;
        }
        true
    }

    /// Ends the innermost object.
    pub(super) fn close(&mut self) {
        if let Some(object) = self.objects.pop() {
            self.few.truncate(object.few_from);
            if object.is_large {
                self.many.pop();
            }
        }
    }
}

/// Up to so many names are compared one by one, which is cheaper than hashing; more go into a set with a secret seed.
const FEW: usize = 24;
