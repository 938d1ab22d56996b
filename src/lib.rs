//! Tollgate.

pub mod mock;
