use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::Away;
use crate::sync::{Mutex, MutexGuard};

type Answer = Result<Vec<i64>, Away>;

/// What a store will answer. A future; it may be asked again and again until it is kept, once then.
pub struct Promise(Arc<Mutex<State>>);

/// The other end of a [`Promise`]: who has to keep it. One that is dropped keeps it with [`Away::Unanswered`].
pub struct Keeper(Option<Arc<Mutex<State>>>);

#[derive(Default)]
enum State {
    #[default]
    Open,
    Waiting(Waker),
    Kept(Answer),
    Taken,
}

impl Promise {
    /// A promise, and who has to keep it.
    #[must_use]
    pub fn pair() -> (Self, Keeper) {
        let state = Arc::<Mutex<State>>::default();
        (Self(state.clone()), Keeper(Some(state)))
    }

    /// One that is kept already.
    #[must_use]
    pub fn kept(answer: Result<Vec<i64>, Away>) -> Self {
        let (promise, keeper) = Self::pair();
        keeper.keep(answer);
        promise
    }

    /// The answer, if it is there: for whoever does not wait. Once.
    pub fn take(&mut self) -> Option<Result<Vec<i64>, Away>> {
        let mut state = lock(&self.0);
        match std::mem::take(&mut *state) {
            State::Kept(answer) => {
                *state = State::Taken;
                Some(answer)
            }
            before => {
                *state = before;
                None
            }
        }
    }
}

impl Future for Promise {
    type Output = Result<Vec<i64>, Away>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = lock(&self.0);
        match &mut *state {
            State::Open => *state = State::Waiting(cx.waker().clone()),
            State::Waiting(waker) => waker.clone_from(cx.waker()),
            State::Kept(answer) => {
                let answer = std::mem::replace(answer, Err(Away::Unanswered));
                *state = State::Taken;
                return Poll::Ready(answer);
            }
            State::Taken => panic!("a future is not polled after it was ready"),
        }
        Poll::Pending
    }
}

impl Keeper {
    /// Keeps the promise.
    pub fn keep(mut self, answer: Result<Vec<i64>, Away>) {
        self.end(answer);
    }

    /// Whether nobody waits any more.
    #[must_use]
    pub fn is_forgotten(&self) -> bool {
        self.0.as_ref().is_none_or(|it| Arc::strong_count(it) == 1)
    }

    fn end(&mut self, answer: Answer) {
        let Some(state) = self.0.take() else {
            return;
        };
        let before = std::mem::replace(&mut *lock(&state), State::Kept(answer));
        if let State::Waiting(waker) = before {
            waker.wake();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.end(Err(Away::Unanswered));
    }
}

impl fmt::Debug for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match &*lock(&self.0) {
            State::Open | State::Waiting(_) => "open",
            State::Kept(_) => "kept",
            State::Taken => "taken",
        };
        f.debug_tuple("Promise").field(&word).finish()
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keeper").field(&self.is_forgotten()).finish()
    }
}

/// Nothing panics under the lock.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_promise_is_kept_once() {
        let (promise, keeper) = Promise::pair();
        let keeps = async {
            tokio::task::yield_now().await;
            assert!(!keeper.is_forgotten());
            keeper.keep(Ok(vec![1, 2]));
        };
        let (answer, ()) = tokio::join!(promise, keeps);
        assert_eq!(answer, Ok(vec![1, 2]));
    }

    #[tokio::test]
    async fn who_does_not_wait_takes_what_is_there() {
        let (mut promise, keeper) = Promise::pair();
        assert_eq!(promise.take(), None);
        keeper.keep(Err(Away::Refused));
        assert_eq!(promise.take(), Some(Err(Away::Refused)));
        assert_eq!(promise.take(), None);
    }

    #[tokio::test]
    async fn a_keeper_that_is_dropped_answers_for_nobody() {
        let (promise, keeper) = Promise::pair();
        drop(keeper);
        assert_eq!(promise.await, Err(Away::Unanswered));
    }

    #[test]
    fn a_keeper_knows_that_nobody_waits() {
        let (promise, keeper) = Promise::pair();
        drop(promise);
        assert!(keeper.is_forgotten());
    }
}
