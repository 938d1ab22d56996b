//! The normal form of a path: what everybody behind reads alike, whatever he undoes of its writing.

use std::ops::Range;

use super::malformed;
use crate::{
    dialect::{Recognised, Surface},
    error::Rejection,
};

/// Checks a path (without its query). `recognise` tells what a path is, and is asked only about unusual ones.
///
/// # Errors
///
/// A path that is not in normal form.
pub(super) fn check(path: &str, recognise: impl Fn(&str) -> Recognised) -> Result<(), Rejection> {
    let found = scan(path.as_bytes());
    if found == 0 {
        return Ok(());
    }
    if !path.starts_with('/') {
        return Err(malformed("the request's target is no path"));
    }
    if found & BAD != 0 {
        return Err(malformed(BAD_CHARACTER));
    }
    if found & (SEGMENT | DOT) != 0 {
        segments(path)?;
    }
    if found & ESCAPE != 0 {
        return escaped(path, recognise);
    }
    if found & UPPER != 0 || path.ends_with('/') {
        spelled(path, &recognise(path), &recognise)?;
    }
    Ok(())
}

/// A path with percent-encoding, which is undone in the decoded text exactly once.
fn escaped(path: &str, recognise: impl Fn(&str) -> Recognised) -> Result<(), Rejection> {
    let Some(decoded) = decode(path) else {
        return Err(malformed(BAD_ESCAPE));
    };
    if decoded.bytes().any(ends_path) {
        return Err(malformed(BAD_CHARACTER));
    }
    if hides_escapes(decoded.as_bytes()) {
        return Err(malformed(
            "the path is percent-encoded twice; encode it once",
        ));
    }
    segments(&decoded)?;
    let recognised = recognise(path);
    let name = name(path, &recognised);
    let outside = [&path[..name.start], &path[name.end..]];
    if outside.into_iter().any(hides_plain) {
        let told = "the path encodes what needs no encoding: `/`, a letter, a digit, `-`, `.`, `_` or `~`; send it as it is";
        return Err(malformed(told));
    }
    let plain = recognise(&decoded);
    if !same((path, &recognised), (&decoded, &plain)) {
        return Err(malformed(
            "the path means something else once it is decoded",
        ));
    }
    spelled(&decoded, &plain, recognise)
}

/// No segment is empty but the last, and none leads upwards.
fn segments(path: &str) -> Result<(), Rejection> {
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." | ".." => {
                let told = "the path has a segment `.` or `..`; send the path that is meant";
                return Err(malformed(told));
            }
            "" if segments.peek().is_some() => {
                let told = "the path has an empty segment, `//`: does the client's base URL end with a slash too many?";
                return Err(malformed(told));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A path without percent-encoding that is no known surface, or ends with a slash, may be one to a provider that is less
/// strict.
fn spelled(
    path: &str,
    recognised: &Recognised,
    recognise: impl Fn(&str) -> Recognised,
) -> Result<(), Rejection> {
    let trimmed = path.trim_end_matches('/');
    let slash = trimmed.len() < path.len() && !trimmed.is_empty();
    let known = matches!(recognised, Recognised::Surface(_));
    if known && !slash {
        return Ok(());
    }
    let lower = trimmed.to_ascii_lowercase();
    let surface = |path: &str| matches!(recognise(path), Recognised::Surface(_));
    if known || slash && surface(trimmed) || lower != trimmed && surface(&lower) {
        let told = "the path is nearly one that is served: send it in lower case and without a slash at its end";
        return Err(malformed(told));
    }
    Ok(())
}

/// Where a model's name may stand: there, and nowhere else, slashes may be encoded.
fn name(path: &str, recognised: &Recognised) -> Range<usize> {
    let none = path.len()..path.len();
    match recognised {
        Recognised::Surface(surface) => surface.model.clone().unwrap_or(none),
        // A model that is deleted, or asked for in another way than by its description.
        Recognised::Prefixed(prefix) if path[prefix.end..].starts_with(MODELS) => {
            prefix.end + MODELS.len()..path.len()
        }
        _ => none,
    }
}

const MODELS: &str = "/models/";

/// Whether a path and its decoded text are the same to us.
fn same((path, one): (&str, &Recognised), (decoded, other): (&str, &Recognised)) -> bool {
    let prefix = |one: &Range<usize>, other: &Range<usize>| {
        decode(&path[one.clone()]).as_deref() == Some(&decoded[other.clone()])
    };
    match (one, other) {
        (Recognised::Surface(one), Recognised::Surface(other)) => {
            let kind = |it: &Surface| (it.dialect, it.operation, it.stream);
            let model = |it: &Surface, text: &str| it.model_in(text).map(|it| it.into_owned());
            kind(one) == kind(other)
                && prefix(&one.prefix, &other.prefix)
                && model(one, path) == model(other, decoded)
        }
        (Recognised::Prefixed(one), Recognised::Prefixed(other)) => prefix(one, other),
        (Recognised::Wrong(one), Recognised::Wrong(other)) => one == other,
        (Recognised::Unknown, Recognised::Unknown) => true,
        _ => false,
    }
}

/// Undoes percent-encoding; `None` if an escape is malformed, or hides what is not UTF-8.
fn decode(path: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte != b'%' {
            decoded.push(*byte);
            continue;
        }
        let (escape, tail) = rest.split_first_chunk()?;
        decoded.push(unescaped(*escape)?);
        rest = tail;
    }
    String::from_utf8(decoded).ok()
}

fn unescaped([high, low]: [u8; 2]) -> Option<u8> {
    let digit = |hex: u8| char::from(hex).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// The bytes that the escapes of a text hide. A malformed one ends them.
fn hidden(text: &[u8]) -> impl Iterator<Item = u8> {
    memchr::memchr_iter(b'%', text).map_while(|at| {
        let (escape, _) = text[at + 1..].split_first_chunk()?;
        unescaped(*escape)
    })
}

/// Whether a text that was decoded could be decoded again.
fn hides_escapes(decoded: &[u8]) -> bool {
    memchr::memchr_iter(b'%', decoded).any(|at| {
        let escape = decoded[at + 1..].first_chunk();
        escape.is_some_and(|escape| unescaped(*escape).is_some())
    })
}

/// Whether something is encoded that stands for itself.
fn hides_plain(text: &str) -> bool {
    hidden(text.as_bytes()).any(|byte| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte))
}

/// What no path may hold, however it is written: it would end it, or cut it into other segments.
fn ends_path(byte: u8) -> bool {
    byte.is_ascii_control() || b"\\;?#".contains(&byte)
}

const BAD_CHARACTER: &str = "the path holds a character that servers read differently: `\\`, `;`, an encoded `?` or `#`, \
                             a control character, or one that has to be percent-encoded";
const BAD_ESCAPE: &str = "the path holds a `%` that is no escape, or escapes that are not UTF-8";

// What a byte is. A path of which all bytes are nothing is normal.

const UPPER: u8 = 1;
const ESCAPE: u8 = 2;
const BAD: u8 = 4;
/// A dot, or a slash, where a segment begins; or a slash at the end.
const DOT: u8 = 8;
const SEGMENT: u8 = 16;
const LEADING: u8 = DOT | SEGMENT;
/// A target that does not begin with a slash.
const NO_PATH: u8 = 32;

const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'A'..=b'Z' => UPPER,
            b'%' => ESCAPE,
            b'.' => DOT,
            b'/' => SEGMENT,
            b'\\' | b';' | 0..=b' ' | 0x7f.. => BAD,
            _ => 0,
        };
        byte += 1;
    }
    classes
};

/// All that is unusual about a path.
fn scan(path: &[u8]) -> u8 {
    let [b'/', rest @ ..] = path else {
        return NO_PATH;
    };
    let mut found = 0;
    let mut leading = true;
    for byte in rest {
        let class = CLASSES[usize::from(*byte)];
        found |= if leading { class } else { class & !LEADING };
        leading = *byte == b'/';
    }
    // The path `/` ends with the slash that it begins with.
    if leading && !rest.is_empty() {
        found | SEGMENT
    } else {
        found
    }
}

#[cfg(test)]
mod tests;
