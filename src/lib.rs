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

/// The revision of the source that this was built from, as the build said (`TOLLGATE_REVISION`).
pub const REVISION: &str = match option_env!("TOLLGATE_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// The program in a line: its version, and what it was built from and with.
#[must_use]
pub fn built() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let tokenizer = if cfg!(feature = "tokenizer") {
        "with tokenizer"
    } else {
        "without tokenizer"
    };
    match option_env!("TOLLGATE_REVISION") {
        Some(revision) => format!("tollgate {version} (revision {revision}, {tokenizer})"),
        None => format!("tollgate {version} ({tokenizer})"),
    }
}
