//! JSON read where it lies: a document is checked once and then only looked at.
//!
//! A gateway needs a handful of members of a body that can be megabytes long, and it has to forward that body byte for
//! byte. So nothing here builds a tree: [`check`] walks the text once and says whether it is one JSON document that every
//! reader understands alike, and [`Value`] is a view that knows where a value lies and finds members and items by
//! skipping over the rest. [`check_members`] tells the members of the outermost object while it checks, for whom that is
//! enough, and [`Cursor`] goes through a document once.
//!
//! **What `check` refuses** beside what [RFC 8259](https://www.rfc-editor.org/rfc/rfc8259) does: a byte order mark, text
//! that is not UTF-8, nesting and member counts over the [`Limits`], and a member name that occurs twice in one object, in
//! whatever spelling: `"mod\u0065l"` is `"model"`. Two readers may pick different ones of two such members, and then
//! what was authorised is not what is executed.
//!
//! **What it lets pass** though some readers object: numbers outside of the range of a double, and escapes of lone
//! surrogates (`"\ud800"`), which [`Value::as_str`] decodes as U+FFFD. Names are compared as they decode, so two names
//! that differ in lone surrogates only count as the same name.
//!
//! **Cost.** Every function here is linear in the bytes it passes, whatever the bytes are. Nothing recurses. `check` keeps
//! the names of the objects that are open, a few words for each, and allocates only for unusual nesting, unusually many
//! names and names with escapes; a view allocates only to decode a string with escapes.
//!
//! ```
//! use tollgate_middleware::json::{Limits, check};
//!
//! let body = br#"{"model": "gpt-5", "max_tokens": 4e3, "messages": [{"role": "user"}]}"#;
//! let root = check(body, &Limits::default())?;
//! let model = root.get("model").expect("the member is there");
//! assert_eq!(model.as_str().as_deref(), Some("gpt-5"));
//! assert_eq!(&body[model.span()], br#""gpt-5""#);
//! assert_eq!(root.get("max_tokens").and_then(|value| value.as_u64()), Some(4000));
//! # Ok::<(), tollgate_middleware::json::Error>(())
//! ```

mod check;
mod cursor;
mod depth;
mod error;
mod names;
mod number;
mod scan;
mod stack;
mod text;
mod value;

pub use self::{
    check::{Limits, check, check_members},
    cursor::Cursor,
    depth::Depth,
    error::{Error, ErrorKind},
    text::escape_into,
    value::{Items, Kind, Members, Value},
};

pub use self::text::{Chunk, Chunks, paired};

#[cfg(test)]
mod tests;
