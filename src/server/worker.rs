//! One worker: its accept loops, its connections, its part of the drain.

use std::{
    future::poll_fn,
    io::{self, ErrorKind},
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};

use super::{
    Common, Limits, Stacks, Stage, Tally,
    connection::{self, Answer, Shared, Start},
    greeting::Greeting,
    registry::Registry,
    renew::Place,
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
    /// Accepted, and there is no room for it yet.
    pending: Option<Accepted>,
    place: Arc<Place<S>>,
    bounds: Bounds,
    greeting: Greeting,
    stop: watch::Receiver<bool>,
    registry: Arc<Registry>,
    tally: Tally,
    room: Arc<Semaphore>,
    refuse: Answer,
    /// Failures since the last connection.
    failures: u32,
    shortage: Option<Shortage>,
}

/// That connections could not be accepted, which was told.
struct Shortage {
    failures: u32,
    last: Instant,
}

type Accepted = (Socket, Option<SocketAddr>);

/// What holds for the connections that are accepted now.
struct Bounds {
    generation: u64,
    limits: Limits,
}

impl Worker {
    /// Makes the stack and begins to accept. Inside the worker's runtime.
    pub(super) fn new<T: Stacks>(
        index: usize,
        common: &Common<T>,
        listeners: Vec<Listener>,
    ) -> io::Result<Self> {
        let first = common.stacks.stack(index);
        let place = Arc::new(Place::new(common.stacked.clone(), index, first));
        let (refuse, stacked) = (common.stacks.refuse(index), common.stacked.clone());
        let refuse = refuse.with(move || stacked.number());
        let registry = Arc::new(Registry::default());
        let (stop, stopped) = watch::channel(false);
        let mut accepting = Vec::with_capacity(listeners.len());
        for listener in listeners {
            let acceptor = Acceptor::new(listener)?;
            let accept = Loop {
                pending: None,
                bounds: Bounds::of(&place),
                place: place.clone(),
                greeting: common.settings.greeting.clone(),
                stop: stopped.clone(),
                registry: registry.clone(),
                tally: common.tally.clone(),
                room: common.room.clone(),
                refuse: refuse.clone(),
                failures: 0,
                shortage: None,
            };
            accepting.push(spawn(accept.run(acceptor, stopped.clone())));
        }
        spawn(sweep(common.stacks.clone(), place));
        Ok(Self {
            accepting,
            stop,
            registry,
        })
    }

    /// Serves until a drain is over; returns the number of answers that were cut.
    pub(super) async fn run<T: Stacks>(self, common: &Common<T>) -> usize {
        let mut stage = common.stage.clone();
        // Nobody is left who could begin a drain: serve on.
        if stage
            .wait_for(|stage| *stage >= Stage::Drain)
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
        let drain = common.stacked.drain();
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
async fn sweep<T: Stacks>(stacks: Arc<T>, place: Arc<Place<T::Stack>>) {
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        // Not kept between two sweeps: a reload is to free it.
        stacks.sweep(&place.own().stack);
    }
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
    async fn run(mut self, acceptor: Acceptor, mut stopped: watch::Receiver<bool>) {
        // The methods borrow mutably, so that a stack need not be `Sync`.
        let mut stopped = pin!(stopped.wait_for(|stop| *stop));
        loop {
            let accepted = tokio::select! {
                biased;
                _ = &mut stopped => break,
                accepted = self.accept(&acceptor) => accepted,
            };
            match accepted {
                Ok((accepted, room)) => self.serve(accepted, room),
                Err(error) => self.failed(&error).await,
            }
        }
        self.finish(acceptor);
    }

    /// The next connection, and room for it. The room comes second: a loop to which nobody
    /// connects holds none. What was accepted is kept if this is dropped.
    async fn accept(
        &mut self,
        acceptor: &Acceptor,
    ) -> io::Result<(Accepted, OwnedSemaphorePermit)> {
        if self.pending.is_none() {
            self.pending = Some(poll_fn(|cx| acceptor.poll_accept(cx)).await?);
        }
        let room = self.room.clone().acquire_owned().await;
        let room = room.map_err(io::Error::other)?;
        let accepted = self.pending.take();
        accepted
            .map(|accepted| (accepted, room))
            .ok_or_else(|| ErrorKind::Interrupted.into())
    }

    /// What waits to be accepted has been promised to its client by the kernel: it is served before
    /// the listener closes. Beyond the limit of connections it is not.
    fn finish(mut self, acceptor: Acceptor) {
        if let Some(accepted) = self.pending.take()
            && let Ok(room) = self.room.clone().try_acquire_owned()
        {
            self.serve(accepted, room);
        }
        // Asked of the kernel itself: the runtime may not have heard yet of what came last.
        let Ok(waiting) = acceptor.into_waiting() else {
            return;
        };
        while let Ok(room) = self.room.clone().try_acquire_owned() {
            match waiting.accept() {
                Ok(accepted) => self.serve(accepted, room),
                Err(error) if is_gone(&error) => {}
                Err(_) => break,
            }
        }
    }

    fn serve(&mut self, (socket, peer): Accepted, room: OwnedSemaphorePermit) {
        self.failures = 0;
        // At the limit, each connection that ends lets one in before the next one fails: that is
        // one shortage, not many.
        if let Some(over) = self.shortage.take_if(|it| it.last.elapsed() >= CALM) {
            tracing::info!(failures = over.failures, "connections are accepted again");
        }
        self.bounds.follow(&self.place);
        self.tally.connection_accepted();
        let shared = Arc::new(Shared::of(peer, self.refuse.clone()));
        let entry = self
            .registry
            .clone()
            .enter(shared.clone(), self.tally.clone(), room);
        let (place, limits) = (self.place.clone(), self.bounds.limits);
        let known = shared.clone();
        let start = move |socket| Start {
            socket,
            place,
            shared,
            limits,
        };
        let Some(greeting) = self.greeting.with(peer) else {
            spawn(connection::serve(start(socket), entry));
            return;
        };
        let mut stop = self.stop.clone();
        let late = async move {
            let _ = stop.wait_for(|stop| *stop).await;
            sleep(LAST_GREETING).await;
        };
        spawn(async move {
            // Boxed: its room is free again when HTTP begins.
            let met = Box::pin(greeting.meet(socket, &known.conn, &limits));
            let met = tokio::select! {
                met = met => met,
                () = late => None,
            };
            if let Some(socket) = met {
                connection::serve(start(socket), entry).await;
            }
        });
    }

    /// No error ends the loop. A connection that is gone again is nothing; when descriptors or
    /// memory are short, some come back as connections end.
    async fn failed(&mut self, error: &io::Error) {
        self.tally.accept_failed();
        if is_gone(error) {
            return;
        }
        // Told once: it may go on for hours.
        let shortage = self.shortage.get_or_insert_with(|| {
            tracing::warn!(%error, "cannot accept connections; trying on");
            let last = Instant::now();
            Shortage { failures: 0, last }
        });
        shortage.failures = shortage.failures.saturating_add(1);
        shortage.last = Instant::now();
        let pause = PAUSE * (1 << self.failures.min(LONGER));
        self.failures = self.failures.saturating_add(1);
        sleep_until(Instant::now() + pause).await;
    }
}

/// Whether only this one connection failed, and the next one may be there already.
fn is_gone(error: &io::Error) -> bool {
    // accept(2): pending errors of the new socket come as errors of the call.
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::Interrupted
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::NetworkUnreachable
            | ErrorKind::TimedOut
    )
}

// ===== impl Bounds =====

impl Bounds {
    fn of<S: Clone>(place: &Place<S>) -> Self {
        let (generation, limits) = place.stacked().limits();
        Self { generation, limits }
    }

    /// A reload may have set others.
    fn follow<S: Clone>(&mut self, place: &Place<S>) {
        if self.generation != place.stacked().number() {
            *self = Self::of(place);
        }
    }
}

/// What is left of a drain window that is shortened.
const HURRY: Duration = Duration::from_secs(5);
/// How long answers that are cut have to say so to their clients: less than two seconds, so that the program is gone two
/// seconds after the window also where a client takes nothing.
const LAST_WORDS: Duration = Duration::from_millis(1500);
/// Wait before the next attempt to accept; it doubles with each failure,
const PAUSE: Duration = Duration::from_millis(25);
/// so many times: to 0.4 s.
const LONGER: u32 = 4;
/// How long no accept has failed when a shortage is over: longer than the longest wait.
const CALM: Duration = Duration::from_secs(1);
/// How long a drain waits for what comes before HTTP: of a client that takes longer nobody has heard yet.
const LAST_GREETING: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
