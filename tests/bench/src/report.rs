//! Tables as Markdown.

use std::fmt::{self, Write as _};

use crate::load::Faults;
use crate::scenario::Scenario;
use crate::target::Kind;

/// The medians of one scenario.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) scenario: Scenario,
    pub(crate) rows: Vec<Row>,
}

/// The medians of one target, a value for each column.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) kind: Kind,
    pub(crate) values: Vec<Option<f64>>,
    /// How far the rounds lie apart, in percent.
    pub(crate) spreads: Vec<Option<f64>>,
    pub(crate) faults: Faults,
}

// ===== impl Table =====

impl Table {
    /// The value of a target in the column of that name.
    pub(crate) fn value(&self, kind: Kind, column: &str) -> Option<f64> {
        let at = self
            .scenario
            .columns
            .iter()
            .position(|have| have.name == column)?;
        *self.row(kind)?.values.get(at)?
    }

    pub(crate) fn row(&self, kind: Kind) -> Option<&Row> {
        self.rows.iter().find(|row| row.kind == kind)
    }

    fn cells(&self, row: &Row) -> Vec<String> {
        let mark = if row.faults.count > 0 {
            " (ERRORS)"
        } else {
            ""
        };
        let mut cells = vec![format!("{}{mark}", row.kind)];
        for (at, (column, &value)) in self.scenario.columns.iter().zip(&row.values).enumerate() {
            cells.push(number(value, column.decimals));
            if column.ratios {
                let spread = row.spreads.get(at).copied().flatten();
                cells.push(spread.map_or_else(|| "-".to_owned(), |spread| format!("{spread:.0}%")));
                for reference in [Kind::Inline, Kind::Legacy] {
                    cells.push(ratio(value, self.value(reference, column.name)));
                }
            }
        }
        cells
    }

    fn heads(&self) -> Vec<String> {
        let mut heads = vec!["target".to_owned()];
        for column in self.scenario.columns {
            heads.push(column.name.to_owned());
            if column.ratios {
                heads.extend(["spread", "x inline", "x legacy"].map(str::to_owned));
            }
        }
        heads
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "## {} (`{}`)\n", self.scenario.title, self.scenario.name)?;
        let lines: Vec<Vec<String>> = self.rows.iter().map(|row| self.cells(row)).collect();
        f.write_str(&markdown(&self.heads(), &lines, true))?;
        for row in self.rows.iter().filter(|row| row.faults.count > 0) {
            let first = row.faults.first.as_deref().unwrap_or("not told");
            writeln!(
                f,
                "\nERRORS of {}: {}, the first: {first}",
                row.kind, row.faults.count
            )?;
        }
        Ok(())
    }
}

/// A table with aligned columns, numbers to the right of the first column if `numbers`.
pub(crate) fn markdown(heads: &[String], lines: &[Vec<String>], numbers: bool) -> String {
    let width = |column: usize| {
        let cells = lines.iter().map(|line| line[column].chars().count());
        cells
            .chain([heads[column].chars().count(), 3])
            .max()
            .unwrap_or(3)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let mut text = String::new();
    let mut write = |line: &[String]| {
        for (column, cell) in line.iter().enumerate() {
            let width = widths[column];
            // Writing to a string does not fail.
            let _ = if numbers && column > 0 {
                write!(text, "| {cell:>width$} ")
            } else {
                write!(text, "| {cell:<width$} ")
            };
        }
        text.push_str("|\n");
    };
    write(heads);
    let rule = widths.iter().enumerate().map(|(column, &width)| {
        if numbers && column > 0 {
            format!("{}:", "-".repeat(width - 1))
        } else {
            "-".repeat(width)
        }
    });
    write(&rule.collect::<Vec<_>>());
    lines.iter().for_each(|line| write(line));
    text
}

/// The number with that many decimals and, from ten thousand on, commas.
pub(crate) fn number(value: Option<f64>, decimals: usize) -> String {
    let Some(value) = value else {
        return "-".to_owned();
    };
    let text = format!("{value:.decimals$}");
    if value.abs() < 10_000.0 {
        return text;
    }
    let whole_end = text.find('.').unwrap_or(text.len());
    let mut grouped = String::with_capacity(text.len() + 4);
    for (index, digit) in text.char_indices() {
        let left = whole_end.saturating_sub(index);
        if left > 0 && left % 3 == 0 && !grouped.is_empty() && grouped != "-" {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn ratio(value: Option<f64>, reference: Option<f64>) -> String {
    match (value, reference) {
        (Some(value), Some(reference)) if reference > 0.0 => format!("{:.2}", value / reference),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario;

    #[test]
    fn numbers_are_grouped_from_ten_thousand_on() {
        let cases = [
            (9999.4, 0, "9999"),
            (10_000.0, 0, "10,000"),
            (1_234_567.89, 1, "1,234,567.9"),
            (-123_456.0, 0, "-123,456"),
            (-5.25, 2, "-5.25"),
        ];
        for (value, decimals, text) in cases {
            assert_eq!(number(Some(value), decimals), text);
        }
        assert_eq!(number(None, 2), "-");
    }

    #[test]
    fn ratios_stand_beside_their_figure_and_errors_are_marked() {
        let scenario = scenario::all()
            .into_iter()
            .find(|scenario| scenario.name == "held")
            .expect("the test brings what is right");
        let row = |kind, values: [f64; 2], count| Row {
            kind,
            values: values.map(Some).to_vec(),
            spreads: vec![Some(4.4), None],
            faults: Faults {
                count,
                first: Some("status 502".to_owned()),
            },
        };
        let table = Table {
            scenario,
            rows: vec![
                row(Kind::Legacy, [40.0, 4.0], 0),
                row(Kind::Inline, [20.0, 4.0], 0),
                row(Kind::Nginx, [10.0, 8.0], 7),
            ],
        };
        assert_eq!(
            table.cells(&table.rows[2]),
            [
                "nginx (ERRORS)",
                "10.0",
                "4%",
                "0.50",
                "0.25",
                "8.0",
                "-",
                "2.00",
                "2.00"
            ]
        );
        let text = table.to_string();
        assert!(
            text.contains("ERRORS of nginx: 7, the first: status 502"),
            "{text}"
        );
        assert_eq!(table.value(Kind::Inline, scenario::PER_STREAM), Some(20.0));
        assert_eq!(table.value(Kind::Tollgate, scenario::PER_STREAM), None);
        assert_eq!(ratio(Some(1.0), Some(0.0)), "-");
    }
}
