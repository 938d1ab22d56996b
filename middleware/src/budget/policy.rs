//! What a request may cost at the most: the decision, without bodies and clocks.

use std::{collections::HashMap, fmt, sync::Arc};

use super::{
    account::Terms,
    asked::{Asked, Billed},
    ledger::{Agreed, Owner},
    money::{Budget, Usd},
    reckoned::{Part, Reckoned, cost},
};
use crate::{
    error::{Reason, Rejection},
    estimate::Estimator,
    facts::Caller,
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

/// Output that is reserved where neither the request nor a table says how much there may be.
pub const USUAL_OUTPUT: u64 = 4096;

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
