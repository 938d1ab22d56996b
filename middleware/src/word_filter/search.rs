use std::cmp::Ordering;

use super::{
    engine::Engine,
    rules::{Action, RuleIndex, Rules},
    text::{Before, Candidate, Text},
};

/// The search over one text that comes in pieces.
///
/// It keeps what is not decided yet: text in which something may still begin, no longer than the longest thing to find.
#[derive(Clone, Debug, Default)]
pub(super) struct Search {
    /// The text from `decided` on.
    pending: String,
    /// Bytes of text before it.
    decided: u64,
    before: Before,
}

/// What was found in a text, in bytes from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) rule: RuleIndex,
}

/// What the engines find next, each.
struct Round<'a> {
    text: Text<'a>,
    engines: &'a [(Action, Engine)],
    next: Vec<Option<Candidate>>,
}

// ===== impl Search =====

impl Search {
    /// A search that has seen nothing.
    pub(super) fn new(_rules: &Rules) -> Self {
        Self::default()
    }

    /// Takes the next piece of the text, decoded. What is found and can no longer change is added to `found`, in order and
    /// not overlapping: the leftmost first, of those that begin together the longest. Where rules of different actions
    /// overlap, the stronger action wins.
    pub(super) fn push(&mut self, rules: &Rules, piece: &str, found: &mut Vec<Match>) {
        if rules.is_empty() {
            self.decided += piece.len() as u64;
            return;
        }
        if self.pending.is_empty() {
            let at = self.search(rules, piece, false, found);
            self.before.pass(&piece[..at]);
            self.pending.push_str(&piece[at..]);
        } else {
            self.pending.push_str(piece);
            self.take(rules, false, found);
        }
    }

    /// The text has ended: what was pending is decided.
    pub(super) fn finish(&mut self, rules: &Rules, found: &mut Vec<Match>) {
        self.take(rules, true, found);
    }

    /// How much of the text is decided, in bytes: no continuation completes a match that begins before. It is all that
    /// was taken if no continuation can complete any.
    pub(super) fn decided(&self) -> u64 {
        self.decided
    }

    /// How much of the text was taken, in bytes.
    pub(super) fn taken(&self) -> u64 {
        self.decided + self.pending.len() as u64
    }

    fn take(&mut self, rules: &Rules, over: bool, found: &mut Vec<Match>) {
        let mut pending = std::mem::take(&mut self.pending);
        let at = self.search(rules, &pending, over, found);
        self.before.pass(&pending[..at]);
        pending.drain(..at);
        self.pending = pending;
    }

    /// Searches what begins where everything is decided; how much of it is decided then.
    fn search(&mut self, rules: &Rules, text: &str, over: bool, found: &mut Vec<Match>) -> usize {
        let text = Text {
            text,
            before: self.before,
            over,
        };
        let from = self.decided;
        let at = search(rules, text, &mut |start, end, rule| {
            let (start, end) = (from + start as u64, from + end as u64);
            found.push(Match { start, end, rule });
        });
        self.decided += at as u64;
        at
    }
}

/// Tells what is found in a text; how much of it is decided.
pub(super) fn search(
    rules: &Rules,
    text: Text<'_>,
    on: &mut dyn FnMut(usize, usize, RuleIndex),
) -> usize {
    let engines = rules.engines();
    // What is clean costs no more than looking at it.
    if engines.len() > 1
        || engines
            .iter()
            .any(|(_, engine)| engine.next(text, 0).is_some())
    {
        Round::new(engines, text).run(on)
    } else {
        text.text.len()
    }
}

// ===== impl Round =====

impl<'a> Round<'a> {
    fn new(engines: &'a [(Action, Engine)], text: Text<'a>) -> Self {
        let next = engines.iter().map(|(_, engine)| engine.next(text, 0));
        Self {
            text,
            engines,
            next: next.collect(),
        }
    }

    fn run(&mut self, on: &mut dyn FnMut(usize, usize, RuleIndex)) -> usize {
        while let Some((first, found)) = self.winner() {
            let Some(end) = found.end else {
                return first;
            };
            on(found.start, end, found.rule);
            self.pass(end);
        }
        self.text.text.len()
    }

    /// What is decided on next, and where the first of what it was chosen from begins.
    fn winner(&self) -> Option<(usize, Candidate)> {
        let all = || {
            let all = self.engines.iter().zip(&self.next);
            all.filter_map(|((action, _), next)| next.map(|next| (*action, next)))
        };
        let (mut action, mut best) = all().min_by(|one, other| prefer(*one, *other))?;
        let first = best.start;
        // What a stronger one overlaps gives way to it.
        while let Some(end) = best.end {
            let stronger = all().filter(|(it, next)| *it > action && next.start < end);
            match stronger.min_by(|one, other| prefer(*one, *other)) {
                Some(found) => (action, best) = found,
                None => break,
            }
        }
        Some((first, best))
    }

    /// Goes on behind `at`.
    fn pass(&mut self, at: usize) {
        for ((_, engine), next) in self.engines.iter().zip(&mut self.next) {
            if next.is_some_and(|next| next.start < at) {
                *next = engine.next(self.text, at);
            }
        }
    }
}

/// The leftmost first, then the stronger action, then what is not decided, then the longest.
fn prefer(
    (action, one): (Action, Candidate),
    (other_action, other): (Action, Candidate),
) -> Ordering {
    let end = |it: Candidate| it.end.unwrap_or(usize::MAX);
    one.start
        .cmp(&other.start)
        .then(other_action.cmp(&action))
        .then(end(other).cmp(&end(one)))
}
