//! What a prompt costs, told from the body of the request.

use bytes::Bytes;

use super::vocabulary::Vocabulary;
use crate::{
    dialect::{Operation, Surface, texts},
    json::Value,
};

/// The tokens of what was asked; `None` for what is no JSON object.
///
/// The frames around messages and tools are as OpenAI's cookbook counts them ("How to count tokens with tiktoken"); what it does
/// not tell, the schema of an answer and tools that nest, counts as its text. Images and files are not counted here.
pub(super) fn count(vocabulary: Vocabulary, frames: &[Bytes], surface: &Surface) -> Option<u64> {
    let joined;
    let body: &[u8] = match frames {
        [only] => only,
        many => {
            joined = many.concat();
            &joined
        }
    };
    let root = Value::object(body)?;
    let tokens = vocabulary.load();
    let count = |text: &str| tokens.count(text) as u64;
    let mut sum = 0;
    texts(surface, root, &mut |_, text| {
        sum += text.as_str().map_or(0, |text| count(&text));
    });
    let turns = match surface.operation {
        Operation::Chat => root.get("messages"),
        Operation::Responses => root.get("input"),
        _ => return Some(sum),
    };
    let turns = turns.map_or(0, |turns| turns.items().count().max(1) as u64);
    // Instructions are a message too.
    let turns = turns + u64::from(root.get("instructions").is_some_and(|it| !it.is_null()));
    sum += turns * AROUND_A_MESSAGE + vocabulary.around_messages();
    let mut tools = 0;
    for tool in root
        .get("tools")
        .into_iter()
        .flat_map(|tools| tools.items())
    {
        // Chat wraps what Responses does not; what is neither is the provider's own.
        let tool = tool.get("function").unwrap_or(tool);
        tools += definition(vocabulary, tool, &count);
    }
    for tool in root
        .get("functions")
        .into_iter()
        .flat_map(|tools| tools.items())
    {
        tools += definition(vocabulary, tool, &count);
    }
    if tools > 0 {
        sum += tools + vocabulary.around_tools();
    }
    let format = root
        .get("response_format")
        .and_then(|it| it.get("json_schema"));
    let format = format.or_else(|| root.get("text")?.get("format"));
    if let Some(schema) = format.and_then(|format| format.get("schema")) {
        sum += AROUND_A_SCHEMA + std::str::from_utf8(schema.raw()).map_or(0, &count);
    }
    Some(sum)
}

/// One tool, by its name, description and parameters.
fn definition(vocabulary: Vocabulary, tool: Value<'_>, count: &impl Fn(&str) -> u64) -> u64 {
    let [name, description, parameters] = tool.pick(["name", "description", "parameters"]);
    let Some(name) = name.and_then(|name| name.as_str()) else {
        return 0;
    };
    let line = format!("{name}:{}", sentence(description));
    vocabulary.before_a_tool()
        + count(&line)
        + parameters.map_or(0, |it| properties(it, count, NESTING))
}

/// The properties of an object's schema.
fn properties(schema: Value<'_>, count: &impl Fn(&str) -> u64, room: u8) -> u64 {
    let mut sum = 0;
    let all = schema.get("properties");
    for (name, property) in all.into_iter().flat_map(|all| all.members()) {
        if sum == 0 {
            sum += BEFORE_PROPERTIES;
        }
        let [kind, description, values, items] =
            property.pick(["type", "description", "enum", "items"]);
        let (name, kind) = (name.as_str(), kind.and_then(|kind| kind.as_str()));
        let line = format!(
            "{}:{}:{}",
            name.unwrap_or_default(),
            kind.unwrap_or_default(),
            sentence(description)
        );
        sum += BEFORE_A_PROPERTY + count(&line);
        if let Some(values) = values {
            let each =
                |value: Value<'_>| value.as_str().map_or(1, |value| count(&value)) + BEFORE_A_VALUE;
            sum = (sum + values.items().map(each).sum::<u64>()).saturating_sub(OF_AN_ENUM);
        }
        if room > 0 {
            for inner in [Some(property), items].into_iter().flatten() {
                sum += properties(inner, count, room - 1);
            }
        }
    }
    sum
}

/// A description as it is written down: without its full stop.
fn sentence(text: Option<Value<'_>>) -> String {
    let text = text.and_then(|text| text.as_str()).unwrap_or_default();
    text.strip_suffix('.').unwrap_or(&text).to_owned()
}

/// Three, and its role.
const AROUND_A_MESSAGE: u64 = 4;

const BEFORE_PROPERTIES: u64 = 3;
const BEFORE_A_PROPERTY: u64 = 3;
const BEFORE_A_VALUE: u64 = 3;
/// A property with listed values has so many fewer.
const OF_AN_ENUM: u64 = 3;

const AROUND_A_SCHEMA: u64 = 4;

/// How deep schemas are looked into.
const NESTING: u8 = 8;
