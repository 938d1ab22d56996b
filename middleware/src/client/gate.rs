//! The waker of a connection that is polled inside of somebody else's task.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

/// Keeps a connection from waking the task that is polling it.
///
/// Parts of a connection tell each other through wakers: that a request was handed over, that a head or a frame is there,
/// that there is room for the next. All of that happens inside one poll, which looks at all of it; yet each would have the
/// task polled once more, from its top. So a wake during a poll is only noted, and the connection alone is polled again if
/// that poll came to nothing. An idle connection wakes nobody.
pub(super) struct Gate {
    shared: Arc<Shared>,
    /// Wakes through `shared`; always the same, so that a transport need not be told of another one.
    inside: Waker,
    /// The one in `shared`, to be compared without its lock.
    outside: Waker,
}

struct Shared {
    state: AtomicU8,
    outside: Mutex<Waker>,
}

/// A wake goes on to the task.
const AWAY: u8 = 0;
/// A wake is noted.
const INSIDE: u8 = 1;
/// One has been.
const WOKEN: u8 = 2;
/// Nobody waits for anything.
const IDLE: u8 = 3;

/// How often one poll of the task polls its connection. A second time is rare; what wakes at each (a task that has used up
/// its share of time is told so) has to go on to the task.
const TRIES: usize = 3;

impl Gate {
    pub(super) fn new() -> Self {
        let shared = Arc::new(Shared {
            state: AtomicU8::new(IDLE),
            outside: Mutex::new(Waker::noop().clone()),
        });
        Self {
            inside: shared.clone().into(),
            outside: Waker::noop().clone(),
            shared,
        }
    }

    /// Polls for the task of `cx` what has the connection moved on, until that is ready or nothing has happened meanwhile.
    pub(super) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.admit(cx.waker());
        for _ in 0..TRIES {
            self.shared.state.store(INSIDE, Ordering::Relaxed);
            let polled = poll(&mut Context::from_waker(&self.inside));
            if polled.is_ready() {
                // Whoever has got something asks for more.
                self.shared.state.store(AWAY, Ordering::Relaxed);
                return polled;
            }
            if self.shared.state.swap(AWAY, Ordering::AcqRel) != WOKEN {
                return polled;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Polls what nobody waits for any longer.
    pub(super) fn rest<T>(&mut self, poll: impl FnOnce(&mut Context<'_>) -> T) -> T {
        self.shared.state.store(IDLE, Ordering::Relaxed);
        poll(&mut Context::from_waker(&self.inside))
    }

    /// From now on it is this task that is woken.
    fn admit(&mut self, task: &Waker) {
        if self.outside.will_wake(task) {
            return;
        }
        self.outside.clone_from(task);
        let outside = self.shared.outside.lock();
        outside
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(task);
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

// ===== impl Shared =====

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let noted = self
            .state
            .compare_exchange(INSIDE, WOKEN, Ordering::AcqRel, Ordering::Acquire);
        if noted == Err(AWAY) {
            let outside = self.outside.lock();
            outside
                .unwrap_or_else(PoisonError::into_inner)
                .wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn task() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (count.clone(), count.into())
    }

    fn kept(cx: &Context<'_>) -> Waker {
        cx.waker().clone()
    }

    #[test]
    fn a_wake_inside_of_a_poll_polls_again_and_does_not_reach_the_task() {
        let (count, waker) = task();
        let mut gate = Gate::new();
        let mut polls = 0;
        let polled = gate.poll(&mut Context::from_waker(&waker), |cx| {
            polls += 1;
            if polls == 1 {
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        });
        assert_eq!(
            (polled, polls, count.0.load(Ordering::SeqCst)),
            (Poll::Pending, 2, 0)
        );
    }

    #[test]
    fn what_is_ready_is_not_polled_again() {
        let (count, waker) = task();
        let polled = Gate::new().poll(&mut Context::from_waker(&waker), |cx| {
            cx.waker().wake_by_ref();
            Poll::Ready(1)
        });
        assert_eq!(
            (polled, count.0.load(Ordering::SeqCst)),
            (Poll::Ready(1), 0)
        );
    }

    #[test]
    fn what_wakes_at_each_poll_goes_on_to_the_task() {
        let (count, waker) = task();
        let mut polls = 0;
        let polled = Gate::new().poll(&mut Context::from_waker(&waker), |cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert_eq!(
            (polled, polls, count.0.load(Ordering::SeqCst)),
            (Poll::Pending, TRIES, 1)
        );
    }

    #[test]
    fn a_wake_after_a_poll_reaches_the_task_that_polled_last() {
        let ((first, one), (second, two)) = (task(), task());
        let mut gate = Gate::new();
        let mut inside = None;
        for waker in [&one, &two] {
            let mut cx = Context::from_waker(waker);
            let polled = gate.poll(&mut cx, |cx| {
                inside = Some(kept(cx));
                Poll::<()>::Pending
            });
            assert!(polled.is_pending());
        }
        inside.expect("was polled").wake();
        let woken = [first, second].map(|task| task.0.load(Ordering::SeqCst));
        assert_eq!(woken, [0, 1]);
    }

    #[test]
    fn at_rest_nobody_is_woken_until_the_next_poll() {
        let (count, waker) = task();
        let mut gate = Gate::new();
        let mut cx = Context::from_waker(&waker);
        assert!(gate.poll(&mut cx, |_| Poll::<()>::Pending).is_pending());
        let inside = gate.rest(|cx| kept(cx));
        inside.wake_by_ref();
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
        assert!(gate.poll(&mut cx, |_| Poll::<()>::Pending).is_pending());
        inside.wake();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }

    /// Whatever a wake from another thread meets, the poll that follows it has seen what it tells of, or the task is woken.
    #[test]
    fn no_wake_of_another_thread_is_lost() {
        let (count, waker) = task();
        let mut gate = Gate::new();
        let news = Arc::new(AtomicUsize::new(0));
        for round in 1..=2000 {
            let before = count.0.load(Ordering::SeqCst);
            let mut seen = 0;
            let mut teller = None;
            let polled = gate.poll(&mut Context::from_waker(&waker), |cx| {
                let (told, inside) = (news.clone(), kept(cx));
                teller.get_or_insert_with(|| {
                    std::thread::spawn(move || {
                        told.store(round, Ordering::SeqCst);
                        inside.wake();
                    })
                });
                seen = news.load(Ordering::SeqCst);
                Poll::<()>::Pending
            });
            assert!(polled.is_pending());
            teller.expect("was polled").join().expect("does not panic");
            let woken = count.0.load(Ordering::SeqCst) > before;
            assert!(seen == round || woken, "round {round}");
        }
    }
}
