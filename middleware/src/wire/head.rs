//! Whether a request head is one that every HTTP/1.1 implementation understands alike, and what follows it.

use super::{Limits, Refusal};

/// How the end of a request is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
}

/// Judges the head at the beginning of `bytes`: where it ends, the empty line included, and what follows it; `None` if it
/// is not whole. What cannot become good is refused at once.
pub(super) fn judge(bytes: &[u8], limits: &Limits) -> Result<Option<(usize, Framing)>, Refusal> {
    // What is beyond the limit is not looked at.
    let text = &bytes[..bytes.len().min(limits.head)];
    match read(text, limits) {
        Ok(None) if bytes.len() > limits.head => Err(too_large(bytes, limits.target)),
        read => read,
    }
}

/// What to say of a head that is over the limit.
fn too_large(bytes: &[u8], target: usize) -> Refusal {
    let line = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
    if line > target {
        Refusal::uri_too_long()
    } else {
        Refusal::head_too_large()
    }
}

fn read(text: &[u8], limits: &Limits) -> Result<Option<(usize, Framing)>, Refusal> {
    // RFC 9112 section 2.2: an empty line before the first one is ignored.
    let mut pos = if text.starts_with(b"\r\n") { 2 } else { 0 };
    let Some(end) = line_end(text, pos)? else {
        return Ok(None);
    };
    let start = start_line(&text[pos..end], limits.target)?;
    pos = end + 2;
    let mut seen = Seen::default();
    let mut count = 0;
    loop {
        match text.get(pos..) {
            Some([b'\r', b'\n', ..]) => break,
            Some([] | [b'\r']) | None => return Ok(None),
            Some(_) => {}
        }
        let colon = name_end(text, pos);
        match text.get(colon) {
            Some(b':') if colon > pos => {}
            Some(_) => return Err(FIELD),
            None => return Ok(None),
        }
        let Some(end) = line_end(text, colon + 1)? else {
            return Ok(None);
        };
        count += 1;
        if count > limits.headers {
            return Err(Refusal::head_too_large());
        }
        seen.take(&text[pos..colon], &text[colon + 1..end])?;
        pos = end + 2;
    }
    Ok(Some((pos + 2, seen.settle(&start)?)))
}

/// Where the line ends that goes on at `pos`: before the first control character that is no tab, which must be the
/// return of a CR LF (RFC 9110 section 5.5); `None` if that has not come.
#[inline]
fn line_end(text: &[u8], mut pos: usize) -> Result<Option<usize>, Refusal> {
    loop {
        pos = skip(text, pos, controls);
        match text.get(pos..).unwrap_or_default() {
            [] | [b'\r'] => return Ok(None),
            [b'\r', b'\n', ..] => return Ok(Some(pos)),
            [b'\r' | b'\n', ..] => return Err(LINES),
            [byte, ..] if byte.is_ascii_control() && *byte != b'\t' => return Err(CONTROL),
            _ => pos += 1,
        }
    }
}

/// Where the name ends that goes on at `pos`: before the first character that no name has.
#[inline]
fn name_end(text: &[u8], mut pos: usize) -> usize {
    loop {
        pos = skip(text, pos, unusual);
        match text.get(pos) {
            Some(byte) if TOKEN[usize::from(*byte)] => pos += 1,
            _ => return pos,
        }
    }
}

const WORD: usize = 8;

/// On by whole words from `pos`, to the first byte that `marks` marks, or to less than a word before the end.
#[inline]
fn skip(text: &[u8], mut pos: usize, marks: impl Fn(u64) -> u64) -> usize {
    while let Some(word) = text.get(pos..).and_then(<[u8]>::first_chunk) {
        let marks = marks(u64::from_le_bytes(*word));
        if marks != 0 {
            return pos + marks.trailing_zeros() as usize / 8;
        }
        pos += WORD;
    }
    pos
}

const ONES: u64 = u64::MAX / 0xff;
const HIGH: u64 = ONES * 0x80;

/// For bytes below 0x80: the high bit of each tells whether it is at least `least`.
#[inline]
const fn at_least(bytes: u64, least: u8) -> u64 {
    bytes + ONES * (0x80 - least) as u64
}

/// The high bit of each byte that is a control character of ASCII, tabs included.
#[inline]
fn controls(word: u64) -> u64 {
    let low = word & !HIGH;
    // A byte from 0x80 on is none.
    (!at_least(low, 0x20) | at_least(low, 0x7f)) & !word & HIGH
}

/// The high bit of each byte that is no letter, digit or hyphen, as nearly all of a name are.
#[inline]
fn unusual(word: u64) -> u64 {
    let low = word & !HIGH;
    let letter = low | (ONES * 0x20);
    let letters = at_least(letter, b'a') & !at_least(letter, b'z' + 1);
    let digits = at_least(low, b'0') & !at_least(low, b'9' + 1);
    let hyphens = !at_least(low ^ (ONES * u64::from(b'-')), 1);
    (!(letters | digits | hyphens) | word) & HIGH
}

struct Start<'a> {
    method: &'a [u8],
    /// The authority of a target in absolute form.
    authority: Option<&'a [u8]>,
    is_11: bool,
}

fn start_line(line: &[u8], longest: usize) -> Result<Start<'_>, Refusal> {
    const START: Refusal = Refusal::malformed("the request line is not of HTTP/1.1");
    let gap = memchr::memchr(b' ', line).ok_or(START)?;
    let (method, rest) = (&line[..gap], &line[gap + 1..]);
    if method.is_empty() || !method.iter().all(u8::is_ascii_uppercase) {
        return Err(Refusal::malformed("the method is not a word in upper case"));
    }
    let gap = memchr::memchr(b' ', rest).ok_or(START)?;
    let (target, version) = (&rest[..gap], &rest[gap + 1..]);
    let is_11 = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        _ => return Err(START),
    };
    if matches!(method, b"CONNECT" | b"TRACE") {
        return Err(Refusal::method());
    }
    if target.len() > longest {
        return Err(Refusal::uri_too_long());
    }
    const FORM: Refusal =
        Refusal::malformed("the request target holds a character that has to be percent-encoded");
    let odd = |byte: &u8| !byte.is_ascii_graphic() || b"#<>`\"".contains(byte);
    if target.iter().any(odd) {
        return Err(FORM);
    }
    let authority = match target {
        [b'/', ..] => None,
        b"*" if method == b"OPTIONS" => None,
        _ => Some(authority_of(target)?),
    };
    Ok(Start {
        method,
        authority,
        is_11,
    })
}

fn authority_of(target: &[u8]) -> Result<&[u8], Refusal> {
    const ABSOLUTE: Refusal =
        Refusal::malformed("the request target is neither a path nor the address of this host");
    let scheme = |name: &'static [u8]| {
        let (own, rest) = target.split_at_checked(name.len())?;
        own.eq_ignore_ascii_case(name).then_some(rest)
    };
    let rest = scheme(b"http://")
        .or_else(|| scheme(b"https://"))
        .ok_or(ABSOLUTE)?;
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
    Ok(&rest[..end.unwrap_or(rest.len())])
}

/// The headers that say whom the request is for, and where it ends.
#[derive(Default)]
struct Seen<'a> {
    host: Option<&'a [u8]>,
    length: Option<u64>,
    chunked: bool,
}

impl<'a> Seen<'a> {
    fn take(&mut self, name: &[u8], value: &'a [u8]) -> Result<(), Refusal> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                let host = trimmed(value);
                if self.host.replace(host).is_some() || !is_host(host) {
                    return Err(HOST);
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = number(trimmed(value)).ok_or(LENGTH)?;
                if self.length.replace(length).is_some() {
                    return Err(LENGTH);
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                let is_chunked = trimmed(value).eq_ignore_ascii_case(b"chunked");
                if !is_chunked || std::mem::replace(&mut self.chunked, true) {
                    return Err(CODING);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn settle(&self, start: &Start<'_>) -> Result<Framing, Refusal> {
        match (self.host, start.authority) {
            (None, None) if start.is_11 => return Err(HOST),
            (host, Some(authority)) => {
                let same = host.is_some_and(|host| host.eq_ignore_ascii_case(authority));
                if !same {
                    return Err(HOST);
                }
            }
            _ => {}
        }
        match (self.length, self.chunked) {
            (Some(_), true) => Err(BOTH),
            (None, true) if !start.is_11 => Err(CODING),
            (None, true) => Ok(Framing::Chunked),
            (Some(length), false) => Ok(Framing::Length(length)),
            (None, false) => {
                let has_body = matches!(start.method, b"POST" | b"PUT" | b"PATCH");
                if has_body && !start.is_11 {
                    // Its end could only be that of the connection.
                    return Err(LENGTH);
                }
                Ok(Framing::Length(0))
            }
        }
    }
}

/// A header's value without the white space around it (RFC 9110 section 5.6.3).
fn trimmed(value: &[u8]) -> &[u8] {
    let mut value = value;
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Digits and nothing else, of a number that no implementation cuts.
fn number(text: &[u8]) -> Option<u64> {
    // 19 digits could be over 2^63.
    if !(1..=18).contains(&text.len()) {
        return None;
    }
    text.iter().try_fold(0, |number: u64, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| number * 10 + u64::from(digit))
    })
}

/// `host [":" port]` (RFC 9110 section 7.2), the host a name of the DNS, an IPv4 address, or an IPv6 address in brackets.
fn is_host(text: &[u8]) -> bool {
    let (host, port) = match text {
        [b'[', rest @ ..] => {
            let Some(end) = memchr::memchr(b']', rest) else {
                return false;
            };
            let is_address = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
            if !(2..=45).contains(&end) || !rest[..end].iter().all(is_address) {
                return false;
            }
            match &rest[end + 1..] {
                [] => return true,
                [b':', port @ ..] => (None, port),
                _ => return false,
            }
        }
        _ => match memchr::memchr(b':', text) {
            Some(colon) => (Some(&text[..colon]), &text[colon + 1..]),
            None => (Some(text), &b""[..]),
        },
    };
    let in_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if let Some(host) = host
        && (host.is_empty()
            || host.len() > 253
            || !host.iter().all(in_name)
            || has_long_label(host))
    {
        return false;
    }
    // `host:` without a port is allowed by the grammar, and means the default.
    port.is_empty() || port.len() <= 5 && number(port).is_some_and(|port| port <= 0xffff)
}

fn has_long_label(host: &[u8]) -> bool {
    host.len() > 63
        && host
            .split(|byte| *byte == b'.')
            .any(|label| label.len() > 63)
}

/// The characters of a name (RFC 9110 section 5.6.2).
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
};

const LINES: Refusal =
    Refusal::malformed("the lines of the request head do not all end with CR LF");
const CONTROL: Refusal = Refusal::malformed("the request head holds a control character");
const FIELD: Refusal = Refusal::malformed("a line of the request head is no header");
const HOST: Refusal =
    Refusal::malformed("the request has to name one valid host, once, in its Host header");
const LENGTH: Refusal =
    Refusal::malformed("the request has to have one Content-Length, a plain number, or chunks");
const CODING: Refusal =
    Refusal::malformed("the only Transfer-Encoding is `chunked`, once, and not in HTTP/1.0");
const BOTH: Refusal =
    Refusal::malformed("the request has both a Content-Length and a Transfer-Encoding");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_where_the_table_says_in_any_place_of_any_length() {
        for length in 1..20 {
            let mut name = vec![b'x'; length];
            assert_eq!(name_end(&name, 0), length);
            for place in 0..length {
                for byte in 0..=u8::MAX {
                    name[place] = byte;
                    let end = if TOKEN[usize::from(byte)] {
                        length
                    } else {
                        place
                    };
                    assert_eq!(name_end(&name, 0), end, "{byte} at {place} of {length}");
                }
                name[place] = b'x';
            }
        }
        let marks: Vec<u8> = (0..=u8::MAX)
            .filter(|byte| TOKEN[usize::from(*byte)])
            .collect();
        assert_eq!(
            String::from_utf8(marks).unwrap(),
            "!#$%&'*+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz|~"
        );
    }

    #[test]
    fn a_control_character_ends_a_line_wherever_it_stands() {
        for length in 1..30 {
            let mut line = [&vec![b' '; length][..], b"\r\n"].concat();
            assert_eq!(line_end(&line, 0), Ok(Some(length)));
            assert_eq!(line_end(&line[..length + 1], 0), Ok(None));
            for place in 0..length {
                for byte in 0..=u8::MAX {
                    line[place] = byte;
                    let expected = match byte {
                        b'\t' => Ok(Some(length)),
                        b'\r' | b'\n' => Err(LINES),
                        byte if byte.is_ascii_control() => Err(CONTROL),
                        _ => Ok(Some(length)),
                    };
                    assert_eq!(
                        line_end(&line, 0),
                        expected,
                        "{byte} at {place} of {length}"
                    );
                }
                line[place] = b' ';
            }
        }
    }
}
