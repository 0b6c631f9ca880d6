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

/// The quantiles that flat formats give of a histogram: their names, and their shares in [`WHOLE`].
pub const QUANTILES: [(&str, u32); 5] = [
    ("p50", 50_000),
    ("p90", 90_000),
    ("p99", 99_000),
    ("p999", 99_900),
    ("p100", WHOLE),
];

/// What shares of [`highest_at`] are parts of.
pub const WHOLE: u32 = 100_000;

/// Names and values of [`QUANTILES`]; none for no values.
pub fn quantiles(buckets: &Buckets) -> impl Iterator<Item = (&'static str, u64)> {
    let count = buckets.count();
    let mut places = buckets.counts.iter();
    let (mut seen, mut highest) = (0, None);
    QUANTILES.iter().map_while(move |&(name, share)| {
        while seen < rank(count, share) {
            let &(index, count) = places.next()?;
            seen += count;
            highest = Some(histogram::highest(usize::from(index)));
        }
        Some((name, highest?))
    })
}

/// The highest value that the bucket can hold in which the value of this rank is: never below that value, and at most 12.5 %
/// above it. `share` is in [`WHOLE`]. `None` for no values.
#[must_use]
pub fn highest_at(buckets: &Buckets, share: u32) -> Option<u64> {
    let rank = rank(buckets.count(), share);
    let mut seen = 0;
    buckets.counts.iter().find_map(|&(index, count)| {
        seen += count;
        (seen >= rank).then(|| histogram::highest(usize::from(index)))
    })
}

/// From 1, exact for any count.
fn rank(count: u64, share: u32) -> u64 {
    let rank = (u128::from(count) * u128::from(share)).div_ceil(WHOLE.into());
    u64::try_from(rank).unwrap_or(u64::MAX).max(1)
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

    proptest::proptest! {
        #[test]
        fn upper_bounds_are_never_below_and_at_most_an_eighth_above(
            mut values in proptest::collection::vec(proptest::prelude::any::<u64>(), 1..300),
            shift in 0_u32..64,
            share in 1..=WHOLE,
        ) {
            let mut dense = [0; histogram::BUCKETS];
            for value in &mut values {
                *value >>= shift;
                dense[histogram::bucket(*value)] += 1;
            }
            values.sort_unstable();
            let buckets = Buckets::from_dense(0, dense);
            let exact = |share: u32| {
                let rank = (values.len() * share as usize).div_ceil(WHOLE as usize);
                values[rank - 1]
            };
            let holds = |bound: u64, exact: u64| bound >= exact && bound - exact <= exact / 8;
            assert!(holds(highest_at(&buckets, share).unwrap(), exact(share)));
            let all: Vec<_> = quantiles(&buckets).collect();
            assert_eq!(all.len(), QUANTILES.len());
            for ((name, share), (same, bound)) in QUANTILES.into_iter().zip(all) {
                assert_eq!(name, same);
                assert_eq!(Some(bound), highest_at(&buckets, share));
                assert!(holds(bound, exact(share)));
            }
        }
    }

    #[test]
    fn no_values_have_no_bounds_and_counts_beyond_doubles_have_exact_ranks() {
        assert_eq!(highest_at(&Buckets::default(), WHOLE), None);
        assert_eq!(quantiles(&Buckets::default()).count(), 0);
        let counts = vec![(1, (1 << 60) - 1), (2, 1), (3, 1 << 60)];
        let buckets = Buckets { sum: 0, counts };
        assert_eq!(highest_at(&buckets, WHOLE / 2), Some(2));
    }
}
