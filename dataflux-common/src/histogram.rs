//! The log-linear histogram: the bucket function of both sides, and the bounds of each bucket.
//!
//! Scheme `log_linear/3`: values below 8 have a bucket each; from there on every power of two is cut into 8 equal
//! buckets, so a bucket is at most 12.5 % as wide as its lowest value. 496 buckets cover all of `u64`.

use crate::shared;

/// Sub-buckets per power of two, as a power of two.
pub const GROUPING: u32 = 3;
/// Buckets that cover all of `u64`.
pub const BUCKETS: usize = (64 - GROUPING as usize + 1) << GROUPING;

shared! {
    /// A histogram of values of any size, as the kernel keeps it.
    pub struct Histogram {
        /// Sum of all values.
        pub sum: u64,
        /// How many values fell into each bucket.
        pub counts: [u64; BUCKETS],
    }
}

/// Position of the highest bit for each de Bruijn product; see [`bucket`].
static HIGHEST_BIT: [u8; 64] = highest_bits();

/// Multiplying a number of the form 2^n - 1 by this puts a different six bits on top for each n.
const DE_BRUIJN: u64 = 0x03f7_9d71_b4cb_0a89;

const fn highest_bits() -> [u8; 64] {
    let mut table = [0; 64];
    let mut bit = 0;
    while bit < 64 {
        let smeared = u64::MAX >> (63 - bit);
        table[(smeared.wrapping_mul(DE_BRUIJN) >> 58) as usize] = bit as u8;
        bit += 1;
    }
    table
}

/// The bucket of a value, below [`BUCKETS`].
///
/// The highest bit is found by a multiplication and a table because the kernel's virtual machine has no instruction for
/// it and a search by branches costs three times as much.
#[inline(always)]
#[must_use]
pub fn bucket(value: u64) -> usize {
    let mut smeared = value | (1 << GROUPING);
    smeared |= smeared >> 1;
    smeared |= smeared >> 2;
    smeared |= smeared >> 4;
    smeared |= smeared >> 8;
    smeared |= smeared >> 16;
    smeared |= smeared >> 32;
    let position = (smeared.wrapping_mul(DE_BRUIJN) >> 58) as usize;
    // SAFETY: a u64 shifted right by 58 is below 64, the length of the table.
    let highest = u64::from(unsafe { *HIGHEST_BIT.get_unchecked(position) });
    let shift = highest - GROUPING as u64;
    ((shift << GROUPING) + (value >> shift)) as usize
}

/// The lowest value of a bucket. `index` is below [`BUCKETS`].
#[must_use]
pub const fn lowest(index: usize) -> u64 {
    let (group, within) = (index >> GROUPING, (index & ((1 << GROUPING) - 1)) as u64);
    if group == 0 {
        within
    } else {
        ((1 << GROUPING) + within) << (group - 1)
    }
}

/// The highest value of a bucket. `index` is below [`BUCKETS`].
#[must_use]
pub const fn highest(index: usize) -> u64 {
    if index + 1 == BUCKETS {
        u64::MAX
    } else {
        lowest(index + 1) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bucket_begins_and_ends_where_its_bounds_say() {
        for index in 0..BUCKETS {
            assert_eq!(
                bucket(lowest(index)),
                index,
                "lowest value of bucket {index}"
            );
            assert_eq!(
                bucket(highest(index)),
                index,
                "highest value of bucket {index}"
            );
            if index > 0 {
                assert_eq!(
                    lowest(index),
                    highest(index - 1) + 1,
                    "no hole below bucket {index}"
                );
            }
        }
        assert_eq!((lowest(0), highest(BUCKETS - 1)), (0, u64::MAX));
    }

    #[test]
    fn a_bucket_is_at_most_an_eighth_as_wide_as_its_lowest_value() {
        for index in 1 << GROUPING..BUCKETS {
            assert!(
                highest(index) - lowest(index) < lowest(index) / 8 + 1,
                "bucket {index}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn a_value_lies_within_the_bounds_of_its_bucket(value: u64, shift in 0u32..64) {
            let value = value >> shift;
            let index = bucket(value);
            assert!(lowest(index) <= value && value <= highest(index));
        }
    }
}
