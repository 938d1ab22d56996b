//! The boundary of a form, in its content type.

use super::head;

/// The boundary parameter of a multipart content type; `None` for another type. 1 to 70 bytes: RFC 2046, section 5.1.1.
pub(super) fn boundary(content_type: &str) -> Result<Option<&str>, &'static str> {
    let (kind, mut rest) = content_type.split_once(';').unwrap_or((content_type, ""));
    let multipart = kind.trim_ascii().as_bytes().first_chunk::<10>();
    if !multipart.is_some_and(|kind| kind.eq_ignore_ascii_case(b"multipart/")) {
        return Ok(None);
    }
    let mut found = None;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        if rest.is_empty() {
            break;
        }
        let Some((name, value, next)) = parameter(rest) else {
            return Err("a parameter of its content-type cannot be read");
        };
        rest = next;
        let name = name.to_ascii_lowercase();
        // `boundary*` and `boundary*0` are spellings that only some know.
        if name.starts_with("boundary") && (name != "boundary" || found.replace(value).is_some()) {
            return Err("its content-type names its boundary twice, or in parts");
        }
    }
    let fits = |it: &&str| (1..=70).contains(&it.len()) && !it.ends_with(' ');
    match found.filter(fits) {
        Some(boundary) => Ok(Some(boundary)),
        None => Err("its content-type names no boundary of 1 to 70 bytes"),
    }
}

/// Splits `name=value; …` or `name="value"; …`; `None` where that needs any guess.
fn parameter(rest: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = rest.split_once('=')?;
    if !head::is_token(name.as_bytes()) {
        return None;
    }
    let (value, rest) = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"')?,
        None => {
            let end = rest.find([' ', '\t', ';']).unwrap_or(rest.len());
            let value = &rest[..end];
            // What is no token wants quotes: without them some stop at its first odd character.
            head::is_token(value.as_bytes()).then_some((value, &rest[end..]))?
        }
    };
    let rest = rest.trim_ascii_start();
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'\\';
    let ends = rest.is_empty() || rest.starts_with(';');
    (ends && value.bytes().all(plain)).then_some((name, value, rest))
}
