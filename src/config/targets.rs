//! What stands in front of a target, as the file says it.

use std::time::Duration;

use super::decode::{Decoder, is_word, number, parsed};
use super::tree::Node;
use super::types::{BreakerOverride, Share};
use super::value;

/// What a `breaker` map sets.
pub(crate) fn breaker(
    decoder: &mut Decoder<'_, '_, '_>,
    node: Option<&Node>,
    path: &str,
) -> BreakerOverride {
    let error_rate: Option<u32> = parsed(node, "error_rate", hundredths);
    if error_rate == Some(0)
        && let Some(at) = node.and_then(|node| node.member("error_rate"))
    {
        let message = "`error_rate: 0%` would open a circuit with any failure";
        let remedy = "write a larger share; `consecutive: 1` opens it with the first failure";
        decoder.error(
            at.at,
            &format!("{path}.breaker.error_rate"),
            message,
            remedy,
        );
    }
    let count = |key| parsed(node, key, count);
    let time = |key| parsed(node, key, value::duration);
    BreakerOverride {
        on: node.map(|_| !is_word(node, "off")),
        consecutive: count("consecutive"),
        error_rate,
        window: time("window"),
        min_requests: count("min_requests"),
        open_for: time("open_for"),
        probes: count("probes"),
        successes: count("successes"),
    }
}

/// What a provider runs at once; none for `off`, which is also what holds without the key.
pub(crate) fn share(node: Option<&Node>) -> Option<Share> {
    Some(Share {
        max: parsed(node, "max", number)?,
        queue: parsed(node, "queue", number).unwrap_or(256),
        wait: parsed(node, "wait", value::duration).unwrap_or(Duration::from_secs(2)),
    })
}

fn count(text: &str) -> Result<u32, String> {
    number(text).map(|it| u32::try_from(it).unwrap_or(u32::MAX))
}

/// A percentage in hundredths of a percent.
fn hundredths(text: &str) -> Result<u32, String> {
    // At most 10,000: a percentage is at most 100.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a percentage lies between 0 and 100"
    )]
    value::percent(text).map(|it| (it * 100.0).round() as u32)
}
