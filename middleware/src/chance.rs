//! Chance as an argument: seeded, so that what it decided can be decided again.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Numbers of chance (SplitMix64, Steele and others, 2014): good for spreading load, not for secrets. Clones draw from the same row.
///
/// ```
/// use tollgate_middleware::chance::Chance;
///
/// let (one, other) = (Chance::seeded(7), Chance::seeded(7));
/// assert!((0..100).all(|_| one.below(3) == other.below(3)));
/// assert!(one.unit() < 1.0);
/// ```
#[derive(Clone, Debug)]
pub struct Chance(Arc<AtomicU64>);

impl Chance {
    /// The row that begins with this seed.
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed)))
    }

    /// A row that no two processes share.
    pub fn of_process() -> Self {
        // The standard library's own source of chance.
        Self::seeded(RandomState::new().build_hasher().finish())
    }

    /// The next number.
    pub fn bits(&self) -> u64 {
        let at = self.0.fetch_add(GOLDEN, Ordering::Relaxed);
        mix(at.wrapping_add(GOLDEN))
    }

    /// A number below `end`, each as likely as another; 0 if there is none.
    pub fn below(&self, end: u64) -> u64 {
        // The high half of a product is spread evenly, but for one part in 2^64 / end.
        let wide = u128::from(self.bits()) * u128::from(end);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// A number from 0 to 1, without 1.
    pub fn unit(&self) -> f64 {
        unit(self.bits())
    }
}

impl Default for Chance {
    fn default() -> Self {
        Self::of_process()
    }
}

/// The top 53 bits as a fraction, which is exact.
pub(crate) fn unit(bits: u64) -> f64 {
    const STEPS: f64 = (1_u64 << 53) as f64;
    (bits >> 11) as f64 / STEPS
}

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers of the published generator with the seed 1234567.
    #[test]
    fn the_row_is_that_of_splitmix64() {
        let chance = Chance::seeded(1_234_567);
        let first: Vec<_> = (0..3).map(|_| chance.bits()).collect();
        assert_eq!(
            first,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn each_number_below_an_end_is_as_likely_as_another() {
        let chance = Chance::seeded(1);
        let mut seen = [0_u32; 7];
        for _ in 0..70_000 {
            seen[usize::try_from(chance.below(7)).unwrap()] += 1;
        }
        assert!(seen.iter().all(|n| (9_600..10_400).contains(n)), "{seen:?}");
        assert_eq!(chance.below(0), 0);
    }
}
