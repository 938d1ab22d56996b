use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use redis::{AsyncConnectionConfig, Cmd, FromRedisValue, RedisError, aio::MultiplexedConnection};
use tokio::time::{Instant, sleep, timeout};

use super::{
    Cause,
    link::{Inner, WAITING, Watched, eval},
    verdict::{Verdict, verdict, words},
};
use crate::store::{Call, Script};

/// Keeps a [`Link`](super::Link) up: connects, finds out that nobody answers though nobody asks, connects again. Nothing happens until it is
/// [run](Self::run).
pub struct Upkeep(Watched);

/// A connection, and what the server says first, take this long at most.
const CONNECT: Duration = Duration::from_secs(1);
/// Between two attempts, at first and at most.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(1);
/// A link on which nothing was answered for so long is tried.
const QUIET: Duration = Duration::from_secs(1);

/// Writes: a server that only reads is of no use.
static PROBE: Script = Script::new(
    "probe",
    "redis.call('SET', KEYS[1], 1, 'PX', 10000) return { 1 }",
);

impl Upkeep {
    pub(super) fn of(link: Watched) -> Self {
        Self(link)
    }

    /// Runs as long as the link is there. On the runtime on which calls are made.
    pub async fn run(self) {
        let mut pause = Duration::ZERO;
        loop {
            let Some(link) = self.0.upgrade() else { return };
            match open(&link).await {
                Ok(connection) => {
                    let since = Instant::now();
                    link.connected(connection);
                    watch(&self.0, link).await;
                    // One that comes and goes is not asked all the time.
                    if since.elapsed() > LONGEST {
                        pause = Duration::ZERO;
                    }
                }
                Err((cause, told)) => link.redis().went(false, cause, told, Instant::now()),
            }
            sleep(pause).await;
            pause = (pause * 2).clamp(PAUSE, LONGEST);
        }
    }
}

/// Returns when the link is broken, or is no more.
async fn watch(watched: &Watched, link: Arc<Inner>) {
    let mut link = Some(link);
    while let Some(it) = link.take() {
        let before = it.answered.load(Relaxed);
        match timeout(QUIET, it.broken.notified()).await {
            // What is told may be old: a break that was seen otherwise.
            Ok(()) if it.current().is_none() => return,
            Err(_) if it.answered.load(Relaxed) == before => probe_current(&it).await,
            _ => {}
        }
        drop(it);
        // Between two looks nobody else may hold it any more.
        link = watched.upgrade().filter(|it| it.current().is_some());
    }
}

async fn probe_current(link: &Inner) {
    let Some((connection, number)) = link.current() else {
        return;
    };
    if let Err((cause, told)) = probe(link, connection).await {
        link.breaks(number, cause, told);
    }
}

type Failure = (Cause, Box<str>);

/// A connection on which a script that writes was answered in time.
async fn open(link: &Inner) -> Result<MultiplexedConnection, Failure> {
    let connecting = async {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(WAITING);
        let client = &link.redis().0.client;
        let connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|error| failure(&error))?;
        // The first answer may take longer: the script is sent whole.
        let call = Call::new(&PROBE).key(PROBED);
        eval(connection.clone(), call)
            .await
            .map_err(|error| failure(&error))?;
        probe(link, connection.clone()).await?;
        if let Some(policy) = policy(connection.clone()).await {
            link.redis().has_policy(&policy);
        }
        Ok(connection)
    };
    let told = || {
        (
            Cause::Timeout,
            format!("no contact within {CONNECT:?}").into(),
        )
    };
    timeout(CONNECT, connecting)
        .await
        .unwrap_or_else(|_| Err(told()))
}

const PROBED: &str = "tollgate:probe";

async fn probe(link: &Inner, connection: MultiplexedConnection) -> Result<(), Failure> {
    let limit = link.redis().settings().timeout;
    match timeout(limit, eval(connection, Call::new(&PROBE).key(PROBED))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(failure(&error)),
        Err(_) => {
            let told = format!("no answer within {limit:?}");
            Err((Cause::Timeout, told.into()))
        }
    }
}

fn failure(error: &RedisError) -> Failure {
    let cause = match verdict(error) {
        Verdict::Lost => Cause::Connection,
        Verdict::Unfit(cause) => cause,
        Verdict::Wrong | Verdict::NoScript => Cause::Protocol,
    };
    (cause, words(error))
}

/// What the server does when its memory is full; none if it does not say.
async fn policy(mut connection: MultiplexedConnection) -> Option<String> {
    let mut command = Cmd::new();
    command.arg("INFO").arg("memory");
    let answer = connection.send_packed_command(&command).await.ok()?;
    let text = String::from_redis_value(answer.extract_error().ok()?).ok()?;
    let line = text
        .lines()
        .find_map(|it| it.strip_prefix("maxmemory_policy:"));
    line.map(|it| it.trim().to_owned())
}

impl fmt::Debug for Upkeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Upkeep").finish()
    }
}
