//! The table of an expression: where each character leads, and whether a match has ended before it.

use std::collections::{BTreeSet, HashMap};

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange, Hir, Look};

use super::{
    Refused,
    classes::{Classes, contains},
    nfa::{Nfa, State, too_large},
};

/// States by classes of characters, and the end of the text as one more column.
#[derive(Debug)]
pub(super) struct Table {
    classes: Classes,
    columns: usize,
    /// The next state, one more than its row, doubled, and one more if a match has ended before; an even zero leads nowhere.
    steps: Vec<u32>,
    /// Where a text begins, and behind each class.
    starts: Vec<u32>,
    /// How many characters it takes to match more than now, at least.
    more: Vec<Option<u16>>,
    /// Whether a match ends here: always, never, or as what follows says.
    here: Vec<Option<bool>>,
}

/// Whether each byte may stand in a place, for the first three.
pub(in super::super) type Heads = [[bool; 256]; 3];

/// What everything has that matches.
#[derive(Clone, Debug)]
pub(in super::super) struct Needs {
    /// This byte,
    pub(in super::super) byte: u8,
    /// and before the first one of it only such.
    pub(in super::super) before: [bool; 256],
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) next: Option<u32>,
    pub(super) matches: bool,
}

/// What stands beside a place: nothing, or a character of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Beside {
    there: bool,
    line_feed: bool,
    carriage_return: bool,
    ascii: bool,
    unicode: bool,
}

/// A state: those of the expression that hold, and what stands before, if one of them asks.
type Key = (Vec<usize>, Beside);

struct Builder<'a> {
    nfa: &'a Nfa,
    classes: &'a Classes,
    /// What each class is beside a place, and the end of the text.
    beside: Vec<Beside>,
    keys: Vec<Key>,
    known: HashMap<Key, u32>,
    /// When each state of the expression was last passed, and the round.
    passed: (Vec<u32>, u32),
}

// ===== impl Table =====

impl Table {
    pub(super) fn new(hir: &Hir, most: usize) -> Result<Self, Refused> {
        let (nfa, start) = Nfa::new(hir, most)?;
        let word = unicode_word();
        let looks = nfa.states.iter().any(|it| matches!(it, State::Look(..)));
        let mut sets = nfa.sets.clone();
        if looks {
            let ascii = [('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')];
            let ascii = ascii.map(|(start, end)| ClassUnicodeRange::new(start, end));
            sets.push(ClassUnicode::new(ascii));
            sets.extend(['\n', '\r'].map(|it| ClassUnicode::new([ClassUnicodeRange::new(it, it)])));
            sets.push(word.clone());
        }
        let classes = Classes::new(&sets);
        let beside = classes.examples().iter();
        let beside = beside.map(|char| Beside::of(*char, looks, &word));
        let mut builder = Builder {
            nfa: &nfa,
            classes: &classes,
            beside: beside.chain([Beside::default()]).collect(),
            keys: Vec::new(),
            known: HashMap::new(),
            passed: (vec![0; nfa.states.len()], 0),
        };
        let first = builder.closed([start]);
        let columns = builder.beside.len();
        // Behind each class, and last at the beginning of the text.
        let starts: Vec<_> = (0..columns)
            .map(|class| {
                let before = builder.beside[class];
                builder.row((first.clone(), before))
            })
            .collect();
        let steps = builder.steps()?;
        Ok(Self::measured(classes, columns, &steps, starts))
    }

    fn measured(classes: Classes, columns: usize, steps: &[u32], starts: Vec<u32>) -> Self {
        let rows: Vec<&[u32]> = steps.chunks(columns).collect();
        let matches = |row: &&[u32]| row.iter().any(|step| step & 1 == 1);
        // Rounds over all rows until nothing comes nearer: there are no more than characters in a match.
        let mut more: Vec<Option<u16>> = vec![None; rows.len()];
        loop {
            let mut nearer = false;
            for at in 0..rows.len() {
                let next = rows[at]
                    .iter()
                    .filter_map(|step| (step >> 1).checked_sub(1));
                let least = next.filter_map(|next| {
                    let next = next as usize;
                    if matches(&rows[next]) {
                        Some(1)
                    } else {
                        Some(more[next]?.saturating_add(1))
                    }
                });
                let least = least.min();
                if least != more[at] {
                    (more[at], nearer) = (least, true);
                }
            }
            if !nearer {
                break;
            }
        }
        let here = rows.iter().map(|row| {
            let matching = row.iter().filter(|step| *step & 1 == 1).count();
            (matching == 0 || matching == row.len()).then_some(matching > 0)
        });
        let here = here.collect();
        // What cannot match is not gone to.
        let dead: Vec<bool> = rows
            .iter()
            .zip(&more)
            .map(|(row, more)| more.is_none() && !matches(row))
            .collect();
        let steps = steps.iter().map(|step| match (step >> 1).checked_sub(1) {
            Some(next) if dead[next as usize] => step & 1,
            _ => *step,
        });
        let steps = steps.collect();
        Self {
            classes,
            columns,
            steps,
            starts,
            more,
            here,
        }
    }

    /// The bytes that what begins may have in its first three places, or that may stand there once it is over. It lets more pass
    /// than there is, never less.
    pub(super) fn heads(&self) -> Heads {
        let mut heads = [[false; 256]; 3];
        let mut states: BTreeSet<u32> = self.starts.iter().copied().collect();
        let foreign: BTreeSet<usize> = self.classes.foreign().collect();
        let mut open = false;
        for (place, head) in heads.iter_mut().enumerate() {
            if open {
                *head = [true; 256];
                continue;
            }
            // Nothing matches where nothing has been.
            let goes = |class: usize| {
                let mut steps = states.iter().map(|state| self.steps_of(*state)[class]);
                steps.any(|step| step >> 1 > 0 || place > 0 && step & 1 == 1)
            };
            let is_foreign = foreign.iter().any(|class| goes(*class));
            for (byte, may) in (0..=u8::MAX).zip(head.iter_mut()) {
                *may = match byte {
                    0..=0x7f => goes(self.classes.of(char::from(byte))),
                    // The rest of a character begins nothing, and is not looked at behind its beginning.
                    0x80..=0xbf => place > 0,
                    _ => is_foreign,
                };
            }
            let ends = |state: &u32| self.steps_of(*state).iter().any(|step| step & 1 == 1);
            // The places are bytes: behind a character of several they say nothing, and neither do they behind a match.
            open = place == 0 && is_foreign || place > 0 && states.iter().any(ends);
            states = self.behind(&states, |_| true);
        }
        heads
    }

    /// A byte that everything has that matches, and the bytes that may stand before the first one of it; none if there is no such
    /// byte, or it is a frequent one.
    pub(super) fn needs(&self) -> Option<Needs> {
        let foreign: BTreeSet<usize> = self.classes.foreign().collect();
        RARE.iter().find_map(|&byte| {
            let class = self.classes.of(char::from(byte));
            let of_class = |it: &u8| self.classes.of(char::from(*it)) == class;
            if foreign.contains(&class) || (0..0x80).filter(of_class).count() > 1 {
                return None;
            }
            // All states without it.
            let mut states: BTreeSet<u32> = self.starts.iter().copied().collect();
            let mut last = states.clone();
            while !last.is_empty() {
                let next = self.behind(&last, |it| it != class);
                last = next.difference(&states).copied().collect();
                states.extend(&last);
            }
            let rows = || states.iter().map(|state| self.steps_of(*state));
            if rows().any(|row| row.iter().any(|step| step & 1 == 1)) {
                return None;
            }
            let goes = |class: usize| rows().any(|row| row[class] >> 1 > 0);
            let is_foreign = foreign.iter().any(|class| goes(*class));
            let mut before = [is_foreign; 256];
            for (it, before) in (0..0x80).zip(before.iter_mut()) {
                *before = it != byte && goes(self.classes.of(char::from(it)));
            }
            Some(Needs { byte, before })
        })
    }

    /// The states that these lead to by classes of which `by` holds.
    fn behind(&self, states: &BTreeSet<u32>, by: impl Fn(usize) -> bool) -> BTreeSet<u32> {
        let rows = states.iter().map(|state| self.steps_of(*state));
        let steps = rows.flat_map(|row| row.iter().enumerate());
        let steps = steps.filter(|(class, _)| by(*class));
        steps
            .filter_map(|(_, step)| (step >> 1).checked_sub(1))
            .collect()
    }

    /// The row of a state.
    fn steps_of(&self, state: u32) -> &[u32] {
        &self.steps[state as usize * self.columns..][..self.columns]
    }

    /// How many characters the shortest match has; none if there is none.
    pub(super) fn least(&self) -> Option<usize> {
        let starts = self.starts.iter();
        starts.filter_map(|start| self.more(*start)).min()
    }

    /// The state behind a character, or at the beginning of a text.
    pub(super) fn start(&self, before: Option<char>) -> u32 {
        let class = before.map_or(self.columns - 1, |char| self.classes.of(char));
        self.starts[class]
    }

    pub(super) fn step(&self, state: u32, char: char) -> Step {
        let step = self.steps[state as usize * self.columns + self.classes.of(char)];
        Step {
            next: (step >> 1).checked_sub(1),
            matches: step & 1 == 1,
        }
    }

    /// Whether a match ends where the text does.
    pub(super) fn matches_at_end(&self, state: u32) -> bool {
        self.steps[(state as usize + 1) * self.columns - 1] & 1 == 1
    }

    /// How many characters it takes to match more than now, at least; none if nothing does.
    pub(super) fn more(&self, state: u32) -> Option<usize> {
        self.more[state as usize].map(usize::from)
    }

    /// Whether a match ends here; none if what follows says so.
    pub(super) fn here(&self, state: u32) -> Option<bool> {
        self.here[state as usize]
    }
}

// ===== impl Builder =====

impl Builder<'_> {
    /// The row of a state.
    fn row(&mut self, (states, before): Key) -> u32 {
        let asks = states
            .iter()
            .any(|at| matches!(self.nfa.states[*at], State::Look(..)));
        let key = (states, if asks { before } else { Beside::default() });
        let next = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        *self.known.entry(key).or_insert_with_key(|key| {
            self.keys.push(key.clone());
            next
        })
    }

    fn steps(&mut self) -> Result<Vec<u32>, Refused> {
        let columns = self.beside.len();
        let mut steps = Vec::new();
        let mut at = 0;
        while at < self.keys.len() {
            if self.keys.len() * columns > LARGEST {
                return Err(too_large());
            }
            for class in 0..columns {
                let (states, before) = self.keys[at].clone();
                let now = self.looked(states, before, self.beside[class]);
                let matches = now
                    .iter()
                    .any(|it| matches!(self.nfa.states[*it], State::Match));
                let example = self.classes.examples().get(class).copied();
                let next = example.map(|char| self.after(&now, char));
                let next = next.unwrap_or_default();
                let next = match next.is_empty() {
                    true => 0,
                    false => self.row((next, self.beside[class])) + 1,
                };
                steps.push(next << 1 | u32::from(matches));
            }
            at += 1;
        }
        Ok(steps)
    }

    /// What holds behind a character.
    fn after(&mut self, states: &[usize], char: char) -> Vec<usize> {
        let nfa = self.nfa;
        let next = states.iter().filter_map(|at| match nfa.states[*at] {
            State::Class(set, next) if contains(&nfa.sets[set], char) => Some(next),
            _ => None,
        });
        self.closed(next)
    }

    /// What holds besides, where what is looked for is there.
    fn looked(&mut self, mut states: Vec<usize>, before: Beside, behind: Beside) -> Vec<usize> {
        loop {
            let nfa = self.nfa;
            let seen = states.iter().filter_map(|at| match nfa.states[*at] {
                State::Look(look, next) if holds(look, before, behind) => Some(next),
                _ => None,
            });
            let more = self.closed(seen.chain(states.iter().copied()));
            if more == states {
                return states;
            }
            states = more;
        }
    }

    /// These states and what holds with them, without what only leads to others.
    fn closed(&mut self, from: impl IntoIterator<Item = usize>) -> Vec<usize> {
        // A round more than there are entries in a table is not reached.
        self.passed.1 += 1;
        let (passed, round) = (&mut self.passed.0, self.passed.1);
        let mut left: Vec<usize> = from.into_iter().collect();
        let mut closed = Vec::new();
        while let Some(at) = left.pop() {
            if std::mem::replace(&mut passed[at], round) == round {
                continue;
            }
            match &self.nfa.states[at] {
                State::Split(all) => left.extend(all),
                _ => closed.push(at),
            }
        }
        closed.sort_unstable();
        closed
    }
}

// ===== impl Beside =====

impl Beside {
    fn of(char: char, looks: bool, word: &ClassUnicode) -> Self {
        if !looks {
            return Self::default();
        }
        Self {
            there: true,
            line_feed: char == '\n',
            carriage_return: char == '\r',
            ascii: char.is_ascii_alphanumeric() || char == '_',
            unicode: contains(word, char),
        }
    }
}

/// Whether what is looked for is there, between what stands before and what stands behind.
fn holds(look: Look, before: Beside, behind: Beside) -> bool {
    match look {
        Look::Start => !before.there,
        Look::End => !behind.there,
        Look::StartLF => !before.there || before.line_feed,
        Look::EndLF => !behind.there || behind.line_feed,
        Look::StartCRLF => {
            !before.there || before.line_feed || before.carriage_return && !behind.line_feed
        }
        Look::EndCRLF => {
            !behind.there || behind.carriage_return || behind.line_feed && !before.carriage_return
        }
        Look::WordAscii => before.ascii != behind.ascii,
        Look::WordAsciiNegate => before.ascii == behind.ascii,
        Look::WordUnicode => before.unicode != behind.unicode,
        Look::WordUnicodeNegate => before.unicode == behind.unicode,
        Look::WordStartAscii => !before.ascii && behind.ascii,
        Look::WordEndAscii => before.ascii && !behind.ascii,
        Look::WordStartUnicode => !before.unicode && behind.unicode,
        Look::WordEndUnicode => before.unicode && !behind.unicode,
        Look::WordStartHalfAscii => !before.ascii,
        Look::WordEndHalfAscii => !behind.ascii,
        Look::WordStartHalfUnicode => !before.unicode,
        Look::WordEndHalfUnicode => !behind.unicode,
    }
}

fn unicode_word() -> ClassUnicode {
    super::super::whole::class(r"\w")
}

/// Bytes of which there are few in prose, the fewest first.
const RARE: &[u8] = b"@~^|`\\<>{}[]#%&$=+_/*;:";

/// Entries of a table: a megabyte of it.
const LARGEST: usize = 1 << 18;
