//! The thread that writes, and the queue that leads to it.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, SyncSender},
    },
    time::Duration,
};

use tollgate_middleware::budget::{Admission, Receipt, Settlement};

use super::{
    files,
    line::{Admitted, Line, Settled},
    state::State,
};

/// Where lines are put. Clones are the same queue.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    news: Condvar,
    // The disk takes nothing at the moment.
    failing: AtomicBool,
    failures: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    items: Vec<Item>,
    sleeps: bool,
    closed: bool,
}

#[derive(Debug)]
enum Item {
    Admitted(Admission, Receipt),
    Ended(Settlement),
    // Everything before it is written, or cannot be.
    Mark(SyncSender<()>),
}

/// What makes the files, in order.
pub(super) trait Disk: Send + 'static {
    type File: Write;

    /// A new file; what is not needed any more may go.
    fn create(&mut self) -> io::Result<Self::File>;
}

/// Files in a directory.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
    pub(super) next: u64,
    // Held as long as this lives.
    pub(super) _lock: File,
}

/// Writes lines, one file after the other.
pub(super) struct Writer<D: Disk> {
    disk: D,
    file: Option<D::File>,
    state: State,
    // What is not in the file yet, and from where on.
    text: Vec<u8>,
    done: usize,
    written: u64,
    // Bytes of lines that a file takes behind its head, and after how many in all this one is full.
    most: u64,
    full: u64,
    // The time of the spool when the clock of the accounts was at zero.
    began: u64,
}

/// Admissions that may wait, of requests that do not wait for theirs.
const QUEUED: usize = 65_536;
/// How often a disk is asked again that takes nothing.
const AGAIN: Duration = Duration::from_millis(200);
/// Files that are kept.
const KEPT: u64 = 16;

// ===== impl Queue =====

impl Queue {
    pub(super) fn admitted(&self, admission: Admission) -> Receipt {
        let receipt = Receipt::new();
        let failing = self.0.failing.load(Ordering::Relaxed);
        let mut waiting = self.waiting();
        if failing || waiting.closed || !admission.waits && waiting.items.len() >= QUEUED {
            drop(waiting);
            // Its end will be that of nobody, and is not written either.
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            receipt.fail();
            return receipt;
        }
        waiting
            .items
            .push(Item::Admitted(admission, receipt.clone()));
        self.tell(waiting);
        receipt
    }

    pub(super) fn ended(&self, settlement: Settlement) {
        let mut waiting = self.waiting();
        waiting.items.push(Item::Ended(settlement));
        self.tell(waiting);
    }

    fn tell(&self, mut waiting: MutexGuard<'_, Waiting>) {
        let sleeps = std::mem::take(&mut waiting.sleeps);
        drop(waiting);
        if sleeps {
            self.0.news.notify_one();
        }
    }

    /// Waits until all that came before is written, or cannot be.
    pub(super) fn flush(&self) {
        let (mark, reached) = mpsc::sync_channel(1);
        let mut waiting = self.waiting();
        if waiting.closed {
            return;
        }
        waiting.items.push(Item::Mark(mark));
        self.tell(waiting);
        // An error is as good: nobody writes any more.
        let _ = reached.recv();
    }

    /// Lets the thread end when all is written.
    pub(super) fn close(&self) {
        let mut waiting = self.waiting();
        waiting.closed = true;
        waiting.sleeps = true;
        self.tell(waiting);
    }

    /// Requests that are not in the spool, since the disk or the queue was full.
    pub(super) fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn is_failing(&self) -> bool {
        self.0.failing.load(Ordering::Relaxed)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting().items.len()
    }

    /// Writes that failed.
    pub(super) fn failures(&self) -> u64 {
        self.0.failures.load(Ordering::Relaxed)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What has come since the last time, waited for at most so long; and whether nothing comes any more.
    fn take(&self, patience: Option<Duration>) -> (Vec<Item>, bool) {
        let mut waiting = self.waiting();
        while waiting.items.is_empty() && !waiting.closed {
            waiting.sleeps = true;
            let news = &self.0.news;
            waiting = match patience {
                None => news.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                Some(patience) => {
                    let woken = news.wait_timeout(waiting, patience);
                    let (mut waiting, _) = woken.unwrap_or_else(PoisonError::into_inner);
                    waiting.sleeps = false;
                    return (std::mem::take(&mut waiting.items), waiting.closed);
                }
            };
        }
        waiting.sleeps = false;
        (std::mem::take(&mut waiting.items), waiting.closed)
    }
}

// ===== impl Directory =====

impl Disk for Directory {
    type File = File;

    fn create(&mut self) -> io::Result<File> {
        let path = files::name(&self.path, self.next);
        let file = File::options().append(true).create_new(true).open(path)?;
        self.next += 1;
        Ok(file)
    }
}

impl Directory {
    /// Removes the files that nobody needs.
    fn prune(&self) {
        let Ok(all) = files::list(&self.path) else {
            return;
        };
        for (number, path) in all {
            if number + KEPT < self.next {
                // It is tried again with the next file.
                let _ = fs::remove_file(path);
            }
        }
    }
}

// ===== impl Writer =====

impl<D: Disk> Writer<D> {
    /// Begins a file with this state, at this moment of its time; behind its head it takes `most` bytes, or as many as that has.
    pub(super) fn begin(mut disk: D, state: State, began: u64, most: u64) -> io::Result<Self> {
        let file = disk.create()?;
        let mut writer = Self {
            disk,
            file: Some(file),
            text: Vec::new(),
            done: 0,
            written: 0,
            state,
            most,
            full: 0,
            began,
        };
        writer.begin_text();
        writer.flush()?;
        Ok(writer)
    }

    /// Ends what a process before did not live to end, and returns it.
    pub(super) fn settle_lost(&mut self) -> io::Result<Vec<Admitted>> {
        let lost: Vec<_> = self.state.running().cloned().collect();
        for line in &lost {
            self.write(&Line::Ended(line.lost()));
        }
        self.flush()?;
        Ok(lost)
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    fn write(&mut self, line: &Line) {
        if self.state.apply(line) {
            line.write(&mut self.text);
        }
    }

    /// Writes what is to be written; what could not be is kept.
    fn flush(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        while self.done < self.text.len() {
            match file.write(&self.text[self.done..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.done += count;
                    self.written += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.text.clear();
        self.done = 0;
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.written >= self.full
    }

    /// Begins another file where this one is full.
    fn rotate(&mut self) -> io::Result<()> {
        if !self.is_full() {
            return Ok(());
        }
        self.file = Some(self.disk.create()?);
        self.begin_text();
        self.flush()
    }

    /// The head of a file is to be written. A large one is followed by as much, so that most of what is written is no head.
    fn begin_text(&mut self) {
        self.text.clear();
        self.state.head(&mut self.text);
        self.done = 0;
        self.written = 0;
        let head = self.text.len() as u64;
        self.full = head.saturating_add(self.most.max(head));
    }

    /// The life of the thread.
    pub(super) fn run(mut self, queue: &Queue, rotated: impl Fn(&D)) {
        let shared = &queue.0;
        loop {
            let failing = shared.failing.load(Ordering::Relaxed);
            let (items, closed) = queue.take(failing.then_some(AGAIN));
            let (mut receipts, mut marks) = (Vec::new(), Vec::new());
            for item in items {
                match item {
                    Item::Admitted(admission, receipt) => {
                        self.write(&Line::Admitted(Admitted::of(&admission, self.began)));
                        receipts.push(receipt);
                    }
                    Item::Mark(mark) => marks.push(mark),
                    Item::Ended(settlement) => self.write(&Line::Ended(Settled::of(&settlement))),
                }
            }
            let outcome = self.flush();
            match &outcome {
                Ok(()) => receipts.iter().for_each(Receipt::sign),
                Err(_) => receipts.iter().for_each(Receipt::fail),
            }
            let full = outcome.is_ok() && self.is_full();
            let outcome = outcome.and_then(|()| self.rotate());
            if full {
                rotated(&self.disk);
            }
            if let Err(error) = &outcome {
                shared.failures.fetch_add(1, Ordering::Relaxed);
                if !failing {
                    tracing::error!(%error, "the spool cannot be written: requests under budgets of money are refused");
                }
            } else if failing {
                tracing::info!("the spool is written again");
            }
            shared.failing.store(outcome.is_err(), Ordering::Relaxed);
            for mark in marks {
                // Nobody may wait any more.
                let _ = mark.send(());
            }
            if closed && (outcome.is_err() || queue.waiting().items.is_empty()) {
                return;
            }
        }
    }
}

impl Writer<Directory> {
    /// The life of the thread, over a directory.
    pub(super) fn serve(self, queue: &Queue) {
        self.disk.prune();
        self.run(queue, Directory::prune);
    }
}
