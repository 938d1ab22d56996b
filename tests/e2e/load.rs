//! What a crowd does to the others: clients that take nothing, that send nothing, that send nonsense, and a bug of our own.
//!
//! The sizes are such that a debug build takes seconds; `TOLLGATE_LONG=1` runs the numbers that are promised, and needs
//! some 12,000 descriptors. Times are printed and never asserted.

mod burst;
mod differential;
mod heads;
mod idle;
mod panics;
mod slow;
mod slowhttp;

use std::{fs, net::SocketAddr, time::Duration};

use tempfile::tempdir;

use crate::{
    binary::{Program, serve},
    harness::Certificates,
};

/// `small`, or `full` in a long run.
pub(crate) fn scale(small: usize, full: usize) -> usize {
    if tollgate_testing::long() {
        full
    } else {
        small
    }
}

/// How long a wait may take; met only by a failing test.
fn patience() -> Duration {
    Duration::from_secs(scale(60, 300) as u64)
}

/// The text of a file with one provider, which takes every model; `limits` are keys of `server.limits`.
fn config(upstream: SocketAddr, limits: &str) -> String {
    crate::inside::one(
        upstream,
        &format!("server: {{ workers: 2, limits: {{ {limits} }} }}"),
    )
}

/// The program before one provider.
async fn program(upstream: SocketAddr, limits: &str) -> Program {
    started(&config(upstream, limits)).await
}

/// The same behind TLS.
async fn program_tls(upstream: SocketAddr, limits: &str, files: &Certificates) -> Program {
    let tls = files.tls();
    let server = format!("server: {{ workers: 2, limits: {{ {limits} }}, {tls} }}");
    started(&crate::inside::one(upstream, &server)).await
}

async fn started(config: &str) -> Program {
    let folder = tempdir().expect("a temporary folder");
    let file = folder.path().join("load.yaml");
    fs::write(&file, config).expect("written");
    let program = serve(&file).start();
    // The file may go when it has been read.
    program.data().await;
    program
}
