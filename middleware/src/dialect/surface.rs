//! Which surface of which API a request head names.
//!
//! A surface is recognised by the end of its path, so that any mount may stand before the API prefix.
//! Recognising allocates nothing; paths and models stay percent-encoded as they came.

use std::{borrow::Cow, ops::Range};

use http::{HeaderMap, Method};
use memchr::memmem;

use super::{Dialect, Operation};

mod table;

/// A known surface, and where its parts lie in the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surface {
    /// The shape of bodies and errors.
    pub dialect: Dialect,
    /// What is asked for.
    pub operation: Operation,
    /// The API prefix inside the path with any mount before it: `/v1`, `/openai/v1`, `/gemini/v1beta`.
    /// Empty for Bedrock, whose paths have none.
    pub prefix: Range<usize>,
    /// The model inside the path, still percent-encoded: Gemini, Azure's deployment, Bedrock, one model's description.
    pub model: Option<Range<usize>>,
    /// Whether the answer is streamed, where the path decides it.
    pub stream: Option<bool>,
}

/// What a path turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recognised {
    /// A known surface.
    Surface(Surface),
    /// An API prefix (its span) with nothing known behind it: files, batches, a stored response.
    Prefixed(Range<usize>),
    /// A known surface behind a prefix that is missing or stands there twice; the text names the right path.
    Wrong(&'static str),
    /// Nothing of ours.
    Unknown,
}

/// Reads the path (without its query) of a request head.
///
/// Headers and query decide only between dialects that share a path: `/v1/models`, Azure's `/openai/…`.
/// A path with dot segments is never recognised: a provider would resolve them to another path.
pub fn recognise(
    method: &Method,
    path: &str,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Recognised {
    // What nearly all ask for.
    if *method == Method::POST
        && let Some(found) = path.strip_prefix("/v1/").and_then(table::posted)
    {
        return Recognised::Surface(found.placed(0.."/v1".len()));
    }
    if has_dot_segments(path) {
        return Recognised::Unknown;
    }
    let hints = Hints {
        method,
        query,
        headers,
    };
    // The leading run of prefix segments, and what the last prefix segment was and where it ended.
    let mut run = 0..0;
    let mut previous: Option<(Kind, usize)> = None;
    let mut tried = 0;
    let mut at = 0;
    while at < path.len() && tried < MAX_TRIES {
        let end = memchr::memchr(b'/', &path.as_bytes()[at..]).map_or(path.len(), |i| at + i);
        if let Some(kind) = Kind::of(&path[at..end]) {
            tried += 1;
            let adjacent = previous.is_some_and(|(_, over)| over + 1 == at);
            let twice = adjacent && previous.is_some_and(|(before, _)| before == kind);
            if let Some(found) = table::behind(&hints, path, at..end) {
                return if twice {
                    Recognised::Wrong(table::remedy(&found, true))
                } else {
                    Recognised::Surface(found.placed(0..end))
                };
            }
            if previous.is_none() || adjacent && run.end + 1 == at {
                if twice {
                    return Recognised::Wrong(TWICE);
                }
                run.end = end;
            }
            previous = Some((kind, end));
        }
        at = end + 1;
    }
    if let Some(found) = table::unversioned(&hints, path) {
        return found;
    }
    if run.is_empty() {
        table::missing(&hints, path)
    } else {
        Recognised::Prefixed(run)
    }
}

/// The known surface that a head asks for, if it is one.
pub fn surface_of<B>(req: &http::Request<B>) -> Option<Surface> {
    let uri = req.uri();
    match recognise(req.method(), uri.path(), uri.query(), req.headers()) {
        Recognised::Surface(surface) => Some(surface),
        _ => None,
    }
}

/// The path to ask for at a provider whose `base_url` has the path `base`.
///
/// `base` takes the place of the caller's API `prefix` (a span of `path`); without a prefix it goes before
/// the path. An empty base, or `/`, keeps the caller's path whole.
pub fn join<'a>(base: &str, path: &'a str, prefix: Option<&Range<usize>>) -> Cow<'a, str> {
    let base = base.trim_end_matches('/');
    if base.is_empty() {
        return Cow::Borrowed(path);
    }
    let prefix = prefix.cloned().unwrap_or(0..0);
    let (Some(replaced), Some(rest)) = (path.get(..prefix.end), path.get(prefix.end..)) else {
        return Cow::Borrowed(path);
    };
    if replaced == base {
        return Cow::Borrowed(path);
    }
    let mut joined = String::with_capacity(base.len() + rest.len());
    joined.push_str(base);
    joined.push_str(rest);
    Cow::Owned(joined)
}

// ===== impl Recognised =====

impl Recognised {
    /// The known surface, if it is one.
    pub const fn surface(&self) -> Option<&Surface> {
        match self {
            Self::Surface(surface) => Some(surface),
            _ => None,
        }
    }
}

// ===== impl Surface =====

impl Surface {
    /// Whether a request body is one JSON document; multipart and bodiless surfaces are not.
    pub const fn is_json(&self) -> bool {
        use Operation as O;
        !matches!(
            self.operation,
            O::ImageEdits
                | O::ImageVariations
                | O::Transcriptions
                | O::Translations
                | O::Models
                | O::Model
        )
    }

    /// Whether a request names its model in its body, and nowhere else.
    pub const fn body_names_model(&self) -> bool {
        self.model.is_none() && !matches!(self.operation, Operation::Models | Operation::Model)
    }

    /// Whether a request body holds text that someone wrote, so that a filter or cap must be able to read it.
    pub const fn carries_text(&self) -> bool {
        use Operation as O;
        !matches!(
            self.operation,
            O::ImageVariations | O::Transcriptions | O::Translations | O::Models | O::Model
        )
    }

    /// The model inside the path, decoded; none where the body names it. Malformed escapes stay as they are.
    pub fn model_in<'a>(&self, path: &'a str) -> Option<Cow<'a, str>> {
        let model = path.get(self.model.clone()?)?;
        Some(decode(model))
    }

    /// The operation's word, for logs and metrics.
    pub const fn operation_name(&self) -> &'static str {
        self.operation.as_str()
    }
}

/// What besides the path can decide a surface.
struct Hints<'a> {
    method: &'a Method,
    query: Option<&'a str>,
    headers: &'a HeaderMap,
}

impl Hints<'_> {
    fn posts(&self) -> bool {
        self.method == Method::POST
    }

    fn reads(&self) -> bool {
        self.method == Method::GET || self.method == Method::HEAD
    }

    fn asks(&self, parameter: &str) -> bool {
        self.query.is_some_and(|query| {
            query
                .split('&')
                .any(|pair| pair.split('=').next() == Some(parameter))
        })
    }
}

/// A path segment that can end an API prefix.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// `v1`, `v1beta`, `v2`, `v1alpha1` …
    Version,
    /// `openai`: Azure's prefix, and a mount of Google's and of ours.
    OpenAi,
    /// `openapi`: Vertex's OpenAI-shaped endpoint.
    OpenApi,
}

impl Kind {
    fn of(segment: &str) -> Option<Self> {
        match segment.as_bytes() {
            [b'v', b'0'..=b'9', rest @ ..] => is_version_tail(rest).then_some(Self::Version),
            b"openai" => Some(Self::OpenAi),
            b"openapi" => Some(Self::OpenApi),
            _ => None,
        }
    }
}

fn is_version_tail(mut rest: &[u8]) -> bool {
    while let [b'0'..=b'9', tail @ ..] = rest {
        rest = tail;
    }
    rest = rest
        .strip_prefix(b"alpha")
        .or_else(|| rest.strip_prefix(b"beta"))
        .unwrap_or(rest);
    rest.iter().all(u8::is_ascii_digit)
}

/// Undoes percent-encoding. Text without any, with a malformed one, or hiding what is not UTF-8, stays
/// as it is.
pub fn decode(text: &str) -> Cow<'_, str> {
    decoded(text).map_or(Cow::Borrowed(text), Cow::Owned)
}

/// Undoes percent-encoding; `None` if there is none, a malformed one, or what it hides is not UTF-8.
fn decoded(text: &str) -> Option<String> {
    memchr::memchr(b'%', text.as_bytes())?;
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte != b'%' {
            decoded.push(*byte);
            continue;
        }
        let ([high, low], tail) = rest.split_first_chunk()?;
        let digit = |hex: u8| char::from(hex).to_digit(16);
        decoded.push(u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?);
        rest = tail;
    }
    String::from_utf8(decoded).ok()
}

/// Whether the path holds `.` or `..` as a segment, plain or percent-encoded.
fn has_dot_segments(path: &str) -> bool {
    let bytes = path.as_bytes();
    if memmem::find(bytes, b"/.").is_none() && memchr::memchr(b'%', bytes).is_none() {
        return false;
    }
    path.split('/').any(|segment| {
        let mut rest = segment.as_bytes();
        let mut dots = 0;
        loop {
            rest = match rest {
                [b'.', tail @ ..] | [b'%', b'2', b'e' | b'E', tail @ ..] => tail,
                [] => return dots == 1 || dots == 2,
                _ => return false,
            };
            dots += 1;
        }
    })
}

/// How many prefix segments are tried: real paths have at most three, and each try reads the whole rest.
const MAX_TRIES: usize = 8;

const TWICE: &str =
    "the path names its API version twice: the base URL of the client has one version too many";

#[cfg(test)]
mod tests;
