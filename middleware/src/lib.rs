//! m

pub mod dialect;
pub mod json;
