//! The schema of the file as a JSON Schema, for editors and for programs that write configurations.
//!
//! Made from the one schema that also judges files, so the two cannot differ. What one key means for another, and
//! whether a name is defined, only `check` can tell.

use serde_json::{Map, Value, json};

use super::kind::{Built, Key, Kind};
use super::schema::{CREDENTIAL, FILE};

/// The JSON Schema (draft 2020-12) of the configuration file. It has the keys that are built, and no others.
#[must_use]
pub fn json_schema() -> String {
    let Value::Object(mut root) = map(FILE) else {
        unreachable!("a map is described by an object")
    };
    let dialect = "https://json-schema.org/draft/2020-12/schema";
    root.insert("$schema".to_owned(), dialect.into());
    root.insert("title".to_owned(), "Configuration of tollgate".into());
    // A file holds something.
    root.insert("type".to_owned(), "object".into());
    format!("{:#}\n", Value::Object(root))
}

/// A map with known keys, which may be left empty.
fn map(keys: &[Key]) -> Value {
    let mut properties = Map::new();
    for key in keys {
        let described = match key.built {
            Built::Yes => of(&key.kind),
            Built::Not { inert: Some(word) } => inert(word),
            Built::Not { inert: None } | Built::Misplaced(_) => continue,
        };
        properties.insert(key.name.to_owned(), described);
    }
    let needed = keys.iter().filter(|key| key.needed).map(|key| key.name);
    let needed: Vec<_> = needed.collect();
    let mut object = json!({
        "type": if needed.is_empty() { json!(["object", "null"]) } else { json!("object") },
        "properties": properties,
        "additionalProperties": false,
    });
    if !needed.is_empty() {
        object["required"] = json!(needed);
    }
    object
}

/// The only word that a part takes that is not built.
fn inert(word: &str) -> Value {
    match word {
        "false" => json!({ "const": false }),
        word => json!({ "const": word }),
    }
}

fn of(kind: &Kind) -> Value {
    match kind {
        Kind::Any => json!(true),
        Kind::BaseUrl | Kind::Url => text("[A-Za-z][A-Za-z0-9+.-]*://.+"),
        Kind::Bool => or_variable(json!({ "type": "boolean" })),
        Kind::Credential => json!({ "anyOf": [of(&Kind::Secret), map(CREDENTIAL)] }),
        Kind::Date => text("[0-9]{4}-[0-9]{2}-[0-9]{2}"),
        Kind::Duration { off, .. } => {
            let units = "([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?";
            text(&if *off {
                format!("off|{units}")
            } else {
                units.to_owned()
            })
        }
        Kind::Either(kinds) => any_of(kinds.iter().map(of)),
        Kind::Integer { least, most } => {
            or_variable(json!({ "type": "integer", "minimum": least, "maximum": most }))
        }
        Kind::Layer(keys) => any_of([map(keys), json!({ "const": "off" })]),
        Kind::List(kind) => json!({ "type": "array", "items": of(kind) }),
        Kind::Listen => text("unix:/.*|.+:[0-9]{1,5}"),
        Kind::Map(keys) => map(keys),
        Kind::Money => text("[0-9]+([.][0-9]+)?usd(/(d|day|w|week|month))?"),
        Kind::Network => text("[0-9A-Fa-f:.]+(/[0-9]{1,3})?"),
        Kind::Number => or_variable(json!({ "type": "number", "minimum": 0 })),
        Kind::OneOrMany(kind) => any_of([of(kind), json!({ "type": "array", "items": of(kind) })]),
        Kind::Percent => text("[0-9]+([.][0-9]+)?%"),
        Kind::ByteRate => text("off|[0-9]+(B|KiB|MiB|GiB)/s"),
        Kind::Rate => text("[0-9]+[kM]?/[a-z]+"),
        Kind::Secret => any_of([scalar(), reference("env"), reference("file")]),
        Kind::Size { percent, .. } => {
            let size = "[0-9]+(B|KiB|MiB|GiB)";
            text(&if *percent {
                format!("{size}|[0-9]+([.][0-9]+)?%")
            } else {
                size.to_owned()
            })
        }
        Kind::Table(kind) => {
            json!({ "type": ["object", "null"], "additionalProperties": of(kind) })
        }
        Kind::Pattern | Kind::Text => scalar(),
        Kind::Word(words) => or_variable(json!({ "enum": words })),
    }
}

/// Text of a form, or a variable that holds such text.
fn text(form: &str) -> Value {
    json!({ "type": "string", "pattern": format!("^({form})$|{VARIABLE}") })
}

/// What YAML writes without quotes may look like a number and still be a name.
fn scalar() -> Value {
    json!({ "type": ["string", "number", "boolean"] })
}

fn reference(to: &str) -> Value {
    json!({
        "type": "object",
        "properties": { to: { "type": "string" } },
        "required": [to],
        "additionalProperties": false,
    })
}

fn or_variable(kind: Value) -> Value {
    any_of([kind, json!({ "type": "string", "pattern": VARIABLE })])
}

fn any_of(kinds: impl IntoIterator<Item = Value>) -> Value {
    json!({ "anyOf": kinds.into_iter().collect::<Vec<_>>() })
}

/// `${NAME}` somewhere in it.
const VARIABLE: &str = r"\$\{";
