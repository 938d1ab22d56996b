//! What the transport below and the layers above tell each other about one client connection.
//!
//! [`Conn`] is made where a connection is accepted, kept by the IO wrapper below the HTTP server
//! (`wire`), and put into the extensions of each request. The layer that owns endings (`seal`)
//! reads it. Both work without: a request that carries no `Conn` came over a transport that can
//! acknowledge nothing.

use std::{
    net::SocketAddr,
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

/// The handle of one client connection. Cheap to clone; all clones are the same connection.
#[derive(Clone, Debug, Default)]
pub struct Conn(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Who is at the other end.
    peer: Option<SocketAddr>,
    /// Whose connection it is, by the word of a proxy at the other end.
    behind: OnceLock<SocketAddr>,
    /// How often everything written so far has reached the socket.
    flushes: AtomicU64,
    /// Somebody waits for the next one.
    awaited: AtomicBool,
    waiting: Mutex<Option<Waker>>,
    /// A request is being answered.
    answering: AtomicBool,
    /// The transport keeps something back until it is answered.
    kept_back: AtomicBool,
    reader: Mutex<Option<Waker>>,
    cut: AtomicU8,
    /// Somebody keeps back what has come of the answer.
    withholding: AtomicBool,
    reset: AtomicBool,
}

/// A request is being answered, as long as this lives. Made by [`Conn::answer`].
#[derive(Debug)]
pub struct Answering(Conn);

impl Drop for Answering {
    fn drop(&mut self) {
        let state = &*self.0.0;
        // With `wake_after_answer`: each side writes its word before it reads the other's.
        state.answering.store(false, Ordering::SeqCst);
        if state.kept_back.load(Ordering::SeqCst)
            && state.kept_back.swap(false, Ordering::SeqCst)
            && let Some(waker) = lock(&state.reader).take()
        {
            waker.wake();
        }
    }
}

/// Something of the running answer may be kept back, as long as this lives. Made by [`Conn::withhold`].
#[derive(Debug)]
pub struct Withholding(Conn);

impl Withholding {
    /// Whether the answer is to be ended: then what is kept back is to come before anything else, and behind it the end.
    pub fn is_over(&self) -> bool {
        self.0.asked_to_cut().is_some()
    }
}

impl Drop for Withholding {
    fn drop(&mut self) {
        self.0.0.withholding.store(false, Ordering::Release);
    }
}

impl Deref for Answering {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        &self.0
    }
}

fn lock(waker: &Mutex<Option<Waker>>) -> MutexGuard<'_, Option<Waker>> {
    waker.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a running answer is to be ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The drain window is over.
    Drain,
    /// The client took nothing for too long.
    SlowReader,
}

impl Conn {
    /// A handle for a connection that was just accepted.
    pub fn new() -> Self {
        Self::default()
    }

    /// A handle for a connection from `peer`; `None` over a unix socket.
    pub fn of(peer: Option<SocketAddr>) -> Self {
        Self(Arc::new(State {
            peer,
            ..State::default()
        }))
    }

    /// Who is at the other end, or behind a trusted proxy there; `None` over a unix socket, or where
    /// nobody said.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.0.behind.get().copied().or(self.0.peer)
    }

    /// Said where a connection is accepted, before its first request: the other end is a trusted
    /// proxy, and it names `client`. The first word counts.
    pub fn comes_from(&self, client: SocketAddr) {
        let _ = self.0.behind.set(client);
    }

    /// Says that a request is being answered, until the guard is dropped: it is to ride in the answer's body. Until
    /// then the transport keeps back what the client sends behind the request.
    pub fn answer(&self) -> Answering {
        self.0.answering.store(true, Ordering::Release);
        Answering(self.clone())
    }

    /// Whether somebody has said that a request is being answered.
    pub fn is_answering(&self) -> bool {
        self.0.answering.load(Ordering::Acquire)
    }

    /// Said by the transport: it keeps something back. The task is woken when the answer has ended; false if it has
    /// already.
    pub fn wake_after_answer(&self, waker: &Waker) -> bool {
        *lock(&self.0.reader) = Some(waker.clone());
        self.0.kept_back.store(true, Ordering::SeqCst);
        self.0.answering.load(Ordering::SeqCst)
    }

    /// Said by the transport: everything that was written to it has reached the socket.
    pub fn flushed(&self) {
        // With `poll_flushed`: each side writes its word before it reads the other's, so one of them sees.
        self.0.flushes.fetch_add(1, Ordering::SeqCst);
        if self.0.awaited.load(Ordering::SeqCst)
            && self.0.awaited.swap(false, Ordering::SeqCst)
            && let Some(waker) = self.waiting().take()
        {
            waker.wake();
        }
    }

    /// A mark of the present: what is written after it is on the socket once
    /// [`poll_flushed`](Self::poll_flushed) is ready for it.
    pub fn mark(&self) -> u64 {
        self.0.flushes.load(Ordering::Acquire)
    }

    /// Ready once a flush has completed after `mark` was taken. One task waits at a time.
    pub fn poll_flushed(&self, mark: u64, cx: &mut Context<'_>) -> Poll<()> {
        if self.mark() > mark {
            return Poll::Ready(());
        }
        *self.waiting() = Some(cx.waker().clone());
        self.0.awaited.store(true, Ordering::SeqCst);
        // A flush between the check and the store would have woken nobody.
        if self.0.flushes.load(Ordering::SeqCst) > mark {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Asks that the running answer be ended. Whoever asks also wakes the task of the connection.
    pub fn cut(&self, why: Cut) {
        let word = match why {
            Cut::Drain => 1,
            Cut::SlowReader => 2,
        };
        let _ = self
            .0
            .cut
            .compare_exchange(0, word, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Whether, and why, the running answer is to be ended.
    pub fn asked_to_cut(&self) -> Option<Cut> {
        match self.0.cut.load(Ordering::Acquire) {
            1 => Some(Cut::Drain),
            2 => Some(Cut::SlowReader),
            _ => None,
        }
    }

    /// Says that what has come of the running answer may be kept back, until the guard is dropped: it is to ride in the
    /// answer's body. Before the answer is ended from outside, its body is then polled as long as it gives frames.
    pub fn withhold(&self) -> Withholding {
        self.0.withholding.store(true, Ordering::Release);
        Withholding(self.clone())
    }

    /// Whether somebody keeps back what has come of the running answer.
    pub fn is_withholding(&self) -> bool {
        self.0.withholding.load(Ordering::Acquire)
    }

    /// Asks that the transport be closed by a reset: the answer had no framing that could show
    /// that it was cut.
    pub fn reset(&self) {
        self.0.reset.store(true, Ordering::Release);
    }

    /// Whether the transport is to be closed by a reset.
    pub fn asked_to_reset(&self) -> bool {
        self.0.reset.load(Ordering::Acquire)
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Waker>> {
        lock(&self.0.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_before_the_mark_does_not_count() {
        let conn = Conn::new();
        conn.flushed();
        let mark = conn.mark();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(conn.poll_flushed(mark, &mut cx).is_pending());
        conn.flushed();
        assert!(conn.poll_flushed(mark, &mut cx).is_ready());
    }

    #[tokio::test]
    async fn the_waiting_task_is_woken_by_the_flush() {
        let conn = Conn::new();
        let mark = conn.mark();
        let waiting = conn.clone();
        let mut task = std::pin::pin!(std::future::poll_fn(
            move |cx| waiting.poll_flushed(mark, cx)
        ));
        let mut flush = std::pin::pin!(async { conn.flushed() });
        let first = std::future::poll_fn(|cx| Poll::Ready(task.as_mut().poll(cx).is_pending()));
        assert!(first.await);
        flush.as_mut().await;
        task.await;
    }

    #[test]
    fn a_proxy_names_the_peer_once() {
        let proxy = "127.0.0.1:9".parse().unwrap();
        let conn = Conn::of(Some(proxy));
        assert_eq!(conn.peer(), Some(proxy));
        let client = "10.9.8.7:4000".parse().unwrap();
        conn.comes_from(client);
        conn.comes_from(proxy);
        assert_eq!(conn.peer(), Some(client));
    }

    #[test]
    fn the_first_reason_to_cut_stays() {
        let conn = Conn::new();
        assert_eq!(conn.asked_to_cut(), None);
        conn.cut(Cut::SlowReader);
        conn.cut(Cut::Drain);
        assert_eq!(conn.asked_to_cut(), Some(Cut::SlowReader));
    }
}
