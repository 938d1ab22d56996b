//! slowhttptest against the program's limits: what is slow is cut, what is not is served meanwhile.

use std::{
    fs::{self, File},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::tempdir;
use tokio::time::{Instant, sleep};
use tollgate_testing::{
    client::{Conn, request},
    needs,
    upstream::{Framing, ID, Plan, SCRIPT, Script, Upstream},
};

use super::{config, patience, scale};
use crate::{
    binary::{CHAT, chat},
    inside::{self, Inside},
};

/// A child that is ended and waited for when this is dropped.
struct Tool(Child);

impl Drop for Tool {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What slowhttptest said, with no colours.
fn plain(text: &str) -> Vec<String> {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = behind
            .split_once(|it: char| it.is_ascii_alphabetic())
            .map_or("", |(_, rest)| rest);
    }
    plain.push_str(rest);
    let lines = plain.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}

/// One request on a connection of its own, which must be served; how long that took.
async fn control(data: SocketAddr, mode: &[&str]) -> Duration {
    let sent = Instant::now();
    let conn = Conn::open(data).await.deadline(patience());
    let headers = [
        ("x-request-id", "control"),
        (ID, "control"),
        (SCRIPT, "control"),
    ];
    conn.send(request("POST", CHAT, &headers, chat("m", false)))
        .await
        .expect("it is taken");
    let answer = conn.response().await;
    assert!(
        answer.status() == 200 && answer.whole(),
        "{mode:?}: {}",
        answer.text()
    );
    sent.elapsed()
}

/// Median and 99th of a hundred.
fn told_of(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    format!("{:?} (p99 {:?}, of {})", at(50), at(99), times.len())
}

/// D01: runs it with these arguments for some seconds, while a client asks on fresh connections, as it did alone before;
/// gives the lines of the log of all but that client's requests, which were all answered. Both times are told, and not
/// asserted: the machine is shared with the attacker.
async fn attack(mode: &[&str], path: &str, upstream: &Upstream) -> Option<Vec<Value>> {
    if !needs::command("slowhttptest") {
        return None;
    }
    let limits = "head_timeout: 1s, body_timeout: 1s, slow_reader: 1s";
    let inside = Inside::start(&inside::config(&config(upstream.addr(), limits)));
    let data = inside.data();
    let mut alone = Vec::new();
    for _ in 0..scale(60, 400) {
        alone.push(control(data, mode).await);
        sleep(Duration::from_millis(5)).await;
    }
    let folder = tempdir().expect("a temporary folder");
    let said = folder.path().join("said");
    let out = File::create(&said).expect("a file");
    let (count, seconds) = (scale(200, 1000).to_string(), scale(4, 30).to_string());
    let url = format!("http://{data}{path}");
    let command = Command::new("slowhttptest")
        .args(mode)
        .args([
            "-c", &count, "-r", &count, "-l", &seconds, "-p", "3", "-u", &url,
        ])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(out.try_clone().expect("a second handle"))
        .stderr(out)
        .spawn();
    let mut tool = Tool(command.expect("it is there"));
    let (began, mut beside) = (Instant::now(), Vec::new());
    let ended = loop {
        let ended = tool.0.try_wait().expect("a child can be asked for");
        assert!(began.elapsed() < patience(), "slowhttptest does not end");
        beside.push(control(data, mode).await);
        if let Some(ended) = ended {
            break ended;
        }
        sleep(Duration::from_millis(50)).await;
    };
    let told = plain(&fs::read_to_string(&said).expect("it said something"));
    let tail = &told[told.len().saturating_sub(12)..];
    assert!(ended.success(), "{mode:?}: {ended}: {told:#?}");
    println!(
        "slowhttptest {mode:?}: a control request took {} alone, {} beside it; it says {tail:#?}",
        told_of(&mut alone),
        told_of(&mut beside)
    );
    assert!(beside.len() > 10, "only {} control requests", beside.len());
    let asked = alone.len() + beside.len();
    assert_eq!(upstream.attempts("control"), asked);
    inside.drain();
    let log = inside.lines(asked).await;
    let (control, rest): (Vec<_>, Vec<_>) = log
        .into_iter()
        .partition(|line| line["request_id"] == "control");
    assert!(
        control.iter().all(|line| line["ended"] == "complete"),
        "{control:#?}"
    );
    assert_eq!(inside.stop().await.lost, 0, "a worker panicked");
    Some(rest)
}

/// Slow heads (`-H`) and slow bodies (`-B`).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_requests_are_cut_and_reach_nobody() {
    for mode in [
        &["-H", "-i", "1", "-x", "24"][..],
        &["-B", "-i", "1", "-s", "8192", "-f", "application/json"],
    ] {
        let upstream = Upstream::start().await;
        let Some(lines) = attack(mode, CHAT, &upstream).await else {
            return;
        };
        let (cut, rest): (Vec<_>, Vec<_>) = lines
            .iter()
            .partition(|line| line["error"] == "request_timeout");
        println!(
            "{mode:?}: {} were told that they were too slow, {} were probes",
            cut.len(),
            rest.len()
        );
        assert!(
            cut.len() >= scale(150, 750),
            "{mode:?}: only {} were cut: {rest:#?}",
            cut.len()
        );
        assert!(
            cut.iter().all(|line| line["attempts"] == json!([])),
            "{mode:?}: a slow request has had an attempt"
        );
        // It asks for itself now and then whether it is served: by a whole request, which has the answer of any other.
        assert!(rest.len() <= scale(10, 60), "{mode:?}: {rest:#?}");
        assert!(
            rest.iter()
                .all(|line| line["method"] == "GET" && line["ended"] == "complete"),
            "{mode:?}: {rest:#?}"
        );
        let seen = upstream.snapshot().exchanges;
        let other = seen.iter().filter(|it| it.id != "control").count();
        assert_eq!(
            other,
            rest.len(),
            "{mode:?}: a slow request reached the provider"
        );
    }
}

/// Slow reading (`-X`): whole requests for an answer that fills all buffers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_are_cut_and_their_providers_with_them() {
    let upstream = Upstream::start().await;
    upstream.serve("control", Script::chat("hello"));
    let large = Script::new().head(
        200,
        &[("content-type", "application/json")],
        Framing::Chunked,
    );
    let large = (0..64).fold(large, |script, _| script.body(vec![b' '; 256 * 1024]));
    upstream.serve_default(Plan::from(large.end()));
    let mode = ["-X", "-n", "10", "-z", "16", "-w", "256", "-y", "512"];
    let Some(lines) = attack(&mode, "/v1/files/one", &upstream).await else {
        return;
    };
    let cut = lines
        .iter()
        .filter(|line| line["ended"] == "slow_reader")
        .count();
    println!("{mode:?}: {cut} of {} slow readers were cut", lines.len());
    assert!(
        cut >= scale(150, 750),
        "only {cut} were cut: {:#?}",
        lines.first()
    );
    let seen = upstream.snapshot().exchanges;
    let slow: Vec<_> = seen.iter().filter(|it| it.id != "control").collect();
    assert!(
        !slow.is_empty() && slow.iter().all(|it| !it.done),
        "a provider was not throttled"
    );
}
