//! What tokens cost, and how many of them an answer may have.
//!
//! A table of current models is built in; its source and date stand in its first lines. What is not in it has no price: that is
//! said, and never taken for nothing. Prices are base prices: what providers take more for very long prompts, or less for batches, is
//! not known here.
//!
//! ```
//! use tollgate_middleware::{dialect::{Dialect, Usage}, prices::{Price, Prices}};
//!
//! let prices = Prices::built_in().with("my-model", Price { input: 0.5, output: 1.5, ..Price::default() });
//! let usage = Usage { prompt: Some(700), completion: Some(500), ..Usage::default() };
//! let cost = prices.of("my-model").unwrap().cost(Dialect::OpenAi, &usage);
//! assert!((cost - 0.0011).abs() < 1e-12);
//! assert!(prices.of("nobody-prices-this").is_none());
//! ```

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use crate::{
    dialect::{Dialect, Usage},
    facts::Intent,
    record::{Attempt, Metered, Record},
};

/// Prices of models by name. Clones share the table.
#[derive(Clone, Debug)]
pub struct Prices(Arc<HashMap<Box<str>, Price>>);

/// USD per million tokens, and how many of them there may be.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Price {
    /// Of the input.
    pub input: f64,
    /// Of the output.
    pub output: f64,
    /// Of input read from a cache; as other input where it is not known.
    pub cache_read: Option<f64>,
    /// Of input written to a cache; as other input where it is not known.
    pub cache_write: Option<f64>,
    /// Of thoughts; as other output where it is not known.
    pub reasoning: Option<f64>,
    /// The most tokens that one answer may have, where that is known.
    pub max_output: Option<u64>,
}

// ===== impl Prices =====

impl Prices {
    /// The table that comes with the library.
    pub fn built_in() -> Self {
        static TABLE: LazyLock<Prices> = LazyLock::new(|| Prices(Arc::new(parse(TEXT))));
        TABLE.clone()
    }

    /// The same with another price for one model.
    #[must_use]
    pub fn with(mut self, model: &str, price: Price) -> Self {
        Arc::make_mut(&mut self.0).insert(model.into(), price);
        self
    }

    /// The models that have a price, in no order.
    pub fn models(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|model| &**model)
    }

    /// The price of a model, by its name or by its name without a version: a date, `-latest`, `-001`.
    pub fn of(&self, model: &str) -> Option<&Price> {
        let model = model.strip_prefix("models/").unwrap_or(model);
        self.0
            .get(model)
            .or_else(|| self.0.get(unversioned(model)?))
    }

    /// What the answer of a record cost, in USD, as it is charged; none if nobody metered it or its model has no price.
    pub fn charged(&self, record: &Record) -> Option<f64> {
        let price = record.with_attempts(|attempts| self.of_attempt(record, attempts.last()?))?;
        record.with_metered(|metered| Some(cost(price, record, metered?)))
    }

    /// Tells of each answer of a record that was thrown away, if it is known which attempt it answered: of that attempt, of what
    /// was found, and of what it cost, in USD, where its model has a price.
    pub fn wasted(&self, record: &Record, mut tell: impl FnMut(&Attempt, &Metered, Option<f64>)) {
        record.with_discarded(|all| {
            if all.is_empty() {
                return;
            }
            record.with_attempts(|attempts| {
                for one in all {
                    if let Some(attempt) = one.attempt.and_then(|at| attempts.get(at)) {
                        let price = self.of_attempt(record, attempt);
                        let usd = price.map(|price| cost(price, record, &one.metered));
                        tell(attempt, &one.metered, usd);
                    }
                }
            });
        });
    }

    /// By the name that the provider was asked for, else by that of the caller.
    fn of_attempt(&self, record: &Record, attempt: &Attempt) -> Option<&Price> {
        let own = attempt.model.as_deref();
        let asked = || record.intent().and_then(Intent::model);
        own.and_then(|own| self.of(own))
            .or_else(|| self.of(asked().filter(|asked| Some(*asked) != own)?))
    }
}

/// What was found in an answer, at this price.
fn cost(price: &Price, record: &Record, metered: &Metered) -> f64 {
    let surface = record.surface();
    let dialect = surface.map_or(Dialect::Raw, |surface| surface.dialect);
    // The parts are the provider's; the sums are what is charged.
    let usage = Usage {
        prompt: Some(metered.charge.prompt),
        completion: Some(metered.charge.completion),
        ..metered.usage.unwrap_or_default()
    };
    // Hundred-millionths of a cent are the noise of doubles.
    (price.cost(dialect, &usage) * 1e10).round() / 1e10
}

// ===== impl Price =====

impl Price {
    /// What so many tokens cost, in USD. Each token is paid once, whatever the provider's numbers include.
    pub fn cost(&self, dialect: Dialect, usage: &Usage) -> f64 {
        let of = |tokens: Option<u64>| tokens.unwrap_or(0) as f64;
        let (prompt, cached, written) = (of(usage.prompt), of(usage.cached), of(usage.cache_write));
        let (completion, thoughts) = (of(usage.completion), of(usage.reasoning));
        // Anthropic's prompt leaves out what went through a cache; elsewhere that is part of it.
        let plain = match dialect {
            Dialect::Anthropic | Dialect::Bedrock => prompt,
            _ => (prompt - cached - written).max(0.0),
        };
        let said = if usage.thinks_apart(dialect) {
            completion
        } else {
            (completion - thoughts).max(0.0)
        };
        let thoughts = if usage.thinks_apart(dialect) {
            thoughts
        } else {
            thoughts.min(completion)
        };
        let sum = plain * self.input
            + cached * self.cache_read.unwrap_or(self.input)
            + written * self.cache_write.unwrap_or(self.input)
            + said * self.output
            + thoughts * self.reasoning.unwrap_or(self.output);
        sum / 1e6
    }
}

/// A name without the version at its end; none if it has none.
fn unversioned(model: &str) -> Option<&str> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((name, date)) = model.split_once('@') {
        return digits(date).then_some(name);
    }
    if let Some(name) = model.strip_suffix("-latest") {
        return Some(name);
    }
    let (name, last) = model.rsplit_once('-')?;
    match last.len() {
        // -20250929, -001
        8 | 3 if digits(last) => Some(name),
        // -2024-07-18
        2 if digits(last) => {
            let (name, month) = name.rsplit_once('-')?;
            let (name, year) = name.rsplit_once('-')?;
            (month.len() == 2 && year.len() == 4 && digits(month) && digits(year)).then_some(name)
        }
        _ => None,
    }
}

fn parse(text: &str) -> HashMap<Box<str>, Price> {
    let row = |line: &str| {
        let mut fields = line.split('\t');
        let model = fields.next()?.into();
        let mut next = || fields.next().and_then(|field| field.parse().ok());
        let (input, output) = (next()?, next()?);
        let [cache_read, cache_write, reasoning] = [next(), next(), next()];
        let max_output = fields.next().and_then(|field| field.parse().ok());
        let price = Price {
            input,
            output,
            cache_read,
            cache_write,
            reasoning,
            max_output,
        };
        Some((model, price))
    };
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    rows.filter_map(row).collect()
}

const TEXT: &str = include_str!("table.tsv");

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(prompt: u64, completion: u64) -> Usage {
        Usage {
            prompt: Some(prompt),
            completion: Some(completion),
            ..Usage::default()
        }
    }

    fn near(found: f64, want: f64) {
        assert!((found - want).abs() < 1e-9, "{found} is not {want}");
    }

    const PRICE: Price = Price {
        input: 1.0,
        output: 10.0,
        cache_read: Some(0.1),
        cache_write: Some(2.0),
        reasoning: Some(20.0),
        max_output: None,
    };

    #[test]
    fn every_line_of_the_table_is_a_price_of_its_own() {
        let lines = TEXT.lines().filter(|line| !line.starts_with('#'));
        let table = Prices::built_in();
        assert_eq!(table.0.len(), lines.count());
        assert!(table.0.len() > 60);
        for (model, price) in &*table.0 {
            let sane = |price: f64| (0.0..1000.0).contains(&price);
            assert!(
                sane(price.input) && sane(price.output) && price.input > 0.0,
                "{model}"
            );
            assert!(
                price.cache_read.is_none_or(|read| read < price.input),
                "{model}"
            );
            let sane = 1024..=400_000;
            assert!(
                price.max_output.is_none_or(|most| sane.contains(&most)),
                "{model}"
            );
        }
        let known = table.0.values().filter(|price| price.max_output.is_some());
        assert!(known.count() > 60);
        for note in ["# Source: ", "# Date: 20", "# Maxima: "] {
            assert!(TEXT.contains(note), "{note}");
        }
    }

    #[test]
    fn a_version_at_the_end_of_a_name_needs_no_price_of_its_own() {
        let prices = Prices::built_in();
        for (name, same) in [
            ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
            ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
            ("claude-3-haiku@20240307", "claude-3-haiku"),
            ("models/gemini-2.0-flash-001", "gemini-2.0-flash"),
            ("claude-opus-4-1-latest", "claude-opus-4-1"),
        ] {
            assert!(prices.of(same).is_some(), "{same}");
            assert_eq!(prices.of(name), prices.of(same), "{name}");
        }
        assert_ne!(
            prices.of("gpt-4o-2024-05-13"),
            prices.of("gpt-4o"),
            "it has its own"
        );
        for unknown in [
            "",
            "gpt",
            "gpt-4o-mini-x",
            "x/gpt-4o",
            "gpt-4o-mini-2024-7-18",
        ] {
            assert_eq!(prices.of(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn cached_input_is_paid_once() {
        let cached = Usage {
            cached: Some(600_000),
            ..usage(1_000_000, 0)
        };
        near(PRICE.cost(Dialect::OpenAi, &cached), 0.4 + 0.06);
        near(PRICE.cost(Dialect::Anthropic, &cached), 1.0 + 0.06);
        let written = Usage {
            cache_write: Some(500_000),
            ..usage(4, 0)
        };
        near(PRICE.cost(Dialect::Anthropic, &written), 4e-6 + 1.0);
        let more = Usage {
            cached: Some(2_000_000),
            ..usage(1_000_000, 0)
        };
        near(PRICE.cost(Dialect::OpenAi, &more), 0.2);
        let plain = Price {
            cache_read: None,
            ..PRICE
        };
        near(plain.cost(Dialect::OpenAi, &cached), 1.0);
    }

    #[test]
    fn thoughts_are_paid_once_and_are_output_where_they_have_no_price() {
        let inside = Usage {
            reasoning: Some(400_000),
            ..usage(0, 1_000_000)
        };
        near(PRICE.cost(Dialect::OpenAi, &inside), 6.0 + 8.0);
        near(PRICE.cost(Dialect::Gemini, &inside), 10.0 + 8.0);
        let on_top = Usage {
            total: Some(1_400_000),
            ..inside
        };
        near(PRICE.cost(Dialect::OpenAi, &on_top), 10.0 + 8.0);
        let output = Price {
            reasoning: None,
            ..PRICE
        };
        near(output.cost(Dialect::OpenAi, &inside), 10.0);
    }
}
