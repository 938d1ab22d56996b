//! The end of a text, which may still become something else.

use unicode_normalization::char::canonical_combining_class;

use super::chars::{composed, composites, marks, sort};

/// The last character of a text that goes on, and the marks behind it that it has not taken in: what follows may make another
/// character of it, or put other marks between.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Grown {
    /// Where it begins in the text.
    pub(in super::super) at: usize,
    /// The character as it is now; none where the text begins with marks.
    pub(in super::super) now: Option<char>,
    /// The character without any marks.
    base: Option<char>,
    /// The marks, decomposed and in canonical order.
    marks: Vec<char>,
}

impl Grown {
    /// Of a segment that begins at `at`: decomposed, in canonical order.
    pub(in super::super) fn new(at: usize, segment: impl IntoIterator<Item = char>) -> Self {
        let mut segment = segment.into_iter().peekable();
        let base = segment.next_if(|char| canonical_combining_class(*char) == 0);
        let mut grown = Self {
            at,
            now: None,
            base,
            marks: segment.collect(),
        };
        grown.now = base.and_then(|_| grown.with(std::iter::empty()).first().copied());
        grown
    }

    /// Whether nothing that follows changes it.
    pub(super) fn is_settled(&self) -> bool {
        self.marks.is_empty() && self.base.is_none_or(|base| composites(base).is_empty())
    }

    /// Whether what follows may make another character of it.
    pub(in super::super) fn grows(&self) -> bool {
        let mut any = false;
        self.each(|char, _| any |= char != self.now);
        any
    }

    /// Every character that it may become, as it is now first, each with the marks that stay behind it.
    pub(in super::super) fn each(&self, mut on: impl FnMut(Option<char>, &[char])) {
        let Some(base) = self.base else {
            return on(None, &self.marks);
        };
        if self.marks.is_empty() {
            on(Some(base), &[]);
            let all = composites(base).iter();
            return all.for_each(|char| on(Some(*char), &[]));
        }
        let now = self.with(std::iter::empty());
        on(self.now, &now[1..]);
        if let Some(syllable @ '가'..='힣') = self.now {
            // A syllable without a last consonant may get one (chapter 3.12 of the standard).
            let open = self.marks.len() == 1
                && (u32::from(syllable) - FIRST_SYLLABLE).is_multiple_of(LAST_CONSONANTS);
            let more = if open { 1..LAST_CONSONANTS } else { 0..0 };
            let all = more.filter_map(|last| char::from_u32(u32::from(syllable) + last));
            return all.for_each(|char| on(Some(char), &[]));
        }
        for char in composites(base) {
            if Some(*char) == self.now {
                continue;
            }
            let mut own = self.marks.clone();
            let more = marks(*char).filter(|mark| match own.iter().position(|it| it == mark) {
                Some(at) => {
                    own.remove(at);
                    false
                }
                None => true,
            });
            let more: Vec<char> = more.collect();
            let then = self.with(more);
            if then.first() == Some(char) {
                on(Some(*char), &then[1..]);
            }
        }
    }

    /// It and its marks, with these behind.
    fn with(&self, more: impl IntoIterator<Item = char>) -> Vec<char> {
        let mut all: Vec<(char, ())> = self
            .base
            .iter()
            .chain(&self.marks)
            .map(|it| (*it, ()))
            .collect();
        all.extend(more.into_iter().map(|it| (it, ())));
        sort(&mut all);
        let mut out = Vec::new();
        composed(all, |(), ()| {}, &mut out);
        out.into_iter().map(|(char, ())| char).collect()
    }
}

/// Whether marks may come to be `marks`, or to begin with them, by more marks that come.
pub(in super::super) fn reach(now: &[char], marks: &[char], begin: bool) -> bool {
    let class = |char: &char| canonical_combining_class(*char);
    let last = marks.last().map_or(0, class);
    // One class at a time: in one they stay in the order in which they came.
    now.iter().all(|mark| {
        let of = |all: &[char]| -> Vec<char> {
            let all = all.iter().filter(|it| class(it) == class(mark));
            all.copied().collect()
        };
        let (now, then) = (of(now), of(marks));
        then.starts_with(&now)
            || begin && (class(mark) > last || class(mark) == last && now.starts_with(&then))
    })
}

/// Hangul syllables begin here, and come with each last consonant, and first without.
const FIRST_SYLLABLE: u32 = 0xac00;
const LAST_CONSONANTS: u32 = 28;
