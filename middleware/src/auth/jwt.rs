//! Callers whom a third party names, in tokens that it signs (RFC 7519).
//!
//! A token is a bearer token of three parts. Its key comes from the set of keys that was fetched, and from nowhere else: what the token
//! itself says of keys (`jku`, `jwk`, `x5u`) is not looked at. The algorithms are pinned, and the key must be one for the token's.
//!
//! [`KeySet`] is what was fetched last. Whoever embeds it runs [`KeySet::keep_fresh`] with a [`Fetch`] of theirs beside the service; while a
//! fetch fails, keys that are at most an hour old go on to count. A token that names a key which nobody knows is
//! none that counts, and asks for a fetch, at most one in 30 seconds: issuers publish a key before they sign with it. Only while
//! there are no keys that count at all nobody can say who it is.

use std::{
    collections::HashMap,
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    time::{Duration, Instant, UNIX_EPOCH},
};

use jsonwebtoken::{
    Algorithm as Alg, DecodingKey,
    jwk::{JwkSet, KeyOperations, PublicKeyUse},
};

use super::{
    keys::{Grant, Keys},
    service::{Known, Presented, Unknown, Verify},
};
use crate::{
    base64,
    clock::Clock,
    error::BoxError,
    json::{self, Kind, Value},
};

/// A way to sign, with a key whose public half everybody may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(
    missing_docs,
    reason = "their names are those of RFC 7518 and RFC 8037"
)]
pub enum Algorithm {
    EdDsa,
    Es256,
    Es384,
    Ps256,
    Ps384,
    Ps512,
    Rs256,
    Rs384,
    Rs512,
}

impl Algorithm {
    /// All of them. Those with a shared secret (`HS…`) are none: who can check such a token can make one.
    pub const ALL: [Self; 9] = [
        Self::EdDsa,
        Self::Es256,
        Self::Es384,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
    ];

    /// The name in a token.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
        }
    }

    fn alg(self) -> Alg {
        match self {
            Self::EdDsa => Alg::EdDSA,
            Self::Es256 => Alg::ES256,
            Self::Es384 => Alg::ES384,
            Self::Ps256 => Alg::PS256,
            Self::Ps384 => Alg::PS384,
            Self::Ps512 => Alg::PS512,
            Self::Rs256 => Alg::RS256,
            Self::Rs384 => Alg::RS384,
            Self::Rs512 => Alg::RS512,
        }
    }
}

/// Where the set of keys comes from: over https unless the host is this one, without redirects.
pub trait Fetch: Send + Sync + 'static {
    /// The document, of at most [`LARGEST`] bytes.
    fn fetch(&self) -> impl Future<Output = Result<Vec<u8>, BoxError>> + Send;

    /// What became of it: whether there was a document, and it was a set of keys.
    fn took(&self, yes: bool) {
        let _ = yes;
    }
}

/// A set of keys is not larger.
pub const LARGEST: usize = 1024 * 1024;

/// How long keys count that could not be fetched again.
const STALE: Duration = Duration::from_secs(3600);
/// Between two fetches that succeed.
const FRESH: Duration = Duration::from_secs(300);
/// Between two fetches that fail, or that tokens ask for.
const PAUSE: Duration = Duration::from_secs(30);
/// How far two clocks may be apart.
const SKEW: u64 = 60;
/// A token is not longer.
const LONGEST: usize = 8 * 1024;

/// The keys of a third party, as they were fetched last. Clones are the same set.
#[derive(Clone, Default)]
pub struct KeySet(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    keys: Arc<[Key]>,
    fetched: Option<Instant>,
    // When a token asked for a fetch last.
    asked: Option<Instant>,
    wanted: bool,
    waker: Option<Waker>,
}

struct Key {
    id: Option<String>,
    // The name of the only algorithm it is for, if it says.
    algorithm: Option<String>,
    key: DecodingKey,
}

impl KeySet {
    /// No keys yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a document over; false if it is none, and the keys of before stay.
    pub fn take(&self, document: &[u8], now: Instant) -> bool {
        let Some(keys) = read(document) else {
            return false;
        };
        let mut state = self.lock();
        state.keys = keys;
        state.fetched = Some(now);
        true
    }

    /// Fetches the keys again and again, for ever: now, then while they are still fresh, and when a token wants it.
    pub async fn keep_fresh<F: Fetch, C: Clock>(self, fetch: F, clock: C) {
        loop {
            let document = fetch.fetch().await.ok();
            let took = document.is_some_and(|document| {
                document.len() <= LARGEST && self.take(&document, clock.now())
            });
            fetch.took(took);
            let rest = if took { FRESH } else { PAUSE };
            let mut timer = pin!(clock.sleep_until(clock.now() + rest));
            poll_fn(|cx| {
                let mut state = self.lock();
                if std::mem::take(&mut state.wanted) {
                    return Poll::Ready(());
                }
                state.waker = Some(cx.waker().clone());
                drop(state);
                timer.as_mut().poll(cx)
            })
            .await;
        }
    }

    /// The keys, if they count now.
    fn keys(&self, now: Instant) -> Option<Arc<[Key]>> {
        let state = self.lock();
        let age = now.saturating_duration_since(state.fetched?);
        (age <= STALE).then(|| state.keys.clone())
    }

    /// Asks for a fetch, unless that was asked for a moment ago.
    fn want(&self, now: Instant) {
        let mut state = self.lock();
        let lately = |asked| now.saturating_duration_since(asked) < PAUSE;
        if state.asked.is_some_and(lately) {
            return;
        }
        state.asked = Some(now);
        state.wanted = true;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.lock().keys.len();
        f.debug_struct("KeySet").field("count", &count).finish()
    }
}

/// The keys of a document that signatures can be checked with.
fn read(document: &[u8]) -> Option<Arc<[Key]>> {
    let document = json::check(document, &json::Limits::default()).ok()?;
    let keys = document.get("keys")?;
    if keys.kind() != Kind::Array {
        return None;
    }
    let keys = keys.items().filter_map(|key| {
        // One key that nobody understands is no reason to do without the others.
        let text = format!("{{\"keys\":[{}]}}", std::str::from_utf8(key.raw()).ok()?);
        let algorithm = key.get("alg").and_then(|it| it.as_str());
        let algorithm = algorithm.map(std::borrow::Cow::into_owned);
        let set: JwkSet = serde(&text)?;
        let key = set.keys.into_iter().next()?;
        let common = &key.common;
        let signs = common.public_key_use.as_ref();
        let signs = signs.is_none_or(|it| *it == PublicKeyUse::Signature);
        let verifies = common.key_operations.as_ref();
        let verifies = verifies.is_none_or(|it| it.contains(&KeyOperations::Verify));
        let decoding = (signs && verifies).then(|| DecodingKey::from_jwk(&key).ok());
        Some(Key {
            id: common.key_id.clone(),
            algorithm,
            key: decoding.flatten()?,
        })
    });
    Some(keys.collect())
}

fn serde(text: &str) -> Option<JwkSet> {
    serde_json::from_str(text).ok()
}

/// Who signs, for whom, and whom it names.
#[derive(Clone, Debug)]
pub struct Issuer {
    keys: KeySet,
    algorithms: Box<[Algorithm]>,
    issuer: Box<str>,
    audience: Box<str>,
    claim: Box<str>,
    listed: HashMap<Arc<str>, Arc<Grant>>,
    stands_for: Option<Arc<Grant>>,
}

impl Issuer {
    /// Tokens of this issuer for this audience, signed in one of these ways; the caller is named by `sub`.
    pub fn new(
        keys: KeySet,
        algorithms: impl IntoIterator<Item = Algorithm>,
        issuer: &str,
        audience: &str,
    ) -> Self {
        Self {
            keys,
            algorithms: algorithms.into_iter().collect(),
            issuer: issuer.into(),
            audience: audience.into(),
            claim: "sub".into(),
            listed: HashMap::new(),
            stands_for: None,
        }
    }

    /// The claim that names the caller.
    #[must_use]
    pub fn claim(mut self, name: &str) -> Self {
        self.claim = name.into();
        self
    }

    /// Callers that a token may name.
    #[must_use]
    pub fn callers(mut self, grants: impl IntoIterator<Item = Grant>) -> Self {
        let named = |grant: Grant| (grant.caller.name().clone(), Arc::new(grant));
        self.listed = grants.into_iter().map(named).collect();
        self
    }

    /// Whoever else a token names comes on the terms of this one, and counts by itself. Without it, nobody else is let in.
    #[must_use]
    pub fn others_as(mut self, grant: Grant) -> Self {
        self.stands_for = Some(Arc::new(grant));
        self
    }

    /// What the token says, if it is one that counts.
    fn claims(&self, token: &[u8], presented: &Presented<'_>) -> Result<String, Unknown> {
        let bad = Unknown::Key;
        let text = std::str::from_utf8(token).map_err(|_| bad)?;
        let (message, signature) = text.rsplit_once('.').ok_or(bad)?;
        let (header, payload) = message.split_once('.').ok_or(bad)?;
        if text.len() > LONGEST || payload.contains('.') {
            return Err(bad);
        }
        let header = decode(header).ok_or(bad)?;
        let header = checked(&header).ok_or(bad)?;
        let named = header.get("alg").and_then(|it| it.as_str()).ok_or(bad)?;
        let pinned = self.algorithms.iter();
        let algorithm = pinned.copied().find(|it| it.as_str() == named).ok_or(bad)?;
        if header.get("crit").is_some() {
            return Err(bad);
        }
        let id = match header.get("kid") {
            Some(id) => Some(id.as_str().ok_or(bad)?),
            None => None,
        };
        let Some(keys) = self.keys.keys(presented.at) else {
            self.keys.want(presented.at);
            return Err(Unknown::Unavailable(PAUSE));
        };
        let fits = |key: &&Key| {
            key.key.family() == algorithm.alg().family()
                && key
                    .algorithm
                    .as_deref()
                    .is_none_or(|it| it == algorithm.as_str())
                && (id.is_none() || key.id.as_deref() == id.as_deref())
        };
        let mut fitting = keys.iter().filter(fits);
        let Some(key) = fitting.next() else {
            let known = keys.iter().any(|key| key.id.as_deref() == id.as_deref());
            if !known {
                self.keys.want(presented.at);
            }
            return Err(bad);
        };
        // Without a name there must be no choice.
        if id.is_none() && fitting.next().is_some() {
            return Err(bad);
        }
        let signed =
            jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key.key, algorithm.alg());
        if !signed.unwrap_or(false) {
            return Err(bad);
        }
        let claims = decode(payload).ok_or(bad)?;
        let claims = checked(&claims).ok_or(bad)?;
        let since = presented.now.duration_since(UNIX_EPOCH);
        let now = since.map_err(|_| bad)?.as_secs();
        self.hold(claims, now).ok_or(bad)
    }

    /// The name of the caller, if the claims are for us, and for now.
    fn hold(&self, claims: Value<'_>, now: u64) -> Option<String> {
        let is = |name: &str, text: &str| claims.get(name).is_some_and(|it| it.is_str(text));
        let audience = claims.get("aud")?;
        let for_us =
            audience.is_str(&self.audience) || audience.items().any(|it| it.is_str(&self.audience));
        let seconds = |value: Value<'_>| value.as_f64().filter(|it| *it >= 0.0);
        let now = now as f64;
        let skew = SKEW as f64;
        let begun = match claims.get("nbf") {
            Some(nbf) => seconds(nbf)? <= now + skew,
            None => true,
        };
        let ends = seconds(claims.get("exp")?)? > now - skew;
        if !(is("iss", &self.issuer) && for_us && begun && ends) {
            return None;
        }
        let name = claims.get(&self.claim)?.as_str()?.into_owned();
        let visible = name.chars().all(|it| !it.is_control());
        (visible && (1..=256).contains(&name.len())).then_some(name)
    }
}

impl Verify for Issuer {
    fn verify(&self, presented: &Presented<'_>) -> Result<Known, Unknown> {
        if !presented.bearer {
            return Err(Unknown::Key);
        }
        let name = self.claims(presented.key, presented)?;
        let (caller, grant) = match (self.listed.get(&*name), &self.stands_for) {
            (Some(grant), _) => (grant.caller.clone(), grant),
            (None, Some(grant)) => (grant.caller.derive(name), grant),
            (None, None) => return Err(Unknown::Key),
        };
        if !grant.holds(presented.now) {
            return Err(Unknown::Key);
        }
        Ok(Known::new(caller, grant.clone()))
    }
}

/// Keys, and for whom has none of them, tokens.
#[derive(Clone, Debug)]
pub struct KeysOrTokens {
    /// Asked first.
    pub keys: Keys,
    /// Asked about what none of the keys is.
    pub tokens: Issuer,
}

impl Verify for KeysOrTokens {
    fn verify(&self, presented: &Presented<'_>) -> Result<Known, Unknown> {
        match self.keys.verify(presented) {
            Err(Unknown::Key) => self.tokens.verify(presented),
            answer => answer,
        }
    }
}

fn checked(text: &[u8]) -> Option<Value<'_>> {
    json::check(text, &json::Limits::default()).ok()
}

/// Base64 for URLs without padding, in its only form.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let only = base64::decode_into(text.as_bytes(), base64::URL, &mut out)?;
    only.then_some(out)
}
