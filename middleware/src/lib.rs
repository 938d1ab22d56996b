//! m
pub mod json;
