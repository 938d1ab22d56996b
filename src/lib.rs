//! Tollgate.

pub mod config;
pub mod connect;
pub mod leaf;
pub mod mock;
mod routing;
pub mod stack;
