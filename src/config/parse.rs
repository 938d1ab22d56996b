//! Reads the text of a file into a tree.
//!
//! serde stops at the first mistake and a typed value forgets where it stood, so the file is read as the
//! parser's events. Any input ends in a tree or in problems: size, depth, number of nodes and the copies that
//! YAML aliases make are bounded. Anchors and aliases work; tags, merge keys and further documents are refused.

use serde_saphyr::granit_parser::{Options, Parser, ScanError};

use super::build::{Builder, DEEPEST};
use super::mask::Quotes;
use super::problem::{At, Fault, Report};
use super::tree::Node;

/// The largest file that is read.
pub(crate) const LARGEST: usize = 1 << 20;

/// Reads the file; `None` when it is no YAML at all. Duplicate keys, tags and merge keys are reported and left out.
pub(crate) fn parse(text: &str, report: &mut Report<'_>) -> Option<Node> {
    if let Err(fault) = readable(text) {
        report.no_structure();
        report.error(fault);
        return None;
    }
    let mut options = Options::default();
    options.flow_nesting_limit = DEEPEST;
    options.block_nesting_limit = DEEPEST;
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut builder = Builder::default();
    while let Some(next) = parser.next_event() {
        let outcome = next
            .map_err(|e| explain(&e, builder.last_line, report))
            .and_then(|(event, span)| builder.take(event, span, report));
        if let Err(fault) = outcome {
            report.no_structure();
            report.error(fault);
            return None;
        }
    }
    builder.root
}

/// Refuses what no parser should be asked: too much, or not text.
fn readable(text: &str) -> Result<(), Fault> {
    if text.len() > LARGEST {
        return Err(Fault::new(
            At::NOWHERE,
            "",
            format!("the file is larger than {LARGEST} bytes"),
        )
        .remedy("a configuration is text of at most 1 MiB"));
    }
    for (number, line) in text.split('\n').enumerate() {
        if let Some(column) = line
            .trim_end_matches('\r')
            .chars()
            .position(|c| c.is_control() && c != '\t')
        {
            let at = At {
                line: number + 1,
                column: column + 1,
                width: 1,
            };
            return Err(
                Fault::new(at, "", "a control character: this is not a text file")
                    .remedy("remove it, or write it as an escape in double quotes"),
            );
        }
    }
    Ok(())
}

/// Turns the parser's complaint into one that says what to do, for the two mistakes that everybody makes.
fn explain(error: &ScanError, last_line: usize, report: &Report<'_>) -> Fault {
    let (line, column) = (error.marker().line(), error.marker().col() + 1);
    let near = line.saturating_sub(1).max(1)..=line;
    for number in near {
        let Some(text) = report.source().line(number) else {
            continue;
        };
        let indent: Vec<char> = text
            .chars()
            .take_while(|c| matches!(c, ' ' | '\t'))
            .collect();
        if let Some(tab) = indent.iter().position(|&c| c == '\t') {
            let at = At {
                line: number,
                column: tab + 1,
                width: 1,
            };
            return Fault::new(at, "", "a tab in the indentation")
                .remedy("YAML indents with spaces");
        }
    }
    for number in last_line.clamp(1, line.max(1))..=line {
        if let Some((at, variable)) = report
            .source()
            .line(number)
            .and_then(|text| unquoted_variable(text, number))
        {
            return Fault::new(at, "", "a `${…}` without quotes is no YAML here")
                .remedy(format!("quote it: \"{variable}\""));
        }
    }
    let at = At {
        line,
        column,
        width: 1,
    };
    Fault::new(
        at,
        "",
        format!("not valid YAML: {error}", error = plain_message(error)),
    )
}

fn plain_message(error: &ScanError) -> String {
    let info = error.info();
    info.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// The first `${…}` of a line that stands outside quotes and comments.
fn unquoted_variable(text: &str, line: usize) -> Option<(At, String)> {
    let chars: Vec<char> = text.chars().collect();
    let mut quotes = Quotes::default();
    for (i, &c) in chars.iter().enumerate() {
        if quotes.hide(c) {
            continue;
        }
        if c == '#' && (i == 0 || chars[i - 1] == ' ') {
            return None;
        }
        if c == '$' && chars.get(i + 1) == Some(&'{') {
            let close = chars[i..].iter().position(|&c| c == '}');
            let width = close.map_or(chars.len() - i, |n| n + 1);
            let inner = &chars[i + 2..(i + width).max(i + 2)];
            let name: String = inner.iter().take_while(|c| is_name(**c)).collect();
            let at = At {
                line,
                column: i + 1,
                width,
            };
            return Some((at, format!("${{{name}}}")));
        }
    }
    None
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}
