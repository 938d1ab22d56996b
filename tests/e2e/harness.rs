//! A gateway in this process on ports of the system's choice, its request log as JSON, and how tests ask it.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hasher, RandomState},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_rustls::client::TlsStream;
use tollgate::{
    config::{self, Config, Inputs},
    gateway::Gateway,
    server::Outcome,
    telemetry::log::Sink,
};
use tollgate_testing::{
    canary::{Ear, Hunt},
    client::{self, Conn, Message},
    splits::{Random, Split},
    tls::{Authority, CaPem},
    upstream::{ID, SCRIPT, Upstream},
};

/// The provider's key: must arrive upstream and nowhere else.
pub(crate) const KEY: &str = "sk-provider-5f3a91c07e";
/// The caller's key: must never arrive upstream.
pub(crate) const CALLER: &str = "sk-caller-c2d8841b6e";

/// How long a wait may take: met only by a failing test, and longer than many exchanges at once take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running gateway and its request log.
pub(crate) struct Stage {
    gateway: Gateway,
    log: Log,
    hunt: Hunt,
    /// What each connection heard.
    answers: Mutex<Vec<Ear>>,
}

/// The request log: the lines of each request, in order.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Lines>>, watch::Sender<()>);

#[derive(Default)]
struct Lines {
    by_id: HashMap<String, Vec<Value>>,
    /// What came behind the last line break.
    rest: Vec<u8>,
    ear: Option<Ear>,
}

// ===== impl Stage =====

impl Stage {
    /// Starts what the text says; its `listen` keys are replaced by free ports of 127.0.0.1.
    pub(crate) fn start(yaml: &str) -> Self {
        Self::start_on(yaml, "127.0.0.1:0")
    }

    /// The same with its data listener at this address, of any kind.
    pub(crate) fn start_on(yaml: &str, listen: &str) -> Self {
        let hunt = Hunt::new(secrets(yaml));
        let log = Log::heard_by(hunt.ear());
        let gateway = Gateway::start_with(&load_on(yaml, listen), Sink::writer(log.clone()))
            .expect("a gateway that starts");
        Self {
            gateway,
            log,
            hunt,
            answers: Mutex::default(),
        }
    }

    /// Forgets what the last connection heard: a provider told our key in an answer that nobody may change.
    pub(crate) fn forgive_last(&self) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.pop();
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        let address = &self.gateway.addresses()[0];
        address.socket_addr().expect("a TCP address")
    }

    /// Where its admin listener is.
    pub(crate) fn admin(&self) -> SocketAddr {
        let address = self.gateway.admin_address();
        address.socket_addr().expect("a TCP address")
    }

    /// Puts another text into force.
    pub(crate) fn reload(&self, yaml: &str) -> u64 {
        let reloaded = self.gateway.reload(load(yaml));
        reloaded.expect("a configuration that can be put into force")
    }

    /// Begins the drain.
    pub(crate) fn drain(&self) {
        self.gateway.control().begin();
    }

    /// Connects.
    pub(crate) async fn connect(&self) -> Conn {
        let conn = Conn::open(self.addr()).await.heard_by(self.ear());
        conn.deadline(PATIENCE)
    }

    /// Sends a request of the test `id` on a connection of its own, with nothing waited for.
    pub(crate) async fn open(&self, request: impl AsRef<[u8]>) -> Conn {
        let conn = self.connect().await;
        // A gateway that refuses by the head alone may close before it has read all.
        let _took = conn.send(request).await;
        conn
    }

    /// An ear for one more connection.
    fn ear(&self) -> Ear {
        let ear = self.hunt.ear();
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.push(ear.clone());
        ear
    }

    /// One exchange on a connection of its own; the answer as it ended.
    pub(crate) async fn ask(&self, ask: &Ask<'_>) -> Message {
        let conn = self.connect().await;
        conn.next(ask.method);
        let _took = conn.send(ask.bytes()).await;
        let message = conn.response().await;
        conn.close().await;
        message
    }

    /// Asks for a chat with this key as a bearer token.
    pub(crate) async fn ask_by(&self, id: &str, key: &str, body: &[u8]) -> Message {
        let bearer = format!("Bearer {key}");
        let headers = [
            ("content-type", "application/json"),
            ("authorization", bearer.as_str()),
        ];
        let ask = Ask {
            headers: &headers,
            ..Ask::post(id, "/v1/chat/completions", body)
        };
        self.ask(&ask).await
    }

    /// The first log line of a request, waited for.
    pub(crate) async fn line(&self, id: &str) -> Value {
        let mut news = self.log.1.subscribe();
        let wait = async {
            loop {
                if let Some(line) = self.log.lines(id).into_iter().next() {
                    return line;
                }
                news.changed().await.expect("the log lives");
            }
        };
        match timeout(PATIENCE, wait).await {
            Ok(line) => line,
            Err(_) => panic!("no log line of the request {id}"),
        }
    }

    /// The log, to be read when the gateway has stopped.
    pub(crate) fn log(&self) -> Log {
        self.log.clone()
    }

    /// What was found in answers and in log lines.
    fn overheard(&self) -> Vec<String> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let log = self.log.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ears = answers.iter().chain(&log.ear);
        ears.flat_map(Ear::found).collect()
    }

    /// C01: fails if a secret of the configuration is in a log line, an answer, the metrics or the configuration as it is shown.
    async fn hunted(&self) {
        let mut found = self.overheard();
        for path in ["/metrics", "/config"] {
            let page = client::call(self.admin(), "GET", path, &[], "").await;
            let texts = [page.head, page.body];
            found.extend(texts.iter().filter_map(|text| self.hunt.find(text)));
        }
        assert!(found.is_empty(), "secrets were told: {found:#?}");
    }

    /// Drains and stops; every request must have had one log line, every worker must have ended well, and no secret have been told.
    ///
    /// Returns the number of answers that had to be cut.
    pub(crate) async fn stop(self) -> usize {
        self.hunted().await;
        let Self { gateway, log, .. } = self;
        let stopped = tokio::task::spawn_blocking(|| gateway.stop());
        let Outcome { cut, lost } = stopped.await.expect("stop does not panic");
        assert_eq!(lost, 0, "a worker panicked");
        log.each_once();
        cut
    }
}

/// A configuration from text, with nothing of this process's environment in it.
pub(crate) fn load(yaml: &str) -> Config {
    load_on(yaml, "127.0.0.1:0")
}

fn load_on(yaml: &str, listen: &str) -> Config {
    let inputs = Inputs {
        env: &|_| None,
        read: &|path| std::fs::read_to_string(path),
        listen: Some(listen),
        admin: Some("127.0.0.1:0"),
    };
    match config::load(yaml, "test.yaml", &inputs) {
        Ok(loaded) => loaded.config,
        Err(problems) => panic!("{problems}\n{yaml}"),
    }
}

/// What an answer says of an error.
pub(crate) fn error(message: &Message) -> Value {
    let body: Value = serde_json::from_slice(&message.body).expect("an error body is JSON");
    body["error"].clone()
}

/// One entry of `providers`: a scripted upstream behind this path, with [`KEY`]; `more` are further keys, `", name: value"`.
pub(crate) fn provider(
    name: &str,
    dialect: &str,
    upstream: &Upstream,
    path: &str,
    more: &str,
) -> String {
    let port = upstream.port();
    format!(
        "  {name}: {{ dialect: {dialect}, base_url: \"http://127.0.0.1:{port}{path}\", credentials: [{KEY}]{more} }}\n"
    )
}

/// What a text of a configuration holds that begins as keys do, and [`KEY`] and [`CALLER`].
fn secrets(yaml: &str) -> Vec<&str> {
    let words = yaml.split(|it: char| !(it.is_ascii_alphanumeric() || matches!(it, '-' | '_')));
    let keys = words.filter(|word| word.starts_with("sk-") || word.starts_with("tg-"));
    keys.chain([KEY, CALLER]).collect()
}

/// These keys, and that every request makes one call, whatever became of others: for tests of single answers.
pub(crate) fn untried(more: &str) -> String {
    const OFF: &str = "layers: { breaker: off, retry: off";
    match more.split_once("layers: {") {
        Some((before, behind)) => format!("{before}{OFF}, {behind}"),
        None => format!("{OFF} }}\n{more}"),
    }
}

// ===== impl Log =====

impl Log {
    fn heard_by(ear: Ear) -> Self {
        let log = Self::default();
        let mut lines = log.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.ear = Some(ear);
        drop(lines);
        log
    }

    /// The line of a request that has ended.
    pub(crate) fn first(&self, id: &str) -> Value {
        let found = self.lines(id).into_iter().next();
        found.unwrap_or_else(|| panic!("no log line of the request {id}"))
    }

    /// The requests that have a line, by name.
    pub(crate) fn requests(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<_> = lines.by_id.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    fn lines(&self, id: &str) -> Vec<Value> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.by_id.get(id).cloned().unwrap_or_default()
    }

    fn each_once(&self) {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, lines) in &lines.by_id {
            assert_eq!(lines.len(), 1, "log lines of the request {id}: {lines:#?}");
        }
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ear) = &lines.ear {
            ear.hear(bytes);
        }
        lines.rest.extend_from_slice(bytes);
        while let Some(end) = lines.rest.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = lines.rest.drain(..=end).collect();
            let line: Value = serde_json::from_slice(&line).expect("a log line is JSON");
            let id = line["request_id"].as_str().unwrap_or_default().to_owned();
            lines.by_id.entry(id).or_default().push(line);
        }
        drop(lines);
        self.1.send_replace(());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// ===== impl Certificates =====

/// The pair that a listener shows, in files of a folder of its own, and the authority that a client must trust.
pub(crate) struct Certificates {
    folder: TempDir,
    pub(crate) authority: CaPem,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let (folder, authority) = (tempfile::tempdir().expect("a folder"), Authority::new());
        let pair = authority.issue(&["127.0.0.1"]);
        for (name, text) in [("cert.pem", &pair.cert), ("key.pem", &pair.key)] {
            std::fs::write(folder.path().join(name), text).expect("a file");
        }
        Self {
            folder,
            authority: authority.pem(),
        }
    }

    /// The path of a file in the folder.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// The key `tls` of the listener.
    pub(crate) fn tls(&self) -> String {
        let (cert, key) = (self.path("cert.pem"), self.path("key.pem"));
        format!("tls: {{ cert: \"{cert}\", key: \"{key}\" }}")
    }

    /// A connection, with the handshake made.
    pub(crate) async fn connect(&self, tcp: TcpStream) -> TlsStream<TcpStream> {
        let name = tcp.peer_addr().expect("it is connected").ip().into();
        let connector = self.authority.connector(None, &["http/1.1"]);
        connector.connect(name, tcp).await.expect("a handshake")
    }
}

// ===== asking =====

/// A request of a test: `id` names it in the log and at the upstream, `script` the answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) id: &'a str,
    pub(crate) script: &'a str,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: &'a [u8],
}

impl<'a> Ask<'a> {
    /// A POST of this body, answered by the script of the same name as the request.
    pub(crate) fn post(id: &'a str, path: &'a str, body: &'a [u8]) -> Self {
        Self {
            id,
            script: id,
            method: "POST",
            path,
            headers: &[("content-type", "application/json")],
            body,
        }
    }

    /// All headers but `host` and the framing.
    pub(crate) fn all_headers(&self) -> Vec<(&'a str, &'a str)> {
        let own = [
            ("x-request-id", self.id),
            (ID, self.id),
            (SCRIPT, self.script),
        ];
        own.into_iter()
            .chain(self.headers.iter().copied())
            .collect()
    }

    /// The bytes on the wire.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        client::request(self.method, self.path, &self.all_headers(), self.body)
    }

    /// The head alone, announcing this length.
    pub(crate) fn head(&self, length: u64) -> Vec<u8> {
        client::head(self.method, self.path, &self.all_headers(), Some(length))
    }
}

/// The client goes, by a reset or by closing both sides; when it did.
pub(crate) async fn leave(conn: Conn, reset: bool) -> Instant {
    let now = Instant::now();
    if reset {
        conn.reset().await;
    } else {
        conn.close().await;
    }
    now
}

/// What passes for at once on a busy machine; 250 ms are promised.
const AT_ONCE: Duration = Duration::from_secs(1);

/// The provider of the request `id` was let go of at once after its client `left`; how long that took.
pub(crate) async fn cancelled(upstream: &Upstream, id: &str, left: Instant) -> Duration {
    let seen = upstream.finished(id, 1).await;
    let closed = seen.peer_closed.expect("a stall ends so only");
    let took = closed.duration_since(left);
    assert!(took < AT_ONCE, "{id}: cancelled after {took:?}");
    took
}

/// The seed of this run: `TOLLGATE_SEED`, else one of chance; printed, so that a failure can be repeated.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("TOLLGATE_SEED").ok();
    let seed = given.map_or_else(
        // The standard library's own source of chance.
        || RandomState::new().build_hasher().finish(),
        |text| text.parse().expect("TOLLGATE_SEED is a number"),
    );
    println!("TOLLGATE_SEED={seed}");
    seed
}

/// Random pieces, not so many of them that a body costs seconds.
pub(crate) fn random_split(random: &mut Random, length: usize) -> Split {
    loop {
        let split = Split::Random(random.bits());
        if split.sizes(length).len() <= 3000 {
            return split;
        }
    }
}

/// Runs all of these, so many at a time; a panic of one ends the test.
pub(crate) async fn each<F>(at_once: usize, runs: impl IntoIterator<Item = F>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(at_once));
    let mut tasks = JoinSet::new();
    for run in runs {
        let room = Arc::clone(&room);
        tasks.spawn(async move {
            let _room = room.acquire().await;
            run.await;
        });
    }
    tasks.join_all().await;
}
