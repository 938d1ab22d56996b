//! The writer of the request log: a request's end never waits for a disk or a pipe.
//!
//! Each worker appends its lines to a buffer in memory of its own; one thread writes them all. It
//! sleeps until a line comes and writes it, but not more often than each ten milliseconds: what
//! gathers meanwhile is written at once. A buffer that is full drops the line and counts it.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Write},
    mem,
    path::Path,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use tollgate_middleware::clock::{Clock, SystemClock};

/// Owns the thread that writes. Dropping it writes what is left.
#[derive(Debug)]
pub struct LogWriter {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

/// The buffer of one worker. Clones share it.
#[derive(Clone, Debug)]
pub struct Lines {
    shared: Arc<Shared>,
    worker: usize,
}

/// Where the lines go.
#[derive(Debug)]
pub struct Sink(Kind);

#[derive(Debug)]
enum Kind {
    File(File),
    Other(Opaque),
    Stderr,
    Stdout,
}

/// A writer of the embedder's.
struct Opaque(Box<dyn Write + Send>);

#[derive(Debug)]
struct Shared {
    buffers: Vec<Mutex<Vec<u8>>>,
    /// A line has come since the writer last looked.
    pending: AtomicBool,
    closing: AtomicBool,
    /// The last flush was waited for in vain.
    stuck: AtomicBool,
    dropped: AtomicU64,
    failed: AtomicU64,
    flushes: Mutex<Flushes>,
    flushed: Condvar,
}

/// Requests for a flush, counted.
#[derive(Debug, Default)]
struct Flushes {
    asked: u64,
    done: u64,
    writer: Option<Thread>,
}

impl LogWriter {
    /// Starts the thread, with a buffer for each of `workers` workers (at least one).
    ///
    /// # Errors
    ///
    /// The thread cannot be made.
    pub fn new(sink: Sink, workers: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            buffers: (0..workers.max(1)).map(|_| Mutex::default()).collect(),
            pending: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            flushes: Mutex::default(),
            flushed: Condvar::new(),
        });
        let theirs = shared.clone();
        let thread = thread::Builder::new()
            .name("log".into())
            .spawn(move || theirs.run(sink))?;
        shared.flushes().writer = Some(thread.thread().clone());
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// The buffer of worker number `worker`; a number too great shares one.
    pub fn lines(&self, worker: usize) -> Lines {
        Lines {
            worker: worker % self.shared.buffers.len(),
            shared: self.shared.clone(),
        }
    }

    /// Lines that were dropped because a buffer was full or could not be written.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Writes that failed: a broken pipe, a full disk.
    pub fn failed(&self) -> u64 {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// Waits until every line that came before is written; false if the sink takes none for five
    /// seconds.
    pub fn flush(&self) -> bool {
        let mut flushes = self.shared.flushes();
        flushes.asked += 1;
        let mine = flushes.asked;
        if let Some(writer) = &flushes.writer {
            writer.unpark();
        }
        let waited = self
            .shared
            .flushed
            .wait_timeout_while(flushes, FLUSH_TIME, |flushes| flushes.done < mine);
        let written = waited.is_ok_and(|(flushes, _)| flushes.done >= mine);
        self.shared.stuck.store(!written, Ordering::Release);
        written
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        // A sink that took nothing when it was last waited for is not waited for again.
        let written = !self.shared.stuck.load(Ordering::Acquire) && self.flush();
        self.shared.closing.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A thread that hangs in a write is left to the end of the process.
            if written {
                let _ = thread.join();
            }
        }
    }
}

impl Lines {
    /// Appends what `write` writes, and a line break. `write` only appends, and is not called if
    /// the buffer is full.
    pub fn line(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut buffer = self.shared.buffer(self.worker);
        let before = buffer.len();
        if before < CAPACITY {
            write(&mut buffer);
            buffer.push(b'\n');
        }
        if before >= CAPACITY || buffer.len() > CAPACITY {
            buffer.truncate(before);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        drop(buffer);
        // The writer clears the mark before it takes the buffer. So either it took this line, or
        // the lock that was just held shows the mark cleared.
        if !self.shared.pending.load(Ordering::Relaxed)
            && !self.shared.pending.swap(true, Ordering::AcqRel)
        {
            self.shared.wake();
        }
    }
}

impl Shared {
    /// Lets lines gather until this moment. A wake-up that was meant for the wait before does not cut it
    /// short; a flush or the end does.
    fn gather(&self, asked: u64, end: Instant) {
        loop {
            if self.flushes().asked > asked || self.closing.load(Ordering::Acquire) {
                return;
            }
            let left = end.saturating_duration_since(SystemClock.now());
            if left.is_zero() {
                return;
            }
            thread::park_timeout(left);
        }
    }

    /// The life of the thread.
    fn run(&self, mut sink: Sink) {
        let mut spare = Vec::new();
        let mut complained = false;
        let mut next = SystemClock.now();
        loop {
            let asked = self.flushes().asked;
            let due = asked > self.flushes().done;
            let closing = self.closing.load(Ordering::Acquire);
            if !due && !closing {
                if !self.pending.load(Ordering::Acquire) {
                    thread::park();
                    continue;
                }
                self.gather(asked, next);
            }
            next = SystemClock.now() + GATHER;
            self.write_all(&mut sink, &mut spare, &mut complained);
            self.flushes().done = asked;
            self.flushed.notify_all();
            if closing {
                return;
            }
        }
    }

    fn write_all(&self, sink: &mut Sink, spare: &mut Vec<u8>, complained: &mut bool) {
        self.pending.store(false, Ordering::Release);
        for worker in 0..self.buffers.len() {
            mem::swap(&mut *self.buffer(worker), spare);
            if spare.is_empty() {
                continue;
            }
            if let Err(error) = sink.write_all(spare) {
                self.failed.fetch_add(1, Ordering::Relaxed);
                let lost = memchr::memchr_iter(b'\n', spare).count() as u64;
                self.dropped.fetch_add(lost, Ordering::Relaxed);
                if !mem::replace(complained, true) {
                    tracing::error!(%error, "cannot write the request log");
                }
            } else {
                *complained = false;
            }
            // What a burst took is given back; a steady stream of lines keeps its room.
            spare.shrink_to((2 * spare.len()).max(KEPT));
            spare.clear();
        }
    }

    fn wake(&self) {
        if let Some(writer) = &self.flushes().writer {
            writer.unpark();
        }
    }

    fn buffer(&self, worker: usize) -> MutexGuard<'_, Vec<u8>> {
        self.buffers[worker]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn flushes(&self) -> MutexGuard<'_, Flushes> {
        self.flushes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// ===== impl Sink =====

impl Sink {
    /// Standard output.
    pub fn stdout() -> Self {
        Self(Kind::Stdout)
    }

    /// Standard error.
    pub fn stderr() -> Self {
        Self(Kind::Stderr)
    }

    /// The end of a file, which is made if it is missing.
    ///
    /// # Errors
    ///
    /// The file cannot be opened for writing.
    pub fn file(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self(Kind::File(file)))
    }

    /// Any writer.
    pub fn writer(writer: impl Write + Send + 'static) -> Self {
        Self(Kind::Other(Opaque(Box::new(writer))))
    }

    fn write_all(&mut self, lines: &[u8]) -> io::Result<()> {
        let to: &mut dyn Write = match &mut self.0 {
            Kind::File(file) => file,
            Kind::Other(Opaque(writer)) => writer,
            Kind::Stderr => &mut io::stderr(),
            Kind::Stdout => &mut io::stdout(),
        };
        to.write_all(lines)?;
        to.flush()
    }
}

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writer")
    }
}

/// Bytes of one worker's buffer.
const CAPACITY: usize = 1024 * 1024;
/// Of which these stay reserved.
const KEPT: usize = 64 * 1024;
/// Shortest time between two writes that nobody waits for.
const GATHER: Duration = Duration::from_millis(10);
/// How long a flush may take.
const FLUSH_TIME: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Hands each write to the test, and waits for leave where the test wants that.
    struct Watched {
        written: mpsc::Sender<Vec<u8>>,
        leave: Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>,
    }

    impl Write for Watched {
        fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
            if let Some((entered, leave)) = &self.leave {
                // The end of the test is leave too.
                let _ = entered.send(());
                let _ = leave.recv();
            }
            self.written
                .send(lines.to_vec())
                .map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(lines.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn watched() -> (LogWriter, mpsc::Receiver<Vec<u8>>) {
        let (written, writes) = mpsc::channel();
        let leave = None;
        let sink = Sink::writer(Watched { written, leave });
        (LogWriter::new(sink, 2).unwrap(), writes)
    }

    fn text(lines: &Lines, text: &str) {
        lines.line(|line| line.extend_from_slice(text.as_bytes()));
    }

    #[test]
    fn the_first_line_is_written_though_nobody_flushes() {
        let (log, writes) = watched();
        text(&log.lines(0), "one");
        assert_eq!(writes.recv().unwrap(), b"one\n");
        text(&log.lines(1), "two");
        assert_eq!(writes.recv().unwrap(), b"two\n");
    }

    #[test]
    fn a_flush_writes_all_lines_of_all_workers_in_their_order() {
        let (log, writes) = watched();
        let (one, two) = (log.lines(0), log.lines(1));
        for count in 0..1000 {
            text(&one, &format!("a{count}"));
            text(&two, &format!("b{count}"));
        }
        assert!(log.flush());
        let all: Vec<u8> = writes.try_iter().flatten().collect();
        let all = String::from_utf8(all).unwrap();
        for worker in ["a", "b"] {
            let expected = (0..1000).map(|count| format!("{worker}{count}"));
            assert!(
                all.lines()
                    .filter(|line| line.starts_with(worker))
                    .eq(expected)
            );
        }
        assert_eq!(log.dropped(), 0);
    }

    #[test]
    fn what_comes_before_the_end_is_written_at_the_end() {
        let (log, writes) = watched();
        let lines = log.lines(7);
        text(&lines, "last");
        drop(log);
        assert_eq!(writes.iter().flatten().collect::<Vec<_>>(), b"last\n");
    }

    #[test]
    fn a_full_buffer_drops_whole_lines_and_never_waits() {
        let (written, writes) = mpsc::channel();
        let (entered, blocked) = mpsc::channel();
        let (leave, wait) = mpsc::channel();
        let sink = Sink::writer(Watched {
            written,
            leave: Some((entered, wait)),
        });
        let log = LogWriter::new(sink, 1).unwrap();
        let lines = log.lines(0);
        text(&lines, "first");
        blocked.recv().unwrap();
        // The sink takes nothing now, and four of these lines fill the buffer.
        let long = "x".repeat(CAPACITY / 4 - 1);
        for _ in 0..4 {
            text(&lines, &long);
        }
        assert_eq!(log.dropped(), 0);
        text(&lines, "fifth");
        text(&lines, "sixth");
        assert_eq!(log.dropped(), 2);
        drop(leave);
        assert!(log.flush());
        text(&lines, "there is room again");
        lines.line(|line| line.extend_from_slice(&vec![b'y'; CAPACITY]));
        assert_eq!(log.dropped(), 3);
        assert!(log.flush());
        let all: Vec<u8> = writes.try_iter().flatten().collect();
        let expected = format!("first\n{long}\n{long}\n{long}\n{long}\nthere is room again\n");
        assert!(all == expected.as_bytes());
    }

    #[test]
    fn a_sink_that_is_gone_is_counted() {
        let (log, writes) = watched();
        drop(writes);
        let lines = log.lines(0);
        for _ in 0..3 {
            text(&lines, "lost");
        }
        assert!(log.flush());
        assert!(log.failed() >= 1);
        assert_eq!(log.dropped(), 3);
    }

    #[test]
    fn a_file_is_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("requests.log");
        for line in ["one", "two"] {
            let log = LogWriter::new(Sink::file(&path).unwrap(), 1).unwrap();
            text(&log.lines(0), line);
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        assert!(Sink::file(&folder.path().join("no/such")).is_err());
    }
}
