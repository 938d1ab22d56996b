//! The bodies of the fuzz targets, with seeded inputs: recordings that were tampered with, and what recordings are made of.

use tollgate_testing::{long, recordings, splits::Random};

#[path = "../../fuzz/bodies/meter.rs"]
mod meter;
#[path = "../../fuzz/bodies/sse.rs"]
mod sse;

/// What a reader looks for, and what it may stumble over.
const WORDS: [&[u8]; 24] = [
    b"data: ",
    b"data:",
    b"event: error\n",
    b"\n\n",
    b"\r",
    b"\r\n",
    b": \n",
    b"[DONE]",
    b"\xef\xbb\xbf",
    b"\0",
    b"\xff",
    b"\"usage\":{\"prompt_tokens\":",
    b"9223372036854775808",
    b"-1",
    b"null",
    b"1e9",
    b"}",
    b"{",
    b"]",
    b"\"",
    b"\\u0022",
    b"\"finish_reason\":\"stop\"",
    b"\"error\":{}",
    b"\"choices\":[]",
];

/// A recording, or nothing, with some places overwritten, cut out, doubled or filled with a word.
fn tampered(random: &mut Random) -> Vec<u8> {
    let all = recordings::all();
    let place = random.below(all.len() + all.len() / 4);
    let mut body = all.get(place).map_or_else(Vec::new, |it| it.body.clone());
    // Long ones are no better at it, and slow.
    let from = random.below(body.len().saturating_sub(LONGEST) + 1);
    body = body.split_off(from);
    body.truncate(LONGEST);
    for _ in 0..random.below(12) {
        let at = random.below(body.len() + 1);
        let end = (at + random.below(40)).min(body.len());
        match random.below(4) {
            0 => drop(body.drain(at..end)),
            1 => {
                let copy = body[at..end].to_vec();
                body.splice(at..at, copy);
            }
            2 => {
                let word = WORDS[random.below(WORDS.len())];
                body.splice(at..at, word.iter().copied());
            }
            _ => {
                if let Some(byte) = body.get_mut(at) {
                    *byte = byte_of(random);
                }
            }
        }
    }
    body
}

fn byte_of(random: &mut Random) -> u8 {
    u8::try_from(random.below(256)).expect("a byte")
}

const LONGEST: usize = 4096;

/// How many inputs each body gets.
fn inputs() -> u64 {
    if long() { 200_000 } else { 4_000 }
}

#[test]
fn the_scanner_tells_the_same_events_in_any_pieces() {
    for seed in 0..inputs() {
        let mut random = Random::new(seed);
        let body = tampered(&mut random);
        sse::judge(byte_of(&mut random), &body);
    }
}

#[test]
fn the_meter_leaves_any_answer_as_it_is_and_reads_it_alike_in_any_pieces() {
    for seed in 0..inputs() {
        let mut random = Random::new(seed);
        let body = tampered(&mut random);
        let [path, kind, size] = std::array::from_fn(|_| byte_of(&mut random));
        meter::judge(path, kind, size, &body);
    }
}
