//! What a request may cost at the most: the decision, without bodies and clocks.

use std::{collections::HashMap, fmt, sync::Arc};

use http::Method;

use super::{
    account::{Terms, Worst},
    ledger::{Agreed, Owner},
    money::{Budget, Usd},
};
use crate::{
    dialect::{Operation, Recognised},
    error::{Reason, Rejection},
    facts::{Caller, Intent, OutputLimit},
    prices::{Price, Prices},
    record,
};

/// What a model may be asked for at: the prices of all targets that may serve it, `None` for one whose price nobody knows.
pub type Offers = dyn Fn(Option<&str>) -> Vec<Option<Price>> + Send + Sync;

/// Who may spend how much, and what happens where it is not enough.
#[derive(Clone)]
pub struct Policy {
    /// What is agreed with each caller, by its name in the list of callers.
    pub callers: HashMap<Arc<str>, Terms>,
    /// What all may spend together.
    pub global: Option<Budget>,
    /// What happens to models without a price under a budget of money.
    pub unpriced: Unpriced,
    /// Who pays for attempts that were thrown away.
    pub waste: Waste,
    /// How often a request may be sent; waste that is charged is reserved for each time.
    pub attempts: u32,
    /// What models cost.
    pub prices: Prices,
    /// What they may be asked for at; the price of the model itself where this is none.
    pub offers: Option<Arc<Offers>>,
}

/// What happens to models without a price under a budget of money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unpriced {
    /// They are refused.
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
    pub(super) recognised: Option<&'a Recognised>,
    pub(super) intent: Option<&'a Intent>,
    pub(super) limit: Option<OutputLimit>,
    pub(super) model: Option<&'a str>,
    /// Bytes of a body that was not read, as far as it says.
    pub(super) length: u64,
    /// It asks to be answered where nobody sees what it costs.
    pub(super) background: bool,
}

/// Output that is reserved where neither the request nor a table says how much there may be.
pub const USUAL_OUTPUT: u64 = 4096;

/// Bytes of text that are a token, at the least: what models of the family with the shortest tokens had on the recordings.
const BYTES_PER_TOKEN: u64 = 3;

/// Tokens of an image or a file: what a picture of a megapixel costs with most providers.
const MEDIA: u64 = 1000;

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
            waste: Waste::default(),
            attempts: 1,
            prices: Prices::built_in(),
            offers: None,
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
    ) -> Result<Option<Worst>, Rejection> {
        let money = agreed.own.money.is_some() || agreed.global.is_some();
        let billed = asked.billed();
        if billed == Billed::Not {
            return Ok(None);
        }
        if billed == Billed::Unseen && money && self.unpriced == Unpriced::Refuse {
            return Err(refusal(
                "what this costs cannot be seen here, and your budget is of money",
            ));
        }
        let input = asked.input();
        let output = if billed == Billed::Input {
            0
        } else {
            asked.output()
        };
        let times = match self.waste {
            Waste::Free => 1,
            Waste::Charge => u64::from(self.attempts.max(1)),
        };
        let cost = match self.dearest(asked.model) {
            Some(price) => cost(&price, input, output),
            None if money && self.unpriced == Unpriced::Refuse => {
                return Err(refusal(
                    "this model has no price here, and your budget is of money",
                ));
            }
            None => 0.0,
        };
        Ok(Some(Worst {
            tokens: input.saturating_add(output).saturating_mul(times),
            cost: Usd::at_least(cost * times as f64),
        }))
    }

    /// What attempts cost that were thrown away: where they were made is not known, so the dearest price is taken.
    pub(super) fn wasted(&self, model: Option<&str>, waste: &record::Waste) -> Usd {
        let price = self.dearest(model);
        price.map_or(Usd::ZERO, |price| {
            Usd::at_least(cost(&price, waste.prompt, waste.completion))
        })
    }

    /// The dearest of what a model may be asked for at, part by part; none if any of it is unknown.
    fn dearest(&self, model: Option<&str>) -> Option<Price> {
        let Some(offers) = &self.offers else {
            return self.prices.of(model?).copied();
        };
        let offers = offers(model).into_iter();
        offers
            .reduce(|one, other| Some(dearer(&one?, &other?)))
            .flatten()
    }
}

/// The price that is not below either.
fn dearer(one: &Price, other: &Price) -> Price {
    let write = |price: &Price| price.cache_write.unwrap_or(price.input);
    let thoughts = |price: &Price| price.reasoning.unwrap_or(price.output);
    Price {
        input: one.input.max(other.input),
        output: one.output.max(other.output),
        cache_read: None,
        cache_write: Some(write(one).max(write(other))),
        reasoning: Some(thoughts(one).max(thoughts(other))),
    }
}

/// In USD: each token at the dearest that it may turn out to be.
fn cost(price: &Price, input: u64, output: u64) -> f64 {
    let each_in = price.input.max(price.cache_write.unwrap_or(0.0));
    let each_out = price.output.max(price.reasoning.unwrap_or(0.0));
    (input as f64 * each_in + output as f64 * each_out) / 1e6
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
        let Some(Recognised::Surface(surface)) = self.recognised else {
            return Billed::Unseen;
        };
        match surface.operation {
            O::Models | O::Model | O::CountTokens => Billed::Not,
            O::Embeddings | O::Rerank | O::Moderations => Billed::Input,
            _ => Billed::Both,
        }
    }

    /// Tokens of the input: an estimate and a quarter more.
    fn input(&self) -> u64 {
        let (bytes, media) = match self.intent {
            Some(intent) if intent.object().is_some() => intent.prompt(),
            _ => (self.length, 0),
        };
        let tokens = bytes
            .div_ceil(BYTES_PER_TOKEN)
            .saturating_add(media.saturating_mul(MEDIA));
        tokens.saturating_add(tokens.div_ceil(4))
    }

    /// Tokens of the output: what the request limits it to, for each alternative.
    fn output(&self) -> u64 {
        if let Some(limit) = self.limit {
            return limit.tokens;
        }
        let Some(intent) = self.intent else {
            return USUAL_OUTPUT;
        };
        let said = intent.limits().iter().filter_map(|limit| limit.value);
        let each = said.max().unwrap_or(USUAL_OUTPUT);
        each.saturating_mul(u64::from(intent.choices()))
    }
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
            .field("waste", &self.waste)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}
