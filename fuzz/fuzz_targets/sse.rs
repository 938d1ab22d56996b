//! Any bytes in any pieces tell the same events, and the counts agree.
//!
//! `cargo +nightly fuzz run sse`, with the recordings as a corpus: `fuzz/corpus/sse` may hold their bodies.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_middleware::sse::Scanner;

/// Name, data, cut short.
type Told = (Vec<u8>, Vec<u8>, bool);

fn told<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> (Vec<Told>, u64, bool) {
    // Small, so that a fuzzer reaches it.
    let mut scanner = Scanner::new(64);
    let mut events = Vec::new();
    for piece in pieces {
        scanner.feed(piece, |event| {
            events.push((event.name.to_vec(), event.data.to_vec(), event.truncated));
        });
    }
    let (count, boundary) = (scanner.dispatched(), scanner.at_boundary());
    assert_eq!(events.len() as u64, count);
    (events, count, boundary)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, body) = input;
    assert_eq!(told(body.chunks(usize::from(size).max(1))), told([body]));
});
