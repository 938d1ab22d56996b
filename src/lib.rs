//! Tollgate: the gateway's binary as a library, so that it can be started in-process.

pub mod admin;
pub mod cli;
pub mod listen;
pub mod run;
pub mod server;
pub mod telemetry;
