//! m

pub mod dialect;
