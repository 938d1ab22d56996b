use std::{borrow::Cow, ops::Range};

use crate::{
    dialect::{
        Operation, Surface,
        spelling::{self, Place, Spelling},
    },
    error::{Reason, Rejection},
    facts::Intent,
    json::Value,
};

/// What a request may ask for; `None` is without a bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Output tokens of all alternatives together.
    pub max_tokens: Option<u64>,
    /// What happens to a request that asks for more.
    pub on_exceed: OnExceed,
    /// Where an absent limit goes.
    pub insert: Insert,
    /// Messages, or whatever the dialect calls the turns of a conversation.
    pub max_messages: Option<usize>,
    /// Bytes of the whole request, texts, media and all that is around them: what a provider does not know may still be read by
    /// another one.
    pub max_input: Option<u64>,
    /// Whether a body that cannot be read passes; else it is refused.
    pub uninspected: bool,
}

impl Caps {
    /// No bound; one that is set clamps, is inserted where absent, and closes where it cannot be judged.
    pub fn off() -> Self {
        Self {
            max_tokens: None,
            on_exceed: OnExceed::default(),
            insert: Insert::default(),
            max_messages: None,
            max_input: None,
            uninspected: false,
        }
    }

    pub(super) fn is_off(&self) -> bool {
        self.max_tokens.is_none() && self.max_messages.is_none() && self.max_input.is_none()
    }
}

/// What happens to a request that asks for more output than it may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnExceed {
    /// It asks for what it may have.
    #[default]
    Clamp,
    /// It is refused.
    Reject,
}

/// Where an absent output limit goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Insert {
    /// Into the member of the surface; in OpenAI's chat `max_completion_tokens` for models named `o<digit>…` or `gpt-5…` and later,
    /// else `max_tokens`.
    #[default]
    Auto,
    /// As `Auto`, in OpenAI's chat always into `max_completion_tokens`.
    MaxCompletionTokens,
    /// As `Auto`, in OpenAI's chat always into `max_tokens`.
    MaxTokens,
    /// Nowhere: what sets no limit has none.
    Off,
}

/// What to change in a body, and what it may ask for then.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) edits: Vec<(Range<usize>, String)>,
    pub(super) inserted: Option<&'static str>,
    /// Output tokens of all alternatives, if the body says.
    pub(super) limit: Option<u64>,
}

/// Judges a body that was read.
pub(super) fn decide(
    caps: &Caps,
    intent: &Intent,
    model: Option<&str>,
    text: &[u8],
) -> Result<Verdict, Rejection> {
    let surface = intent.surface();
    // The whole text: spans of the intent and of what is found here are of the same bytes.
    let Some(root) = intent.object().and_then(|_| Value::parse(text)) else {
        return unread(caps, surface, model).map(|()| Verdict::default());
    };
    sizes(caps, surface, root)?;
    let Some(cap) = caps.max_tokens else {
        return Ok(Verdict::default());
    };
    let spelling = Spelling::of(surface, model);
    match spelling {
        Spelling::None => return Ok(Verdict::default()),
        Spelling::Unknown => {
            return unread(caps, surface, model).map(|()| Verdict::default());
        }
        Spelling::Known(..) | Spelling::Chat => {}
    }
    if let Some((name, _)) = root.members().find(|(name, _)| {
        name.as_str()
            .is_some_and(|name| spelling::is_case_of_another(&name))
    }) {
        let told = format!(
            "member {} is read as an output limit by some providers; write it as the API does",
            String::from_utf8_lossy(name.raw())
        );
        return Err(refusal(told));
    }
    output(caps, cap, spelling, (intent, model), (root, text))
}

/// What is refused because nobody can read it.
pub(super) fn unread(caps: &Caps, surface: &Surface, model: Option<&str>) -> Result<(), Rejection> {
    let spelling = Spelling::of(surface, model);
    let output = caps.max_tokens.is_some() && spelling != Spelling::None;
    let input = caps.max_messages.is_some() || caps.max_input.is_some();
    if caps.is_off() || caps.uninspected || !(output || input && surface.carries_text()) {
        return Ok(());
    }
    let told = "the size of the request is limited here, and this body cannot be read; send plain JSON in the words of a known API";
    Err(Rejection::new(Reason::UnsupportedCoding, "token_cap", told))
}

fn sizes(caps: &Caps, surface: &Surface, root: Value<'_>) -> Result<(), Rejection> {
    if let Some(most) = caps.max_messages {
        let messages = messages(surface, root);
        if messages > most {
            let told = format!("{messages} messages are more than the {most} that are served here");
            return Err(refusal(told));
        }
    }
    if let Some(most) = caps.max_input {
        let bytes = root.raw().len() as u64;
        if bytes > most {
            let told =
                format!("{bytes} bytes of input are more than the {most} that are served here");
            return Err(refusal(told));
        }
    }
    Ok(())
}

/// Turns of the conversation.
fn messages(surface: &Surface, root: Value<'_>) -> usize {
    let lists = root.members().filter(|(name, _)| {
        matches!(
            name.as_str().as_deref(),
            Some("messages" | "contents" | "chat_history")
        ) || surface.operation == Operation::Responses && name.is_str("input")
    });
    lists.map(|(_, list)| list.items().count()).sum()
}

fn output(
    caps: &Caps,
    cap: u64,
    spelling: Spelling,
    (intent, model): (&Intent, Option<&str>),
    (root, text): (Value<'_>, &[u8]),
) -> Result<Verdict, Rejection> {
    let choices = u64::from(intent.choices());
    let each = cap / choices;
    if each == 0 {
        let told = format!(
            "{choices} alternatives are more than the {cap} output tokens that are served here"
        );
        return Err(refusal(told));
    }
    thinking(each, root)?;
    let mut verdict = Verdict::default();
    let (binding, place) = match spelling {
        Spelling::Known(binding, place) => (binding, place),
        _ => (spelling::CHAT, chat(caps.insert, model)),
    };
    let mut bound: Option<u64> = None;
    for limit in intent.limits() {
        let endless = spelling::is_endless(limit.name, &text[limit.span.clone()]);
        let Some(value) = limit.value.or_else(|| endless.then_some(u64::MAX)) else {
            let told = format!("{} is not a whole number of tokens", limit.name);
            return Err(refusal(told));
        };
        let kept = value.min(each);
        if value > each {
            if caps.on_exceed == OnExceed::Reject {
                return Err(exceeds(limit.name, value, choices, cap));
            }
            verdict.edits.push((limit.span.clone(), each.to_string()));
        }
        if binding.contains(&limit.name) {
            bound = Some(bound.map_or(kept, |bound| bound.max(kept)));
        }
    }
    if bound.is_none() && caps.insert != Insert::Off {
        verdict.edits.push(place.insertion(root, each));
        verdict.inserted = Some(place.outer);
        bound = Some(each);
    }
    verdict.limit = bound.map(|bound| bound.saturating_mul(choices));
    Ok(verdict)
}

fn chat(insert: Insert, model: Option<&str>) -> Place {
    match insert {
        Insert::MaxCompletionTokens => Place::MAX_COMPLETION_TOKENS,
        Insert::MaxTokens => Place::MAX_TOKENS,
        Insert::Auto | Insert::Off => Place::in_chat(model),
    }
}

/// A model that may think longer than it may speak would be refused by its provider, in words that do not name the cap.
fn thinking(each: u64, root: Value<'_>) -> Result<(), Rejection> {
    match spelling::thoughts(root) {
        Some(budget) if each <= budget => Err(refusal(format!(
            "thinking.budget_tokens of {budget} does not fit the {each} output tokens that are served here"
        ))),
        _ => Ok(()),
    }
}

fn exceeds(name: &str, value: u64, choices: u64, cap: u64) -> Rejection {
    let asked = if value == u64::MAX {
        Cow::Borrowed("without end")
    } else {
        Cow::Owned(format!("of {value}"))
    };
    let times = if choices > 1 {
        format!(" for each of {choices} alternatives")
    } else {
        String::new()
    };
    refusal(format!(
        "{name} {asked}{times} is more than the {cap} output tokens that are served here"
    ))
}

#[cold]
fn refusal(told: String) -> Rejection {
    Rejection::new(Reason::TokenCap, "token_cap", told)
}
