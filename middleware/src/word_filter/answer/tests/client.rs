//! What a client makes of an answer: written with another reader of JSON, and without regard to cost.

use std::collections::BTreeMap;

use serde_json::Value;

/// A text of an answer, by the place where the client has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Said {
    pub(super) text: String,
    /// It holds JSON.
    pub(super) json: bool,
    pub(super) signed: bool,
}

pub(super) type Texts = BTreeMap<String, Said>;

/// A client of this dialect, in the words of the recordings.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) dialect: String,
    pub(super) format: String,
    pub(super) stream: bool,
}

impl Client {
    pub(super) fn texts(&self, body: &[u8]) -> Texts {
        let mut told = Told::default();
        for (name, event) in self.events(body) {
            match (self.dialect.as_str(), self.stream) {
                ("openai.chat" | "openai.completions", _) => told.openai(&event),
                ("openai.responses", true) => told.responses(&event),
                ("openai.responses", false) => told.items(&event["output"], "doc"),
                ("anthropic.messages", true) => told.anthropic(&event),
                ("anthropic.messages", false) => told.blocks(&event["content"]),
                ("gemini.generate", _) => told.gemini(&event),
                ("cohere.v2.chat", _) => told.cohere(&event),
                ("ollama.chat", _) => told.ollama(&event),
                ("bedrock.converse", true) => told.converse(&name, &event),
                ("bedrock.converse", false) => told.converse_document(&event),
                ("bedrock.invoke", _) => {
                    told.anthropic(&event);
                    told.say("out", &event["outputText"]);
                }
                other => panic!("{other:?}"),
            }
        }
        told.texts
    }

    fn events(&self, body: &[u8]) -> Vec<(String, Value)> {
        let json = |bytes: &[u8]| serde_json::from_slice(bytes).ok();
        match (self.format.as_str(), self.stream) {
            ("sse", _) => sse(&String::from_utf8_lossy(body)),
            ("ndjson", _) => body
                .split(|byte| *byte == b'\n')
                .filter_map(json)
                .map(|event| (String::new(), event))
                .collect(),
            ("bin", _) => messages(body, self.dialect == "bedrock.invoke"),
            (_, true) => {
                let all: Vec<Value> = serde_json::from_slice(body).expect("an array");
                all.into_iter()
                    .map(|event| (String::new(), event))
                    .collect()
            }
            _ => vec![(String::new(), json(body).expect("a document"))],
        }
    }
}

fn sse(body: &str) -> Vec<(String, Value)> {
    let body = body.replace("\r\n", "\n").replace('\r', "\n");
    let mut all = Vec::new();
    for event in body.trim_start_matches('\u{feff}').split("\n\n") {
        let field = |name: &str| {
            let values = event
                .lines()
                .filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            values
                .map(|value| value.strip_prefix(' ').unwrap_or(value))
                .collect::<Vec<_>>()
                .join("\n")
        };
        if let Ok(data) = serde_json::from_str(&field("data")) {
            all.push((field("event"), data));
        }
    }
    all
}

/// Messages whose checksums are right, or there is a panic.
fn messages(mut body: &[u8], wrapped: bool) -> Vec<(String, Value)> {
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().unwrap());
    let mut all = Vec::new();
    while !body.is_empty() {
        let (total, headers) = (number(body) as usize, number(&body[4..]) as usize);
        assert_eq!(
            number(&body[8..]),
            crc(&body[..8]),
            "the checksum of a prelude"
        );
        let message = &body[..total];
        assert_eq!(
            number(&message[total - 4..]),
            crc(&message[..total - 4]),
            "the checksum of a message"
        );
        let head = String::from_utf8_lossy(&message[12..12 + headers]).into_owned();
        let name = [
            "contentBlockStart",
            "contentBlockDelta",
            "contentBlockStop",
            "messageStop",
            "chunk",
        ];
        let name = name
            .into_iter()
            .find(|name| head.contains(name))
            .unwrap_or_default();
        let payload: Value =
            serde_json::from_slice(&message[12 + headers..total - 4]).expect("JSON");
        let event = if wrapped {
            let text = payload["bytes"].as_str().unwrap_or_default();
            serde_json::from_slice(&unbase64(text)).expect("JSON in base64")
        } else {
            payload
        };
        all.push((name.to_owned(), event));
        body = &body[total..];
    }
    all
}

/// By a table, as others do it.
fn crc(bytes: &[u8]) -> u32 {
    let table: Vec<u32> = (0..256)
        .map(|byte| {
            (0..8).fold(byte, |crc: u32, _| {
                if crc & 1 == 1 {
                    0xedb8_8320 ^ crc >> 1
                } else {
                    crc >> 1
                }
            })
        })
        .collect();
    !bytes.iter().fold(!0, |crc, byte| {
        table[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ crc >> 8
    })
}

fn unbase64(text: &str) -> Vec<u8> {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: String = text
        .trim_end_matches('=')
        .chars()
        .map(|char| format!("{:06b}", ALPHABET.find(char).expect("base64")))
        .collect();
    let bytes = bits.as_bytes().chunks_exact(8);
    bytes
        .map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap())
        .collect()
}

#[derive(Default)]
struct Told {
    texts: Texts,
    /// Parts in a row, of each candidate.
    runs: BTreeMap<u64, (String, usize)>,
}

impl Told {
    fn add(&mut self, place: &str, text: &Value, json: bool, signed: bool) {
        if let Some(text) = text.as_str() {
            let said = self.texts.entry(place.to_owned()).or_default();
            said.text.push_str(text);
            said.json |= json;
            said.signed |= signed;
        }
    }

    fn say(&mut self, place: &str, text: &Value) {
        self.add(place, text, false, false);
    }

    /// An object that is arguments: as the JSON that it is.
    fn object(&mut self, place: &str, value: &Value) {
        if value.as_object().is_some_and(|object| !object.is_empty()) {
            self.add(place, &Value::from(value.to_string()), true, false);
        }
    }

    fn openai(&mut self, event: &Value) {
        for choice in list(&event["choices"]) {
            let at = format!("choice {}", choice["index"]);
            self.say(&format!("{at} text"), &choice["text"]);
            let (delta, message) = (&choice["delta"], &choice["message"]);
            self.message(&at, delta);
            if delta.is_null() {
                self.message(&at, message);
            } else {
                // What is said so far is of this moment only.
                self.texts.remove(&format!("{at} so far content"));
                self.message(&format!("{at} so far"), message);
            }
        }
    }

    fn message(&mut self, at: &str, message: &Value) {
        match &message["content"] {
            Value::Array(parts) => {
                for part in parts {
                    self.say(&format!("{at} content"), &part["text"]);
                    for thought in list(&part["thinking"]) {
                        self.say(&format!("{at} reasoning"), &thought["text"]);
                    }
                }
            }
            content @ Value::Object(_) => self.object(&format!("{at} content"), content),
            content => self.say(&format!("{at} content"), content),
        }
        for name in ["refusal", "reasoning", "reasoning_content"] {
            self.say(&format!("{at} {name}"), &message[name]);
        }
        for detail in list(&message["reasoning_details"]) {
            let signed = detail["format"]
                .as_str()
                .is_some_and(|format| format.starts_with("anthropic"));
            for name in ["text", "summary"] {
                self.add(&format!("{at} details"), &detail[name], false, signed);
            }
        }
        self.say(&format!("{at} transcript"), &message["audio"]["transcript"]);
        self.add(
            &format!("{at} call"),
            &message["function_call"]["arguments"],
            true,
            false,
        );
        for (number, call) in list(&message["tool_calls"]).iter().enumerate() {
            let number = call["index"].as_u64().unwrap_or(number as u64);
            self.add(
                &format!("{at} call {number}"),
                &call["function"]["arguments"],
                true,
                false,
            );
        }
    }

    fn responses(&mut self, event: &Value) {
        let kind = event["type"].as_str().unwrap_or_default();
        let part = event["content_index"]
            .as_u64()
            .or_else(|| event["summary_index"].as_u64());
        let at = format!(
            "item {} {part:?} {}",
            event["output_index"],
            kind.trim_end_matches(".done").trim_end_matches(".delta")
        );
        let json = kind.contains("arguments");
        self.add(&at, &event["delta"], json, false);
        for name in ["text", "refusal", "arguments"] {
            self.add(&format!("{at} again"), &event[name], json, false);
        }
        for name in ["text", "refusal"] {
            self.say(&format!("{at} part {kind}"), &event["part"][name]);
        }
        self.items(
            &Value::Array(vec![event["item"].clone()]),
            &format!("{at} {kind}"),
        );
        self.items(&event["response"]["output"], kind);
    }

    fn items(&mut self, items: &Value, at: &str) {
        for (number, item) in list(items).iter().enumerate() {
            let at = format!("{at} item {number}");
            for list_of in ["content", "summary"] {
                for (number, part) in list(&item[list_of]).iter().enumerate() {
                    // A document's parts side by side are one text.
                    let number = if at.starts_with("doc") { 0 } else { number };
                    self.say(&format!("{at} {list_of} {number}"), &part["text"]);
                    self.say(
                        &format!("{at} {list_of} {number} refusal"),
                        &part["refusal"],
                    );
                }
            }
            self.add(&format!("{at} arguments"), &item["arguments"], true, false);
            self.say(&format!("{at} query"), &item["action"]["query"]);
            for (number, query) in list(&item["action"]["queries"]).iter().enumerate() {
                self.say(&format!("{at} query {number}"), query);
            }
        }
    }

    fn anthropic(&mut self, event: &Value) {
        let at = format!("block {}", event["index"]);
        for of in [&event["delta"], &event["content_block"]] {
            self.block(&at, of);
        }
    }

    fn blocks(&mut self, blocks: &Value) {
        let mut run = 0;
        let mut last = String::new();
        for block in list(blocks) {
            let kind = block["type"].to_string();
            if kind != last {
                run += 1;
                last = kind;
            }
            self.block(&format!("run {run}"), block);
        }
    }

    fn block(&mut self, at: &str, of: &Value) {
        self.say(&format!("{at} text"), &of["text"]);
        self.add(&format!("{at} thinking"), &of["thinking"], false, true);
        self.add(&format!("{at} input"), &of["partial_json"], true, false);
        self.object(&format!("{at} input"), &of["input"]);
    }

    fn gemini(&mut self, event: &Value) {
        for candidate in list(&event["candidates"]) {
            let number = candidate["index"].as_u64().unwrap_or(0);
            for part in list(&candidate["content"]["parts"]) {
                let empty = part["text"].as_str().is_some_and(str::is_empty);
                let kind = if part["thought"] == true {
                    "thought"
                } else {
                    "said"
                };
                let kind = part
                    .as_object()
                    .unwrap()
                    .keys()
                    .find(|key| *key != "thought" && !key.contains("ignature"))
                    .map_or("", |key| if key == "text" { kind } else { key });
                let (last, run) = self.runs.entry(number).or_default();
                if !empty && (last != kind || last.contains("unction") || last.contains("ode")) {
                    *run += 1;
                    kind.clone_into(last);
                }
                let at = format!("candidate {number} {run}");
                let signed = part["thoughtSignature"].is_string() && !empty;
                self.add(&at, &part["text"], false, signed);
                self.object(&at, &part["functionCall"]["args"]);
                self.say(&at, &part["executableCode"]["code"]);
                self.say(&at, &part["codeExecutionResult"]["output"]);
                if signed && let Some(said) = self.texts.get_mut(&at) {
                    said.signed = true;
                }
            }
        }
    }

    fn cohere(&mut self, event: &Value) {
        let message = &event["delta"]["message"];
        let at = event["index"].to_string();
        self.say("plan", &message["tool_plan"]);
        self.say(&format!("content {at}"), &message["content"]["text"]);
        self.add(
            &format!("call {at}"),
            &message["tool_calls"]["function"]["arguments"],
            true,
            false,
        );
    }

    fn ollama(&mut self, event: &Value) {
        let message = &event["message"];
        self.say("content", &message["content"]);
        self.say("thinking", &message["thinking"]);
        for (number, call) in list(&message["tool_calls"]).iter().enumerate() {
            self.object(&format!("call {number}"), &call["function"]["arguments"]);
        }
    }

    fn converse(&mut self, name: &str, event: &Value) {
        let at = format!("block {}", event["contentBlockIndex"]);
        if name == "contentBlockDelta" {
            let delta = &event["delta"];
            self.say(&format!("{at} text"), &delta["text"]);
            self.add(
                &format!("{at} input"),
                &delta["toolUse"]["input"],
                true,
                false,
            );
            self.add(
                &format!("{at} reasoning"),
                &delta["reasoningContent"]["text"],
                false,
                true,
            );
        }
    }

    fn converse_document(&mut self, event: &Value) {
        for part in list(&event["output"]["message"]["content"]) {
            self.say("text", &part["text"]);
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
