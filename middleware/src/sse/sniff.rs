//! Whether a body is an event stream, by the look of it.

/// What the first bytes of a body look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sniff {
    /// An event stream: a field or a comment.
    Events,
    /// Something else.
    Other,
    /// Too few bytes to tell.
    Unclear,
}

/// Tells from its first bytes whether a body looks like an event stream.
///
/// A byte order mark and blank lines may come first. Only the fields that the rules know count, so that prose and JSON are
/// something else; a stream that opens with another field is legal, but nobody sends it.
pub fn sniff(first: &[u8]) -> Sniff {
    const MARK: &[u8] = b"\xef\xbb\xbf";
    if MARK.starts_with(first) {
        return Sniff::Unclear;
    }
    let mut text = first.strip_prefix(MARK).unwrap_or(first);
    while let [b'\n' | b'\r', rest @ ..] = text {
        text = rest;
    }
    if text.first() == Some(&b':') {
        return Sniff::Events;
    }
    let fields = [&b"data"[..], b"event", b"id", b"retry"];
    if fields.iter().any(|field| field.starts_with(text)) {
        return Sniff::Unclear;
    }
    let is_field =
        |field: &&[u8]| matches!(text.strip_prefix(*field), Some([b':' | b'\n' | b'\r', ..]));
    if fields.iter().any(is_field) {
        Sniff::Events
    } else {
        Sniff::Other
    }
}
