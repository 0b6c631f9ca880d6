//! What can be read out of a histogram: quantiles and bounds, within the width of a bucket.

use dataflux_common::histogram;

use crate::model::Buckets;

/// The scheme that envelopes name.
pub const SCHEME: &str = "log_linear/3";

/// The middle of the bucket that holds the value of this rank: at most 6.25 % away from it. `None` for no values.
#[must_use]
pub fn quantile(buckets: &Buckets, q: f64) -> Option<f64> {
    let count = buckets.count();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank is approximate"
    )]
    let rank = ((count as f64 * q).ceil() as u64).clamp(1, count.max(1));
    let mut seen = 0;
    buckets.counts.iter().find_map(|&(index, count)| {
        seen += count;
        (seen >= rank).then(|| middle(usize::from(index)))
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a bucket is wider than the rounding"
)]
fn middle(index: usize) -> f64 {
    f64::midpoint(
        histogram::lowest(index) as f64,
        histogram::highest(index) as f64,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_in_the_bucket_of_their_rank() {
        let mut dense = [0; histogram::BUCKETS];
        for value in 1..=1000u64 {
            dense[histogram::bucket(value)] += 1;
        }
        let buckets = Buckets::from_dense(500_500, dense);
        for (q, exact) in [(0.001, 1.0), (0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = quantile(&buckets, q).unwrap();
            assert!(
                (found - exact).abs() <= exact * 0.0625 + 0.5,
                "{q}: {found} is not {exact}"
            );
        }
        assert_eq!(quantile(&Buckets::default(), 0.5), None);
    }
}
