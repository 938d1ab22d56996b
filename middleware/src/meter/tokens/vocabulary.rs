use bpe_openai::Tokenizer;

/// Which of OpenAI's vocabularies a model has, and how its prompts are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::meter) enum Vocabulary {
    /// `cl100k`: GPT-4 and 3.5.
    Older,
    /// `o200k`: GPT-4o, 4.1.
    Newer,
    /// `o200k`, of models that think.
    Thinking,
    /// `o200k`, with the frame of the open weights.
    Harmony,
}

impl Vocabulary {
    /// By the model's name; `None` for what is not known to have one of them.
    pub(super) fn of(model: &str) -> Option<Self> {
        let last = model.rsplit('/').next().unwrap_or_default();
        let begins = |word: &str| {
            last.get(..word.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(word))
        };
        let known = NAMES.iter().find(|(word, _)| begins(word));
        known.map(|(_, vocabulary)| *vocabulary)
    }

    /// Loaded by the first call, which takes a tenth of a second.
    pub(super) fn load(self) -> &'static Tokenizer {
        match self {
            Self::Older => bpe_openai::cl100k_base(),
            Self::Newer | Self::Thinking | Self::Harmony => bpe_openai::o200k_base(),
        }
    }

    /// Tokens around all messages together.
    pub(super) const fn around_messages(self) -> u64 {
        match self {
            Self::Older | Self::Newer => 3,
            Self::Thinking => 2,
            // What the model is, the date and the channels stand in front.
            Self::Harmony => 66,
        }
    }

    /// Tokens in front of a tool.
    pub(super) const fn before_a_tool(self) -> u64 {
        match self {
            Self::Older => 10,
            Self::Newer | Self::Thinking | Self::Harmony => 7,
        }
    }

    /// Tokens behind all tools.
    pub(super) const fn around_tools(self) -> u64 {
        match self {
            Self::Older | Self::Newer | Self::Thinking => 12,
            // A message of its own, and what channel calls go to.
            Self::Harmony => 28,
        }
    }
}

/// As OpenAI's tiktoken assigns them; a longer name stands before what it begins with.
const NAMES: [(&str, Vocabulary); 17] = [
    ("gpt-4o", Vocabulary::Newer),
    ("gpt-4.1", Vocabulary::Newer),
    ("gpt-4.5", Vocabulary::Newer),
    ("chatgpt-4o", Vocabulary::Newer),
    ("gpt-audio", Vocabulary::Newer),
    ("gpt-realtime", Vocabulary::Newer),
    ("gpt-5", Vocabulary::Thinking),
    ("o1", Vocabulary::Thinking),
    ("o3", Vocabulary::Thinking),
    ("o4", Vocabulary::Thinking),
    ("gpt-oss", Vocabulary::Harmony),
    ("gpt-4", Vocabulary::Older),
    ("gpt-3.5", Vocabulary::Older),
    ("gpt-35", Vocabulary::Older),
    ("text-embedding-", Vocabulary::Older),
    ("davinci-002", Vocabulary::Older),
    ("babbage-002", Vocabulary::Older),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_has_the_vocabulary_that_tiktoken_gives_it() {
        for (model, vocabulary) in [
            ("gpt-4o-mini-2024-07-18", Some(Vocabulary::Newer)),
            ("openai/gpt-oss-120b", Some(Vocabulary::Harmony)),
            ("O3-mini", Some(Vocabulary::Thinking)),
            ("gpt-5.2", Some(Vocabulary::Thinking)),
            ("gpt-4-turbo", Some(Vocabulary::Older)),
            ("gpt-4", Some(Vocabulary::Older)),
            ("gpt-35-turbo", Some(Vocabulary::Older)),
            ("text-embedding-3-small", Some(Vocabulary::Older)),
            ("claude-sonnet-4", None),
            ("", None),
        ] {
            assert_eq!(Vocabulary::of(model), vocabulary, "{model}");
        }
    }
}
