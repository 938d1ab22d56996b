//! The YAML of a file as an owned tree in which every key and value knows its line and column.
//!
//! serde stops at the first mistake and a typed value forgets where it stood, so the file is read as the
//! parser's events. Any input ends in a tree or in problems: size, depth, number of nodes and the copies that
//! YAML aliases make are bounded. Anchors and aliases work; tags, merge keys and further documents are refused.

use std::collections::{HashMap, HashSet};

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span};

use super::excerpt::Quotes;
use super::problem::{At, Fault, Report};

/// The largest file that is read.
pub(crate) const LARGEST: usize = 1 << 20;

/// Nodes of one file, copies by alias included.
const MOST_NODES: usize = 100_000;

/// How deep maps and lists may lie in each other; the schema needs 8, `extra_body` may hold a JSON schema.
const DEEPEST: usize = 64;

/// A value and where it stands.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) at: At,
    pub(crate) value: Value,
}

/// What a node holds.
#[derive(Clone)]
pub(crate) enum Value {
    List(Vec<Node>),
    Map(Vec<Entry>),
    Scalar(Scalar),
}

/// One member of a map.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: At,
    pub(crate) value: Node,
}

/// Text, and what it was before expansion.
#[derive(Clone)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Written without quotes, so that `true`, `5` and nothing mean more than their letters.
    pub(crate) plain: bool,
    pub(crate) origin: Origin,
}

/// Where a scalar's text came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The file.
    File,
    /// One variable and nothing else.
    Variable(String),
    /// Text with variables in it.
    Mixed,
    /// A variable that is not set: reported, and no value any more.
    Unset,
}

impl Node {
    pub(crate) const fn scalar(&self) -> Option<&Scalar> {
        match &self.value {
            Value::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// The text of a scalar that is neither null nor missing its variable.
    pub(crate) fn text(&self) -> Option<&str> {
        self.scalar()
            .filter(|s| !s.is_null() && s.origin != Origin::Unset)
            .map(|s| s.text.as_str())
    }

    /// The entries of a map; none for anything else.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; none for anything else.
    pub(crate) fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// A list's items, or the node itself as the only one.
    pub(crate) fn one_or_many(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => std::slice::from_ref(self),
        }
    }

    /// The value of a map's member.
    pub(crate) fn member(&self, key: &str) -> Option<&Self> {
        self.entries()
            .iter()
            .find(|e| e.key == key)
            .map(|e| &e.value)
    }

    pub(crate) fn is_null(&self) -> bool {
        self.scalar().is_some_and(Scalar::is_null)
    }

    /// What a person would call this value.
    pub(crate) fn noun(&self) -> &'static str {
        match &self.value {
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
            Value::Scalar(s) if s.is_null() => "nothing",
            Value::Scalar(_) => "a single value",
        }
    }
}

impl Scalar {
    /// YAML's null: nothing, `~` or `null` without quotes.
    pub(crate) fn is_null(&self) -> bool {
        self.plain
            && self.origin == Origin::File
            && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }
}

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

// ===== building =====

#[derive(Default)]
struct Builder {
    root: Option<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    nodes: usize,
    documents: usize,
    last_line: usize,
}

/// A value that may be asked for again.
struct Anchored {
    node: Node,
    size: usize,
    depth: usize,
}

/// A list or map whose end has not come.
struct Open {
    at: At,
    anchor: usize,
    value: Collected,
}

enum Collected {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        keys: HashSet<String>,
        key: Option<Key>,
    },
}

struct Key {
    text: String,
    at: At,
    /// A second key of this name, or one that is refused: its value is dropped.
    void: bool,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span, report: &mut Report<'_>) -> Result<(), Fault> {
        let at = place(&span);
        self.last_line = at.line;
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Fault::new(at, "", "a second YAML document in the file")
                        .remedy("a configuration is one document"));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                refuse_tag(tag.is_some(), at)?;
                let plain = style == ScalarStyle::Plain;
                let value = Value::Scalar(Scalar {
                    text: text.into_owned(),
                    plain,
                    origin: Origin::File,
                });
                self.place(Node { at, value }, anchor, report)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.begin(at, anchor, tag.is_some(), Collected::List(Vec::new()))?;
            }
            Event::MappingStart(_, anchor, tag) => {
                self.begin(
                    at,
                    anchor,
                    tag.is_some(),
                    Collected::Map {
                        entries: Vec::new(),
                        keys: HashSet::new(),
                        key: None,
                    },
                )?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(report)?,
            Event::Alias(anchor) => {
                let Some(Anchored { node, size, depth }) = self.anchors.get(&anchor) else {
                    return Err(Fault::new(
                        at,
                        "",
                        "an alias inside the value that it names",
                    ));
                };
                if self.open.len() + depth > DEEPEST {
                    return Err(too_deep(at));
                }
                self.nodes += size;
                let copy = node.clone();
                self.place(copy, 0, report)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn begin(
        &mut self,
        at: At,
        anchor: usize,
        tagged: bool,
        value: Collected,
    ) -> Result<(), Fault> {
        refuse_tag(tagged, at)?;
        if self.open.len() >= DEEPEST {
            return Err(too_deep(at));
        }
        if let Some(Open {
            value: Collected::Map { key: None, .. },
            ..
        }) = self.open.last()
        {
            return Err(Fault::new(at, "", "a key that is a map or a list")
                .remedy("keys are words; quote a value that begins with `{` or `[`"));
        }
        self.open.push(Open { at, anchor, value });
        Ok(())
    }

    fn end(&mut self, report: &mut Report<'_>) -> Result<(), Fault> {
        let Some(Open { at, anchor, value }) = self.open.pop() else {
            return Ok(());
        };
        let value = match value {
            Collected::List(items) => Value::List(items),
            Collected::Map { entries, .. } => Value::Map(entries),
        };
        self.place(Node { at, value }, anchor, report)
    }

    /// Puts a finished node where it belongs: into the open list or map, as a key, or at the root.
    fn place(&mut self, node: Node, anchor: usize, report: &mut Report<'_>) -> Result<(), Fault> {
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            return Err(Fault::new(
                node.at,
                "",
                format!("the file holds more than {MOST_NODES} values"),
            ));
        }
        if anchor != 0 {
            self.anchors.insert(
                anchor,
                Anchored {
                    size: size(&node),
                    depth: depth(&node),
                    node: node.clone(),
                },
            );
        }
        match self.open.last_mut().map(|o| &mut o.value) {
            None => self.root = Some(node),
            Some(Collected::List(items)) => items.push(node),
            Some(Collected::Map { entries, keys, key }) => match key.take() {
                None => *key = Some(new_key(node, entries, keys, report)?),
                Some(key) if key.void => {}
                Some(key) => entries.push(Entry {
                    key: key.text,
                    at: key.at,
                    value: node,
                }),
            },
        }
        Ok(())
    }
}

fn new_key(
    node: Node,
    entries: &[Entry],
    keys: &mut HashSet<String>,
    report: &mut Report<'_>,
) -> Result<Key, Fault> {
    let at = node.at;
    let Value::Scalar(Scalar { text, .. }) = node.value else {
        return Err(Fault::new(at, "", "a key that is a map or a list").remedy("keys are words"));
    };
    if text == "<<" {
        report.error(
            Fault::new(at, "", "merge keys (`<<`) are not read")
                .remedy("write the keys out; a whole value may be an alias (`*name`)"),
        );
        return Ok(Key {
            text,
            at,
            void: true,
        });
    }
    let void = !keys.insert(text.clone());
    if void {
        let first = entries
            .iter()
            .find(|e| e.key == text)
            .map_or(at.line, |e| e.at.line);
        let shown = super::value::shown(&text);
        report.error(
            Fault::new(at, "", format!("duplicate key {shown}"))
                .remedy(format!("the first one stands on line {first}")),
        );
    }
    Ok(Key { text, at, void })
}

fn refuse_tag(tagged: bool, at: At) -> Result<(), Fault> {
    if tagged {
        return Err(Fault::new(at, "", "YAML tags (`!word`) are not read")
            .remedy("remove the tag; quote a value that begins with `!`"));
    }
    Ok(())
}

/// Nodes in a tree, itself included. No deeper than `DEEPEST`, so that recursion is safe.
fn size(node: &Node) -> usize {
    1 + node.items().iter().map(size).sum::<usize>()
        + node.entries().iter().map(|e| size(&e.value)).sum::<usize>()
}

/// How many maps and lists lie in each other in a tree.
fn depth(node: &Node) -> usize {
    let below = node
        .items()
        .iter()
        .chain(node.entries().iter().map(|e| &e.value));
    match node.value {
        Value::Scalar(_) => 0,
        _ => 1 + below.map(depth).max().unwrap_or(0),
    }
}

fn too_deep(at: At) -> Fault {
    Fault::new(
        at,
        "",
        format!("maps and lists lie more than {DEEPEST} deep"),
    )
}

fn place(span: &Span) -> At {
    let width = if span.start.line() == span.end.line() {
        span.end.col().saturating_sub(span.start.col())
    } else {
        1
    };
    At {
        line: span.start.line(),
        column: span.start.col() + 1,
        width: width.max(1),
    }
}
