//! How a recorded request is addressed through a gateway.

/// Each field is that of [`Recording`](super::Recording) with the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) dialect: &'static str,
    pub(super) base: String,
    pub(super) asked: String,
    pub(super) arrives: String,
}

/// Where a base URL has a path, it stands in place of the caller's `/v1`; a bare one keeps the caller's whole path.
/// So a provider without a prefix of its own is replayed behind `/v1`.
pub(super) fn address(shape: &str, path: &str) -> Address {
    let path: String = path
        .split('#')
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|c| !matches!(c, '<' | '>'))
        .collect();
    let at = |dialect, base: &str, asked: &str, arrives: &str| Address {
        dialect,
        base: base.to_owned(),
        asked: asked.to_owned(),
        arrives: arrives.to_owned(),
    };
    match shape.split('.').next().unwrap_or_default() {
        "openai" if path.contains("/openai/deployments/") => at("azure", "", &path, &path),
        "openai" => match openai_surface(&path) {
            Some(0) => at("openai", "", &format!("/v1{path}"), &format!("/v1{path}")),
            Some(prefix) => at(
                "openai",
                &path[..prefix],
                &format!("/v1{}", &path[prefix..]),
                &path,
            ),
            None => at("raw", "", &path, &path),
        },
        "anthropic" if !shape.contains("batch") => match path.find("/v1/messages") {
            Some(0) => at("anthropic", "", &path, &path),
            Some(prefix) => at(
                "anthropic",
                &format!("{}/v1", &path[..prefix]),
                &path[prefix..],
                &path,
            ),
            None => at("raw", "", &path, &path),
        },
        "gemini" => at("gemini", "", &path, &path),
        "ollama" => at("ollama", "", &path, &path),
        "cohere" => at("cohere", "", &path, &path),
        "bedrock" => at("bedrock", "", &path, &path),
        _ => at("raw", "", &path, &path),
    }
}

/// What follows the id in `/responses/<id>…`.
fn behind_response(path: &str) -> Option<&str> {
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let id = path.strip_prefix("/responses/")?;
    let rest = id.trim_start_matches(word);
    (rest.len() < id.len()).then_some(rest)
}

/// Where, behind a provider's prefix, one of OpenAI's surfaces begins and the path ends with it.
fn openai_surface(path: &str) -> Option<usize> {
    const SURFACES: [&str; 7] = [
        "/chat/completions",
        "/completions",
        "/embeddings",
        "/images/generations",
        "/images/edits",
        "/audio/transcriptions",
        "/responses",
    ];
    let over = |rest: &str| rest.is_empty() || rest.starts_with('?');
    path.match_indices('/').map(|(at, _)| at).find(|&at| {
        let rest = &path[at..];
        let surface = SURFACES
            .iter()
            .filter_map(|surface| rest.strip_prefix(surface))
            .any(over);
        surface || behind_response(rest).is_some_and(over)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(shape: &str, path: &str) -> [String; 4] {
        let Address {
            dialect,
            base,
            asked,
            arrives,
        } = address(shape, path);
        [dialect.to_owned(), base, asked, arrives]
    }

    #[test]
    fn a_prefix_goes_to_the_base_and_v1_stands_in_its_place() {
        let groq = "/openai/v1/chat/completions";
        assert_eq!(
            parts("openai.chat", groq),
            ["openai", "/openai/v1", "/v1/chat/completions", groq]
        );
        let bare = "/v1/chat/completions";
        assert_eq!(
            parts("openai.chat", "/chat/completions"),
            ["openai", "", bare, bare]
        );
        let models = "/models/chat/completions?api-version=1";
        assert_eq!(
            parts("openai.chat", models),
            [
                "openai",
                "/models",
                "/v1/chat/completions?api-version=1",
                models
            ]
        );
        let item = "/v1/responses/resp_1-a?stream=true#part";
        let cut = item.trim_end_matches("#part");
        assert_eq!(
            parts("openai.responses", item),
            ["openai", "/v1", "/v1/responses/resp_1-a?stream=true", cut]
        );
    }

    #[test]
    fn what_no_surface_ends_is_raw() {
        for path in [
            "/v1/responses/a/items",
            "/v1/models",
            "/v1/chat/completions/",
            "/v1/responses/",
        ] {
            assert_eq!(parts("openai.chat", path), ["raw", "", path, path]);
        }
        assert_eq!(parts("anthropic.batch", "/v1/messages/batches")[0], "raw");
        assert_eq!(parts("unheard.of", "/x")[0], "raw");
    }

    #[test]
    fn each_dialect_is_addressed_in_its_own_way() {
        let azure = "/openai/deployments/d/chat/completions?api-version=1";
        assert_eq!(parts("openai.chat", azure), ["azure", "", azure, azure]);
        let foundry = "/anthropic/v1/messages?beta=true";
        assert_eq!(
            parts("anthropic.messages", foundry),
            [
                "anthropic",
                "/anthropic/v1",
                "/v1/messages?beta=true",
                foundry
            ]
        );
        let count = "/v1/messages/count_tokens";
        assert_eq!(
            parts("anthropic.count_tokens", count),
            ["anthropic", "", count, count]
        );
        let gemini = "/v1beta/projects/<LOCATION>/m:streamGenerateContent";
        assert_eq!(
            parts("gemini.generate", gemini)[3],
            "/v1beta/projects/LOCATION/m:streamGenerateContent"
        );
    }
}
