//! A real redis-server of a test's own, on a socket in a folder of its own: killed, hung and started again at will.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::{TempDir, tempdir};

use crate::{DEADLINE, needs};

/// One server, stopped when it is dropped.
#[derive(Debug)]
pub struct Redis {
    folder: TempDir,
    child: Option<Child>,
    args: Vec<String>,
}

impl Redis {
    /// A server that answers, or none where the program is missing: see [`needs::command`].
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::with(&[])
    }

    /// As [`start`](Self::start), with arguments of the program.
    #[must_use]
    pub fn with(args: &[&str]) -> Option<Self> {
        let mut server = Self::stopped(args)?;
        server.restart();
        Some(server)
    }

    /// One that is not there yet.
    ///
    /// # Panics
    /// When no folder can be made.
    #[must_use]
    pub fn stopped(args: &[&str]) -> Option<Self> {
        needs::command("redis-server").then(|| Self {
            folder: tempdir().expect("a folder"),
            child: None,
            args: args.iter().map(|&it| it.to_owned()).collect(),
        })
    }

    /// Its address, as a configuration has it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    /// Starts it where it was, with what it has saved, if it ever has, and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub fn restart(&mut self) {
        self.kill();
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no"])
            .args(["--logfile", "redis.log", "--unixsocket", "redis.sock"])
            .args(&self.args)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.expect("redis-server starts"));
        let until = now() + DEADLINE;
        // Also one that wants a password answers.
        let silent = |error: &io::Error| error.kind() != io::ErrorKind::Other;
        while self.ask(&["PING"]).is_err_and(|error| silent(&error)) {
            let log = || fs::read_to_string(self.folder.path().join("redis.log"));
            assert!(now() < until, "redis-server does not answer: {:?}", log());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// As `kill -9`: connections are reset, what it knew and has not saved is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            _ = child.kill();
            _ = child.wait();
        }
    }

    /// It answers nobody, and goes on where it was after [`resume`](Self::resume).
    pub fn hang(&self) {
        self.signal("-STOP");
    }

    /// It answers again.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let child = self.child.as_ref().expect("it runs");
        let sent = Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status();
        assert!(sent.expect("kill").success(), "{signal}");
    }

    /// What it answers, an array a line for each of its members.
    ///
    /// # Panics
    /// When it does not answer, or answers with an error.
    pub fn command(&self, command: &[&str]) -> String {
        self.ask(command)
            .unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    fn ask(&self, command: &[&str]) -> io::Result<String> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let mut sent = format!("*{}\r\n", command.len());
        for part in command {
            sent += &format!("${}\r\n{part}\r\n", part.len());
        }
        stream.write_all(sent.as_bytes())?;
        read(&mut BufReader::new(stream))
    }
}

fn read(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let line = line.trim_end();
    let Some((kind, rest)) = line.split_at_checked(1) else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    let number = || rest.parse::<i64>().map_err(io::Error::other);
    match kind {
        "$" => {
            let Ok(length) = usize::try_from(number()?) else {
                return Ok(String::new());
            };
            let mut text = vec![0; length + 2];
            from.read_exact(&mut text)?;
            text.truncate(length);
            String::from_utf8(text).map_err(io::Error::other)
        }
        "*" => {
            let members: Result<Vec<_>, _> = (0..number()?).map(|_| read(from)).collect();
            Ok(members?.join("\n"))
        }
        "-" => Err(io::Error::other(rest.to_owned())),
        _ => Ok(rest.to_owned()),
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the deadline of a program that starts"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_killed_and_started_again_with_nothing_in_it() {
        let Some(mut redis) = Redis::start() else {
            return;
        };
        assert_eq!(redis.command(&["SET", "a", "1"]), "OK");
        assert_eq!(redis.command(&["MGET", "a", "b"]), "1\n");
        redis.kill();
        assert!(redis.ask(&["PING"]).is_err());
        redis.restart();
        assert_eq!(redis.command(&["GET", "a"]), "");
        assert!(redis.ask(&["NO"]).is_err());
    }
}
