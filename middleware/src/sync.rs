//! What shared state is locked with: the standard library's, or, under `--cfg shuttle`, what lets a test choose who runs next.

#[cfg(not(shuttle))]
pub(crate) use std::sync::{Mutex, MutexGuard};

#[cfg(shuttle)]
pub(crate) use shuttle::sync::{Mutex, MutexGuard};
