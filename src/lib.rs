//! Tollgate.

pub mod config;
