//! The listeners, and what bounds their connections.

use super::{line, quoted, size, time};
use crate::config::types::{
    Admin, Connections, Expose, HeldBodies, Limits, Runtime, Server, Workers,
};

pub(super) fn server(out: &mut String, server: &Server) {
    let listen: Vec<_> = server
        .listen
        .iter()
        .map(|l| quoted(&l.to_string()))
        .collect();
    let workers = match server.workers {
        Workers::Auto => "auto".to_owned(),
        Workers::Count(n) => n.to_string(),
    };
    let per_core = server.runtime == Runtime::PerCore;
    line(out, 0, "server:");
    line(out, 1, &format!("listen: [{}]", listen.join(", ")));
    line(out, 1, &format!("workers: {workers}"));
    line(
        out,
        1,
        &format!(
            "runtime: {}",
            if per_core { "per_core" } else { "multi_thread" }
        ),
    );
    let proxies: Vec<_> = server
        .trusted_proxies
        .iter()
        .map(|network| quoted(&network.to_string()))
        .collect();
    line(
        out,
        1,
        &format!("trusted_proxies: [{}]", proxies.join(", ")),
    );
    line(
        out,
        1,
        &format!("proxy_protocol: {}", server.proxy_protocol),
    );
    if let Some(tls) = &server.tls {
        let path = |path: &std::path::Path| quoted(&path.display().to_string());
        let mut parts = vec![
            format!("cert: {}", path(&tls.cert)),
            format!("key: {}", path(&tls.key)),
        ];
        parts.extend(
            tls.client_ca
                .as_ref()
                .map(|ca| format!("client_ca: {}", path(ca))),
        );
        line(out, 1, &format!("tls: {{ {} }}", parts.join(", ")));
    }
    line(out, 1, &limits(&server.limits));
    let (delay, timeout) = (time(server.drain.delay), time(server.drain.timeout));
    line(
        out,
        1,
        &format!("drain: {{ delay: {delay}, timeout: {timeout} }}"),
    );
    let origins = server.cors.origins.iter().map(ToString::to_string);
    let any = server.cors.any.then(|| "*".to_owned());
    let origins: Vec<_> = any.into_iter().chain(origins).collect();
    let origins: Vec<_> = origins.iter().map(|it| quoted(it)).collect();
    line(
        out,
        1,
        &format!("cors: {{ origins: [{}] }}", origins.join(", ")),
    );
    let debug = server.expose == Expose::Debug;
    line(
        out,
        1,
        &format!("expose: {}", if debug { "debug" } else { "none" }),
    );
}

fn limits(l: &Limits) -> String {
    let (head, body, buffer) = (size(l.head), size(l.body), size(l.buffer));
    let (head_timeout, body_timeout) = (time(l.head_timeout), time(l.body_timeout));
    let (keep_alive, slow_reader) = (time(l.keep_alive), time(l.slow_reader));
    let held_bodies = match l.held_bodies {
        HeldBodies::Bytes(bytes) => size(bytes),
        HeldBodies::Share(hundredths) => format!("{}%", f64::from(hundredths) / 100.0),
    };
    let connections = match l.connections {
        Connections::Auto => "auto".to_owned(),
        Connections::Count(count) => count.to_string(),
    };
    format!(
        "limits: {{ head: {head}, headers: {}, head_timeout: {head_timeout}, body: {body}, body_timeout: {body_timeout}, \
         keep_alive: {keep_alive}, held_bodies: {held_bodies}, connections: {connections}, slow_reader: {slow_reader}, buffer: {buffer}, \
         target: {}, ahead: {}, handshake: {}, body_silence: {}, json_depth: {}, json_members: {}, answer_head: {}, answer_headers: {}, \
         event: {} }}",
        l.headers,
        size(l.target),
        size(l.ahead),
        time(l.handshake),
        time(l.body_silence),
        l.json_depth,
        l.json_members,
        size(l.answer_head),
        l.answer_headers,
        size(l.event)
    )
}

pub(super) fn admin(out: &mut String, admin: &Admin) {
    line(out, 0, "admin:");
    line(
        out,
        1,
        &format!("listen: {}", quoted(&admin.listen.to_string())),
    );
    if let Some(token) = &admin.token {
        line(out, 1, &format!("token: {}", quoted(&token.to_string())));
    }
}
