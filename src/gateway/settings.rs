//! What of a configuration the server, the admin listener and the workers are told.

use std::fs;

use tollgate_middleware::body::Room;

use crate::{
    config::{self, Config, Listen},
    connect::TlsError,
    listen::Address,
    server::{self, Flavor, Greeting, Settings, Tls, Trusted},
};

/// The token of the admin listener.
pub(crate) fn token(config: &Config) -> Option<String> {
    let token = config.admin.token.as_ref()?;
    Some(token.expose().to_owned())
}

/// The certificate of the data listeners, if the configuration names one.
pub(crate) fn tls(config: &Config) -> Result<Option<Tls>, TlsError> {
    config.server.tls.as_ref().map(Tls::new).transpose()
}

/// How the server is to run, but for its certificate, which is read by [`tls`].
pub(crate) fn settings(config: &Config) -> Settings {
    let server = &config.server;
    let workers = match server.workers {
        config::Workers::Auto => server::available_workers(),
        config::Workers::Count(count) => count,
    };
    Settings {
        listen: server.listen.iter().map(address).collect(),
        workers,
        flavor: match server.runtime {
            config::Runtime::PerCore => Flavor::PerCore,
            config::Runtime::MultiThread => Flavor::MultiThread,
        },
        limits: server::Limits {
            head: usize::try_from(server.limits.head).unwrap_or(usize::MAX),
            headers: server.limits.headers,
            target: usize::try_from(server.limits.target).unwrap_or(usize::MAX),
            ahead: usize::try_from(server.limits.ahead).unwrap_or(usize::MAX),
            handshake: server.limits.handshake,
            head_timeout: server.limits.head_timeout,
            keep_alive: server.limits.keep_alive,
            slow_reader: Some(server.limits.slow_reader),
            buffer: usize::try_from(server.limits.buffer).unwrap_or(usize::MAX),
            connections: match server.limits.connections {
                config::Connections::Auto => connections(),
                config::Connections::Count(count) => count,
            },
        },
        greeting: Greeting {
            proxies: server
                .proxy_protocol
                .then(|| Trusted::new(&server.trusted_proxies)),
            tls: None,
        },
        drain: server::Drain {
            delay: server.drain.delay,
            timeout: server.drain.timeout,
        },
    }
}

/// Room of a worker's own, for one that has none yet.
pub(crate) fn room(config: &Config) -> Room {
    Room::new(held_bodies(config))
}

/// Bytes of request bodies that may be held at once.
pub(super) fn held_bodies(config: &Config) -> u64 {
    match config.server.limits.held_bodies {
        config::HeldBodies::Bytes(bytes) => bytes,
        config::HeldBodies::Share(hundredths) => memory() / 10_000 * u64::from(hundredths),
    }
}

/// The memory that this process may use: what its control group (version 2 or 1) allows, or what the machine has.
fn memory() -> u64 {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let groups = read("/proc/self/cgroup");
    let mut limits: Vec<u64> = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (kinds, path) = (parts.next().unwrap_or_default(), parts.next());
        let path = path.unwrap_or_default().trim_end_matches('/');
        let file = match kinds {
            "" => format!("/sys/fs/cgroup{path}/memory.max"),
            kinds if kinds.split(',').any(|kind| kind == "memory") => {
                format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes")
            }
            _ => continue,
        };
        limits.extend(read(&file).trim().parse::<u64>());
    }
    // Inside a container its own group stands at the root.
    limits.extend(read("/sys/fs/cgroup/memory.max").trim().parse::<u64>());
    let machine = read("/proc/meminfo");
    let machine = machine
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let machine = machine.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    // Where nothing tells, a small machine is meant.
    let machine = machine.map_or(1 << 30, |kib| kib << 10);
    limits.into_iter().fold(machine, u64::min)
}

/// Half of the descriptors that this process may open, after 64 for itself: a request needs two.
fn connections() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    // Where there is no such file, the customary soft limit.
    let soft = soft
        .and_then(|limit| limit.parse().ok())
        .unwrap_or(1024_usize);
    (soft.saturating_sub(64) / 2).max(16)
}

pub(crate) fn address(listen: &Listen) -> Address {
    match listen {
        Listen::Tcp(address) => Address::from(*address),
        Listen::Unix(path) => Address::Unix(path.clone()),
    }
}
