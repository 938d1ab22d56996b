//! The lines of a spool file: one JSON object each.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use tollgate_middleware::{
    budget::{Admission, Dates, Rate, Settlement, Usd},
    record::{Charge, Ended, Source, Waste},
};

/// One line.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    /// The first: what file it is.
    Usage(First),
    /// The sums of an account, when the file began.
    Account(Sums),
    /// A request that ran when the file began.
    Open(Admitted),
    /// The end of the head: so many lines came before it.
    Begun(u64),
    /// A request was admitted.
    Admitted(Admitted),
    /// A request has ended.
    Ended(Settled),
}

/// What file it is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct First {
    /// The version of the format.
    pub(super) format: u32,
    /// The number of the next request.
    pub(super) next: u64,
    /// How far the time of the spool had come.
    pub(super) moment: u64,
}

/// The sums of an account.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Sums {
    /// Whose; none is all together.
    pub(super) of: Option<Arc<str>>,
    /// The windows: day, week, month, by their numbers since 1970.
    pub(super) windows: [u32; 3],
    /// Units of 10⁻¹⁰ USD in each of them, and in all.
    pub(super) spent: [u64; 4],
    /// The tokens, if they are limited.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) tokens: Option<Taken>,
    /// How many were its last requests, and what they used together, where tokens are limited.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) lately: Option<(u8, u64)>,
    /// What each of them used: in files that were written before there was `lately`.
    #[serde(skip_serializing, default)]
    pub(super) recent: Vec<u64>,
    /// It may be forgotten once its windows are over and its tokens are back.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub(super) passing: bool,
}

/// What is taken of a rate.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Taken {
    pub(super) rate: Per,
    /// When all is there again, in the time of the spool.
    pub(super) until: u64,
}

/// Tokens per nanoseconds.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Per {
    pub(super) tokens: u32,
    pub(super) per: u64,
}

/// A request that was admitted.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Admitted {
    pub(super) id: u64,
    pub(super) request_id: Box<str>,
    /// Milliseconds since 1970, by the wall clock.
    pub(super) at: u64,
    /// Nanoseconds since 1970, in the time of the spool: a clock that jumps while a process runs does not move it.
    pub(super) moment: u64,
    pub(super) caller: Option<Arc<str>>,
    pub(super) account: Arc<str>,
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub(super) passing: bool,
    pub(super) model: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) rate: Option<Per>,
    pub(super) tokens: u64,
    /// In units of 10⁻¹⁰ USD.
    pub(super) cost: u64,
    pub(super) windows: [u32; 3],
}

/// How a request ended.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Settled {
    pub(super) id: u64,
    pub(super) ended: Box<str>,
    pub(super) prompt: u64,
    pub(super) completion: u64,
    pub(super) source: Box<str>,
    pub(super) waste: [u64; 2],
    pub(super) tokens: u64,
    /// In units of 10⁻¹⁰ USD; none where there is no price.
    pub(super) cost: Option<u64>,
}

/// The version of the format.
pub(super) const FORMAT: u32 = 1;
/// How the request ended that a process did not live to end.
pub(super) const LOST: &str = "lost";

impl Line {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        // Numbers and texts are written to memory.
        let written = serde_json::to_writer(&mut *out, self);
        debug_assert!(written.is_ok(), "a line is plain data");
        out.push(b'\n');
    }

    pub(super) fn read(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }
}

impl Per {
    pub(super) fn of(rate: Rate) -> Self {
        Self {
            tokens: rate.tokens(),
            per: u64::try_from(rate.per().as_nanos()).unwrap_or(u64::MAX),
        }
    }

    pub(super) fn rate(self) -> Option<Rate> {
        Rate::new(self.tokens, Duration::from_nanos(self.per))
    }
}

impl Admitted {
    /// `began` is the time of the spool when the clock of the accounts was at zero.
    pub(super) fn of(admission: &Admission, began: u64) -> Self {
        let since = admission.at.duration_since(SystemTime::UNIX_EPOCH);
        let millis = since.unwrap_or_default().as_millis();
        Self {
            id: admission.number,
            request_id: admission.request_id.clone(),
            at: u64::try_from(millis).unwrap_or(u64::MAX),
            moment: began.saturating_add(admission.nanos),
            caller: admission.caller.clone(),
            account: admission.account.clone(),
            passing: admission.passing,
            model: admission.model.clone(),
            rate: admission.rate.map(Per::of),
            tokens: admission.tokens,
            cost: admission.cost.units(),
            windows: admission.dates.numbers(),
        }
    }

    pub(super) fn cost(&self) -> Usd {
        Usd::from_units(self.cost)
    }

    pub(super) fn dates(&self) -> Dates {
        Dates::of_numbers(self.windows)
    }

    /// It ran when its process died: all that was reserved is charged.
    pub(super) fn lost(&self) -> Settled {
        Settled {
            id: self.id,
            ended: LOST.into(),
            prompt: 0,
            completion: 0,
            source: Source::None.as_str().into(),
            waste: [0, 0],
            tokens: self.tokens,
            cost: Some(self.cost),
        }
    }
}

impl Settled {
    pub(super) fn of(settlement: &Settlement) -> Self {
        let Settlement {
            number,
            ended,
            charge:
                Charge {
                    prompt,
                    completion,
                    source,
                },
            waste:
                Waste {
                    prompt: thrown,
                    completion: wasted,
                },
            tokens,
            cost,
        } = *settlement;
        Self {
            id: number,
            ended: Ended::as_str(ended).into(),
            prompt,
            completion,
            source: source.as_str().into(),
            waste: [thrown, wasted],
            tokens,
            cost: cost.map(Usd::units),
        }
    }

    pub(super) fn cost(&self) -> Usd {
        self.cost.map_or(Usd::ZERO, Usd::from_units)
    }
}
