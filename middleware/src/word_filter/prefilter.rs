//! Finds the places where a word may begin, many bytes at a time.

use std::collections::BTreeSet;

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

use super::text::Text;

/// What the first bytes of words are like. It lets pass more than begins a word, never less.
pub(super) struct Prefilter {
    /// Bytes that a word may begin with, in any case.
    starts: [bool; 256],
    /// A word begins only where no letter stands before it, and with a letter.
    left: bool,
    /// The first bytes of words, up to the first that is no ASCII, one to eight; of those with more than four, these four as well.
    heads: Heads,
    /// How many of them there are in words that begin with two bytes, by [`pair`].
    pairs: Box<[Lengths; PAIRS]>,
}

/// Numbers of first bytes: a bit for each, one lowest.
#[derive(Clone, Copy, Debug, Default)]
struct Lengths {
    all: u8,
    /// Those of which some words have more, or want no letter behind them.
    open: u8,
}

/// First bytes of words, as bits at their hashes.
struct Heads {
    bits: Box<[u64]>,
    shift: u32,
}

// ===== impl Prefilter =====

impl Prefilter {
    /// A filter for words that were folded if they are to be.
    ///
    /// Each comes with whether it wants an edge on its right.
    pub(super) fn new<'w>(
        words: impl Iterator<Item = (&'w str, bool)>,
        folded: bool,
        left: bool,
    ) -> Self {
        let mut starts = [false; 256];
        let mut keys = BTreeSet::new();
        let mut pairs = Box::new([Lengths::default(); PAIRS]);
        for (word, right) in words {
            if let Some(first) = word.chars().next() {
                for char in alike(first, folded) {
                    starts[usize::from(char.encode_utf8(&mut [0; 4]).as_bytes()[0])] = true;
                }
            }
            let ascii = word.bytes().take(HEAD).take_while(u8::is_ascii).count();
            if ascii > 0 {
                let mut head = [0; HEAD];
                head[..ascii].copy_from_slice(&word.as_bytes()[..ascii]);
                let head = u64::from_le_bytes(head);
                keys.insert(key(head, ascii));
                // Behind a single one anything may stand.
                let at = pair(head);
                let at = match ascii {
                    1 => at & !LOW..(at | LOW) + 1,
                    _ => at..at + 1,
                };
                let length = 1 << (ascii - 1);
                for lengths in &mut pairs[at] {
                    lengths.all |= length;
                    if ascii < word.len() || !right {
                        lengths.open |= length;
                    }
                }
                if ascii > HALF {
                    keys.insert(half(head));
                }
            }
        }
        Self {
            starts,
            left,
            heads: Heads::new(&keys),
            pairs,
        }
    }

    /// The next place from `at` on where a word may begin, or the end of the text.
    pub(super) fn skip(&self, text: Text<'_>, at: usize) -> usize {
        let bytes = text.text.as_bytes();
        if self.left {
            return self.skip_words(bytes, at);
        }
        let begins =
            |at: &usize| self.starts[usize::from(bytes[*at])] && self.passes(&bytes[*at..]);
        (at..bytes.len()).find(begins).unwrap_or(bytes.len())
    }

    /// The same, where words begin with letters behind what is none: eight bytes at a time.
    fn skip_words(&self, bytes: &[u8], mut at: usize) -> usize {
        let before = at.checked_sub(1).map(|before| bytes[before]);
        // Whether a letter stands before.
        let mut letter = before.map_or(0, |byte| letters(byte.into()) & 1);
        let begins = |at: usize| self.starts[usize::from(bytes[at])] && self.passes(&bytes[at..]);
        while at < bytes.len() {
            let rest = &bytes[at..];
            let (eight, length) = match rest.first_chunk::<8>() {
                Some(eight) => (u64::from_le_bytes(*eight), 8),
                None => {
                    let mut eight = [0; 8];
                    eight[..rest.len()].copy_from_slice(rest);
                    (u64::from_le_bytes(eight), rest.len())
                }
            };
            let here = letters(eight);
            let foreign = gathered(eight & HIGH);
            let mut first = (here | foreign) & !(here << 1 | letter);
            while first != 0 {
                let place = at + first.trailing_zeros() as usize;
                if place < at + length && begins(place) {
                    return place;
                }
                first &= first - 1;
            }
            letter = here >> 7;
            at += length;
        }
        at
    }

    /// Whether the first bytes of `text` are those of a word.
    fn passes(&self, text: &[u8]) -> bool {
        let Some(head) = text.first_chunk::<HEAD>() else {
            return true;
        };
        let head = u64::from_le_bytes(*head);
        if head & (HIGH >> (8 * HALF)) != 0 {
            return true;
        }
        let Lengths { all, open } = self.pairs[pair(head)];
        if all == 0 {
            return false;
        }
        let has = |mut lengths: u8| {
            while lengths != 0 {
                if self
                    .heads
                    .has(key(head, lengths.trailing_zeros() as usize + 1))
                {
                    return true;
                }
                lengths &= lengths - 1;
            }
            false
        };
        // The bit of a number is that of the byte behind so many, less one. A letter that folds to ASCII has more bytes than the
        // word's, so behind it nothing stands where it does in the word.
        let exact = if head & HIGH == 0 { u8::MAX } else { SHORT };
        let inside = (letters(head) >> 1) as u8 & exact;
        let lengths = all & (open | !inside);
        let (short, long) = (lengths & SHORT, lengths & !SHORT);
        has(short) || long != 0 && self.heads.has(half(head)) && (head & HIGH != 0 || has(long))
    }
}

// ===== impl Heads =====

impl Heads {
    fn new(keys: &BTreeSet<u64>) -> Self {
        // One in sixteen bits or less.
        let log = (keys.len() * 16).next_power_of_two().ilog2().clamp(10, 20);
        let mut heads = Self {
            bits: vec![0; 1 << (log - 6)].into(),
            shift: 64 - log,
        };
        for &key in keys {
            let hash = heads.hash(key);
            heads.bits[hash / 64] |= 1 << (hash % 64);
        }
        heads
    }

    fn has(&self, key: u64) -> bool {
        let hash = self.hash(key);
        self.bits[hash / 64] >> (hash % 64) & 1 == 1
    }

    fn hash(&self, key: u64) -> usize {
        // Knuth's multiplicative hashing, by the golden ratio.
        (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }
}

/// The first `len` bytes, in one case, whatever is no letter, and how many they are.
fn key(head: u64, len: usize) -> u64 {
    let mark = if len < HEAD { (len as u64) << 56 } else { 0 };
    (head | (EACH * 0x20)) & (u64::MAX >> (8 * (HEAD - len))) | mark
}

/// Where the first two bytes have their place, in whatever case; some others have it, too.
fn pair(head: u64) -> usize {
    let [first, second, ..] = head.to_le_bytes().map(|byte| usize::from(byte) & LOW);
    first * (LOW + 1) + second
}

/// The first four of more; no number of bytes is as high as its mark, and no byte in one case as low.
fn half(head: u64) -> u64 {
    key(head, HALF) | 1 << 60
}

/// Which of eight bytes are letters, digits or `_` of ASCII: a bit for each, the first lowest.
fn letters(eight: u64) -> u64 {
    let low = eight & !HIGH;
    // Sums of seven bits, each in its byte, whose high bit says that one is at least so much.
    let least = |of: u64, least: u8| of + EACH * u64::from(0x80 - least);
    let small = low | (EACH * 0x20);
    let letter = least(small, b'a') & !least(small, b'z' + 1);
    let digit = least(low, b'0') & !least(low, b'9' + 1);
    let line = !least(low ^ (EACH * u64::from(b'_')), 1);
    gathered((letter | digit | line) & !eight & HIGH)
}

/// The high bits of eight bytes, the first lowest.
fn gathered(high: u64) -> u64 {
    // Each is moved to its place in the last byte.
    (high >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

/// The characters that fold to this one.
fn alike(char: char, folded: bool) -> Vec<char> {
    let mut class = ClassUnicode::new([ClassUnicodeRange::new(char, char)]);
    if folded {
        class.case_fold_simple();
    }
    class
        .iter()
        .flat_map(|range| range.start()..=range.end())
        .collect()
}

/// How many bytes of a word are looked at, and how many of them first.
const HEAD: usize = 8;
const HALF: usize = 4;
/// The bits of as many and fewer.
const SHORT: u8 = (1 << HALF) - 1;
/// The bits that letters differ in, and how many pairs there are of them.
const LOW: usize = 0x1f;
const PAIRS: usize = (LOW + 1) * (LOW + 1);

/// One, and the high bit, in each of eight bytes.
const EACH: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x80 * EACH;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::word_filter::text::Before;

    #[test]
    fn letters_are_told_from_all_other_bytes_wherever_they_stand() {
        for byte in 0..=u8::MAX {
            let is = byte.is_ascii_alphanumeric() || byte == b'_';
            for place in 0..8 {
                for around in [0, b'a', 0xff] {
                    let mut eight = [around; 8];
                    eight[place] = byte;
                    let told = letters(u64::from_le_bytes(eight)) >> place & 1 == 1;
                    assert_eq!(told, is, "{byte}");
                }
            }
        }
    }

    fn folded(text: &str) -> String {
        text.chars().map(crate::word_filter::fold::fold).collect()
    }

    /// The first place from `from` on where a word begins, and the place that the filter tells.
    fn first_and_told(
        words: &[String],
        text: &str,
        from: usize,
        [left, right]: [bool; 2],
    ) -> [usize; 2] {
        let each = words.iter().map(|word| (word.as_str(), right));
        let prefilter = Prefilter::new(each, true, left);
        let shown = Text {
            text,
            before: Before::default(),
            over: true,
            grown: None,
        };
        // As the edge of a word is told: the long s and the Kelvin sign are letters, too.
        let letter = |char: char| char.is_alphanumeric() || char == '_';
        let begins = |at: &usize| {
            let (before, behind) = text.split_at(*at);
            let joined = left && before.chars().next_back().is_some_and(letter);
            let folded = folded(behind);
            let ends = |rest: &str| !(right && rest.starts_with(letter));
            let mut rests = words
                .iter()
                .filter_map(|word| folded.strip_prefix(word.as_str()));
            !joined && rests.any(ends)
        };
        let mut places = (from..text.len()).filter(|at| text.is_char_boundary(*at));
        let first = places.find(begins).unwrap_or(text.len());
        [first, prefilter.skip(shown, from)]
    }

    /// Words and what is none, some letters of them written as others that fold to them.
    fn text_of_words() -> impl Strategy<Value = (Vec<String>, String)> {
        let words = prop::collection::vec("[aks]{1,10}", 1..5);
        let piece = (
            any::<prop::sample::Index>(),
            any::<u16>(),
            "[ak_ .]{0,4} ?",
            0u8..3,
        );
        let text = (words, prop::collection::vec(piece, 0..6));
        text.prop_map(|(words, pieces)| {
            let mut text = String::new();
            for (at, spelled, between, odd) in pieces {
                let chars = words[at.index(words.len())].chars().enumerate();
                text.extend(
                    chars.map(|(place, char)| match (char, spelled >> place & 1, odd) {
                        ('k', 1, 0) => '\u{212a}',
                        ('s', 1, 0) => '\u{17f}',
                        (char, 1, 1) => char.to_ascii_uppercase(),
                        (char, ..) => char,
                    }),
                );
                text += &between;
            }
            (words, text)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// No place is passed over where a word begins.
        #[test]
        fn every_place_where_a_word_begins_is_come_to(
            words in prop::collection::vec("[abkß\u{212a}]{1,10}", 1..6),
            text in "[abkKß \u{212a}.]{0,60}",
            from in 0usize..60,
            edges in any::<[bool; 2]>(),
        ) {
            let words: Vec<String> = words.iter().map(|word| folded(word)).collect();
            let from = text.floor_char_boundary(from);
            let [first, told] = first_and_told(&words, &text, from, edges);
            prop_assert!(told <= first && text.is_char_boundary(told), "{} for {}", told, first);
            if words.iter().all(|word| word.len() > 8 && word.is_ascii()) && text.is_ascii() && first + 8 < text.len() {
                prop_assert!(told == first || text.len() - told < 8 || words.iter().any(|word| folded(&text[told..]).starts_with(&word[..8])));
            }
        }

        /// However the letters of a word are written.
        #[test]
        fn a_word_is_come_to_in_every_spelling(
            (words, text) in text_of_words(),
            from in 0usize..20,
            edges in any::<[bool; 2]>(),
        ) {
            let from = text.floor_char_boundary(from);
            let [first, told] = first_and_told(&words, &text, from, edges);
            prop_assert!(told <= first && text.is_char_boundary(told), "{} for {} in {:?}", told, first, text);
        }
    }
}
