//! What several gateways count together: two programs, a real Redis, one limit. Rows R08 and, for rates, B08.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use tempfile::{TempDir, tempdir};
use tokio::{task::JoinSet, time::Instant};
use tollgate_testing::{client::call, long, redis::Redis};

use crate::{
    binary::{CHAT, Program, chat, serve, until},
    harness::{CALLER, Stage},
};

/// A second's requests, and how many may come at once. A lease is a tenth of these for both: five.
const RATE: f64 = 200.0;
const BURST: f64 = 100.0;
const LEASES: f64 = 2.0 * 5.0;

/// Two gateways over one Redis.
struct Pair {
    redis: Redis,
    programs: [Program; 2],
    data: [SocketAddr; 2],
    admin: [SocketAddr; 2],
    _folder: TempDir,
}

/// What came of some requests to both.
#[derive(Debug, Default)]
struct Count {
    admitted: u32,
    refused: u32,
    slowest: Duration,
    seconds: f64,
}

fn file(folder: &Path, url: &str, more: &str) -> std::path::PathBuf {
    let text = format!(
        "version: 1\nproviders: {{ mock: {{ dialect: mock }} }}\n\
         callers:\n  a: {{ key: {CALLER}, requests: {{ rate: 200/s, burst: 100 }} }}\n\
         state: {{ redis: {{ url: \"{url}\", replicas: 2{more} }} }}\n"
    );
    let path = folder.join("tollgate.yaml");
    fs::write(&path, text).expect("a file");
    path
}

impl Pair {
    async fn start() -> Option<Self> {
        let redis = Redis::start()?;
        let folder = tempdir().expect("a folder");
        // Longer than it is by itself: a busy machine is no outage.
        let file = file(folder.path(), &redis.url(), ", timeout: 250ms");
        let programs = [(); 2].map(|()| serve(&file).start());
        let data = [programs[0].data().await, programs[1].data().await];
        let admin = [programs[0].admin().await, programs[1].admin().await];
        let pair = Self {
            redis,
            programs,
            data,
            admin,
            _folder: folder,
        };
        pair.is_degraded(false).await;
        Some(pair)
    }

    /// Waits until both know that the store is away, or there.
    async fn is_degraded(&self, yes: bool) -> Duration {
        let began = Instant::now();
        let line = format!(
            "tollgate_store_degraded{{store=\"redis\"}} {}",
            u8::from(yes)
        );
        for admin in self.admin {
            until(&line, async || {
                figures(admin).await.contains(&line).then_some(())
            })
            .await;
        }
        began.elapsed()
    }

    /// Asks both, with two clients each, as often as they answer.
    async fn ask(&self, during: Duration) -> Count {
        let began = Instant::now();
        let mut clients = JoinSet::new();
        for addr in [self.data, self.data].concat() {
            clients.spawn(async move {
                let mut count = Count::default();
                while began.elapsed() < during {
                    let asked = Instant::now();
                    match status(addr).await {
                        200 => count.admitted += 1,
                        429 => count.refused += 1,
                        other => panic!("status {other}"),
                    }
                    count.slowest = count.slowest.max(asked.elapsed());
                }
                count
            });
        }
        let mut all = Count::default();
        for count in clients.join_all().await {
            all.admitted += count.admitted;
            all.refused += count.refused;
            all.slowest = all.slowest.max(count.slowest);
        }
        all.seconds = began.elapsed().as_secs_f64();
        all
    }

    /// Calls of both that nobody answered.
    async fn unanswered(&self) -> u32 {
        let mut sum = 0;
        for admin in self.admin {
            let text = figures(admin).await;
            let name = "tollgate_store_calls_total{result=\"unanswered\"} ";
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            sum += line.and_then(|it| it.parse::<u32>().ok()).expect("a count");
        }
        sum
    }
}

async fn figures(admin: SocketAddr) -> String {
    call(admin, "GET", "/metrics", &[], "").await.text()
}

async fn status(addr: SocketAddr) -> u16 {
    let bearer = format!("Bearer {CALLER}");
    let headers = [
        ("content-type", "application/json"),
        ("authorization", bearer.as_str()),
    ];
    call(addr, "POST", CHAT, &headers, chat("echo", false))
        .await
        .status()
}

impl Count {
    /// Never more than the rate, this much at once and a lease each.
    fn within(&self, what: &str, at_once: f64) {
        let most = RATE * self.seconds + at_once + LEASES;
        println!("{what}: {self:?}, at most {most:.0}");
        assert!(
            f64::from(self.admitted) <= most,
            "{what}: {self:?}, {most:.0}"
        );
        // Both have been asked for more than they may.
        assert!(self.refused > 0, "{what}: {self:?}");
    }

    fn at_least(&self, what: &str, share: f64, at_once: f64) {
        let least = share * (RATE * self.seconds + at_once);
        assert!(
            f64::from(self.admitted) >= least,
            "{what}: {self:?}, {least:.0}"
        );
    }
}

/// R08: Redis dies, is there again, hangs, goes on. Requests are admitted and refused all the time, and one line is logged for each change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_programs_keep_one_limit_whatever_becomes_of_redis() {
    let Some(mut pair) = Pair::start().await else {
        return;
    };
    let during = Duration::from_secs(if long() { 30 } else { 3 });
    let together = pair.ask(during).await;
    together.within("together", BURST);
    together.at_least("together", 0.95, BURST);

    pair.redis.kill();
    let alone = pair.ask(during).await;
    alone.within("without Redis", BURST);
    alone.at_least("without Redis", 0.9, 0.0);
    pair.is_degraded(true).await;

    pair.redis.restart();
    let back = pair.is_degraded(false).await;
    println!("back after {back:?}");
    assert!(back < Duration::from_secs(5), "back after {back:?}");
    let again = pair.ask(during).await;
    again.within("together again", BURST);
    again.at_least("together again", 0.9, 0.0);

    let before = pair.unanswered().await;
    pair.redis.hang();
    let hung = pair.ask(during).await;
    hung.within("while Redis hangs", BURST);
    pair.is_degraded(true).await;
    // Two in a row break a link. Each of two workers had what its clients asked at once.
    let waited = pair.unanswered().await - before;
    println!("{waited} calls waited in vain");
    assert!(waited <= 16, "{waited}");
    pair.redis.resume();
    let back = pair.is_degraded(false).await;
    println!("back after {back:?}");
    assert!(back < Duration::from_secs(5), "back after {back:?}");
    let last = pair.ask(during).await;
    last.within("together at last", BURST);
    last.at_least("together at last", 0.9, 0.0);

    for program in pair.programs {
        let ended = program.terminate().await;
        assert_eq!(ended.code, Some(0));
        let lines: Vec<_> = ended
            .err
            .lines()
            .filter(|line| line.contains("Redis"))
            .collect();
        let said = lines.iter().map(|line| line.contains("answers"));
        assert_eq!(
            said.collect::<Vec<_>>(),
            [true, false, true, false, true],
            "{lines:#?}"
        );
    }
}

/// R08: down at the start. The gateway is ready and serves; or, if it is to refuse, says so.
#[tokio::test]
async fn a_redis_that_was_never_there_stops_nobody_unless_it_is_to() {
    let folder = tempdir().expect("a folder");
    let url = format!("unix://{}/none.sock", folder.path().display());
    for (more, expected) in [
        ("", 200),
        (", on_error: local", 200),
        (", on_error: refuse", 503),
    ] {
        let program = serve(&file(folder.path(), &url, more)).start();
        let (data, admin) = (program.data().await, program.admin().await);
        assert_eq!(call(admin, "GET", "/readyz", &[], "").await.status(), 200);
        let bearer = format!("Bearer {CALLER}");
        let headers = [("authorization", bearer.as_str())];
        let answer = call(data, "POST", CHAT, &headers, chat("echo", false)).await;
        assert_eq!(answer.status(), expected, "{more}");
        if expected == 503 {
            assert_eq!(answer.header("tollgate-refused-by"), Some("rate_limit"));
            assert_eq!(answer.header("retry-after"), Some("1"));
        }
        let figures = figures(admin).await;
        assert!(
            figures.contains("tollgate_store_degraded{store=\"redis\"} 1\n"),
            "{figures}"
        );
        let alone = format!(
            "tollgate_store_decided_alone_total {}\n",
            u8::from(expected == 200)
        );
        assert!(figures.contains(&alone), "{figures}");
    }
}

/// C01: the password of its address is told nowhere.
#[tokio::test]
async fn the_password_of_redis_is_not_told() {
    let stage = Stage::start(&format!(
        "providers: {{ m: {{ dialect: mock }} }}\ncallers:\n  a: {{ key: {CALLER} }}\n\
         state: {{ redis: {{ url: \"redis://user:sk-redis-5c1f0e77aa@127.0.0.1:1/3\", replicas: 3 }} }}\n"
    ));
    let page = call(stage.admin(), "GET", "/config", &[], "").await.text();
    let line =
        "state: { redis: { url: \"«literal»\", timeout: 20ms, replicas: 3, on_error: local } }";
    assert!(page.contains(line), "{page}");
    stage.stop().await;
}
