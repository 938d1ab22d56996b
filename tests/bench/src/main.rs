//! The bench of tollgate: `cargo run --release -p tollgate-bench`.
//!
//! Runs direct, two bare hyper pass-throughs (*legacy* and *inline*), nginx and tollgate in turns against one fake
//! provider, compares every byte of every answer, and prints what each costs and how it relates to the others.
//! Timings are printed and never asserted: it fails only if something did not run or bytes were wrong.

#![expect(
    clippy::disallowed_methods,
    reason = "it measures real time, in a program of its own"
)]

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};

use crate::session::Options;

mod load;
mod machine;
mod parts;
mod payload;
mod process;
mod procfs;
mod report;
mod role;
mod scenario;
mod session;
mod stats;
mod target;
mod turns;
mod verdict;
mod wire;

type BoxError = Box<dyn Error + Send + Sync>;

/// Interleaved runs of direct, bare hyper, nginx and tollgate.
#[derive(Debug, Parser)]
#[command(name = "tollgate-bench", version)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    options: Options,
}

/// What the bench starts as processes of their own, and what runs by itself.
#[derive(Debug, Subcommand)]
enum Role {
    /// The fake provider.
    Upstream { listen: SocketAddr },
    /// Bare hyper with hyper-util's pooled client on a multi-thread runtime.
    Legacy {
        listen: SocketAddr,
        upstream: SocketAddr,
    },
    /// Bare hyper with the upstream connection polled inside the request's task, a runtime per thread.
    Inline {
        listen: SocketAddr,
        upstream: SocketAddr,
    },
    /// What single parts of the stack cost, without sockets
    Parts {
        /// Only the word filter.
        #[arg(long)]
        words: bool,
    },
    /// Kills what the bench leaves behind if it is killed itself.
    Reap,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.role {
        Some(Role::Upstream { listen }) => role::upstream::run(listen).map_err(BoxError::from),
        Some(Role::Legacy { listen, upstream }) => {
            role::legacy::run(listen, upstream).map_err(BoxError::from)
        }
        Some(Role::Inline { listen, upstream }) => {
            role::inline::run(listen, upstream).map_err(BoxError::from)
        }
        Some(Role::Parts { words }) => {
            parts::run(words);
            Ok(())
        }
        Some(Role::Reap) => role::reap::run().map_err(BoxError::from),
        None => bench(&arguments.options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(options: &Options) -> Result<(), BoxError> {
    raise_open_files()?;
    // Timers are late by 50 microseconds otherwise, which is more than what is measured. It is refused nowhere
    // that matters, and being late is late for every target alike.
    let _ = std::fs::write("/proc/self/timerslack_ns", "1");
    let tables = session::run(options)?;
    let wrong: u64 = tables
        .iter()
        .flat_map(|table| &table.rows)
        .map(|row| row.faults.count)
        .sum();
    if wrong > 0 {
        return Err(
            format!("{wrong} exchanges failed or had wrong bytes; their rows are marked").into(),
        );
    }
    Ok(())
}

/// Begins again with as many open files as are allowed, if the limit is too low for the held streams. The
/// processes that are started later inherit it.
fn raise_open_files() -> io::Result<()> {
    const NEEDED: u64 = 8192;
    const MARK: &str = "TOLLGATE_BENCH_RAISED";
    if procfs::open_files().is_none_or(|files| files >= NEEDED) || std::env::var_os(MARK).is_some()
    {
        return Ok(());
    }
    let error = Command::new("sh")
        .args(["-c", "ulimit -Sn \"$(ulimit -Hn)\" && exec \"$0\" \"$@\""])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(MARK, "1")
        .exec();
    Err(error)
}
