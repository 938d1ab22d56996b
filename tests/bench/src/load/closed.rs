//! Closed loop: every connection sends its next request as soon as it has its answer.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{Call, Exchange, Faults, PATIENCE, lock};
use crate::BoxError;
use crate::procfs;

/// What was counted within the window.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Answers that ended within the window.
    pub(crate) answers: u64,
    /// Bytes of body that arrived within the window.
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    /// CPU time of the watched processes.
    pub(crate) cpu_micros: u64,
    /// From the first byte sent to the last byte read, in nanoseconds, one for each answer.
    pub(crate) latencies: Vec<u64>,
    pub(crate) faults: Faults,
}

/// Runs the load from one thread for `warm` and then for `window`, in which it counts.
///
/// # Errors
///
/// Only if the runtime cannot be built; failed exchanges are counted.
pub(crate) fn run(
    call: &Call,
    connections: usize,
    warm: Duration,
    window: Duration,
    watched: &[u32],
) -> io::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tally = Arc::new(Tally::default());
    let outcome = runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for _ in 0..connections {
            tasks.spawn(keep_asking(call.clone(), Arc::clone(&tally)));
        }
        tokio::time::sleep(warm).await;
        let begun = Instant::now();
        let before = (
            procfs::cpu_micros(watched),
            tally.answers.load(Relaxed),
            tally.bytes.load(Relaxed),
        );
        tally.counting.store(true, Relaxed);
        tokio::time::sleep(window).await;
        tally.counting.store(false, Relaxed);
        let mut outcome = Outcome {
            seconds: begun.elapsed().as_secs_f64(),
            cpu_micros: procfs::cpu_micros(watched) - before.0,
            answers: tally.answers.load(Relaxed) - before.1,
            bytes: tally.bytes.load(Relaxed) - before.2,
            latencies: std::mem::take(&mut *lock(&tally.latencies)),
            faults: Faults::default(),
        };
        tally.stopping.store(true, Relaxed);
        let all = async { while tasks.join_next().await.is_some() {} };
        let stuck = tokio::time::timeout(PATIENCE, all).await.is_err();
        outcome.faults = lock(&tally.faults).clone();
        if stuck {
            outcome
                .faults
                .note(&"an answer that did not come to its end".into());
        }
        outcome
    });
    Ok(outcome)
}

#[derive(Debug, Default)]
struct Tally {
    answers: AtomicU64,
    bytes: AtomicU64,
    counting: AtomicBool,
    stopping: AtomicBool,
    latencies: Mutex<Vec<u64>>,
    faults: Mutex<Faults>,
}

async fn keep_asking(call: Call, tally: Arc<Tally>) {
    while !tally.stopping.load(Relaxed) {
        if let Err(fault) = connection(&call, &tally).await {
            lock(&tally.faults).note(&fault);
            // Without a pause a proxy that refuses connections would be asked in a hot loop.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Asks until the connection ends.
async fn connection(call: &Call, tally: &Tally) -> Result<(), BoxError> {
    let mut stream = TcpStream::connect(call.to).await?;
    stream.set_nodelay(true)?;
    let mut exchange = Exchange::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let begun = Instant::now();
        stream.write_all(&call.request).await?;
        loop {
            let read = stream.read(&mut buffer).await?;
            if read == 0 {
                return Err("the connection ended before the answer".into());
            }
            let before = exchange.at;
            let done = exchange.feed(&buffer[..read], &call.expected)?;
            tally
                .bytes
                .fetch_add((exchange.at - before) as u64, Relaxed);
            if done {
                break;
            }
        }
        tally.answers.fetch_add(1, Relaxed);
        if tally.counting.load(Relaxed) {
            let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
            lock(&tally.latencies).push(nanos);
        }
        if exchange.closes() || tally.stopping.load(Relaxed) {
            return Ok(());
        }
        exchange.reset();
    }
}
