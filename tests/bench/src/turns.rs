//! Targets that take turns: each scenario goes round them, beginning with another one in each round.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::BoxError;
use crate::load::{Call, Expected, Faults};
use crate::payload::{self, Stream, Text};
use crate::report::{Row, Table};
use crate::scenario::{Of, Pace, Sample, Scenario};
use crate::stats::{median, spread};
use crate::target::{Kind, Starter, Target};

/// The provider and all targets before it, started and seen to answer.
#[derive(Debug)]
pub(crate) struct Turns<'a> {
    starter: &'a Starter,
    upstream: SocketAddr,
    /// The provider's processes.
    provider: Vec<u32>,
    /// Targets that run all the time.
    standing: Vec<Target>,
}

/// What is asked for in a scenario, and what the provider answers.
#[derive(Debug)]
struct Asked {
    text: Text,
    size: usize,
    stream: Option<Stream>,
    expected: Arc<Expected>,
}

// ===== impl Turns =====

impl<'a> Turns<'a> {
    /// Starts all targets and sees that each gives the provider's answer before anything is timed.
    pub(crate) fn begin(
        starter: &'a Starter,
        (upstream, provider): (SocketAddr, Vec<u32>),
        kinds: &[Kind],
    ) -> Result<Self, BoxError> {
        let mut turns = Self {
            starter,
            upstream,
            provider,
            standing: Vec::new(),
        };
        for &kind in kinds {
            let target = turns.start(kind)?;
            turns.standing.push(target);
        }
        Ok(turns)
    }

    /// Measures all targets in all rounds.
    pub(crate) fn measure(
        &mut self,
        scenario: &Scenario,
        rounds: u32,
        pace: Pace,
    ) -> Result<Table, BoxError> {
        let asked = Asked::of(scenario, self.upstream)?;
        let kinds: Vec<Kind> = self
            .standing
            .iter()
            .map(|target| target.kind)
            .filter(|&kind| scenario.work.takes(kind))
            .collect();
        let mut all = Vec::new();
        for round in 0..rounds as usize {
            let mut samples: Vec<Option<Sample>> = vec![None; kinds.len()];
            for turn in 0..kinds.len() {
                let index = (round + turn) % kinds.len();
                samples[index] = Some(self.turn(kinds[index], scenario, &asked, pace)?);
            }
            all.push(samples.into_iter().flatten().collect());
        }
        Ok(tabulate(scenario, &kinds, &all))
    }

    fn turn(
        &mut self,
        kind: Kind,
        scenario: &Scenario,
        asked: &Asked,
        pace: Pace,
    ) -> Result<Sample, BoxError> {
        let edits = self.may_edit(kind);
        let mut fresh;
        let target = if scenario.work.wants_fresh() {
            fresh = self.start(kind)?;
            &mut fresh
        } else {
            let standing = self.standing.iter_mut().find(|target| target.kind == kind);
            standing.ok_or("a target that was not started")?
        };
        target.check()?;
        let sample = scenario
            .work
            .measure(&asked.call(target.address, edits), target, pace)?;
        target.check()?;
        Ok(sample)
    }

    fn start(&self, kind: Kind) -> Result<Target, BoxError> {
        let mut target = self.starter.start(kind, self.upstream, &self.provider)?;
        let ask = |to| Expected::ask(to, &payload::request(to, Text::Chat, 1000, None));
        let given =
            ask(target.address).map_err(|error| format!("{kind} gives no answer: {error}"))?;
        if !given.is_same(&ask(self.upstream)?, self.may_edit(kind)) {
            return Err(format!("{kind} gives another answer than the provider").into());
        }
        target.check()?;
        Ok(target)
    }

    /// Whether the target may change requests on their way: tollgate may, if it was configured further.
    fn may_edit(&self, kind: Kind) -> bool {
        kind == Kind::Tollgate && !self.starter.append.is_empty()
    }
}

// ===== impl Asked =====

impl Asked {
    fn of(scenario: &Scenario, upstream: SocketAddr) -> Result<Self, BoxError> {
        let (text, size, stream) = scenario.work.asks();
        let expected = Expected::ask(
            upstream,
            &payload::request(upstream, text, size, at_once(stream)),
        )?;
        Ok(Self {
            text,
            size,
            stream,
            expected: Arc::new(expected),
        })
    }

    /// The call through the target at `to`. If that one `edits`, the length of body that the provider receives is
    /// the one of an exchange that is not timed; should that go wrong, so do those that are, and are counted.
    fn call(&self, to: SocketAddr, edits: bool) -> Call {
        let request = |stream| payload::request(to, self.text, self.size, stream);
        let own = edits.then(|| Expected::ask(to, &request(at_once(self.stream))));
        let expected = match own {
            Some(Ok(own)) if own.is_same(&self.expected, true) => Arc::new(own),
            _ => Arc::clone(&self.expected),
        };
        Call {
            to,
            request: request(self.stream).into(),
            expected,
        }
    }
}

/// The same stream without its pauses: it has the same bytes.
fn at_once(stream: Option<Stream>) -> Option<Stream> {
    stream.map(|stream| Stream {
        gap_ms: 0,
        ..stream
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario;

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
}
