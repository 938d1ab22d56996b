//! What the bytes of a provider's API mean: which surface a path names, what a request asks for, how an
//! answer is framed, when it has ended well, where usage sits, and how an error of ours is worded.
//!
//! Everything here is a pure function or a small state machine over bytes: no I/O, no clock, no body type.
//! Hostile input costs linear time and bounded memory and never panics. Nothing here edits anything: what
//! is found is told as spans of the bytes that were given.

use std::{fmt, str::FromStr};

pub mod alive;
pub mod ending;
pub mod errors;
pub mod events;
pub mod eventstream;
pub mod framing;
pub mod multipart;
pub mod pieces;
pub mod refusal;
pub mod request;
#[cfg(feature = "word_filter")]
pub(crate) mod said;
#[cfg(any(feature = "budget", feature = "token_cap"))]
pub(crate) mod spelling;
pub mod surface;
#[cfg(feature = "word_filter")]
pub(crate) mod units;
pub mod usage;

#[cfg(test)]
mod recordings;

pub use self::{
    alive::keep_alive,
    ending::{Ending, Judge},
    errors::{Shape, Told, error_body, error_event},
    events::{Event, Events},
    framing::{Framing, framing, framing_of},
    multipart::Parts,
    refusal::{Refusal, is_error},
    request::{Asked, Limit, Reading, Role, Spoken, Unfit, last_user_text, read, spoken, texts},
    surface::{Recognised, Surface, decode, join, recognise, surface_of},
    usage::{Usage, report, usage},
};

/// The methods that a provider may be asked with, as the header `allow` lists them.
pub const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// The shape of an API, in the words of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI and everything shaped like it.
    OpenAi,
    /// Anthropic's Messages API.
    Anthropic,
    /// Google's Gemini API and Vertex.
    Gemini,
    /// Azure OpenAI with deployments in the path; bodies as OpenAI's.
    Azure,
    /// Ollama's own API.
    Ollama,
    /// Cohere's own API.
    Cohere,
    /// Amazon Bedrock runtime.
    Bedrock,
    /// The built-in provider that answers by itself.
    Mock,
    /// Bytes that are relayed and not read.
    Raw,
}

/// What is asked for, whatever the dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A conversation turn: OpenAI, Ollama and Cohere chat.
    Chat,
    /// A bare prompt continued: OpenAI's legacy completions.
    Completions,
    /// OpenAI's Responses.
    Responses,
    /// Anthropic's Messages.
    Messages,
    /// Gemini's generateContent and streamGenerateContent, Ollama's generate.
    Generate,
    /// Bedrock's Converse.
    Converse,
    /// Bedrock's InvokeModel: a body in the model's own words.
    Invoke,
    /// Vertex's predict: a body in the model's own words.
    Predict,
    /// Vectors of texts.
    Embeddings,
    /// Documents ordered by relevance.
    Rerank,
    /// Judging a text.
    Moderations,
    /// How many input tokens a request would cost.
    CountTokens,
    /// An image from a prompt.
    Images,
    /// An image from an image and a prompt; multipart.
    ImageEdits,
    /// An image from an image; multipart.
    ImageVariations,
    /// Audio from text.
    Speech,
    /// Text from audio; multipart.
    Transcriptions,
    /// English text from audio; multipart.
    Translations,
    /// The list of models.
    Models,
    /// One model's description.
    Model,
}

/// A word that names no dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownDialect(());

// ===== impl Dialect =====

impl Dialect {
    /// Every dialect, in the order of the configuration's documentation.
    pub const ALL: [Self; 9] = [
        Self::OpenAi,
        Self::Anthropic,
        Self::Gemini,
        Self::Azure,
        Self::Ollama,
        Self::Cohere,
        Self::Bedrock,
        Self::Mock,
        Self::Raw,
    ];

    /// The word of the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Azure => "azure",
            Self::Ollama => "ollama",
            Self::Cohere => "cohere",
            Self::Bedrock => "bedrock",
            Self::Mock => "mock",
            Self::Raw => "raw",
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Dialect {
    type Err = UnknownDialect;

    fn from_str(word: &str) -> Result<Self, UnknownDialect> {
        Self::ALL
            .into_iter()
            .find(|dialect| dialect.as_str() == word)
            .ok_or(UnknownDialect(()))
    }
}

// ===== impl Operation =====

impl Operation {
    /// Every operation, in the order of their declaration.
    pub const ALL: [Self; 20] = [
        Self::Chat,
        Self::Completions,
        Self::Responses,
        Self::Messages,
        Self::Generate,
        Self::Converse,
        Self::Invoke,
        Self::Predict,
        Self::Embeddings,
        Self::Rerank,
        Self::Moderations,
        Self::CountTokens,
        Self::Images,
        Self::ImageEdits,
        Self::ImageVariations,
        Self::Speech,
        Self::Transcriptions,
        Self::Translations,
        Self::Models,
        Self::Model,
    ];

    /// The word of the configuration, the log and the metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
            Self::Responses => "responses",
            Self::Messages => "messages",
            Self::Generate => "generate",
            Self::Converse => "converse",
            Self::Invoke => "invoke",
            Self::Predict => "predict",
            Self::Embeddings => "embeddings",
            Self::Rerank => "rerank",
            Self::Moderations => "moderations",
            Self::CountTokens => "count_tokens",
            Self::Images => "images",
            Self::ImageEdits => "image_edits",
            Self::ImageVariations => "image_variations",
            Self::Speech => "speech",
            Self::Transcriptions => "transcriptions",
            Self::Translations => "translations",
            Self::Models => "models",
            Self::Model => "model",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// ===== impl UnknownDialect =====

impl fmt::Display for UnknownDialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such dialect")
    }
}

impl std::error::Error for UnknownDialect {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dialect_is_read_back_from_its_word() {
        for dialect in Dialect::ALL {
            assert_eq!(dialect.to_string().parse(), Ok(dialect));
        }
        assert_eq!("OpenAI".parse::<Dialect>(), Err(UnknownDialect(())));
    }
}
