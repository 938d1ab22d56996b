//! The running server from outside: readiness, counts, drain, end.

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    thread,
};

use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
};

use crate::listen::Address;

/// Whether the server wants traffic. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicU8>);

/// What the accept loops count, and what runs on the workers. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    closed: AtomicU64,
    failed: AtomicU64,
    // One of each worker. Locked when a worker begins and when somebody looks.
    runtimes: Mutex<Vec<runtime::Handle>>,
}

/// The running server. Dropping it leaves the server running.
#[derive(Debug)]
pub struct Handle {
    pub(super) addresses: Vec<Address>,
    pub(super) control: Control,
    pub(super) tally: Tally,
    /// Closed when the last worker has ended.
    pub(super) ended: mpsc::Receiver<Infallible>,
    pub(super) workers: Vec<thread::JoinHandle<usize>>,
}

/// Begins the drain from anywhere. Clones are the same.
#[derive(Clone, Debug)]
pub struct Control {
    pub(super) stage: Arc<watch::Sender<Stage>>,
    pub(super) readiness: Readiness,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Answers that were running when the drain window was over.
    pub cut: usize,
    /// Workers that ended by a panic.
    pub lost: usize,
}

/// What the workers are to do; later stages are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Serve,
    Drain,
    Hurry,
}

// ===== impl Handle =====

impl Handle {
    /// The addresses, with the ports that the system chose, in the order of
    /// [`Settings::listen`](super::Settings::listen).
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// What the accept loops count.
    pub fn tally(&self) -> Tally {
        self.tally.clone()
    }

    /// Begins the drain from elsewhere.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Begins the drain; the second call shortens what is left of it to five seconds.
    pub fn drain(&self) {
        self.control.advance();
    }

    /// Waits until every worker has ended. Blocks the thread; somebody has to begin the drain.
    pub fn join(self) -> Outcome {
        let mut outcome = Outcome { cut: 0, lost: 0 };
        for worker in self.workers {
            match worker.join() {
                Ok(cut) => outcome.cut += cut,
                Err(_) => outcome.lost += 1,
            }
        }
        outcome
    }

    /// Serves until SIGTERM or SIGINT has begun the drain and it is over; a second signal shortens
    /// it. Blocks the thread.
    ///
    /// Signals are counted for themselves: the first one after a drain that was begun otherwise
    /// shortens nothing, so that a hook may begin the drain before the signal comes. `reload` is
    /// called at each SIGHUP, if the signals hold it; it must not block.
    pub fn run(mut self, signals: Signals, reload: impl Fn()) -> Outcome {
        let Signals {
            runtime,
            mut term,
            mut int,
            mut hup,
        } = signals;
        let control = self.control.clone();
        let mut ends = 0_u32;
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = term.recv() => ends += 1,
                    _ = int.recv() => ends += 1,
                    _ = next(&mut hup) => {
                        reload();
                        continue;
                    }
                    _ = self.ended.recv() => return,
                }
                if ends == 1 {
                    tracing::info!("a signal asks for the end: draining");
                    control.begin();
                } else {
                    tracing::info!("another signal: what runs has five seconds");
                    control.hurry();
                }
            }
        });
        self.join()
    }
}

/// Waits for a signal; for ever where it is not caught.
async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// SIGTERM and SIGINT, and SIGHUP if that is wanted, caught from the moment at which this is made.
///
/// Made before the listeners: a signal that comes as soon as somebody can connect is not lost.
#[derive(Debug)]
pub struct Signals {
    runtime: runtime::Runtime,
    term: Signal,
    int: Signal,
    hup: Option<Signal>,
}

impl Signals {
    /// Catches the signals that end the server. SIGHUP ends the process, as when its terminal is closed.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn catch() -> io::Result<Self> {
        Self::caught(false)
    }

    /// Catches SIGHUP too, which asks for a reload.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn catch_with_reload() -> io::Result<Self> {
        Self::caught(true)
    }

    fn caught(reload: bool) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let inside = runtime.enter();
        let term = signal(SignalKind::terminate())?;
        let int = signal(SignalKind::interrupt())?;
        let hup = if reload {
            Some(signal(SignalKind::hangup())?)
        } else {
            None
        };
        drop(inside);
        Ok(Self {
            runtime,
            term,
            int,
            hup,
        })
    }
}

// ===== impl Control =====

impl Control {
    /// Begins the drain, if it has not begun.
    pub fn begin(&self) {
        self.to(Stage::Drain);
    }

    /// Begins the drain; shortens it if it has begun.
    pub fn advance(&self) {
        let next = match *self.stage.borrow() {
            Stage::Serve => Stage::Drain,
            Stage::Drain | Stage::Hurry => Stage::Hurry,
        };
        self.to(next);
    }

    /// Begins the drain if it has not begun, and shortens it to five seconds.
    pub fn hurry(&self) {
        self.to(Stage::Hurry);
    }

    /// Whether the server wants traffic.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    fn to(&self, next: Stage) {
        self.readiness.set(DRAINING);
        self.stage.send_if_modified(|stage| {
            let later = next > *stage;
            *stage = next.max(*stage);
            later
        });
    }
}

// ===== impl Readiness =====

impl Readiness {
    /// Not ready yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether each worker accepts connections and no drain has begun.
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Relaxed) == READY
    }

    /// `starting`, `ready` or `draining`.
    pub fn as_str(&self) -> &'static str {
        match self.0.load(Ordering::Relaxed) {
            READY => "ready",
            DRAINING => "draining",
            _ => "starting",
        }
    }

    /// A later state stays.
    pub(super) fn set(&self, state: u8) {
        self.0.fetch_max(state, Ordering::Relaxed);
    }
}

pub(super) const READY: u8 = 1;
pub(super) const DRAINING: u8 = 2;

// ===== impl Tally =====

impl Tally {
    /// Connections accepted since the start.
    pub fn accepted(&self) -> u64 {
        self.0.accepted.load(Ordering::Relaxed)
    }

    /// Connections open now.
    pub fn open(&self) -> u64 {
        // Read first what follows the other, so that the difference is never negative.
        let closed = self.0.closed.load(Ordering::Acquire);
        self.accepted().saturating_sub(closed)
    }

    /// Failed attempts to accept: no descriptors left, connections that were gone again.
    pub fn failed(&self) -> u64 {
        self.0.failed.load(Ordering::Relaxed)
    }

    /// Tasks that run on the workers: one for each connection, and a few for each worker.
    pub fn tasks(&self) -> usize {
        let runtimes = self.0.runtimes.lock();
        let runtimes = runtimes.unwrap_or_else(PoisonError::into_inner);
        let alive = runtimes.iter().map(|it| it.metrics().num_alive_tasks());
        alive.sum()
    }

    pub(super) fn runs_on(&self, runtime: runtime::Handle) {
        let runtimes = self.0.runtimes.lock();
        let mut runtimes = runtimes.unwrap_or_else(PoisonError::into_inner);
        runtimes.push(runtime);
    }

    pub(super) fn connection_accepted(&self) {
        self.0.accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn connection_closed(&self) {
        self.0.closed.fetch_add(1, Ordering::Release);
    }

    pub(super) fn accept_failed(&self) {
        self.0.failed.fetch_add(1, Ordering::Relaxed);
    }
}
