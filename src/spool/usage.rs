//! `tollgate usage`: what the spool says was used, by caller, model and day.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Write as _,
    io,
    path::Path,
};

use serde::Serialize;

use super::{
    files,
    line::{Admitted, LOST, Line},
};

/// What is summed up together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Each caller.
    Caller,
    /// Each day, UTC.
    Day,
    /// Each model.
    Model,
}

/// The sum of some requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Sum {
    /// The day of admission, if days are told apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day: Option<String>,
    /// Who asked, if callers are told apart; empty where nobody is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// The model, if models are told apart; empty where none was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Requests that have ended.
    pub requests: u64,
    /// Requests that have not.
    pub running: u64,
    /// Of those that ended, the ones that their process did not live to end; they are charged what was reserved.
    pub lost: u64,
    /// Tokens of the input.
    pub prompt: u64,
    /// Tokens of the output.
    pub completion: u64,
    /// What is charged.
    pub cost_usd: f64,
    /// Requests without a price.
    pub unpriced: u64,
}

type Key = [Option<String>; 3];

/// Sums up the files of a directory that are still there. Also while a gateway writes them.
///
/// # Errors
///
/// A file cannot be read.
pub fn usage(dir: &Path, by: Option<By>) -> io::Result<Vec<Sum>> {
    let mut open: HashMap<u64, Admitted> = HashMap::new();
    let mut ended: HashSet<u64> = HashSet::new();
    let mut sums: BTreeMap<Key, (Sum, u64)> = BTreeMap::new();
    for (_, path) in files::list(dir)? {
        for line in files::read(&path)?.lines {
            match line {
                Line::Open(line) | Line::Admitted(line) if !ended.contains(&line.id) => {
                    open.entry(line.id).or_insert(line);
                }
                Line::Ended(line) => {
                    let Some(admitted) = open.remove(&line.id) else {
                        continue;
                    };
                    ended.insert(line.id);
                    let (sum, units) = sums.entry(key(&admitted, by)).or_default();
                    sum.requests += 1;
                    sum.lost += u64::from(&*line.ended == LOST);
                    sum.prompt += line.prompt;
                    sum.completion += line.completion;
                    sum.unpriced += u64::from(line.cost.is_none());
                    *units += line.cost.unwrap_or_default();
                }
                _ => {}
            }
        }
    }
    for running in open.values() {
        sums.entry(key(running, by)).or_default().0.running += 1;
    }
    let named = sums
        .into_iter()
        .map(|([day, caller, model], (sum, units))| Sum {
            day,
            caller,
            model,
            cost_usd: units as f64 / 1e10,
            ..sum
        });
    Ok(named.collect())
}

/// Day, caller, model, as far as they are told apart.
fn key(line: &Admitted, by: Option<By>) -> Key {
    let apart = |one: By| by.is_none_or(|by| by == one);
    let day = || day(line.at);
    let caller = || line.caller.as_deref().unwrap_or_default().to_owned();
    let model = || line.model.as_deref().unwrap_or_default().to_owned();
    [
        apart(By::Day).then(day),
        apart(By::Caller).then(caller),
        apart(By::Model).then(model),
    ]
}

fn day(millis: u64) -> String {
    let millis = i64::try_from(millis).unwrap_or(i64::MAX);
    let at = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
    at.to_zoned(jiff::tz::TimeZone::UTC).date().to_string()
}

/// The sums as a table for people.
pub fn table(sums: &[Sum]) -> String {
    let head = [
        "day",
        "caller",
        "model",
        "requests",
        "prompt",
        "completion",
        "usd",
        "lost",
        "running",
    ];
    let row = |sum: &Sum| {
        let name = |name: &Option<String>| match name.as_deref() {
            Some("") => Some("-".to_owned()),
            name => name.map(printable),
        };
        let numbers = [sum.requests, sum.prompt, sum.completion].map(|it| Some(it.to_string()));
        let [requests, prompt, completion] = numbers;
        [
            name(&sum.day),
            name(&sum.caller),
            name(&sum.model),
            requests,
            prompt,
            completion,
            Some(format!("{:.6}", sum.cost_usd)),
            Some(sum.lost.to_string()),
            Some(sum.running.to_string()),
        ]
    };
    let rows: Vec<_> = sums.iter().map(row).collect();
    let shown = |at: usize| rows.first().is_none_or(|row| row[at].is_some());
    let columns: Vec<_> = (0..head.len()).filter(|at| shown(*at)).collect();
    let cell = |row: &[Option<String>; 9], at: usize| row[at].clone().unwrap_or_default();
    let wide = |at: usize| {
        let cells = rows.iter().map(|row| cell(row, at).chars().count());
        cells.max().unwrap_or(0).max(head[at].len())
    };
    let mut out = String::new();
    let mut line = |cells: &dyn Fn(usize) -> String| {
        let mut text = String::new();
        for at in &columns {
            let (cell, wide) = (cells(*at), wide(*at));
            // Names stand left, numbers right.
            let _ = if *at < 3 {
                write!(text, "{cell:<wide$}  ")
            } else {
                write!(text, "{cell:>wide$}  ")
            };
        }
        out.push_str(text.trim_end());
        out.push('\n');
    };
    line(&|at| head[at].to_owned());
    for row in &rows {
        line(&|at| cell(row, at));
    }
    out
}

/// A name that a caller may have chosen: nothing in it moves the cursor.
fn printable(name: &str) -> String {
    let shown = name.chars();
    shown
        .map(|it| if it.is_control() { '?' } else { it })
        .collect()
}
