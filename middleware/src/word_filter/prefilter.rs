//! Finds the places where a word may begin, many bytes at a time.

use std::collections::BTreeSet;

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

use super::text::Text;

/// What the first bytes of words are like. It lets pass more than begins a word, never less.
pub(super) struct Prefilter {
    /// Bytes that a word may begin with, in any case.
    starts: [bool; 256],
    /// A word begins only where no letter stands before it.
    left: bool,
    /// The first bytes of words, by how many of them are ASCII: one to four.
    heads: [Option<Heads>; HEAD],
}

/// The first so many bytes of words, as bits at their hashes.
struct Heads {
    bits: Box<[u64]>,
    shift: u32,
}

// ===== impl Prefilter =====

impl Prefilter {
    /// A filter for words that were folded if they are to be.
    pub(super) fn new(words: &[String], folded: bool, left: bool) -> Self {
        let mut starts = [false; 256];
        let mut heads: [BTreeSet<u32>; HEAD] = Default::default();
        for word in words {
            if let Some(first) = word.chars().next() {
                for char in alike(first, folded) {
                    starts[usize::from(char.encode_utf8(&mut [0; 4]).as_bytes()[0])] = true;
                }
            }
            let ascii = word.bytes().take(HEAD).take_while(u8::is_ascii).count();
            if ascii > 0 {
                let mut head = [0; HEAD];
                head[..ascii].copy_from_slice(&word.as_bytes()[..ascii]);
                heads[ascii - 1].insert(key(u32::from_le_bytes(head), ascii));
            }
        }
        let heads = heads.map(|keys| (!keys.is_empty()).then(|| Heads::new(&keys)));
        Self {
            starts,
            left,
            heads,
        }
    }

    /// The next place from `at` on where a word may begin, or the end of the text.
    pub(super) fn skip(&self, text: Text<'_>, mut at: usize) -> usize {
        let bytes = text.text.as_bytes();
        let mut letter = match at.checked_sub(1) {
            Some(before) => CLASS[usize::from(bytes[before])] == LETTER,
            None => false,
        };
        while let Some(&byte) = bytes.get(at) {
            let class = CLASS[usize::from(byte)];
            if self.starts[usize::from(byte)] && !(letter && self.left) && self.passes(&bytes[at..])
            {
                return at;
            }
            letter = class == LETTER;
            at += 1;
            if self.left && letter {
                while let Some(&byte) = bytes.get(at)
                    && CLASS[usize::from(byte)] == LETTER
                {
                    at += 1;
                }
            }
        }
        at
    }

    /// Whether the first bytes of `text` are those of a word.
    fn passes(&self, text: &[u8]) -> bool {
        let Some(head) = text.first_chunk::<HEAD>() else {
            return true;
        };
        let head = u32::from_le_bytes(*head);
        if head & 0x8080_8080 != 0 {
            return true;
        }
        self.heads.iter().zip(1..).any(|(heads, len)| {
            heads
                .as_ref()
                .is_some_and(|heads| heads.has(key(head, len)))
        })
    }
}

// ===== impl Heads =====

impl Heads {
    fn new(keys: &BTreeSet<u32>) -> Self {
        // One in sixteen bits or less.
        let log = (keys.len() * 16).next_power_of_two().ilog2().clamp(10, 20);
        let mut heads = Self {
            bits: vec![0; 1 << (log - 6)].into(),
            shift: 32 - log,
        };
        for &key in keys {
            let hash = heads.hash(key);
            heads.bits[hash / 64] |= 1 << (hash % 64);
        }
        heads
    }

    fn has(&self, key: u32) -> bool {
        let hash = self.hash(key);
        self.bits[hash / 64] >> (hash % 64) & 1 == 1
    }

    fn hash(&self, key: u32) -> usize {
        // Knuth's multiplicative hashing, by the golden ratio.
        (key.wrapping_mul(0x9e37_79b9) >> self.shift) as usize
    }
}

/// The first `len` bytes, in one case, whatever is no letter.
fn key(head: u32, len: usize) -> u32 {
    (head | 0x2020_2020) & (u32::MAX >> (8 * (HEAD - len)))
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

/// What a byte is to an edge.
const CLASS: [u8; 256] = {
    let mut class = [OTHER; 256];
    let mut byte = 0;
    while byte < 0x80 {
        let it = byte as u8;
        if it.is_ascii_alphanumeric() || it == b'_' {
            class[byte] = LETTER;
        }
        byte += 1;
    }
    class
};
const OTHER: u8 = 0;
const LETTER: u8 = 1;

/// How many bytes of a word are looked at.
const HEAD: usize = 4;
