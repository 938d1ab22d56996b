//! One worker: its accept loops, its connections, its part of the drain.

use std::{
    future::poll_fn,
    io::{self, ErrorKind},
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use hyper::server::conn::http1::Builder;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};

use super::{
    Common, Limits, Refuse, Stacks, Stage, Tally,
    connection::{self, Shared},
    registry::Registry,
    service::Stack,
    stream::{Acceptor, Socket},
};
use crate::listen::Listener;

/// A worker that accepts.
pub(super) struct Worker {
    accepting: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    registry: Arc<Registry>,
}

/// One accept loop.
struct Loop<S> {
    acceptor: Acceptor,
    stack: S,
    builder: Builder,
    limits: Limits,
    registry: Arc<Registry>,
    tally: Tally,
    room: Arc<Semaphore>,
    refuse: Refuse,
}

impl Worker {
    /// Makes the stack and begins to accept. Inside the worker's runtime.
    pub(super) fn new<T: Stacks>(
        index: usize,
        common: &Common<T>,
        listeners: Vec<Listener>,
    ) -> io::Result<Self> {
        let stack = common.stacks.stack(index);
        let refuse = common.stacks.refuse(index);
        let registry = Arc::new(Registry::default());
        let (stop, stopped) = watch::channel(false);
        let limits = common.settings.limits;
        let mut accepting = Vec::with_capacity(listeners.len());
        for listener in listeners {
            let accept = Loop {
                acceptor: Acceptor::new(listener)?,
                stack: stack.clone(),
                builder: builder(limits),
                limits,
                registry: registry.clone(),
                tally: common.tally.clone(),
                room: common.room.clone(),
                refuse: refuse.clone(),
            };
            accepting.push(spawn(accept.run(stopped.clone())));
        }
        spawn(sweep(common.stacks.clone(), stack));
        Ok(Self {
            accepting,
            stop,
            registry,
        })
    }

    /// Serves until a drain is over; returns the number of answers that were cut.
    pub(super) async fn run<T: Stacks>(self, common: &Common<T>) -> usize {
        let drain = common.settings.drain;
        let mut stage = common.stage.clone();
        // Nobody is left who could begin a drain: serve on.
        if stage
            .wait_for(|stage| *stage >= Stage::Drain)
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
        or_hurry(&mut stage, sleep(drain.delay), Duration::ZERO).await;
        self.stop.send_replace(true);
        for accepting in self.accepting {
            // A loop that panicked accepts no more either.
            let _ = accepting.await;
        }
        self.registry.finish();
        let window = timeout(drain.timeout, self.registry.empty());
        or_hurry(&mut stage, window, HURRY).await;
        let cut = self.registry.cut();
        let _ = timeout(LAST_WORDS, self.registry.empty()).await;
        cut
    }
}

/// Waits for `wait`; once hurried, for at most `rest` more.
async fn or_hurry<F: Future>(stage: &mut watch::Receiver<Stage>, wait: F, rest: Duration) {
    let mut wait = pin!(wait);
    tokio::select! {
        _ = &mut wait => return,
        hurried = stage.wait_for(|stage| *stage >= Stage::Hurry) => {
            if hurried.is_err() {
                // Nobody is left who could hurry.
                wait.await;
                return;
            }
        }
    }
    let _ = timeout(rest, wait).await;
}

/// Once a second, as long as the worker lives.
async fn sweep<T: Stacks>(stacks: Arc<T>, stack: T::Stack) {
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        stacks.sweep(&stack);
    }
}

fn builder(limits: Limits) -> Builder {
    let mut builder = Builder::new();
    builder
        // A connection has clocks of its own: this one would also run between two requests.
        .header_read_timeout(None)
        .half_close(false)
        .keep_alive(!limits.keep_alive.is_zero())
        // `wire` has judged the head: hyper only has to have room for it.
        .max_headers(limits.headers)
        .max_header_size(limits.head)
        .max_buf_size(limits.buffer.max(limits.head).max(HYPER_BUFFER));
    builder
}

#[expect(
    clippy::disallowed_methods,
    reason = "the server is who spawns in the binary"
)]
fn spawn(work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(work)
}

// ===== impl Loop =====

impl<S> Loop<S>
where
    S: Stack<Future: Send> + Send + 'static,
    S::ResBody: Send,
{
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        // The methods borrow mutably, so that a stack need not be `Sync`.
        let mut stopped = pin!(stopped.wait_for(|stop| *stop));
        loop {
            let accepted = tokio::select! {
                biased;
                _ = &mut stopped => break,
                accepted = self.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer, room)) => self.serve(socket, peer, room),
                Err(error) => self.failed(&error).await,
            }
        }
        // What waits to be accepted has been promised to its client by the kernel.
        while let (Some((socket, peer)), Ok(room)) =
            (self.waiting().await, self.room.clone().try_acquire_owned())
        {
            self.serve(socket, peer, room);
        }
    }

    /// The next connection, and room for it. The room comes second: a loop to which nobody
    /// connects holds none.
    async fn accept(&mut self) -> io::Result<(Socket, Option<SocketAddr>, OwnedSemaphorePermit)> {
        let (socket, peer) = poll_fn(|cx| self.acceptor.poll_accept(cx)).await?;
        let room = self.room.clone().acquire_owned().await;
        Ok((socket, peer, room.map_err(io::Error::other)?))
    }

    /// A connection that is there already.
    async fn waiting(&mut self) -> Option<(Socket, Option<SocketAddr>)> {
        poll_fn(|cx| match self.acceptor.poll_accept(cx) {
            Poll::Ready(Ok(accepted)) => Poll::Ready(Some(accepted)),
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    fn serve(&self, socket: Socket, peer: Option<SocketAddr>, room: OwnedSemaphorePermit) {
        self.tally.connection_accepted();
        let shared = Arc::new(Shared::of(peer, self.refuse.clone()));
        let entry = self
            .registry
            .clone()
            .enter(shared.clone(), self.tally.clone(), room);
        let limits = self.limits;
        let stack = self.stack.clone();
        let http = connection::open(&self.builder, socket, stack, &shared, limits.wire());
        spawn(connection::serve(http, shared, limits, entry));
    }

    /// No error ends the loop. A connection that is gone again is nothing; when descriptors or
    /// memory are short, some come back as connections end.
    async fn failed(&mut self, error: &io::Error) {
        self.tally.accept_failed();
        if !matches!(
            error.kind(),
            ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted
        ) {
            tracing::warn!(%error, "cannot accept a connection");
            sleep_until(Instant::now() + PAUSE).await;
        }
    }
}

/// What is left of a drain window that is shortened.
const HURRY: Duration = Duration::from_secs(5);
/// How long answers that are cut have to say so to their clients.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Wait before the next attempt to accept.
const PAUSE: Duration = Duration::from_millis(50);
/// hyper's least `max_buf_size`; it panics below.
const HYPER_BUFFER: usize = 8192;
