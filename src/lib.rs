//! Tollgate: the gateway's binary as a library, so that it can be started in-process.

mod accounts;
pub mod admin;
pub mod cli;
pub mod config;
pub mod connect;
mod dial;
pub mod explain;
pub mod gateway;
pub mod guards;
pub mod jwks;
pub mod leaf;
pub mod listen;
pub mod mock;
mod names;
mod pieces;
pub mod probe;
mod regex;
pub mod reload;
mod routing;
pub mod run;
pub mod server;
mod shared;
pub mod show;
pub mod spool;
pub mod stack;
mod targets;
pub mod telemetry;
#[cfg(feature = "tokenizer")]
mod tokens;
