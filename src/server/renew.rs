//! The stacks of all workers, which can be replaced while requests run.
//!
//! One number says which generation is in force. A worker keeps one clone of its stack, which all its
//! connections call, and the number that goes with it; each request compares the numbers, which is one
//! load of a word that hardly ever changes. Only where they differ the stack is cloned anew. So a
//! request has one generation from its beginning to its end, and the next one on the same
//! connection has the newest. What a stack keeps for the next request is kept once for a worker.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{Drain, Limits};

/// Replaces the stacks of a running server. Clones are the same.
pub struct Renewer<S>(Arc<Stacked<S>>);

/// What the server runs with now.
pub(super) struct Stacked<S> {
    number: AtomicU64,
    current: Mutex<Current<S>>,
}

struct Current<S> {
    /// By worker; empty until the worker has made its first.
    stacks: Vec<Option<S>>,
    limits: Limits,
    drain: Drain,
}

/// One worker's place among the stacks.
pub(super) struct Place<S> {
    stacked: Arc<Stacked<S>>,
    worker: usize,
    /// What the worker calls. Nobody else does: the lock is never waited for.
    called: Mutex<Option<Own<S>>>,
}

/// A clone of a stack, and the generation that it belongs to.
#[derive(Debug)]
pub(super) struct Own<S> {
    number: u64,
    pub(super) stack: S,
}

impl<S> Renewer<S> {
    pub(super) fn new(stacked: Arc<Stacked<S>>) -> Self {
        Self(stacked)
    }

    /// How many stacks there are: one for each worker.
    pub fn workers(&self) -> usize {
        self.0.current().stacks.len()
    }

    /// The number of the generation in force; the first is 1.
    pub fn generation(&self) -> u64 {
        self.0.number()
    }

    /// The stack of worker number `worker`, or none if there is no such worker.
    pub fn stack(&self, worker: usize) -> Option<S>
    where
        S: Clone,
    {
        self.0.current().stacks.get(worker).cloned().flatten()
    }

    /// Puts a new generation into force, for all workers at once: every request that begins from now
    /// on has it, and connections that are accepted from now on have these limits. Returns the stacks
    /// before; requests that began with them go on with clones.
    ///
    /// # Panics
    ///
    /// Unless there are as many stacks as [`workers`](Self::workers).
    pub fn renew(&self, stacks: Vec<S>, limits: Limits, drain: Drain) -> Vec<S> {
        let mut current = self.0.current();
        assert_eq!(
            stacks.len(),
            current.stacks.len(),
            "a stack for each worker"
        );
        let next = Current {
            stacks: stacks.into_iter().map(Some).collect(),
            limits,
            drain,
        };
        let before = std::mem::replace(&mut *current, next);
        self.0.number.fetch_add(1, Ordering::Release);
        before.stacks.into_iter().flatten().collect()
    }
}

// ===== impl Stacked =====

impl<S> Stacked<S> {
    /// Generation 1, whose stacks the workers are about to make.
    pub(super) fn new(workers: usize, limits: Limits, drain: Drain) -> Self {
        let stacks = std::iter::repeat_with(|| None).take(workers).collect();
        Self {
            number: AtomicU64::new(1),
            current: Mutex::new(Current {
                stacks,
                limits,
                drain,
            }),
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    pub(super) fn drain(&self) -> Drain {
        self.current().drain
    }

    /// The limits of a connection that is accepted now, and the generation that they belong to.
    pub(super) fn limits(&self) -> (u64, Limits) {
        let current = self.current();
        (self.number(), current.limits)
    }

    fn current(&self) -> MutexGuard<'_, Current<S>> {
        // Nothing panics while it is held but the check of `renew`, before any change.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// ===== impl Place =====

impl<S: Clone> Place<S> {
    /// The place of worker number `worker`, with its first stack.
    pub(super) fn new(stacked: Arc<Stacked<S>>, worker: usize, first: S) -> Self {
        stacked.current().stacks[worker] = Some(first);
        Self {
            stacked,
            worker,
            called: Mutex::new(None),
        }
    }

    /// Hands over the worker's clone of the stack in force.
    pub(super) fn with<R>(&self, call: impl FnOnce(&mut S) -> R) -> R {
        // A panic in a call is that of its request: the stack is as good as any other for the next one.
        let mut called = self.called.lock().unwrap_or_else(PoisonError::into_inner);
        let own = match &mut *called {
            Some(own) if self.is_current(own) => own,
            outdated => outdated.insert(self.own()),
        };
        call(&mut own.stack)
    }

    /// A clone of the stack in force.
    pub(super) fn own(&self) -> Own<S> {
        let current = self.stacked.current();
        let stack = current.stacks[self.worker].clone();
        Own {
            number: self.stacked.number(),
            stack: stack.expect("a place is made with a stack, which only another replaces"),
        }
    }

    /// Whether this is the stack in force.
    fn is_current(&self, own: &Own<S>) -> bool {
        own.number == self.stacked.number()
    }

    pub(super) fn stacked(&self) -> &Stacked<S> {
        &self.stacked
    }
}

impl<S> Clone for Renewer<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S> fmt::Debug for Renewer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<S> fmt::Debug for Stacked<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stacked")
            .field("generation", &self.number)
            .finish_non_exhaustive()
    }
}

impl<S> fmt::Debug for Place<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place")
            .field("worker", &self.worker)
            .finish_non_exhaustive()
    }
}
