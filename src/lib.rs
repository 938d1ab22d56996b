//! Tollgate: the gateway's binary as a library, so that it can be started in-process.

pub mod admin;
pub mod listen;
pub mod server;
pub mod telemetry;
