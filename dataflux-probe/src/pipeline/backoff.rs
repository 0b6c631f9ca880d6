//! How long to wait after failures in a row: from 100 ms doubling to 30 s, with jitter, without an end.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure. `random` bits choose from the upper half of it, so that a fleet does not come back at
    /// one moment.
    pub(super) fn next(&mut self, random: u64) -> Duration {
        let full = FIRST.saturating_mul(2_u32.saturating_pow(self.failures));
        self.failures = self.failures.saturating_add(1);
        let half = full.min(LONGEST) / 2;
        half + Duration::from_nanos(random % half.as_nanos() as u64)
    }

    /// After a success.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..4).map(|_| backoff.next(0).as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400]);
        let mut last = 0;
        for random in 0..100 {
            last = backoff.next(random << 40).as_millis();
        }
        assert!((15_000..=30_000).contains(&last), "{last}");
        backoff.reset();
        assert!(backoff.next(0) == FIRST / 2);
    }
}
