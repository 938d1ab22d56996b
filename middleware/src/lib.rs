//! m

pub mod dialect;
pub mod json;
pub mod sse;
