//! With a real server, and with one that answers what a script says. Row R08: each way in which it can be away.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tollgate_testing::{DEADLINE, redis::Redis as Server};

use super::*;
use crate::store::{Away, Call, Contact, Script, Store};

static ADD: Script = Script::new(
    "add",
    "return { redis.call('INCRBY', KEYS[1], ARGV[1]), 7 }",
);
static WRONG: Script = Script::new("wrong", "return redis.call('LPUSH', KEYS[1], 1)");

const LIMIT: Duration = Duration::from_millis(200);

/// A link that is kept up, and what has been told.
struct Rig {
    redis: Redis,
    link: Link,
    told: Arc<Mutex<Vec<Event>>>,
    upkeep: JoinHandle<()>,
}

impl Rig {
    fn at(url: &str) -> Self {
        Self::within(url, LIMIT)
    }

    fn within(url: &str, timeout: Duration) -> Self {
        let settings = Settings {
            timeout,
            replicas: 2,
            on_error: OnError::Local,
        };
        let told = Arc::<Mutex<Vec<Event>>>::default();
        let tell = told.clone();
        let redis = Redis::new(url, settings).unwrap();
        let redis = redis.telling(move |event| tell.lock().unwrap().push(event.clone()));
        let (link, upkeep) = redis.link();
        #[expect(clippy::disallowed_methods, reason = "a test spawns")]
        let upkeep = tokio::spawn(upkeep.run());
        Self {
            redis,
            link,
            told,
            upkeep,
        }
    }

    async fn is(&self, contact: Contact) {
        until(|| self.link.contact() == contact).await;
    }

    async fn add(&self, number: i64) -> Result<Vec<i64>, Away> {
        self.link
            .run(Call::new(&ADD).key("tollgate:sum").arg(number))
            .await
    }

    /// Calls until the link is away; says how many did not fail at once.
    async fn breaks(&self) -> usize {
        let mut tried = 0;
        let away = async {
            while self.link.contact() == Contact::Up {
                _ = self.add(1).await;
                tried += 1;
            }
        };
        tokio::time::timeout(DEADLINE, away).await.expect("away");
        tried
    }

    fn told(&self) -> Vec<&'static str> {
        let told = self.told.lock().unwrap();
        let word = |event: &Event| match event {
            Event::Away { cause, .. } => cause.as_str(),
            Event::Up { .. } => "up",
            Event::Fails { .. } => "fails",
            Event::Evicts { .. } => "evicts",
        };
        told.iter().map(word).collect()
    }
}

async fn until(holds: impl Fn() -> bool) {
    let waits = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waits)
        .await
        .expect("it holds in time");
}

#[tokio::test]
async fn a_script_is_run_and_sent_whole_once_and_after_the_server_forgot_it() {
    let Some(server) = Server::start() else {
        return;
    };
    let rig = Rig::at(&server.url());
    assert_eq!(rig.link.contact(), Contact::Never);
    assert_eq!(rig.add(1).await, Err(Away::Unsent));
    rig.is(Contact::Up).await;
    assert_eq!(rig.add(2).await, Ok(vec![2, 7]));
    assert_eq!(rig.add(3).await, Ok(vec![5, 7]));
    // R08: NOSCRIPT, and flushed.
    server.command(&["SCRIPT", "FLUSH"]);
    assert_eq!(rig.add(4).await, Ok(vec![9, 7]));
    server.command(&["FLUSHALL"]);
    assert_eq!(rig.add(1).await, Ok(vec![1, 7]));
    assert_eq!(rig.told(), ["up"]);
    let Figures {
        answered,
        unsent,
        degraded,
        ..
    } = rig.redis.figures();
    assert_eq!((answered, unsent, degraded), (4, 1, false));
}

/// R08: down at the start, dies, is there again.
#[tokio::test]
async fn a_server_comes_late_and_dies_and_comes_again() {
    let Some(mut server) = Server::stopped(&[]) else {
        return;
    };
    let rig = Rig::at(&server.url());
    until(|| rig.told() == ["connection"]).await;
    assert_eq!(rig.link.contact(), Contact::Never);
    server.restart();
    rig.is(Contact::Up).await;
    for outage in 1..=2 {
        server.kill();
        rig.breaks().await;
        assert_eq!(rig.link.contact(), Contact::Away);
        assert_eq!(rig.add(1).await, Err(Away::Unsent));
        assert!(rig.redis.figures().degraded);
        server.restart();
        rig.is(Contact::Up).await;
        assert_eq!(rig.add(1).await, Ok(vec![1, 7]), "outage {outage}");
    }
    assert_eq!(
        rig.told(),
        ["connection", "up", "connection", "up", "connection", "up"]
    );
    assert_eq!(rig.redis.figures().outages, 3);
}

/// R08: hangs. Two calls wait, the others do not; what was sent may have run.
#[tokio::test]
async fn a_server_that_hangs_holds_up_two_calls() {
    let Some(server) = Server::start() else {
        return;
    };
    let rig = Rig::within(&server.url(), Duration::from_millis(50));
    rig.is(Contact::Up).await;
    server.hang();
    assert_eq!(rig.add(1).await, Err(Away::Unanswered));
    assert!(rig.breaks().await <= 1);
    assert_eq!(rig.add(1).await, Err(Away::Unsent));
    server.resume();
    rig.is(Contact::Up).await;
    assert_eq!(rig.told(), ["up", "timeout", "up"]);
}

/// R08: READONLY, OOM, and rights that are taken away: the server says so at once, and is tried with what writes.
#[tokio::test]
async fn a_server_that_takes_no_writes_is_away() {
    let Some(server) = Server::start() else {
        return;
    };
    let rig = Rig::at(&server.url());
    let turns: [(&[&str], &[&str], &str); 3] = [
        (
            &["REPLICAOF", "127.0.0.1", "1"],
            &["REPLICAOF", "NO", "ONE"],
            "read_only",
        ),
        (
            &["CONFIG", "SET", "maxmemory", "1"],
            &["CONFIG", "SET", "maxmemory", "0"],
            "memory",
        ),
        (
            &["ACL", "SETUSER", "default", "-evalsha"],
            &["ACL", "SETUSER", "default", "+@all"],
            "permission",
        ),
    ];
    for (off, on, word) in turns {
        rig.is(Contact::Up).await;
        server.command(off);
        assert_eq!(rig.add(1).await, Err(Away::Refused), "{word}");
        assert!(rig.breaks().await <= 1);
        assert_eq!(rig.told().last(), Some(&word));
        server.command(on);
    }
    rig.is(Contact::Up).await;
    assert_eq!(
        rig.told(),
        ["up", "read_only", "up", "memory", "up", "permission", "up"]
    );
    // That it was full once with a policy that keeps what it has is no news.
    assert_eq!(rig.redis.figures().unanswered, 0);
}

/// R08: wrong type. It is the call that is wrong, not the server; it is told once.
#[tokio::test]
async fn a_call_that_is_wrong_breaks_nothing() {
    let Some(server) = Server::start() else {
        return;
    };
    let rig = Rig::at(&server.url());
    rig.is(Contact::Up).await;
    assert_eq!(rig.add(5).await, Ok(vec![5, 7]));
    for _ in 0..5 {
        let wrong = rig.link.run(Call::new(&WRONG).key("tollgate:sum"));
        assert_eq!(wrong.await, Err(Away::Refused));
    }
    assert_eq!(rig.add(1).await, Ok(vec![6, 7]));
    assert_eq!(rig.told(), ["up", "fails"]);
    assert_eq!(rig.redis.figures().refused, 5);
}

#[tokio::test]
async fn a_server_that_evicts_is_warned_of_once() {
    let Some(server) = Server::with(&["--maxmemory-policy", "allkeys-lru"]) else {
        return;
    };
    let rig = Rig::at(&server.url());
    rig.is(Contact::Up).await;
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    rig.breaks().await;
    rig.is(Contact::Up).await;
    assert_eq!(rig.told(), ["evicts", "up", "connection", "up"]);
}

#[tokio::test]
async fn a_server_that_nobody_asks_is_missed() {
    let Some(mut server) = Server::start() else {
        return;
    };
    let rig = Rig::at(&server.url());
    rig.is(Contact::Up).await;
    server.kill();
    rig.is(Contact::Away).await;
    // It is one link, whoever has noticed its break: once it was there again, it is missed as before.
    server.restart();
    rig.is(Contact::Up).await;
    until(|| !rig.redis.figures().degraded).await;
    server.kill();
    rig.is(Contact::Away).await;
    until(|| rig.redis.figures().degraded).await;
}

#[tokio::test]
async fn so_many_calls_wait_and_no_more() {
    let Some(server) = Server::start() else {
        return;
    };
    let rig = Rig::within(&server.url(), DEADLINE);
    rig.is(Contact::Up).await;
    server.hang();
    let call = || rig.link.run(Call::new(&ADD).key("tollgate:sum").arg(1));
    let waiting: Vec<_> = (0..WAITING).map(|_| call()).collect();
    assert_eq!(call().await, Err(Away::Unsent));
    assert_eq!(rig.link.contact(), Contact::Up);
    server.resume();
    for (at, answer) in waiting.into_iter().enumerate() {
        assert_eq!(answer.await, Ok(vec![at as i64 + 1, 7]));
    }
}

/// C05. A password is in no word of ours.
#[tokio::test]
async fn a_password_is_asked_for_and_not_told() {
    let Some(server) = Server::with(&["--requirepass", "hunter2"]) else {
        return;
    };
    let socket = server.url();
    let rig = Rig::at(&format!("{socket}?pass=hunter3"));
    until(|| rig.told() == ["permission"]).await;
    let told = format!(
        "{:?} {:?} {:?}",
        rig.told.lock().unwrap(),
        rig.redis,
        rig.link
    );
    assert!(!told.contains("hunter3"), "{told}");
    let rig = Rig::at(&format!("{socket}?pass=hunter2"));
    rig.is(Contact::Up).await;
    assert!(Redis::new("redis//:hunter2@x", *rig.redis.settings()).is_err());
    assert!(!BadUrl(()).to_string().contains("hunter2"));
}

/// With the link ends what keeps it up, and its connection.
#[tokio::test]
async fn the_upkeep_ends_with_the_link() {
    let Some(server) = Server::start() else {
        return;
    };
    let Rig {
        redis,
        link,
        upkeep,
        ..
    } = Rig::at(&server.url());
    until(|| link.contact() == Contact::Up).await;
    drop(link);
    tokio::time::timeout(DEADLINE, upkeep)
        .await
        .expect("it ends")
        .unwrap();
    until(|| !server.command(&["CLIENT", "LIST"]).contains("evalsha")).await;
    assert_eq!(redis.figures().outages, 0);
}

/// A server of a test: it answers each command by what `answers` says; none is a reset in the middle of an answer.
async fn scripted(answers: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let answers = Arc::new(answers);
    #[expect(clippy::disallowed_methods, reason = "a test spawns")]
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answers = answers.clone();
            tokio::spawn(async move { serve(stream, &*answers).await });
        }
    });
    url
}

async fn serve(mut stream: TcpStream, answers: &(dyn Fn(&str) -> Option<String> + Send + Sync)) {
    let (mut buffer, mut chunk) = (String::new(), [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut chunk).await {
        buffer.push_str(&String::from_utf8_lossy(&chunk[..read]));
        while let Some((command, rest)) = one(&buffer) {
            let answer = answers(&command);
            buffer = rest;
            let cut = answer.is_none();
            let answer = answer.unwrap_or_else(|| "*2\r\n:1".to_owned());
            _ = stream.write_all(answer.as_bytes()).await;
            if cut {
                socket2::SockRef::from(&stream)
                    .set_linger(Some(Duration::ZERO))
                    .unwrap();
                return;
            }
        }
    }
}

/// The first whole command, its parts with spaces between, and what is behind it.
fn one(buffer: &str) -> Option<(String, String)> {
    let (count, mut rest) = buffer.strip_prefix('*')?.split_once("\r\n")?;
    let mut parts = Vec::new();
    for _ in 0..count.parse::<usize>().ok()? {
        let (length, behind) = rest.strip_prefix('$')?.split_once("\r\n")?;
        let length: usize = length.parse().ok()?;
        parts.push(behind.get(..length)?);
        rest = behind.get(length + 2..)?;
    }
    Some((parts.join(" "), rest.to_owned()))
}

/// R08: LOADING at the start, as after a restart with a large file.
#[tokio::test]
async fn a_server_that_is_loading_is_away_until_it_has_loaded() {
    let loading = Arc::new(Mutex::new(true));
    let still = loading.clone();
    let url = scripted(move |command| {
        Some(
            match command.split(' ').next()? {
                "EVAL" | "EVALSHA" if *still.lock().unwrap() => "-LOADING Redis is loading\r\n",
                "EVAL" | "EVALSHA" => "*1\r\n:1\r\n",
                _ => "+OK\r\n",
            }
            .to_owned(),
        )
    });
    let rig = Rig::at(&url.await);
    until(|| rig.told() == ["loading"]).await;
    *loading.lock().unwrap() = false;
    rig.is(Contact::Up).await;
    assert_eq!(rig.add(1).await, Ok(vec![1]));
}

/// R08: a reset in the middle of an answer. Nobody knows whether the call ran; the next connection is made at once.
#[tokio::test]
async fn a_connection_that_is_reset_in_an_answer_is_made_anew() {
    let url = scripted(|command| match command.split(' ').next() {
        Some("EVAL" | "EVALSHA") if command.contains("tollgate:sum") => None,
        Some("EVAL" | "EVALSHA") => Some("*1\r\n:1\r\n".to_owned()),
        _ => Some("+OK\r\n".to_owned()),
    });
    let rig = Rig::at(&url.await);
    rig.is(Contact::Up).await;
    assert_eq!(rig.add(1).await, Err(Away::Unanswered));
    assert_eq!(rig.link.contact(), Contact::Away);
    rig.is(Contact::Up).await;
    assert_eq!(rig.told(), ["up", "connection", "up"]);
}

/// What is no Redis is told so, and never taken for one.
#[tokio::test]
async fn what_answers_something_else_is_never_up() {
    let rig = Rig::at(&scripted(|_| Some("-ERR unknown command\r\n".to_owned())).await);
    until(|| rig.told() == ["protocol"]).await;
    let rig = Rig::at(&scripted(|_| Some("HTTP/1.1 400 Bad Request\r\n\r\n".to_owned())).await);
    until(|| rig.told() == ["connection"]).await;
    assert_eq!(rig.link.contact(), Contact::Never);
}
