//! What tollgate must reach, and whether it did in this run.

use crate::report::{Table, markdown, number};
use crate::scenario::{ADDED_P50, ADDED_P99, CPU_EVENT, CPU_REQUEST, IDLE, PER_STREAM, RATE};
use crate::target::Kind;

/// How large the binary may be, in bytes.
const BINARY: f64 = 15.0 * 1024.0 * 1024.0;

/// One number to reach.
#[derive(Clone, Copy, Debug)]
struct Goal {
    axis: &'static str,
    scenario: &'static str,
    column: &'static str,
    decimals: usize,
    limit: Limit,
}

/// What a figure of tollgate is held against.
#[derive(Clone, Copy, Debug)]
enum Limit {
    /// At most so many times the reference's.
    Times(f64, Kind),
    /// At most so much more than the reference's.
    Plus(f64, Kind),
    /// At least the reference's.
    AtLeast(Kind),
    /// At most this.
    Most(f64),
}

const GOALS: &[Goal] = &[
    goal(
        "CPU per request, small JSON",
        "json",
        CPU_REQUEST,
        1,
        Limit::Times(1.25, Kind::Inline),
    ),
    goal(
        "requests per second",
        "json",
        RATE,
        0,
        Limit::AtLeast(Kind::Legacy),
    ),
    goal(
        "CPU per streamed event",
        "stream",
        CPU_EVENT,
        2,
        Limit::Times(1.3, Kind::Inline),
    ),
    goal(
        "added latency p50 at 5,000/s, us",
        "open",
        ADDED_P50,
        0,
        Limit::Plus(10.0, Kind::Inline),
    ),
    goal(
        "added latency p99 at 5,000/s, us",
        "open",
        ADDED_P99,
        0,
        Limit::Times(1.3, Kind::Inline),
    ),
    goal(
        "added time to first event p50, us",
        "first",
        ADDED_P50,
        0,
        Limit::Plus(20.0, Kind::Inline),
    ),
    goal(
        "added time to first event p99, us",
        "first",
        ADDED_P99,
        0,
        Limit::Times(1.5, Kind::Inline),
    ),
    goal(
        "memory per held stream, KB",
        "held",
        PER_STREAM,
        1,
        Limit::Most(34.0),
    ),
    goal("idle process, MB", "held", IDLE, 1, Limit::Most(10.0)),
    goal(
        "CPU, 100 KB of chat text",
        "body-100k-chat",
        CPU_REQUEST,
        1,
        Limit::Times(2.0, Kind::Legacy),
    ),
    goal(
        "CPU, 1 MB of chat text",
        "body-1m-chat",
        CPU_REQUEST,
        1,
        Limit::Times(2.0, Kind::Legacy),
    ),
    goal(
        "CPU, 100 KB of base64",
        "body-100k-base64",
        CPU_REQUEST,
        1,
        Limit::Times(1.5, Kind::Legacy),
    ),
    goal(
        "CPU, 1 MB of base64",
        "body-1m-base64",
        CPU_REQUEST,
        1,
        Limit::Times(1.5, Kind::Legacy),
    ),
];

/// What must be reached as well and is not seen from here.
const ELSEWHERE: &[&str] = &[
    "CPU per streamed event with the answer filter on, <= 1.8 x inline (append a `layers:` section with `--append`)",
    "memory of a stalled reader, <= 128 KiB",
    "allocations per request and chunk (counted by a test)",
];

/// The goals with the figures of this run, as a Markdown table.
pub(crate) fn of(tables: &[Table], binary_size: u64) -> String {
    let heads = ["axis", "must", "limit", "tollgate", "verdict"].map(str::to_owned);
    let mut lines: Vec<Vec<String>> = GOALS.iter().map(|goal| goal.line(tables)).collect();
    let size = binary_size as f64;
    lines.push(vec![
        "binary, stripped, MiB".to_owned(),
        "<= 15.0".to_owned(),
        "15.0".to_owned(),
        number(Some(size / 1024.0 / 1024.0), 1),
        told(Some(size <= BINARY)).to_owned(),
    ]);
    let mut text = format!(
        "## What tollgate must reach\n\n{}\nNot measured here:\n\n",
        markdown(&heads, &lines, false)
    );
    for other in ELSEWHERE {
        text.push_str("* ");
        text.push_str(other);
        text.push('\n');
    }
    text
}

// ===== impl Goal =====

impl Goal {
    fn line(&self, tables: &[Table]) -> Vec<String> {
        let table = tables
            .iter()
            .find(|table| table.scenario.name == self.scenario);
        let value = |kind| table.and_then(|table| table.value(kind, self.column));
        let (have, limit) = (value(Kind::Tollgate), self.limit.bound(value));
        let errors = table
            .and_then(|table| table.row(Kind::Tollgate))
            .is_some_and(|row| row.faults.count > 0);
        let verdict = if errors {
            "not met (ERRORS)"
        } else {
            told(self.limit.is_met(have, limit))
        };
        vec![
            self.axis.to_owned(),
            self.limit.rule(),
            number(limit, self.decimals),
            number(have, self.decimals),
            verdict.to_owned(),
        ]
    }
}

// ===== impl Limit =====

impl Limit {
    fn rule(self) -> String {
        match self {
            Self::Times(times, kind) => format!("<= {times} x {kind}"),
            Self::Plus(more, kind) => format!("<= {kind} + {more}"),
            Self::AtLeast(kind) => format!(">= {kind}"),
            Self::Most(most) => format!("<= {most}"),
        }
    }

    /// The limit in this run. A multiple of what is not above nothing says nothing, so there is none then.
    fn bound(self, value: impl Fn(Kind) -> Option<f64>) -> Option<f64> {
        match self {
            Self::Times(times, kind) => Some(value(kind).filter(|&value| value > 0.0)? * times),
            Self::Plus(more, kind) => Some(value(kind)? + more),
            Self::AtLeast(kind) => value(kind),
            Self::Most(most) => Some(most),
        }
    }

    fn is_met(self, have: Option<f64>, limit: Option<f64>) -> Option<bool> {
        let (have, limit) = (have?, limit?);
        Some(match self {
            Self::AtLeast(_) => have >= limit,
            Self::Times(..) | Self::Plus(..) | Self::Most(_) => have <= limit,
        })
    }
}

const fn goal(
    axis: &'static str,
    scenario: &'static str,
    column: &'static str,
    decimals: usize,
    limit: Limit,
) -> Goal {
    Goal {
        axis,
        scenario,
        column,
        decimals,
        limit,
    }
}

fn told(met: Option<bool>) -> &'static str {
    match met {
        Some(true) => "met",
        Some(false) => "NOT met",
        None => "no figure",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Faults;
    use crate::report::Row;
    use crate::scenario;

    fn table(name: &str, inline: f64, legacy: f64, tollgate: f64, faults: u64) -> Table {
        let scenario = scenario::all()
            .into_iter()
            .find(|scenario| scenario.name == name)
            .expect("the test brings what is right");
        let row = |kind, value, count| Row {
            kind,
            values: vec![Some(value); scenario.columns.len()],
            spreads: Vec::new(),
            faults: Faults { count, first: None },
        };
        let rows = vec![
            row(Kind::Inline, inline, 0),
            row(Kind::Legacy, legacy, 0),
            row(Kind::Tollgate, tollgate, faults),
        ];
        Table { scenario, rows }
    }

    fn verdict_on(axis: &str, table: Table) -> String {
        let goal = GOALS
            .iter()
            .find(|goal| goal.axis == axis)
            .expect("the test brings what is right");
        goal.line(&[table])
            .pop()
            .expect("the test brings what is right")
    }

    #[test]
    fn every_goal_names_a_column_that_there_is() {
        let all = scenario::all();
        for goal in GOALS {
            let scenario = all.iter().find(|scenario| scenario.name == goal.scenario);
            let columns = scenario.map_or(&[][..], |scenario| scenario.columns);
            assert!(
                columns.iter().any(|column| column.name == goal.column),
                "{}",
                goal.axis
            );
        }
    }

    #[test]
    fn limits_are_met_up_to_themselves() {
        assert_eq!(
            verdict_on(
                "CPU per request, small JSON",
                table("json", 20.0, 99.0, 25.0, 0)
            ),
            "met"
        );
        assert_eq!(
            verdict_on(
                "CPU per request, small JSON",
                table("json", 20.0, 99.0, 25.1, 0)
            ),
            "NOT met"
        );
        assert_eq!(
            verdict_on("requests per second", table("json", 99.0, 50.0, 50.0, 0)),
            "met"
        );
        assert_eq!(
            verdict_on("requests per second", table("json", 99.0, 50.0, 49.0, 0)),
            "NOT met"
        );
        assert_eq!(
            verdict_on(
                "added latency p50 at 5,000/s, us",
                table("open", -3.0, 0.0, 7.0, 0)
            ),
            "met"
        );
        assert_eq!(
            verdict_on(
                "memory per held stream, KB",
                table("held", 1.0, 1.0, 34.5, 0)
            ),
            "NOT met"
        );
    }

    #[test]
    fn errors_and_noise_meet_nothing() {
        assert_eq!(
            verdict_on(
                "CPU per request, small JSON",
                table("json", 20.0, 20.0, 1.0, 1)
            ),
            "not met (ERRORS)"
        );
        assert_eq!(
            verdict_on(
                "added latency p99 at 5,000/s, us",
                table("open", -3.0, 0.0, -5.0, 0)
            ),
            "no figure"
        );
        assert!(of(&[], 15 << 20).contains("| no figure |"));
        let size = of(&[], (15 << 20) + 1);
        assert!(
            size.lines()
                .any(|line| line.starts_with("| binary") && line.contains("NOT met")),
            "{size}"
        );
    }
}
