//! Ways to cut bytes into pieces, the same for the same seed.

/// How a run of bytes is cut before it is written or polled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Split {
    /// Pieces of `n` bytes; the last may be shorter. Zero counts as one.
    Bytes(usize),
    /// Cuts at random places that depend only on the seed and the length.
    Random(u64),
    /// The given sizes in order; what is left over is one more piece, zero sizes are passed over.
    Sizes(Vec<usize>),
    /// One piece.
    #[default]
    Whole,
}

impl Split {
    /// The sizes of the pieces of `len` bytes: none is zero and they add up to `len`.
    #[must_use]
    pub fn sizes(&self, len: usize) -> Vec<usize> {
        let mut left = len;
        let mut sizes = Vec::new();
        let mut take = |size: usize| {
            let size = size.min(left);
            left -= size;
            if size > 0 {
                sizes.push(size);
            }
            left > 0
        };
        match self {
            Self::Whole => {}
            Self::Bytes(n) => while take((*n).max(1)) {},
            Self::Sizes(given) => {
                for &size in given {
                    take(size);
                }
            }
            Self::Random(seed) => {
                let mut random = Random::new(*seed);
                // Small and large pieces in one split: a fixed range finds either one kind of bug or the other.
                let ceiling = [3, 17, 200, len.max(1)][random.below(4)];
                while take(1 + random.below(ceiling)) {}
            }
        }
        take(len);
        sizes
    }

    /// `bytes` cut accordingly.
    #[must_use]
    pub fn pieces<'a>(&self, bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let mut rest = bytes;
        self.sizes(bytes.len())
            .into_iter()
            .map(|size| {
                let (piece, tail) = rest.split_at(size);
                rest = tail;
                piece
            })
            .collect()
    }
}

/// The splits a body is worth trying in: whole, byte by byte, as it was recorded, and `random` seeded ones from `seed` on.
///
/// Byte by byte is left out above 64 KiB, where it costs seconds and finds nothing more.
#[must_use]
pub fn splits(len: usize, recorded: Option<&[usize]>, seed: u64, random: u64) -> Vec<Split> {
    let mut all = vec![Split::Whole];
    if len <= 64 * 1024 {
        all.push(Split::Bytes(1));
    }
    all.extend(recorded.map(|sizes| Split::Sizes(sizes.to_vec())));
    all.extend((0..random).map(|n| Split::Random(seed.wrapping_add(n))));
    all
}

/// A small deterministic generator: SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which must not be zero.
    pub fn below(&mut self, limit: usize) -> usize {
        // The remainder is below `limit`, so it fits whatever the width of usize.
        (self.bits() % limit as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_split() -> impl Strategy<Value = Split> {
        prop_oneof![
            Just(Split::Whole),
            (0usize..9).prop_map(Split::Bytes),
            any::<u64>().prop_map(Split::Random),
            prop::collection::vec(0usize..40, 0..12).prop_map(Split::Sizes),
        ]
    }

    proptest! {
        #[test]
        fn pieces_join_to_the_bytes_and_none_is_empty(bytes in prop::collection::vec(any::<u8>(), 0..300), split in any_split()) {
            let pieces = split.pieces(&bytes);
            prop_assert!(pieces.iter().all(|piece| !piece.is_empty()));
            prop_assert_eq!(pieces.concat(), bytes);
        }

        #[test]
        fn a_split_is_the_same_each_time(len in 0usize..5000, seed in any::<u64>()) {
            prop_assert_eq!(Split::Random(seed).sizes(len), Split::Random(seed).sizes(len));
        }
    }

    #[test]
    fn recorded_sizes_are_replayed_and_the_rest_follows() {
        assert_eq!(Split::Sizes(vec![2, 3]).sizes(9), [2, 3, 4]);
        assert_eq!(Split::Sizes(vec![2, 30]).sizes(9), [2, 7]);
        assert_eq!(Split::Bytes(4).sizes(9), [4, 4, 1]);
    }

    #[test]
    fn random_splits_differ_by_seed() {
        let distinct: std::collections::HashSet<_> = (0..32)
            .map(|seed| Split::Random(seed).sizes(1000))
            .collect();
        assert!(
            distinct.len() > 16,
            "only {} of 32 seeds differ",
            distinct.len()
        );
    }
}
