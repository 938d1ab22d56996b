//! m
pub mod json;
pub mod sse;
