//! How often the runtime of a worker has looked at its sockets.

use std::cell::Cell;

thread_local! {
    static LOOKS: Cell<u64> = const { Cell::new(0) };
}

/// Called on the thread of a worker before its runtime looks.
pub(super) fn count() {
    LOOKS.set(LOOKS.get().wrapping_add(1));
}

/// How often the runtime of this thread has looked at its sockets. Where several threads share a runtime they are not
/// counted: one may look while another goes on.
pub fn looks() -> u64 {
    LOOKS.get()
}
