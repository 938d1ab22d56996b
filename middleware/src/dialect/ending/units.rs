//! How long a generated text is, as tokenizers count.

use std::ops::AddAssign;

/// How long a text is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Length {
    /// About as many as a tokenizer's tokens.
    pub(crate) units: u64,
    /// How many more they are where each digit is one.
    pub(crate) digits: u64,
}

impl AddAssign for Length {
    fn add_assign(&mut self, more: Self) {
        self.units += more.units;
        self.digits += more.digits;
    }
}

/// About how many tokens a text is, given what is between its quotes. At least one for any.
///
/// Tokenizers of today keep a usual word with the space before it as one token, cut long words, take three digits together and
/// marks one or two at a time. Beyond English a token holds less: a part of a word where letters are of two bytes, a sign or a
/// syllable of the writings of Asia, half a picture.
pub(crate) fn length(inner: &[u8]) -> Length {
    let mut length = Length::default();
    let (mut class, mut run) = (Class::Space, 0_u64);
    let mut at = 0;
    while let Some(byte) = inner.get(at) {
        at += 1;
        let (next, bytes) = match CLASSES[usize::from(*byte)] {
            Class::Inside => {
                run += 1;
                continue;
            }
            Class::Escape => {
                let (next, bytes, size) = escaped(&inner[at..]);
                at += size;
                (next, bytes)
            }
            plain => (plain, 1),
        };
        if next == class {
            run += bytes;
            continue;
        }
        length += class.length(run);
        (class, run) = (next, bytes);
    }
    length += class.length(run);
    length.units = length.units.max(u64::from(!inner.is_empty()));
    length
}

/// What stands behind a backslash: its class, how many bytes it would be in UTF-8, how many it is here.
fn escaped(behind: &[u8]) -> (Class, u64, usize) {
    match behind.first() {
        Some(b'u') => {
            let digit = |at: usize| {
                behind
                    .get(at)
                    .and_then(|digit| (*digit as char).to_digit(16))
            };
            let high = digit(1)
                .zip(digit(2))
                .map_or(0, |(left, right)| left * 16 + right);
            let (class, bytes) = match high {
                0x00..=0x02 => (Class::Letter, 2),
                0x03..=0x08 => (Class::Alphabet, 2),
                0x09..=0x1f => (Class::Syllable, 3),
                0x20..=0x2d => (Class::Sign, 3),
                0xd8..=0xdf => (Class::Picture, 2),
                _ => (Class::Ideograph, 3),
            };
            (class, bytes, 5)
        }
        Some(b'n' | b'r' | b't') => (Class::Line, 1, 1),
        _ => (Class::Mark, 1, 1),
    }
}

/// What a tokenizer keeps apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Letters of Latin writings.
    Letter,
    Space,
    /// Ends of lines.
    Line,
    Digit,
    /// Marks of ASCII.
    Mark,
    /// Greek, Cyrillic, Hebrew, Arabic: two bytes a letter.
    Alphabet,
    /// Writings of India and its neighbours: three bytes a letter.
    Syllable,
    /// Chinese, Japanese, Korean: three bytes a sign.
    Ideograph,
    /// Dashes, quotes, arrows: three bytes.
    Sign,
    /// Four bytes.
    Picture,
    /// A further byte of a character.
    Inside,
    Escape,
}

impl Class {
    const fn of(first: u8) -> Self {
        match first {
            b'a'..=b'z' | b'A'..=b'Z' | 0xc0..=0xca => Self::Letter,
            b' ' => Self::Space,
            b'0'..=b'9' => Self::Digit,
            b'\\' => Self::Escape,
            0x80..=0xbf => Self::Inside,
            0xcb..=0xdf => Self::Alphabet,
            0xe0 | 0xe1 => Self::Syllable,
            0xe2 => Self::Sign,
            0xe3..=0xef => Self::Ideograph,
            0xf0.. => Self::Picture,
            _ => Self::Mark,
        }
    }

    const fn length(self, run: u64) -> Length {
        let units = self.units(run);
        let digits = match self {
            Self::Digit => run - units,
            _ => 0,
        };
        Length { units, digits }
    }

    /// Tokens of so many bytes of one class.
    const fn units(self, run: u64) -> u64 {
        match self {
            _ if run == 0 => 0,
            Self::Letter => 1 + (run - 1) / 9,
            // One space belongs to what follows.
            Self::Space => (run > 1) as u64,
            Self::Line => 1,
            Self::Digit => 1 + (run - 1) / 3,
            Self::Mark | Self::Picture => 1 + (run - 1) / 2,
            Self::Alphabet => 1 + (run - 1) / 7,
            Self::Syllable => 1 + (run - 1) / 6,
            Self::Ideograph | Self::Sign | Self::Inside | Self::Escape => 1 + (run - 1) / 4,
        }
    }
}

/// The class of each byte that a character may begin with.
static CLASSES: [Class; 256] = {
    let mut classes = [Class::Mark; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = Class::of(byte as u8);
        byte += 1;
    }
    classes
};

#[cfg(test)]
mod tests {
    use super::*;

    fn units(text: &[u8]) -> u64 {
        length(text).units
    }

    #[test]
    fn digits_are_counted_on_their_own_too() {
        let Length { units, digits } = length(b"12 and 144, 20260101");
        assert_eq!((units, units + digits), (7, 15));
    }

    #[test]
    fn a_usual_word_is_one_and_none_is_nothing() {
        for (text, want) in [
            ("", 0),
            ("word", 1),
            (" a few words", 3),
            ("123456", 2),
            ("\\n\\n", 1),
            ("für", 1),
            ("\\u00fcber", 1),
            ("\\", 1),
            ("\\u", 1),
        ] {
            assert_eq!(units(text.as_bytes()), want, "{text}");
        }
        assert_eq!(units(b"\x80\x80"), 1);
    }

    #[test]
    fn an_escaped_text_is_as_long_as_a_plain_one() {
        for text in ["Привет, мир", "東京都港区", "नमस्ते", "naïve café"]
        {
            let escaped: String = text
                .encode_utf16()
                .map(|unit| match u8::try_from(unit) {
                    Ok(byte) if byte.is_ascii() => char::from(byte).to_string(),
                    _ => format!("\\u{unit:04x}"),
                })
                .collect();
            assert_eq!(units(escaped.as_bytes()), units(text.as_bytes()), "{text}");
        }
    }

    /// Against a tokenizer, for each kind of text.
    #[cfg(feature = "tokenizer")]
    #[test]
    fn every_kind_of_text_is_about_as_long_as_a_tokenizer_says() {
        for (kind, text) in KINDS {
            let truth = bpe_openai::o200k_base().count(text) as f64;
            let quoted = serde_json::Value::from(text).to_string();
            let ours = units(&quoted.as_bytes()[1..quoted.len() - 1]) as f64;
            println!(
                "{kind}: {ours} of {truth}, {:.2}; cl100k {}; {} bytes",
                ours / truth,
                bpe_openai::cl100k_base().count(text),
                text.len()
            );
        }
        for (kind, text) in KINDS {
            let truth = bpe_openai::o200k_base().count(text) as f64;
            let quoted = serde_json::Value::from(text).to_string();
            let ours = units(&quoted.as_bytes()[1..quoted.len() - 1]) as f64;
            assert!(
                (0.65..1.4).contains(&(ours / truth)),
                "{kind}: {ours} of {truth}"
            );
        }
    }

    #[cfg(feature = "tokenizer")]
    const KINDS: [(&str, &str); 14] = [
        (
            "English",
            "The gateway reads each answer while it passes, and says where its numbers come from. Nothing is kept that is not needed, and nobody waits for it.",
        ),
        (
            "German",
            "Das Gateway liest jede Antwort, während sie vorbeikommt, und sagt, woher seine Zahlen stammen. Nichts wird aufbewahrt, was nicht gebraucht wird, und niemand muss darauf warten.",
        ),
        (
            "French",
            "La passerelle lit chaque réponse pendant qu’elle passe et dit d’où viennent ses chiffres. Rien n’est conservé qui ne soit nécessaire, et personne ne doit attendre.",
        ),
        (
            "Polish",
            "Brama czyta każdą odpowiedź, gdy ta przechodzi, i mówi, skąd pochodzą jej liczby. Nic nie jest przechowywane bez potrzeby i nikt nie musi na to czekać.",
        ),
        (
            "Russian",
            "Шлюз читает каждый ответ, пока тот проходит, и говорит, откуда взялись его числа. Ничего лишнего не хранится, и никто не должен этого ждать.",
        ),
        (
            "Greek",
            "Η πύλη διαβάζει κάθε απάντηση καθώς περνά και λέει από πού προέρχονται οι αριθμοί της. Τίποτα περιττό δεν φυλάσσεται και κανείς δεν περιμένει.",
        ),
        (
            "Arabic",
            "تقرأ البوابة كل إجابة أثناء مرورها وتقول من أين جاءت أرقامها. لا يُحتفظ بشيء غير ضروري ولا ينتظر أحد ذلك.",
        ),
        (
            "Hindi",
            "गेटवे हर उत्तर को गुज़रते समय पढ़ता है और बताता है कि उसकी संख्याएँ कहाँ से आती हैं। जो ज़रूरी नहीं वह रखा नहीं जाता।",
        ),
        (
            "Chinese",
            "网关在每个回答经过时读取它,并说明其数字的来源。不需要的内容不会被保留,也没有人需要为此等待。",
        ),
        (
            "Japanese",
            "ゲートウェイは通過するすべての回答を読み取り、その数値がどこから来たのかを示します。不要なものは保存されず、誰も待つ必要はありません。",
        ),
        (
            "Korean",
            "게이트웨이는 지나가는 모든 응답을 읽고 그 숫자가 어디에서 왔는지 알려 줍니다. 필요하지 않은 것은 보관하지 않으며 아무도 기다릴 필요가 없습니다.",
        ),
        (
            "Rust",
            "fn main() {\n    let mut sum = 0_u64;\n    for (at, byte) in input.iter().enumerate() {\n        sum += u64::from(*byte) << (at % 8);\n    }\n    println!(\"{sum}\");\n}\n",
        ),
        (
            "JSON",
            "{\"location\": \"San Francisco, CA\", \"unit\": \"celsius\", \"days\": [1, 2, 3], \"detailed\": true}",
        ),
        (
            "Markdown",
            "## Steps\n\n1. **Read** the file `tollgate.yaml`.\n2. *Check* it.\n\n| layer | does |\n|---|---|\n| meter | counts |\n",
        ),
    ];
}
