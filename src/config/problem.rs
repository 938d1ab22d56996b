//! What is wrong with a configuration: collected, ordered, and told so that it can be mended.
//!
//! A [`Problem`] names file, line and column, shows the line with a caret, and says what to do. None of
//! its texts ever holds a secret: excerpts are masked (see [`super::mask`]), and values that came
//! from a variable or stand under a secret's key are not quoted in messages.

use std::fmt;

use super::excerpt::{Excerpt, Source};

/// How many problems the text form shows before it only counts.
const SHOWN: usize = 20;

/// How many errors and how many warnings are kept; a hostile file cannot make the list grow past it.
const KEPT: usize = 200;

/// Whether a problem stops the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file works, but probably not as meant.
    Warning,
}

impl Severity {
    const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One thing that is wrong, where it stands, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether it stops the start.
    pub severity: Severity,
    /// The file's name as it was given.
    pub file: String,
    /// Line in the file, from 1; 0 when the problem belongs to no line (a file that cannot be read).
    pub line: usize,
    /// Column in characters, from 1; 0 together with `line`.
    pub column: usize,
    /// The key's path, such as `providers.openai.base_url`; empty for the file as a whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do; empty when the message says it all.
    pub remedy: String,
    notes: Vec<String>,
    excerpt: Option<Excerpt>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.severity.word(), self.message)?;
        if self.line == 0 {
            writeln!(f, "  --> {}", self.file)?;
        } else {
            writeln!(f, "  --> {}:{}:{}", self.file, self.line, self.column)?;
        }
        let margin = self.line.to_string().len().max(2);
        if let Some(excerpt) = &self.excerpt {
            let carets = format!("{}{}", " ".repeat(excerpt.caret), "^".repeat(excerpt.width));
            writeln!(f, "{:margin$} |", "")?;
            writeln!(f, "{:>margin$} | {}", self.line, excerpt.text)?;
            writeln!(
                f,
                "{:margin$} | {}",
                "",
                format!("{carets} {}", self.remedy).trim_end()
            )?;
        } else if !self.remedy.is_empty() {
            writeln!(f, "{:margin$} = {}", "", self.remedy)?;
        }
        for note in &self.notes {
            writeln!(f, "{:margin$} = {note}", "")?;
        }
        Ok(())
    }
}

/// All problems of one file, errors and warnings, in the order of the file.
///
/// `Display` is the text of `check`: at most 20 problems and a count of them all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
    dropped: usize,
}

impl Problems {
    /// One error that belongs to no line, such as a file that cannot be read.
    pub(crate) fn of_file(
        file: &str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let mut report = Report::new(file, "");
        report.error(Fault::new(At::NOWHERE, "", message).remedy(remedy));
        report.into_problems()
    }

    /// The problems, sorted by line and column.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.list.iter()
    }

    /// How many errors there are.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.count(Severity::Error) + self.dropped
    }

    /// How many warnings there are.
    #[must_use]
    pub fn warnings(&self) -> usize {
        self.count(Severity::Warning)
    }

    /// Whether there is nothing to say.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// A JSON array with one object per problem: `severity`, `file`, `line`, `column`, `path`,
    /// `message`, `remedy`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let row = |p: &Problem| {
            serde_json::json!({
                "severity": p.severity.word(), "file": p.file, "line": p.line, "column": p.column,
                "path": p.path, "message": p.message, "remedy": p.remedy,
            })
        };
        serde_json::Value::Array(self.list.iter().map(row).collect()).to_string()
    }

    fn count(&self, severity: Severity) -> usize {
        self.list.iter().filter(|p| p.severity == severity).count()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in self.list.iter().take(SHOWN) {
            write!(f, "{problem}")?;
        }
        let hidden = self.list.len().saturating_sub(SHOWN) + self.dropped;
        if hidden > 0 {
            writeln!(f, "… and {hidden} more")?;
        }
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        let (errors, warnings) = (self.errors(), self.warnings());
        writeln!(
            f,
            "{errors} error{}, {warnings} warning{}",
            plural(errors),
            plural(warnings)
        )
    }
}

impl std::error::Error for Problems {}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Where something stands: line and column from 1, and how many characters wide it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) width: usize,
}

impl At {
    /// No line of the file.
    pub(crate) const NOWHERE: Self = Self {
        line: 0,
        column: 0,
        width: 0,
    };
}

/// A problem before it is tied to a file.
#[derive(Debug)]
pub(crate) struct Fault {
    at: At,
    path: String,
    message: String,
    remedy: String,
    notes: Vec<String>,
}

impl Fault {
    pub(crate) fn new(at: At, path: &str, message: impl Into<String>) -> Self {
        Self {
            at,
            path: path.to_owned(),
            message: message.into(),
            remedy: String::new(),
            notes: Vec::new(),
        }
    }

    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }
}

/// Collects the problems of one file.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    file: &'a str,
    source: Source<'a>,
    broken: bool,
    problems: Problems,
}

impl<'a> Report<'a> {
    pub(crate) fn new(file: &'a str, text: &'a str) -> Self {
        Self {
            file,
            source: Source::new(text),
            broken: false,
            problems: Problems::default(),
        }
    }

    pub(crate) const fn source(&self) -> &Source<'a> {
        &self.source
    }

    /// From here on nothing is known about the file's structure, so excerpts are masked to the end of their line.
    pub(crate) const fn no_structure(&mut self) {
        self.broken = true;
    }

    pub(crate) fn error(&mut self, fault: Fault) {
        self.push(Severity::Error, fault);
    }

    pub(crate) fn warning(&mut self, fault: Fault) {
        self.push(Severity::Warning, fault);
    }

    /// Whether suggestions are still worth their time.
    pub(crate) const fn is_crowded(&self) -> bool {
        self.problems.list.len() >= 2 * SHOWN
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.problems.errors() > 0
    }

    pub(crate) fn into_problems(mut self) -> Problems {
        self.problems
            .list
            .sort_by_key(|p| (p.severity, p.line, p.column));
        self.problems
    }

    fn push(&mut self, severity: Severity, fault: Fault) {
        if self.problems.count(severity) >= KEPT {
            self.problems.dropped += usize::from(severity == Severity::Error);
            return;
        }
        let excerpt = self.source.excerpt(fault.at, self.broken);
        self.problems.list.push(Problem {
            severity,
            file: self.file.to_owned(),
            line: fault.at.line,
            column: fault.at.column,
            path: clean(fault.path),
            message: clean(fault.message),
            remedy: clean(fault.remedy),
            notes: fault.notes.into_iter().map(clean).collect(),
            excerpt,
        });
    }
}

/// A file's own words may hold escapes that a terminal would obey, or break a line.
fn clean(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}
