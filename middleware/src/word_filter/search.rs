use super::{
    fold::fold,
    rules::{RuleIndex, Rules, Word},
    whole::Edge,
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

/// What stands before a place in a text.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    /// The last character that is no mark; none at the beginning.
    base: Option<char>,
}

/// What comes of one beginning.
enum Here {
    Nothing,
    Matches(usize),
    /// What follows decides.
    Open,
}

// ===== impl Search =====

impl Search {
    /// A search that has seen nothing.
    pub(super) fn new(_rules: &Rules) -> Self {
        Self::default()
    }

    /// Takes the next piece of the text, decoded. What is found and can no longer change is added to `found`: in order,
    /// not overlapping, the leftmost first, of those that begin together the longest, of those the strongest action.
    pub(super) fn push(&mut self, rules: &Rules, piece: &str, found: &mut Vec<Match>) {
        if rules.is_empty() {
            self.decided += piece.len() as u64;
            return;
        }
        self.pending.push_str(piece);
        self.decide(rules, false, found);
    }

    /// The text has ended: what was pending is decided.
    pub(super) fn finish(&mut self, rules: &Rules, found: &mut Vec<Match>) {
        self.decide(rules, true, found);
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

    fn decide(&mut self, rules: &Rules, over: bool, found: &mut Vec<Match>) {
        let text = &self.pending;
        let (mut at, mut before) = (0, self.before);
        while let Some(char) = text[at..].chars().next() {
            let mut best = None;
            let mut open = false;
            for word in rules.words() {
                match here(word, &text[at..], before, over) {
                    Here::Nothing => {}
                    Here::Matches(len) => {
                        let strength = (len, rules.action(word.rule));
                        if best.is_none_or(|(most, _)| strength > most) {
                            best = Some((strength, word.rule));
                        }
                    }
                    Here::Open => open = true,
                }
            }
            if open {
                break;
            }
            let len = best.map_or(char.len_utf8(), |((len, _), _)| len);
            if let Some((_, rule)) = best {
                let start = self.decided + at as u64;
                let end = start + len as u64;
                found.push(Match { start, end, rule });
            }
            before.pass(&text[at..at + len]);
            at += len;
        }
        self.pending.drain(..at);
        self.decided += at as u64;
        self.before = before;
    }
}

// ===== impl Before =====

impl Before {
    fn pass(&mut self, text: &str) {
        let base = text
            .chars()
            .rev()
            .find(|char| Edge::of(*char) != Edge::Mark);
        self.base = base.or(self.base);
    }
}

/// What comes of `word` at the beginning of `text`.
fn here(word: &Word, text: &str, before: Before, over: bool) -> Here {
    if word.left && before.base.is_some_and(|char| Edge::of(char).joins_right()) {
        return Here::Nothing;
    }
    let mut left = text.chars();
    for expected in &word.chars {
        match left.next() {
            None if over => return Here::Nothing,
            None => return Here::Open,
            Some(char) if word.folded && fold(char) != *expected => return Here::Nothing,
            Some(char) if !word.folded && char != *expected => return Here::Nothing,
            Some(_) => {}
        }
    }
    let len = text.len() - left.as_str().len();
    if !word.right {
        return Here::Matches(len);
    }
    match left.map(Edge::of).find(|edge| *edge != Edge::Mark) {
        Some(edge) if edge.joins_left() => Here::Nothing,
        None if !over => Here::Open,
        _ => Here::Matches(len),
    }
}
