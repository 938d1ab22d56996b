//! What a request was reckoned up to, offer by offer.

use super::{account::Worst, money::Usd, policy::Offer};
use crate::prices::Price;

/// What a request may cost at the most, and what that comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Reckoned {
    // One for each offer; there is one at least.
    pub(super) parts: Vec<Part>,
    // How often it is paid for.
    pub(super) times: u64,
    // Tokens of the output, if it is to have less than it asks for.
    pub(super) most: Option<u64>,
    pub(super) priced_only: bool,
}

/// What it may cost at one target.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// What the target asks for.
    pub offer: Offer,
    /// Tokens of the input: an estimate and a quarter more.
    pub input: u64,
    /// Tokens of the output, all alternatives together, and where that number is from; none for what generates nothing.
    pub output: Option<(u64, Bound)>,
}

/// Where the number of output tokens is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// There is less left than the request asks for.
    Left,
    /// The table of prices says how much the model may answer.
    Model,
    /// The request sets a limit, or one was put into it.
    Request,
    /// Nobody says: [`USUAL_OUTPUT`](super::USUAL_OUTPUT) for each alternative.
    Usual,
}

impl Reckoned {
    /// What is reserved: the most tokens, and the most money.
    pub fn worst(&self) -> Worst {
        let times = self.times;
        self.parts.iter().fold(Worst::default(), |worst, part| {
            let output = self.output(part);
            let tokens = part.input.saturating_add(output).saturating_mul(times);
            Worst {
                tokens: worst.tokens.max(tokens),
                cost: worst.cost.max(part.cost(output, times)),
            }
        })
    }

    /// The target that costs most, and what it comes to there.
    pub fn dearest(&self) -> Part {
        let cost = |part: &&Part| {
            let output = self.output(part);
            (
                part.cost(output, self.times),
                part.input.saturating_add(output),
            )
        };
        let dearest = self.parts.iter().max_by_key(cost);
        let mut dearest = dearest.expect("there is one at least").clone();
        if let (Some(most), Some(output)) = (self.most, &mut dearest.output)
            && most < output.0
        {
            *output = (most, Bound::Left);
        }
        dearest
    }

    /// How often it is reserved: once, or for each attempt.
    pub fn times(&self) -> u64 {
        self.times
    }

    /// Whether there are targets that must not be asked, since they have no price.
    pub fn leaves_out(&self) -> bool {
        self.priced_only
    }

    /// The most output with which it takes no more than is left of tokens or money; none if that is nothing, or no less than
    /// before.
    pub(super) fn fitting(&self, left: Left) -> Option<u64> {
        let before = self.parts.iter().map(|part| self.output(part)).max()?;
        let fits = |part: &Part| match left {
            Left::Tokens(left) => (left / self.times).checked_sub(part.input),
            Left::Money(left) => part.payable(left, self.times),
        };
        let least = self.parts.iter().map(fits).min().flatten()?;
        (0 < least && least < before).then_some(least)
    }

    /// Tokens of the output at one target.
    fn output(&self, part: &Part) -> u64 {
        let output = part.output.map_or(0, |(tokens, _)| tokens);
        self.most.map_or(output, |most| output.min(most))
    }
}

/// What is left of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Tokens(u64),
    Money(Usd),
}

impl Part {
    /// What so much output costs so often; nothing without a price.
    fn cost(&self, output: u64, times: u64) -> Usd {
        let price = self.offer.price.as_ref();
        price.map_or(Usd::ZERO, |price| {
            Usd::at_least(cost(price, self.input, output) * times as f64)
        })
    }

    /// The most output that so much pays for; none if it does not even pay for the input.
    fn payable(&self, left: Usd, times: u64) -> Option<u64> {
        let Some(price) = &self.offer.price else {
            return Some(u64::MAX);
        };
        let rest = left.usd() / times as f64 - cost(price, self.input, 0);
        let each = cost(price, 0, 1);
        if each <= 0.0 {
            return (rest >= 0.0).then_some(u64::MAX);
        }
        // A quotient of doubles may be a token too many.
        let about = (rest / each).floor();
        let about = (about >= 0.0).then_some(about as u64)?;
        let fits = |output: &u64| self.cost(*output, times) <= left;
        [about.saturating_add(1), about, about.saturating_sub(1)]
            .into_iter()
            .find(fits)
    }
}

/// In USD: each token at the dearest that it may turn out to be.
pub(super) fn cost(price: &Price, input: u64, output: u64) -> f64 {
    let each_in = price.input.max(price.cache_write.unwrap_or(0.0));
    let each_out = price.output.max(price.reasoning.unwrap_or(0.0));
    (input as f64 * each_in + output as f64 * each_out) / 1e6
}
