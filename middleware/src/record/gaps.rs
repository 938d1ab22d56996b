//! How long the outputs of an answer were apart.

use std::time::Duration;

/// The times between the outputs of one answer: one for each output after the first, counted between bounds that double.
///
/// Nothing of it is kept in a list: a stream of any length takes the room of one that is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    counts: [u32; Self::BOUNDS.len() + 1],
    longest: Duration,
    total: Duration,
}

impl Gaps {
    /// Up to so long is a time of each count, in hundredths of a second; the last count has no bound. These are the buckets that
    /// OpenTelemetry wants of `gen_ai.client.operation.time_per_output_chunk`.
    pub const BOUNDS: [u64; 14] = [
        1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192,
    ];

    /// So many outputs came together, the first of them so long after the one before; the others came with it.
    #[inline]
    pub fn add(&mut self, gap: Duration, outputs: u64) {
        let Some(together) = outputs.checked_sub(1) else {
            return;
        };
        self.together(together);
        let hundredths = gap.as_secs().saturating_mul(100);
        let hundredths = hundredths.saturating_add(gap.subsec_nanos().div_ceil(10_000_000).into());
        // The first power of two that is not below it.
        let at = u64::BITS - hundredths.saturating_sub(1).leading_zeros();
        let count = &mut self.counts[(at as usize).min(Self::BOUNDS.len())];
        *count = count.saturating_add(1);
        self.total = self.total.saturating_add(gap);
        self.longest = self.longest.max(gap);
    }

    /// So many outputs more came with the one before.
    #[inline]
    pub fn together(&mut self, outputs: u64) {
        let outputs = u32::try_from(outputs).unwrap_or(u32::MAX);
        self.counts[0] = self.counts[0].saturating_add(outputs);
    }

    /// How many times there are between each two of the [bounds](Self::BOUNDS), and beyond the last.
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// All of them together.
    pub fn total(&self) -> Duration {
        self.total
    }

    /// The longest one; zero where there is none.
    pub fn longest(&self) -> Duration {
        self.longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(gap: Duration) -> usize {
        let mut gaps = Gaps::default();
        gaps.add(gap, 1);
        let found = gaps.counts().iter().position(|count| *count == 1);
        found.unwrap()
    }

    #[test]
    fn a_time_is_counted_below_the_first_bound_that_it_does_not_pass() {
        let nano = Duration::from_nanos(1);
        for (at, bound) in Gaps::BOUNDS.into_iter().enumerate() {
            let bound = Duration::from_millis(bound * 10);
            assert_eq!(place(bound), at, "{bound:?}");
            assert_eq!(place(bound + nano), at + 1, "{bound:?}");
        }
        assert_eq!(place(Duration::ZERO), 0);
        assert_eq!(place(Duration::MAX), Gaps::BOUNDS.len());
    }

    #[test]
    fn what_comes_together_is_not_apart() {
        let mut gaps = Gaps::default();
        gaps.together(2);
        gaps.add(Duration::from_millis(300), 3);
        gaps.add(Duration::from_secs(1), 0);
        assert_eq!(gaps.counts().iter().sum::<u32>(), 5);
        assert_eq!((gaps.counts()[0], gaps.counts()[5]), (4, 1));
        assert_eq!(gaps.total(), Duration::from_millis(300));
        assert_eq!(gaps.longest(), Duration::from_millis(300));
    }
}
