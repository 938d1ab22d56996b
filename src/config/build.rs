//! Builds the tree from the parser's events, within bounds.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, ScalarStyle, Span};

use super::problem::{At, Fault, Report};
use super::tree::{Entry, Node, Origin, Scalar, Value};
use super::value::shown;

/// Nodes of one file, copies by alias included.
const MOST_NODES: usize = 100_000;

/// How deep maps and lists may lie in each other; the schema needs 8, `extra_body` may hold a JSON schema.
pub(crate) const DEEPEST: usize = 64;

/// The tree so far.
#[derive(Default)]
pub(crate) struct Builder {
    pub(crate) root: Option<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    nodes: usize,
    documents: usize,
    /// The line of the last event.
    pub(crate) last_line: usize,
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
        keys: HashMap<String, usize>,
        key: Option<Key>,
    },
}

impl Collected {
    fn empty_map() -> Self {
        Self::Map {
            entries: Vec::new(),
            keys: HashMap::new(),
            key: None,
        }
    }
}

struct Key {
    text: String,
    at: At,
    /// A second key of this name, or one that is refused: its value is dropped.
    void: bool,
}

impl Builder {
    /// Takes the next event; an error ends the reading.
    pub(crate) fn take(
        &mut self,
        event: Event<'_>,
        span: Span,
        report: &mut Report<'_>,
    ) -> Result<(), Fault> {
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
                self.begin(at, anchor, tag.is_some(), Collected::empty_map())?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(report)?,
            Event::Alias(anchor) => self.copy(at, anchor, report)?,
            _ => {}
        }
        Ok(())
    }

    /// Puts a copy of the value that an alias names.
    fn copy(&mut self, at: At, anchor: usize, report: &mut Report<'_>) -> Result<(), Fault> {
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
        self.place(copy, 0, report)
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
                None => *key = Some(new_key(node, keys, report)?),
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
    keys: &mut HashMap<String, usize>,
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
    let first = keys.insert(text.clone(), at.line);
    if let Some(first) = first {
        let shown = shown(&text);
        let fault = Fault::new(at, "", format!("duplicate key {shown}"));
        report.error(fault.remedy(format!("the first one stands on line {first}")));
    }
    Ok(Key {
        text,
        at,
        void: first.is_some(),
    })
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
