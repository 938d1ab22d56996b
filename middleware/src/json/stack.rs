//! A stack that needs no allocation before it is deeper than usual.

/// Up to `N` values lie inside, the others in a vector.
pub(super) struct Stack<T, const N: usize> {
    inside: [T; N],
    len: usize,
    outside: Vec<T>,
}

// ===== impl Stack =====

impl<T: Copy, const N: usize> Stack<T, N> {
    /// An empty stack; `filler` is never seen.
    #[inline]
    pub(super) fn new(filler: T) -> Self {
        Self {
            inside: [filler; N],
            len: 0,
            outside: Vec::new(),
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn push(&mut self, value: T) {
        match self.inside.get_mut(self.len) {
            Some(place) => *place = value,
            None => self.outside.push(value),
        }
        self.len += 1;
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<T> {
        self.len = self.len.checked_sub(1)?;
        match self.inside.get(self.len) {
            Some(last) => Some(*last),
            None => self.outside.pop(),
        }
    }

    /// Drops what is above the first `len` values.
    #[inline]
    pub(super) fn truncate(&mut self, len: usize) {
        if self.len > N {
            self.outside.truncate(len.saturating_sub(N));
        }
        self.len = self.len.min(len);
    }

    /// What is above the first `from` values, if all lie inside and so would another.
    #[inline]
    pub(super) fn above_with_room(&self, from: usize) -> Option<&[T]> {
        self.inside[..N - 1].get(from..self.len)
    }

    /// Whether any value above the first `from` is one that `is` is looking for.
    #[inline]
    pub(super) fn any_above(&self, from: usize, mut is: impl FnMut(T) -> bool) -> bool {
        let inside = self.inside.get(from..self.len.min(N)).unwrap_or_default();
        inside.iter().any(|&value| is(value)) || self.len > N && self.any_outside(from, is)
    }

    #[cold]
    fn any_outside(&self, from: usize, mut is: impl FnMut(T) -> bool) -> bool {
        let outside = self.outside.get(from.saturating_sub(N)..);
        outside.unwrap_or_default().iter().any(|&value| is(value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_stack_is_a_vector_wherever_its_values_lie(steps in prop::collection::vec(0..100_usize, 0..60)) {
            let (mut stack, mut model) = (Stack::<_, 4>::new(0), Vec::new());
            for step in steps {
                match step {
                    0..20 => prop_assert_eq!(stack.pop(), model.pop()),
                    20..30 => {
                        stack.truncate(step - 20);
                        model.truncate(step - 20);
                    }
                    _ => {
                        stack.push(step);
                        model.push(step);
                    }
                }
                prop_assert_eq!(stack.len(), model.len());
                for from in 0..=model.len() {
                    let mut above = Vec::new();
                    let found = stack.any_above(from, |value| {
                        above.push(value);
                        false
                    });
                    prop_assert!(!found);
                    let room = (model.len() < 4).then_some(&model[from..]);
                    prop_assert_eq!(stack.above_with_room(from), room);
                    prop_assert_eq!(&above, &model[from..]);
                }
            }
        }
    }
}
