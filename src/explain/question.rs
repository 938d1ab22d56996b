//! The request that is asked about.

use std::fmt;

use http::{
    HeaderName, HeaderValue, Method, Request, Uri,
    header::{CONTENT_TYPE, ORIGIN},
};
use tollgate_middleware::json;

/// The request to explain.
#[derive(Debug)]
pub struct Question {
    pub(super) request: Request<Vec<u8>>,
    pub(super) caller: Option<String>,
}

/// A request that cannot be read; the text says why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable(String);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreadable {}

impl Question {
    /// A POST to `path` whose body names `model`.
    ///
    /// # Errors
    ///
    /// A path that is no request target.
    pub fn of_model(model: &str, path: &str) -> Result<Self, Unreadable> {
        let mut body = br#"{"model":"#.to_vec();
        json::escape_into(model, &mut body);
        body.push(b'}');
        Self::post(path, body)
    }

    fn post(path: &str, body: Vec<u8>) -> Result<Self, Unreadable> {
        let req = Request::post(path).header(CONTENT_TYPE, "application/json");
        let req = req.body(body);
        req.map(Self::of)
            .map_err(|_| Unreadable(format!("`{path}` is no request target")))
    }

    /// What a file holds: a whole request, as [`of_text`](Self::of_text) takes it, or a JSON object, which is the body of a
    /// POST to `path`.
    ///
    /// # Errors
    ///
    /// What of the head is not as it must be; a path that is no request target.
    pub fn of_file(text: &[u8], path: &str) -> Result<Self, Unreadable> {
        if text.trim_ascii_start().starts_with(b"{") {
            return Self::post(path, text.to_vec());
        }
        Self::of_text(text)
    }

    /// A whole HTTP/1 request: request line, headers, an empty line, the body.
    ///
    /// # Errors
    ///
    /// What of the head is not as it must be.
    pub fn of_text(text: &[u8]) -> Result<Self, Unreadable> {
        let (head, body) = split(text);
        let head =
            std::str::from_utf8(head).map_err(|_| Unreadable("the head is no text".into()))?;
        let mut lines = head.lines();
        let first = lines.next().unwrap_or_default();
        let mut words = first.split_ascii_whitespace();
        let method = words
            .next()
            .and_then(|word| Method::from_bytes(word.as_bytes()).ok());
        let uri = words.next().and_then(|word| word.parse::<Uri>().ok());
        let (Some(method), Some(uri)) = (method, uri) else {
            let told = "the first line must be as in `POST /v1/chat/completions HTTP/1.1`";
            return Err(Unreadable(told.into()));
        };
        let mut req = Request::new(body.to_vec());
        (*req.method_mut(), *req.uri_mut()) = (method, uri);
        for line in lines.filter(|line| !line.trim().is_empty()) {
            let parsed = line.split_once(':').and_then(|(name, value)| {
                let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
                Some((name, HeaderValue::from_str(value.trim()).ok()?))
            });
            let Some((name, value)) = parsed else {
                return Err(Unreadable("a line of the head is not `name: value`".into()));
            };
            req.headers_mut().append(name, value);
        }
        Ok(Self::of(req))
    }

    fn of(request: Request<Vec<u8>>) -> Self {
        Self {
            request,
            caller: None,
        }
    }

    /// The same, asked by a page of this origin.
    #[must_use]
    pub fn from_page(mut self, origin: HeaderValue) -> Self {
        self.request.headers_mut().insert(ORIGIN, origin);
        self
    }

    /// The same, asked by this caller of the configuration, whatever key the request brings.
    #[must_use]
    pub fn by(mut self, caller: impl Into<String>) -> Self {
        self.caller = Some(caller.into());
        self
    }
}

/// Head and body, at the first empty line.
fn split(text: &[u8]) -> (&[u8], &[u8]) {
    let marks: [&[u8]; 2] = [b"\r\n\r\n", b"\n\n"];
    let at = |mark: &[u8]| {
        memchr::memmem::find(text, mark).map(|at| (&text[..at], &text[at + mark.len()..]))
    };
    let found = marks
        .into_iter()
        .filter_map(at)
        .min_by_key(|(head, _)| head.len());
    found.unwrap_or((text, &[]))
}
