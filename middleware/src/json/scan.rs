//! The steps that checking and skipping share: over white space, the plain run of a string, a number, a whole value.

use std::array;

/// The first offset from `pos` on that holds no white space.
#[inline]
pub(super) fn space(text: &[u8], mut pos: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = text.get(pos) {
        pos += 1;
    }
    pos
}

/// The first offset from `pos` on that holds `"`, `\` or a control character, or the length of the text.
///
/// Names and words are the rule and end in their first eight bytes, so these are looked at here and the rest elsewhere.
#[inline]
pub(super) fn plain(text: &[u8], pos: usize) -> usize {
    match text.get(pos..).and_then(<[u8]>::first_chunk) {
        Some(word) => match special_in_word(u64::from_le_bytes(*word)) {
            Some(at) => pos + at,
            None => plain_steps(text, pos + WORD),
        },
        None => plain_tail(text, pos),
    }
}

/// Whether `text` is some words or less, and nothing in it special; a plain text that is longer is not found.
#[inline]
pub(super) fn is_short_and_plain(text: &[u8]) -> bool {
    const FEW: usize = 8 * WORD;
    let is_plain = |word: &[u8; WORD]| special_in_word(u64::from_le_bytes(*word)).is_none();
    match text.last_chunk() {
        // The last word may hold bytes of the one before it.
        Some(last) => {
            text.len() <= FEW && text.as_chunks().0.iter().all(is_plain) && is_plain(last)
        }
        None => !text.iter().any(|&byte| is_special(byte)),
    }
}

/// [`plain`] for strings of some length: by some words more, then by steps that become vector code, and after a while by windows.
#[inline(never)]
fn plain_steps(text: &[u8], mut pos: usize) -> usize {
    // A text of several lines is one of short runs: steps take longer to begin.
    for _ in 0..WORDS {
        let Some(word) = text.get(pos..).and_then(<[u8]>::first_chunk) else {
            return plain_tail(text, pos);
        };
        if let Some(at) = special_in_word(u64::from_le_bytes(*word)) {
            return pos + at;
        }
        pos += WORD;
    }
    let (steps, _) = text.get(pos..).unwrap_or_default().as_chunks();
    let (near, far) = steps.split_at(steps.len().min(SHORT));
    if let Some(at) = special_in_steps(near) {
        return pos + at;
    }
    let pos = pos + near.len() * STEP;
    if far.is_empty() {
        return plain_end(text, pos);
    }
    // What stops the windows is in the next one.
    let pos = plain_windows(text, pos);
    let (steps, _) = text.get(pos..).unwrap_or_default().as_chunks();
    match special_in_steps(steps) {
        Some(at) => pos + at,
        None => plain_end(text, pos + steps.len() * STEP),
    }
}

/// The index of the first special byte.
#[inline]
fn special_in_steps(steps: &[[u8; STEP]]) -> Option<usize> {
    // No early way out of the fold: it is one vector comparison.
    let special = |step: &[u8; STEP]| step.iter().fold(false, |any, &it| any | is_special(it));
    let at = steps.iter().position(special)?;
    let (words, _) = steps[at].as_chunks();
    for (number, word) in words.iter().enumerate() {
        if let Some(in_word) = special_in_word(u64::from_le_bytes(*word)) {
            return Some(at * STEP + number * WORD + in_word);
        }
    }
    None
}

/// [`plain`] for the last bytes, fewer than a step.
fn plain_end(text: &[u8], mut pos: usize) -> usize {
    while let Some(word) = text.get(pos..).and_then(<[u8]>::first_chunk) {
        if let Some(at) = special_in_word(u64::from_le_bytes(*word)) {
            return pos + at;
        }
        pos += WORD;
    }
    plain_tail(text, pos)
}

/// An offset from `pos` on before which all is plain: at the first special byte, at the end, or less than a window
/// before a control character.
///
/// The windows are for texts of which every line is asked for anew: no byte is looked at again from far away.
#[inline(never)]
fn plain_windows(text: &[u8], mut pos: usize) -> usize {
    while let Some(rest) = text.get(pos..).filter(|rest| !rest.is_empty()) {
        let window = &rest[..rest.len().min(WINDOW)];
        let found = memchr::memchr2(b'"', b'\\', window);
        let run = &window[..found.unwrap_or(window.len())];
        // No early way out here either.
        if run.iter().fold(u8::MAX, |least, &it| least.min(it)) < b' ' {
            break;
        }
        pos += run.len();
        if found.is_some() {
            break;
        }
    }
    pos
}

/// [`plain`] for the last bytes, fewer than a word.
#[inline(never)]
fn plain_tail(text: &[u8], pos: usize) -> usize {
    let left = text.len().saturating_sub(pos);
    if let Some(word) = text.last_chunk().filter(|_| left > 0) {
        // The last word of the text without what stands before `pos`; the zeros behind count as special.
        let word = u64::from_le_bytes(*word) >> (8 * (WORD - left));
        return pos + special_in_word(word).unwrap_or(left);
    }
    let rest = text.get(pos..).unwrap_or_default();
    pos + rest
        .iter()
        .position(|&byte| is_special(byte))
        .unwrap_or(left)
}

/// Finds special bytes one behind the other, as [`plain`] does: of a block of bytes all at once, since in a text of several lines they
/// are near to each other, and a search that ends somewhere else each time is what takes long.
pub(super) struct Specials<'a> {
    text: &'a [u8],
    block: usize,
    /// A bit for each special byte of the block, the lowest first.
    marks: u64,
}

impl<'a> Specials<'a> {
    /// Those from `pos` on.
    pub(super) fn new(text: &'a [u8], pos: usize) -> Self {
        Self {
            text,
            block: pos,
            marks: marks(text, pos),
        }
    }

    /// The first from `pos` on, or the length of the text; `pos` is no less than the time before.
    #[inline]
    pub(super) fn find(&mut self, pos: usize) -> usize {
        let passed = pos - self.block;
        if passed < BLOCK {
            let left = self.marks >> passed;
            if left != 0 {
                return pos + left.trailing_zeros() as usize;
            }
        }
        self.find_on(pos)
    }

    /// The same of what is behind the block.
    #[inline]
    fn find_on(&mut self, pos: usize) -> usize {
        for _ in 0..BLOCKS {
            // Where the next block begins does not hang on where this one's last byte was: a processor goes ahead.
            self.block += BLOCK;
            self.marks = marks(self.text, self.block);
            let passed = pos.saturating_sub(self.block);
            if passed < BLOCK {
                let left = self.marks >> passed;
                if left != 0 {
                    return self.block + passed + left.trailing_zeros() as usize;
                }
            }
        }
        self.find_far(pos)
    }

    /// In a long line.
    #[inline(never)]
    fn find_far(&mut self, pos: usize) -> usize {
        let found = plain(self.text, pos.max(self.block + BLOCK));
        *self = Self::new(self.text, found);
        found
    }
}

/// A bit for each special byte of a block. The end of the text is one.
#[inline]
fn marks(text: &[u8], pos: usize) -> u64 {
    match text.get(pos..).and_then(<[u8]>::first_chunk) {
        Some(block) => marks_of(block),
        None => marks_at_end(text, pos),
    }
}

#[cold]
#[inline(never)]
fn marks_at_end(text: &[u8], pos: usize) -> u64 {
    let rest = text.get(pos..).unwrap_or_default();
    // Zeros are special.
    let mut block = [0; BLOCK];
    block[..rest.len()].copy_from_slice(rest);
    marks_of(&block)
}

#[inline]
fn marks_of(block: &[u8; BLOCK]) -> u64 {
    // Vector code, and then the bits of each word gathered in its last byte.
    let flags: [u8; BLOCK] = array::from_fn(|at| u8::from(is_special(block[at])));
    let (words, _) = flags.as_chunks();
    // No one waits for the one before.
    let marks = |(at, word): (usize, &[u8; WORD])| {
        let gathered = u64::from_le_bytes(*word).wrapping_mul(0x0102_0408_1020_4080);
        (gathered & 0xff << 56) >> (56 - 8 * at)
    };
    words
        .iter()
        .enumerate()
        .map(marks)
        .fold(0, |all, marks| all | marks)
}

/// The end of the string whose opening quote stands at `pos`, or None if it has no end or holds a control character.
#[inline]
pub(super) fn string(text: &[u8], pos: usize) -> Option<usize> {
    let pos = plain(text, pos + 1);
    match text.get(pos)? {
        b'"' => Some(pos + 1),
        b'\\' => escaped(text, pos),
        _ => None,
    }
}

/// [`string`] from its first escape on.
#[inline(never)]
fn escaped(text: &[u8], mut pos: usize) -> Option<usize> {
    let mut specials = Specials::new(text, pos);
    loop {
        match text.get(pos)? {
            b'"' => return Some(pos + 1),
            // Whatever follows a backslash is no closing quote; a control character there is caught as a bad escape
            // when the string is decoded.
            b'\\' => pos = specials.find(pos + 2),
            _ => return None,
        }
    }
}

/// The end of the number that begins at `pos`, or the offset of the byte that the grammar does not allow there.
pub(super) fn number(text: &[u8], pos: usize) -> Result<usize, usize> {
    let mut pos = pos + usize::from(text.get(pos) == Some(&b'-'));
    match text.get(pos) {
        Some(b'0') => {
            pos += 1;
            if text.get(pos).is_some_and(u8::is_ascii_digit) {
                return Err(pos);
            }
        }
        _ => pos = digits(text, pos)?,
    }
    if text.get(pos) == Some(&b'.') {
        pos = digits(text, pos + 1)?;
    }
    if let Some(b'e' | b'E') = text.get(pos) {
        pos += 1;
        pos += usize::from(matches!(text.get(pos), Some(b'+' | b'-')));
        pos = digits(text, pos)?;
    }
    Ok(pos)
}

/// The end of the value that begins at `pos`, or None if no value does.
///
/// Of an array or object only strings and the match of brackets are looked at, brackets down to [`MATCHED`] levels.
pub(super) fn value(text: &[u8], pos: usize) -> Option<usize> {
    match text.get(pos)? {
        b'"' => string(text, pos),
        b'{' | b'[' => container(text, pos),
        b'-' | b'0'..=b'9' => number(text, pos).ok(),
        b't' => literal(text, pos, b"true"),
        b'f' => literal(text, pos, b"false"),
        b'n' => literal(text, pos, b"null"),
        _ => None,
    }
}

fn container(text: &[u8], mut pos: usize) -> Option<usize> {
    let mut depth = 0;
    // One bit for each of the outermost brackets that are open, the innermost lowest: 1 is an object.
    let mut objects = 0_u128;
    loop {
        match text.get(pos)? {
            b'"' => {
                pos = string(text, pos)?;
                continue;
            }
            open @ (b'{' | b'[') => {
                depth += 1;
                if depth <= MATCHED {
                    objects = objects << 1 | u128::from(*open == b'{');
                }
            }
            close @ (b'}' | b']') => {
                if depth <= MATCHED {
                    if (objects & 1 == 1) != (*close == b'}') {
                        return None;
                    }
                    objects >>= 1;
                }
                depth -= 1;
                if depth == 0 {
                    return Some(pos + 1);
                }
            }
            _ => {}
        }
        pos += 1;
    }
}

fn literal(text: &[u8], pos: usize, word: &[u8]) -> Option<usize> {
    text[pos..].starts_with(word).then_some(pos + word.len())
}

#[inline]
fn digits(text: &[u8], pos: usize) -> Result<usize, usize> {
    let mut end = pos;
    while text.get(end).is_some_and(u8::is_ascii_digit) {
        end += 1;
    }
    if end == pos { Err(pos) } else { Ok(end) }
}

/// A control character, a quote or a backslash.
///
/// The quote is the one character before `#` that is neither space nor `!`: with its second bit flipped it comes right
/// behind the control characters, and they stay where they are.
#[inline]
fn is_special(byte: u8) -> bool {
    // No short circuit: this is the body of a vector loop.
    (byte ^ FLIP).saturating_sub(b' ').min(byte ^ b'\\') == 0
}

/// The index of the first special byte of a word, the lowest byte being the first.
///
/// The zero-in-word test of Bit Twiddling Hacks ("Determine if a word has a byte less than n"): a borrow can only make
/// bytes above a match look like one, so the lowest mark is exact. Quotes and control characters as in [`is_special`].
#[inline]
fn special_in_word(word: u64) -> Option<usize> {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGH: u64 = ONES * 0x80;
    let low = (word ^ (ONES * u64::from(FLIP))).wrapping_sub(ONES * (u64::from(b' ') + 1));
    let backslash = (word ^ (ONES * u64::from(b'\\'))).wrapping_sub(ONES);
    let marks = (low | backslash) & !word & HIGH;
    (marks != 0).then(|| marks.trailing_zeros() as usize / 8)
}

/// `"` is `b' ' ^ FLIP`.
const FLIP: u8 = b'"' ^ b' ';
/// Bytes of a word.
const WORD: usize = 8;
/// Words of a string, behind the first one, before steps pay.
const WORDS: usize = 4;
/// Bytes of a vector that every x86-64 and aarch64 has.
const STEP: usize = 16;
/// Steps of a string before windows pay.
const SHORT: usize = 4;
/// Bytes of which the special ones are told at once: a bit of a word for each.
const BLOCK: usize = 64;
/// Blocks without any before a line is a long one.
const BLOCKS: usize = 4;
/// Bytes looked at in one step of a long string.
const WINDOW: usize = 1024;
/// Brackets nested deeper are counted but not told apart, so that the memory is two words.
const MATCHED: usize = 128;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytewise(text: &[u8], pos: usize) -> usize {
        (pos..text.len())
            .find(|&at| matches!(text[at], 0..0x20 | b'"' | b'\\'))
            .unwrap_or(text.len())
    }

    #[test]
    fn every_byte_is_plain_or_special_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            for place in 0..100 {
                let mut text = [b'!'; 100];
                text[place] = byte;
                assert_eq!(
                    plain(&text, 0),
                    bytewise(&text, 0),
                    "byte {byte} at {place}"
                );
            }
        }
    }

    #[test]
    fn no_text_with_a_special_byte_is_short_and_plain() {
        for length in 0..80 {
            let mut text = vec![0xc3; length];
            assert_eq!(is_short_and_plain(&text), length <= 64, "length {length}");
            for place in 0..length {
                for byte in [0, b'\n', 0x1f, b'"', b'\\'] {
                    text[place] = byte;
                    assert!(!is_short_and_plain(&text), "{byte} at {place} of {length}");
                }
                text[place] = 0xc3;
            }
        }
    }

    #[test]
    fn a_special_byte_is_found_in_texts_of_every_length() {
        for length in 0..4 * WINDOW {
            let mut text = vec![b'#'; length];
            assert_eq!(plain(&text, 0), length);
            text.extend([b'\n', b'"', b'\\', 0]);
            for last in length + 1..=text.len() {
                assert_eq!(plain(&text[..last], 0), length);
            }
            text.extend([b'#'; 2 * WINDOW]);
            assert_eq!(plain(&text, 0), length);
        }
        assert_eq!(
            plain(b"long enough", 12),
            12,
            "from behind the end nothing is found"
        );
    }

    proptest! {
        #[test]
        fn special_bytes_are_found_one_behind_the_other(
            runs in prop::collection::vec((0..400_usize, any::<u8>(), 0..100_usize), 0..12),
            from in 0..100_usize,
            filler in 0x80..=u8::MAX,
        ) {
            let mut text = vec![filler; from];
            for (length, byte, _) in &runs {
                text.resize(text.len() + length, filler);
                text.push(*byte);
            }
            let mut specials = Specials::new(&text, from);
            let mut pos = from;
            // Some are stepped over, as what an escape is made of.
            for (_, _, skipped) in runs {
                let found = specials.find(pos);
                prop_assert_eq!(found, bytewise(&text, pos));
                pos = (found + skipped).min(text.len());
            }
            prop_assert_eq!(specials.find(text.len() + 7), text.len() + 7);
        }

        #[test]
        fn the_first_special_byte_is_found_from_anywhere(
            runs in prop::collection::vec((0..3000_usize, any::<u8>()), 1..5),
            from in any::<prop::sample::Index>(),
            filler in 0x80..=u8::MAX,
        ) {
            let mut text = Vec::new();
            for (length, byte) in runs {
                text.resize(text.len() + length, filler);
                text.push(byte);
            }
            let from = from.index(text.len() + 1);
            prop_assert_eq!(plain(&text, from), bytewise(&text, from));
        }
    }
}
