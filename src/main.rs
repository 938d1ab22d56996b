//! The `tollgate` program: reads its command line and does what it says.
//!
//! Exit codes: 0 done, also after a drain that had to cut answers; 1 a configuration or a start
//! that failed; 2 bad usage.

use std::{io, process::ExitCode};

use clap::Parser;
use tollgate::{
    cli::{self, Cli, Command},
    run, telemetry,
};

/// Gives memory back, and holds a stream in a few kilobytes less than the system's allocator.
#[cfg(all(feature = "jemalloc", target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::diagnostics();
    match cli.command {
        Command::Check(args) => run::check(&args),
        Command::Completions { shell } => cli::completions(shell, &mut io::stdout()),
        Command::Demo(args) => run::demo(&args),
        Command::Explain(args) => run::explain(&args),
        Command::Healthcheck(args) => run::healthcheck(&args),
        Command::Init(args) => run::init(&args),
        Command::Key(command) => cli::key(command, &mut io::stdin(), &mut io::stdout()),
        Command::Mock(args) => run::mock(args),
        Command::Schema => run::schema(),
        Command::Serve(args) => run::serve(&args),
        Command::Usage(args) => run::usage(&args),
        Command::Version => cli::version(&mut io::stdout()),
    }
}
