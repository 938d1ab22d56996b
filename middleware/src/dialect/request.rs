//! What a request asks for, read in one pass over the top of its body.

use std::{borrow::Cow, fmt, ops::Range, sync::LazyLock};

use memchr::memmem;

use super::{Dialect, Operation, Surface};
use crate::json::{Kind, Value};

mod texts;

pub use self::texts::{Role, Spoken, last_user_text, spoken, texts};

/// What a body asks for. Spans are of the bytes that were read.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked<'a> {
    /// The model that the body names; none where the path names it, whatever the body says.
    pub model: Option<Cow<'a, str>>,
    /// Where the model's value lies, quotes included.
    pub model_span: Option<Range<usize>>,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// How many alternatives are generated; at least 1.
    pub choices: u32,
    /// Every output limit that is set, in the order of the body.
    pub limits: Vec<Limit>,
    /// Whether a stream is to report its usage: `stream_options.include_usage`.
    pub include_usage: bool,
    /// Whether tools are offered.
    pub tools: bool,
    /// Who the body says the end user is: `user`, `safety_identifier`, Anthropic's `metadata.user_id`.
    pub user: Option<Cow<'a, str>>,
    /// The caller's own labels: `metadata`, an object.
    pub metadata: Option<Object<'a>>,
    /// How much of the body is text: bytes without images and files, and how many of these there are.
    pub prompt: (u64, u64),
    /// `prompt_cache_key`.
    pub cache_key: Option<Cow<'a, str>>,
    /// Whether it goes on from what the provider keeps: `previous_response_id`, `conversation`, Gemini's `cachedContent`.
    pub continues: bool,
}

/// A member that is an object, compared by where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a>(pub Value<'a>);

/// An output limit in a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The member's path as the dialect spells it.
    pub name: &'static str,
    /// Where the value lies.
    pub span: Range<usize>,
    /// The limit in tokens; none for what is no non-negative whole number, such as Ollama's `-1`.
    pub value: Option<u64>,
}

/// A member has a type that no provider takes, or a name that some take for another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// The member's path.
    pub member: &'static str,
    /// Where its value begins.
    pub offset: usize,
    /// Its name is this one in other letters: some readers, such as those in Go, take it for the same.
    pub alike: bool,
}

/// A reading that is given the members of the body as they come, in the order of the body.
///
/// It is what [`read`] does, for who passes the body anyway: [`check_members`](crate::json::check_members).
#[derive(Debug)]
pub struct Reading<'s, 'a> {
    surface: &'s Surface,
    asked: Asked<'a>,
    /// The first member that is not fit; what comes behind is not looked at.
    unfit: Option<Unfit>,
}

/// Reads the checked body of a request. `null` is as good as absent.
///
/// # Errors
///
/// A body that is no object, a model or user that is no string, a switch that is no boolean, a number of choices that is no
/// whole number; a `Model` in whatever letters, where the body names the model. Output limits are told as they are: what is a good one is for a policy to say.
pub fn read<'a>(surface: &Surface, root: Value<'a>) -> Result<Asked<'a>, Unfit> {
    let mut reading = Reading::new(surface);
    for (name, value) in root.members() {
        reading.member(name, value);
    }
    reading.finish(root)
}

// ===== impl Reading =====

impl<'s, 'a> Reading<'s, 'a> {
    /// Before the first member.
    pub fn new(surface: &'s Surface) -> Self {
        let streams = matches!(surface.operation, Operation::Chat | Operation::Generate);
        Self {
            surface,
            asked: Asked {
                model: None,
                model_span: None,
                stream: surface.dialect == Dialect::Ollama && streams,
                choices: 1,
                limits: Vec::new(),
                include_usage: false,
                tools: false,
                user: None,
                metadata: None,
                prompt: (0, 0),
                cache_key: None,
                continues: false,
            },
            unfit: None,
        }
    }

    /// Takes the next member.
    #[inline]
    pub fn member(&mut self, name: Value<'a>, value: Value<'a>) {
        if self.unfit.is_some() || value.is_null() {
            return;
        }
        if let Err(unfit) = self.named(name, value) {
            self.unfit = Some(unfit);
        }
    }

    /// What was asked for, once `root` has had all its members taken.
    ///
    /// # Errors
    ///
    /// Those of [`read`], of several the first in the text.
    pub fn finish(self, root: Value<'a>) -> Result<Asked<'a>, Unfit> {
        if root.kind() != Kind::Object {
            return Err(unfit("", root));
        }
        if let Some(unfit) = self.unfit {
            return Err(unfit);
        }
        let mut asked = self.asked;
        if let Some(stream) = self.surface.stream {
            asked.stream = stream;
        }
        asked.prompt = prompt(root.raw());
        Ok(asked)
    }

    /// A member whose name is compared as it is written first: hardly a client escapes one.
    fn named(&mut self, name: Value<'a>, value: Value<'a>) -> Result<(), Unfit> {
        let Some(written) = name.inner() else {
            return Ok(());
        };
        if self.asked.member(self.surface, written, value)? {
            return Ok(());
        }
        let unescaped = name.as_str().filter(|_| written.contains(&b'\\'));
        if let Some(name) = &unescaped
            && self.asked.member(self.surface, name.as_bytes(), value)?
        {
            return Ok(());
        }
        let name = unescaped.as_deref().map_or(written, str::as_bytes);
        if self.surface.model.is_none() && name.eq_ignore_ascii_case(b"model") {
            return Err(Unfit {
                alike: true,
                ..unfit("model", value)
            });
        }
        Ok(())
    }
}

// ===== impl Asked =====

impl<'a> Asked<'a> {
    /// Takes a member; false if it is none that is known by this name.
    fn member(&mut self, surface: &Surface, name: &[u8], value: Value<'a>) -> Result<bool, Unfit> {
        match name {
            b"model" if surface.model.is_none() => {
                self.model = Some(string("model", value)?);
                self.model_span = Some(value.span());
            }
            b"stream" => self.stream = boolean("stream", value)?,
            b"n" => self.choices = self.choices.max(number("n", value)?),
            b"best_of" => self.choices = self.choices.max(number("best_of", value)?),
            b"max_tokens" => self.limit("max_tokens", value),
            b"max_completion_tokens" => self.limit("max_completion_tokens", value),
            b"max_output_tokens" => self.limit("max_output_tokens", value),
            b"generationConfig" | b"generation_config" => self.generation(value)?,
            b"options" if surface.dialect == Dialect::Ollama => {
                self.limit_in(value, "num_predict", "options.num_predict");
            }
            b"inferenceConfig" => self.limit_in(value, "maxTokens", "inferenceConfig.maxTokens"),
            b"stream_options" => {
                if let Some(usage) = value.get("include_usage").filter(|usage| !usage.is_null()) {
                    self.include_usage = boolean("stream_options.include_usage", usage)?;
                }
            }
            b"tools" | b"functions" => self.tools |= has_items(value),
            b"toolConfig" => self.tools |= value.get("tools").is_some_and(has_items),
            b"user" => self.user = Some(string("user", value)?),
            b"safety_identifier" if self.user.is_none() => {
                self.user = Some(string("safety_identifier", value)?);
            }
            b"metadata" => {
                self.metadata = (value.kind() == Kind::Object).then_some(Object(value));
                if surface.dialect == Dialect::Anthropic {
                    self.user = value.get("user_id").and_then(|id| id.as_str());
                }
            }
            b"prompt_cache_key" => self.cache_key = value.as_str(),
            b"previous_response_id" | b"conversation" | b"cachedContent" | b"cached_content" => {
                self.continues = true;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Gemini's settings, in either spelling.
    fn generation(&mut self, config: Value<'a>) -> Result<(), Unfit> {
        for (name, value) in config.members().filter(|(_, value)| !value.is_null()) {
            match name.as_str().as_deref() {
                Some("maxOutputTokens" | "max_output_tokens") => {
                    self.limit("generationConfig.maxOutputTokens", value);
                }
                Some("candidateCount" | "candidate_count") => {
                    let count = number("generationConfig.candidateCount", value)?;
                    self.choices = self.choices.max(count);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn limit_in(&mut self, of: Value<'a>, member: &str, name: &'static str) {
        if let Some(value) = of.get(member).filter(|value| !value.is_null()) {
            self.limit(name, value);
        }
    }

    fn limit(&mut self, name: &'static str, value: Value<'a>) {
        // A body has one limit or two, and is kept as long as its request: no room is left over.
        self.limits.reserve_exact(1);
        self.limits.push(Limit {
            name,
            span: value.span(),
            value: value.as_u64(),
        });
    }
}

impl PartialEq for Object<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.raw() == other.0.raw()
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.member {
            "" => f.write_str("the body is not a JSON object"),
            member if self.alike => write!(
                f,
                "member {member:?} is spelled in other letters at byte {}",
                self.offset
            ),
            member => write!(
                f,
                "member {member:?} has a wrong type at byte {}",
                self.offset
            ),
        }
    }
}

impl std::error::Error for Unfit {}

fn unfit(member: &'static str, value: Value<'_>) -> Unfit {
    Unfit {
        member,
        offset: value.span().start,
        alike: false,
    }
}

/// Bytes of a body that are not base64, and how many images and files it holds.
fn prompt(body: &[u8]) -> (u64, u64) {
    let (mut bytes, mut media, mut pos) = (body.len(), 0, 0);
    // From quote to quote in long steps: of text, in which quotes are near to each other, little is looked at.
    while let Some(step) = body.get(pos..pos + SMALLEST_MEDIA) {
        if let Some(quote) = memchr::memrchr(b'"', step) {
            pos += quote + 1;
            continue;
        }
        let run = &body[pos..];
        let run = &run[..memchr::memchr(b'"', run).unwrap_or(run.len())];
        if let Some(encoded) = encoded(&body[..pos], run) {
            bytes = bytes.saturating_sub(encoded);
            media += 1;
        }
        pos += run.len();
    }
    (bytes as u64, media)
}

/// How many bytes of base64 of an image or file a string ends with, if it does; `before` stands before it, the quote
/// included.
fn encoded(before: &[u8], string: &[u8]) -> Option<usize> {
    let head = &string[..string.len().min(LONGEST_DATA_URL)];
    let encoded = match BASE64.find(head) {
        Some(at) => &string[at + BASE64.needle().len()..],
        None => {
            // As a member of Anthropic, Gemini and Bedrock; audio of OpenAI.
            let name = before.strip_suffix(b"\"")?.trim_ascii_end();
            let name = name.strip_suffix(b":")?.trim_ascii_end();
            (name.ends_with(b"\"data\"") || name.ends_with(b"\"bytes\"")).then_some(string)?
        }
    };
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=-_\\".contains(byte);
    let begins = encoded.get(..SMALLEST_MEDIA)?.iter().all(is_base64);
    begins.then_some(encoded.len())
}

/// What the base64 of a data URL begins behind.
static BASE64: LazyLock<memmem::Finder<'static>> =
    LazyLock::new(|| memmem::Finder::new(";base64,"));

/// What stands before the base64 of a data URL is no longer: a media type and its parameters.
const LONGEST_DATA_URL: usize = 256;

/// No picture or file of use is smaller.
const SMALLEST_MEDIA: usize = 1024;

/// Whether an array has items. It is checked, so all but white space is one.
fn has_items(value: Value<'_>) -> bool {
    value.kind() == Kind::Array && value.raw()[1..].trim_ascii_start() != b"]"
}

fn string<'a>(member: &'static str, value: Value<'a>) -> Result<Cow<'a, str>, Unfit> {
    value.as_str().ok_or_else(|| unfit(member, value))
}

fn boolean(member: &'static str, value: Value<'_>) -> Result<bool, Unfit> {
    value.as_bool().ok_or_else(|| unfit(member, value))
}

fn number(member: &'static str, value: Value<'_>) -> Result<u32, Unfit> {
    let number = value.as_u64().ok_or_else(|| unfit(member, value))?;
    Ok(u32::try_from(number).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;
