//! Callers whom a third party names, in tokens whose keys are fetched.

use std::{collections::BTreeMap, fs, time::SystemTime};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};
use tollgate_middleware::clock::{Clock, SystemClock};
use tollgate_testing::{
    client::{Message, call},
    upstream::{Framing, Refusing, Script, Upstream},
};

use crate::{
    binary::{CHAT, serve, shown, until},
    callers::limits::left,
    harness::{CALLER, Stage, provider},
};

const BODY: &[u8] = br#"{"model":"m1","messages":[]}"#;

/// Somebody who signs.
struct Signer(Ed25519KeyPair);

impl Signer {
    fn new() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        Self(Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("the key just made"))
    }

    fn key(&self, id: &str) -> Value {
        let public = base64(self.0.public_key().as_ref());
        json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": id, "x": public})
    }

    /// A token that names this caller for ten minutes, by the key of this name.
    fn token(&self, kid: &str, caller: &str) -> String {
        let now = SystemClock.wall().duration_since(SystemTime::UNIX_EPOCH);
        let ends = now.expect("after 1970").as_secs() + 600;
        self.signs(
            &json!({"alg": "EdDSA", "kid": kid}),
            &json!({"iss": "https://issuer.test", "aud": "tollgate", "exp": ends, "sub": caller}),
        )
    }

    fn signs(&self, header: &Value, claims: &Value) -> String {
        let [header, claims] = [header, claims].map(|it| base64(it.to_string().as_bytes()));
        let message = format!("{header}.{claims}");
        let signature = base64(self.0.sign(message.as_bytes()).as_ref());
        format!("{message}.{signature}")
    }
}

/// RFC 4648, section 5, without padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let bits = group
            .iter()
            .fold(0_u32, |all, byte| all << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        let digit = |place: usize| char::from(DIGITS[(bits >> (18 - 6 * place) & 63) as usize]);
        out.extend((0..=group.len()).map(digit));
    }
    out
}

/// The document with these keys.
fn set(keys: &[Value]) -> Script {
    Script::json(&json!({ "keys": keys }))
}

/// An issuer's listener, which gives this document.
async fn issuer(document: Script) -> Upstream {
    let issuer = Upstream::start().await;
    issuer.serve_default(document);
    issuer
}

fn config(upstream: &Upstream, jwks: &str, more: &str) -> String {
    let provider = provider("acme", "openai", upstream, "/v1", "");
    format!(
        "providers:\n{provider}callers:\n  team: {{ requests: {{ rate: 2/hour, burst: 2 }} }}\n  keyed: {{ key: {CALLER} }}\n\
         layers: {{ auth: {{ jwt: {{ jwks: \"{jwks}\", issuer: \"https://issuer.test\", audience: tollgate, algorithms: [EdDSA]{more} }} }} }}\n"
    )
}

fn address(issuer: &Upstream) -> String {
    format!("http://{}/keys.json", issuer.addr())
}

async fn stage(jwks: &str, more: &str) -> (Stage, Upstream) {
    let upstream = Upstream::start().await;
    upstream.serve_default(Script::answer(200, "application/json", r#"{"object":"x"}"#));
    let yaml = config(&upstream, jwks, more);
    (Stage::start(&yaml), upstream)
}

async fn ask(stage: &Stage, id: &str, key: &str) -> Message {
    stage.ask_by(id, key, BODY).await
}

/// C19.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_names_its_caller_and_stays_here() {
    let (signer, stranger) = (Signer::new(), Signer::new());
    let issuer = issuer(set(&[signer.key("one")])).await;
    let (stage, upstream) = stage(&address(&issuer), "").await;
    let token = signer.token("one", "team");
    let answer = ask(&stage, "good", &token).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    // The limits of the caller hold for it.
    assert_eq!(
        answer.header("ratelimit-policy"),
        Some("\"requests\";q=2;w=3600")
    );
    assert_eq!(stage.line("good").await["caller"], "team");
    let seen = upstream.finished("good", 1).await;
    assert!(!String::from_utf8_lossy(&seen.head).contains(&token));
    // Fetched once, for the start; no request asks.
    let asked = issuer.snapshot().exchanges;
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].start, "GET /keys.json HTTP/1.1");
    assert_eq!(
        asked[0].header("host"),
        Some(issuer.addr().to_string().as_str())
    );
    let wrong = [
        ("nobody", signer.token("one", "nobody")),
        ("forged", stranger.token("one", "team")),
        (
            "none",
            signer.signs(
                &json!({"alg": "none", "kid": "one"}),
                &json!({"sub": "team"}),
            ),
        ),
        (
            "shared",
            signer.signs(
                &json!({"alg": "HS256", "kid": "one"}),
                &json!({"sub": "team"}),
            ),
        ),
        (
            "elsewhere",
            stranger.signs(
                &json!({"alg": "EdDSA", "kid": "one", "jwk": stranger.key("one")}),
                &json!({"sub": "team"}),
            ),
        ),
        ("nonsense", "a.b.c".to_owned()),
    ];
    let mut bodies = BTreeMap::new();
    for (id, token) in wrong {
        let answer = ask(&stage, id, &token).await;
        assert_eq!(answer.status(), 401, "{id}");
        assert_eq!(upstream.attempts(id), 0);
        let error: Value = serde_json::from_slice(&answer.body).unwrap();
        bodies.insert(error["error"].to_string(), id);
    }
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    // A key is still one.
    assert_eq!(ask(&stage, "key", CALLER).await.status(), 200);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_else_a_token_names_comes_on_the_terms_of_one_caller_and_counts_by_itself() {
    let signer = Signer::new();
    let issuer = issuer(set(&[signer.key("one")])).await;
    let (stage, _upstream) = stage(&address(&issuer), ", as: team, caller: sub").await;
    for (id, name, status) in [
        ("a1", "anna", 200),
        ("a2", "anna", 200),
        ("a3", "anna", 429),
        ("b1", "bert", 200),
    ] {
        let answer = ask(&stage, id, &signer.token("one", name)).await;
        assert_eq!(answer.status(), status, "{id}");
        assert_eq!(stage.line(id).await["caller"], name);
    }
    stage.stop().await;
}

/// C19: who could not be checked is not told that it is nobody.
#[tokio::test(flavor = "multi_thread")]
async fn while_no_keys_were_ever_fetched_a_token_is_asked_to_come_again() {
    let (signer, target) = (Signer::new(), issuer(Script::new()).await);
    let to = format!("http://{}/elsewhere", target.addr());
    let redirects = Script::new()
        .head(302, &[("location", &to)], Framing::Length(None))
        .end();
    let large = format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(1024 * 1024));
    let refusing = Refusing::bind();
    let mut issuers = Vec::new();
    for script in [
        redirects,
        Script::answer(200, "application/json", large),
        Script::answer(200, "application/json", "{\"keys\":7}"),
        Script::answer(500, "application/json", "{\"keys\":[]}"),
    ] {
        issuers.push(issuer(script).await);
    }
    let addresses = issuers.iter().map(address);
    let nobody = format!("http://{}/keys.json", refusing.addr());
    for jwks in addresses.chain([nobody]) {
        let (stage, upstream) = stage(&jwks, "").await;
        let answer = ask(&stage, "token", &signer.token("one", "team")).await;
        assert_eq!(answer.status(), 503, "{jwks}: {}", answer.text());
        assert_eq!(answer.header("tollgate-refused-by"), Some("auth"));
        assert_eq!(answer.header("retry-after"), Some("30"));
        assert_eq!(upstream.attempts("token"), 0);
        // What is no token is no key, and a key is one.
        assert_eq!(ask(&stage, "stranger", "nonsense").await.status(), 401);
        assert_eq!(ask(&stage, "key", CALLER).await.status(), 200);
        stage.stop().await;
    }
    assert_eq!(
        target.snapshot().exchanges.len(),
        0,
        "a redirect was followed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_nobody_knows_is_looked_for_once() {
    let (old, new) = (Signer::new(), Signer::new());
    let issuer = issuer(set(&[old.key("old")])).await;
    let (stage, _upstream) = stage(&address(&issuer), ", as: team").await;
    assert_eq!(
        ask(&stage, "old", &old.token("old", "anna")).await.status(),
        200
    );
    issuer.serve_default(set(&[old.key("old"), new.key("new")]));
    assert_eq!(
        ask(&stage, "new", &new.token("new", "bert")).await.status(),
        401
    );
    issuer.wait_for(|seen| seen.exchanges.len() == 2).await;
    let mut index = 0;
    until("the new key counts", async || {
        index += 1;
        let id = format!("again-{index}");
        let answer = ask(&stage, &id, &new.token("new", &id)).await;
        (answer.status() == 200).then_some(())
    })
    .await;
    // Somebody who makes names up makes nobody fetch.
    for id in ["made-up-1", "made-up-2"] {
        assert_eq!(ask(&stage, id, &new.token(id, "carl")).await.status(), 401);
    }
    assert_eq!(issuer.snapshot().exchanges.len(), 2);
    stage.stop().await;
}

/// The keys outlive a reload, also while nobody could fetch them.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_keeps_the_keys() {
    let signer = Signer::new();
    let issuer = issuer(set(&[signer.key("one")])).await;
    let (stage, upstream) = stage(&address(&issuer), ", as: team").await;
    issuer.serve_default(Script::answer(500, "text/plain", "down"));
    // Whom a claim names counts by itself, on the terms of the caller that stands for it; there it counts no more.
    assert_eq!(
        ask(&stage, "before", &signer.token("one", "anna"))
            .await
            .status(),
        200
    );
    assert_eq!(left(&stage).await, ["requests 0.5"]);
    let other = config(&upstream, &address(&issuer), ", as: keyed");
    stage.reload(&other);
    assert_eq!(left(&stage).await, ["requests 1.0"]);
    let answer = ask(&stage, "after", &signer.token("one", "anna")).await;
    assert_eq!(answer.status(), 200);
    // On the terms of the other caller, which has no limit.
    assert_eq!(answer.header("ratelimit-policy"), None);
    assert_eq!(issuer.snapshot().exchanges.len(), 1);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_fetched_by_https_from_whom_the_system_trusts() {
    let signer = Signer::new();
    let ((trusted, ca), (foreign, _)) = (Upstream::start_tls().await, Upstream::start_tls().await);
    let upstream = Upstream::start().await;
    for issuer in [&trusted, &foreign] {
        issuer.serve_default(set(&[signer.key("one")]));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (roots, file) = (
        folder.path().join("ca.pem"),
        folder.path().join("tollgate.yaml"),
    );
    fs::write(&roots, &ca.0).expect("written");
    for (issuer, status) in [(&trusted, 200), (&foreign, 503)] {
        let jwks = format!("https://{}/keys.json", issuer.addr());
        fs::write(&file, config(&upstream, &jwks, "")).expect("written");
        let roots = roots.to_str().expect("a path of ours is text");
        let program = serve(&file).env("SSL_CERT_FILE", roots).start();
        let bearer = format!("Bearer {}", signer.token("one", "team"));
        let headers = [("authorization", bearer.as_str())];
        let answer = call(program.data().await, "POST", CHAT, &headers, BODY).await;
        assert_eq!(answer.status(), status, "{}", shown(&answer));
        let said = program.terminate().await.err;
        assert_eq!(said.contains("cannot be fetched"), status == 503, "{said}");
    }
}
