//! What a request asks for, as far as picking a target goes.

use std::sync::Arc;

use http::{HeaderName, Request};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{
    dialect::{self, Recognised},
    facts::{Caller, ClientAddress, Intent, OutputLimit, Route},
    record::Record,
};

/// What a choice sticks to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StickyOn {
    /// The first that is there: session, cache key, caller, address.
    #[default]
    First,
    /// The caller.
    Caller,
    /// The session that a header names, or `prompt_cache_key`.
    Session,
    /// The end user whom the body names.
    User,
}

/// The headers in which clients name their session: those of Claude Code, Codex and opencode, and `x-session-id`, which others
/// have.
const SESSIONS: [HeaderName; 5] = [
    HeaderName::from_static("x-claude-code-session-id"),
    HeaderName::from_static("session-id"),
    HeaderName::from_static("session_id"),
    HeaderName::from_static("x-session-id"),
    HeaderName::from_static("x-session-affinity"),
];

/// Replicas agree: it is a constant.
const SEED: u64 = 0x746f_6c6c_6761_7465;

pub(super) fn hash(kind: &str, value: &[u8]) -> u64 {
    let seed = xxh3_64_with_seed(kind.as_bytes(), SEED);
    xxh3_64_with_seed(value, seed)
}

/// The key of a request, if it has what the choice sticks to.
pub(super) fn key<B>(req: &Request<B>, on: StickyOn) -> Option<u64> {
    let facts = req.extensions();
    let intent = facts.get::<Intent>();
    let session = || {
        let named = SESSIONS.iter().find_map(|name| req.headers().get(name));
        let named = named.map(|value| hash("session", value.as_bytes()));
        named.or_else(|| Some(hash("cache", intent?.cache_key()?.as_bytes())))
    };
    let caller = || {
        let caller = facts.get::<Caller>()?;
        Some(hash("caller", caller.name().as_bytes()))
    };
    let address = || {
        let address = ClientAddress::of(facts)?;
        Some(hash("address", address.to_string().as_bytes()))
    };
    match on {
        StickyOn::First => session().or_else(caller).or_else(address),
        StickyOn::Caller => caller(),
        StickyOn::Session => session(),
        StickyOn::User => Some(hash("user", intent?.user()?.as_bytes())),
    }
}

/// The model, by the name that aliases lead to.
pub(super) fn model<B>(req: &Request<B>) -> Option<Arc<str>> {
    let facts = req.extensions();
    match facts.get::<Route>() {
        Some(route) => route.model.clone(),
        None => facts.get::<Intent>()?.model().map(Into::into),
    }
}

/// Whether the request is about what a provider keeps: a file, a batch, a stored response, cached content. What nobody knows may
/// be.
pub(super) fn is_bound<B>(req: &Request<B>) -> bool {
    let facts = req.extensions();
    if let Some(intent) = facts.get::<Intent>() {
        return intent.continues();
    }
    let unrecorded;
    let recognised = match facts.get::<Record>() {
        Some(record) => record.recognised(),
        None => {
            let uri = req.uri();
            unrecorded = dialect::recognise(req.method(), uri.path(), uri.query(), req.headers());
            &unrecorded
        }
    };
    !matches!(recognised, Recognised::Surface(_))
}

/// Tokens of the input and of the output, as far as they can be told: four bytes of text are one, and a picture is a thousand.
pub(super) fn tokens<B>(req: &Request<B>) -> (u64, u64) {
    let facts = req.extensions();
    let Some(intent) = facts.get::<Intent>() else {
        return (0, USUAL);
    };
    let (bytes, media) = intent.prompt();
    let asked = intent.limits().iter().filter_map(|limit| limit.value).min();
    let asked = asked.map(|tokens| tokens.saturating_mul(u64::from(intent.choices())));
    let capped = facts.get::<OutputLimit>().map(|limit| limit.tokens);
    let output = capped.or(asked).unwrap_or(USUAL);
    (bytes / 4 + media.saturating_mul(1000), output)
}

/// What an answer may be long where nobody says.
const USUAL: u64 = 4096;
