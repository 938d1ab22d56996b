//! Tollgate.

pub mod admin;
pub mod config;
pub mod connect;
pub mod leaf;
pub mod listen;
pub mod mock;
mod routing;
pub mod server;
pub mod stack;
pub mod telemetry;
