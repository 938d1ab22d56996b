//! An expression as states that may all hold at once.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Look};

use super::Refused;

/// States, the first of which begins.
#[derive(Debug, Default)]
pub(super) struct Nfa {
    pub(super) states: Vec<State>,
    /// The sets of characters that it asks for.
    pub(super) sets: Vec<ClassUnicode>,
}

#[derive(Clone, Debug)]
pub(super) enum State {
    /// On a character of the set, the next.
    Class(usize, usize),
    /// Each of these.
    Split(Vec<usize>),
    /// The next, where this holds.
    Look(Look, usize),
    Match,
}

impl Nfa {
    /// The states of an expression, and which begins. Repeats are written out, up to `most` of each.
    pub(super) fn new(hir: &Hir, most: usize) -> Result<(Self, usize), Refused> {
        let mut nfa = Self::default();
        let end = nfa.add(State::Match)?;
        let start = nfa.build(hir, end, most)?;
        Ok((nfa, start))
    }

    fn add(&mut self, state: State) -> Result<usize, Refused> {
        if self.states.len() >= LARGEST {
            return Err(too_large());
        }
        self.states.push(state);
        Ok(self.states.len() - 1)
    }

    fn class(&mut self, set: ClassUnicode, next: usize) -> Result<usize, Refused> {
        let at = self.sets.iter().position(|known| *known == set);
        let at = at.unwrap_or_else(|| {
            self.sets.push(set);
            self.sets.len() - 1
        });
        self.add(State::Class(at, next))
    }

    /// The state from which `hir` leads to `next`.
    fn build(&mut self, hir: &Hir, next: usize, most: usize) -> Result<usize, Refused> {
        match hir.kind() {
            HirKind::Empty => Ok(next),
            HirKind::Literal(literal) => {
                let text = std::str::from_utf8(&literal.0)
                    .map_err(|_| Refused("it asks for bytes that are no characters".into()))?;
                text.chars().rev().try_fold(next, |next, char| {
                    let only = ClassUnicode::new([ClassUnicodeRange::new(char, char)]);
                    self.class(only, next)
                })
            }
            HirKind::Class(Class::Unicode(set)) => self.class(set.clone(), next),
            HirKind::Class(Class::Bytes(set)) => {
                let set = set
                    .to_unicode_class()
                    .ok_or_else(|| Refused("it asks for bytes that are no characters".into()))?;
                self.class(set, next)
            }
            HirKind::Look(look) => self.add(State::Look(*look, next)),
            HirKind::Capture(capture) => self.build(&capture.sub, next, most),
            HirKind::Concat(all) => all
                .iter()
                .rev()
                .try_fold(next, |next, hir| self.build(hir, next, most)),
            HirKind::Alternation(all) => {
                let all = all.iter().map(|hir| self.build(hir, next, most));
                let all = all.collect::<Result<_, _>>()?;
                self.add(State::Split(all))
            }
            HirKind::Repetition(repeated) => {
                let (min, sub) = (repeated.min as usize, &*repeated.sub);
                let mut at = match repeated.max.map(|max| max as usize) {
                    // More than can match need not be told from without end.
                    Some(max) if max <= most => {
                        let mut at = next;
                        for _ in min..max {
                            let once = self.build(sub, at, most)?;
                            at = self.add(State::Split(vec![once, next]))?;
                        }
                        at
                    }
                    _ => {
                        let again = self.add(State::Split(Vec::new()))?;
                        let once = self.build(sub, again, most)?;
                        self.states[again] = State::Split(vec![once, next]);
                        again
                    }
                };
                for _ in 0..min {
                    at = self.build(sub, at, most)?;
                }
                Ok(at)
            }
        }
    }
}

pub(super) fn too_large() -> Refused {
    Refused("it is too large: what it repeats, and how often, cannot be searched for in bounded time and memory".into())
}

/// States of an expression; one that needs more would not have a table of reasonable size.
const LARGEST: usize = 20_000;
