//! Text in a normal form of Unicode (UAX #15), with the place of every character in what it was made of.
//!
//! The form is NFKC without default-ignorable characters; folded, it is what Unicode calls `NFKC_Casefold`. Text comes in pieces.
//! Its last character may take in marks that follow, and marks are put in order: what of the text may still change is
//! [told](Normal::grown), so that nobody takes it for settled.

mod chars;
mod grown;

#[cfg(test)]
pub(super) mod tests;

use self::chars::{composed, is_boundary, mapped, sort};
pub(super) use self::grown::{Grown, reach};
use super::text::{Before, Text};

/// A text that goes on, in its normal form.
#[derive(Clone, Debug)]
pub(super) struct Normal {
    folded: bool,
    /// What is settled, and behind it what may change.
    text: String,
    runs: Vec<Run>,
    /// How much of both is settled.
    settled: (usize, usize),
    /// What stands before the text.
    before: Before,
    /// The last segment, as it came, decomposed.
    segment: Vec<Part>,
    grown: Option<Grown>,
}

/// A decomposed character, with the place of what it was made of.
type Part = (char, Place);

/// Bytes of a text, from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    start: u64,
    end: u64,
}

/// A character, or several in a row that are ASCII and were.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Where it begins in the normal form.
    at: usize,
    place: Place,
    /// Where the first begins of all that stand from here on: marks may be in another order than they came in.
    least: u64,
    ascii: bool,
}

// ===== impl Normal =====

impl Normal {
    /// A text that has not begun; in one case, if it is `folded`.
    pub(super) fn new(folded: bool) -> Self {
        Self {
            folded,
            text: String::new(),
            runs: Vec::new(),
            settled: (0, 0),
            before: Before::default(),
            segment: Vec::new(),
            grown: None,
        }
    }

    /// The normal form of a whole text.
    pub(super) fn of(text: &str, folded: bool) -> String {
        let mut normal = Self::new(folded);
        normal.push(text, 0);
        normal.text
    }

    /// Takes the next piece of the text, which begins there.
    pub(super) fn push(&mut self, piece: &str, mut at: u64) {
        self.text.truncate(self.settled.0);
        self.runs.truncate(self.settled.1);
        let mut rest = piece;
        while let Some(char) = rest.chars().next() {
            let ascii = rest.bytes().take_while(u8::is_ascii).count();
            let len = match ascii {
                0 | 1 => char.len_utf8(),
                // The last of them may take in what follows.
                many => many - 1,
            };
            if ascii > 1 {
                self.ascii(&rest[..len], at);
            } else {
                self.char(char, at);
            }
            at += len as u64;
            rest = &rest[len..];
        }
        self.render();
    }

    /// What it is now; nothing of it may change once the text is over.
    pub(super) fn text(&self, over: bool) -> Text<'_> {
        Text {
            text: &self.text,
            before: self.before,
            over,
            grown: if over { None } else { self.grown.as_ref() },
        }
    }

    /// Where that begins of which nothing stands before `from` in what it was made of.
    pub(super) fn seek(&self, from: u64) -> usize {
        let behind = self.runs.partition_point(|run| run.least < from);
        // A run that has begun before goes on.
        if let Some(run) = behind.checked_sub(1).and_then(|at| self.runs.get(at))
            && run.ascii
            && run.place.end > from
        {
            return run.at + inside(from - run.place.start);
        }
        self.runs.get(behind).map_or(self.text.len(), |run| run.at)
    }

    /// Where the first character begins that was not made of anything before `from`; others may follow.
    pub(super) fn first(&self, from: u64) -> usize {
        let behind = self.seek(from);
        let end = self.runs.partition_point(|run| run.at < behind);
        let segment = self.runs[..end].iter().rev().take(LONGEST);
        let early = segment.take_while(|run| !run.ascii);
        let first = early.filter(|run| run.place.start >= from).last();
        first.map_or(behind, |run| run.at)
    }

    /// Where the character ends that begins at `at`.
    pub(super) fn behind(&self, at: usize) -> usize {
        let char = self.text[at..].chars().next();
        at + char.map_or(1, char::len_utf8)
    }

    /// Before this place in what it was made of stands nothing that is at `at` or behind.
    pub(super) fn least(&self, at: usize) -> u64 {
        let (_, run) = self.run(at);
        match run.ascii {
            true => run.place.start + (at - run.at) as u64,
            false => run.least,
        }
    }

    /// All that `at` was made of, which is not empty.
    pub(super) fn place(&self, at: std::ops::Range<usize>) -> (u64, u64) {
        let (first, run) = self.run(at.start);
        if run.ascii && at.end <= run.at + inside(run.place.end - run.place.start) {
            let start = run.place.start + (at.start - run.at) as u64;
            return (start, start + (at.end - at.start) as u64);
        }
        let (mut start, mut end) = (u64::MAX, 0);
        for run in self.runs[first..].iter().take_while(|run| run.at < at.end) {
            let (from, to) = match run.ascii {
                true => {
                    let from = at.start.max(run.at) - run.at;
                    let to = (at.end - run.at) as u64;
                    let to = run.place.end.min(run.place.start + to);
                    (run.place.start + from as u64, to)
                }
                false => (run.place.start, run.place.end),
            };
            (start, end) = (start.min(from), end.max(to));
        }
        (start, end)
    }

    /// Forgets what stands before that, but for what may still change.
    pub(super) fn forget(&mut self, before: u64) {
        let cut = self.seek(before).min(self.settled.0);
        if cut == 0 {
            return;
        }
        self.before.pass(&self.text[..cut]);
        self.text.drain(..cut);
        let over = self.runs.partition_point(|run| run.at < cut);
        // The last of them may reach beyond.
        let last = over - 1;
        let run = &mut self.runs[last];
        let gone = if run.ascii && run.at + inside(run.place.end - run.place.start) > cut {
            run.place.start += (cut - run.at) as u64;
            run.least = run.place.start;
            run.at = cut;
            last
        } else {
            over
        };
        self.runs.drain(..gone);
        self.runs.iter_mut().for_each(|run| run.at -= cut);
        self.settled = (self.settled.0 - cut, self.settled.1 - gone);
        if let Some(grown) = &mut self.grown {
            grown.at -= cut;
        }
    }

    /// The run that a place is in, and which.
    fn run(&self, at: usize) -> (usize, Run) {
        let behind = self.runs.partition_point(|run| run.at <= at);
        let which = behind.saturating_sub(1);
        (which, self.runs[which])
    }

    fn char(&mut self, char: char, at: u64) {
        let place = Place {
            start: at,
            end: at + char.len_utf8() as u64,
        };
        let mut first = true;
        mapped(char, self.folded, |char| {
            if std::mem::take(&mut first) && (is_boundary(char) || self.segment.len() >= LONGEST) {
                // Closed: nothing that comes changes it.
                Self::close(&mut self.segment, &mut self.text, &mut self.runs);
            }
            self.segment.push((char, place));
        });
    }

    /// More than one character of ASCII, none of which takes in anything.
    fn ascii(&mut self, text: &str, at: u64) {
        Self::close(&mut self.segment, &mut self.text, &mut self.runs);
        let from = self.text.len();
        self.text.push_str(text);
        if self.folded {
            self.text[from..].make_ascii_lowercase();
        }
        self.runs.push(Run {
            at: from,
            place: Place {
                start: at,
                end: at + text.len() as u64,
            },
            least: at,
            ascii: true,
        });
    }

    /// Shows the last segment as it would be if nothing followed.
    fn render(&mut self) {
        self.settled = (self.text.len(), self.runs.len());
        if let [(char, place)] = self.segment[..] {
            let at = self.text.len();
            self.runs.push(Run::of(at, place));
            self.text.push(char);
            let grown = Grown::new(at, [char]);
            self.grown = (!grown.is_settled()).then_some(grown);
            return;
        }
        let mut segment = self.segment.clone();
        Self::close(&mut segment, &mut self.text, &mut self.runs);
        self.grown = self.changes();
    }

    /// What of the last segment may still change.
    fn changes(&self) -> Option<Grown> {
        // Whatever stands before the last of those that begin one has settled.
        let from = self
            .segment
            .iter()
            .rposition(|(char, _)| is_boundary(*char));
        let mut last = self.segment[from.unwrap_or(0)..].to_vec();
        sort(&mut last);
        let mut shown = Vec::new();
        composed(last.iter().copied(), Place::join, &mut shown);
        let length: usize = shown.iter().map(|(char, _)| char.len_utf8()).sum();
        let at = self.text.len() - length;
        let grown = Grown::new(at, last.into_iter().map(|(char, _)| char));
        (length > 0 && !grown.is_settled()).then_some(grown)
    }

    /// Appends a segment as it is, and begins another one.
    fn close(segment: &mut Vec<Part>, text: &mut String, runs: &mut Vec<Run>) {
        if segment.is_empty() {
            return;
        }
        sort(segment);
        let mut shown = Vec::with_capacity(segment.len());
        composed(segment.drain(..), Place::join, &mut shown);
        let (mut least, first) = (u64::MAX, runs.len());
        for (char, place) in &shown {
            runs.push(Run::of(text.len(), *place));
            text.push(*char);
        }
        for run in runs[first..].iter_mut().rev() {
            least = least.min(run.place.start);
            run.least = least;
        }
    }
}

// ===== impl Run =====

impl Run {
    /// One character.
    fn of(at: usize, place: Place) -> Self {
        Self {
            at,
            place,
            least: place.start,
            ascii: false,
        }
    }
}

// ===== impl Place =====

impl Place {
    /// Of a character that takes in another one.
    fn join(&mut self, other: Self) {
        self.start = self.start.min(other.start);
        self.end = self.end.max(other.end);
    }
}

fn inside(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// So many characters are one segment at most, decomposed. No script has that many marks on a letter: UAX #15 has 30 of them
/// (Stream-Safe Text Format).
const LONGEST: usize = 64;
