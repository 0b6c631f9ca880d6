//! The times of `/proc/diskstats`: the kernel writes 32 bits of milliseconds, which run over after 49.7 days of I/O time.
//!
//! A time that is smaller than before ran over, or it is that of another disk under the same name. Which of the two, the
//! number of the disk tells (`diskseq`, of kernel 5.15), which no other disk gets before the machine is started anew.

use std::path::Path;

use crate::host_file::first_line;

/// How many a line has: of each operation, busy, and weighted.
pub(super) const TIMES: usize = 6;

/// What a time runs over at, ms.
const RANGE: u64 = 1 << 32;

/// A time that seems to have grown by more went back a little.
const MOST: u64 = RANGE / 2;

/// The times of a disk at the last read, in ms.
#[derive(Debug)]
pub(super) struct Times {
    /// The disk's, where the kernel tells it.
    number: Option<u64>,
    told: [u64; TIMES],
    /// What they would be had none of them run over since the first read.
    whole: [u64; TIMES],
}

impl Times {
    /// Of a disk's first read. `device` is its folder in sysfs.
    pub(super) fn new(device: &Path, told: [u64; TIMES]) -> Self {
        Self {
            number: number(device),
            told,
            whole: told,
        }
    }

    /// What they come to now. A time that does not go on from the last read begins anew with what is told.
    pub(super) fn advance(&mut self, device: &Path, told: [u64; TIMES]) -> [u64; TIMES] {
        let fell = told.iter().zip(&self.told).any(|(now, then)| now < then);
        if fell {
            let number = number(device);
            if number.is_none() || number != self.number {
                (self.number, self.told, self.whole) = (number, told, told);
                return told;
            }
        }
        for ((whole, &then), now) in self.whole.iter_mut().zip(&self.told).zip(told) {
            let more = match now.checked_sub(then) {
                None if then < RANGE => Some(now + RANGE - then).filter(|&more| more <= MOST),
                more => more,
            };
            *whole = more.map_or(now, |more| whole.saturating_add(more));
        }
        self.told = told;
        self.whole
    }
}

fn number(device: &Path) -> Option<u64> {
    first_line(&device.join("diskseq"))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    const LAST: u64 = RANGE - 1;

    fn disk(number: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("diskseq"), number).unwrap();
        folder
    }

    #[test]
    fn a_time_that_runs_over_goes_on() {
        let disk = disk("7\n");
        let mut times = Times::new(disk.path(), [LAST, 5, 0, 0, LAST - 9, 8]);
        let now = times.advance(disk.path(), [2, 6, 0, 0, LAST, 8]);
        assert_eq!(now, [RANGE + 2, 6, 0, 0, LAST, 8]);
        let now = times.advance(disk.path(), [9, 6, 0, 0, 1, 8]);
        assert_eq!(now, [RANGE + 9, 6, 0, 0, RANGE + 1, 8]);
        let later = times.advance(disk.path(), [LAST, 6, 0, 0, 1, 8]);
        assert_eq!(later[0], RANGE + LAST);
        let again = times.advance(disk.path(), [0, 6, 0, 0, 1, 8]);
        assert_eq!(again[0], 2 * RANGE);
    }

    #[test]
    fn another_disk_and_a_time_that_went_back_begin_anew() {
        let disk = disk("7\n");
        let mut times = Times::new(disk.path(), [LAST, LAST, 3, 0, 0, 0]);
        times.advance(disk.path(), [0, LAST, 3, 0, 0, 0]);
        assert_eq!(
            times.advance(disk.path(), [9, LAST, 2, 0, 0, 0]),
            [RANGE + 9, LAST, 2, 0, 0, 0],
            "one went back by a millisecond"
        );
        fs::write(disk.path().join("diskseq"), "8\n").unwrap();
        let other = [10, 1, 2, 0, 0, 0];
        assert_eq!(times.advance(disk.path(), other), other);
    }

    #[test]
    fn without_the_number_of_the_disk_nothing_is_concluded() {
        let folder = tempfile::tempdir().unwrap();
        let mut times = Times::new(folder.path(), [LAST; TIMES]);
        assert_eq!(times.advance(folder.path(), [1; TIMES]), [1; TIMES]);
        assert_eq!(times.advance(folder.path(), [3; TIMES]), [3; TIMES]);
    }

    proptest! {
        #[test]
        fn steps_add_up_however_often_a_time_runs_over(first in 0..RANGE, steps in prop::collection::vec(0..MOST, 0..20)) {
            let disk = disk("1\n");
            let mut times = Times::new(disk.path(), [first; TIMES]);
            let mut sum = first;
            for step in steps {
                sum += step;
                let whole = times.advance(disk.path(), [sum % RANGE; TIMES]);
                prop_assert_eq!(whole, [sum; TIMES]);
            }
        }

        #[test]
        fn any_times_are_taken(told: [[u64; TIMES]; 4]) {
            let disk = disk("1\n");
            let mut times = Times::new(disk.path(), told[0]);
            for told in told {
                times.advance(disk.path(), told);
            }
        }
    }
}
