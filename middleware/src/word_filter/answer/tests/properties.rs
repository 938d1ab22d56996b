//! Generated streams against a naive search over the whole text.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    super::super::{
        Normalize,
        tests::{masked_normal, odd, odd_word},
    },
    *,
};

/// A piece of a text: which choice says it, and how it is written.
#[derive(Clone, Debug)]
struct Delta {
    choice: u64,
    text: String,
    /// Every so many characters are written as escapes.
    escaped: usize,
}

fn delta() -> impl Strategy<Value = Delta> {
    let text = prop::collection::vec(
        prop::sample::select(vec!['a', 'b', 'c', ' ', '"', '\\', 'é', '😀']),
        0..6,
    );
    (0u64..3, text, 0usize..4).prop_map(|(choice, text, escaped)| Delta {
        choice,
        text: text.into_iter().collect(),
        escaped,
    })
}

fn odd_delta() -> impl Strategy<Value = Delta> {
    let text = prop::collection::vec(odd(), 0..5);
    (0u64..2, text, 0usize..4).prop_map(|(choice, text, escaped)| Delta {
        choice,
        text: text.into_iter().collect(),
        escaped,
    })
}

fn words() -> impl Strategy<Value = Vec<String>> {
    let word = prop::sample::select(vec![
        "ab", "abc", "aab", "b c", "é😀", "\"a", "c\\", "aaaa", "😀",
    ]);
    prop::collection::vec(word.prop_map(str::to_owned), 1..4)
}

impl Delta {
    fn event(&self) -> Vec<u8> {
        let mut text = String::new();
        for (at, char) in self.text.chars().enumerate() {
            if self.escaped > 0 && at % self.escaped == 0 {
                char.encode_utf16(&mut [0; 2])
                    .iter()
                    .for_each(|unit| text += &format!("\\u{unit:04x}"));
            } else {
                text += serde_json::to_string(&char).unwrap().trim_matches('"');
                if char == '"' {
                    text.truncate(text.len() - 1);
                    text += "\\\"";
                }
            }
        }
        format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}},\"index\":{}}}]}}\n\n",
            self.choice
        )
        .into_bytes()
    }
}

/// The leftmost match first, of those the longest: byte by byte.
fn replaced(text: &str, words: &[String]) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(char) = rest.chars().next() {
        let found = words
            .iter()
            .filter(|word| rest.starts_with(*word))
            .max_by_key(|word| word.len());
        let length = match found {
            Some(word) => {
                out += "***";
                word.len()
            }
            None => {
                out.push(char);
                char.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    out
}

/// From where on something may still come of a text that goes on.
fn undecided(text: &str, words: &[String]) -> usize {
    let mut at = 0;
    while let Some(char) = text[at..].chars().next() {
        let rest = &text[at..];
        if words
            .iter()
            .any(|word| word.len() > rest.len() && word.starts_with(rest))
        {
            return at;
        }
        let found = words
            .iter()
            .filter(|word| rest.starts_with(*word))
            .map(String::len)
            .max();
        at += found.unwrap_or_else(|| char.len_utf8());
    }
    at
}

fn said(body: &[u8]) -> BTreeMap<String, String> {
    let client = client::Client {
        dialect: "openai.chat".to_owned(),
        format: "sse".to_owned(),
        stream: true,
    };
    let texts = client.texts(body).into_iter();
    texts
        .map(|(place, said)| (place, said.text))
        .filter(|(_, text)| !text.is_empty())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_stream_in_any_pieces_is_the_search_over_the_whole_text(
        deltas in prop::collection::vec(delta(), 0..14),
        words in words(),
        seed in any::<u64>(),
    ) {
        let mut body: Vec<u8> = deltas.iter().flat_map(Delta::event).collect();
        body.extend_from_slice(DONE);
        let given = said(&body);
        let expected: BTreeMap<_, _> = given
            .iter()
            .map(|(place, text)| (place.clone(), replaced(text, &words)))
            .filter(|(_, text)| !text.is_empty())
            .collect();
        let listed: Vec<&str> = words.iter().map(String::as_str).collect();
        for split in [Split::Whole, Split::Bytes(1), Split::Random(seed), Split::Random(seed ^ 1)] {
            let rules = rules(&listed, Action::Mask);
            let mut hold = hold(CHAT, Framing::Sse, &rules, LIMITS);
            let (out, stopped) = filtered(&mut hold, split.pieces(&body));
            prop_assert_eq!(&said(&out), &expected, "{:?}", split);
            prop_assert_eq!(stopped, None);
            if expected == given {
                prop_assert_eq!(&out, &body);
            }
        }
    }

    #[test]
    fn events_wait_exactly_as_long_as_something_may_begin_in_them(
        deltas in prop::collection::vec(delta(), 1..14),
        words in words(),
    ) {
        let listed: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut hold = hold(CHAT, Framing::Sse, &rules(&listed, Action::Log), LIMITS);
        let mut texts = BTreeMap::<u64, String>::new();
        // The choice of each event, and where its text ends.
        let mut ends: Vec<(u64, usize, usize)> = Vec::new();
        let mut seen = 0;
        for delta in &deltas {
            let event = delta.event();
            let text = texts.entry(delta.choice).or_default();
            let from = text.len();
            text.push_str(&delta.text);
            ends.push((delta.choice, if delta.text.is_empty() { 0 } else { text.len() }, event.len()));
            prop_assert!(from <= text.len());
            hold.feed(event.into());
            while let Some(frame) = hold.next() {
                seen += frame.len();
            }
            let is_out = |(choice, end, _): &&(u64, usize, usize)| *end <= undecided(&texts[choice], &words);
            let expected: usize = ends.iter().take_while(is_out).map(|(.., length)| length).sum();
            prop_assert_eq!(seen, expected);
        }
    }

    /// Of characters that depend on those that follow, in whatever events and escapes.
    #[test]
    fn a_normalised_stream_in_any_pieces_is_the_search_over_the_whole_text(
        deltas in prop::collection::vec(odd_delta(), 0..10),
        words in prop::collection::vec(odd_word(), 1..4),
        seed in any::<u64>(),
        case_sensitive in any::<bool>(),
    ) {
        let mut body: Vec<u8> = deltas.iter().flat_map(Delta::event).collect();
        body.extend_from_slice(DONE);
        let expected: BTreeMap<_, _> = said(&body)
            .into_iter()
            .map(|(place, text)| (place, masked_normal(&text, &words, !case_sensitive)))
            .filter(|(_, text)| !text.is_empty())
            .collect();
        let rule = Rule {
            words,
            case_sensitive,
            whole_word: false,
            action: Action::Mask,
            normalize: Normalize::Nfkc,
            ..Rule::new("words")
        };
        let rules = Rules::new(&[rule], Side::Response).unwrap();
        for split in [Split::Whole, Split::Bytes(1), Split::Random(seed)] {
            let mut hold = hold(CHAT, Framing::Sse, &rules, LIMITS);
            let (out, stopped) = filtered(&mut hold, split.pieces(&body));
            prop_assert_eq!(&said(&out), &expected, "{:?}", split);
            prop_assert_eq!(stopped, None);
        }
    }

    /// Arguments, cut anywhere between bytes of their JSON.
    #[test]
    fn arguments_in_any_pieces_are_the_search_over_each_value(
        values in prop::collection::vec("[ab\"\\\\é😀\n]{0,6}", 1..5),
        words in words(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ascii in any::<bool>(),
    ) {
        let mut whole = serde_json::to_string(&values).unwrap();
        if ascii {
            let units = |char: char| char.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
            whole = whole.chars().map(|char| if char.is_ascii() { char.to_string() } else { units(char) }).collect();
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| whole.floor_char_boundary(cut.index(whole.len() + 1))).collect();
        cuts.extend([0, whole.len()]);
        cuts.sort_unstable();
        let mut body = Vec::new();
        for piece in cuts.windows(2) {
            let piece = serde_json::to_string(&whole[piece[0]..piece[1]]).unwrap();
            body.extend_from_slice(format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{{\"index\":0,\"function\":{{\"arguments\":{piece}}}}}]}}}}]}}\n\n").as_bytes());
        }
        body.extend_from_slice(DONE);
        let listed: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut hold = hold(CHAT, Framing::Sse, &rules(&listed, Action::Mask), LIMITS);
        let (out, stopped) = filtered(&mut hold, [&body[..]]);
        if stopped.is_none() {
            let seen = said(&out).remove("choice 0 call 0").unwrap();
            let seen: Vec<String> = serde_json::from_str(&seen).expect("what results parses");
            let expected: Vec<String> = values.iter().map(|value| replaced(value, &words)).collect();
            prop_assert_eq!(seen, expected);
        } else {
            // Something reaches over the end of a value.
            let joined = values.concat();
            prop_assert!(words.iter().any(|word| joined.contains(word)));
        }
    }

    /// Whatever comes, nothing panics, and what comes out of any pieces is the same.
    #[test]
    fn hostile_bytes_come_out_alike_in_any_pieces(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "data: ", "data:{", "\n", "\r", "\n\n", "{\"choices\":[", "{\"delta\":{\"content\":\"", "ab", "\\", "\\u", "\\ud83d",
            "\"}}", "]}", "\"", ",", "[", "event: x\n", "\u{feff}", "\\u00", "é", "{\"index\":", "1", "[DONE]",
        ]), 0..40),
        size in 1usize..12,
        framing in prop::sample::select(vec![Framing::Sse, Framing::Lines, Framing::Array, Framing::Document, Framing::EventStream]),
        path in prop::sample::select(vec![
            CHAT, "/v1/responses", "/v1/messages", "/v1beta/models/m:streamGenerateContent", "/api/chat", "/v2/chat",
        ]),
    ) {
        let body = pieces.concat().into_bytes();
        let rules = rules(&["ab"], Action::Mask);
        let whole = filtered(&mut hold(path, framing, &rules, LIMITS), [&body[..]]);
        let parts = filtered(&mut hold(path, framing, &rules, LIMITS), body.chunks(size));
        prop_assert_eq!(whole, parts);
    }
}
