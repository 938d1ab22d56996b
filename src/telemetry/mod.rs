//! What the process tells about itself: the request log, the metrics, and diagnostics on standard
//! error.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

pub mod accounts;
pub mod circuits;
pub mod exposition;
pub mod limited;
pub(crate) mod line;
pub mod log;
pub mod metrics;
mod process;
pub mod series;
pub mod sink;
pub mod store;
pub mod webhook;

/// Sends diagnostics to standard error, in the level that `TOLLGATE_LOG` names (`info` without it;
/// directives as `info,tollgate=debug` are understood too). In colour only on a terminal, and
/// never if `NO_COLOR` is set.
///
/// Has no effect if diagnostics go somewhere already.
pub fn diagnostics() {
    let level = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .with_env_var("TOLLGATE_LOG")
        .from_env_lossy();
    // no-color.org: set to anything but the empty string.
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    // An embedder may have its own subscriber.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(level)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && !plain)
        .try_init();
}
