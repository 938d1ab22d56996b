//! Counting with the tokenizer itself, beside the requests: what was asked and what was said, of models of OpenAI's.

mod prompt;
mod text;
mod vocabulary;

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use bytes::Bytes;

use self::{text::Tail, vocabulary::Vocabulary};
use super::said::Said;
use crate::dialect::Surface;

/// Counts tokens of OpenAI's models for [`MeterLayer`](super::MeterLayer), so that what is charged by estimate is counted and not
/// guessed.
///
/// It is a handle: the counting itself is done by [`Counting`], on a thread of the embedder's. A request never waits for it. What
/// is handed over is bounded (1024 pieces, 8 MiB), and what finds no room or is not counted when an answer ends is guessed by its
/// bytes, as without a tokenizer. Clones share the queue.
///
/// A vocabulary (66 MB) is loaded by its first use, on that thread.
///
/// ```
/// use tollgate_middleware::meter::{InjectLayer, MeterLayer, Tokenizer};
///
/// let (tokenizer, counting) = Tokenizer::pair();
/// let counter = std::thread::spawn(move || counting.run());
/// // The one keeps what was asked, the other reads what is said.
/// let layers = (
///     InjectLayer::new(false).keep_prompts(true),
///     MeterLayer::new().tokenizer(tokenizer),
/// );
/// // With the last handle the thread ends.
/// drop(layers);
/// counter.join().unwrap();
/// ```
#[derive(Clone)]
pub struct Tokenizer {
    to: SyncSender<Job>,
    queue: Arc<Queue>,
}

/// The work of a [`Tokenizer`]: give it a thread.
pub struct Counting {
    from: Receiver<Job>,
    queue: Arc<Queue>,
}

/// What waits to be counted.
#[derive(Debug, Default)]
struct Queue {
    jobs: AtomicUsize,
    bytes: AtomicUsize,
}

/// What is to be counted, and where the number belongs.
struct Job {
    bytes: usize,
    what: What,
    tally: Arc<Counted>,
}

enum What {
    Prompt(Vec<Bytes>, Surface),
    /// What was said next, between quotes as JSON has it, and how many units of the heuristic it is.
    Said(Vec<u8>, u64),
}

/// What has been counted of one exchange.
#[derive(Debug)]
struct Counted {
    vocabulary: Vocabulary,
    /// One more than the tokens of the prompt; zero until it is counted.
    prompt: AtomicU64,
    /// Tokens of what was said in the upper half, and in the lower how many units these were.
    said: AtomicU64,
    /// Locked by the thread that counts, and by nobody else.
    tail: Mutex<Tail>,
}

/// The body of a request, kept for the tokenizer; in the request's extensions.
#[derive(Clone)]
pub(in crate::meter) struct Sent(pub(in crate::meter) Vec<Bytes>);

/// The counts of one exchange as its meter sees them; empty where nobody counts.
#[derive(Debug, Default)]
pub(in crate::meter) struct Tally(Option<Box<Told>>);

#[derive(Debug)]
struct Told {
    tokenizer: Tokenizer,
    counted: Arc<Counted>,
    /// Units of what was handed over or lost.
    units: u64,
}

// ===== impl Tokenizer =====

impl Tokenizer {
    /// A handle for layers, and the work that stands behind it.
    pub fn pair() -> (Self, Counting) {
        let (to, from) = sync_channel(JOBS);
        let queue = Arc::new(Queue::default());
        let handle = Self {
            to,
            queue: Arc::clone(&queue),
        };
        (handle, Counting { from, queue })
    }

    /// The vocabulary of a model, if it is known.
    pub(in crate::meter) fn knows(model: &str) -> Option<Vocabulary> {
        Vocabulary::of(model)
    }

    /// Begins to count an exchange.
    pub(in crate::meter) fn begin(
        &self,
        vocabulary: Vocabulary,
        sent: Option<Sent>,
        surface: Option<&Surface>,
    ) -> Tally {
        let told = Told {
            tokenizer: self.clone(),
            counted: Arc::new(Counted {
                vocabulary,
                prompt: AtomicU64::new(0),
                said: AtomicU64::new(0),
                tail: Mutex::default(),
            }),
            units: 0,
        };
        if let (Some(Sent(frames)), Some(surface)) = (sent, surface) {
            let bytes = frames.iter().map(Bytes::len).sum();
            if bytes <= LONGEST_PROMPT {
                told.hand_over(bytes, What::Prompt(frames, surface.clone()));
            }
        }
        Tally(Some(Box::new(told)))
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tokenizer").field(&self.queue).finish()
    }
}

// ===== impl Counting =====

impl Counting {
    /// Counts until every handle is gone. Blocks: it is for a thread, not for a task.
    pub fn run(self) {
        while let Ok(job) = self.from.recv() {
            self.count(job);
        }
    }

    /// Counts what waits, and no more.
    #[cfg(test)]
    pub(in crate::meter) fn catch_up(&self) {
        while let Ok(job) = self.from.try_recv() {
            self.count(job);
        }
    }

    fn count(&self, job: Job) {
        let tally = &job.tally;
        match job.what {
            What::Prompt(frames, surface) => {
                if let Some(count) = prompt::count(tally.vocabulary, &frames, &surface) {
                    tally.prompt.store(count + 1, Ordering::Release);
                }
            }
            What::Said(text, units) => {
                let tokens = tally.vocabulary.load();
                let mut tail = tally.tail.lock().unwrap_or_else(PoisonError::into_inner);
                tail.join(&text, |text| tokens.count(text) as u64);
                let units = (tally.said.load(Ordering::Relaxed) & HALF) + units;
                let said = tail.tokens().min(HALF) << 32 | units.min(HALF);
                tally.said.store(said, Ordering::Release);
            }
        }
        self.queue.jobs.fetch_sub(1, Ordering::Relaxed);
        self.queue.bytes.fetch_sub(job.bytes, Ordering::Relaxed);
    }
}

impl fmt::Debug for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Counting").field(&self.queue).finish()
    }
}

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sent").field(&self.0.len()).finish()
    }
}

// ===== impl Told =====

impl Told {
    /// What finds no room is dropped.
    fn hand_over(&self, bytes: usize, what: What) {
        let queue = &self.tokenizer.queue;
        let before = queue.bytes.fetch_add(bytes, Ordering::Relaxed);
        queue.jobs.fetch_add(1, Ordering::Relaxed);
        let job = Job {
            bytes,
            what,
            tally: Arc::clone(&self.counted),
        };
        let taken = before + bytes <= BYTES && self.tokenizer.to.try_send(job).is_ok();
        if !taken {
            queue.bytes.fetch_sub(bytes, Ordering::Relaxed);
            queue.jobs.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

// ===== impl Tally =====

impl Tally {
    /// Whether what is said is wanted.
    pub(in crate::meter) fn listens(&self) -> bool {
        self.0.is_some()
    }

    /// Takes what was said so far, if it is worth a piece or if nothing else waits; `units` is what it all is in units.
    pub(in crate::meter) fn hear(&mut self, said: &mut Said, units: u64) {
        let Some(told) = &mut self.0 else { return };
        let idle = told.tokenizer.queue.jobs.load(Ordering::Relaxed) == 0;
        if said.is_empty() || !(idle || said.len() >= PIECE) {
            return;
        }
        let text = said.take();
        let more = units.saturating_sub(told.units);
        told.units = units;
        // A piece that finds no room is guessed; what joins over the gap is off by a token.
        told.hand_over(text.len(), What::Said(text, more));
    }

    /// The tokens of what was asked, if they are counted.
    pub(in crate::meter) fn prompt(&self) -> Option<u64> {
        let counted = &self.0.as_ref()?.counted;
        counted.prompt.load(Ordering::Acquire).checked_sub(1)
    }

    /// The tokens of what was said, `units` of the heuristic in all: counted as far as that was done, and for the rest at the rate
    /// of what was counted. `None` if nothing was.
    pub(in crate::meter) fn completion(&self, units: u64) -> Option<u64> {
        let counted = &self.0.as_ref()?.counted;
        let said = counted.said.load(Ordering::Acquire);
        let (tokens, counted) = (said >> 32, said & HALF);
        if tokens == 0 || counted == 0 {
            return None;
        }
        let rest = units.saturating_sub(counted);
        let rate = tokens as f64 / counted as f64;
        Some(tokens + (rest as f64 * rate).round() as u64)
    }
}

const HALF: u64 = u32::MAX as u64;

/// Pieces that may wait.
const JOBS: usize = 1024;

/// Bytes that may wait.
const BYTES: usize = 8 << 20;

/// The longest prompt that is counted: a thirtieth of a second's work.
const LONGEST_PROMPT: usize = 1 << 20;

/// From so many bytes on, what was said is handed over even if others wait.
const PIECE: usize = 512;
