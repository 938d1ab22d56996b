//! `cargo +nightly fuzz run sse`, with the recordings as a corpus: `fuzz/corpus/sse` may hold their bodies.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/sse.rs"]
mod sse;

fuzz_target!(|input: (u8, &[u8])| {
    let (size, body) = input;
    sse::judge(size, body);
});
