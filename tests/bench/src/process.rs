//! Child processes that end with the bench, however it ends.

use std::fs::{self, File};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::BoxError;
use crate::procfs;
use crate::role::reap::signal;

/// How long a process may take until it accepts connections.
const START: Duration = Duration::from_secs(15);

/// How long a process may take to end when it is asked to.
const END: Duration = Duration::from_secs(1);

/// Starts processes and has them killed if the bench dies before it can do so itself.
#[derive(Clone, Debug)]
pub(crate) struct Nursery {
    reaper: Arc<Mutex<Reaper>>,
    dir: PathBuf,
}

/// The process that cleans up if the bench cannot.
#[derive(Debug)]
struct Reaper(Child);

/// A running process; dropping it kills it and all below it, by id.
#[derive(Debug)]
pub(crate) struct Running {
    name: &'static str,
    child: Child,
    stderr: PathBuf,
    nursery: Nursery,
}

// ===== impl Nursery =====

impl Nursery {
    /// What the processes say is kept in files in `dir`.
    pub(crate) fn new(dir: &Path) -> Result<Self, BoxError> {
        let reaper = Command::new(std::env::current_exe()?)
            .arg("reap")
            .stdin(Stdio::piped())
            // A group of its own, so that Ctrl-C does not end the one that is to clean up behind it.
            .process_group(0)
            .spawn()?;
        Ok(Self {
            reaper: Arc::new(Mutex::new(Reaper(reaper))),
            dir: dir.to_owned(),
        })
    }

    /// Starts the process and waits until it accepts connections at `address`.
    pub(crate) fn start(
        &self,
        name: &'static str,
        command: &mut Command,
        address: SocketAddr,
    ) -> Result<Running, BoxError> {
        let stderr = self.dir.join(format!("{name}.{}.stderr", address.port()));
        let output = File::create(&stderr)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .map_err(|error| {
                format!(
                    "{name} was not started ({:?}): {error}",
                    command.get_program()
                )
            })?;
        self.tell('+', child.id());
        let mut running = Running {
            name,
            child,
            stderr,
            nursery: self.clone(),
        };
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            running.check()?;
            if begun.elapsed() > START {
                return Err(running.failure("does not accept connections"));
            }
            thread::sleep(Duration::from_millis(10));
        }
        running.check()?;
        Ok(running)
    }

    fn tell(&self, sign: char, pid: u32) {
        let mut reaper = self.reaper.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stdin) = &mut reaper.0.stdin {
            // Without its reaper the bench still kills what it started, as long as it lives.
            let _ = writeln!(stdin, "{sign}{pid}");
        }
    }
}

// ===== impl Running =====

impl Running {
    /// The process and all below it.
    pub(crate) fn pids(&self) -> Vec<u32> {
        procfs::tree(self.child.id())
    }

    /// An error if the process has ended.
    pub(crate) fn check(&mut self) -> Result<(), BoxError> {
        match self.child.try_wait()? {
            Some(status) => Err(self.failure(&format!("ended with {status}"))),
            None => Ok(()),
        }
    }

    /// What went wrong, with the last that the process said.
    fn failure(&self, what: &str) -> BoxError {
        let said = fs::read_to_string(&self.stderr).unwrap_or_default();
        let from = said.char_indices().rev().nth(2000).map_or(0, |(at, _)| at);
        format!("{} {what}\n{}", self.name, &said[from..]).into()
    }
}

impl Drop for Running {
    /// Asks first, since a master that is asked waits for its workers, and kills what has not gone then.
    fn drop(&mut self) {
        let pid = self.child.id();
        let mut left = self.pids();
        signal("TERM", &[pid]);
        let begun = Instant::now();
        while begun.elapsed() < END {
            if !matches!(self.child.try_wait(), Ok(None)) {
                // The id is free for others from here on.
                left.retain(|&one| one != pid);
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        signal("KILL", &left);
        // It was killed or had ended before; either way nothing is left to do about an error.
        let _ = self.child.wait();
        self.nursery.tell('-', pid);
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        // The end of its input is what it waits for.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// An address on loopback that nobody listened on a moment ago.
pub(crate) fn free_address() -> Result<SocketAddr, BoxError> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}
