//! C19.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use jsonwebtoken::{Algorithm as Alg, EncodingKey};
use rcgen::{KeyPair, PublicKeyData};
use serde_json::{Value, json};

use crate::{
    auth::{
        Digest, Grant, Keys, Presented, Unknown, Verify,
        jwt::{Algorithm, Fetch, Issuer, KeySet, KeysOrTokens},
    },
    clock::{Clock, SystemClock},
    error::BoxError,
    facts::{Caller, Terms},
};

const NOW: u64 = 1_900_000_000;

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let bits = group
            .iter()
            .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        for place in 0..=group.len() {
            out.push(char::from(DIGITS[(bits >> (18 - 6 * place) & 63) as usize]));
        }
    }
    out
}

/// A key, and the document that holds its public half.
struct Signer {
    pair: KeyPair,
}

impl Signer {
    fn new() -> Self {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        Self { pair }
    }

    fn jwk(&self, id: &str) -> Value {
        let point = self.pair.der_bytes();
        json!({"kty": "EC", "crv": "P-256", "kid": id, "use": "sig", "alg": "ES256",
               "x": base64(&point[1..33]), "y": base64(&point[33..65])})
    }

    fn signs(&self, header: &Value, claims: &Value) -> String {
        let text = |value: &Value| base64(value.to_string().as_bytes());
        let message = format!("{}.{}", text(header), text(claims));
        let key = EncodingKey::from_ec_der(&self.pair.serialize_der());
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Alg::ES256).unwrap();
        format!("{message}.{signature}")
    }
}

fn header() -> Value {
    json!({"alg": "ES256", "kid": "one", "typ": "JWT"})
}

fn claims() -> Value {
    json!({"iss": "https://issuer", "aud": "tollgate", "exp": NOW + 600, "sub": "team-a"})
}

/// The claims, with some of them changed; null removes one.
fn with(changes: &Value) -> Value {
    let mut claims = claims();
    let object = claims.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        object.insert(name.clone(), value.clone());
        if value.is_null() {
            object.remove(name);
        }
    }
    claims
}

fn grant(name: &str) -> Grant {
    Grant::new(Caller::new(name, Terms::default()))
}

fn issuer(keys: &KeySet) -> Issuer {
    let callers = [grant("team-a")];
    Issuer::new(
        keys.clone(),
        [Algorithm::Es256],
        "https://issuer",
        "tollgate",
    )
    .callers(callers)
}

fn set(keys: &[Value], at: Instant) -> KeySet {
    let set = KeySet::new();
    assert!(set.take(json!({ "keys": keys }).to_string().as_bytes(), at));
    set
}

fn asks(verify: &impl Verify, token: &str, at: Instant) -> Result<String, Unknown> {
    let presented = Presented {
        key: token.as_bytes(),
        bearer: true,
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(NOW),
        at,
    };
    let known = verify.verify(&presented)?;
    Ok(known.caller().name().to_string())
}

#[test]
fn a_token_names_its_caller_and_nothing_that_is_wrong_does() {
    let (signer, at) = (Signer::new(), SystemClock.now());
    let keys = set(&[signer.jwk("one")], at);
    let issuer = issuer(&keys);
    let good = signer.signs(&header(), &claims());
    assert_eq!(asks(&issuer, &good, at).as_deref(), Ok("team-a"));
    for changes in [
        json!({"aud": ["x", "tollgate"]}),
        json!({"exp": NOW - 59}),
        json!({"nbf": NOW + 60}),
        json!({"nbf": NOW}),
    ] {
        let token = signer.signs(&header(), &with(&changes));
        assert_eq!(
            asks(&issuer, &token, at).as_deref(),
            Ok("team-a"),
            "{changes}"
        );
    }
    for changes in [
        json!({"exp": NOW - 60}),
        json!({"exp": null}),
        json!({"exp": "soon"}),
        json!({"nbf": NOW + 61}),
        json!({"nbf": "now"}),
        json!({"iss": "https://issuer.evil"}),
        json!({"iss": null}),
        json!({"aud": "other"}),
        json!({"aud": ["other"]}),
        json!({"aud": null}),
        json!({"sub": "team-b"}),
        json!({"sub": null}),
        json!({"sub": 7}),
    ] {
        let token = signer.signs(&header(), &with(&changes));
        assert_eq!(asks(&issuer, &token, at), Err(Unknown::Key), "{changes}");
    }
    for header in [
        json!({"alg": "none", "kid": "one"}),
        json!({"alg": "None", "kid": "one"}),
        json!({"alg": "HS256", "kid": "one"}),
        json!({"alg": "RS256", "kid": "one"}),
        json!({"alg": "ES384", "kid": "one"}),
        json!({"alg": "ES256", "kid": "one", "crit": ["exp"]}),
        json!({"alg": "ES256", "kid": 1}),
        json!({"kid": "one"}),
    ] {
        let token = signer.signs(&header, &claims());
        assert_eq!(asks(&issuer, &token, at), Err(Unknown::Key), "{header}");
    }
    // What the token says of keys is not looked at.
    let stranger = Signer::new();
    let header = json!({"alg": "ES256", "kid": "one", "jku": "https://evil.test", "jwk": stranger.jwk("one")});
    let forged = stranger.signs(&header, &claims());
    assert_eq!(asks(&issuer, &forged, at), Err(Unknown::Key));
    let (message, signature) = good.rsplit_once('.').unwrap();
    let large = signer.signs(&self::header(), &with(&json!({"x": "x".repeat(8192)})));
    for token in [
        message.to_owned(),
        format!("{message}."),
        format!("{message}.{signature}="),
        format!("{message}.{signature}.x"),
        format!("{}.{signature}", message.replace('.', "..")),
        format!("{good}A"),
        large,
    ] {
        assert_eq!(asks(&issuer, &token, at), Err(Unknown::Key), "{token}");
    }
}

#[test]
fn a_key_counts_only_for_what_it_is_for() {
    let (signer, at) = (Signer::new(), SystemClock.now());
    let good = signer.signs(&header(), &claims());
    for (name, value) in [
        ("use", json!("enc")),
        ("alg", json!("ES384")),
        ("key_ops", json!(["sign"])),
    ] {
        let mut key = signer.jwk("one");
        key[name] = value;
        assert!(
            asks(&issuer(&set(&[key], at)), &good, at).is_err(),
            "{name}"
        );
    }
    // A key that nobody understands does not stand in the way of another.
    let odd = json!({"kty": "new", "kid": "odd"});
    let keys = set(&[odd, signer.jwk("one")], at);
    assert_eq!(asks(&issuer(&keys), &good, at).as_deref(), Ok("team-a"));
    // Without a name only where there is no choice.
    let nameless = signer.signs(&json!({"alg": "ES256"}), &claims());
    assert_eq!(asks(&issuer(&keys), &nameless, at).as_deref(), Ok("team-a"));
    let two = set(&[signer.jwk("one"), Signer::new().jwk("two")], at);
    assert_eq!(asks(&issuer(&two), &nameless, at), Err(Unknown::Key));
}

#[test]
fn whoever_else_is_named_comes_on_the_terms_of_one_caller_and_counts_by_themselves() {
    let (signer, at) = (Signer::new(), SystemClock.now());
    let issuer = issuer(&set(&[signer.jwk("one")], at))
        .others_as(grant("team-b"))
        .claim("email");
    let token = signer.signs(&header(), &with(&json!({"email": "u@example.com"})));
    let presented = Presented {
        key: token.as_bytes(),
        bearer: true,
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(NOW),
        at,
    };
    let known = issuer.verify(&presented).unwrap();
    let caller = known.caller();
    assert_eq!(
        (&**caller.name(), &**caller.listed_as()),
        ("u@example.com", "team-b")
    );
    let elsewhere = Presented {
        bearer: false,
        ..presented
    };
    assert_eq!(issuer.verify(&elsewhere).unwrap_err(), Unknown::Key);
    let newline = signer.signs(&header(), &with(&json!({"email": "u\nv"})));
    assert_eq!(asks(&issuer, &newline, at), Err(Unknown::Key));
    // A key goes first; what is none of them is read as a token.
    let keys = Keys::new([(Digest::of("secret").unwrap(), grant("k"))]).unwrap();
    let both = KeysOrTokens {
        keys,
        tokens: issuer,
    };
    assert_eq!(asks(&both, "secret", at).as_deref(), Ok("k"));
    assert_eq!(asks(&both, &token, at).as_deref(), Ok("u@example.com"));
    assert_eq!(asks(&both, "nonsense", at), Err(Unknown::Key));
}

/// Gives the documents in turn, and `None` as a failure.
#[derive(Clone, Default)]
struct Scripted(Arc<(AtomicUsize, Mutex<Vec<Option<Value>>>)>);

impl Fetch for Scripted {
    async fn fetch(&self) -> Result<Vec<u8>, BoxError> {
        let at = self.0.0.fetch_add(1, Relaxed);
        let documents = self.0.1.lock().unwrap();
        match documents.get(at).or_else(|| documents.last()) {
            Some(Some(document)) => Ok(document.to_string().into_bytes()),
            _ => Err("down".into()),
        }
    }
}

impl Scripted {
    fn count(&self) -> usize {
        self.0.0.load(Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_again_and_stale_ones_count_for_an_hour() {
    let (one, two) = (Signer::new(), Signer::new());
    let first = json!({"keys": [one.jwk("one")]});
    let fetch = Scripted::default();
    *fetch.0.1.lock().unwrap() = vec![
        None,
        Some(first),
        Some(json!({"keys": [one.jwk("one"), two.jwk("two")]})),
        None,
    ];
    let keys = KeySet::new();
    let issuer = issuer(&keys);
    let token = one.signs(&header(), &claims());
    let new = two.signs(&json!({"alg": "ES256", "kid": "two"}), &claims());
    let asks = |token: &str| asks(&issuer, token, SystemClock.now());
    // Nothing was ever fetched: that is no wrong key.
    assert!(matches!(asks(&token), Err(Unknown::Unavailable(_))));
    let script = async {
        tokio::time::sleep(Duration::from_secs(31)).await;
        assert_eq!((fetch.count(), asks(&token).as_deref()), (2, Ok("team-a")));
        // A key that nobody knows asks for a fetch, and the second time in a short while for none.
        assert_eq!(asks(&new), Err(Unknown::Key));
        assert_eq!(asks(&new), Err(Unknown::Key));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((fetch.count(), asks(&new).as_deref()), (3, Ok("team-a")));
        let unknown = two.signs(&json!({"alg": "ES256", "kid": "three"}), &claims());
        for _ in 0..100 {
            assert_eq!(asks(&unknown), Err(Unknown::Key));
        }
        // From here on every fetch fails.
        tokio::time::sleep(Duration::from_secs(3599)).await;
        assert_eq!(asks(&token).as_deref(), Ok("team-a"));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(matches!(asks(&token), Err(Unknown::Unavailable(_))));
    };
    tokio::select! {
        () = keys.clone().keep_fresh(fetch.clone(), SystemClock) => unreachable!("it never ends"),
        () = script => {}
    }
}

#[test]
fn what_is_no_set_of_keys_changes_nothing() {
    let (signer, at) = (Signer::new(), SystemClock.now());
    let keys = set(&[signer.jwk("one")], at);
    for text in [
        "",
        "{}",
        "[]",
        "<html>",
        "{\"keys\":1",
        "{\"keys\":[],\"keys\":[]}",
        "{\"keys\":7}",
        "{\"keys\":{\"0\":{}}}",
    ] {
        assert!(!keys.take(text.as_bytes(), at), "{text}");
    }
    let good = signer.signs(&header(), &claims());
    assert_eq!(asks(&issuer(&keys), &good, at).as_deref(), Ok("team-a"));
    assert_eq!(format!("{keys:?}"), "KeySet { count: 1 }");
}
