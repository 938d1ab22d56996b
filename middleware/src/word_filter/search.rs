use std::{cmp::Ordering, iter};

use super::{
    normal::Normal,
    rules::{Action, Form, RuleIndex, Rules, Tool},
    text::{Before, Candidate, Text},
};

/// The search over one text that comes in pieces.
///
/// It keeps what is not decided yet: text in which something may still begin, no longer than the longest thing to find.
#[derive(Clone, Debug, Default)]
pub(super) struct Search {
    /// The text from `decided` on, if anything reads it as it came.
    pending: String,
    /// Bytes of text before it.
    decided: u64,
    /// Bytes of text that have come.
    taken: u64,
    before: Before,
    /// The same text in the forms that rules read besides. Boxed: most rules read none.
    normal: Option<Box<Normals>>,
}

/// A text in normal forms.
#[derive(Clone, Debug, Default)]
struct Normals {
    plain: Option<Normal>,
    folded: Option<Normal>,
}

/// What was found in a text, in bytes from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) rule: RuleIndex,
}

/// What the tools find next, each, in bytes from where the text is decided.
struct Round<'a> {
    text: Text<'a>,
    normal: Option<&'a Normals>,
    decided: u64,
    tools: &'a [Tool],
    next: Vec<Option<Candidate>>,
}

// ===== impl Search =====

impl Search {
    /// A search that has seen nothing.
    pub(super) fn new(rules: &Rules) -> Self {
        let reads = |form, folded| rules.reads(form).then(|| Normal::new(folded));
        let normal = Normals {
            plain: reads(Form::Normal, false),
            folded: reads(Form::Folded, true),
        };
        let any = normal.plain.is_some() || normal.folded.is_some();
        Self {
            normal: any.then(|| Box::new(normal)),
            ..Self::default()
        }
    }

    /// Takes the next piece of the text, decoded. What is found and can no longer change is added to `found`, in order and
    /// not overlapping: the leftmost first, of those that begin together the longest. Where rules of different actions
    /// overlap, the stronger action wins.
    pub(super) fn push(&mut self, rules: &Rules, piece: &str, found: &mut Vec<Match>) {
        if rules.is_empty() {
            self.decided += piece.len() as u64;
            self.taken = self.decided;
            return;
        }
        if self.normal.is_none() {
            return self.piece(rules, piece, found);
        }
        // The forms of a long text take no more memory than those of a short one.
        let mut rest = piece;
        while !rest.is_empty() {
            let (next, after) = rest.split_at(rest.floor_char_boundary(CHUNK));
            self.piece(rules, next, found);
            rest = after;
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
        self.taken
    }

    fn piece(&mut self, rules: &Rules, piece: &str, found: &mut Vec<Match>) {
        if let Some(normal) = &mut self.normal {
            normal.each(|normal| normal.push(piece, self.taken));
        }
        self.taken += piece.len() as u64;
        if !rules.reads(Form::Plain) {
            self.search(rules, "", false, found);
        } else if self.pending.is_empty() {
            let at = self.search(rules, piece, false, found);
            self.before.pass(&piece[..at]);
            self.pending.push_str(&piece[at..]);
        } else {
            self.pending.push_str(piece);
            self.take(rules, false, found);
        }
    }

    fn take(&mut self, rules: &Rules, over: bool, found: &mut Vec<Match>) {
        let mut pending = std::mem::take(&mut self.pending);
        let at = self.search(rules, &pending, over, found);
        let at = at.min(pending.len());
        self.before.pass(&pending[..at]);
        pending.drain(..at);
        self.pending = pending;
    }

    /// Searches what begins where everything is decided; how much of it is decided then.
    fn search(&mut self, rules: &Rules, text: &str, over: bool, found: &mut Vec<Match>) -> usize {
        let round = Round {
            text: Text {
                text,
                before: self.before,
                over,
                grown: None,
            },
            normal: self.normal.as_deref(),
            decided: self.decided,
            tools: rules.tools(),
            next: Vec::new(),
        };
        let all = usize::try_from(self.taken - self.decided).unwrap_or(usize::MAX);
        let at = round.decide(all, found);
        self.decided += at as u64;
        if let Some(normal) = &mut self.normal {
            normal.each(|normal| normal.forget(self.decided));
        }
        at
    }
}

// ===== impl Normals =====

impl Normals {
    fn each(&mut self, on: impl FnMut(&mut Normal)) {
        self.plain.iter_mut().chain(&mut self.folded).for_each(on);
    }
}

// ===== impl Round =====

impl Round<'_> {
    /// Tells what is found in the text, of which so much is not decided; how much of that is decided then.
    fn decide(mut self, all: usize, found: &mut Vec<Match>) -> usize {
        // What is clean costs no more than looking at it.
        let mut tools = self.tools.iter().enumerate();
        let first = tools.find_map(|(at, tool)| Some((at, self.find(tool, 0)?)));
        let Some((clean, first)) = first else {
            return all;
        };
        let rest = tools.map(|(_, tool)| self.find(tool, 0));
        let rest: Vec<_> = iter::repeat_n(None, clean)
            .chain([Some(first)])
            .chain(rest)
            .collect();
        self.next = rest;
        while let Some((first, best)) = self.winner() {
            let Some(end) = best.end else {
                return first;
            };
            found.push(Match {
                start: self.decided + best.start as u64,
                end: self.decided + end as u64,
                rule: best.rule,
            });
            self.pass(end);
        }
        all
    }

    /// What a tool finds from a place on.
    fn find(&self, tool: &Tool, from: usize) -> Option<Candidate> {
        let normal = match tool.form {
            Form::Plain => return tool.engine.next(self.text, from),
            Form::Normal => self.normal?.plain.as_ref()?,
            Form::Folded => self.normal?.folded.as_ref()?,
        };
        let least = self.decided + from as u64;
        let place = |at: u64| usize::try_from(at - self.decided).unwrap_or(usize::MAX);
        let mut at = normal.first(least);
        loop {
            let found = tool.engine.next(normal.text(self.text.over), at)?;
            let Some(end) = found.end else {
                let start = normal.least(found.start).max(least);
                return Some(Candidate::open(place(start)));
            };
            let (start, end) = normal.place(found.start..end);
            if start >= least {
                let (start, end) = (place(start), Some(place(end)));
                return Some(Candidate {
                    start,
                    end,
                    ..found
                });
            }
            // A mark of it came before.
            at = normal.behind(found.start);
        }
    }

    /// What is decided on next, and where the first of what it was chosen from begins.
    fn winner(&self) -> Option<(usize, Candidate)> {
        let all = || {
            let all = self.tools.iter().zip(&self.next);
            all.filter_map(|(tool, next)| next.map(|next| (tool.action, next)))
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
        for which in 0..self.tools.len() {
            if self.next[which].is_some_and(|next| next.start < at) {
                self.next[which] = self.find(&self.tools[which], at);
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

/// So many bytes of a text are in a normal form at once, and what was pending.
const CHUNK: usize = 64 * 1024;
