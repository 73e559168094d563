//! Percentiles of values that are all there.

/// The nearest rank; `per_mille` is 500 for the median, 999 for the p99.9. In whole numbers, because a share such as
/// 0.9 is a little more than that as a float, and its product with a count may be a rank too high.
pub fn percentile(values: &[f64], per_mille: usize) -> f64 {
    assert!(!values.is_empty() && per_mille <= 1_000, "{per_mille} of {}", values.len());
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * per_mille).div_ceil(1_000).max(1);
    sorted[rank - 1]
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!((percentile(&values, 500), percentile(&values, 990)), (50.0, 99.0));
        assert_eq!((percentile(&values, 0), percentile(&values, 1_000)), (1.0, 100.0));
        assert_eq!((percentile(&[7.0], 500), percentile(&[7.0], 990)), (7.0, 7.0));
    }
}
