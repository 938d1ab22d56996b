//! What the circuit is made of; the tests of its races put others in the place of these.

pub(super) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};
