//! One run of the bench, as the command line chose it, from the first start to the verdict.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Args;

use crate::BoxError;
use crate::machine;
use crate::process::Nursery;
use crate::report::Table;
use crate::scenario::{self, Pace, Scenario};
use crate::target::{Kind, Starter};
use crate::turns::Turns;
use crate::verdict;

/// What may be chosen on the command line.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Run only scenarios whose names begin so; may be given more than once
    #[arg(long, value_name = "NAME")]
    scenario: Vec<String>,
    /// How often each target has its turn; the figures are medians
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each turn is
    #[arg(long, default_value_t = 2.5)]
    seconds: f64,
    /// One round of half a second, to see whether all runs
    #[arg(long)]
    quick: bool,
    /// The tollgate binary; built in release mode if not given
    #[arg(long, env = "TOLLGATE_BIN", value_name = "PATH")]
    bin: Option<PathBuf>,
    /// Measure the others only
    #[arg(long)]
    without_tollgate: bool,
    /// A file with lines to append to tollgate's configuration, `layers:` for example
    #[arg(long, value_name = "PATH")]
    append: Option<PathBuf>,
}

/// Runs the chosen scenarios and prints them as they are done.
///
/// # Errors
///
/// If something could not be started or ended early. Wrong answers are counted in the tables.
pub(crate) fn run(options: &Options) -> Result<Vec<Table>, BoxError> {
    let chosen = choose(&options.scenario)?;
    let dir = tempfile::Builder::new()
        .prefix("tollgate-bench-")
        .tempdir()?;
    let starter = Starter {
        nursery: Nursery::new(dir.path())?,
        dir: dir.path().to_owned(),
        tollgate: tollgate(options)?,
        append: options
            .append
            .as_ref()
            .map_or_else(|| Ok(String::new()), fs::read_to_string)?,
    };
    let kinds = kinds(starter.tollgate.is_some());
    warm(dir.path())?;
    println!("{}", machine::describe(starter.tollgate.as_deref(), &kinds));
    let (provider, upstream) = starter.upstream()?;
    let mut turns = Turns::begin(&starter, (upstream, provider.pids()), &kinds)?;
    let rounds = if options.quick { 1 } else { options.rounds };
    let mut tables = Vec::new();
    for scenario in &chosen {
        let table = turns.measure(scenario, rounds, options.pace())?;
        println!("{table}");
        tables.push(table);
    }
    if let Some(binary) = &starter.tollgate {
        println!(
            "{}",
            verdict::of(&tables, stripped_size(binary, dir.path())?)
        );
    }
    Ok(tables)
}

/// Uses the memory once that the access logs will take in the page cache, and gives it back.
///
/// In a virtual machine the first use of a page that the host has not given yet costs microseconds, which would be counted
/// as the work of whoever writes a log: measured 1.3 of 24 microseconds a request, against 0.1 in used memory.
fn warm(dir: &Path) -> io::Result<()> {
    let path = dir.join("warm");
    let mut file = File::create(&path)?;
    let some = vec![0; 1 << 20];
    for _ in 0..LOGS_MIB {
        file.write_all(&some)?;
    }
    drop(file);
    fs::remove_file(path)
}

/// What all logs of a run take at most, about.
const LOGS_MIB: usize = 1024;

// ===== impl Options =====

impl Options {
    fn pace(&self) -> Pace {
        let seconds = if self.quick {
            0.5
        } else {
            self.seconds.clamp(0.1, 600.0)
        };
        Pace {
            warm: Duration::from_secs_f64(seconds / 5.0),
            window: Duration::from_secs_f64(seconds),
        }
    }
}

fn choose(names: &[String]) -> Result<Vec<Scenario>, BoxError> {
    let all = scenario::all();
    for name in names {
        if !all
            .iter()
            .any(|scenario| scenario.name.starts_with(name.as_str()))
        {
            let known: Vec<_> = all.iter().map(|scenario| scenario.name).collect();
            return Err(format!(
                "no scenario begins with {name:?}; there are {}",
                known.join(", ")
            )
            .into());
        }
    }
    let wanted = |scenario: &Scenario| {
        names.is_empty()
            || names
                .iter()
                .any(|name| scenario.name.starts_with(name.as_str()))
    };
    Ok(all.into_iter().filter(wanted).collect())
}

fn kinds(tollgate: bool) -> Vec<Kind> {
    let mut kinds = vec![Kind::Direct, Kind::Legacy, Kind::Inline];
    if Command::new("nginx").arg("-v").output().is_ok() {
        kinds.push(Kind::Nginx);
    } else {
        println!("not run: nginx\n");
    }
    if tollgate {
        kinds.push(Kind::Tollgate);
    } else {
        println!("not run: tollgate\n");
    }
    kinds
}

/// The binary that was named, or else the one that is built now, beside the bench's own.
fn tollgate(options: &Options) -> Result<Option<PathBuf>, BoxError> {
    if options.without_tollgate {
        return Ok(None);
    }
    if let Some(binary) = &options.bin {
        let found = binary
            .canonicalize()
            .map_err(|error| format!("{}: {error}", binary.display()))?;
        return Ok(Some(found));
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let built = Command::new(cargo)
        .args([
            "build",
            "--release",
            "--package",
            "tollgate",
            "--bin",
            "tollgate",
        ])
        .current_dir(root)
        .status()?;
    if !built.success() {
        return Err("tollgate does not build; --bin names one that is built, --without-tollgate measures the others".into());
    }
    let own = std::env::current_exe()?;
    let target = own
        .ancestors()
        .nth(2)
        .ok_or("the bench does not run from a target directory")?;
    Ok(Some(target.join("release/tollgate")))
}

/// The size without symbols, in bytes. Release builds have none; `strip` is asked in case this is another one.
fn stripped_size(binary: &Path, dir: &Path) -> Result<u64, BoxError> {
    let copy = dir.join("stripped");
    let done = Command::new("strip")
        .arg("-o")
        .arg(&copy)
        .arg(binary)
        .output();
    let stripped = if done.is_ok_and(|done| done.status.success()) {
        &copy
    } else {
        binary
    };
    Ok(fs::metadata(stripped)?.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_chosen_by_the_beginning_of_their_name() {
        let names = |chosen: Vec<Scenario>| {
            chosen
                .iter()
                .map(|scenario| scenario.name)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            names(
                choose(&["body-1m".into(), "json".into()]).expect("the test brings what is right")
            ),
            ["json", "body-1m-chat", "body-1m-base64"]
        );
        assert_eq!(
            choose(&[]).expect("the test brings what is right").len(),
            scenario::all().len()
        );
        assert!(choose(&["jsno".into()]).is_err());
    }
}
