//! One run of the bench: starts everything, measures in turns, prints.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::BoxError;
use crate::load::{Call, Expected, Faults};
use crate::machine;
use crate::payload;
use crate::process::Nursery;
use crate::report::{Row, Table};
use crate::scenario::{self, Of, Pace, Sample, Scenario};
use crate::stats::{median, spread};
use crate::target::{Kind, Starter, Target};
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
            .map_or_else(|| Ok(String::new()), std::fs::read_to_string)?,
    };
    let kinds = kinds(starter.tollgate.is_some());
    println!("{}", machine::describe(starter.tollgate.as_deref(), &kinds));
    let (provider, upstream) = starter.upstream()?;
    let mut session = Session {
        pids: provider.pids(),
        starter: &starter,
        upstream,
        standing: Vec::new(),
        pace: options.pace(),
        rounds: if options.quick { 1 } else { options.rounds },
        kinds,
    };
    session.stand()?;
    let mut tables = Vec::new();
    for scenario in &chosen {
        let table = session.measure(scenario)?;
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

struct Session<'a> {
    starter: &'a Starter,
    /// The provider's processes and address.
    pids: Vec<u32>,
    upstream: std::net::SocketAddr,
    /// Targets that run all the time.
    standing: Vec<Target>,
    pace: Pace,
    rounds: u32,
    kinds: Vec<Kind>,
}

// ===== impl Session =====

impl Session<'_> {
    /// Starts all targets and sees that each gives the provider's answer before anything is timed.
    fn stand(&mut self) -> Result<(), BoxError> {
        for &kind in &self.kinds {
            let target = self.start(kind)?;
            self.standing.push(target);
        }
        Ok(())
    }

    fn start(&self, kind: Kind) -> Result<Target, BoxError> {
        let mut target = self.starter.start(kind, self.upstream, &self.pids)?;
        let ask = |to| Expected::ask(to, &payload::request(to, payload::Text::Chat, 1000, None));
        let given =
            ask(target.address).map_err(|error| format!("{kind} gives no answer: {error}"))?;
        if given != ask(self.upstream)? {
            return Err(format!("{kind} gives another answer than the provider").into());
        }
        target.check()?;
        Ok(target)
    }

    fn measure(&mut self, scenario: &Scenario) -> Result<Table, BoxError> {
        let (text, size, stream) = scenario.work.asks();
        // The bytes are the same with pauses and without, so they are asked for without.
        let at_once = stream.map(|stream| payload::Stream {
            gap_ms: 0,
            ..stream
        });
        let request = payload::request(self.upstream, text, size, at_once);
        let expected = Arc::new(Expected::ask(self.upstream, &request)?);
        let kinds: Vec<Kind> = self
            .kinds
            .iter()
            .copied()
            .filter(|&kind| scenario.work.takes(kind))
            .collect();
        let mut rounds = Vec::new();
        for round in 0..self.rounds as usize {
            let mut samples: Vec<Option<Sample>> = vec![None; kinds.len()];
            for turn in 0..kinds.len() {
                let index = (round + turn) % kinds.len();
                let sample = self.turn(kinds[index], scenario, |to| Call {
                    to,
                    request: payload::request(to, text, size, stream).into(),
                    expected: Arc::clone(&expected),
                })?;
                samples[index] = Some(sample);
            }
            rounds.push(samples.into_iter().flatten().collect());
        }
        Ok(tabulate(scenario, &kinds, &rounds))
    }

    fn turn(
        &mut self,
        kind: Kind,
        scenario: &Scenario,
        call: impl Fn(std::net::SocketAddr) -> Call,
    ) -> Result<Sample, BoxError> {
        if scenario.work.wants_fresh() {
            let mut target = self.start(kind)?;
            let sample = scenario
                .work
                .measure(&call(target.address), &target, self.pace)?;
            target.check()?;
            return Ok(sample);
        }
        let standing = self.standing.iter_mut().find(|target| target.kind == kind);
        let target = standing.ok_or("a target that was not started")?;
        target.check()?;
        let sample = scenario
            .work
            .measure(&call(target.address), target, self.pace)?;
        target.check()?;
        Ok(sample)
    }
}

/// Medians over the rounds; what is added is counted within each round.
fn tabulate(scenario: &Scenario, kinds: &[Kind], rounds: &[Vec<Sample>]) -> Table {
    let direct = kinds.iter().position(|&kind| kind == Kind::Direct);
    let of_round = |samples: &[Sample], index: usize, of: Of| match of {
        Of::Measured(at) => samples[index].values[at],
        Of::Added(at) => direct.map_or(f64::NAN, |direct| {
            samples[index].values[at] - samples[direct].values[at]
        }),
    };
    let row = |index: usize, kind: Kind| {
        let columns: Vec<Vec<f64>> = scenario
            .columns
            .iter()
            .map(|column| {
                rounds
                    .iter()
                    .map(|samples| of_round(samples, index, column.of))
                    .collect()
            })
            .collect();
        let mut faults = Faults::default();
        rounds
            .iter()
            .for_each(|samples| faults.merge(samples[index].faults.clone()));
        Row {
            kind,
            values: columns.iter().map(|values| median(values)).collect(),
            spreads: columns.iter().map(|values| spread(values)).collect(),
            faults,
        }
    };
    Table {
        rows: kinds
            .iter()
            .enumerate()
            .map(|(index, &kind)| row(index, kind))
            .collect(),
        scenario: scenario.clone(),
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
    Ok(std::fs::metadata(stripped)?.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(values: &[f64]) -> Sample {
        Sample {
            values: values.to_vec(),
            faults: Faults {
                count: 1,
                first: None,
            },
        }
    }

    #[test]
    fn what_is_added_is_counted_within_its_round() {
        let scenario = scenario::all()
            .into_iter()
            .find(|scenario| scenario.name == "open")
            .expect("the test brings what is right");
        let rounds = [
            vec![sample(&[10.0, 20.0, 1.0]), sample(&[15.0, 40.0, 2.0])],
            vec![sample(&[100.0, 200.0, 1.0]), sample(&[107.0, 230.0, 2.0])],
            vec![sample(&[10.0, 20.0, 1.0]), sample(&[16.0, 10.0, 5.0])],
        ];
        let table = tabulate(&scenario, &[Kind::Direct, Kind::Inline], &rounds);
        let expected = [16.0, 40.0, 6.0, 20.0, 2.0].map(Some);
        assert_eq!(table.rows[1].values, expected);
        assert_eq!(table.rows[1].faults.count, 3);
    }

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
