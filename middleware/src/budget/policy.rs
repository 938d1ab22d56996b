//! What a request may cost at the most: the decision, without bodies and clocks.

use std::{collections::HashMap, fmt, sync::Arc};

use http::Method;

use super::{
    account::Terms,
    ledger::{Agreed, Owner},
    money::{Budget, Usd},
    reckoned::{Bound, Part, Reckoned, cost},
};
use crate::{
    dialect::{
        Operation, Recognised,
        spelling::{self, Spelling},
    },
    error::{Reason, Rejection},
    estimate::Estimator,
    facts::{Caller, Intent, OutputLimit},
    prices::{Price, Prices},
    record,
};

/// What all targets that may serve a request ask for it.
pub type Offers = dyn Fn(&Question<'_>) -> Vec<Offer> + Send + Sync;

/// What of a request says which targets may serve it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Question<'a> {
    /// The model, by the name that aliases lead to.
    pub model: Option<&'a str>,
    /// The only provider that may be asked.
    pub pin: Option<&'a str>,
    /// It is about what a provider keeps.
    pub bound: bool,
}

/// What one target asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Offer {
    /// The model, by the name that the target is asked for.
    pub model: Option<Arc<str>>,
    /// What it costs there; none if nobody knows.
    pub price: Option<Price>,
}

/// Who may spend how much, and what happens where it is not enough.
#[derive(Clone)]
pub struct Policy {
    /// What is agreed with each caller, by its name in the list of callers.
    pub callers: HashMap<Arc<str>, Terms>,
    /// What all may spend together.
    pub global: Option<Budget>,
    /// What happens to models without a price under a budget of money.
    pub unpriced: Unpriced,
    /// What happens to a request that may cost more than is left.
    pub on_short: OnShort,
    /// Who pays for attempts that were thrown away.
    pub waste: Waste,
    /// How often a request may be sent; waste that is charged is reserved for each time.
    pub attempts: u32,
    /// What models cost.
    pub prices: Prices,
    /// What they may be asked for at; the price of the model itself where this is none.
    pub offers: Option<Arc<Offers>>,
    /// How many tokens an input is: an estimator that somebody teaches, such as the meter's.
    pub estimator: Estimator,
}

/// What happens to a request that may cost more than is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnShort {
    /// It is refused.
    #[default]
    Refuse,
    /// Its output limit shrinks to what is left. It is refused where that would be less than a token for each alternative, where a
    /// limit cannot be set, and where it may think more than that.
    Clamp,
}

/// What happens to models without a price under a budget of money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unpriced {
    /// Targets without a price are not asked; where none is left, the request is refused.
    #[default]
    Refuse,
    /// They cost nothing.
    Free,
}

/// Who pays for attempts that were thrown away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Waste {
    /// Nobody.
    #[default]
    Free,
    /// The caller.
    Charge,
}

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

/// Output that is reserved where neither the request nor a table says how much there may be.
pub const USUAL_OUTPUT: u64 = 4096;

/// How a request is billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Billed {
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
    /// Nothing is limited, at the built-in prices.
    pub fn off() -> Self {
        Self {
            callers: HashMap::new(),
            global: None,
            unpriced: Unpriced::default(),
            on_short: OnShort::default(),
            waste: Waste::default(),
            attempts: 1,
            prices: Prices::built_in(),
            offers: None,
            estimator: Estimator::default(),
        }
    }

    pub(super) fn is_off(&self) -> bool {
        self.callers.is_empty() && self.global.is_none()
    }

    /// What is agreed with a caller, and with all.
    pub(super) fn agreed(&self, caller: Option<&Caller>) -> Agreed {
        let own = caller.and_then(|caller| self.callers.get(caller.listed_as()));
        Agreed {
            own: own.copied().unwrap_or_default(),
            global: self.global,
        }
    }

    /// What the request may cost at the most; none for one that costs nothing, whatever comes.
    pub(super) fn worst(
        &self,
        agreed: &Agreed,
        asked: &Asked<'_>,
    ) -> Result<Option<Reckoned>, Rejection> {
        let billed = asked.billed();
        if billed == Billed::Not {
            return Ok(None);
        }
        let money = agreed.own.money.is_some() || agreed.global.is_some();
        let strict = money && self.unpriced == Unpriced::Refuse;
        if billed == Billed::Unseen && strict {
            return Err(refusal(
                "what this costs cannot be seen here, and your budget is of money",
            ));
        }
        let mut offers = self.offers(&asked.question);
        let all = offers.len();
        if strict {
            offers.retain(|offer| offer.price.is_some());
            if offers.is_empty() {
                return Err(refusal(
                    "this model has no price here, and your budget is of money",
                ));
            }
        }
        let priced_only = offers.len() < all;
        if offers.is_empty() {
            // Nobody may be asked, which others will say.
            offers.push(Offer::default());
        }
        let parts = offers.into_iter().map(|offer| Part {
            input: asked.input(&self.estimator, offer.model.as_deref()),
            output: match billed {
                Billed::Input => None,
                _ => Some(asked.output(offer.price.as_ref())),
            },
            offer,
        });
        Ok(Some(Reckoned {
            parts: parts.collect(),
            times: match self.waste {
                Waste::Free => 1,
                Waste::Charge => u64::from(self.attempts.max(1)),
            },
            most: None,
            priced_only,
        }))
    }

    /// What attempts cost that were thrown away: where they were made is not known, so the dearest price is taken.
    pub(super) fn wasted(&self, question: &Question<'_>, waste: &record::Waste) -> Usd {
        let offers = self.offers(question).into_iter();
        let costs = offers.filter_map(|offer| {
            let price = offer.price?;
            Some(Usd::at_least(cost(&price, waste.prompt, waste.completion)))
        });
        costs.max().unwrap_or_default()
    }

    fn offers(&self, question: &Question<'_>) -> Vec<Offer> {
        match &self.offers {
            Some(offers) => offers(question),
            None => vec![Offer {
                model: question.model.map(Into::into),
                price: question
                    .model
                    .and_then(|model| self.prices.of(model))
                    .copied(),
            }],
        }
    }
}

fn refusal(told: &'static str) -> Rejection {
    Rejection::new(Reason::ModelUnpriced, "budget", told)
}

impl Asked<'_> {
    fn billed(&self) -> Billed {
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
    fn input(&self, estimator: &Estimator, model: Option<&str>) -> u64 {
        let prompt = match self.intent {
            Some(intent) if intent.object().is_some() => intent.prompt(),
            _ => (self.length, 0),
        };
        let tokens = estimator.prompt(model, prompt);
        tokens.saturating_add(tokens.div_ceil(4))
    }

    /// Tokens of the output: what the request limits it to, else as much as there may be of the model; for each alternative.
    fn output(&self, price: Option<&Price>) -> (u64, Bound) {
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

impl Policy {
    /// Whose account a request is of.
    pub(super) fn owner(caller: Option<&Caller>) -> Owner {
        match caller {
            None => Owner {
                name: "".into(),
                else_of: None,
            },
            Some(caller) if caller.is_derived() => Owner {
                // No listed name has a control character.
                name: format!("{}\n{}", caller.listed_as(), caller.name()).into(),
                else_of: Some(format!("{}\n", caller.listed_as()).into()),
            },
            Some(caller) => Owner {
                name: caller.name().clone(),
                else_of: None,
            },
        }
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("callers", &self.callers)
            .field("global", &self.global)
            .field("unpriced", &self.unpriced)
            .field("on_short", &self.on_short)
            .field("waste", &self.waste)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}
