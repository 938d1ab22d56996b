//! Tokens that name callers: who signs them, and where the keys are.

use tollgate_middleware::{auth::jwt::Algorithm, hygiene::is_loopback};

use super::decode::{Decoder, is_word, parsed};
use super::nearest::nearest;
use super::tree::Node;
use super::types::{Caller, Jwt};
use super::value::{shown, shown_node};

const PATH: &str = "layers.auth.jwt";

/// What the map says; `None` for `off`, without it, and where something is wrong with it.
pub(crate) fn decode(
    decoder: &mut Decoder<'_, '_, '_>,
    node: Option<&Node>,
    callers: &[Caller],
) -> Option<Jwt> {
    let node = node.filter(|node| !is_word(Some(node), "off"))?;
    let texts = ["issuer", "audience", "caller"].map(|key| text(decoder, node, key));
    let [issuer, audience, caller] = texts;
    let algorithms = algorithms(decoder, node);
    let stands_for = stands_for(decoder, node, callers);
    if callers.is_empty() {
        let message = "the gateway has no callers whom a token could name";
        let remedy = "list them under `callers`; those whom only tokens name need no key there";
        decoder.error(node.at, PATH, message, remedy);
    }
    Some(Jwt {
        jwks: jwks(decoder, node)?,
        issuer: issuer?,
        audience: audience?,
        algorithms,
        caller: caller.unwrap_or_else(|| "sub".to_owned()),
        stands_for,
    })
}

/// A text that says something.
fn text(decoder: &mut Decoder<'_, '_, '_>, node: &Node, key: &str) -> Option<String> {
    let node = node.member(key)?;
    let text = node.text()?;
    if text.is_empty() {
        let path = format!("{PATH}.{key}");
        decoder.error(node.at, &path, format!("`{path}` is empty"), "");
    }
    Some(text.to_owned())
}

/// Whoever can change the document on its way makes callers: https, or this machine.
fn jwks(decoder: &mut Decoder<'_, '_, '_>, node: &Node) -> Option<http::Uri> {
    let uri: http::Uri = parsed(Some(node), "jwks", |text| {
        text.parse().map_err(|_| String::new())
    })?;
    let authority = uri.authority()?.as_str();
    let wrong = if authority.contains('@') {
        "`layers.auth.jwt.jwks` names a user"
    } else if uri.scheme_str() == Some("https")
        || uri.scheme_str() == Some("http") && is_loopback(authority.as_bytes())
    {
        return Some(uri);
    } else {
        "`layers.auth.jwt.jwks` is not fetched by `https`"
    };
    let remedy = "write `https://host/path`; `http` is for this machine only";
    let at = node.member("jwks").map_or(node.at, |node| node.at);
    decoder.error(at, "layers.auth.jwt.jwks", wrong, remedy);
    None
}

fn algorithms(decoder: &mut Decoder<'_, '_, '_>, node: &Node) -> Vec<Algorithm> {
    let path = format!("{PATH}.algorithms");
    let Some(list) = node.member("algorithms") else {
        return Vec::new();
    };
    let known = Algorithm::ALL.map(Algorithm::as_str);
    let remedy = format!("one or more of {}", known.join(", "));
    if list.items().is_empty() {
        decoder.error(list.at, &path, format!("`{path}` is empty"), &remedy);
    }
    let mut all = Vec::new();
    for item in list.items() {
        let Some(word) = item.text() else { continue };
        match Algorithm::ALL.into_iter().find(|it| it.as_str() == word) {
            Some(algorithm) => all.push(algorithm),
            None if word.starts_with("HS") => {
                let message = format!("`{path}` does not take {}", shown_node(item));
                let remedy =
                    format!("a shared secret has no place in a set of public keys: {remedy}");
                decoder.error(item.at, &path, message, remedy);
            }
            None => {
                let message = format!("`{path}` does not take {}", shown_node(item));
                decoder.error(item.at, &path, message, &remedy);
            }
        }
    }
    all
}

fn stands_for(
    decoder: &mut Decoder<'_, '_, '_>,
    node: &Node,
    callers: &[Caller],
) -> Option<String> {
    let node = node.member("as")?;
    let name = node.text()?;
    if !callers.is_empty() && !callers.iter().any(|it| it.name == name) {
        let message = format!("there is no caller {}", shown_node(node));
        let near = nearest(name, callers.iter().map(|it| it.name.as_str()));
        let remedy = near.map_or_else(
            || "`as` is the name of one of `callers`".to_owned(),
            |near| format!("did you mean {}?", shown(near)),
        );
        decoder.error(node.at, &format!("{PATH}.as"), message, remedy);
    }
    Some(name.to_owned())
}
