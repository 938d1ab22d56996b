//! Expands `${VAR}`, `${VAR:-default}` and `${VAR:?message}` in values, after the YAML has been read.
//!
//! A value can therefore never become YAML. Keys are left alone, and so is a `$` that no `{` follows. As in
//! a shell, the two forms with a colon take an empty variable for an unset one. Variables are not nested.

use super::problem::{At, Fault, Report};
use super::tree::{Node, Origin, Scalar, Value};

/// Everything that one file's variables may expand to, in bytes.
const MOST: usize = 4 << 20;

/// Looks a variable up in the environment.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Expands every value of the tree in place; an unset variable is reported and its text left as it was.
pub(crate) fn expand(root: &mut Node, env: Lookup<'_>, report: &mut Report<'_>) {
    let mut walk = Walk {
        env,
        report,
        room: MOST,
        path: String::new(),
    };
    walk.node(root);
}

struct Walk<'a, 'r, 's> {
    env: Lookup<'a>,
    report: &'r mut Report<'s>,
    room: usize,
    path: String,
}

impl Walk<'_, '_, '_> {
    fn node(&mut self, node: &mut Node) {
        let at = node.at;
        let end = self.path.len();
        match &mut node.value {
            Value::Scalar(scalar) if scalar.text.contains("${") => self.scalar(scalar, at),
            Value::Scalar(_) => {}
            Value::List(items) => {
                for (i, item) in items.iter_mut().enumerate() {
                    self.path.push_str(&format!("[{i}]"));
                    self.node(item);
                    self.path.truncate(end);
                }
            }
            Value::Map(entries) => {
                for entry in entries {
                    super::value::push_key(&mut self.path, &entry.key);
                    self.node(&mut entry.value);
                    self.path.truncate(end);
                }
            }
        }
    }

    fn scalar(&mut self, scalar: &mut Scalar, at: At) {
        match text(&scalar.text, self.env, self.room) {
            Ok((text, origin)) => {
                self.room = self.room.saturating_sub(text.len());
                *scalar = Scalar {
                    text,
                    plain: true,
                    origin,
                };
            }
            Err(Failure {
                reference,
                message,
                remedy,
            }) => {
                let at = self.find(&reference, at);
                self.report
                    .error(Fault::new(at, &self.path, message).remedy(remedy));
                scalar.origin = Origin::Unset;
            }
        }
    }

    /// The place of `reference` itself, where it stands on the value's first line.
    fn find(&self, reference: &str, at: At) -> At {
        if self.report.is_crowded() {
            return at;
        }
        let line = self.report.source().line(at.line).unwrap_or_default();
        let from: usize = line.chars().take(at.column - 1).map(char::len_utf8).sum();
        let found = line
            .get(from..)
            .and_then(|rest| rest.find(reference).map(|n| rest[..n].chars().count()));
        found.map_or(at, |n| At {
            column: at.column + n,
            width: reference.chars().count().max(1),
            ..at
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Failure {
    reference: String,
    message: String,
    remedy: String,
}

impl Failure {
    fn new(reference: &str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            reference: reference.to_owned(),
            message: message.into(),
            remedy: remedy.into(),
        }
    }
}

fn text(text: &str, env: Lookup<'_>, room: usize) -> Result<(String, Origin), Failure> {
    let (mut out, mut rest, mut origin) = (String::new(), text, None);
    while let Some(start) = rest.find("${") {
        out.push_str(&rest[..start]);
        let Some(end) = rest[start..].find('}') else {
            return Err(Failure::new(
                "${",
                "a `${` without its `}`",
                "close it, or write `$` alone, which stays as it is",
            ));
        };
        let reference = &rest[start..=start + end];
        let (value, name) = one(reference, env)?;
        origin = Some(if reference == text {
            name.map_or(Origin::Mixed, Origin::Variable)
        } else {
            Origin::Mixed
        });
        out.push_str(&value);
        if out.len() > room {
            return Err(Failure::new(
                reference,
                format!("the variables of this file expand to more than {MOST} bytes"),
                "",
            ));
        }
        rest = &rest[start + end + 1..];
    }
    out.push_str(rest);
    Ok((out, origin.unwrap_or(Origin::File)))
}

/// The value of one `${…}`, and the variable's name unless the default was taken.
fn one(reference: &str, env: Lookup<'_>) -> Result<(String, Option<String>), Failure> {
    let inner = &reference[2..reference.len() - 1];
    let split = inner
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(inner.len());
    let (name, rule) = inner.split_at(split);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(Failure::new(
            "${",
            "a `${…}` that names no variable",
            "a name is letters, digits and `_`, such as `${OPENAI_API_KEY}`",
        ));
    }
    if rule.contains("${") {
        return Err(Failure::new(
            "${",
            format!("a variable inside `${{{name}…}}`"),
            "variables are not nested",
        ));
    }
    let set = env(name);
    let filled = set.clone().filter(|v| !v.is_empty());
    let own = |value: String| (value, Some(name.to_owned()));
    let shown = format!("${{{name}");
    let unset =
        |remedy: &str| Failure::new(&shown, format!("the variable {name} is not set"), remedy);
    if rule.is_empty() {
        let remedy = format!("set it, or give it a default: `${{{name}:-…}}`");
        set.map(own).ok_or_else(|| unset(&remedy))
    } else if let Some(default) = rule.strip_prefix(":-") {
        Ok(filled.map_or_else(|| (default.to_owned(), None), own))
    } else if let Some(message) = rule.strip_prefix(":?") {
        filled.map(own).ok_or_else(|| unset(message))
    } else {
        let message = format!("`${{{name}…}}` is not a form that is known");
        let remedy = "`${VAR}`, `${VAR:-default}` and `${VAR:?message}` are";
        Err(Failure::new(&shown, message, remedy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "A" => Some("one".to_owned()),
            "EMPTY" => Some(String::new()),
            "YAML" => Some("a: [b, ${A}]".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_expanded_and_bare_dollars_stay() {
        for (given, want) in [
            ("${A}", "one"),
            ("x${A}y${A}", "xoneyone"),
            ("$A $ $$ {A}", "$A $ $$ {A}"),
            ("${B:-two}", "two"),
            ("${A:-two}", "one"),
            ("${EMPTY:-two}", "two"),
            ("${EMPTY}", ""),
            ("${B:-}", ""),
            ("${B:-http://h:1/p?q}", "http://h:1/p?q"),
            ("${A:?needed}", "one"),
            ("${YAML}", "a: [b, ${A}]"),
        ] {
            assert_eq!(
                text(given, &env, MOST).map(|t| t.0),
                Ok(want.to_owned()),
                "{given}"
            );
        }
    }

    #[test]
    fn what_cannot_be_expanded_says_why() {
        for (given, message, remedy) in [
            ("${B}", "B is not set", "${B:-…}"),
            ("${B:?export B first}", "B is not set", "export B first"),
            ("${EMPTY:?export it}", "EMPTY is not set", "export it"),
            ("${A", "without its `}`", ""),
            ("${}", "names no variable", ""),
            ("${1A}", "names no variable", ""),
            ("${A.b}", "not a form", ""),
            ("${B:-${A}}", "inside `${B…}`", "not nested"),
        ] {
            let failure = text(given, &env, MOST).expect_err(given);
            assert!(
                failure.message.contains(message) && failure.remedy.contains(remedy),
                "{given}: {failure:?}"
            );
        }
    }

    #[test]
    fn the_origin_tells_a_variable_from_a_mixture() {
        for (given, want) in [
            ("${A}", Origin::Variable("A".to_owned())),
            ("x${A}", Origin::Mixed),
            ("${B:-x}", Origin::Mixed),
            ("x", Origin::File),
        ] {
            assert!(
                text(given, &env, MOST).is_ok_and(|t| t.1 == want),
                "{given}"
            );
        }
    }

    #[test]
    fn expansion_is_bounded() {
        let big = |_: &str| Some("x".repeat(1 << 20));
        assert!(
            text(&"${A}".repeat(10_000), &big, MOST)
                .is_err_and(|f| f.message.contains("more than"))
        );
    }
}
