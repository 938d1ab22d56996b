//! The model of a multipart request, read from the parts' headers while the bytes pass.

use std::ops::Range;

use memchr::memmem;

/// The model that a form names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Its name, without the white space around it.
    pub value: String,
    /// Where exactly that lies in the body as it arrived.
    pub span: Range<usize>,
}

/// Finds the part named `model` in a `multipart/form-data` body that comes in pieces.
///
/// Holds the headers of one part (at most 8 KiB) or a model's name (at most 256 bytes), never a file's
/// bytes. Linear in the body, whatever the split. A body that is not multipart, or whose headers or model
/// are larger than that, ends the search without a model.
#[derive(Clone, Debug)]
pub struct Parts {
    /// `\r\n--boundary`, as it stands between parts.
    delimiter: Vec<u8>,
    state: State,
    /// What is kept over a split: the end of skipped data, a head, or a model's bytes.
    held: Vec<u8>,
    /// Bytes of the body that are behind us; what is held of them came last.
    passed: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In preamble or a part that is not asked for. -> `Delimited`
    Skipping,
    /// Behind a delimiter: `--` ends the body, a line break opens a head. -> `Head`, `Over`
    Delimited,
    /// In a part's headers. -> `Skipping`, `Model`, `Over`
    Head,
    /// In the model's value. -> `Over`
    Model,
    /// Found, or nothing to be found. Stays.
    Over,
}

impl Parts {
    /// A scanner for a body with this `content-type`; `None` if it is not multipart or names no boundary.
    pub fn new(content_type: &str) -> Option<Self> {
        let boundary = boundary(content_type)?;
        let mut delimiter = Vec::with_capacity(boundary.len() + 4);
        delimiter.extend_from_slice(b"\r\n--");
        delimiter.extend_from_slice(boundary.as_bytes());
        // The first delimiter needs no line break before it: pretend one.
        Some(Self {
            delimiter,
            state: State::Skipping,
            held: b"\r\n".to_vec(),
            passed: 0,
        })
    }

    /// Reads the next piece; the model as soon as its name is whole, once.
    pub fn feed(&mut self, mut piece: &[u8]) -> Option<Model> {
        while !piece.is_empty() && self.state != State::Over {
            let rest = match self.state {
                State::Skipping => self.skip(piece),
                State::Delimited => self.after_delimiter(piece),
                State::Head => self.head(piece),
                State::Model => {
                    let (rest, model) = self.model(piece);
                    if model.is_some() {
                        return model;
                    }
                    rest
                }
                State::Over => return None,
            };
            self.passed += piece.len() - rest.len();
            piece = rest;
        }
        None
    }

    /// Whether nothing more can be found.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Skips to behind the next delimiter.
    fn skip<'a>(&mut self, piece: &'a [u8]) -> &'a [u8] {
        let held = self.held.len();
        if held > 0 {
            // A delimiter may have begun in what is held: complete it with as much as it can need.
            let lent = piece.len().min(self.delimiter.len());
            self.held.extend_from_slice(&piece[..lent]);
            if let Some(at) = memmem::find(&self.held, &self.delimiter) {
                let consumed = at + self.delimiter.len() - held;
                return self.enter(State::Delimited, &piece[consumed..]);
            }
            self.held.truncate(held);
        }
        if let Some(at) = memmem::find(piece, &self.delimiter) {
            return self.enter(State::Delimited, &piece[at + self.delimiter.len()..]);
        }
        self.held
            .extend_from_slice(&piece[piece.len().saturating_sub(self.delimiter.len())..]);
        let surplus = self.held.len().saturating_sub(self.delimiter.len() - 1);
        self.held.drain(..surplus);
        &[]
    }

    /// Reads the rest of a delimiter's line.
    fn after_delimiter<'a>(&mut self, piece: &'a [u8]) -> &'a [u8] {
        for (i, byte) in piece.iter().enumerate() {
            match byte {
                b'-' if self.held == b"-" => return self.enter(State::Over, &[]),
                b'-' if self.held.is_empty() => self.held.push(b'-'),
                b' ' | b'\t' | b'\r' if self.held.is_empty() => {}
                // The break is kept: a head without headers is a line break after a line break.
                b'\n' if self.held.is_empty() => {
                    let rest = self.enter(State::Head, &piece[i + 1..]);
                    self.held.extend_from_slice(b"\r\n");
                    return rest;
                }
                // A longer boundary that begins with ours: data after all.
                _ => return self.enter(State::Skipping, &piece[i..]),
            }
        }
        &[]
    }

    /// Collects a part's headers and decides whether the part is the model.
    fn head<'a>(&mut self, piece: &'a [u8]) -> &'a [u8] {
        let before = self.held.len();
        let lent = piece.len().min(MAX_HEAD + 4 - before);
        self.held.extend_from_slice(&piece[..lent]);
        let from = before.saturating_sub(3);
        match memmem::find(&self.held[from..], b"\r\n\r\n").map(|at| from + at + 4) {
            Some(end) => {
                let next = if names_model(&self.held[..end]) {
                    State::Model
                } else {
                    State::Skipping
                };
                let rest = self.enter(next, &piece[end - before..]);
                // A part without a value: its delimiter begins with the break that ended the head.
                self.held.extend_from_slice(b"\r\n");
                rest
            }
            None if self.held.len() > MAX_HEAD => self.enter(State::Over, &[]),
            None => &[],
        }
    }

    /// Collects the model's value up to the delimiter.
    fn model<'a>(&mut self, piece: &'a [u8]) -> (&'a [u8], Option<Model>) {
        // The break that ended the head is held too, so all that is held is text as it arrived.
        let start = self.passed - self.held.len();
        let room = 2 + MAX_MODEL + self.delimiter.len() - self.held.len();
        let lent = piece.len().min(room);
        self.held.extend_from_slice(&piece[..lent]);
        match memmem::find(&self.held, &self.delimiter) {
            Some(end) => {
                let text = std::str::from_utf8(&self.held[..end]).ok();
                let model = text.and_then(|text| trimmed(text, start));
                (self.enter(State::Over, &[]), model)
            }
            None if lent == room => (self.enter(State::Over, &[]), None),
            None => (&[], None),
        }
    }

    fn enter<'a>(&mut self, state: State, rest: &'a [u8]) -> &'a [u8] {
        self.state = state;
        self.held.clear();
        rest
    }
}

/// Whether `value` can be written into a part of a body with this `content-type` and stay one value:
/// it breaks no line and does not hold the boundary.
pub fn fits(content_type: &str, value: &str) -> bool {
    boundary(content_type)
        .is_some_and(|boundary| !value.contains(['\r', '\n']) && !value.contains(boundary))
}

/// The model in a `text` that begins at `start` of the body.
fn trimmed(text: &str, start: usize) -> Option<Model> {
    let value = text.trim();
    let start = start + text.len() - text.trim_start().len();
    (!value.is_empty()).then(|| Model {
        value: value.to_owned(),
        span: start..start + value.len(),
    })
}

/// The boundary parameter of a multipart content type. 1 to 70 bytes: RFC 2046, section 5.1.1.
fn boundary(content_type: &str) -> Option<&str> {
    let (kind, mut rest) = content_type.split_once(';')?;
    let multipart = kind.trim_ascii().as_bytes().first_chunk::<10>()?;
    if !multipart.eq_ignore_ascii_case(b"multipart/") {
        return None;
    }
    loop {
        let (name, value, next) = parameter(rest)?;
        if name.eq_ignore_ascii_case("boundary") {
            return Some(value).filter(|value| (1..=70).contains(&value.len()));
        }
        rest = next;
    }
}

/// Splits `name=value; …` or `name="value"; …`, quoted values without their escapes undone.
fn parameter(rest: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = rest.split_once('=')?;
    let name = name.trim_ascii().trim_start_matches([';', ' ', '\t']);
    if let Some(quoted) = rest.trim_ascii_start().strip_prefix('"') {
        let mut escaped = false;
        let end = quoted.bytes().position(|byte| {
            let closes = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            closes
        })?;
        return Some((name, &quoted[..end], &quoted[end + 1..]));
    }
    let (value, rest) = rest.split_once(';').unwrap_or((rest, ""));
    Some((name, value.trim_ascii(), rest))
}

/// Whether a part's headers say `content-disposition: form-data; name="model"`.
fn names_model(head: &[u8]) -> bool {
    head.split(|byte| *byte == b'\n').any(|line| {
        let Ok(line) = std::str::from_utf8(line) else {
            return false;
        };
        let Some((name, value)) = line.split_once(':') else {
            return false;
        };
        if !name
            .trim_ascii()
            .eq_ignore_ascii_case("content-disposition")
        {
            return false;
        }
        let mut rest = value.split_once(';').map_or("", |(_, rest)| rest);
        while let Some((name, value, next)) = parameter(rest) {
            if name.eq_ignore_ascii_case("name") {
                return value == "model";
            }
            rest = next;
        }
        false
    })
}

/// Bytes of one part's headers that are held.
const MAX_HEAD: usize = 8 * 1024;

/// Bytes of a model's name that are held.
const MAX_MODEL: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=X-1";

    fn found(content_type: &str, pieces: &[&[u8]]) -> Option<String> {
        let mut parts = Parts::new(content_type).expect("multipart");
        let mut found = None;
        for piece in pieces {
            if let Some(model) = parts.feed(piece) {
                let cut = &pieces.concat()[model.span.clone()];
                assert_eq!(cut, model.value.as_bytes(), "{:?}", model.span);
                assert_eq!(found.replace(model.value), None, "told once");
            }
        }
        found
    }

    fn body(parts: &[(&str, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (disposition, value) in parts {
            body.extend_from_slice(b"--X-1\r\nContent-Disposition: form-data; ");
            body.extend_from_slice(disposition.as_bytes());
            body.extend_from_slice(b"\r\n\r\n");
            body.extend_from_slice(value);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--X-1--\r\n");
        body
    }

    #[test]
    fn the_model_is_told_over_every_split_in_two() {
        let file = b"\x89PNG\r\n--X-\r\n--X\r\n\r\nname=\"model\"\r\n\r\nfake\r\n--".as_slice();
        let body = body(&[
            (
                "name=\"file\"; filename=\"a;name=model\\\".png\"\r\nContent-Type: image/png",
                file,
            ),
            ("name=\"empty\"", b""),
            ("name=\"model\"", b"gpt-image-1"),
            ("name=\"prompt\"", b"x"),
        ]);
        for cut in 0..=body.len() {
            let pieces = [&body[..cut], &body[cut..]];
            assert_eq!(
                found(TYPE, &pieces).as_deref(),
                Some("gpt-image-1"),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn a_part_without_headers_or_value_is_passed() {
        let body = b"preamble\r\n--X-1\r\n\r\nno headers\r\n--X-1 \r\ncontent-disposition: form-data; name=model\r\n\r\nm\r\n--X-1--";
        assert_eq!(found(TYPE, &[body]).as_deref(), Some("m"));
    }

    #[test]
    fn the_span_is_that_of_the_name_without_the_white_space_around_it() {
        let body = body(&[
            ("name=\"a\"", b"m-1"),
            ("name=\"model\"", b" \r\n\tm-1\xc2\xa0 \r\n"),
        ]);
        let start = body
            .windows(5)
            .position(|it| it == b"\tm-1\xc2")
            .expect("it is there")
            + 1;
        for cut in 0..=body.len() {
            let mut parts = Parts::new(TYPE).expect("multipart");
            let model = parts
                .feed(&body[..cut])
                .or_else(|| parts.feed(&body[cut..]));
            let expected = Model {
                value: "m-1".to_owned(),
                span: start..start + 3,
            };
            assert_eq!(model, Some(expected), "cut at {cut}");
        }
    }

    #[test]
    fn a_value_that_would_break_the_form_does_not_fit() {
        for value in ["m", "", "acme/x:free", "--X-", "x -1", "\u{e9}\u{2028}\""] {
            assert!(fits(TYPE, value), "{value:?}");
        }
        for value in ["a\rb", "a\nb", "\r\n", "--X-1", "X-1", "aX-1b"] {
            assert!(!fits(TYPE, value), "{value:?}");
        }
        assert!(!fits("application/json", "m") && !fits("multipart/form-data", "m"));
    }

    #[test]
    fn an_empty_model_is_none() {
        for body in [
            "--X-1\r\nContent-Disposition: form-data; name=model\r\n\r\n--X-1\r\nA: b\r\n\r\nx\r\n--X-1--",
            "--X-1\r\nContent-Disposition: form-data; name=model\r\n\r\n\r\n--X-1--",
        ] {
            assert_eq!(found(TYPE, &[body.as_bytes()]), None);
        }
    }

    #[test]
    fn a_body_without_a_model_has_none() {
        let recorded = include_bytes!(
            "../../../tests/fixtures/recordings/openai/images-edits-multipart/request.bin"
        );
        let content_type = "multipart/form-data; boundary=-----------RubyMultipartPost-d360293eee8bc4f1b2f8ed291a1b5ccc";
        assert_eq!(found(content_type, &[recorded]), None);
        let renamed =
            String::from_utf8_lossy(recorded).replace("name=\"prompt\"", "name=\"model\"");
        let model = found(content_type, &[renamed.as_bytes()]).expect("the renamed part");
        assert!(model.contains("red"), "{model}");
    }

    #[test]
    fn what_is_too_large_ends_the_search() {
        let long = "m".repeat(257);
        assert_eq!(
            found(TYPE, &[&body(&[("name=\"model\"", long.as_bytes())])]),
            None
        );
        let fits = "m".repeat(256);
        assert_eq!(
            found(TYPE, &[&body(&[("name=\"model\"", fits.as_bytes())])]),
            Some(fits)
        );
        let mut parts = Parts::new(TYPE).expect("multipart");
        assert_eq!(parts.feed(b"--X-1\r\n"), None);
        for _ in 0..100 {
            assert_eq!(parts.feed(&[b'h'; 100]), None);
        }
        assert!(parts.is_over() && parts.held.capacity() <= 2 * MAX_HEAD);
    }

    #[test]
    fn only_multipart_with_a_boundary_is_scanned() {
        assert!(Parts::new("multipart/form-data; charset=x; boundary=\"a b\"").is_some());
        for refused in [
            "application/json",
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "text/x; boundary=a",
        ] {
            assert!(Parts::new(refused).is_none(), "{refused}");
        }
    }

    proptest! {
        #[test]
        fn any_split_tells_the_same(
            junk in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'X'), Just(b'1'), any::<u8>()], 0..60),
            blank in "[ \t\r\n]{0,3}",
            name in "[a-z\u{e9}\u{1f600} ./:-]{1,12}",
            sizes in prop::collection::vec(1usize..9, 1..20),
        ) {
            let value = format!("{blank}{name}{blank}");
            let body = body(&[("name=\"file\"", &junk), ("name=\"model\"", value.as_bytes())]);
            let whole = found(TYPE, &[&body]);
            let mut pieces = Vec::new();
            let mut rest = &body[..];
            for size in sizes.iter().cycle() {
                if rest.is_empty() { break; }
                let (piece, tail) = rest.split_at((*size).min(rest.len()));
                pieces.push(piece);
                rest = tail;
            }
            prop_assert_eq!(found(TYPE, &pieces), whole);
        }
    }
}
