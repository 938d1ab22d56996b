//! The steps that checking and skipping share: over white space, the plain run of a string, a number, a whole value.

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
/// Short strings are the rule and go by words; a long one goes by blocks that the compiler turns into vector code.
#[inline]
pub(super) fn plain(text: &[u8], mut pos: usize) -> usize {
    let short = pos + SHORT;
    while let Some(word) = text.get(pos..).and_then(<[u8]>::first_chunk) {
        if let Some(at) = special_in_word(*word) {
            return pos + at;
        }
        pos += word.len();
        if pos >= short {
            pos = plain_blocks(text, pos);
            break;
        }
    }
    while let Some(word) = text.get(pos..).and_then(<[u8]>::first_chunk) {
        if let Some(at) = special_in_word(*word) {
            return pos + at;
        }
        pos += word.len();
    }
    let rest = text.get(pos..).unwrap_or_default();
    pos + rest
        .iter()
        .position(|&byte| is_special(byte))
        .unwrap_or(rest.len())
}

/// An offset from `pos` on before which all is plain: at or a little before the first special byte.
fn plain_blocks(text: &[u8], pos: usize) -> usize {
    let rest = &text[pos..];
    let run = &rest[..memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len())];
    // No early way out: each block is a vector loop.
    let control = |block: &&[u8; BLOCK]| block.iter().fold(0, |or, &it| or | u8::from(it < 0x20));
    let (blocks, _) = run.as_chunks::<BLOCK>();
    match blocks.iter().position(|block| control(&block) != 0) {
        Some(block) => pos + block * BLOCK,
        None => pos + blocks.len() * BLOCK,
    }
}

/// The end of the string whose opening quote stands at `pos`, or None if it has no end or holds a control character.
#[inline]
pub(super) fn string(text: &[u8], pos: usize) -> Option<usize> {
    let mut pos = plain(text, pos + 1);
    loop {
        match text.get(pos)? {
            b'"' => return Some(pos + 1),
            // Whatever follows a backslash is no closing quote; a control character there is caught as a bad escape
            // when the string is decoded.
            b'\\' => pos = plain(text, pos + 2),
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

#[inline]
fn is_special(byte: u8) -> bool {
    // No short circuit: this is the body of a vector loop.
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

/// The index of the first special byte of a word.
///
/// The zero-in-word test of Bit Twiddling Hacks ("Determine if a word has a byte less than n"): a borrow can only make
/// bytes above a match look like one, so the lowest mark is exact.
#[inline]
fn special_in_word(word: [u8; 8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGH: u64 = ONES * 0x80;
    let word = u64::from_le_bytes(word);
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGH;
    let marks = below(word, 0x20)
        | below(word ^ (ONES * u64::from(b'"')), 1)
        | below(word ^ (ONES * u64::from(b'\\')), 1);
    (marks != 0).then(|| marks.trailing_zeros() as usize / 8)
}

/// Strings longer than this go by blocks.
const SHORT: usize = 32;
/// Bytes looked at in one step of a long string.
const BLOCK: usize = 64;
/// Brackets nested deeper are counted but not told apart, so that the memory is two words.
const MATCHED: usize = 128;
