//! The life of one connection: HTTP, its clocks, and an end that the client can read.

use std::{
    fmt,
    future::{Future, poll_fn},
    mem,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, Sleep, sleep_until};
use tollgate_middleware::{
    conn::{Conn, Cut},
    wire::{self, Refusal, Wire},
};

use super::{
    Limits,
    renew::Place,
    service::{Requests, Stack},
    stream::{Socket, Stream},
};

/// What the task of a connection, its stream, its requests and the drain know together.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) conn: Conn,
    pub(super) phase: Phase,
    /// One more than the flushes before the end of an answer that is not on the socket yet; zero if there is none.
    unflushed: AtomicU64,
    /// The client has closed its side.
    pub(super) ended: AtomicBool,
    pub(super) lookout: Lookout,
    /// HTTP has room for more than is kept between two requests.
    grown: AtomicBool,
    /// The last request has come whole, and nothing behind it.
    whole: AtomicBool,
    refuse: Answer,
    order: AtomicU8,
    // NOTE: the waker of a spawned task stays the same for the task's life.
    waker: OnceLock<Waker>,
}

/// Whether the end of the connection has to be looked out for.
///
/// HTTP reads nothing while a request body waits for its reader, and so does not see that the client has left. All is
/// written by the task of the connection.
#[derive(Debug, Default)]
pub(super) struct Lookout {
    /// HTTP waits for bytes: the end wakes it.
    reads: AtomicBool,
    kept: AtomicBool,
}

/// Tells of a request that never became one, and gives the answer to it.
#[derive(Clone)]
pub struct Refuse(Arc<Told>);

type Told = dyn Fn(u64, &Refusal) -> Vec<u8> + Send + Sync;

/// What a connection asks for the answer to what it refuses.
#[derive(Clone)]
pub(super) struct Answer(Arc<Now>);

type Now = dyn Fn(&Refusal) -> Vec<u8> + Send + Sync;

/// Hears from below the HTTP server.
pub(super) struct Below(Arc<Shared>);

/// What the drain asks of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Close between two requests.
    Finish = 1,
}

/// Where a connection stands between accept and end, with a count of the changes.
///
/// Written by the task of the connection alone, while it runs.
#[derive(Debug, Default)]
pub(super) struct Phase(AtomicU32);

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The first byte of the first head.
    Fresh,
    /// The rest of a head.
    Head,
    /// The end of an answer.
    Busy,
    /// The first byte of a later head.
    Idle,
}

/// How HTTP on a connection came to its end.
enum End {
    /// By agreement: the client has read the last answer, or will.
    Done,
    /// Between two requests, by our wish.
    Idle,
    /// By an error on either side: an answer may be broken off.
    Broken,
    /// A head did not come in time; `told` if everything written before it has left.
    Late { told: bool },
}

/// A connection and the service of its requests.
type Connection<S> = http1::Connection<TokioIo<Wire<Stream, Below>>, Requests<S>>;

/// HTTP on a connection. Made when the first byte has come: one that is never used costs its task and its socket.
enum Http<S: Stack> {
    Waiting(Box<Start<S>>),
    Open(Box<Connection<S>>),
    /// Ended by our wish before the first byte.
    Over,
}

/// What HTTP is made of.
pub(super) struct Start<S> {
    pub(super) socket: Socket,
    pub(super) place: Arc<Place<S>>,
    pub(super) shared: Arc<Shared>,
    pub(super) limits: Limits,
}

/// Serves a connection that was just accepted to its end; `entry` is let go of when the socket is closed.
// Not an `async fn`: that keeps room for an argument and for the local that it becomes.
pub(super) fn serve<S: Stack, E>(start: Start<S>, entry: E) -> impl Future<Output = ()> {
    let (shared, limits) = (start.shared.clone(), start.limits);
    let mut http = Http::Waiting(Box::new(start));
    async move {
        let end = {
            let mut clock = pin!(sleep_until(Instant::now() + limits.head_timeout));
            let mut run = Run::new(&shared, &limits, clock.deadline());
            poll_fn(|cx| run.poll(&mut http, clock.as_mut(), cx)).await
        };
        if let Http::Open(http) = http {
            let wire = http.into_parts().io.into_inner();
            // Boxed: its buffers would have their room in the task from the start.
            Box::pin(close(wire, &shared, &end)).await;
        }
        drop(entry);
    }
}

/// Closes the socket so that the client can read what was written to it.
async fn close(mut wire: Wire<Stream, Below>, shared: &Shared, end: &End) {
    // What a client does not take is not kept for it any longer, in the kernel either.
    let slow = shared.conn.asked_to_cut() == Some(Cut::SlowReader);
    if shared.conn.asked_to_reset() || slow {
        wire.get_ref().reset_on_close();
        return;
    }
    if let End::Late { told: true } = end {
        wire.refuse(&Refusal::slow());
    }
    let nothing_to_read = shared.ended.load(Ordering::Relaxed) || matches!(end, End::Idle);
    if !nothing_to_read {
        wire::close(wire).await;
    }
}

/// The state of [`serve`] between two polls.
struct Run<'a> {
    shared: &'a Shared,
    limits: &'a Limits,
    seen: u32,
    deadline: Option<Instant>,
    /// When a connection without a request may be closed by our wish.
    linger: Option<Instant>,
    finishing: bool,
}

impl<'a> Run<'a> {
    fn new(shared: &'a Shared, limits: &'a Limits, deadline: Instant) -> Self {
        Self {
            shared,
            limits,
            seen: shared.phase.load(),
            deadline: Some(deadline),
            linger: None,
            finishing: false,
        }
    }

    fn poll<S>(
        &mut self,
        http: &mut Http<S>,
        mut clock: Pin<&mut Sleep>,
        cx: &mut Context<'_>,
    ) -> Poll<End>
    where
        S: Stack,
    {
        self.shared.waker.get_or_init(|| cx.waker().clone());
        loop {
            let mark = self.shared.conn.mark();
            if let Poll::Ready(end) = http.poll(cx) {
                return Poll::Ready(self.ended(end));
            }
            self.shared.settle();
            let kind = self.shared.phase.kind();
            if kind == Kind::Idle && !self.finishing && self.shared.may_shrink() {
                http.renew(self.limits);
                continue;
            }
            if kind == Kind::Busy && self.shared.lookout.begins() {
                // HTTP flushes its stream in each poll, and the stream looks out when it does.
                continue;
            }
            if self.shared.asked_to_finish() && !self.finishing {
                match kind {
                    // A head that has begun to arrive is answered first.
                    Kind::Head => {}
                    Kind::Busy => {
                        self.finish(http);
                        continue;
                    }
                    // So is one that was sent before its client could know: it may wait unread.
                    Kind::Fresh | Kind::Idle => {
                        self.linger.get_or_insert_with(|| Instant::now() + LINGER);
                    }
                }
            }
            ready!(self.poll_clock(clock.as_mut(), cx));
            match kind {
                Kind::Idle | Kind::Fresh if !self.finishing => {
                    self.finish(http);
                    // Should the client take nothing of what is left, that ends at once.
                    self.deadline = Some(Instant::now());
                }
                Kind::Head | Kind::Fresh => {
                    // HTTP flushes only when its own buffer is empty.
                    let told = kind == Kind::Head && self.shared.conn.mark() > mark;
                    return Poll::Ready(End::Late { told });
                }
                Kind::Busy | Kind::Idle => return Poll::Ready(End::Broken),
            }
        }
    }

    fn finish<S>(&mut self, http: &mut Http<S>)
    where
        S: Stack,
    {
        self.finishing = true;
        http.finish();
    }

    fn ended(&self, end: hyper::Result<()>) -> End {
        self.shared.settle();
        match end {
            Ok(()) if self.finishing && !self.shared.phase.is_busy() => End::Idle,
            Ok(()) => End::Done,
            Err(error) => {
                tracing::debug!(%error, "connection ended by an error");
                End::Broken
            }
        }
    }

    /// Ready when the connection has waited too long for what it waits for.
    ///
    /// The timer is moved only when it would fire too late; when it fires too early it is moved
    /// on. So a busy connection moves it once per `keep_alive`, not twice per request.
    fn poll_clock(&mut self, mut clock: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
        self.follow();
        let Some(deadline) = self.due() else {
            return Poll::Pending;
        };
        if clock.deadline() > deadline || clock.is_elapsed() {
            clock.as_mut().reset(deadline);
        }
        loop {
            ready!(clock.as_mut().poll(cx));
            if clock.deadline() >= deadline {
                return Poll::Ready(());
            }
            clock.as_mut().reset(deadline);
        }
    }

    /// When the connection has waited too long.
    fn due(&self) -> Option<Instant> {
        match Phase::kind_of(self.seen) {
            Kind::Fresh | Kind::Idle => self.deadline.into_iter().chain(self.linger).min(),
            Kind::Head | Kind::Busy => self.deadline,
        }
    }

    /// Sets the deadline anew if the phase has changed.
    fn follow(&mut self) {
        let now = self.shared.phase.load();
        if now == self.seen {
            return;
        }
        let first_head = Phase::kind_of(self.seen) == Kind::Fresh && Phase::follows(now, self.seen);
        self.seen = now;
        self.deadline = match Phase::kind_of(now) {
            Kind::Busy => None,
            // The clock of the first head runs from accept.
            Kind::Head if first_head => self.deadline,
            Kind::Fresh | Kind::Head => Some(Instant::now() + self.limits.head_timeout),
            Kind::Idle => Some(Instant::now() + self.limits.keep_alive),
        };
    }
}

// ===== impl Http =====

impl<S: Stack> Http<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        loop {
            match self {
                Self::Open(http) => return Pin::new(&mut **http).poll(cx),
                Self::Over => return Poll::Ready(Ok(())),
                Self::Waiting(start) => {
                    ready!(start.socket.poll_first(cx));
                    if let Self::Waiting(start) = mem::replace(self, Self::Over) {
                        *self = Self::Open(start.open());
                    }
                }
            }
        }
    }

    /// Lets go of what HTTP has kept to read a large body into. Only between two requests: nothing is half read or written
    /// then.
    fn renew(&mut self, limits: &Limits) {
        if let Self::Open(http) = mem::replace(self, Self::Over) {
            let http1::Parts { io, service, .. } = http.into_parts();
            *self = Self::Open(Box::new(limits.http().serve_connection(io, service)));
        }
    }

    /// Ends between two requests.
    fn finish(&mut self) {
        match self {
            Self::Open(http) => Pin::new(&mut **http).graceful_shutdown(),
            Self::Waiting(_) | Self::Over => *self = Self::Over,
        }
    }
}

// ===== impl Start =====

impl<S: Stack> Start<S> {
    // Boxed: the task keeps room for it more than once otherwise.
    fn open(self) -> Box<Connection<S>> {
        let Self {
            socket,
            place,
            shared,
            limits,
        } = self;
        let stream = Stream::new(socket, shared.clone());
        let below = Below(shared.clone());
        let wire = Wire::with(stream, shared.conn.clone(), limits.wire(), below);
        let requests = Requests::new(place, shared, limits.window());
        Box::new(limits.http().serve_connection(TokioIo::new(wire), requests))
    }
}

// ===== impl Shared =====

impl Shared {
    /// What is shared of a connection from `peer`; `None` over a unix socket.
    pub(super) fn of(peer: Option<SocketAddr>, refuse: Answer) -> Self {
        Self {
            conn: Conn::of(peer),
            refuse,
            ..Self::default()
        }
    }

    /// So many bytes were read at once.
    pub(super) fn has_read(&self, bytes: usize) {
        if bytes > KEPT {
            self.grown.store(true, Ordering::Relaxed);
        }
    }

    /// Whether HTTP keeps more than it needs, and could do without it now; asked once.
    fn may_shrink(&self) -> bool {
        let may = self.grown.load(Ordering::Relaxed) && self.whole.load(Ordering::Relaxed);
        if may {
            self.grown.store(false, Ordering::Relaxed);
        }
        may
    }

    /// The body of an answer has ended: the connection is busy until the end of it has been written, too.
    pub(super) fn answer_ended(&self) {
        let flushes = self.conn.mark().wrapping_add(1);
        self.unflushed.store(flushes, Ordering::Relaxed);
    }

    /// An answer that has been written is over.
    fn settle(&self) {
        let flushes = self.unflushed.load(Ordering::Relaxed);
        if flushes != 0 && self.conn.mark() >= flushes {
            self.unflushed.store(0, Ordering::Relaxed);
            self.phase.answer_ended();
        }
    }

    /// The first byte of a head has come, perhaps before the last answer was written.
    fn head_begins(&self) {
        if self.unflushed.load(Ordering::Relaxed) != 0 {
            self.unflushed.store(0, Ordering::Relaxed);
            self.phase.answer_ended();
        }
        self.phase.bytes_came();
    }

    /// Gives an order and wakes the task.
    pub(super) fn order(&self, order: Order) {
        // With `Run::poll`: each side writes its word before it reads the other's.
        self.order.store(order as u8, Ordering::SeqCst);
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    pub(super) fn asked_to_finish(&self) -> bool {
        self.order.load(Ordering::SeqCst) == Order::Finish as u8
    }
}

// ===== impl Lookout =====

impl Lookout {
    /// HTTP has asked for bytes; `waits` if there are none.
    pub(super) fn asked(&self, waits: bool) {
        self.reads.store(waits, Ordering::Relaxed);
        if waits {
            self.kept.store(false, Ordering::Relaxed);
        }
    }

    /// Whether the stream has to look out.
    pub(super) fn is_kept(&self) -> bool {
        self.kept.load(Ordering::Relaxed)
    }

    /// True if it has to from now on.
    fn begins(&self) -> bool {
        let begins = !self.reads.load(Ordering::Relaxed) && !self.is_kept();
        if begins {
            self.kept.store(true, Ordering::Relaxed);
        }
        begins
    }
}

// ===== impl Phase =====

impl Phase {
    /// Bytes were read.
    pub(super) fn bytes_came(&self) {
        if matches!(self.kind(), Kind::Fresh | Kind::Idle) {
            self.enter(Kind::Head);
        }
    }

    /// A whole head was read.
    pub(super) fn request_began(&self) {
        self.enter(Kind::Busy);
    }

    /// The body of the answer has ended.
    pub(super) fn answer_ended(&self) {
        self.enter(Kind::Idle);
    }

    /// Whether a request is being answered.
    pub(super) fn is_busy(&self) -> bool {
        self.kind() == Kind::Busy
    }

    fn enter(&self, kind: Kind) {
        let count = self.load() >> 2;
        let next = count.wrapping_add(1) << 2 | kind as u32;
        self.0.store(next, Ordering::Relaxed);
    }

    fn load(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    fn kind(&self) -> Kind {
        Self::kind_of(self.load())
    }

    fn kind_of(value: u32) -> Kind {
        match value & 3 {
            0 => Kind::Fresh,
            1 => Kind::Head,
            2 => Kind::Busy,
            _ => Kind::Idle,
        }
    }

    /// Whether `later` is the very next change after `earlier`.
    fn follows(later: u32, earlier: u32) -> bool {
        (later >> 2).wrapping_sub(earlier >> 2) == 1
    }
}

// ===== impl Refuse =====

impl Refuse {
    /// `refuse` is called once for a connection at most, at its end, with the generation that is in force.
    pub fn new(refuse: impl Fn(u64, &Refusal) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self(Arc::new(refuse))
    }

    pub(super) fn with(self, generation: impl Fn() -> u64 + Send + Sync + 'static) -> Answer {
        Answer(Arc::new(move |refusal| (self.0)(generation(), refusal)))
    }
}

impl Default for Refuse {
    /// Tells nobody; the answer has no name.
    fn default() -> Self {
        Self::new(|_, refusal| refusal.answer(None))
    }
}

impl fmt::Debug for Refuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refuse").finish_non_exhaustive()
    }
}

// ===== impl Answer =====

impl Default for Answer {
    fn default() -> Self {
        Refuse::default().with(|| 0)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}

// ===== impl Below =====

impl wire::Watch for Below {
    fn head_begins(&mut self) {
        self.0.head_begins();
    }

    fn has_read(&mut self, whole: bool) {
        self.0.whole.store(whole, Ordering::Relaxed);
    }

    fn refused(&mut self, refusal: &Refusal) -> Vec<u8> {
        (self.0.refuse.0)(refusal)
    }
}

/// Bytes that HTTP may keep to read into between two requests.
const KEPT: usize = 32 * 1024;
/// How long a connection without a request is kept open after it was asked to finish: what its client
/// has sent is read before a timer of this length fires.
const LINGER: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
