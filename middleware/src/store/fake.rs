//! A store for tests: a closure answers, or nobody does until the test says so.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Away, Call, Contact, Keeper, OnError, Promise, Store};

type Answer = Result<Vec<i64>, Away>;
type Answers = dyn FnMut(&Call) -> Answer + Send;

/// Clones are the same store.
#[derive(Clone)]
pub(crate) struct Fake(Arc<Mutex<Inner>>);

struct Inner {
    answers: Box<Answers>,
    contact: Contact,
    replicas: u32,
    on_error: OnError,
    holds: bool,
    held: VecDeque<(Call, Keeper)>,
    calls: Vec<Call>,
}

impl Fake {
    /// Up, for two replicas, `on_error: local`; each call is answered at once.
    pub(crate) fn new(answers: impl FnMut(&Call) -> Answer + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            answers: Box::new(answers),
            contact: Contact::Up,
            replicas: 2,
            on_error: OnError::Local,
            holds: false,
            held: VecDeque::new(),
            calls: Vec::new(),
        })))
    }

    pub(crate) fn replicas_are(self, replicas: u32) -> Self {
        self.with(|inner| inner.replicas = replicas);
        self
    }

    pub(crate) fn refuses(self) -> Self {
        self.with(|inner| inner.on_error = OnError::Refuse);
        self
    }

    /// What is [`Contact::Up`] answers; anything else has each call fail at once, unsent.
    pub(crate) fn set(&self, contact: Contact) {
        self.with(|inner| inner.contact = contact);
    }

    /// From now on calls wait for [`release`](Self::release).
    pub(crate) fn hold(&self) {
        self.with(|inner| inner.holds = true);
    }

    /// The calls that wait are answered, in their order; later ones at once.
    pub(crate) fn release(&self) {
        let held = self.with(|inner| {
            inner.holds = false;
            std::mem::take(&mut inner.held)
        });
        for (call, keeper) in held {
            let answer = self.with(|inner| (inner.answers)(&call));
            keeper.keep(answer);
        }
    }

    /// The calls that wait fail like this: they were sent, or were not.
    pub(crate) fn fail(&self, away: Away) {
        for (_, keeper) in self.with(|inner| std::mem::take(&mut inner.held)) {
            keeper.keep(Err(away));
        }
    }

    /// The calls so far, that were sent.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.with(|inner| inner.calls.clone())
    }

    fn with<R>(&self, of: impl FnOnce(&mut Inner) -> R) -> R {
        of(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Store for Fake {
    fn run(&self, call: Call) -> Promise {
        self.with(|inner| {
            if inner.contact != Contact::Up {
                return Promise::kept(Err(Away::Unsent));
            }
            inner.calls.push(call.clone());
            let (promise, keeper) = Promise::pair();
            if inner.holds {
                inner.held.push_back((call, keeper));
            } else {
                keeper.keep((inner.answers)(&call));
            }
            promise
        })
    }

    fn contact(&self) -> Contact {
        self.with(|inner| inner.contact)
    }

    fn replicas(&self) -> u32 {
        self.with(|inner| inner.replicas)
    }

    fn on_error(&self) -> OnError {
        self.with(|inner| inner.on_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Script;

    static ECHO: Script = Script::new("echo", "return { ARGV[1] }");

    #[tokio::test]
    async fn what_is_held_is_answered_when_it_is_released() {
        let fake = Fake::new(|call| Ok(vec![call.args[0].int().unwrap_or(-1)])).replicas_are(3);
        let call = |number: i64| Call::new(&ECHO).arg(number);
        assert_eq!(fake.run(call(1)).await, Ok(vec![1]));
        fake.hold();
        let (mut first, second) = (fake.run(call(2)), fake.run(call(3)));
        assert_eq!(first.take(), None);
        fake.release();
        assert_eq!((first.await, second.await), (Ok(vec![2]), Ok(vec![3])));
        fake.hold();
        let lost = fake.run(call(4));
        fake.fail(Away::Unanswered);
        assert_eq!(lost.await, Err(Away::Unanswered));
        fake.set(Contact::Away);
        assert_eq!(fake.run(call(5)).await, Err(Away::Unsent));
        assert_eq!((fake.calls().len(), fake.replicas()), (4, 3));
        assert_eq!(fake.refuses().on_error(), OnError::Refuse);
    }
}
