//! What is known of a request when it is reckoned up, and how it is billed.

use http::{HeaderMap, Method, Request, header};

use super::{
    policy::{Policy, Question, USUAL_OUTPUT},
    reckoned::{Bound, Reckoned},
};
use crate::{
    body::Held,
    dialect::{
        self, Operation, Recognised,
        spelling::{self, Spelling},
    },
    error::Rejection,
    estimate::Estimator,
    facts::{Caller, Intent, OutputLimit, Route},
    json::Value,
    prices::Price,
    record::Record,
};

/// What is known of a request when it is reckoned up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    pub(super) recognised: Option<&'a Recognised>,
    pub(super) intent: Option<&'a Intent>,
    pub(super) limit: Option<OutputLimit>,
    pub(super) question: Question<'a>,
    /// Bytes of a body that was not read, as far as it says.
    pub(super) length: u64,
    /// It asks to be answered where nobody sees what it costs.
    pub(super) background: bool,
}

/// How a request is billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Billed {
    /// Not at all: lists, counts, what is stored.
    Not,
    /// By its input.
    Input,
    /// By its input and output.
    Both,
    /// Out of sight, or by nobody knows what.
    Unseen,
}

impl Policy {
    /// What a request may cost at the most, by its facts; none for one that costs nothing, whatever comes.
    ///
    /// # Errors
    ///
    /// A refusal of what has no price, under a budget of money.
    pub fn reckon<B>(&self, req: &Request<Held<B>>) -> Result<Option<Reckoned>, Rejection> {
        let facts = req.extensions();
        let agreed = self.agreed(facts.get::<Caller>());
        let mut unrecorded = None;
        let recognised = recognised(req, facts.get(), &mut unrecorded);
        let routed = facts.get::<Route>();
        self.worst(&agreed, &asked(req, recognised, routed))
    }
}

/// What a request asks for: as the record has it, else as it is seen here.
pub(super) fn recognised<'a, B>(
    req: &Request<Held<B>>,
    record: Option<&'a Record>,
    here: &'a mut Option<Recognised>,
) -> &'a Recognised {
    match record {
        Some(record) => record.recognised(),
        None => {
            let (uri, headers) = (req.uri(), req.headers());
            here.insert(dialect::recognise(
                req.method(),
                uri.path(),
                uri.query(),
                headers,
            ))
        }
    }
}

/// What of a request is reckoned with.
pub(super) fn asked<'a, B>(
    req: &'a Request<Held<B>>,
    recognised: &'a Recognised,
    routed: Option<&'a Route>,
) -> Asked<'a> {
    let facts = req.extensions();
    let intent = facts.get::<Intent>();
    Asked {
        method: req.method(),
        path: req.uri().path(),
        recognised: Some(recognised),
        intent,
        limit: facts.get::<OutputLimit>().copied(),
        question: Question {
            model: match routed {
                Some(Route {
                    model: Some(model), ..
                }) => Some(model),
                _ => intent.and_then(Intent::model),
            },
            pin: routed.and_then(|route| route.pin.as_deref()),
            bound: match intent {
                Some(intent) => intent.continues(),
                None => !matches!(recognised, Recognised::Surface(_)),
            },
        },
        length: length(req.headers()).unwrap_or_default(),
        background: asks_for_background(recognised, req.body()),
    }
}

impl Asked<'_> {
    pub(super) fn billed(&self) -> Billed {
        use Operation as O;
        if matches!(
            *self.method,
            Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE
        ) {
            return Billed::Not;
        }
        if self.background {
            return Billed::Unseen;
        }
        let surface = match self.recognised {
            Some(Recognised::Surface(surface)) => surface,
            Some(Recognised::Prefixed(prefix)) if is_kept(self.path.get(prefix.end..)) => {
                return Billed::Not;
            }
            _ => return Billed::Unseen,
        };
        match surface.operation {
            O::Models | O::Model | O::CountTokens => Billed::Not,
            O::Embeddings | O::Rerank | O::Moderations => Billed::Input,
            _ => Billed::Both,
        }
    }

    /// Tokens of the input for a model: an estimate and a quarter more.
    pub(super) fn input(&self, estimator: &Estimator, model: Option<&str>) -> u64 {
        let prompt = match (self.intent, self.recognised) {
            (Some(intent), _) if intent.object().is_some() => intent.prompt(),
            // A form that brings a file, which is no text.
            (_, Some(Recognised::Surface(surface))) if brings_a_file(surface.operation) => (0, 1),
            _ => (self.length, 0),
        };
        let tokens = estimator.prompt(model, prompt);
        tokens.saturating_add(tokens.div_ceil(4))
    }

    /// Tokens of the output: what the request limits it to, else as much as there may be of the model; for each alternative.
    pub(super) fn output(&self, price: Option<&Price>) -> (u64, Bound) {
        if let Some(limit) = self.limit {
            return (limit.tokens, Bound::Request);
        }
        let said = self
            .intent
            .and_then(|intent| said(intent, self.question.model));
        let known = || price.and_then(|price| price.max_output);
        let (each, bound) = match (said, known()) {
            (Some(said), _) => (said, Bound::Request),
            (None, Some(most)) => (most, Bound::Model),
            (None, None) => (USUAL_OUTPUT, Bound::Usual),
        };
        let choices = self.intent.map_or(1, Intent::choices);
        (each.saturating_mul(u64::from(choices)), bound)
    }
}

/// Whether it is only about what a provider keeps, behind the prefix of its API: a file is stored, or something is called off. What a
/// file is for is paid for elsewhere.
fn is_kept(rest: Option<&str>) -> bool {
    let rest = rest.unwrap_or_default();
    let within = |folder: &str| {
        let rest = rest.strip_prefix(folder);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    within("/files") || within("/uploads") || rest.ends_with("/cancel")
}

/// Whether a surface is asked with a file in a form.
fn brings_a_file(operation: Operation) -> bool {
    use Operation as O;
    matches!(
        operation,
        O::ImageEdits | O::ImageVariations | O::Transcriptions | O::Translations
    )
}

/// The output of each alternative that a body limits itself to: by a member that binds whoever serves it, and of several the largest;
/// none where one is no number, or means without end.
fn said(intent: &Intent, model: Option<&str>) -> Option<u64> {
    let binding = match Spelling::of(intent.surface(), model) {
        Spelling::Known(binding, _) => binding,
        Spelling::Chat => spelling::CHAT,
        Spelling::None | Spelling::Unknown => return None,
    };
    let limits = intent.limits().iter();
    let limits = limits.filter(|limit| binding.contains(&limit.name));
    limits
        .map(|limit| limit.value)
        .reduce(|one, other| Some(one?.max(other?)))
        .flatten()
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// Whether the answer will be made when nobody looks: `background` of Responses.
fn asks_for_background<B>(recognised: &Recognised, body: &Held<B>) -> bool {
    let Recognised::Surface(surface) = recognised else {
        return false;
    };
    if surface.operation != Operation::Responses {
        return false;
    }
    let text = body.text();
    memchr::memmem::find(&text, b"background").is_some()
        && Value::parse(&text)
            .and_then(|root| root.get("background")?.as_bool())
            .unwrap_or(false)
}
