//! The headers of one part.

/// Whether a part is the model. `head` is its lines, without the empty one that ends them.
pub(super) fn names_model(head: &[u8]) -> Result<bool, &'static str> {
    let (mut disposition, mut kind, mut coding) = (None, None, None);
    for line in Lines(Some(head)) {
        if line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Err("a line in the headers of a part does not end with CRLF");
        }
        let Some((name, value)) = split_once(line, b':').filter(|(name, _)| is_token(name)) else {
            return Err("a line in the headers of a part is no header");
        };
        let slot = match &name.to_ascii_lowercase()[..] {
            b"content-disposition" => &mut disposition,
            b"content-type" => &mut kind,
            b"content-transfer-encoding" => &mut coding,
            _ => continue,
        };
        if slot.replace(value.trim_ascii()).is_some() {
            return Err("a part has a header twice");
        }
    }
    let field = Field::of(disposition.ok_or("a part has no content-disposition")?)?;
    if !is_like_model(field.name) {
        return Ok(false);
    }
    let coded = coding.is_some_and(|coding| {
        let plain: [&[u8]; 3] = [b"7bit", b"8bit", b"binary"];
        !plain.iter().any(|it| coding.eq_ignore_ascii_case(it))
    });
    if field.name != b"model" || field.file || coded || kind.is_some_and(is_no_plain_text) {
        return Err("it names the model in a way that not all read alike");
    }
    Ok(true)
}

/// Whether this is a token as of RFC 9110, section 5.6.2.
pub(super) fn is_token(text: &[u8]) -> bool {
    let is_char = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_char)
}

/// What a content disposition says.
struct Field<'a> {
    name: &'a [u8],
    file: bool,
}

impl<'a> Field<'a> {
    /// Reads `form-data; name="…"` and what follows it. Of that only its keys are looked at, where quotes do not
    /// count: some split a value at a semicolon within it.
    fn of(disposition: &'a [u8]) -> Result<Self, &'static str> {
        const UNREAD: &str = "the content-disposition of a part is not form-data with a name first";
        let (kind, rest) = split_once(disposition, b';').ok_or(UNREAD)?;
        if !kind.trim_ascii().eq_ignore_ascii_case(b"form-data") {
            return Err(UNREAD);
        }
        let (key, rest) = split_once(rest.trim_ascii_start(), b'=').ok_or(UNREAD)?;
        if !key.eq_ignore_ascii_case(b"name") {
            return Err(UNREAD);
        }
        let (name, rest) = match rest.strip_prefix(b"\"") {
            Some(quoted) => split_once(quoted, b'"').ok_or(UNREAD)?,
            None => rest.split_at(rest.iter().position(|it| *it == b';').unwrap_or(rest.len())),
        };
        let rest = rest.trim_ascii_start();
        if name.iter().any(|it| matches!(it, b'\\' | b'"')) || !matches!(rest, [] | [b';', ..]) {
            return Err(UNREAD);
        }
        let mut file = false;
        for parameter in rest.split(|byte| *byte == b';') {
            let key = parameter.split(|byte| *byte == b'=').next();
            let key = bare(key.unwrap_or_default()).to_ascii_lowercase();
            if key == b"name" || key.starts_with(b"name*") {
                return Err("a part has its name twice, or in a spelling that only some know");
            }
            file |= key.starts_with(b"filename");
        }
        Ok(Self { name, file })
    }
}

/// Whether some reader could take this name for `model`: in other case, percent-encoded, with white space, as a list.
fn is_like_model(name: &[u8]) -> bool {
    let text = String::from_utf8_lossy(name);
    let text = crate::dialect::decode(&text);
    let text = text.split(['[', '\0']).next().unwrap_or_default();
    bare(text.as_bytes()).eq_ignore_ascii_case(b"model")
}

/// Without the white space and quotes around it.
fn bare(mut text: &[u8]) -> &[u8] {
    let is_around = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'"';
    while let [byte, rest @ ..] = text
        && is_around(byte)
    {
        text = rest;
    }
    while let [rest @ .., byte] = text
        && is_around(byte)
    {
        text = rest;
    }
    text
}

/// Whether the content type of a part asks for its bytes to be read as anything but UTF-8.
fn is_no_plain_text(kind: &[u8]) -> bool {
    let kind = kind.to_ascii_lowercase();
    if kind.starts_with(b"multipart/") {
        return true;
    }
    let mut parameters = kind.split(|byte| *byte == b';').skip(1);
    parameters.any(|parameter| match split_once(parameter, b'=') {
        Some((key, value)) if bare(key).starts_with(b"charset") => {
            !matches!(bare(value), b"utf-8" | b"utf8" | b"us-ascii")
        }
        _ => false,
    })
}

fn split_once(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let found = memchr::memchr(at, text)?;
    Some((&text[..found], &text[found + 1..]))
}

/// What stands between CRLFs.
struct Lines<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let text = self.0?;
        let end = memchr::memmem::find(text, b"\r\n");
        self.0 = end.map(|end| &text[end + 2..]);
        Some(end.map_or(text, |end| &text[..end]))
    }
}
