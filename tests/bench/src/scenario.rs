//! What is measured, under which load, and in which columns it is told.

use std::time::Duration;

use crate::BoxError;
use crate::load::{Call, Faults, closed, held, open};
use crate::payload::{Stream, Text};
use crate::stats::percentile;
use crate::target::{Kind, Target};

/// One table of the output.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) columns: &'static [Column],
    pub(crate) work: Work,
}

/// One column of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) decimals: usize,
    pub(crate) of: Of,
    /// Whether the ratios to the two references are told beside it.
    pub(crate) ratios: bool,
}

/// Where a column's value comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Of {
    /// The value at this place of [`Sample::values`].
    Measured(usize),
    /// The same, less that of `direct` in the same round.
    Added(usize),
}

/// The load.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    /// Requests in a closed loop.
    Closed {
        text: Text,
        size: usize,
        connections: usize,
    },
    /// Streams without pauses in a closed loop.
    Streams { events: u64, connections: usize },
    /// Requests at fixed times.
    Open { rate: u32 },
    /// Short streams at fixed times, for the time to the first event.
    First { rate: u32 },
    /// Streams held open in a fresh process.
    Held { streams: usize },
}

/// How long one measurement takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) warm: Duration,
    pub(crate) window: Duration,
}

/// What one measurement gave. A value that there is none of is no number.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) values: Vec<f64>,
    pub(crate) faults: Faults,
}

/// All scenarios, in the order in which they are run.
pub(crate) fn all() -> Vec<Scenario> {
    let body = |name, title, text, size, connections| Scenario {
        name,
        title,
        columns: BODY,
        work: Work::Closed {
            text,
            size,
            connections,
        },
    };
    vec![
        Scenario {
            name: "json",
            title: "Small JSON, keep-alive, 32 connections, closed loop",
            columns: JSON,
            work: Work::Closed {
                text: Text::Chat,
                size: 1000,
                connections: 32,
            },
        },
        Scenario {
            name: "stream",
            title: "Streams of 100 events back to back, 32 connections, closed loop",
            columns: STREAM,
            work: Work::Streams {
                events: 100,
                connections: 32,
            },
        },
        Scenario {
            name: "open",
            title: "Small JSON, 5,000 requests/s at fixed times, latency from the intended time",
            columns: OPEN,
            work: Work::Open { rate: 5000 },
        },
        Scenario {
            name: "first",
            title: "Time to the first event, 200 streams/s at fixed times",
            columns: FIRST,
            work: Work::First { rate: 200 },
        },
        Scenario {
            name: "held",
            title: "1,000 streams held open, an event a second each, fresh process",
            columns: HELD,
            work: Work::Held { streams: 1000 },
        },
        body(
            "body-100k-chat",
            "Request bodies of 100 KB, chat text, 16 connections",
            Text::Chat,
            100_000,
            16,
        ),
        body(
            "body-100k-base64",
            "Request bodies of 100 KB, one base64 string, 16 connections",
            Text::Base64,
            100_000,
            16,
        ),
        body(
            "body-1m-chat",
            "Request bodies of 1 MB, chat text, 8 connections",
            Text::Chat,
            1_000_000,
            8,
        ),
        body(
            "body-1m-base64",
            "Request bodies of 1 MB, one base64 string, 8 connections",
            Text::Base64,
            1_000_000,
            8,
        ),
    ]
}

// ===== impl Work =====

impl Work {
    /// What the requests look like: their text, their size, and the stream they ask for.
    pub(crate) fn asks(self) -> (Text, usize, Option<Stream>) {
        match self {
            Self::Closed { text, size, .. } => (text, size, None),
            Self::Streams { events, .. } => (Text::Chat, 1000, Some(Stream { events, gap_ms: 0 })),
            Self::Open { .. } => (Text::Chat, 1000, None),
            Self::First { .. } => (
                Text::Chat,
                1000,
                Some(Stream {
                    events: 3,
                    gap_ms: 1,
                }),
            ),
            // Longer than any run, so that no stream ends while it is to be held.
            Self::Held { .. } => (
                Text::Chat,
                1000,
                Some(Stream {
                    events: 600,
                    gap_ms: 1000,
                }),
            ),
        }
    }

    /// Whether each measurement wants a process that has done nothing before.
    pub(crate) fn wants_fresh(self) -> bool {
        matches!(self, Self::Held { .. })
    }

    /// Whether there is something to measure without a proxy.
    pub(crate) fn takes(self, kind: Kind) -> bool {
        kind != Kind::Direct || !self.wants_fresh()
    }

    /// Runs the load once against `target`.
    pub(crate) fn measure(
        self,
        call: &Call,
        target: &Target,
        pace: Pace,
    ) -> Result<Sample, BoxError> {
        let pids = &target.pids;
        Ok(match self {
            Self::Closed { connections, .. } => of_requests(closed::run(
                call,
                connections,
                pace.warm,
                pace.window,
                pids,
            )?),
            Self::Streams { connections, .. } => of_streams(
                call,
                closed::run(call, connections, pace.warm, pace.window, pids)?,
            ),
            Self::Open { rate } => {
                of_times(open::run(call, rate, pace.warm, pace.window, pids), false)
            }
            Self::First { rate } => {
                of_times(open::run(call, rate, pace.warm, pace.window, pids), true)
            }
            Self::Held { streams } => {
                let hold = pace.window.max(Duration::from_secs(1));
                of_memory(&held::run(call, streams, hold, pids)?, streams)
            }
        })
    }
}

fn of_requests(mut outcome: closed::Outcome) -> Sample {
    let answers = outcome.answers as f64;
    Sample {
        values: vec![
            answers / outcome.seconds,
            micros(&mut outcome.latencies, 50.0),
            micros(&mut outcome.latencies, 99.0),
            per(outcome.cpu_micros, answers),
        ],
        faults: outcome.faults,
    }
}

/// Streams are longer than is exact at the window's edges, so events are counted by their bytes.
fn of_streams(call: &Call, mut outcome: closed::Outcome) -> Sample {
    let events = outcome.bytes as f64 / call.expected.len() as f64 * call.expected.events as f64;
    Sample {
        values: vec![
            events / outcome.seconds,
            per(outcome.cpu_micros, events),
            micros(&mut outcome.latencies, 50.0) / 1000.0,
        ],
        faults: outcome.faults,
    }
}

fn of_times(mut outcome: open::Outcome, first: bool) -> Sample {
    let answers = outcome.whole.len() as f64;
    let times = if first {
        &mut outcome.first
    } else {
        &mut outcome.whole
    };
    Sample {
        values: vec![
            micros(times, 50.0),
            micros(times, 99.0),
            per(outcome.cpu_micros, answers),
        ],
        faults: outcome.faults,
    }
}

fn of_memory(outcome: &held::Outcome, streams: usize) -> Sample {
    let grown = outcome.held as f64 - outcome.before as f64;
    Sample {
        values: vec![grown / 1000.0 / streams as f64, outcome.before as f64 / 1e6],
        faults: outcome.faults.clone(),
    }
}

fn micros(nanos: &mut [u64], percent: f64) -> f64 {
    percentile(nanos, percent).map_or(f64::NAN, |nanos| nanos as f64 / 1000.0)
}

fn per(total: u64, count: f64) -> f64 {
    if count > 0.0 {
        total as f64 / count
    } else {
        f64::NAN
    }
}

const fn measured(name: &'static str, decimals: usize, at: usize) -> Column {
    Column {
        name,
        decimals,
        of: Of::Measured(at),
        ratios: false,
    }
}

const fn compared(name: &'static str, decimals: usize, at: usize) -> Column {
    Column {
        ratios: true,
        ..measured(name, decimals, at)
    }
}

const fn added(name: &'static str, decimals: usize, at: usize) -> Column {
    Column {
        of: Of::Added(at),
        ..measured(name, decimals, at)
    }
}

/// The names of the columns that the verdict asks for.
pub(crate) const RATE: &str = "requests/s";
pub(crate) const CPU_REQUEST: &str = "CPU us/request";
pub(crate) const CPU_EVENT: &str = "CPU us/event";
pub(crate) const ADDED_P50: &str = "added p50 us";
pub(crate) const ADDED_P99: &str = "added p99 us";
pub(crate) const PER_STREAM: &str = "KB/stream";
pub(crate) const IDLE: &str = "idle MB";

const JSON: &[Column] = &[
    compared(RATE, 0, 0),
    measured("p50 us", 0, 1),
    measured("p99 us", 0, 2),
    added(ADDED_P50, 0, 1),
    compared(CPU_REQUEST, 1, 3),
];
const STREAM: &[Column] = &[
    compared("events/s", 0, 0),
    compared(CPU_EVENT, 2, 1),
    measured("stream p50 ms", 2, 2),
];
const OPEN: &[Column] = &[
    measured("p50 us", 0, 0),
    measured("p99 us", 0, 1),
    added(ADDED_P50, 0, 0),
    added(ADDED_P99, 0, 1),
    compared(CPU_REQUEST, 1, 2),
];
const FIRST: &[Column] = &[
    measured("p50 us", 0, 0),
    measured("p99 us", 0, 1),
    added(ADDED_P50, 0, 0),
    added(ADDED_P99, 0, 1),
];
const HELD: &[Column] = &[compared(PER_STREAM, 1, 0), compared(IDLE, 1, 1)];
const BODY: &[Column] = &[compared(RATE, 0, 0), compared(CPU_REQUEST, 1, 3)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_takes_a_value_that_its_work_gives() {
        for scenario in all() {
            let given = match scenario.work {
                Work::Closed { .. } => 4,
                Work::Streams { .. } | Work::Open { .. } | Work::First { .. } => 3,
                Work::Held { .. } => 2,
            };
            for column in scenario.columns {
                let (Of::Measured(at) | Of::Added(at)) = column.of;
                assert!(at < given, "{}: {}", scenario.name, column.name);
            }
        }
    }

    #[test]
    fn without_answers_there_is_no_figure() {
        let sample = of_requests(closed::Outcome {
            answers: 0,
            bytes: 0,
            seconds: 1.0,
            cpu_micros: 10,
            latencies: Vec::new(),
            faults: Faults::default(),
        });
        assert_eq!(sample.values[0], 0.0);
        assert!(
            sample.values[1..].iter().all(|value| value.is_nan()),
            "{:?}",
            sample.values
        );
    }
}
