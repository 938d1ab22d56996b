//! The command line, and the commands that need nothing else.

use std::{
    io::{self, Read, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{ArgGroup, Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use http::HeaderValue;
use sha2::{Digest, Sha256};

use crate::listen::Address;

/// An LLM gateway made of tower layers.
#[derive(Clone, Debug, Parser)]
#[command(name = "tollgate", version, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Check a configuration file: exit 0 and a summary, or exit 1 and every problem
    Check(CheckArgs),
    /// Print what lets a shell complete this program's commands
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Start a gateway with a built-in mock provider: no key, no file, no network
    Demo(DemoArgs),
    /// Say which route, targets and layers a request would meet, and why; nothing is sent
    Explain(ExplainArgs),
    /// Ask a running gateway whether it is ready: exit 0, or 1 and why not
    Healthcheck(HealthcheckArgs),
    /// Write a small configuration file to begin with
    Init(InitArgs),
    /// Make and hash caller keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Start the mock provider alone
    Mock(MockArgs),
    /// Print the JSON Schema of the configuration file
    Schema,
    /// Start the gateway
    Serve(ServeArgs),
    /// Print what was used, by caller, model and day, from the spool in state.dir
    Usage(UsageArgs),
    /// Print the version
    Version,
}

/// Arguments of `check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// The file.
    #[command(flatten)]
    pub file: FileArgs,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Arguments of `demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Only serve; do not show a streamed chat first
    #[arg(long)]
    pub quiet: bool,
    /// Where to listen.
    #[command(flatten)]
    pub listen: ListenArgs,
}

/// Arguments of `explain`.
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("what").required(true).args(["request", "model"]))]
pub struct ExplainArgs {
    /// The configuration.
    #[command(flatten)]
    pub file: FileArgs,
    /// A file with a whole HTTP request (head, blank line, body), or with the JSON body alone
    #[arg(long, value_name = "FILE")]
    pub request: Option<PathBuf>,
    /// The model that is asked for
    #[arg(long)]
    pub model: Option<String>,
    /// The path that is asked for, where the request does not say it
    #[arg(long, value_name = "PATH", default_value = "/v1/chat/completions")]
    pub path: String,
    /// The caller who asks, by name
    #[arg(long, conflicts_with = "request")]
    pub caller: Option<String>,
    /// The origin of the page that asks, for a caller with `origins`
    #[arg(long, conflicts_with = "request")]
    pub origin: Option<HeaderValue>,
}

/// Arguments of `healthcheck`.
#[derive(Args, Clone, Debug)]
pub struct HealthcheckArgs {
    /// The configuration, which names the admin listener.
    #[command(flatten)]
    pub file: FileArgs,
    /// The admin listener, whatever a file says
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<Address>,
}

/// Arguments of `init`.
#[derive(Args, Clone, Debug)]
pub struct InitArgs {
    /// The file to write
    #[arg(long, value_name = "FILE", default_value = "tollgate.yaml")]
    pub config: PathBuf,
    /// Write it in the place of one that is there
    #[arg(long)]
    pub force: bool,
}

/// What to do with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum KeyCommand {
    /// Print the hash of the secret on standard input, for `hash:` of a caller
    Hash,
    /// Print a new key, and its hash
    New,
}

/// Arguments of `mock`.
#[derive(Args, Clone, Debug)]
pub struct MockArgs {
    /// Where to listen: host:port or unix:/path
    #[arg(long, value_name = "ADDR")]
    pub listen: Address,
}

/// Arguments of `serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// The configuration.
    #[command(flatten)]
    pub file: FileArgs,
    /// Where to listen.
    #[command(flatten)]
    pub listen: ListenArgs,
}

/// Arguments of `usage`.
#[derive(Args, Clone, Debug)]
pub struct UsageArgs {
    /// The configuration, which names the directory.
    #[command(flatten)]
    pub file: FileArgs,
    /// Sum up each of these alone; else each day, caller and model
    #[arg(long, value_enum)]
    pub by: Option<UsageBy>,
    /// How to print the sums
    #[arg(long, value_enum, default_value_t)]
    pub format: UsageFormat,
}

/// What `usage` sums up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UsageBy {
    /// Each caller
    Caller,
    /// Each model
    Model,
    /// Each day, UTC
    Day,
}

/// How `usage` prints its sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum UsageFormat {
    /// For programs
    Json,
    /// For people
    #[default]
    Table,
}

/// Where the configuration is.
#[derive(Args, Clone, Debug, Default)]
pub struct FileArgs {
    /// The file; else $TOLLGATE_CONFIG, ./tollgate.yaml, ~/.config/tollgate/tollgate.yaml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Addresses that go before those of the file.
#[derive(Args, Clone, Debug, Default)]
pub struct ListenArgs {
    /// Where to listen: host:port or unix:/path
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<Address>,
    /// Where health, metrics and the configuration are served
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<Address>,
}

/// How `check` prints its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For programs
    Json,
    /// For people
    #[default]
    Text,
}

/// Runs `key new` or `key hash` with the given input and output.
///
/// The hash is `sha256:` and the lower-case hex of SHA-256 over the secret; one line break at the
/// end of the input does not belong to the secret.
pub fn key(command: KeyCommand, input: &mut dyn Read, output: &mut dyn Write) -> ExitCode {
    let done = match command {
        KeyCommand::Hash => hash_key(input, output),
        KeyCommand::New => new_key(output),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is all that is left to say it on.
            let _ = writeln!(io::stderr(), "tollgate: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs `completions`.
pub fn completions(shell: Shell, output: &mut dyn Write) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tollgate", &mut text);
    match output.write_all(&text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Runs `version`.
pub fn version(output: &mut dyn Write) -> ExitCode {
    match writeln!(output, "{}", crate::built()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn new_key(output: &mut dyn Write) -> io::Result<()> {
    let mut random = [0; 32];
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut random)
        .map_err(|_| io::Error::other("the system gives no random numbers"))?;
    let key = format!("tg-{}", base64url(&random));
    writeln!(output, "key: {key}\nhash: {}", hash(key.as_bytes()))
}

fn hash_key(input: &mut dyn Read, output: &mut dyn Write) -> io::Result<()> {
    let mut text = Vec::new();
    // One byte more than allowed tells that there are more.
    input.take(SECRET as u64 + 1).read_to_end(&mut text)?;
    if text.len() > SECRET {
        return Err(io::Error::other("a secret has at most 64 KiB"));
    }
    let secret = text.strip_suffix(b"\n").unwrap_or(&text);
    let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
    if secret.is_empty() {
        return Err(io::Error::other(
            "no secret: write it to standard input, as in `tollgate key hash < key.txt`",
        ));
    }
    writeln!(output, "{}", hash(secret))
}

fn hash(secret: &[u8]) -> String {
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(secret) {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    text
}

/// RFC 4648 section 5, without padding.
fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut bits = [0; 4];
        bits[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(bits);
        for digit in 0..=group.len() {
            let value = bits >> (18 - 6 * digit) & 63;
            text.push(char::from(DIGITS[value as usize]));
        }
    }
    text
}

/// Most bytes of a secret.
const SECRET: usize = 64 * 1024;

#[cfg(test)]
mod tests;
