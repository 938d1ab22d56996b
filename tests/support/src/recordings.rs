//! Recorded provider traffic, and how each recording is addressed through a gateway.
//!
//! Recordings come from the folder that the environment variable [`FIXTURES`] names and from the project's own copies under
//! `tests/fixtures/recordings`. A recording is a folder `<provider>/<name>` with `response.meta.json`, `expected.json`, the
//! response body and, where they were published, the request body and the sizes of the network reads.
//!
//! Responses are to be replayed with a framing of their own: headers that speak of coding, length or connection are left out.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use serde_json::{Value, json};

use self::address::{Address, address};
use crate::splits::{Split, splits};

mod address;

/// The variable that names the folder of recordings.
pub const FIXTURES: &str = "TOLLGATE_FIXTURES";

/// One recorded exchange.
#[derive(Clone, Debug)]
pub struct Recording {
    /// Who sent the response.
    pub provider: String,
    /// `<provider>/<name>`, unique.
    pub name: String,
    /// The dialect to configure for its provider: `openai`, `azure`, `anthropic`, `gemini`, `ollama`, `cohere`, `bedrock`, `raw`.
    pub dialect: &'static str,
    /// What kind of exchange it is, such as `openai.chat`.
    pub shape: String,
    /// Method of the request.
    pub method: String,
    /// Path and query that a caller asks the gateway for.
    pub asked: String,
    /// Path of the provider's base URL; empty for a bare one.
    pub base: String,
    /// Path and query that must arrive upstream.
    pub arrives: String,
    /// Request headers as recorded, lower-case names; credentials are left out.
    pub request_headers: Vec<(String, String)>,
    /// The request body; a plausible one where none was published, empty for GET.
    pub request: Vec<u8>,
    /// Status of the response.
    pub status: u16,
    /// Response headers to replay, with a content type in any case.
    pub headers: Vec<(String, String)>,
    /// The response body, decoded.
    pub body: Vec<u8>,
    /// Sizes of the network reads, where they were kept; they add up to the body.
    pub chunks: Option<Vec<usize>>,
    /// Format of the body: `sse`, `json`, `ndjson`, `bin`.
    pub format: String,
    /// Whether the response was streamed.
    pub stream: bool,
    /// Ground truth derived from the body.
    pub expected: Value,
    /// Whether the shape is one that is metered by its words and not by its bytes alone.
    pub known: bool,
    /// A stream without any sign of its end: must be replayed with `end: transport`.
    pub unmarked: bool,
}

/// All recordings, sorted by name. One that both folders hold is taken from [`FIXTURES`].
///
/// # Panics
/// When [`FIXTURES`] names no folder, and when a recording cannot be read.
pub fn all() -> &'static [Recording] {
    static ALL: OnceLock<Vec<Recording>> = OnceLock::new();
    ALL.get_or_init(|| {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/recordings");
        let given = env::var_os(FIXTURES)
            .filter(|folder| !folder.is_empty())
            .map(PathBuf::from);
        if let Some(folder) = &given {
            assert!(
                folder.is_dir(),
                "{FIXTURES} names no folder: {}",
                folder.display()
            );
        }
        let mut all: Vec<_> = given
            .iter()
            .chain([&own])
            .flat_map(|root| load(root))
            .collect();
        // Stable, so the given folder's stays in front of its copy.
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all.dedup_by(|copy, first| copy.name == first.name);
        all
    })
}

/// The recording of this name.
///
/// # Panics
/// When there is none.
pub fn named(name: &str) -> &'static Recording {
    let found = all().iter().find(|recording| recording.name == name);
    found.unwrap_or_else(|| panic!("no recording {name}; is {FIXTURES} set?"))
}

/// The recordings below a folder; none when there is no such folder.
///
/// # Panics
/// When a recording cannot be read.
#[must_use]
pub fn load(root: &Path) -> Vec<Recording> {
    let folders = folders(root)
        .into_iter()
        .flat_map(|provider| folders(&provider));
    folders
        .filter(|folder| folder.join("response.meta.json").is_file())
        .map(|folder| Recording::read(&folder))
        .collect()
}

// ===== impl Recording =====

impl Recording {
    /// The splits worth replaying the body in: whole, byte by byte, as recorded, and `random` seeded ones.
    #[must_use]
    pub fn splits(&self, seed: u64, random: u64) -> Vec<Split> {
        splits(self.body.len(), self.chunks.as_deref(), seed, random)
    }

    /// Whether the caller asked for a stream; `None` where the recording cannot tell.
    #[must_use]
    pub fn asked_stream(&self) -> Option<bool> {
        if self.method != "POST" || !self.known {
            return None;
        }
        if matches!(self.dialect, "gemini" | "bedrock") {
            let path = self.asked.split('?').next().unwrap_or_default();
            let act = path.rsplit('/').next().unwrap_or_default();
            return Some(act.to_ascii_lowercase().contains("stream"));
        }
        let request: Value = serde_json::from_slice(&self.request).unwrap_or_default();
        let default = request.is_object() && self.dialect == "ollama";
        Some(request["stream"].as_bool().unwrap_or(default))
    }

    /// The words that are right for how it ended: an error event inside a 200 stream ends it as `upstream_error`, whatever
    /// follows; all else here is `complete`. An error that is no event, behind a finish reason, may be called either.
    #[must_use]
    pub fn ended(&self) -> &'static [&'static str] {
        let error = &self.expected["error"];
        if !(truthy(error) && self.stream && self.known && self.status < 400) {
            return &["complete"];
        }
        if error["where"] == "bare_json_after_last_event" {
            return &["complete", "upstream_error"];
        }
        &["upstream_error"]
    }

    /// Number of events, lines, elements or messages; `None` for one document.
    #[must_use]
    pub fn units(&self) -> Option<u64> {
        [
            ("sse", "events"),
            ("ndjson", "lines"),
            ("json_array", "elements"),
            ("eventstream", "messages"),
        ]
        .into_iter()
        .find_map(|(format, unit)| self.expected[format][unit].as_u64())
    }

    fn read(folder: &Path) -> Self {
        let (meta, expected) = (
            document(folder, "response.meta.json"),
            document(folder, "expected.json"),
        );
        let (shape, format) = (text(&expected["dialect"]), text(&expected["format"]));
        let stream = expected["stream"] == true || format == "ndjson";
        let Address {
            dialect,
            base,
            asked,
            arrives,
        } = address(&shape, &text(&meta["path"]));
        // Nobody promises to read usage from these two: they count as bytes.
        let known =
            dialect != "raw" && !matches!(shape.as_str(), "ollama.embeddings" | "cohere.v2.embed");
        let ends = truthy(&expected["ended_with_terminal"])
            || truthy(&expected["finish_reasons"])
            || truthy(&expected["sse"]["undispatched_tail"])
            || truthy(&expected["error"]);
        let chunks = meta["chunks_file"]
            .as_str()
            .map(|file| sizes(&document(folder, file)["sizes"]));
        Self {
            provider: text(&meta["provider"]),
            name: text(&meta["name"]),
            method: text(&meta["method"]),
            request_headers: pairs(&meta["request_headers"]),
            request: request(folder, &meta, &shape, stream),
            status: meta["status"]
                .as_u64()
                .and_then(|status| status.try_into().ok())
                .expect("a recording has a status"),
            headers: headers(&meta["response_headers"], &format),
            body: bytes(folder, &text(&meta["body_file"])),
            unmarked: known && stream && !ends,
            dialect,
            shape,
            asked,
            base,
            arrives,
            chunks,
            format,
            stream,
            expected,
            known,
        }
    }
}

fn request(folder: &Path, meta: &Value, shape: &str, stream: bool) -> Vec<u8> {
    if meta["method"] == "GET" {
        return Vec::new();
    }
    if let Some(file) = meta["request_file"].as_str() {
        return bytes(folder, file);
    }
    if shape.starts_with("gemini") {
        return json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]})
            .to_string()
            .into_bytes();
    }
    let model = meta["model"].as_str().unwrap_or("test-model");
    let body = if shape == "openai.responses" {
        json!({"model": model, "stream": stream, "input": "hi"})
    } else {
        json!({"model": model, "stream": stream, "max_tokens": 64, "messages": [{"role": "user", "content": "hi"}]})
    };
    body.to_string().into_bytes()
}

fn headers(recorded: &Value, format: &str) -> Vec<(String, String)> {
    let mut headers = pairs(recorded);
    headers.retain(|(name, _)| !UNTESTED.contains(&name.as_str()));
    if !headers.iter().any(|(name, _)| name == "content-type") {
        let kind = match format {
            "bin" => "application/vnd.amazon.eventstream",
            "ndjson" => "application/x-ndjson",
            "sse" => "text/event-stream",
            _ => "application/json",
        };
        headers.push(("content-type".to_owned(), kind.to_owned()));
    }
    headers
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

fn bytes(folder: &Path, file: &str) -> Vec<u8> {
    let file = folder.join(file);
    fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn document(folder: &Path, file: &str) -> Value {
    serde_json::from_slice(&bytes(folder, file))
        .unwrap_or_else(|error| panic!("{}/{file}: {error}", folder.display()))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn pairs(value: &Value) -> Vec<(String, String)> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .map(|pair| (text(&pair[0]), text(&pair[1])))
        .collect()
}

fn sizes(value: &Value) -> Vec<usize> {
    let sizes = value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_u64);
    sizes
        .filter_map(|size| usize::try_from(size).ok())
        .collect()
}

fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is) => *is,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Number(_) | Value::String(_) => true,
    }
}

/// Headers that the replay makes anew or that say nothing of the provider.
const UNTESTED: [&str; 12] = [
    "connection",
    "content-encoding",
    "content-length",
    "date",
    "keep-alive",
    "server",
    "server-timing",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "via",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::needs;

    fn write(root: &Path, meta: &Value, expected: &Value) -> Recording {
        let folder = root.join("p/stream");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("response.meta.json"), meta.to_string()).unwrap();
        fs::write(folder.join("expected.json"), expected.to_string()).unwrap();
        fs::write(folder.join("chunks.json"), r#"{"sizes": [4, 6]}"#).unwrap();
        fs::write(folder.join("response.body.sse"), "data: 1\r\n\r").unwrap();
        let mut found = load(root);
        assert_eq!(found.len(), 1);
        found.remove(0)
    }

    #[test]
    fn a_folder_is_read_as_it_stands() {
        let root = tempfile::tempdir().unwrap();
        let meta = json!({
            "provider": "p", "name": "p/stream", "method": "POST", "path": "/chat/completions", "model": null,
            "status": 200, "request_file": null, "body_file": "response.body.sse", "chunks_file": "chunks.json",
            "request_headers": [], "response_headers": [["date", "x"], ["x-request-id", "1"]],
        });
        let mut expected = json!({
            "dialect": "openai.chat", "format": "sse", "stream": true, "finish_reasons": [], "error": null,
            "ended_with_terminal": false, "sse": {"events": 1, "undispatched_tail": false},
        });
        let read = write(root.path(), &meta, &expected);
        assert_eq!(
            (read.name.as_str(), read.status, read.body.as_slice()),
            ("p/stream", 200, &b"data: 1\r\n\r"[..])
        );
        assert_eq!(read.headers[0], ("x-request-id".to_owned(), "1".to_owned()));
        assert_eq!(
            read.headers[1],
            ("content-type".to_owned(), "text/event-stream".to_owned())
        );
        assert_eq!(
            (read.chunks.as_deref(), read.unmarked, read.units()),
            (Some(&[4, 6][..]), true, Some(1))
        );
        assert_eq!(
            (read.asked_stream(), read.ended()),
            (Some(true), &["complete"][..])
        );
        assert!(read.splits(1, 2).contains(&Split::Sizes(vec![4, 6])));

        for (field, value) in [
            ("ended_with_terminal", json!(true)),
            ("finish_reasons", json!(["stop"])),
            ("error", json!({"where": "stream"})),
            ("sse", json!({"undispatched_tail": true})),
        ] {
            let before = std::mem::replace(&mut expected[field], value);
            let read = write(root.path(), &meta, &expected);
            assert!(!read.unmarked, "{field}");
            assert_eq!(read.ended() == ["upstream_error"], field == "error");
            expected[field] = before;
        }
        assert!(load(&root.path().join("nowhere")).is_empty());
    }

    #[test]
    fn every_recording_at_hand_is_consistent() {
        if !needs::program("recordings", || !all().is_empty()) {
            return;
        }
        for recording in all() {
            let name = &recording.name;
            assert_eq!(
                recording.expected["body_bytes"],
                recording.body.len(),
                "{name}"
            );
            assert!(
                name.starts_with(&format!("{}/", recording.provider)),
                "{name}"
            );
            assert!(
                recording.asked.starts_with('/') && recording.arrives.starts_with('/'),
                "{name}"
            );
            assert!((100..600).contains(&recording.status), "{name}");
            assert!(
                recording
                    .headers
                    .iter()
                    .any(|(key, _)| key == "content-type"),
                "{name}"
            );
            assert!(
                recording.method == "GET" || !recording.request.is_empty(),
                "{name}"
            );
            if let Some(chunks) = &recording.chunks {
                assert_eq!(chunks.iter().sum::<usize>(), recording.body.len(), "{name}");
            }
            // With its prefix in the base, the caller's path without `/v1` must lead to the recorded one.
            if !recording.base.is_empty() {
                let asked = recording.asked.strip_prefix("/v1").unwrap();
                assert_eq!(
                    format!("{}{asked}", recording.base),
                    recording.arrives,
                    "{name}"
                );
            }
            assert_eq!(named(name).name, *name);
        }
    }
}
