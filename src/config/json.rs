//! A YAML value as JSON text, numbers as they were written.

use super::problem::At;
use super::tree::{Node, Origin, Scalar, Value};

/// The JSON text of a value and whether a variable went into it; or where it is nothing that JSON can say.
pub(crate) fn of(node: &Node) -> Result<(String, bool), (At, String)> {
    let (mut out, mut expanded) = (String::new(), false);
    write(node, &mut out, &mut expanded)?;
    Ok((out, expanded))
}

/// Text as a JSON string with its quotes.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// No deeper than the tree is, which is bounded.
fn write(node: &Node, out: &mut String, expanded: &mut bool) -> Result<(), (At, String)> {
    match &node.value {
        Value::Scalar(scalar) => {
            *expanded |= scalar.origin != Origin::File;
            out.push_str(&text(scalar).map_err(|message| (node.at, message))?);
        }
        Value::List(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                write(item, out, expanded)?;
            }
            out.push(']');
        }
        Value::Map(entries) => {
            out.push('{');
            for (i, entry) in entries.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                out.push_str(&quoted(&entry.key));
                out.push(':');
                write(&entry.value, out, expanded)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

fn text(scalar: &Scalar) -> Result<String, String> {
    let text = scalar.text.as_str();
    if scalar.is_null() {
        return Ok("null".to_owned());
    }
    if !scalar.plain || !scalar.origin.eq(&Origin::File) {
        return Ok(quoted(text));
    }
    let is_number = text.starts_with(|c: char| c == '-' || c.is_ascii_digit())
        && serde_json::from_str::<serde_json::Number>(text).is_ok();
    match text {
        "true" | "True" | "TRUE" => Ok("true".to_owned()),
        "false" | "False" | "FALSE" => Ok("false".to_owned()),
        _ if is_number => Ok(text.to_owned()),
        _ if is_yaml_number(text) => Err("a number in a form that JSON does not have".to_owned()),
        _ => Ok(quoted(text)),
    }
}

/// The numbers of YAML's core schema that JSON has not (YAML 1.2.2, section 10.3.2).
fn is_yaml_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let digits = |t: &str, radix| !t.is_empty() && t.chars().all(|c| c.is_digit(radix));
    let special =
        matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN");
    let based = text.strip_prefix("0x").is_some_and(|t| digits(t, 16))
        || text.strip_prefix("0o").is_some_and(|t| digits(t, 8));
    let decimal = unsigned.starts_with(|c: char| c == '.' || c.is_ascii_digit())
        && unsigned.parse::<f64>().is_ok();
    special || based || decimal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Result<String, String> {
        let scalar = Scalar {
            text: text.to_owned(),
            plain: true,
            origin: Origin::File,
        };
        super::text(&scalar)
    }

    #[test]
    fn plain_scalars_become_what_yaml_says_they_are() {
        for (given, want) in [
            ("flex", "\"flex\""),
            ("true", "true"),
            ("4.0", "4.0"),
            ("1e3", "1e3"),
            ("-7", "-7"),
            ("", "null"),
            ("12345678901234567890", "12345678901234567890"),
            ("1.2.3", "\"1.2.3\""),
            ("-", "\"-\""),
        ] {
            assert_eq!(json(given).as_deref(), Ok(want), "{given}");
        }
        for given in [
            "007", ".5", "5.", "+5", "0x1F", "0o17", ".inf", "-.inf", ".nan",
        ] {
            assert!(json(given).is_err(), "{given}");
        }
    }
}
