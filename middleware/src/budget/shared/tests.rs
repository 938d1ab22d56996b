//! The script and the layer over it, against a real `redis-server` whose time the tests tell.

mod layer;
mod older;
mod peers;
mod script;

use std::sync::{Arc, Mutex};

use proptest::{
    prelude::*,
    test_runner::{TestCaseResult, TestRunner},
};
use tollgate_testing::redis::Redis;

use super::call::{ACCOUNT, words};
use crate::store::{Away, Call, Contact, OnError, Owner, Promise, Store, key};

/// The first moment of a test: Thursday, 2026-12-03, at noon, in seconds since 1970.
const NOON: u64 = 1_796_299_200;

/// Plays cases on a server: so many, or as many as are promised.
fn played<S: Strategy>(
    [few, many]: [u32; 2],
    cases: S,
    play: impl Fn(&Server, S::Value) -> TestCaseResult,
) {
    let Some(server) = Server::start() else {
        return;
    };
    let config = ProptestConfig {
        cases: if tollgate_testing::long() { many } else { few },
        ..ProptestConfig::default()
    };
    let played = TestRunner::new(config).run(&cases, |case| play(&server, case));
    played.unwrap_or_else(|failed| panic!("{failed}"));
}

/// A server, asked without a queue, and the time that it thinks it is.
struct Server {
    redis: Redis,
    source: String,
}

impl Server {
    /// None where no server is installed, which is said.
    fn start() -> Option<Self> {
        let redis = Redis::start()?;
        // All of the script, but for who tells it the time.
        let source = ACCOUNT.source().replace(
            "redis.call('TIME')",
            "redis.call('HMGET', 'clock', 's', 'us')",
        );
        assert_ne!(source, ACCOUNT.source());
        // No more than what users are told to allow, and what the tests do themselves.
        let documented = "+eval +evalsha +get +set +del +time +info +expire +pexpire +persist +pttl +@hash +@sortedset";
        let own = "+keys +copy +flushall";
        let allow = format!("ACL SETUSER default -@all {documented} {own}");
        redis.command(&allow.split(' ').collect::<Vec<_>>());
        let server = Self { redis, source };
        server.clear();
        Some(server)
    }

    /// It knows nothing any more; the time is [`NOON`].
    fn clear(&self) {
        self.ask(&["FLUSHALL"]);
        self.at(NOON * 1_000_000);
    }

    /// Where it keeps a part of the account `a`.
    fn key(&self, part: &str) -> String {
        key(Owner::Named(&["a"]), format_args!("budget:{part}")).into()
    }

    /// All keys of accounts as they are now, for [`is_older`](Self::is_older).
    fn saves(&self) {
        self.copies("tollgate:", "saved:");
    }

    /// It is as it was when it was saved, but for the time.
    fn is_older(&self) {
        self.copies("saved:tollgate:", "");
    }

    fn copies(&self, from: &str, to: &str) {
        let all = |pattern: &str| {
            let names = self.redis.command(&["KEYS", &format!("{pattern}*")]);
            let names = names.lines().filter(|name| !name.is_empty());
            names.map(str::to_owned).collect::<Vec<_>>()
        };
        for old in all(&format!("{to}tollgate:")) {
            self.ask(&["DEL", &old]);
        }
        for name in all(from) {
            let copy = match to {
                "" => name.trim_start_matches("saved:").to_owned(),
                to => format!("{to}{name}"),
            };
            self.ask(&["COPY", &name, &copy]);
        }
    }

    /// It is this microsecond.
    fn at(&self, micros: u64) {
        let (seconds, rest) = (micros / 1_000_000, micros % 1_000_000);
        self.ask(&[
            "HSET",
            "clock",
            "s",
            &seconds.to_string(),
            "us",
            &rest.to_string(),
        ]);
    }

    fn ask(&self, words: &[&str]) {
        self.redis.command(words);
    }

    fn run(&self, call: &Call) -> Vec<i64> {
        let (count, words) = (call.keys.len().to_string(), words(call));
        let mut all = vec!["EVAL", &self.source, &count];
        all.extend(call.keys.iter().map(|key| &**key));
        all.extend(words.iter().map(String::as_str));
        let answer = self.redis.command(&all);
        let numbers = answer.lines().map(str::parse);
        numbers
            .collect::<Result<_, _>>()
            .unwrap_or_else(|_| panic!("{answer}"))
    }
}

/// How a store answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Up,
    /// What is sent runs, and nobody hears of it.
    Mute,
    /// Nothing is sent.
    Away,
    /// Nothing was ever sent.
    Never,
}

/// A store over a server; clones are the same, and have a mood of their own.
struct Wire {
    server: Arc<Server>,
    mood: Mutex<Mood>,
    on_error: OnError,
}

impl Wire {
    fn to(server: &Arc<Server>) -> Self {
        Self {
            server: server.clone(),
            mood: Mutex::new(Mood::Up),
            on_error: OnError::Local,
        }
    }

    fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
}

impl Store for Wire {
    fn run(&self, call: Call) -> Promise {
        let mood = *self.mood.lock().unwrap();
        Promise::kept(match mood {
            Mood::Up => Ok(self.server.run(&call)),
            Mood::Mute => {
                self.server.run(&call);
                Err(Away::Unanswered)
            }
            Mood::Away | Mood::Never => Err(Away::Unsent),
        })
    }

    fn contact(&self) -> Contact {
        match *self.mood.lock().unwrap() {
            Mood::Up => Contact::Up,
            Mood::Mute | Mood::Away => Contact::Away,
            Mood::Never => Contact::Never,
        }
    }

    fn replicas(&self) -> u32 {
        2
    }

    fn on_error(&self) -> OnError {
        self.on_error
    }
}
