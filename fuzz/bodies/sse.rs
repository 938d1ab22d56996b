//! Any bytes in any pieces tell the same events, and the counts agree.
//!
//! Run by cargo-fuzz with what it finds, and by an ordinary test with seeded inputs.

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

/// `size` is that of the pieces.
pub(super) fn judge(size: u8, body: &[u8]) {
    assert_eq!(told(body.chunks(usize::from(size).max(1))), told([body]));
}
