//! Many words at once: Aho and Corasick's automaton, and a look at what may begin one before it runs.

use std::{borrow::Cow, cmp::Ordering, collections::HashMap, fmt, iter};

use aho_corasick::{
    Anchored, MatchKind,
    automaton::{Automaton, StateID},
    dfa,
    nfa::contiguous,
};

use unicode_normalization::char::canonical_combining_class;

use super::{
    fold::fold,
    normal::{Grown, reach},
    prefilter::Prefilter,
    rules::RuleIndex,
    text::{Candidate, Text},
};

/// Words that are alike in what they want: one action, case or not, an edge on the left or not.
pub(super) struct Literals {
    automaton: Machine,
    start: StateID,
    words: Vec<Word>,
    /// What is not to be seen from outside of the automaton, in the order of the states.
    nodes: Vec<(StateID, Node)>,
    /// Marks that words go on with, behind each state, and whether the word ends with them.
    marked: HashMap<StateID, Vec<(Vec<char>, bool)>>,
    folded: bool,
    /// Every word wants an edge on its left.
    left: bool,
    prefilter: Prefilter,
}

/// The best that was found, where it ends or would end, and whether it wants an edge there.
#[derive(Clone, Copy, Debug)]
struct Best {
    found: Candidate,
    at: usize,
    right: bool,
}

/// A word, once it is in the automaton.
#[derive(Clone, Copy, Debug)]
struct Word {
    /// Bytes, as folded.
    len: usize,
    /// Whether it wants an edge on its right.
    right: bool,
    rule: RuleIndex,
}

/// A state of the automaton, as the beginning of a word.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// Bytes of it, as folded.
    depth: usize,
    /// The longest end of it that also is a beginning.
    fail: StateID,
    /// Whether a longer word begins with it.
    goes_on: bool,
}

enum Machine {
    Few(dfa::DFA),
    Many(contiguous::NFA),
}

/// A word to build from.
#[derive(Clone, Debug)]
pub(super) struct Literal<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) right: bool,
    pub(super) rule: RuleIndex,
}

// ===== impl Literals =====

impl Literals {
    /// An automaton of these words; of those that are the same, the first counts.
    pub(super) fn new<'a>(
        words: impl Iterator<Item = Literal<'a>>,
        folded: bool,
        left: bool,
    ) -> Result<Self, aho_corasick::BuildError> {
        let mut texts = Vec::new();
        let mut told = Vec::new();
        for Literal { text, right, rule } in words {
            let text = if folded {
                text.chars().map(fold).collect()
            } else {
                text.into_owned()
            };
            told.push(Word {
                len: text.len(),
                right,
                rule,
            });
            texts.push(text);
        }
        let automaton = Machine::new(&texts, folded)?;
        let start = automaton.start();
        let nodes = match &automaton {
            Machine::Few(dfa) => nodes(dfa, start, &texts),
            Machine::Many(nfa) => nodes(nfa, start, &texts),
        };
        let marked = match &automaton {
            Machine::Few(dfa) => marked(dfa, start, &texts),
            Machine::Many(nfa) => marked(nfa, start, &texts),
        };
        let prefilter = {
            let each = iter::zip(&texts, &told);
            let each = each.map(|(text, word)| (text.as_str(), word.right));
            Prefilter::new(each, folded, left)
        };
        Ok(Self {
            automaton,
            start,
            words: told,
            nodes,
            marked,
            folded,
            left,
            prefilter,
        })
    }

    /// The leftmost word from `from` on, of those that begin together the longest; or the place where one may begin and
    /// what follows decides, if that comes before.
    pub(super) fn next(&self, text: Text<'_>, from: usize) -> Option<Candidate> {
        match &self.automaton {
            Machine::Few(dfa) => self.next_in(dfa, text, from),
            Machine::Many(nfa) => self.next_in(nfa, text, from),
        }
    }

    fn next_in<A: Automaton>(
        &self,
        automaton: &A,
        text: Text<'_>,
        from: usize,
    ) -> Option<Candidate> {
        let bytes = text.text.as_bytes();
        let mut state = self.start;
        let mut at = from;
        let mut best: Option<Best> = None;
        // Where the text may still change, if it is looked at, and the state there.
        let grown = text.grown.filter(|grown| grown.at >= from);
        let (tail, mut there) = (grown.map_or(usize::MAX, |grown| grown.at), self.start);
        loop {
            if at <= tail {
                if state == self.start {
                    if let Some(best) = best {
                        return Some(best.found);
                    }
                    at = self.prefilter.skip(text, at);
                }
                if at == tail {
                    there = state;
                }
            }
            let Some(&byte) = bytes.get(at) else { break };
            if byte.is_ascii() || !self.folded {
                state = automaton.next_state(Anchored::No, state, byte);
                at += 1;
            } else {
                let char = text.text[at..].chars().next()?;
                for &byte in fold(char).encode_utf8(&mut [0; 4]).as_bytes() {
                    state = automaton.next_state(Anchored::No, state, byte);
                }
                at += char.len_utf8();
            }
            if automaton.is_special(state) && automaton.is_match(state) {
                for index in 0..automaton.match_len(state) {
                    let word = self.words[automaton.match_pattern(state, index).as_usize()];
                    self.take(text, at, word, &mut best);
                }
            }
            if let Some(Best { found, .. }) = best
                && at <= tail
                && self
                    .node(state)
                    .is_some_and(|node| self.back(text, at, node.depth) > found.start)
            {
                return Some(found);
            }
        }
        let grown = grown.and_then(|grown| self.grown(automaton, text, grown, there));
        let open = self.open(text, state).into_iter().chain(grown).min();
        let open = open.map(Candidate::open);
        match (best.map(|best| best.found), open) {
            (Some(best), Some(open)) if open.start <= best.start => Some(open),
            (best, open) => best.or(open),
        }
    }

    /// Takes a word that ends at `at`, if its edges are as it wants them.
    fn take(&self, text: Text<'_>, at: usize, word: Word, best: &mut Option<Best>) {
        let start = self.back(text, at, word.len);
        if self.left && text.joined_left(start) {
            return;
        }
        let right = if may_change(text, at) {
            None
        } else if word.right {
            text.joined_right(at)
        } else {
            Some(false)
        };
        let found = match right {
            Some(true) => return,
            Some(false) => Candidate {
                start,
                end: Some(at),
                rule: word.rule,
            },
            None => Candidate::open(start),
        };
        // A word that ends later and begins no later is the longer one. Of two that are the same, the one that wants no edge is
        // told of, since it need not wait.
        let better = |best: &Best| match start.cmp(&best.found.start) {
            Ordering::Equal => at > best.at || best.right && !word.right,
            order => order.is_lt(),
        };
        if best.as_ref().is_none_or(better) {
            let right = word.right;
            *best = Some(Best { found, at, right });
        }
    }

    /// Where the earliest word begins that the text ends inside of.
    fn open(&self, text: Text<'_>, mut state: StateID) -> Option<usize> {
        if text.over {
            return None;
        }
        while let Some(node) = self.node(state) {
            let start = self.back(text, text.text.len(), node.depth);
            if node.goes_on && !(self.left && text.joined_left(start)) {
                return Some(start);
            }
            state = node.fail;
        }
        None
    }

    /// Where the earliest word begins that the text may end inside of, or with, once it has grown.
    fn grown<A: Automaton>(
        &self,
        automaton: &A,
        text: Text<'_>,
        grown: &Grown,
        there: StateID,
    ) -> Option<usize> {
        let mut first: Option<usize> = None;
        grown.each(|char, behind| {
            let mut state = there;
            let mut end = grown.at;
            let mut bytes = [0; 4];
            let bytes = char.map_or("", |char| char.encode_utf8(&mut bytes));
            for &byte in bytes.as_bytes() {
                state = automaton.next_state(Anchored::No, state, byte);
                end += 1;
            }
            let mut begins = |start: usize| {
                if first.is_none_or(|first| start < first)
                    && !(self.left && text.joined_left(start))
                {
                    first = Some(start);
                }
            };
            // What it is now has been searched.
            if char != grown.now && automaton.is_match(state) {
                for index in 0..automaton.match_len(state) {
                    let word = self.words[automaton.match_pattern(state, index).as_usize()];
                    begins(end - word.len);
                }
            }
            while let Some(node) = self.node(state) {
                let goes_on = match behind {
                    [] => node.goes_on,
                    _ => self.marked.get(&state).is_some_and(|all| {
                        let mut all = all.iter();
                        all.any(|(marks, ends)| reach(behind, marks, *ends))
                    }),
                };
                if goes_on {
                    begins(end - node.depth);
                }
                state = node.fail;
            }
        });
        first
    }

    /// The place so many folded bytes before `at`.
    fn back(&self, text: Text<'_>, at: usize, mut len: usize) -> usize {
        if !self.folded {
            return at - len;
        }
        let mut chars = text.text[..at].chars();
        while len > 0
            && let Some(char) = chars.next_back()
        {
            len = len.saturating_sub(fold(char).len_utf8());
        }
        chars.as_str().len()
    }

    /// None for the start.
    fn node(&self, state: StateID) -> Option<Node> {
        let at = self
            .nodes
            .binary_search_by_key(&state, |(id, _)| *id)
            .ok()?;
        Some(self.nodes[at].1)
    }
}

impl fmt::Debug for Literals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Literals")
            .field("words", &self.words.len())
            .finish_non_exhaustive()
    }
}

// ===== impl Machine =====

impl Machine {
    fn new(texts: &[String], folded: bool) -> Result<Self, aho_corasick::BuildError> {
        // What is found is looked for in every state, overlapping; what begins one is found by a filter of our own.
        if texts.len() <= FEW {
            let mut builder = dfa::Builder::new();
            builder.match_kind(MatchKind::Standard).prefilter(false);
            builder
                .ascii_case_insensitive(folded)
                .build(texts)
                .map(Self::Few)
        } else {
            let mut builder = contiguous::Builder::new();
            builder.match_kind(MatchKind::Standard).prefilter(false);
            builder
                .ascii_case_insensitive(folded)
                .build(texts)
                .map(Self::Many)
        }
    }

    fn start(&self) -> StateID {
        let start = match self {
            Self::Few(dfa) => dfa.start_state(Anchored::No),
            Self::Many(nfa) => nfa.start_state(Anchored::No),
        };
        start.expect("it is built for searches that are not anchored")
    }
}

/// Whether what ends at `at` may still be something else, once more of the text has come.
fn may_change(text: Text<'_>, at: usize) -> bool {
    text.grown.is_some_and(|grown| {
        let whole = grown.at + grown.now.map_or(0, char::len_utf8);
        at > whole || at > grown.at && grown.grows()
    })
}

/// The marks of words that have some of their own, by the state before them.
fn marked<A: Automaton>(
    automaton: &A,
    start: StateID,
    texts: &[String],
) -> HashMap<StateID, Vec<(Vec<char>, bool)>> {
    let is_mark = |char: &char| canonical_combining_class(*char) > 0;
    let mut marked = HashMap::<_, Vec<_>>::new();
    for text in texts.iter().filter(|text| !text.is_ascii()) {
        let (mut state, mut before) = (start, false);
        for (at, char) in text.char_indices() {
            if is_mark(&char) && !before {
                let marks: Vec<char> = text[at..].chars().take_while(is_mark).collect();
                let length: usize = marks.iter().copied().map(char::len_utf8).sum();
                let all = marked.entry(state).or_default();
                let told = (marks, at + length == text.len());
                if !all.contains(&told) {
                    all.push(told);
                }
            }
            before = is_mark(&char);
            for &byte in char.encode_utf8(&mut [0; 4]).as_bytes() {
                state = automaton.next_state(Anchored::No, state, byte);
            }
        }
    }
    marked
}

/// Follows each word through the automaton.
fn nodes<A: Automaton>(automaton: &A, start: StateID, texts: &[String]) -> Vec<(StateID, Node)> {
    let step = |state, byte| automaton.next_state(Anchored::No, state, byte);
    let mut nodes = Vec::new();
    for text in texts {
        let (mut state, mut fail) = (start, start);
        for (depth, byte) in iter::zip(1.., text.bytes()) {
            // One behind: the first byte alone has no end that is shorter.
            fail = if depth == 1 { start } else { step(fail, byte) };
            state = step(state, byte);
            let goes_on = depth < text.len();
            nodes.push((
                state,
                Node {
                    depth,
                    fail,
                    goes_on,
                },
            ));
        }
    }
    // Of one state those are first that go on.
    nodes.sort_unstable_by_key(|(state, node)| (*state, !node.goes_on));
    nodes.dedup_by_key(|(state, _)| *state);
    nodes.shrink_to_fit();
    nodes
}

/// Up to so many words have every step of theirs in a table; more would take too much memory.
const FEW: usize = 2000;
