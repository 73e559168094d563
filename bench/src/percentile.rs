//! Percentiles of values that are all there.

/// The nearest rank; `per_ten_thousand` is 5_000 for the median, 9_990 for the p99.9. In whole numbers, because a share such as
/// 0.9 is a little more than that as a float, and its product with a count may be a rank too high.
pub fn percentile(values: &[f64], per_ten_thousand: usize) -> f64 {
    let in_range = !values.is_empty() && per_ten_thousand <= 10_000;
    assert!(in_range, "{per_ten_thousand} of {}", values.len());
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * per_ten_thousand).div_ceil(10_000).max(1);
    sorted[rank - 1]
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!((percentile(&values, 5_000), percentile(&values, 9_900)), (50.0, 99.0));
        assert_eq!((percentile(&values, 0), percentile(&values, 10_000)), (1.0, 100.0));
        assert_eq!((percentile(&[7.0], 5_000), percentile(&[7.0], 9_999)), (7.0, 7.0));
    }
}
