//! Another configuration while requests run: each request has one generation, nothing is lost, and what is broken changes nothing.

mod certificates;
mod files;
mod load;

use std::{fs, path::PathBuf};

use serde_json::Value;
use tempfile::{TempDir, tempdir};
use tollgate_testing::{
    client::{Conn, Message, call, request},
    upstream::{Exchange, Gate, Script, Upstream},
};

use crate::binary::{CHAT, DEADLINE, Program, chat, serve, shown, until};

/// A program that serves a file, which the test writes anew.
struct Served {
    _folder: TempDir,
    file: PathBuf,
    program: Program,
}

/// A file whose provider, header, model and route name all bear the same number.
fn numbered(upstream: &Upstream, number: u32) -> String {
    format!(
        "version: 1
server: {{ workers: 2, drain: {{ timeout: {number}s }} }}
providers:
  one:
    dialect: openai
    base_url: http://{}/v1
    credentials: [key-gen{number}]
    headers: {{ x-generation: gen{number} }}
    models: {{ m: model-gen{number} }}
routes: [{{ name: route-gen{number}, match: {{}}, targets: [one] }}]
",
        upstream.addr()
    )
}

/// The numbers that a request has met at the provider; one, if all is well.
fn numbers(exchange: &Exchange) -> Vec<u32> {
    let texts = [
        exchange
            .header("authorization")
            .unwrap_or_default()
            .to_owned(),
        exchange
            .header("x-generation")
            .unwrap_or_default()
            .to_owned(),
        String::from_utf8_lossy(&exchange.body).into_owned(),
    ];
    let mut numbers: Vec<u32> = texts
        .iter()
        .map(|text| {
            let (_, rest) = text
                .split_once("gen")
                .unwrap_or_else(|| panic!("{exchange:?}"));
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
            digits
                .and_then(|digits| digits.parse().ok())
                .expect("a number")
        })
        .collect();
    numbers.dedup();
    numbers
}

impl Served {
    /// Returns when the file has been read and signals are caught.
    async fn start(text: &str) -> Self {
        let folder = tempdir().expect("a temporary folder");
        let file = folder.path().join("gateway.yaml");
        fs::write(&file, text).expect("written");
        let program = serve(&file).start();
        program.data().await;
        Self {
            _folder: folder,
            file,
            program,
        }
    }

    fn write(&self, text: &str) {
        fs::write(&self.file, text).expect("written");
    }

    /// Asks for a reload by the admin listener.
    async fn reload(&self) -> Message {
        call(self.program.admin().await, "POST", "/reload", &[], "").await
    }

    /// Asks by the signal, and waits until that has come to its end.
    async fn hang_up(&self) {
        // Not by what it says: what an earlier reload has said may arrive after its answer.
        let ends = async || {
            self.metric("tollgate_generation").await
                + self.metric("tollgate_reload_failed_total").await
        };
        let before = ends().await;
        self.program.signal("HUP");
        until("the reload", async || (ends().await > before).then_some(())).await;
    }

    /// One exchange on a connection of its own.
    async fn ask(&self) -> Message {
        let body = chat("m", false);
        call(self.program.data().await, "POST", CHAT, &[], body).await
    }

    async fn metric(&self, name: &str) -> u64 {
        let page = call(self.program.admin().await, "GET", "/metrics", &[], "").await;
        let text = page.text();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let value = line.and_then(|rest| rest.trim().parse().ok());
        value.unwrap_or_else(|| panic!("{name} is not in {text}"))
    }
}

/// The lines of the request log so far, once there are so many.
async fn lines(program: &Program, count: usize) -> Vec<Value> {
    program
        .until(|said| {
            let lines: Vec<_> = said
                .out
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok())
                .collect();
            (lines.len() >= count).then_some(lines)
        })
        .await
}

#[tokio::test]
async fn both_ways_of_asking_put_the_file_into_force() {
    let upstream = Upstream::start().await;
    let served = Served::start(&numbered(&upstream, 1)).await;
    assert_eq!(served.ask().await.status(), 200);
    served.write(&numbered(&upstream, 2));
    assert_eq!(served.ask().await.status(), 200);
    let answer = served.reload().await;
    assert_eq!(
        (answer.status(), answer.text().as_str()),
        (200, "generation 2\n")
    );
    assert_eq!(served.ask().await.status(), 200);
    served.write(&numbered(&upstream, 3));
    served.hang_up().await;
    assert_eq!(served.ask().await.status(), 200);

    let seen = upstream.snapshot().exchanges;
    let met: Vec<_> = seen.iter().map(numbers).collect();
    assert_eq!(met, [[1], [1], [2], [3]]);
    let mut logged: Vec<_> = lines(&served.program, 4)
        .await
        .iter()
        .map(|line| (line["generation"].as_u64(), line["route"].clone()))
        .collect();
    // Each worker writes its own lines.
    logged.sort_by_key(|line| line.0);
    let want = [
        (1, "route-gen1"),
        (1, "route-gen1"),
        (2, "route-gen2"),
        (3, "route-gen3"),
    ];
    assert_eq!(
        logged,
        want.map(|(number, route)| (Some(number), route.into()))
    );

    assert_eq!(served.metric("tollgate_generation").await, 3);
    assert_eq!(served.metric("tollgate_reload_failed_total").await, 0);
    let admin = served.program.admin().await;
    let config = call(admin, "GET", "/config", &[], "").await.text();
    assert!(
        config.contains("route-gen3") && !config.contains("gen2"),
        "{config}"
    );
    let metrics = call(admin, "GET", "/metrics", &[], "").await.text();
    for (route, count) in [(1, 2), (2, 1), (3, 1)] {
        let line = format!(
            r#"tollgate_requests_total{{route="route-gen{route}",provider="one",operation="chat",model="model-gen{route}",status_class="2xx",outcome="complete"}} {count}"#
        );
        assert!(metrics.lines().any(|it| it == line), "{line}\n{metrics}");
    }
}

/// A stream keeps its provider and its secret; the next request on its own connection has the new ones.
#[tokio::test]
async fn a_running_stream_keeps_its_generation_and_its_connection_gets_the_next() {
    const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n";
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let gate = Gate::new("reloaded");
    first.serve_default(
        Script::events([EVENT])
            .wait(&gate)
            .body(EVENT)
            .body("data: [DONE]\n\n")
            .end(),
    );
    let served = Served::start(&numbered(&first, 1)).await;
    let conn = Conn::open(served.program.data().await)
        .await
        .deadline(DEADLINE);
    conn.send(request("POST", CHAT, &[], chat("m", true)))
        .await
        .unwrap();
    assert!(conn.until(|answer| answer.body == EVENT.as_bytes()).await);

    served.write(&numbered(&second, 2));
    assert_eq!(served.reload().await.status(), 200);
    assert_eq!(served.ask().await.status(), 200);
    assert_eq!((first.attempts(""), second.attempts("")), (1, 1));
    gate.open();
    let answer = conn.response().await;
    assert!(
        answer.whole() && answer.text().ends_with("[DONE]\n\n"),
        "{}",
        shown(&answer)
    );

    conn.next("POST");
    conn.send(request("POST", CHAT, &[], chat("m", false)))
        .await
        .unwrap();
    assert_eq!(conn.response().await.status(), 200);
    assert_eq!((first.attempts(""), second.attempts("")), (1, 2));
    let seen = second.snapshot().exchanges;
    assert_eq!(numbers(&seen[1]), [2]);
    let lines = lines(&served.program, 3).await;
    let of = |stream: bool| {
        let numbers = lines.iter().filter(|line| line["stream"] == stream);
        numbers
            .map(|line| line["generation"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (of(true), of(false)),
        (vec![1.into()], vec![2.into(), 2.into()])
    );
}

/// An unchanged provider keeps its connections; one that has moved loses them.
#[tokio::test]
async fn connections_of_a_provider_stay_as_long_as_it_is_reached_as_before() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let with_one_worker = |upstream: &Upstream, number| {
        numbered(upstream, number).replace("workers: 2", "workers: 1")
    };
    let served = Served::start(&with_one_worker(&first, 1)).await;
    for number in 2..6 {
        assert_eq!(served.ask().await.status(), 200);
        served.write(&with_one_worker(&first, number));
        assert_eq!(served.reload().await.status(), 200);
    }
    assert_eq!((first.attempts(""), first.connections()), (4, 1));
    served.write(&with_one_worker(&second, 6));
    assert_eq!(served.reload().await.status(), 200);
    let closed =
        first.wait_for(|seen| seen.exchanges[3].peer_closed.is_some() || seen.exchanges[3].done);
    closed.await;
    assert_eq!(served.ask().await.status(), 200);
    assert_eq!(second.connections(), 1);
}

#[tokio::test]
async fn secrets_in_files_and_the_admin_token_are_read_again() {
    let upstream = Upstream::start().await;
    let folder = tempdir().unwrap();
    let [key, token] = ["key", "token"].map(|name| folder.path().join(name));
    fs::write(&key, "key-gen1\n").unwrap();
    fs::write(&token, "token-one\n").unwrap();
    let text = numbered(&upstream, 1)
        .replace("[key-gen1]", &format!("[{{ file: {} }}]", key.display()))
        + &format!("admin: {{ token: {{ file: {} }} }}\n", token.display());
    let file = folder.path().join("gateway.yaml");
    fs::write(&file, text).unwrap();
    let config = file.to_str().unwrap();
    let program = crate::binary::tollgate([
        "serve",
        "--config",
        config,
        "--listen=127.0.0.1:0",
        "--admin=0.0.0.0:0",
    ])
    .start();
    let data = program.data().await;
    let mut admin = program.admin().await;
    admin.set_ip([127, 0, 0, 1].into());
    let reload = async |token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        call(admin, "POST", "/reload", &headers, "").await.status()
    };
    assert_eq!(
        call(data, "POST", CHAT, &[], chat("m", false))
            .await
            .status(),
        200
    );
    fs::write(&key, "key-gen2\n").unwrap();
    fs::write(&token, "token-two").unwrap();
    assert_eq!(reload("token-two").await, 401, "nobody has read it yet");
    assert_eq!(reload("token-one").await, 200);
    assert_eq!(
        call(data, "POST", CHAT, &[], chat("m", false))
            .await
            .status(),
        200
    );
    let keys: Vec<_> = upstream
        .snapshot()
        .exchanges
        .iter()
        .map(|it| it.header("authorization").map(str::to_owned))
        .collect();
    assert_eq!(
        keys,
        ["Bearer key-gen1", "Bearer key-gen2"].map(|key| Some(key.to_owned()))
    );
    assert_eq!(
        (reload("token-one").await, reload("token-two").await),
        (401, 200)
    );
    for path in ["/config", "/drain"] {
        let method = if path == "/drain" { "POST" } else { "GET" };
        assert_eq!(
            call(admin, method, path, &[], "").await.status(),
            401,
            "{path}"
        );
    }
}

/// Nothing to read again is no end of the program: the terminal that started it may be closed.
#[tokio::test]
async fn without_a_file_a_hang_up_is_no_end() {
    let program = crate::binary::tollgate(["serve"])
        .on_any_ports()
        .env("OPENAI_API_KEY", "sk-any")
        .env("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
        .start();
    let admin = program.admin().await;
    program.signal("HUP");
    until("the reload", async || {
        let page = call(admin, "GET", "/metrics", &[], "").await.text();
        page.contains("tollgate_generation 2\n").then_some(())
    })
    .await;
    assert_eq!(program.terminate().await.code, Some(0));
}
