//! Tollgate.

pub mod config;
pub mod mock;
