//! What is written down of each request, so that it is known after a restart.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::SystemTime,
};

use super::{
    money::{Budget, Dates, Usd},
    tokens::Rate,
};
use crate::record::{Charge, Ended, Waste};

/// Keeps what happens in the accounts, and tells of it. It is called where requests run: it must be quick and must not wait.
pub trait Journal: Send + Sync + 'static {
    /// A request is admitted. The receipt says when that is written down.
    fn admitted(&self, admission: Admission) -> Receipt;

    /// The request of this number has ended. Each that was admitted ends once.
    fn ended(&self, settlement: Settlement);

    /// A share of a budget is spent, for the first time in its window.
    fn crossed(&self, threshold: &Threshold) {
        let _ = threshold;
    }
}

/// A request that may be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Admission {
    /// Its number: one more than that of the one before.
    pub number: u64,
    /// Its name in the log; the caller may have chosen it, and may have chosen it before.
    pub request_id: Box<str>,
    /// When, by the wall clock.
    pub at: SystemTime,
    /// When, by the [monotonic clock](super::Ledger::nanos) of the accounts.
    pub nanos: u64,
    /// Who asked; none where nobody is known.
    pub caller: Option<Arc<str>>,
    /// The account that is charged: where there are too many of names that third parties make, the one that those share.
    pub account: Arc<str>,
    /// Whether the account may be forgotten once its windows are over and its tokens are back: a third party made its name, and it has
    /// neither a prepaid budget nor a rate of which as many tokens are reserved as is typical of it.
    pub passing: bool,
    /// The model by the name that aliases lead to.
    pub model: Option<Arc<str>>,
    /// The rate of the account, if it has one.
    pub rate: Option<Rate>,
    /// Reserved tokens.
    pub tokens: u64,
    /// Reserved money.
    pub cost: Usd,
    /// The windows in which it counts.
    pub dates: Dates,
    /// Whether nothing is sent before this is written down.
    pub waits: bool,
}

/// How a request ended, and what it was charged with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settlement {
    /// Its number.
    pub number: u64,
    /// How it ended.
    pub ended: Ended,
    /// What it used.
    pub charge: Charge,
    /// What attempts used that were thrown away.
    pub waste: Waste,
    /// Tokens that were charged.
    pub tokens: u64,
    /// Money that was charged; none if the model has no price.
    pub cost: Option<Usd>,
}

/// A share of a budget that is spent.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    /// Whose budget; none is that of all together.
    pub account: Option<Arc<str>>,
    /// The budget.
    pub budget: Budget,
    /// The share in percent: one of [`THRESHOLDS`](super::THRESHOLDS).
    pub percent: u8,
    /// What is spent in the window.
    pub spent: Usd,
    /// When, by the wall clock.
    pub at: SystemTime,
}

/// Says when an admission is written down. A future; clones are the same.
#[derive(Clone, Default)]
pub struct Receipt(Arc<Mutex<State>>);

#[derive(Default)]
enum State {
    #[default]
    Open,
    Waiting(Waker),
    Signed,
    Failed,
}

/// An admission that could not be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unwritten;

impl Receipt {
    /// One that is neither signed nor failed.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that is signed already.
    pub fn signed() -> Self {
        Self(Arc::new(Mutex::new(State::Signed)))
    }

    /// It is written down.
    pub fn sign(&self) {
        self.end(State::Signed);
    }

    /// It will not be.
    pub fn fail(&self) {
        self.end(State::Failed);
    }

    fn end(&self, end: State) {
        let mut state = self.state();
        let before = match &*state {
            State::Signed | State::Failed => return,
            State::Open | State::Waiting(_) => std::mem::replace(&mut *state, end),
        };
        drop(state);
        if let State::Waiting(waker) = before {
            waker.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Future for Receipt {
    type Output = Result<(), Unwritten>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.state();
        match &mut *state {
            State::Signed => Poll::Ready(Ok(())),
            State::Failed => Poll::Ready(Err(Unwritten)),
            State::Waiting(waker) => {
                waker.clone_from(cx.waker());
                Poll::Pending
            }
            State::Open => {
                *state = State::Waiting(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match &*self.state() {
            State::Open | State::Waiting(_) => "open",
            State::Signed => "signed",
            State::Failed => "failed",
        };
        f.debug_tuple("Receipt").field(&word).finish()
    }
}
