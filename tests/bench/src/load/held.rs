//! Many streams held open at once, each with an event now and then, to see what one of them occupies.

use std::future::pending;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Call, Exchange, Faults, PATIENCE, lock};
use crate::BoxError;
use crate::procfs;

/// Memory of the watched processes before the streams were opened and while they were held, in bytes.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) before: u64,
    pub(crate) held: u64,
    pub(crate) faults: Faults,
}

/// Opens `streams` streams, waits until each has had its first event and `hold` longer, and drops them.
///
/// # Errors
///
/// If the runtime cannot be built; what happens to a stream is counted.
pub(crate) fn run(
    call: &Call,
    streams: usize,
    hold: Duration,
    watched: &[u32],
) -> io::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tally = Arc::new(Tally::default());
    let before = procfs::resident(watched);
    let held = runtime.block_on(async {
        for index in 0..streams {
            tokio::spawn(hold_one(call.clone(), Arc::clone(&tally)));
            // Some backlogs hold only a few hundred connections that are not accepted yet.
            if index % 20 == 19 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let begun = Instant::now();
        while tally.begun.load(Relaxed) < streams && begun.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(hold).await;
        procfs::resident(watched)
    });
    let mut faults = lock(&tally.faults).clone();
    let missing = streams - tally.begun.load(Relaxed).min(streams);
    if missing > 0 {
        faults.note(&format!("{missing} streams without a first event").into());
    }
    Ok(Outcome {
        before,
        held,
        faults,
    })
}

#[derive(Debug, Default)]
struct Tally {
    /// Streams that had their first event.
    begun: AtomicUsize,
    faults: Mutex<Faults>,
}

async fn hold_one(call: Call, tally: Arc<Tally>) {
    match read_all(&call, &tally).await {
        Ok(()) => pending().await,
        Err(fault) => lock(&tally.faults).note(&fault),
    }
}

async fn read_all(call: &Call, tally: &Tally) -> Result<(), BoxError> {
    let mut stream = TcpStream::connect(call.to).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&call.request).await?;
    let mut exchange = Exchange::new();
    let mut buffer = vec![0; 4096];
    let mut begun = false;
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Err("the connection ended within the stream".into());
        }
        let done = exchange.feed(&buffer[..read], &call.expected)?;
        if !begun && exchange.has_first_event(&call.expected) {
            begun = true;
            tally.begun.fetch_add(1, Relaxed);
        }
        if done {
            return Err("the stream ended although it was to be held".into());
        }
    }
}
