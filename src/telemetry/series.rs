//! Figures by route, provider, model, variant and operation: counted per worker without a lock, summed when somebody looks.
//!
//! Every label is from the configuration or from the price table, so that no client can make a series.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use tollgate_middleware::dialect::Operation;

mod cell;
mod text;

use self::cell::Cell;

/// All series that there have been. Clones are the same.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    operations: &'static [&'static str],
    workers: usize,
    // Locked when a configuration begins and when somebody looks.
    all: Mutex<BTreeMap<Labels, Arc<Series>>>,
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
#[derive(Clone, Debug, Default)]
pub struct View(Arc<HashMap<String, Vec<Targets>>>);

#[derive(Debug)]
struct Targets {
    provider: String,
    label: Option<String>,
    models: HashMap<String, Arc<Series>>,
    other: Arc<Series>,
}

#[derive(Debug)]
struct Series {
    /// By worker and operation.
    cells: Box<[OnceLock<Box<Cell>>]>,
}

/// What is known of a request that a provider was asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ended {
    /// Its operation, as an index; beyond the list for one that has none.
    pub operation: usize,
    /// From its arrival to its end.
    pub duration: Duration,
    /// To the first byte of the answer.
    pub first_byte: Option<Duration>,
    /// To the first output.
    pub first_token: Option<Duration>,
    /// Tokens of the input and of the output.
    pub tokens: [u64; 2],
    /// The provider said so.
    pub reported: bool,
    /// What they cost, in USD.
    pub cost: Option<f64>,
    /// Our own share of the time.
    pub overhead: Option<Duration>,
    /// Who cut a running answer short, as an index into [`CAUSES`].
    pub cut: Option<usize>,
}

/// The words of the label `cause`.
pub const CAUSES: [&str; 4] = ["upstream", "client", "drain", "timeout"];

// ===== impl Registry =====

impl Registry {
    /// For `workers` workers (at least one) and requests of these operations.
    pub fn new(workers: usize, operations: &'static [&'static str]) -> Self {
        Self(Arc::new(Inner {
            operations,
            workers: workers.max(1),
            all: Mutex::default(),
        }))
    }

    /// The series of a configuration. Those of the same labels count on; beyond a thousand, models share one.
    pub fn view(&self, places: impl IntoIterator<Item = Place>) -> View {
        let mut all = self.all();
        let targets = places.into_iter().map(|place| {
            let labels = |model: &str| -> Labels {
                let route = place.route.as_deref().unwrap_or_default();
                let label = place.label.as_deref().unwrap_or_default();
                [route, &place.provider, model, label].map(Into::into)
            };
            let other = self.series(&mut all, labels(OTHER));
            let mut models = HashMap::new();
            for model in &place.models {
                if all.len() < MOST || all.contains_key(&labels(model)) {
                    let series = self.series(&mut all, labels(model));
                    models.insert(model.clone(), series);
                }
            }
            let targets = Targets {
                provider: place.provider,
                label: place.label,
                models,
                other,
            };
            (place.route.unwrap_or_default(), targets)
        });
        let mut by_route = HashMap::<_, Vec<_>>::new();
        for (route, targets) in targets {
            by_route.entry(route).or_default().push(targets);
        }
        View(Arc::new(by_route))
    }

    fn series(&self, all: &mut BTreeMap<Labels, Arc<Series>>, labels: Labels) -> Arc<Series> {
        let cells = self.0.workers * (self.0.operations.len() + 1);
        all.entry(labels)
            .or_insert_with(|| {
                Arc::new(Series {
                    cells: (0..cells).map(|_| OnceLock::new()).collect(),
                })
            })
            .clone()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<Labels, Arc<Series>>> {
        self.0.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has ended at worker number `worker`.
    pub fn ended(&self, view: &View, worker: usize, met: &Met<'_>, ended: &Ended) {
        let Some(series) = view.find(met) else {
            return;
        };
        let operations = self.0.operations.len();
        let operation = ended.operation.min(operations);
        let at = (worker % self.0.workers) * (operations + 1) + operation;
        if let Some(cell) = series.cells.get(at) {
            cell.get_or_init(Box::default).ended(ended);
        }
    }
}

/// What a request met.
#[derive(Clone, Copy, Debug)]
pub struct Met<'a> {
    /// The route's name.
    pub route: Option<&'a str>,
    /// The provider's name.
    pub provider: &'a str,
    /// The target's label.
    pub label: Option<&'a str>,
    /// The model as the provider was asked for it.
    pub upstream_model: Option<&'a str>,
    /// The model that was asked for.
    pub model: Option<&'a str>,
}

impl View {
    fn find(&self, met: &Met<'_>) -> Option<&Series> {
        let targets = self.0.get(met.route.unwrap_or_default())?;
        let mut targets = targets.iter();
        let met_there =
            |it: &&Targets| it.provider == met.provider && it.label.as_deref() == met.label;
        let targets = targets.find(met_there)?;
        let known = |model: Option<&str>| targets.models.get(model?);
        let series = known(met.upstream_model).or_else(|| known(met.model));
        Some(series.unwrap_or(&targets.other))
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

/// Models that are not told apart, and operations that have no name.
const OTHER: &str = "other";
/// Series that are told apart.
const MOST: usize = 1000;

#[cfg(test)]
mod tests;
