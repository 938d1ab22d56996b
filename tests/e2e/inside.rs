//! A gateway in this process, and its request log as the lines come.

use std::{
    fs,
    io::{self, Write},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::Value;
use tollgate::{
    config::{self, Config, Inputs},
    gateway::Gateway,
    listen::Address,
    server::Outcome,
    telemetry::log::Sink,
};

use crate::binary::until;

/// A running gateway. Its drain begins when this is dropped.
#[derive(Debug)]
pub(crate) struct Inside {
    pub(crate) gateway: Option<Gateway>,
    log: Log,
}

/// What was written to the request log.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

/// The configuration of a file, on ports that the system chooses.
pub(crate) fn config(text: &str) -> Config {
    let inputs = Inputs {
        env: &|_| None,
        read: &|path| fs::read_to_string(path),
        listen: Some("127.0.0.1:0"),
        admin: Some("127.0.0.1:0"),
    };
    let loaded = config::load(text, "test.yaml", &inputs);
    loaded
        .unwrap_or_else(|problems| panic!("{problems}"))
        .config
}

/// The text of a file with one provider, named `one`, that takes every model by the route `all`.
pub(crate) fn one(upstream: SocketAddr, more: &str) -> String {
    format!(
        "version: 1\n{more}\n\
         providers: {{ one: {{ dialect: openai, base_url: http://{upstream}/v1, credentials: [] }} }}\n\
         routes: [{{ name: all, match: {{}}, targets: [one] }}]\n"
    )
}

impl Inside {
    pub(crate) fn start(config: &Config) -> Self {
        let log = Log::default();
        let gateway = Gateway::start_with(config, Sink::writer(log.clone()));
        let gateway = gateway.unwrap_or_else(|error| panic!("{error}"));
        Self {
            gateway: Some(gateway),
            log,
        }
    }

    fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().expect("it runs until it is stopped")
    }

    pub(crate) fn data(&self) -> SocketAddr {
        port(&self.gateway().addresses()[0])
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        port(self.gateway().admin_address())
    }

    /// Begins the drain.
    pub(crate) fn drain(&self) {
        self.gateway().control().begin();
    }

    /// Begins the drain and waits for its end.
    pub(crate) async fn stop(mut self) -> Outcome {
        let gateway = self.gateway.take().expect("it runs until it is stopped");
        let stopped = tokio::task::spawn_blocking(move || gateway.stop()).await;
        stopped.expect("a stop does not panic")
    }

    /// Waits for so many lines of the request log.
    pub(crate) async fn lines(&self, count: usize) -> Vec<Value> {
        until("lines of the request log", async || {
            let text = self.log_text();
            let lines = text.lines().filter(|line| !line.is_empty());
            let lines: Vec<_> = lines
                .filter_map(|line| serde_json::from_str(line).ok())
                .collect();
            (lines.len() >= count).then_some(lines)
        })
        .await
    }

    /// What was written to the request log.
    pub(crate) fn log_text(&self) -> String {
        let log = self.log.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8(log.clone()).expect("a log is UTF-8")
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let Some(gateway) = &self.gateway {
            gateway.control().begin();
        }
    }
}

fn port(address: &Address) -> SocketAddr {
    address.socket_addr().expect("a TCP listener")
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
