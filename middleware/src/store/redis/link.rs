use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use redis::{Cmd, FromRedisValue, Value, aio::MultiplexedConnection};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::{
    Cause, Redis,
    upkeep::Upkeep,
    verdict::{Verdict, verdict, words},
};
use crate::{
    executor::{Executor, TokioExecutor},
    store::{Away, Call, Contact, Keeper, OnError, Promise, Script, Store},
};

/// So many calls of a link may wait for their answers at once.
pub const WAITING: usize = 1024;

/// So many calls in a row that are not answered, or that a server refuses which serves nobody, break a link.
const IN_A_ROW: u32 = 2;

/// One connection to a [`Redis`], for one worker: a [`Store`]. Clones are the same. Calls are made inside the runtime that runs its
/// [`Upkeep`].
#[derive(Clone)]
pub struct Link(Arc<Inner>);

pub(super) struct Inner {
    redis: Redis,
    state: Mutex<State>,
    // Read without the lock: whether there is a connection.
    up: AtomicBool,
    /// Calls that were answered.
    pub(super) answered: AtomicU64,
    /// The connection is no more.
    pub(super) broken: Notify,
}

#[derive(Default)]
struct State {
    connection: Option<MultiplexedConnection>,
    // Which connection it is: what an older one says changes nothing.
    number: u64,
    in_a_row: u32,
    waiting: usize,
}

/// A link, and its upkeep.
pub(super) fn pair(redis: Redis) -> (Link, Upkeep) {
    let link = Arc::new(Inner {
        redis,
        state: Mutex::default(),
        up: AtomicBool::new(false),
        answered: AtomicU64::new(0),
        broken: Notify::new(),
    });
    let upkeep = Upkeep::of(Arc::downgrade(&link));
    (Link(link), upkeep)
}

impl Store for Link {
    fn run(&self, call: Call) -> Promise {
        let link = &self.0;
        let counts = &link.redis.0.counts;
        let Some((connection, number, waits)) = link.enter() else {
            counts.unsent.fetch_add(1, Relaxed);
            return Promise::kept(Err(Away::Unsent));
        };
        let (promise, keeper) = Promise::pair();
        // To its end, whoever waits for it: what the answer says is true even if nobody asks any more.
        TokioExecutor.execute(Inner::answer(connection, number, waits, call, keeper));
        promise
    }

    fn contact(&self) -> Contact {
        if self.0.up.load(Relaxed) {
            Contact::Up
        } else if self.0.redis.has_met() {
            Contact::Away
        } else {
            Contact::Never
        }
    }

    fn replicas(&self) -> u32 {
        self.0.redis.settings().replicas.max(1)
    }

    fn on_error(&self) -> OnError {
        self.0.redis.settings().on_error
    }

    fn decided_alone(&self) {
        self.0.redis.0.counts.alone.fetch_add(1, Relaxed);
    }
}

impl Inner {
    pub(super) fn redis(&self) -> &Redis {
        &self.redis
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection, and a place among those that wait.
    fn enter(self: &Arc<Self>) -> Option<(MultiplexedConnection, u64, Waits)> {
        if !self.up.load(Relaxed) {
            return None;
        }
        let mut state = self.state();
        if state.waiting >= WAITING {
            return None;
        }
        let connection = state.connection.clone()?;
        state.waiting += 1;
        Some((connection, state.number, Waits(self.clone())))
    }

    async fn answer(
        connection: MultiplexedConnection,
        number: u64,
        waits: Waits,
        call: Call,
        keeper: Keeper,
    ) {
        let this = waits.0.clone();
        this.waited(connection, number, waits, call, keeper).await;
    }

    async fn waited(
        &self,
        connection: MultiplexedConnection,
        number: u64,
        waits: Waits,
        call: Call,
        keeper: Keeper,
    ) {
        let limit = self.redis.settings().timeout;
        let script = call.script;
        let answer = timeout(limit, eval(connection, call)).await;
        drop(waits);
        let counts = &self.redis.0.counts;
        let answer = match answer {
            Ok(Ok(answer)) => {
                counts.answered.fetch_add(1, Relaxed);
                self.answered.fetch_add(1, Relaxed);
                self.works(number);
                Ok(answer)
            }
            Ok(Err(error)) => match verdict(&error) {
                Verdict::Lost => {
                    counts.unanswered.fetch_add(1, Relaxed);
                    self.breaks(number, Cause::Connection, words(&error));
                    Err(Away::Unanswered)
                }
                Verdict::Unfit(cause) => {
                    counts.refused.fetch_add(1, Relaxed);
                    self.fails(number, cause, || words(&error));
                    Err(Away::Refused)
                }
                Verdict::Wrong | Verdict::NoScript => {
                    counts.refused.fetch_add(1, Relaxed);
                    self.works(number);
                    self.redis.fails(script.name(), words(&error));
                    Err(Away::Refused)
                }
            },
            Err(_) => {
                counts.unanswered.fetch_add(1, Relaxed);
                let told = || format!("no answer within {limit:?}").into();
                self.fails(number, Cause::Timeout, told);
                Err(Away::Unanswered)
            }
        };
        keeper.keep(answer);
    }

    /// A new connection that was tried.
    pub(super) fn connected(&self, connection: MultiplexedConnection) {
        let mut state = self.state();
        let before = state.connection.replace(connection);
        state.number += 1;
        state.in_a_row = 0;
        self.up.store(true, Relaxed);
        drop(state);
        // A link counts once.
        if before.is_none() {
            self.redis.came(Instant::now());
        }
    }

    /// The connection, to try it.
    pub(super) fn current(&self) -> Option<(MultiplexedConnection, u64)> {
        let state = self.state();
        state.connection.clone().map(|it| (it, state.number))
    }

    fn works(&self, number: u64) {
        let mut state = self.state();
        if state.number == number {
            state.in_a_row = 0;
        }
    }

    fn fails(&self, number: u64, cause: Cause, told: impl FnOnce() -> Box<str>) {
        let mut state = self.state();
        if state.number != number {
            return;
        }
        state.in_a_row += 1;
        if state.in_a_row >= IN_A_ROW {
            drop(state);
            self.breaks(number, cause, told());
        }
    }

    /// The connection is of no use.
    pub(super) fn breaks(&self, number: u64, cause: Cause, told: Box<str>) {
        let mut state = self.state();
        let connection = (state.number == number)
            .then(|| state.connection.take())
            .flatten();
        let Some(connection) = connection else {
            return;
        };
        self.up.store(false, Relaxed);
        drop(state);
        // Those that wait on it have their own clones, and their own clocks.
        drop(connection);
        self.redis.went(true, cause, told, Instant::now());
        self.broken.notify_one();
    }
}

/// A place among the calls that wait; given back however the call ends, also where nothing runs it.
struct Waits(Arc<Inner>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.redis.left(self.up.load(Relaxed));
    }
}

/// By which the server knows a script. They are constants, and few: each is digested once.
fn digest(script: &'static Script) -> Arc<str> {
    static DIGESTS: RwLock<Vec<(&'static str, Arc<str>)>> = RwLock::new(Vec::new());
    let known = |all: &[(&'static str, Arc<str>)]| {
        let found = all
            .iter()
            .find(|(source, _)| std::ptr::eq(*source, script.source()));
        found.map(|(_, digest)| digest.clone())
    };
    let digests = DIGESTS.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(digest) = known(&digests) {
        return digest;
    }
    drop(digests);
    let digest: Arc<str> = redis::Script::new(script.source()).get_hash().into();
    let mut digests = DIGESTS.write().unwrap_or_else(PoisonError::into_inner);
    if known(&digests).is_none() {
        digests.push((script.source(), digest.clone()));
    }
    digest
}

/// By its digest; whole if the server does not know it, which then does.
pub(super) async fn eval(
    mut connection: MultiplexedConnection,
    call: Call,
) -> redis::RedisResult<Vec<i64>> {
    let digest = digest(call.script);
    let ran = ask(&mut connection, &command("EVALSHA", &digest, &call)).await;
    let ran = match ran {
        Err(error) if verdict(&error) == Verdict::NoScript => {
            ask(
                &mut connection,
                &command("EVAL", call.script.source(), &call),
            )
            .await
        }
        ran => ran,
    };
    Vec::<i64>::from_redis_value(ran?).map_err(Into::into)
}

async fn ask(connection: &mut MultiplexedConnection, command: &Cmd) -> redis::RedisResult<Value> {
    connection
        .send_packed_command(command)
        .await?
        .extract_error()
}

fn command(name: &str, script: &str, call: &Call) -> Cmd {
    let mut command = Cmd::new();
    command.arg(name).arg(script).arg(call.keys.len());
    for key in &call.keys {
        command.arg(&**key);
    }
    let mut text = String::new();
    for arg in &call.args {
        text.clear();
        arg.write(&mut text);
        command.arg(&text);
    }
    command
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("redis", &self.0.redis)
            .field("contact", &self.contact())
            .finish_non_exhaustive()
    }
}

/// For the upkeep: it ends when the link is no more.
pub(super) type Watched = Weak<Inner>;
