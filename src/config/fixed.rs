//! Which keys a reload cannot change.

use super::types::{Admin, Config, Limits, Log, Server, State, Telemetry};

/// The keys in which two configurations differ and that only a start can change: listeners are bound,
/// threads made and the log opened once. Everything else a reload can change.
#[must_use]
pub fn fixed(before: &Config, after: &Config) -> Vec<&'static str> {
    // Taken apart as a whole: whoever adds a key has to decide.
    let Config {
        server,
        admin,
        telemetry,
        state: State { dir, redis },
        // Of these each generation has its own stacks.
        providers: _,
        callers: _,
        aliases: _,
        routes: _,
        layers: _,
        // In the sink of each generation.
        prices: _,
    } = before;
    let Server {
        listen,
        workers,
        runtime,
        trusted_proxies,
        proxy_protocol,
        tls,
        limits,
        // Read when the drain begins.
        drain: _,
        // In the stack.
        expose: _,
        cors: _,
    } = server;
    let Limits {
        connections,
        held_bodies,
        // Taken by connections that are accepted later,
        head: _,
        headers: _,
        head_timeout: _,
        keep_alive: _,
        slow_reader: _,
        buffer: _,
        target: _,
        ahead: _,
        handshake: _,
        // and these by the stack.
        body: _,
        body_timeout: _,
        body_silence: _,
        json_depth: _,
        json_members: _,
        answer_head: _,
        answer_headers: _,
        event: _,
    } = limits;
    let Admin {
        listen: admin_listen,
        // Compared when it is presented.
        token: _,
    } = admin;
    let Telemetry {
        log: Log { to },
        // What has a label keeps it.
        metrics: _,
        webhook,
    } = telemetry;
    let differ = [
        ("telemetry.webhook", *webhook != after.telemetry.webhook),
        ("server.listen", *listen != after.server.listen),
        ("server.workers", *workers != after.server.workers),
        ("server.runtime", *runtime != after.server.runtime),
        (
            "server.proxy_protocol",
            *proxy_protocol != after.server.proxy_protocol,
        ),
        (
            // Otherwise the stack alone has them.
            "server.trusted_proxies",
            *proxy_protocol && *trusted_proxies != after.server.trusted_proxies,
        ),
        (
            // Another certificate is put in force; another kind of listener is not.
            "server.tls",
            tls.is_some() != after.server.tls.is_some(),
        ),
        (
            "server.limits.connections",
            *connections != after.server.limits.connections,
        ),
        (
            "server.limits.held_bodies",
            *held_bodies != after.server.limits.held_bodies,
        ),
        ("admin.listen", *admin_listen != after.admin.listen),
        ("telemetry.log.to", *to != after.telemetry.log.to),
        ("state.dir", *dir != after.state.dir),
        ("state.redis", *redis != after.state.redis),
    ];
    let differing = differ.into_iter().filter(|(_, differs)| *differs);
    differing.map(|(key, _)| key).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Inputs, load};
    use super::*;

    fn config(more: &str) -> Config {
        let text = format!("version: 1\nproviders: {{ mock: {{ dialect: mock }} }}\n{more}");
        let inputs = Inputs {
            env: &|_| None,
            read: &|_| Err(std::io::ErrorKind::NotFound.into()),
            listen: None,
            admin: None,
        };
        let loaded = load(&text, "t.yaml", &inputs);
        loaded
            .unwrap_or_else(|problems| panic!("{problems}"))
            .config
    }

    #[test]
    fn only_what_is_made_once_is_fixed() {
        let before = config("");
        for (more, keys) in [
            ("", &[][..]),
            ("server: { listen: 127.0.0.1:1 }", &["server.listen"]),
            ("server: { workers: 7 }", &["server.workers"]),
            ("server: { runtime: multi_thread }", &["server.runtime"]),
            (
                "server: { limits: { connections: 77 } }",
                &["server.limits.connections"],
            ),
            (
                "server: { limits: { held_bodies: 1MiB } }",
                &["server.limits.held_bodies"],
            ),
            ("admin: { listen: 127.0.0.1:1 }", &["admin.listen"]),
            ("telemetry: { log: { to: stderr } }", &["telemetry.log.to"]),
            ("state: { dir: d }", &["state.dir"]),
            (
                "state: { redis: { url: \"redis://h\", replicas: 2 } }",
                &["state.redis"],
            ),
            (
                "server: { proxy_protocol: true }",
                &["server.proxy_protocol"],
            ),
            ("server: { trusted_proxies: [] }", &[]),
            (
                "server: { tls: { cert: c.pem, key: k.pem } }",
                &["server.tls"],
            ),
            (
                "server: { listen: 127.0.0.1:1, workers: 2 }\nadmin: { listen: 127.0.0.1:2 }",
                &["server.listen", "server.workers", "admin.listen"],
            ),
            (
                "server: { limits: { head: 16KiB, body: 1MiB }, drain: { timeout: 1s }, expose: debug }\n\
                 admin: { token: t }\naliases: { a: echo }\nlayers: { timeout: { idle: 1s } }",
                &[],
            ),
        ] {
            assert_eq!(fixed(&before, &config(more)), keys, "{more}");
        }
    }
}
