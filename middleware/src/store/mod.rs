//! State that several processes share: asked by script, and answered or away.
//!
//! A [`Store`] runs a [`Script`] as one step, over keys and numbers, and its [`Promise`] is kept within the store's deadline: with the
//! answer, or with why there is none. A layer that has no store counts in this process alone; one that has does what its
//! [`OnError`] says while nobody answers.
//!
//! What names a caller or a user never reaches the store: [`key`] keeps a digest of it.
//!
//! ```
//! use tollgate_middleware::store::{Away, Call, Contact, OnError, Promise, Script, Store, Owner, key};
//!
//! /// Adds up; a store for one process.
//! struct Sums(std::sync::Mutex<std::collections::HashMap<Box<str>, i64>>);
//!
//! impl Store for Sums {
//!     fn run(&self, call: Call) -> Promise {
//!         let (promise, keeper) = Promise::pair();
//!         let mut sums = self.0.lock().unwrap();
//!         let sum = sums.entry(call.keys[0].clone()).or_default();
//!         *sum += call.args[0].int().unwrap_or_default();
//!         keeper.keep(Ok(vec![*sum]));
//!         promise
//!     }
//!     fn contact(&self) -> Contact { Contact::Up }
//!     fn replicas(&self) -> u32 { 1 }
//!     fn on_error(&self) -> OnError { OnError::Local }
//! }
//!
//! static ADD: Script = Script::new("add", "return { redis.call('INCRBY', KEYS[1], ARGV[1]) }");
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let store = Sums(Default::default());
//! let team = || key(Owner::Named(&["team-a"]), "sum");
//! assert_eq!(store.run(Call::new(&ADD).key(team()).arg(2)).await, Ok(vec![2]));
//! assert_eq!(store.run(Call::new(&ADD).key(team()).arg(3)).await, Ok(vec![5]));
//! # });
//! ```

mod call;
#[cfg(test)]
pub(crate) mod fake;
mod key;
mod promise;
#[cfg(feature = "redis")]
pub mod redis;

pub use self::{
    call::{Arg, Call, Script},
    key::{Owner, key},
    promise::{Keeper, Promise},
};

use std::fmt;

/// State that several processes share.
pub trait Store: Send + Sync + 'static {
    /// Runs a script, as one step. The promise is kept within the store's deadline; a store that is away keeps it at once. It is called
    /// where requests run: it must not wait.
    fn run(&self, call: Call) -> Promise;

    /// Whether calls are answered at the moment.
    fn contact(&self) -> Contact;

    /// How many processes share the state: what each may do by itself while the store is away is that part of the whole. At least 1.
    fn replicas(&self) -> u32;

    /// What holds while the store is away.
    fn on_error(&self) -> OnError;

    /// Something was decided in this process alone, because the store is away: for whoever counts it.
    fn decided_alone(&self) {}
}

/// Whether a store answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contact {
    /// It has not since this process began.
    Never,
    /// It did, and does not.
    Away,
    /// It does.
    Up,
}

/// What holds while a store is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// This process decides alone, over its share.
    #[default]
    Local,
    /// Nothing passes.
    Refuse,
}

/// Why a call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Away {
    /// It was not sent: nothing has changed.
    Unsent,
    /// The store said no: nothing has changed.
    Refused,
    /// It was sent. Whether it ran, nobody knows.
    Unanswered,
}

impl fmt::Display for Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsent => "the store is away",
            Self::Refused => "the store refused the call",
            Self::Unanswered => "the store did not answer in time",
        })
    }
}

impl std::error::Error for Away {}
