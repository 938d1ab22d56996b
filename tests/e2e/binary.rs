//! The built program as a child process: with an environment of its own, heard as it speaks, and killed when the test is over.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tollgate_testing::client::Message;

/// How long a wait may take. Met only by a failing test; there are tests in which the program itself waits ten seconds.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A program about to start.
#[derive(Debug)]
pub(crate) struct Start {
    command: Command,
    input: Vec<u8>,
    unread: bool,
}

/// A program that was started. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    said: watch::Receiver<Said>,
}

/// What a program has written so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    pub(crate) out: String,
    pub(crate) err: String,
    /// Which of the two are still open.
    open: usize,
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exit code; none if a signal killed it.
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// `tollgate` with these arguments, an environment without any variable that it reads, and an empty home.
pub(crate) fn tollgate<'a>(args: impl IntoIterator<Item = &'a str>) -> Start {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command
        .args(args)
        .env_clear()
        .env("HOME", "/nonexistent")
        .current_dir(env!("CARGO_TARGET_TMPDIR"));
    Start {
        command,
        input: Vec::new(),
        unread: false,
    }
}

/// `tollgate serve` of a file, on ports that the system chooses.
pub(crate) fn serve(config: &Path) -> Start {
    let config = config.to_str().expect("a path of ours is text");
    tollgate(["serve", "--config", config]).on_any_ports()
}

impl Start {
    pub(crate) fn arg(mut self, arg: &str) -> Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn on_any_ports(self) -> Self {
        self.arg("--listen=127.0.0.1:0").arg("--admin=127.0.0.1:0")
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn within(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    pub(crate) fn input(mut self, input: &str) -> Self {
        self.input = input.into();
        self
    }

    /// It may open only so many files and sockets.
    pub(crate) fn descriptors(self, most: u32) -> Self {
        self.through(&format!("ulimit -n {most} && exec"))
    }

    /// Its files are full after so many blocks of 512 bytes, as on a full disk; pipes are not. [`Program::frees`] takes that back.
    pub(crate) fn file_blocks(self, most: u32) -> Self {
        self.through(&format!("trap '' XFSZ && ulimit -S -f {most} && exec"))
    }

    /// strace writes which of these system calls it makes to a file. It is the tracer that comes and goes: the process is the
    /// program.
    pub(crate) fn traced(self, calls: &str, file: &Path) -> Self {
        let file = file.to_str().expect("a path of ours is text");
        self.through(&format!(
            "exec strace -D -f -q -s 64 -e trace={calls} -o '{file}'"
        ))
    }

    /// It may run on this processor only.
    pub(crate) fn pinned(self, processor: u32) -> Self {
        self.through(&format!("exec taskset -c {processor}"))
    }

    /// A shell begins it with these words.
    fn through(mut self, words: &str) -> Self {
        let mut command = Command::new("/bin/sh");
        command
            .arg("-c")
            .arg(format!("{words} \"$0\" \"$@\""))
            .arg(self.command.get_program())
            .args(self.command.get_args())
            .env_clear();
        for (name, value) in self.command.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        if let Some(folder) = self.command.get_current_dir() {
            command.current_dir(folder);
        }
        self.command = command;
        self
    }

    /// Nobody reads its standard output.
    pub(crate) fn unread(mut self) -> Self {
        self.unread = true;
        self
    }

    pub(crate) fn start(mut self) -> Program {
        self.command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self.command.spawn().expect("the built program starts");
        let said = watch::Sender::new(Said {
            open: 2,
            ..Said::default()
        });
        let heard = said.subscribe();
        let said = Arc::new(said);
        let mut stdin = child.stdin.take().expect("it was piped");
        // A program that reads nothing may be gone by now.
        let _ = stdin.write_all(&self.input);
        if !self.unread {
            let out = child.stdout.take().expect("it was piped");
            hear(out, &said, |said| &mut said.out);
        }
        let err = child.stderr.take().expect("it was piped");
        hear(err, &said, |said| &mut said.err);
        Program { child, said: heard }
    }

    /// Starts it and waits for its end.
    pub(crate) async fn run(self) -> Ended {
        self.start().ended().await
    }
}

/// Keeps what comes from a pipe, on a thread that ends with the pipe.
fn hear(
    mut pipe: impl Read + Send + 'static,
    said: &Arc<watch::Sender<Said>>,
    part: fn(&mut Said) -> &mut String,
) {
    let said = said.clone();
    thread::spawn(move || {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(size @ 1..) = pipe.read(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes[..size]);
            said.send_modify(|said| part(said).push_str(&text));
        }
        said.send_modify(|said| said.open -= 1);
    });
}

impl Program {
    /// Waits until what it has said gives something.
    pub(crate) async fn until<T>(&self, mut look: impl FnMut(&Said) -> Option<T>) -> T {
        let mut said = self.said.clone();
        let mut found = None;
        let waited = said.wait_for(|said| {
            found = look(said);
            found.is_some()
        });
        let failed = !matches!(timeout(DEADLINE, waited).await, Ok(Ok(_)));
        match found {
            Some(found) if !failed => found,
            _ => panic!("it did not say what was waited for: {:#?}", self.said()),
        }
    }

    pub(crate) fn said(&self) -> Said {
        self.said.borrow().clone()
    }

    /// The address after these words on standard error.
    pub(crate) async fn told(&self, words: &str) -> SocketAddr {
        let words = format!(" {words} address=");
        self.until(|said| {
            let (_, rest) = said.err.split_once(&words)?;
            let (address, _) = rest.split_once('\n')?;
            address.trim().parse().ok()
        })
        .await
    }

    /// Where `serve` listens.
    pub(crate) async fn data(&self) -> SocketAddr {
        self.told("listening").await
    }

    /// Where `serve` has its admin listener.
    pub(crate) async fn admin(&self) -> SocketAddr {
        self.told("admin").await
    }

    /// Where `demo` listens, and its admin listener.
    pub(crate) async fn shown(&self) -> [SocketAddr; 2] {
        let address = |text: &str, name: &str| {
            let (_, rest) = text.split_once(&format!("  {name} "))?;
            let (_, rest) = rest.split_once("http://")?;
            rest.split_ascii_whitespace().next()?.parse().ok()
        };
        self.until(|said| Some([address(&said.out, "data")?, address(&said.out, "admin")?]))
            .await
    }

    /// Sends it a signal, by its own id.
    pub(crate) fn signal(&self, name: &str) {
        // Not waited for yet, so the id is still its own.
        let id = self.child.id();
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -s {name} {id}")])
            .status()
            .expect("there is a shell");
        assert!(sent.success(), "{name} was not sent");
    }

    /// Its files may be of any length again.
    pub(crate) fn frees(&self) {
        let id = format!("--pid={}", self.child.id());
        let freed = Command::new("prlimit")
            .args([&*id, "--fsize=unlimited"])
            .status();
        assert!(freed.expect("prlimit is there").success());
    }

    /// Its memory in kilobytes, as proc(5) tells it.
    pub(crate) fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let size = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        size.expect("a number of kilobytes")
    }

    /// The time that it has had of the processors, as proc(5) tells it.
    pub(crate) fn busy(&self) -> Duration {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = std::fs::read_to_string(path).expect("it runs");
        // The second field is the name in parentheses, which may hold anything.
        let (_, fields) = stat.rsplit_once(") ").expect("a name");
        let ticks: u64 = fields
            .split(' ')
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<u64>().expect("a number of ticks"))
            .sum();
        // Linux tells it in hundredths of a second, whatever it counts in.
        Duration::from_millis(10 * ticks)
    }

    /// The share of one processor that it takes while nothing is asked of it, for so long.
    pub(crate) async fn share(&self, during: Duration) -> f64 {
        let (before, began) = (self.busy(), Instant::now());
        sleep(during).await;
        (self.busy() - before).as_secs_f64() / began.elapsed().as_secs_f64()
    }

    /// Waits for its end.
    pub(crate) async fn ended(mut self) -> Ended {
        let open = usize::from(self.child.stdout.is_some());
        self.until(|said| (said.open == open).then_some(())).await;
        // Both pipes are closed: the process is ending.
        let status = self.child.wait().expect("a child can be waited for");
        let Said { out, err, .. } = self.said();
        Ended {
            code: status.code(),
            out,
            err,
        }
    }

    /// Sends SIGTERM and waits for its end.
    pub(crate) async fn terminate(self) -> Ended {
        self.signal("TERM");
        self.ended().await
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until a condition holds that only asking can tell.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, asking)
        .await
        .unwrap_or_else(|_| panic!("still waiting: {what}"))
}

/// One exchange over a unix socket, which is connected to as soon as somebody listens; gives the response.
pub(crate) async fn over_unix(path: &Path, request: &[u8]) -> Message {
    let mut stream = until("a listener on the unix socket", async || {
        UnixStream::connect(path).await.ok()
    })
    .await;
    stream.write_all(request).await.expect("it is taken");
    let mut message = Message::response("POST");
    let mut bytes = vec![0; 16 * 1024];
    while message.ended.is_none() {
        match timeout(DEADLINE, stream.read(&mut bytes)).await {
            Ok(Ok(size @ 1..)) => message.feed(&bytes[..size]),
            Ok(last) => message.finish(last.is_err()),
            Err(_) => panic!("still waiting for the response: {message:#?}"),
        }
    }
    message
}

/// The body of a chat request with one word.
pub(crate) fn chat(model: &str, stream: bool) -> String {
    format!(
        r#"{{"model":"{model}","stream":{stream},"messages":[{{"role":"user","content":"hello"}}]}}"#
    )
}

/// The path of chats in OpenAI's dialect.
pub(crate) const CHAT: &str = "/v1/chat/completions";

/// A response as it came, for a failing assertion and to search in.
pub(crate) fn shown(message: &Message) -> String {
    let head = String::from_utf8_lossy(&message.head);
    format!("{head}{} [{:?}]", message.text(), message.ended)
}
