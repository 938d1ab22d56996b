//! How many tokens a text is, without its tokenizer: a guess, corrected by what providers report.
//!
//! Whoever reads the reports [learns](Estimator::learn), and whoever has to reckon beforehand [asks](Estimator::prompt): two layers
//! that share one [`Estimator`] need to know nothing else of each other.
//!
//! ```
//! use tollgate_middleware::estimate::{Estimator, Family, Side};
//!
//! let estimator = Estimator::default();
//! assert_eq!(estimator.prompt(Some("llama-3.1-8b"), (4300, 0)), 1000);
//! for _ in 0..100 {
//!     estimator.learn(Family::of("llama-3.1-8b"), Side::Prompt, 4300, 2000);
//! }
//! assert!(estimator.prompt(Some("llama-3.1-8b"), (4300, 0)) > 1900);
//! ```

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Models that share a tokenizer, or nearly so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Family {
    /// OpenAI's.
    OpenAi,
    /// Anthropic's.
    Claude,
    /// Google's, Gemma among them.
    Gemini,
    /// Meta's.
    Llama,
    /// Mistral's.
    Mistral,
    /// Alibaba's.
    Qwen,
    /// DeepSeek's.
    DeepSeek,
    /// xAI's.
    Grok,
    /// Cohere's.
    Cohere,
    /// The open weights of OpenAI's.
    Harmony,
    /// Any other.
    Other,
}

/// What is known of how long tokens are: a guess per family, corrected by what providers report.
///
/// Clones share what they learn. It is a fixed number of words, and each is a sum that forgets.
#[derive(Clone, Debug, Default)]
pub struct Estimator(Arc<Learnt>);

#[derive(Debug, Default)]
struct Learnt {
    families: [Sums; Family::COUNT],
    answers: AtomicU64,
}

/// What was seen of one family.
#[derive(Debug, Default)]
struct Sums {
    prompt: Sum,
    completion: Sum,
}

/// Bytes or units in the upper half, tokens in the lower.
#[derive(Debug, Default)]
struct Sum(AtomicU64);

/// Which direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What is asked, in bytes.
    Prompt,
    /// What is generated, in units of text.
    Completion,
}

// ===== impl Family =====

impl Family {
    const COUNT: usize = 11;

    /// By the name of a model, whoever serves it.
    pub fn of(model: &str) -> Self {
        /// Names are short; what is longer is nobody's.
        const LONGEST: usize = 128;
        let name = model.get(..model.len().min(LONGEST)).unwrap_or_default();
        let has = |word: &str| {
            name.as_bytes()
                .windows(word.len())
                .any(|part| part.eq_ignore_ascii_case(word.as_bytes()))
        };
        let last = name.rsplit('/').next().unwrap_or_default();
        let begins = |word: &str| {
            last.get(..word.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(word))
        };
        // What most are called is found without a search.
        if begins("gpt-oss") {
            Self::Harmony
        } else if begins("gpt") || OPENAI.into_iter().any(begins) {
            Self::OpenAi
        } else if begins("claude") || has("claude") {
            Self::Claude
        } else if begins("gemini") || has("gemini") || has("gemma") {
            Self::Gemini
        } else if has("deepseek") {
            Self::DeepSeek
        } else if has("qwen") || has("qwq") {
            Self::Qwen
        } else if has("grok") {
            Self::Grok
        } else if has("mistral") || has("mixtral") || has("codestral") || has("magistral") {
            Self::Mistral
        } else if has("command-") {
            Self::Cohere
        } else if has("gpt-oss") {
            Self::Harmony
        } else if has("llama") || has("sonar") {
            Self::Llama
        } else if has("gpt") {
            Self::OpenAi
        } else {
            Self::Other
        }
    }

    /// Bytes of a JSON request, or units of a generated text, that are one token, before anything was seen. Measured on the
    /// recordings; a test prints the error.
    const fn guess(self, side: Side) -> f64 {
        match (side, self) {
            (Side::Prompt, Self::Claude) => 3.6,
            (Side::Prompt, Self::Mistral | Self::Other) => 4.0,
            (Side::Prompt, _) => 4.3,
            (Side::Completion, Self::Claude) => 0.93,
            (Side::Completion, _) => 1.0,
        }
    }
}

// ===== impl Estimator =====

impl Estimator {
    /// The tokens of so many bytes or units; at least one for any.
    pub fn tokens(&self, family: Family, side: Side, amount: u64) -> u64 {
        if amount == 0 {
            return 0;
        }
        let (seen, tokens) = self.sum(family, side).load();
        let ratio = (GUESSED * family.guess(side) + seen) / (GUESSED + tokens);
        // A double is exact enough for what is an estimate.
        ((amount as f64 / ratio).round() as u64).max(1)
    }

    /// The tokens of a prompt for a model: so many bytes of text, and so many images and files.
    pub fn prompt(&self, model: Option<&str>, (bytes, media): (u64, u64)) -> u64 {
        let family = model.map_or(Family::Other, Family::of);
        let text = self.tokens(family, Side::Prompt, bytes);
        text.saturating_add(media.saturating_mul(MEDIA))
    }

    /// Whether the next answer is one to learn from: each of the first, then some. Nothing but that needs the size of what
    /// was asked, and of an answer whose usage is told.
    pub fn is_curious(&self) -> bool {
        let before = self.0.answers.fetch_add(1, Ordering::Relaxed);
        before < EAGER || before.is_multiple_of(ONE_OF)
    }

    /// Learns from a report: so many bytes or units were so many tokens. What no text can be is not learnt from.
    pub fn learn(&self, family: Family, side: Side, amount: u64, tokens: u64) {
        let (least, most) = match side {
            Side::Prompt => (tokens, tokens.saturating_mul(12)),
            Side::Completion => (tokens / 3, tokens.saturating_mul(3)),
        };
        if tokens >= FEWEST && (least..=most).contains(&amount) {
            self.sum(family, side).add(amount, tokens);
        }
    }

    fn sum(&self, family: Family, side: Side) -> &Sum {
        let sums = &self.0.families[family as usize];
        match side {
            Side::Prompt => &sums.prompt,
            Side::Completion => &sums.completion,
        }
    }
}

// ===== impl Sum =====

impl Sum {
    fn load(&self) -> (f64, f64) {
        let both = self.0.load(Ordering::Relaxed);
        ((both >> 32) as f64, (both & u64::from(u32::MAX)) as f64)
    }

    /// Two that add at once may lose one of them: it is an average.
    fn add(&self, bytes: u64, tokens: u64) {
        let both = self.0.load(Ordering::Relaxed);
        let (mut all_bytes, mut all_tokens) = (both >> 32, both & u64::from(u32::MAX));
        // One long answer shall not outweigh all before it, and old ones are forgotten.
        let scale = tokens.div_ceil(HEAVIEST).max(1);
        all_bytes += bytes / scale;
        all_tokens += tokens / scale;
        while all_tokens > HORIZON {
            all_bytes /= 2;
            all_tokens /= 2;
        }
        self.0
            .store(all_bytes << 32 | all_tokens, Ordering::Relaxed);
    }
}

/// Tokens of an image or a file, where they have to be guessed: what a picture of a megapixel costs with most providers.
pub const MEDIA: u64 = 1000;

/// How names of OpenAI's begin that have no `gpt` in front.
const OPENAI: [&str; 8] = [
    "o1",
    "o3",
    "o4",
    "chatgpt",
    "codex",
    "davinci",
    "babbage",
    "text-embedding",
];

/// How many answers are learnt from at first, and of how many one afterwards.
const EAGER: u64 = 64;
const ONE_OF: u64 = 64;

/// How many tokens the guess counts for.
const GUESSED: f64 = 200.0;

/// Reports of fewer tokens say little: names, markers and roles outweigh the text.
const FEWEST: u64 = 20;

/// The most tokens that one report counts for.
const HEAVIEST: u64 = 2000;

/// Tokens that are remembered.
const HORIZON: u64 = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_known_by_name_whoever_serves_them() {
        for (name, family) in [
            ("gpt-4o-mini", Family::OpenAi),
            ("openai/gpt-oss-120b", Family::Harmony),
            ("command-a-03-2025", Family::Cohere),
            ("o3-mini", Family::OpenAi),
            ("anthropic.claude-3-haiku-20240307-v1:0", Family::Claude),
            ("Claude-Sonnet-4", Family::Claude),
            ("models/gemini-2.5-flash", Family::Gemini),
            ("meta-llama/Llama-3.3-70B-Instruct-Turbo", Family::Llama),
            ("deepseek-r1-distill-llama-70b", Family::DeepSeek),
            ("nobody-knows", Family::Other),
            ("", Family::Other),
        ] {
            assert_eq!(Family::of(name), family, "{name}");
        }
    }

    #[test]
    fn what_is_reported_corrects_the_guess() {
        let estimator = Estimator::default();
        let of = || estimator.tokens(Family::Other, Side::Prompt, 10_000);
        let before = of();
        for _ in 0..50 {
            estimator.learn(Family::Other, Side::Prompt, 2000, 1000);
        }
        let after = of();
        assert!(
            before < 3000 && (4800..=5000).contains(&after),
            "{before}, {after}"
        );
        let other = estimator.tokens(Family::Other, Side::Completion, 10_000);
        assert_eq!(other, 10_000, "the other direction has its own");
    }

    #[test]
    fn nonsense_teaches_nothing_and_sums_stay_bounded() {
        let estimator = Estimator::default();
        let of = || estimator.tokens(Family::Claude, Side::Prompt, 1 << 20);
        let before = of();
        for (amount, tokens) in [
            (10, 1000),
            (1 << 40, 30),
            (5, 5),
            (0, 0),
            (u64::MAX, 1 << 40),
        ] {
            estimator.learn(Family::Claude, Side::Prompt, amount, tokens);
        }
        assert_eq!(of(), before);
        for _ in 0..10_000 {
            estimator.learn(Family::Claude, Side::Prompt, 1 << 34, 1 << 31);
        }
        let (bytes, tokens) = estimator.sum(Family::Claude, Side::Prompt).load();
        assert!(tokens <= HORIZON as f64 && bytes <= 12.0 * HORIZON as f64);
        assert_eq!(estimator.tokens(Family::Claude, Side::Completion, 0), 0);
        assert_eq!(estimator.tokens(Family::Claude, Side::Completion, 1), 1);
    }
}
