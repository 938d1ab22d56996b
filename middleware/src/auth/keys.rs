use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    hash::{Hash, Hasher},
    net::IpAddr,
    str::FromStr,
    sync::Arc,
    time::SystemTime,
};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use super::service::{Known, Presented, Unknown, Verify};
use crate::{dialect::Operation, facts::Caller, origin::OriginPattern};

/// The SHA-256 of a key: all that is kept of it. Keys are long and random, so that nobody can try them all.
///
/// Two are compared without an early end.
#[derive(Clone, Copy, Eq)]
pub struct Digest([u8; 32]);

/// What is no key: an empty one, or text that is not `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadKey(());

/// Two callers have one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedKey {
    /// Their names.
    pub callers: [Arc<str>; 2],
}

/// Who a key names, and what restricts it.
#[derive(Clone)]
pub struct Grant {
    pub(super) caller: Caller,
    pub(super) expires: Option<SystemTime>,
    pub(super) disabled: bool,
    pub(super) from: Option<Arc<From>>,
    pub(super) surfaces: Option<Box<[Operation]>>,
    pub(super) origins: Box<[OriginPattern]>,
}

type From = dyn Fn(IpAddr) -> bool + Send + Sync;

/// The keys of all callers, found by their digests.
#[derive(Clone)]
pub struct Keys(Arc<HashMap<Digest, Arc<Grant>>>);

// ===== impl Digest =====

impl Digest {
    /// The digest of a key.
    ///
    /// # Errors
    ///
    /// An empty key.
    pub fn of(key: impl AsRef<[u8]>) -> Result<Self, BadKey> {
        let key = key.as_ref();
        if key.is_empty() {
            return Err(BadKey(()));
        }
        Ok(Self(Sha256::digest(key).into()))
    }
}

/// Whatever byte differs, all are looked at.
impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// As equal ones are alike.
impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// `sha256:` and 64 hexadecimal digits.
impl FromStr for Digest {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        let hex = text.strip_prefix("sha256:").map(str::as_bytes);
        let (pairs, []) = hex.unwrap_or_default().as_chunks::<2>() else {
            return Err(BadKey(()));
        };
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let bytes = pairs.iter().map(|[high, low]| {
            let byte = digit(*high)? * 16 + digit(*low)?;
            u8::try_from(byte).ok()
        });
        let bytes: Option<Vec<_>> = bytes.collect();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(BadKey(()))
    }
}

/// Nothing of it: who has the digest can look for the key.
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(…)")
    }
}

// ===== impl Grant =====

impl Grant {
    /// This caller, without restriction.
    pub fn new(caller: Caller) -> Self {
        Self {
            caller,
            expires: None,
            disabled: false,
            from: None,
            surfaces: None,
            origins: Box::default(),
        }
    }

    /// Whom it is for.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The key names nobody from this moment of the wall clock on.
    #[must_use]
    pub fn expires(mut self, at: SystemTime) -> Self {
        self.expires = Some(at);
        self
    }

    /// Whether the key names nobody.
    #[must_use]
    pub fn disabled(mut self, yes: bool) -> Self {
        self.disabled = yes;
        self
    }

    /// Only clients with these addresses may use the key; one without an address (over a unix socket) may not.
    #[must_use]
    pub fn from(mut self, allowed: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        self.from = Some(Arc::new(allowed));
        self
    }

    /// Only these operations may be asked for, and the lists of models; nothing that no API has.
    #[must_use]
    pub fn surfaces(mut self, operations: impl IntoIterator<Item = Operation>) -> Self {
        self.surfaces = Some(operations.into_iter().collect());
        self
    }

    /// Only pages of these origins may use the key; none is all, and all who are no page.
    #[must_use]
    pub fn origins(mut self, origins: impl IntoIterator<Item = OriginPattern>) -> Self {
        self.origins = origins.into_iter().collect();
        self
    }

    /// Whether it names somebody now.
    pub(super) fn holds(&self, now: SystemTime) -> bool {
        !self.disabled && self.expires.is_none_or(|expires| now < expires)
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("caller", &self.caller.name())
            .field("expires", &self.expires)
            .field("disabled", &self.disabled)
            .finish_non_exhaustive()
    }
}

// ===== impl Keys =====

impl Keys {
    /// Keys, and whom they name.
    ///
    /// # Errors
    ///
    /// Two that are the same.
    pub fn new(keys: impl IntoIterator<Item = (Digest, Grant)>) -> Result<Self, SharedKey> {
        let mut known = HashMap::<_, Arc<Grant>>::new();
        for (digest, grant) in keys {
            match known.entry(digest) {
                Entry::Vacant(place) => {
                    place.insert(Arc::new(grant));
                }
                Entry::Occupied(other) => {
                    let names = [other.get().caller.name(), grant.caller.name()];
                    return Err(SharedKey {
                        callers: names.map(Clone::clone),
                    });
                }
            }
        }
        Ok(Self(Arc::new(known)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whom a key names: found by its digest, which the table compares without an early end.
    fn find(&self, key: &[u8]) -> Option<&Arc<Grant>> {
        let digest = Digest::of(key).ok()?;
        self.0.get(&digest)
    }
}

impl Verify for Keys {
    fn verify(&self, presented: &Presented<'_>) -> Result<Known, Unknown> {
        let grant = self.find(presented.key).ok_or(Unknown::Key)?;
        if !grant.holds(presented.now) {
            return Err(Unknown::Key);
        }
        Ok(Known::new(grant.caller.clone(), grant.clone()))
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("count", &self.len()).finish()
    }
}

// ===== errors =====

impl fmt::Display for BadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key is not empty, and its hash is sha256: and 64 hexadecimal digits")
    }
}

impl std::error::Error for BadKey {}

impl fmt::Display for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, other] = &self.callers;
        write!(f, "callers {one:?} and {other:?} have the same key")
    }
}

impl std::error::Error for SharedKey {}
