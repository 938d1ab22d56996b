//! Figures by route, provider, model and operation: counted per worker without a lock, summed when somebody looks.
//!
//! Every label is from the configuration or from the price table, so that no client can make a series.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasherDefault, Hasher},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, SystemTime},
};

use tollgate_middleware::{
    dialect::{self, Dialect, Operation},
    record::{self, Attempt, Gaps, Running, TraceId},
};

mod callers;
mod cell;
mod counts;
mod exemplars;
mod sums;
mod text;

use self::{
    callers::{Callers, Counts},
    cell::Cell,
    counts::{Asked, Count, Failovers, Statuses},
};
pub(super) use self::{
    cell::{Histogram, OVERHEAD},
    exemplars::Examples,
    sums::Totals,
    text::observed,
};

/// All series that there have been. Clones are the same.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    workers: usize,
    // Locked when a configuration begins and when somebody looks.
    all: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    series: BTreeMap<Labels, Arc<Series>>,
    /// In the order in which they came.
    blocks: Vec<Arc<Block>>,
    asked: BTreeMap<Box<str>, Arc<Asked>>,
    failovers: BTreeMap<[Box<str>; 2], Arc<Count>>,
    callers: BTreeMap<Box<str>, Arc<Counts>>,
}

/// Route, provider, model, and the target's own label, which may be empty.
type Labels = [Box<str>; 4];

/// One target of a configuration.
#[derive(Clone, Debug)]
pub struct Place {
    /// The route's name; `None` for the implicit routes.
    pub route: Option<String>,
    /// The provider's name.
    pub provider: String,
    /// The target's label.
    pub label: Option<String>,
    /// The models that are told apart.
    pub models: Vec<String>,
}

/// The series of one configuration, to be found by what a request met.
#[derive(Clone, Debug)]
pub struct View {
    met: Arc<[Met]>,
    callers: Option<Arc<Callers>>,
}

/// What a request may meet on one route. The last one is that of no route, and of implicit ones.
#[derive(Debug)]
struct Met {
    block: Arc<Block>,
    targets: Box<[Target]>,
    failovers: Failovers,
}

#[derive(Debug)]
struct Target {
    provider: String,
    label: Option<String>,
    asked: Arc<Asked>,
    // Whoever asks for a model makes up its name, but puts nothing in: a few bits of a hash are enough.
    models: HashMap<String, Arc<Series>, BuildHasherDefault<Mix>>,
    other: Arc<Series>,
}

#[derive(Debug)]
struct Series {
    /// By worker and operation.
    cells: Box<[OnceLock<Box<Cell>>]>,
}

/// What is counted for one value of the label `route`, whatever provider is asked.
#[derive(Debug)]
struct Block {
    route: Box<str>,
    workers: Box<[OfWorker]>,
}

#[derive(Debug)]
struct OfWorker {
    running: Arc<Running>,
    /// Of requests for which no provider was asked, by operation.
    refused: Box<[OnceLock<Box<Statuses>>]>,
}

/// A request that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Status of the answer; 0 if none was sent.
    pub status: u16,
    /// How it ended.
    pub outcome: record::Ended,
    /// Its operation, as an index; beyond the list for one that has none.
    pub operation: usize,
    /// From its arrival to its end.
    pub duration: Duration,
    /// To the moment at which the request had gone to the provider that answered.
    pub sent: Option<Duration>,
    /// To the first byte of the answer.
    pub first_byte: Option<Duration>,
    /// To the first output.
    pub first_token: Option<Duration>,
    /// A stream was asked for.
    pub stream: bool,
    /// Tokens of the input and of the output.
    pub tokens: [u64; 2],
    /// The provider said so.
    pub reported: bool,
    /// What the provider said, if it did.
    pub usage: Option<Usage>,
    /// What they cost, in USD.
    pub cost: Option<f64>,
    /// Who cut a running answer short, as an index into [`CAUSES`].
    pub cut: Option<usize>,
    /// The times between the outputs of a stream.
    pub gaps: Gaps,
    /// The trace that it belongs to, and when it ended.
    pub trace: Option<(TraceId, SystemTime)>,
}

/// What a provider said that a request used, in OpenTelemetry's terms: what went through a cache is part of the input, and thoughts are
/// part of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the input.
    pub input: u64,
    /// Those of them that were read from a cache.
    pub cache_read: u64,
    /// Those of them that were written to one.
    pub cache_write: u64,
    /// Tokens of the output.
    pub output: u64,
    /// Those of them that were thoughts.
    pub reasoning: u64,
}

impl Usage {
    /// The same in the provider's words.
    pub fn of(dialect: Dialect, usage: &dialect::Usage) -> Self {
        Self {
            input: usage.input(dialect),
            cache_read: usage.cached.unwrap_or(0),
            cache_write: usage.cache_write.unwrap_or(0),
            output: usage.output(dialect),
            reasoning: usage.reasoning.unwrap_or(0),
        }
    }

    /// In the order of their names.
    fn counts(&self) -> [u64; 5] {
        [
            self.input,
            self.output,
            self.cache_read,
            self.cache_write,
            self.reasoning,
        ]
    }
}

/// The answer of an attempt that was thrown away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wasted {
    /// Tokens of the input and of the output.
    pub tokens: [u64; 2],
    /// What they cost, in USD.
    pub cost: Option<f64>,
}

/// The words of the label `cause`.
pub const CAUSES: [&str; 4] = ["upstream", "client", "drain", "timeout"];

/// Where a request belongs: its route, by its place in the configuration, and the model that was asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct At<'a> {
    /// The place of its route.
    pub route: Option<usize>,
    /// The model, as the client named it.
    pub model: Option<&'a str>,
    /// Who asked.
    pub caller: Option<&'a str>,
    /// The place among the calls to providers of the one that the answer is of; `None`: the last.
    pub answered: Option<usize>,
}

impl Ended {
    /// A request that ended so, of which nothing else is known.
    pub fn of(outcome: record::Ended) -> Self {
        Self {
            status: 0,
            outcome,
            operation: usize::MAX,
            duration: Duration::ZERO,
            sent: None,
            first_byte: None,
            first_token: None,
            stream: false,
            tokens: [0; 2],
            reported: false,
            usage: None,
            cost: None,
            cut: None,
            gaps: Gaps::default(),
            trace: None,
        }
    }
}

// ===== impl Registry =====

impl Registry {
    /// For `workers` workers (at least one).
    pub fn new(workers: usize) -> Self {
        Self(Arc::new(Inner {
            workers: workers.max(1),
            all: Mutex::default(),
        }))
    }

    /// The series of a configuration with these routes and these targets. Those of the same labels count on; beyond the first `most`
    /// of each kind, routes share one label, and so do providers and models.
    pub fn view(
        &self,
        routes: &[String],
        most: usize,
        places: impl IntoIterator<Item = Place>,
    ) -> View {
        let mut all = self.all();
        let named = routes.iter().map(String::as_str).chain([NO_ROUTE]);
        let blocks: Vec<_> = named
            .map(|route| self.block(&mut all, route, most))
            .collect();
        let mut targets: Vec<Vec<Target>> = blocks.iter().map(|_| Vec::new()).collect();
        for place in places {
            let at = match &place.route {
                Some(named) => routes.iter().position(|route| route == named),
                None => Some(routes.len()),
            };
            if let Some(at) = at {
                let target = self.target(&mut all, place, &blocks[at].route, most);
                targets[at].push(target);
            }
        }
        let met = blocks.into_iter().zip(targets).map(|(block, targets)| Met {
            failovers: self.failovers(&mut all, &targets, most),
            targets: targets.into(),
            block,
        });
        View {
            met: met.collect(),
            callers: None,
        }
    }

    /// The same, where these callers are told apart, the first `most` of all that there have been.
    #[must_use]
    pub fn with_callers<'n>(
        &self,
        view: &View,
        callers: impl IntoIterator<Item = &'n str>,
        most: usize,
    ) -> View {
        let mut all = self.all();
        let all = &mut all.callers;
        let fresh = || Arc::new(Counts::new(self.0.workers));
        let mut counts = |name: &str, most| {
            let known = all.contains_key(name) || all.len() < most;
            known.then(|| all.entry(name.into()).or_insert_with(fresh).clone())
        };
        let other = counts(OTHER, usize::MAX).unwrap_or_else(fresh);
        let none = counts("", usize::MAX).unwrap_or_else(fresh);
        let callers = callers.into_iter();
        let named = callers.filter_map(|name| Some((name.to_owned(), counts(name, most)?)));
        let named = named.collect();
        View {
            met: view.met.clone(),
            callers: Some(Arc::new(Callers { named, other, none })),
        }
    }

    fn target(&self, all: &mut All, place: Place, route: &str, most: usize) -> Target {
        let variant = place.label.as_deref().unwrap_or_default();
        let labels =
            |model: &str| -> Labels { [route, &*place.provider, model, variant].map(Box::from) };
        let other = self.series(all, labels(OTHER));
        let mut models = HashMap::default();
        for model in &place.models {
            if all.series.len() < most || all.series.contains_key(&labels(model)) {
                let series = self.series(all, labels(model));
                models.insert(model.clone(), series);
            }
        }
        let known = all.asked.contains_key(&*place.provider) || all.asked.len() < most;
        let label = if known { &*place.provider } else { OTHER };
        let asked = all.asked.entry(label.into());
        let asked = asked.or_insert_with(|| Arc::new(Asked::new(self.0.workers)));
        Target {
            asked: asked.clone(),
            provider: place.provider,
            label: place.label,
            models,
            other,
        }
    }

    fn series(&self, all: &mut All, labels: Labels) -> Arc<Series> {
        let cells = self.0.workers * (OPERATIONS.len() + 1);
        let made = || Series {
            cells: (0..cells).map(|_| OnceLock::new()).collect(),
        };
        let series = all.series.entry(labels);
        series.or_insert_with(|| Arc::new(made())).clone()
    }

    fn failovers(&self, all: &mut All, targets: &[Target], most: usize) -> Failovers {
        let mut count = |from: &Target, to: &Target| {
            let labels = [&*from.provider, &*to.provider].map(Box::from);
            let known = all.failovers.contains_key(&labels) || all.failovers.len() < most;
            let labels = if known {
                labels
            } else {
                [OTHER, OTHER].map(Box::from)
            };
            let count = all.failovers.entry(labels);
            let count = count.or_insert_with(|| Arc::new(Count::new(self.0.workers)));
            count.clone()
        };
        let pairs = targets
            .iter()
            .flat_map(|from| targets.iter().map(move |to| (from, to)));
        Failovers {
            providers: targets.len(),
            counts: pairs.map(|(from, to)| count(from, to)).collect(),
        }
    }

    fn block(&self, all: &mut All, route: &str, most: usize) -> Arc<Block> {
        let blocks = &mut all.blocks;
        let known = |blocks: &[Arc<Block>], route: &str| {
            blocks.iter().find(|block| *block.route == *route).cloned()
        };
        let full = blocks.len() >= most && route != NO_ROUTE;
        let label = if full { OTHER } else { route };
        if let Some(block) = known(blocks, route).or_else(|| known(blocks, label)) {
            return block;
        }
        let workers = (0..self.0.workers).map(|_| OfWorker {
            running: Arc::default(),
            refused: (0..=OPERATIONS.len()).map(|_| OnceLock::new()).collect(),
        });
        let block = Arc::new(Block {
            route: label.into(),
            workers: workers.collect(),
        });
        blocks.push(block.clone());
        block
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.0.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn workers(&self) -> usize {
        self.0.workers
    }
}

// ===== impl View =====

impl View {
    fn met(&self, route: Option<usize>) -> &Met {
        // The last one is that of no route.
        let none = self.met.len() - 1;
        &self.met[route.map_or(none, |route| route.min(none))]
    }

    /// Where requests of a route are counted while they run at worker number `worker`.
    pub fn running(&self, worker: usize, route: Option<usize>) -> &Arc<Running> {
        let workers = &self.met(route).block.workers;
        &workers[worker % workers.len()].running
    }

    /// A request has ended at worker number `worker`, after these calls to providers.
    pub fn ended(&self, worker: usize, at: &At<'_>, attempts: &[Attempt], ended: &Ended) {
        if let Some(callers) = &self.callers {
            callers.of(at.caller).add(worker, ended);
        }
        let met = self.met(at.route);
        let worker = worker % met.block.workers.len();
        let operation = ended.operation.min(OPERATIONS.len());
        met.calls(worker, attempts);
        let answered = at
            .answered
            .map_or_else(|| attempts.last(), |at| attempts.get(at));
        let target = answered.and_then(|attempt| met.find(attempt));
        let Some(target) = target.map(|at| &met.targets[at]) else {
            let statuses = met.block.workers[worker].refused[operation].get_or_init(Box::default);
            return statuses.add(ended.status, ended.outcome);
        };
        let series = target.series(answered, at.model);
        series.cell(worker, operation).ended(ended);
    }

    /// An answer to one of the attempts was thrown away.
    pub fn wasted(
        &self,
        worker: usize,
        at: &At<'_>,
        operation: usize,
        attempt: &Attempt,
        wasted: &Wasted,
    ) {
        let met = self.met(at.route);
        let worker = worker % met.block.workers.len();
        if let Some(at_target) = met.find(attempt) {
            let series = met.targets[at_target].series(Some(attempt), at.model);
            series
                .cell(worker, operation.min(OPERATIONS.len()))
                .wasted(wasted);
        }
    }
}

impl Met {
    fn find(&self, attempt: &Attempt) -> Option<usize> {
        let mut targets = self.targets.iter();
        targets.position(|target| {
            *target.provider == *attempt.provider
                && target.label.as_deref() == attempt.label.as_deref()
        })
    }

    /// Counts the calls.
    fn calls(&self, worker: usize, attempts: &[Attempt]) {
        let mut before: Option<(usize, &Attempt)> = None;
        for attempt in attempts {
            let Some(at) = self.find(attempt) else {
                before = None;
                continue;
            };
            self.targets[at].asked.add(worker, attempt);
            if let Some((from, last)) = before
                && last.target != attempt.target
            {
                self.failovers.add(worker, from, at);
            }
            before = Some((at, attempt));
        }
    }
}

impl Target {
    /// By the model as the provider was asked for it, or else as it was asked of us.
    fn series(&self, attempt: Option<&Attempt>, model: Option<&str>) -> &Series {
        let own = attempt.and_then(|attempt| attempt.model.as_deref());
        let known = |model: Option<&str>| self.models.get(model?);
        known(own)
            .or_else(|| known(model.filter(|model| Some(*model) != own)))
            .unwrap_or(&self.other)
    }
}

impl Series {
    fn cell(&self, worker: usize, operation: usize) -> &Cell {
        let at = worker * (OPERATIONS.len() + 1) + operation;
        self.cells[at].get_or_init(Box::default)
    }
}

/// A cheap hash of names that are put in by the configuration alone.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(byte.into());
    }

    fn write_u64(&mut self, word: u64) {
        // The odd number next to 2^64 divided by the golden ratio.
        self.0 = (self.0.rotate_left(29) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        // The table goes by the low bits and by the highest ones: a product has little in its low ones.
        self.0 ^ (self.0 >> 32)
    }
}

/// The words of the label `gen_ai_operation_name`: OpenTelemetry's where it has one, else the configuration's.
pub const OPERATIONS: [&str; 20] = {
    let mut words = [""; 20];
    let mut at = 0;
    while at < words.len() {
        words[at] = NAMED[at].1;
        at += 1;
    }
    words
};

/// The place of an operation in [`OPERATIONS`].
#[must_use]
pub fn operation(operation: Operation) -> usize {
    let named = NAMED.iter().position(|(named, _)| *named == operation);
    named.unwrap_or(NAMED.len())
}

const NAMED: [(Operation, &str); 20] = [
    (Operation::Chat, "chat"),
    (Operation::Completions, "text_completion"),
    (Operation::Responses, "chat"),
    (Operation::Messages, "chat"),
    (Operation::Generate, "generate_content"),
    (Operation::Converse, "chat"),
    (Operation::Invoke, "invoke"),
    (Operation::Predict, "predict"),
    (Operation::Embeddings, "embeddings"),
    (Operation::Rerank, "rerank"),
    (Operation::Moderations, "moderations"),
    (Operation::CountTokens, "count_tokens"),
    (Operation::Images, "images"),
    (Operation::ImageEdits, "image_edits"),
    (Operation::ImageVariations, "image_variations"),
    (Operation::Speech, "speech"),
    (Operation::Transcriptions, "transcriptions"),
    (Operation::Translations, "translations"),
    (Operation::Models, "models"),
    (Operation::Model, "model"),
];

/// The label of those requests that met no route.
const NO_ROUTE: &str = "";
/// Routes, models and providers that are not told apart, and operations that have no name.
const OTHER: &str = "other";

#[cfg(test)]
mod tests;
