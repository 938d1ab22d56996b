//! Medians and percentiles of what was measured.

/// The value below or at which `percent` of the values lie (nearest rank, so it is always one that was
/// measured); none if there are none. Sorts `values`.
pub(crate) fn percentile(values: &mut [u64], percent: f64) -> Option<u64> {
    values.sort_unstable();
    let rank = (percent / 100.0 * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied()
}

/// The middle value, or the mean of the two in the middle; none if there are none or one is no number.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    if values.iter().any(|value| value.is_nan()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    let upper = *sorted.get(half)?;
    Some(if sorted.len() % 2 == 1 {
        upper
    } else {
        f64::midpoint(sorted[half - 1], upper)
    })
}

/// How far the values lie apart, in percent of their median; none of fewer than two.
pub(crate) fn spread(values: &[f64]) -> Option<f64> {
    let middle = median(values).filter(|&middle| middle > 0.0 && values.len() > 1)?;
    let most = values.iter().copied().fold(f64::MIN, f64::max);
    let least = values.iter().copied().fold(f64::MAX, f64::min);
    Some((most - least) / middle * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_measured_value_by_nearest_rank() {
        let mut values: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(percentile(&mut values, 50.0), Some(50));
        assert_eq!(percentile(&mut values, 99.0), Some(99));
        assert_eq!(percentile(&mut values, 100.0), Some(100));
        assert_eq!(percentile(&mut values, 0.0), Some(1));
        assert_eq!(percentile(&mut [7], 99.0), Some(7));
        assert_eq!(percentile(&mut [1, 2, 3], 99.0), Some(3));
        assert_eq!(percentile(&mut [], 50.0), None);
    }

    #[test]
    fn a_median_is_the_middle_whatever_the_order() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[-1.0]), Some(-1.0));
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[1.0, f64::NAN]), None);
    }

    #[test]
    fn a_spread_is_the_range_in_percent_of_the_median() {
        assert_eq!(spread(&[9.0, 12.0, 10.0]), Some(30.0));
        assert_eq!(spread(&[5.0, 5.0]), Some(0.0));
        assert_eq!(spread(&[5.0]), None);
        assert_eq!(spread(&[0.0, 0.0]), None);
    }
}
