//! Sets of numbers that mostly come in long runs.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// Numbers, as runs that are sorted and do not touch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(u64, u64)>")]
pub(super) struct Ranges(Vec<(u64, u64)>);

impl TryFrom<Vec<(u64, u64)>> for Ranges {
    type Error = &'static str;

    fn try_from(runs: Vec<(u64, u64)>) -> Result<Self, Self::Error> {
        let sorted =
            runs.is_sorted_by(|&(_, before), &(after, _)| before.saturating_add(1) < after);
        if sorted && runs.iter().all(|&(first, last)| first <= last) {
            Ok(Self(runs))
        } else {
            Err("runs that are not in order")
        }
    }
}

impl Ranges {
    /// Adds numbers; those that are there already stay.
    pub(super) fn insert(&mut self, range: &RangeInclusive<u64>) {
        let (mut first, mut last) = (*range.start(), *range.end());
        if first > last {
            return;
        }
        let begin = self
            .0
            .partition_point(|&(_, end)| end.saturating_add(1) < first);
        let end = self
            .0
            .partition_point(|&(start, _)| start <= last.saturating_add(1));
        if begin < end {
            first = first.min(self.0[begin].0);
            last = last.max(self.0[end - 1].1);
        }
        self.0.splice(begin..end, [(first, last)]);
    }

    /// Whether all of the numbers are in it.
    pub(super) fn contains(&self, range: &RangeInclusive<u64>) -> bool {
        let place = self.0.partition_point(|&(_, end)| end < *range.start());
        self.0
            .get(place)
            .is_some_and(|&(first, last)| first <= *range.start() && *range.end() <= last)
    }

    /// The numbers of `1..=last` that are not in it.
    pub(super) fn missing(&self, last: u64) -> Vec<RangeInclusive<u64>> {
        let mut missing = Vec::new();
        let mut next = 1;
        for &(first, end) in self.0.iter().filter(|&&(first, _)| first <= last) {
            if next < first {
                missing.push(next..=first - 1);
            }
            next = end.saturating_add(1);
        }
        if next <= last {
            missing.push(next..=last);
        }
        missing
    }

    /// The runs, lowest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = RangeInclusive<u64>> {
        self.0.iter().map(|&(first, last)| first..=last)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_are_the_set_of_their_numbers(
            inserted in proptest::collection::vec((1_u64..60, 0_u64..9), 0..30),
            asked in (1_u64..70, 0_u64..9),
        ) {
            let mut ranges = Ranges::default();
            let mut set = BTreeSet::new();
            for (first, more) in inserted {
                ranges.insert(&(first..=first + more));
                set.extend(first..=first + more);
            }
            let runs: Vec<_> = ranges.iter().collect();
            prop_assert!(runs.windows(2).all(|pair| pair[0].end() + 1 < *pair[1].start()));
            prop_assert_eq!(runs.into_iter().flatten().collect::<BTreeSet<_>>(), set.clone());
            let asked = asked.0..=asked.0 + asked.1;
            prop_assert_eq!(ranges.contains(&asked), asked.clone().all(|number| set.contains(&number)));
            let missing: Vec<u64> = ranges.missing(50).into_iter().flatten().collect();
            prop_assert_eq!(missing, (1..=50).filter(|number| !set.contains(number)).collect::<Vec<_>>());
        }
    }
}
