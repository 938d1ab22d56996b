//! The listeners of a file and how they serve.

use std::collections::HashSet;
use std::path::PathBuf;

use tollgate_middleware::{hygiene::is_loopback, origin::OriginPattern};

use super::decode::{Decoder, is_word, number, parsed};
use super::problem::At;
use super::tree::{Node, Value};
use super::types::{
    Access, Admin, Connections, Cors, Drain, Expose, HeldBodies, Limits, Listen, Runtime, Server,
    ServerTls, Workers,
};
use super::value::{self, shown, shown_node};

/// The data listener. It must be local unless the gateway is open: without callers nobody else may come in.
pub(crate) fn decode(
    decoder: &mut Decoder<'_, '_, '_>,
    node: Option<&Node>,
    access: Access,
) -> Server {
    let default = Server::default();
    let member = |key| node.and_then(|n| n.member(key));
    let workers = match member("workers").and_then(Node::text) {
        Some(text) if text != "auto" => text.parse().map_or(default.workers, Workers::Count),
        _ => default.workers,
    };
    let per_core = !is_word(member("runtime"), "multi_thread");
    let drain = member("drain");
    let limits = limits(member("limits"), default.limits);
    Server {
        listen: listen(decoder, member("listen"), default.listen, access),
        workers,
        runtime: if per_core {
            Runtime::PerCore
        } else {
            Runtime::MultiThread
        },
        trusted_proxies: match member("trusted_proxies") {
            Some(list) => list
                .items()
                .iter()
                .filter_map(|item| item.text()?.parse().ok())
                .collect(),
            None => default.trusted_proxies,
        },
        proxy_protocol: is_word(member("proxy_protocol"), "true"),
        tls: tls(decoder, member("tls")),
        limits,
        drain: Drain {
            delay: parsed(drain, "delay", value::duration).unwrap_or(default.drain.delay),
            timeout: parsed(drain, "timeout", value::duration).unwrap_or(default.drain.timeout),
        },
        cors: cors(decoder, member("cors"), access),
        expose: if is_word(member("expose"), "debug") {
            Expose::Debug
        } else {
            Expose::None
        },
    }
}

/// The admin listener. It is local or has a token, and never shares the data listener's address.
pub(crate) fn admin(
    decoder: &mut Decoder<'_, '_, '_>,
    node: Option<&Node>,
    data: &[Listen],
) -> Admin {
    let member = |key| node.and_then(|n| n.member(key));
    let token = member("token").and_then(|n| decoder.secret(n, "admin.token"));
    let token = token.filter(|t| !t.expose().is_empty());
    let (at, path) = match (decoder.inputs.admin, member("listen")) {
        (Some(_), _) => (At::NOWHERE, "--admin"),
        (None, written) => (written.map_or(At::NOWHERE, |n| n.at), "admin.listen"),
    };
    let listen = match decoder.inputs.admin {
        Some(text) => flag(decoder, text, "--admin"),
        None => member("listen")
            .and_then(Node::text)
            .and_then(|t| value::listen(t).ok()),
    };
    let listen = listen.unwrap_or_else(|| Admin::default().listen);
    if !listen.is_local() && token.is_none() {
        let message = format!(
            "the admin listener on `{listen}` can be reached from other machines and has no token"
        );
        decoder.error(
            at,
            path,
            message,
            "listen on 127.0.0.1, or set `admin.token`",
        );
    }
    if data.contains(&listen) && !chosen_by_system(&listen) {
        let message = format!("`{listen}` is the data listener's address too");
        decoder.error(at, path, message, "the admin listener needs its own");
    }
    Admin { listen, token }
}

fn listen(
    decoder: &mut Decoder<'_, '_, '_>,
    node: Option<&Node>,
    default: Vec<Listen>,
    access: Access,
) -> Vec<Listen> {
    if let Some(text) = decoder.inputs.listen {
        let listen = flag(decoder, text, "--listen");
        if let Some(listen) = &listen {
            not_public(decoder, listen, access, At::NOWHERE, "--listen");
        }
        return listen.into_iter().collect();
    }
    let Some(node) = node else { return default };
    let is_list = matches!(node.value, Value::List(_));
    let (mut all, mut seen) = (Vec::new(), HashSet::new());
    for (i, item) in node.one_or_many().iter().enumerate() {
        let Some(Ok(listen)) = item.text().map(value::listen) else {
            continue;
        };
        let index = if is_list {
            format!("[{i}]")
        } else {
            String::new()
        };
        let path = format!("server.listen{index}");
        if !seen.insert(listen.clone()) && !chosen_by_system(&listen) {
            decoder.error(
                item.at,
                &path,
                format!("two listeners on `{listen}`"),
                "remove one",
            );
        }
        not_public(decoder, &listen, access, item.at, &path);
        all.push(listen);
    }
    if is_list && node.items().is_empty() {
        let remedy = "write at least one, or remove the key";
        decoder.error(
            node.at,
            "server.listen",
            "`server.listen` names no address",
            remedy,
        );
    }
    all
}

/// Port 0 is another port every time.
fn chosen_by_system(listen: &Listen) -> bool {
    matches!(listen, Listen::Tcp(address) if address.port() == 0)
}

fn not_public(
    decoder: &mut Decoder<'_, '_, '_>,
    listen: &Listen,
    access: Access,
    at: At,
    path: &str,
) {
    if !listen.is_local() && !access.open {
        let message = format!(
            "`{listen}` can be reached from other machines, and nobody has to say who they are: the gateway would be open"
        );
        let remedy = "listen on 127.0.0.1, [::1] or unix:/path; or let everyone in who can connect: \
                      `layers: { auth: { open: true } }`; or say who may call: `callers`";
        decoder.error(at, path, message, remedy);
    }
}

fn flag(decoder: &mut Decoder<'_, '_, '_>, text: &str, flag: &str) -> Option<Listen> {
    let listen = value::listen(text);
    if let Err(remedy) = &listen {
        let message = format!("`{flag}` is no address: {}", shown(text));
        decoder.error(At::NOWHERE, flag, message, remedy);
    }
    listen.ok()
}

/// The listener's certificate; `None` for `off`, which is also what holds without the key.
fn tls(decoder: &mut Decoder<'_, '_, '_>, node: Option<&Node>) -> Option<ServerTls> {
    let node = node.filter(|n| !n.entries().is_empty())?;
    for entry in node.entries().iter().filter(|e| e.value.text() == Some("")) {
        decoder.error(
            entry.value.at,
            &format!("server.tls.{}", entry.key),
            format!("`server.tls.{}` is empty", entry.key),
            "write the path of a PEM file",
        );
    }
    let path = |key| node.member(key).and_then(Node::text).map(PathBuf::from);
    Some(ServerTls {
        cert: path("cert")?,
        key: path("key")?,
        client_ca: path("client_ca"),
    })
}

/// The pages that may ask. Without callers only those of this machine are served: another one would never get an answer.
fn cors(decoder: &mut Decoder<'_, '_, '_>, node: Option<&Node>, access: Access) -> Cors {
    let mut cors = Cors::default();
    let list = node.and_then(|node| node.member("origins"));
    for item in list.map_or(&[][..], Node::items) {
        let Some(text) = item.text() else { continue };
        let origin = OriginPattern::new(text);
        let served = match &origin {
            Ok(_) => access.open || is_own_page(text),
            Err(_) => access.open || text != "*",
        };
        let path = "server.cors.origins";
        match origin {
            _ if !served => {
                let message = format!(
                    "without callers only this machine is served, and no page such as {}",
                    shown_node(item)
                );
                let remedy = "say who may call: `callers`";
                decoder.error(item.at, path, message, remedy);
            }
            Ok(origin) => cors.origins.push(origin),
            Err(_) if text == "*" => cors.any = true,
            Err(error) => {
                let message = format!("`{path}` does not take {}", shown_node(item));
                decoder.error(item.at, path, message, format!("{error}; or `*`"));
            }
        }
    }
    cors
}

fn is_own_page(origin: &str) -> bool {
    let host = origin.split_once("://").map(|(_, host)| host);
    host.is_some_and(|host| is_loopback(host.as_bytes()))
}

fn held_bodies(text: &str) -> Result<HeldBodies, String> {
    if text.ends_with('%') {
        // From 0 to 100, so that it fits.
        value::percent(text).map(|percent| HeldBodies::Share((percent * 100.0).round() as u32))
    } else {
        value::size(text).map(HeldBodies::Bytes)
    }
}

fn limits(node: Option<&Node>, default: Limits) -> Limits {
    Limits {
        head: parsed(node, "head", value::size).unwrap_or(default.head),
        headers: parsed(node, "headers", number).unwrap_or(default.headers),
        head_timeout: parsed(node, "head_timeout", value::duration).unwrap_or(default.head_timeout),
        body: parsed(node, "body", value::size).unwrap_or(default.body),
        body_timeout: parsed(node, "body_timeout", value::duration).unwrap_or(default.body_timeout),
        keep_alive: parsed(node, "keep_alive", value::duration).unwrap_or(default.keep_alive),
        slow_reader: parsed(node, "slow_reader", value::duration).unwrap_or(default.slow_reader),
        buffer: parsed(node, "buffer", value::size).unwrap_or(default.buffer),
        held_bodies: parsed(node, "held_bodies", held_bodies).unwrap_or(default.held_bodies),
        // `auto` is no number.
        connections: parsed(node, "connections", number)
            .map_or(default.connections, Connections::Count),
        target: parsed(node, "target", value::size).unwrap_or(default.target),
        ahead: parsed(node, "ahead", value::size).unwrap_or(default.ahead),
        handshake: parsed(node, "handshake", value::duration).unwrap_or(default.handshake),
        body_silence: parsed(node, "body_silence", value::duration).unwrap_or(default.body_silence),
        json_depth: parsed(node, "json_depth", number).unwrap_or(default.json_depth),
        json_members: parsed(node, "json_members", number).unwrap_or(default.json_members),
        answer_head: parsed(node, "answer_head", value::size).unwrap_or(default.answer_head),
        answer_headers: parsed(node, "answer_headers", number).unwrap_or(default.answer_headers),
        event: parsed(node, "event", value::size).unwrap_or(default.event),
    }
}
