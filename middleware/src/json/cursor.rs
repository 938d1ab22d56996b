//! Reading a document once, from its front to its end.

use super::{Kind, Value, scan, text};

/// A place in a document, at the beginning of a value.
///
/// A [`Value`] finds a member by passing over those before it, and looks into one by passing over it again. Whoever wants
/// much of a document goes through it with this: each byte is passed once. Nobody has checked the text; at a fault
/// everything ends with `None`.
///
/// ```
/// use tollgate_middleware::json::Cursor;
///
/// let mut reasons = Vec::new();
/// let document = br#"{"choices": [{"text": "a", "finish_reason": "stop"}], "id": 1}"#;
/// let whole = Cursor::new(document).object(|at, name| match name {
///     b"choices" => at.array(|at| {
///         at.object(|at, name| {
///             let value = at.value()?;
///             if name == b"finish_reason" {
///                 reasons.extend(value.as_str());
///             }
///             Some(())
///         })
///     }),
///     _ => at.value().map(drop),
/// });
/// assert_eq!((whole, &reasons[..]), (Some(()), &["stop".into()][..]));
/// ```
#[derive(Debug)]
pub struct Cursor<'a> {
    text: &'a [u8],
    pos: usize,
}

impl<'a> Cursor<'a> {
    /// At the first value of `text`.
    pub fn new(text: &'a [u8]) -> Self {
        Self {
            text,
            pos: scan::space(text, 0),
        }
    }

    /// What the value at hand is, by its first byte.
    pub fn kind(&self) -> Option<Kind> {
        self.text.get(self.pos).map(|byte| Kind::of(*byte))
    }

    /// Passes the value at hand, and gives it.
    pub fn value(&mut self) -> Option<Value<'a>> {
        let start = self.pos;
        self.pos = scan::value(self.text, start)?;
        Some(Value::unchecked(self.text, start..self.pos))
    }

    /// Goes into the object at hand: `on` is told the name of each member as it decodes, and has to pass its value. What is
    /// no object is passed over.
    pub fn object(&mut self, mut on: impl FnMut(&mut Self, &[u8]) -> Option<()>) -> Option<()> {
        if self.kind()? != Kind::Object {
            return self.value().map(drop);
        }
        self.inside(b'}', |at| {
            let start = at.pos;
            if at.text.get(start) != Some(&b'"') {
                return None;
            }
            // Most names have no escape, and end at the first byte that is not plain.
            let close = scan::plain(at.text, start + 1);
            let plain = *at.text.get(close)? == b'"';
            let end = match plain {
                true => close + 1,
                false => scan::string(at.text, start)?,
            };
            at.pos = scan::space(at.text, end);
            at.byte(b':')?;
            let name = &at.text[start + 1..end - 1];
            match plain {
                true => on(at, name),
                false => on(at, &text::decoded(name)?),
            }
        })
    }

    /// Goes into the array at hand: `on` has to pass each item. What is no array is passed over.
    pub fn array(&mut self, on: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        if self.kind()? != Kind::Array {
            return self.value().map(drop);
        }
        self.inside(b']', on)
    }

    fn inside(&mut self, end: u8, mut on: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.pos = scan::space(self.text, self.pos + 1);
        if self.text.get(self.pos) == Some(&end) {
            self.pos += 1;
            return Some(());
        }
        loop {
            on(self)?;
            self.pos = scan::space(self.text, self.pos);
            if self.text.get(self.pos) == Some(&end) {
                self.pos += 1;
                return Some(());
            }
            self.byte(b',')?;
        }
    }

    /// Passes `byte` and the white space behind it.
    fn byte(&mut self, byte: u8) -> Option<()> {
        if self.text.get(self.pos) != Some(&byte) {
            return None;
        }
        self.pos = scan::space(self.text, self.pos + 1);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_what_was_asked_for_is_passed_over() {
        let mut at = Cursor::new(b"[1, {\"a\": 2}]");
        let mut names = 0;
        let whole = at.array(|at| {
            at.object(|at, _| {
                names += 1;
                at.array(|_| None)
            })
        });
        assert_eq!((whole, names, at.kind()), (Some(()), 1, None));
    }
}
