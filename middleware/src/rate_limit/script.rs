//! The algorithm once more, where all processes count: as a script of the store, and what it is told and answers.

use super::quota::{Quota, Quotas};
use crate::store::{Call, Owner, Script, key};

/// GCRA in the time of the store.
pub(super) static GCRA: Script = Script::new("rate_limit", include_str!("gcra.lua"));

/// So many requests are asked for, or given back, at once: with it, and 32 bits of requests per period, no number leaves the 53 bits in
/// which scripts count.
pub(super) const MOST: u32 = 1 << 20;

/// Microseconds of a bucket, at most: 142 years. A larger burst is cut to it.
const LONGEST: u128 = 1 << 52;

/// What a script is told of one quota, beside the quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// What was spent at least at the moment that the call names, in ticks.
    pub(super) least: u128,
    /// Requests that are given back.
    pub(super) back: u32,
    /// What was spent elsewhere, in ticks.
    pub(super) owed: u128,
}

/// What the store answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Requests that are counted.
    pub(super) granted: u32,
    /// If none is: nanoseconds until one would be, and which quota wants them.
    pub(super) wait: u64,
    pub(super) which: usize,
    /// The time of the store, in its microseconds.
    pub(super) at: i64,
    /// What is spent, for each quota, in its ticks.
    pub(super) spent: Vec<u128>,
}

/// A quota in the units of the script: microseconds, and parts of one, as many as there are requests per period.
fn measure(quota: &Quota) -> [i64; 5] {
    let count = u128::from(quota.count());
    // A period that is no whole number of them is a little longer.
    let per = quota.step().div_ceil(1000);
    let most = (LONGEST * count / per).max(1);
    let room = per * u128::from(quota.burst()).min(most);
    [count, per / count, per % count, room / count, room % count].map(signed)
}

/// All of them fit: see [`MOST`] and [`LONGEST`].
fn signed(number: u128) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Ticks of a quota in a microsecond.
fn microsecond(quota: &Quota) -> u128 {
    quota.ticks(1000)
}

/// Asks for `want` requests; what is known of each quota was so at a moment in the store's own time.
pub(super) fn call(
    owner: Owner<'_>,
    limit: &str,
    quotas: &Quotas,
    want: u32,
    (known_at, told): (i64, impl Iterator<Item = Told>),
) -> Call {
    let mut call = Call::new(&GCRA)
        .arg(i64::from(want.min(MOST)))
        .arg(known_at);
    for (quota, told) in quotas.iter().zip(told) {
        // Another rate is another bucket: what is known to be spent goes along.
        let (count, burst) = (quota.count(), quota.burst());
        let per = quota.step().div_ceil(1000);
        call = call.key(key(
            owner,
            format_args!("rate:{limit}:{count}/{per}us:{burst}"),
        ));
        let least = told.least / microsecond(quota);
        let owed = told.owed.div_ceil(microsecond(quota));
        for number in measure(quota) {
            call = call.arg(number);
        }
        call = call
            .arg(signed(least.min(LONGEST)))
            .arg(i64::from(told.back.min(MOST)))
            .arg(signed(owed.min(LONGEST)));
    }
    call
}

impl Answer {
    /// None if it is not one to such a call.
    pub(super) fn read(answer: &[i64], quotas: &Quotas) -> Option<Self> {
        let [granted, wait, which, at, spent @ ..] = answer else {
            return None;
        };
        let (pairs, rest) = spent.as_chunks::<2>();
        if pairs.len() != quotas.len() || !rest.is_empty() {
            return None;
        }
        let spent = quotas.iter().zip(pairs).map(|(quota, [whole, parts])| {
            let whole = u128::try_from(*whole).ok()?;
            let parts = u128::try_from(*parts).ok()?;
            Some(whole * microsecond(quota) + parts * 1000)
        });
        Some(Self {
            granted: u32::try_from(*granted).ok()?,
            wait: u64::try_from(*wait).ok()?.saturating_mul(1000),
            which: usize::try_from(*which)
                .ok()
                .filter(|it| *it < quotas.len())?,
            at: *at,
            spent: spent.collect::<Option<_>>()?,
        })
    }
}
