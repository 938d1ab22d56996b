//! `cargo +nightly fuzz run meter`, with the bodies of the recordings as a corpus: `fuzz/corpus/meter` may hold them.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/meter.rs"]
mod meter;

fuzz_target!(|input: (u8, u8, u8, &[u8])| {
    let (path, kind, size, body) = input;
    meter::judge(path, kind, size, body);
});
