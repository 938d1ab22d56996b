//! What a number is worth as an integer, however it is written.

/// The whole number that a JSON number stands for; None if it has a fraction, is negative or is over `u64::MAX`.
///
/// `number` must be written as JSON writes numbers. Nothing is rounded on the way.
pub(super) fn whole(number: &[u8]) -> Option<u64> {
    // What nearly all are: digits that cannot be too many.
    if number.len() < 20 && number.iter().all(u8::is_ascii_digit) {
        let digits = number.iter().map(|digit| u64::from(digit - b'0'));
        return Some(digits.fold(0, |value, digit| value * 10 + digit));
    }
    let (negative, number) = match number {
        [b'-', number @ ..] => (true, number),
        number => (false, number),
    };
    let (mantissa, exponent) = match memchr::memchr2(b'e', b'E', number) {
        Some(at) => (&number[..at], exponent(&number[at + 1..])),
        None => (number, 0),
    };
    let (integer, fraction) = match memchr::memchr(b'.', mantissa) {
        Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
        None => (mantissa, &[][..]),
    };
    let digit = |at: usize| {
        if at < integer.len() {
            integer[at]
        } else {
            fraction[at - integer.len()]
        }
    };
    let digits = integer.len() + fraction.len();
    let Some(first) = (0..digits).find(|&at| digit(at) != b'0') else {
        return Some(0);
    };
    let last = (first..digits).rfind(|&at| digit(at) != b'0')?;
    // The value is the digits first..=last times ten to the power of `shift`.
    let shift = exponent.saturating_add(signed(integer.len()) - signed(last) - 1);
    if negative || shift < 0 || signed(last - first).saturating_add(shift) >= DIGITS {
        return None;
    }
    let value = (first..=last).try_fold(0_u64, |value, at| {
        value
            .checked_mul(10)?
            .checked_add(u64::from(digit(at) - b'0'))
    })?;
    (0..shift).try_fold(value, |value, _| value.checked_mul(10))
}

/// An exponent, held at the ends of the range: what is beyond is out of any number's reach.
fn exponent(text: &[u8]) -> i64 {
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] | digits => (1, digits),
    };
    digits.iter().fold(0_i64, |value, byte| {
        value
            .saturating_mul(10)
            .saturating_add(sign * i64::from(byte - b'0'))
    })
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// `u64::MAX` has 20 digits.
const DIGITS: i64 = 20;
