//! What is sent and answered: requests like those of a widely used SDK, answers like those of a chat provider.
//! Every byte depends only on the arguments, so two runs can be compared byte by byte.

use std::fmt::Write as _;
use std::net::SocketAddr;

/// The path that all requests go to.
const PATH: &str = "/v1/chat/completions";

/// A JSON answer of about 1.2 KB.
pub(crate) fn answer() -> String {
    let content = words(900);
    format!(
        "{{\"id\":\"chatcmpl-bench0000000000000000000000\",\"object\":\"chat.completion\",\"created\":1763700000,\
         \"model\":\"bench-model\",\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{content}\",\
         \"refusal\":null}},\"logprobs\":null,\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":200,\
         \"completion_tokens\":150,\"total_tokens\":350}},\"system_fingerprint\":\"fp_bench\"}}"
    )
}

/// The events of a stream: `content` of about 300 bytes each, then the finish, the usage and `[DONE]`.
pub(crate) fn events(content: u64) -> impl Iterator<Item = String> {
    let head = "data: {\"id\":\"chatcmpl-bench0000000000000000000000\",\"object\":\"chat.completion.chunk\",\
                \"created\":1763700000,\"model\":\"bench-model\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_bench\"";
    let ends = [
        format!(
            "{head},\"choices\":[{{\"index\":0,\"delta\":{{}},\"logprobs\":null,\"finish_reason\":\"stop\"}}],\"usage\":null}}\n\n"
        ),
        format!(
            "{head},\"choices\":[],\"usage\":{{\"prompt_tokens\":200,\"completion_tokens\":{content},\"total_tokens\":{}}}}}\n\n",
            content + 200
        ),
        "data: [DONE]\n\n".to_owned(),
    ];
    let content = (0..content).map(move |index| {
        format!(
            "{head},\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" word{index:06}\"}},\"logprobs\":null,\
             \"finish_reason\":null}}],\"usage\":null,\"obfuscation\":\"abcdefgh\"}}\n\n"
        )
    });
    content.chain(ends)
}

/// What a stream is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    pub(crate) events: u64,
    pub(crate) gap_ms: u64,
}

/// What the text of a request is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    /// Many chat messages of prose.
    Chat,
    /// One image as a data URL in base64.
    Base64,
}

/// A chat request with 15 headers and a body of about `size` bytes.
pub(crate) fn request(to: SocketAddr, text: Text, size: usize, stream: Option<Stream>) -> Vec<u8> {
    let body = body(text, size, stream.is_some());
    let asked = stream.map_or_else(String::new, |stream| {
        format!(
            "x-events: {}\r\nx-gap-ms: {}\r\n",
            stream.events, stream.gap_ms
        )
    });
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: {to}\r\naccept-encoding: identity\r\nconnection: keep-alive\r\n\
         accept: application/json\r\ncontent-type: application/json\r\nuser-agent: OpenAI/Python 2.8.0\r\n\
         x-stainless-lang: python\r\nx-stainless-package-version: 2.8.0\r\nx-stainless-os: Linux\r\nx-stainless-arch: x64\r\n\
         x-stainless-runtime: CPython\r\nx-stainless-runtime-version: 3.13.1\r\nauthorization: Bearer sk-bench-0000000000000000\r\n\
         x-stainless-retry-count: 0\r\ncontent-length: {}\r\n{asked}\r\n",
        body.len()
    );
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body.as_bytes());
    bytes
}

pub(crate) fn body(text: Text, size: usize, stream: bool) -> String {
    let mut body = String::with_capacity(size + 1024);
    body.push_str("{\"model\":\"bench-model\",");
    if stream {
        body.push_str("\"stream\":true,\"stream_options\":{\"include_usage\":true},");
    }
    body.push_str(
        "\"temperature\":0.70,\"messages\":[{\"role\":\"system\",\"content\":\"You are terse.\"}",
    );
    match text {
        Text::Chat => {
            let mut turn = 0;
            while body.len() < size || turn == 0 {
                let role = if turn % 2 == 0 { "user" } else { "assistant" };
                let length = size.saturating_sub(body.len()).clamp(1, 4000);
                let _ = write!(
                    body,
                    ",{{\"role\":\"{role}\",\"content\":\"{}\"}}",
                    words(length)
                );
                turn += 1;
            }
        }
        Text::Base64 => {
            body.push_str(",{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"What is this?\"},{\"type\":\"image_url\",\
                           \"image_url\":{\"url\":\"data:image/png;base64,");
            base64(&mut body, size);
            body.push_str("\"}}]}");
        }
    }
    body.push_str("]}");
    body
}

/// Prose of at least `length` bytes with an escape now and then, as JSON has it.
fn words(length: usize) -> String {
    const WORDS: [&str; 12] = [
        "the",
        "answer",
        "of",
        "a",
        "model",
        "is",
        "text,",
        "and",
        "text",
        "has",
        "many",
        "words.\\n",
    ];
    let mut text = String::with_capacity(length + 16);
    for word in WORDS.iter().cycle() {
        if text.len() >= length {
            break;
        }
        text.push_str(word);
        text.push(' ');
    }
    text
}

/// Fills up to `size` with the base64 alphabet in an order that does not repeat soon: a linear congruential
/// generator with the constants of Knuth's MMIX.
fn base64(body: &mut String, size: usize) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut state: u64 = 1;
    while body.len() < size {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        body.push(char::from(ALPHABET[(state >> 58) as usize]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_that_the_tables_name() {
        assert!((1100..1400).contains(&answer().len()), "{}", answer().len());
        let all: Vec<String> = events(100).collect();
        assert_eq!(all.len(), 103);
        assert!((270..330).contains(&all[50].len()), "{}", all[50].len());
        assert_eq!(all[102], "data: [DONE]\n\n");
        for (text, size) in [
            (Text::Chat, 1000),
            (Text::Chat, 1 << 20),
            (Text::Base64, 100_000),
        ] {
            let length = body(text, size, false).len();
            assert!(
                (size..size + 200).contains(&length),
                "{text:?} {size}: {length}"
            );
        }
    }

    #[test]
    fn a_request_says_the_length_of_its_body() {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        let stream = Stream {
            events: 5,
            gap_ms: 2,
        };
        let bytes = request(address, Text::Chat, 1000, Some(stream));
        let mut decoder = crate::wire::Decoder::new(crate::wire::Sender::Client);
        let mut body = Vec::new();
        let used = decoder
            .feed(&bytes, |data| body.extend_from_slice(data))
            .expect("the test brings what is right");
        assert!(decoder.is_done());
        assert_eq!(used, bytes.len());
        let head = decoder.head().expect("the test brings what is right");
        assert_eq!((head.events, head.gap_ms), (Some(5), Some(2)));
        assert!(memchr::memmem::find(&body, b"\"stream\":true").is_some());
    }
}
