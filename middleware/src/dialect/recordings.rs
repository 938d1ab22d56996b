//! Recorded provider traffic, for tests.

use std::{env, fs, path::Path};

use serde_json::Value;

use super::{Dialect, Framing, Operation, Surface, framing};

/// One recorded exchange.
pub(super) struct Recording {
    /// `provider/name`
    pub(super) name: String,
    pub(super) surface: Surface,
    pub(super) stream: bool,
    pub(super) status: u16,
    pub(super) content_type: Option<String>,
    pub(super) meta: Value,
    pub(super) expected: Value,
    pub(super) body: Vec<u8>,
}

impl Recording {
    pub(super) fn framing(&self) -> Framing {
        framing(
            Some(&self.surface),
            self.stream,
            self.status,
            self.content_type.as_deref(),
            false,
        )
    }

    fn read(folder: &Path, name: String) -> Self {
        let json = |file: &str| -> Value {
            let text = fs::read(folder.join(file)).expect("a file of the recording");
            serde_json::from_slice(&text).expect("JSON of the recording")
        };
        let (meta, expected) = (json("response.meta.json"), json("expected.json"));
        let stream = expected["stream"] == true;
        let headers = meta["response_headers"].as_array().expect("a list");
        Self {
            name,
            surface: surface(expected["dialect"].as_str().expect("a dialect"), stream),
            stream,
            status: u16::try_from(meta["status"].as_u64().expect("a status")).expect("a status"),
            content_type: headers
                .iter()
                .find(|header| header[0] == "content-type")
                .and_then(|header| header[1].as_str().map(str::to_owned)),
            body: fs::read(folder.join(meta["body_file"].as_str().expect("a file")))
                .expect("a body"),
            meta,
            expected,
        }
    }
}

/// Every recording of the repository, and of the folder that `TOLLGATE_FIXTURES` names.
pub(super) fn all() -> Vec<Recording> {
    let mut all = kept();
    if let Some(folder) = env::var_os("TOLLGATE_FIXTURES") {
        let folder = Path::new(&folder);
        let inner = folder.join("recordings");
        all.extend(within(if inner.is_dir() { &inner } else { folder }));
    }
    all
}

/// The recordings of the repository.
pub(super) fn kept() -> Vec<Recording> {
    let kept = within(Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/fixtures/recordings"
    )));
    assert!(kept.len() > 15, "the repository's recordings are there");
    kept
}

fn within(root: &Path) -> Vec<Recording> {
    let folders = |of: &Path| {
        let mut found: Vec<_> = fs::read_dir(of)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.is_dir())
            .collect();
        found.sort();
        found
    };
    let mut all = Vec::new();
    for provider in folders(root) {
        for folder in folders(&provider) {
            let name = folder
                .strip_prefix(root)
                .expect("inside")
                .display()
                .to_string();
            all.push(Recording::read(&folder, name));
        }
    }
    all
}

fn surface(dialect: &str, stream: bool) -> Surface {
    use Operation as O;
    let (dialect, operation) = match dialect {
        "openai.chat" => (Dialect::OpenAi, O::Chat),
        "openai.completions" => (Dialect::OpenAi, O::Completions),
        "openai.responses" => (Dialect::OpenAi, O::Responses),
        "openai.embeddings" => (Dialect::OpenAi, O::Embeddings),
        "openai.images" => (Dialect::OpenAi, O::Images),
        "anthropic.messages" => (Dialect::Anthropic, O::Messages),
        "anthropic.count_tokens" => (Dialect::Anthropic, O::CountTokens),
        "gemini.generate" => (Dialect::Gemini, O::Generate),
        "gemini.embeddings" => (Dialect::Gemini, O::Embeddings),
        "cohere.v2.chat" => (Dialect::Cohere, O::Chat),
        "cohere.v2.rerank" => (Dialect::Cohere, O::Rerank),
        "ollama.chat" => (Dialect::Ollama, O::Chat),
        "bedrock.converse" => (Dialect::Bedrock, O::Converse),
        "bedrock.invoke" => (Dialect::Bedrock, O::Invoke),
        other => panic!("no surface for {other}"),
    };
    Surface {
        dialect,
        operation,
        prefix: 0..0,
        model: None,
        stream: Some(stream),
    }
}
