//! What was spent, in files of `state.dir`: a line when a request is admitted and one when it has ended.
//!
//! One thread writes; no request touches the disk. Each file begins with the sums of all open windows and with what ran, so that a
//! start reads the newest one alone, or the one before it where the newest did not come as far as the end of its head. What ran when a
//! process died is charged with all that was reserved for it, and told as lost. A line is in the file when the system has taken it: it
//! survives the process, not the machine.

mod files;
mod line;
mod state;
mod usage;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use tollgate_middleware::{
    budget::{Admission, Journal, Ledger, Receipt, Settlement, Threshold},
    clock::{Clock, SystemClock},
};

pub use self::usage::{By, Sum, table, usage};
use self::writer::{Directory, Queue, Writer};

/// Tells of a share of a budget that is spent.
pub type Tell = Box<dyn Fn(&Threshold) + Send + Sync>;

/// The spool of a process. Dropping the last clone writes what is left.
#[derive(Clone)]
pub struct Spool(Arc<Inner>);

struct Inner {
    queue: Queue,
    ledger: Ledger,
    tell: Option<Tell>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

/// A request that a process did not live to end.
#[derive(Clone, Debug, PartialEq)]
pub struct Lost {
    /// Its name in the log.
    pub request_id: Box<str>,
    /// When it was admitted, in milliseconds since 1970.
    pub at: u64,
    /// Who asked.
    pub caller: Option<Arc<str>>,
    /// For which model.
    pub model: Option<Arc<str>>,
    /// What is charged, in USD.
    pub cost: f64,
}

/// A spool that cannot be used.
#[derive(Debug)]
pub enum StartError {
    /// Another process uses the directory.
    Taken(PathBuf),
    /// It cannot be read or written.
    Io(PathBuf, io::Error),
}

/// Bytes behind the head of a file after which another one begins, if the head has no more.
const FULL: u64 = 16 << 20;
/// Accounts of names that third parties make; more than these share one of each listed caller.
const STRANGERS: usize = 65_536;

impl Spool {
    /// Opens the spool of a directory, which is made if need be; returns what was running when its last process died.
    ///
    /// # Errors
    ///
    /// Another process uses the directory, or it cannot be read or written.
    pub fn open(dir: &Path, tell: Option<Tell>) -> Result<(Self, Vec<Lost>), StartError> {
        Self::open_with(dir, tell, FULL)
    }

    fn open_with(
        dir: &Path,
        tell: Option<Tell>,
        most: u64,
    ) -> Result<(Self, Vec<Lost>), StartError> {
        let failed = |error| StartError::Io(dir.to_owned(), error);
        fs::create_dir_all(dir).map_err(failed)?;
        let Some(lock) = files::lock(dir).map_err(failed)? else {
            return Err(StartError::Taken(dir.to_owned()));
        };
        let state = files::restore(dir).map_err(failed)?;
        let last = files::list(dir).map_err(failed)?.pop();
        let disk = Directory {
            path: dir.to_owned(),
            next: last.map_or(1, |(number, _)| number + 1),
            _lock: lock,
        };
        // Where the clock has been put back, no time has passed.
        let began = state::nanos(SystemClock.wall()).max(state.moment);
        let mut writer = Writer::begin(disk, state, began, most).map_err(failed)?;
        let lost = writer.settle_lost().map_err(failed)?;
        let state = writer.state();
        let (global, accounts) = state.accounts(began);
        let ledger = Ledger::restored(STRANGERS, state.next, global, accounts);
        // Its clock is at zero now.
        ledger.nanos(SystemClock.now());
        let queue = Queue::default();
        let thread = thread::Builder::new().name("spool".into());
        let thread = thread
            .spawn({
                let queue = queue.clone();
                move || writer.serve(&queue)
            })
            .map_err(failed)?;
        let lost = lost.iter().map(|line| Lost {
            request_id: line.request_id.clone(),
            at: line.at,
            caller: line.caller.clone(),
            model: line.model.clone(),
            cost: line.cost().usd(),
        });
        let inner = Inner {
            queue,
            ledger,
            tell,
            thread: Mutex::new(Some(thread)),
        };
        Ok((Self(Arc::new(inner)), lost.collect()))
    }

    /// The accounts, as the spool left them.
    pub fn ledger(&self) -> &Ledger {
        &self.0.ledger
    }

    /// Waits until all that was told so far is written, or cannot be.
    pub fn flush(&self) {
        self.0.queue.flush();
    }

    /// Requests that are not in the spool: the disk or the queue was full.
    pub fn dropped(&self) -> u64 {
        self.0.queue.dropped()
    }

    /// Whether the disk takes nothing at the moment.
    pub fn is_failing(&self) -> bool {
        self.0.queue.is_failing()
    }

    /// What waits to be written.
    pub fn queued(&self) -> usize {
        self.0.queue.len()
    }

    /// Writes that failed.
    pub fn failures(&self) -> u64 {
        self.0.queue.failures()
    }
}

impl Journal for Spool {
    fn admitted(&self, admission: Admission) -> Receipt {
        self.0.queue.admitted(admission)
    }

    fn ended(&self, settlement: Settlement) {
        self.0.queue.ended(settlement);
    }

    fn crossed(&self, threshold: &Threshold) {
        if let Some(tell) = &self.0.tell {
            tell(threshold);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.close();
        let thread = self
            .thread
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            // It ends when all is written.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spool").finish_non_exhaustive()
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken(dir) => write!(
                f,
                "`state.dir` {} is used by another process: give each its own",
                dir.display()
            ),
            Self::Io(dir, error) => {
                write!(f, "`state.dir` {} cannot be used: {error}", dir.display())
            }
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Taken(_) => None,
            Self::Io(_, error) => Some(error),
        }
    }
}
