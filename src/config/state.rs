//! Where processes share what they count.

use std::time::Duration;

use tollgate_middleware::store::OnError;

use super::decode::{Decoder, is_word, parsed};
use super::tree::Node;
use super::types::Shared;
use super::value;

/// How long an answer may take unless the file says otherwise.
const TIMEOUT: Duration = Duration::from_millis(20);

/// The shared store, if the file names one.
pub(crate) fn redis(decoder: &mut Decoder<'_, '_, '_>, root: &Node) -> Option<Shared> {
    let node = root.member("state").and_then(|it| it.member("redis"))?;
    let at = node.member("url")?;
    let url = decoder.secret(at, "state.redis.url")?;
    if !reads(url.expose()) {
        decoder.error(
            at.at,
            "state.redis.url",
            "`state.redis.url` is no address of Redis",
            "write `redis://host:port/db`, `rediss://` with TLS, or `unix:///path`",
        );
        return None;
    }
    if cfg!(not(feature = "redis")) {
        decoder.error(
            node.at,
            "state.redis",
            "this program was built without Redis",
            "build it with the feature `redis`, or remove `state.redis`",
        );
        return None;
    }
    Some(Shared {
        url,
        timeout: parsed(Some(node), "timeout", value::duration).unwrap_or(TIMEOUT),
        replicas: parsed(Some(node), "replicas", |text| {
            text.parse().map_err(|_| String::new())
        })?,
        on_error: if is_word(node.member("on_error"), "refuse") {
            OnError::Refuse
        } else {
            OnError::Local
        },
    })
}

#[cfg(feature = "redis")]
fn reads(url: &str) -> bool {
    use tollgate_middleware::store::redis::{Redis, Settings};
    let settings = Settings {
        timeout: TIMEOUT,
        replicas: 1,
        on_error: OnError::Local,
    };
    Redis::new(url, settings).is_ok()
}

#[cfg(not(feature = "redis"))]
fn reads(_: &str) -> bool {
    true
}
