//! Says when which reader is due: at the multiples of its interval on the wall clock.

use std::time::Duration;

use super::clock::{Moment, nanoseconds};
use crate::model::WallTime;

/// Readers that are due this close together are read at one tick; also how far the wall clock may be off the monotonic one
/// before all ticks are aligned anew.
const TOLERANCE: Duration = Duration::from_millis(1);

/// The ticks of all readers. Deadlines are on CLOCK_MONOTONIC, so that setting the wall clock gives neither bursts nor stalls;
/// each is aimed anew at the wall clock after every tick.
pub(super) struct Schedule {
    timers: Vec<Timer>,
    /// Wall clock minus monotonic clock, when the deadlines were last aimed.
    offset: i64,
}

struct Timer {
    interval: Duration,
    /// On CLOCK_MONOTONIC.
    deadline: Duration,
    /// When it was last due.
    last: Option<Moment>,
}

/// The readers that are due now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// Their places in the list of intervals.
    pub(super) readers: Vec<usize>,
    /// Ticks that could not be held since the last one.
    pub(super) missed: u64,
}

impl Schedule {
    /// One reader for each interval. All are due at the first aligned tick of the shortest one.
    pub(super) fn new(intervals: impl IntoIterator<Item = Duration>, now: Moment) -> Self {
        let mut timers: Vec<_> = intervals
            .into_iter()
            .map(|interval| Timer {
                interval,
                deadline: Duration::ZERO,
                last: None,
            })
            .collect();
        if let Some(shortest) = timers.iter().map(|timer| timer.interval).min() {
            let first = on_monotonic(aligned(now.wall + 1, shortest), &now);
            for timer in &mut timers {
                timer.deadline = first;
            }
        }
        Self {
            timers,
            offset: offset(&now),
        }
    }

    /// When the next reader is due, on CLOCK_MONOTONIC. `None` if there is no reader.
    pub(super) fn next(&self) -> Option<Duration> {
        self.timers.iter().map(|timer| timer.deadline).min()
    }

    /// Who is due now. Aims their next deadlines, and after a step of the wall clock or a suspension everybody's.
    pub(super) fn fire(&mut self, now: Moment) -> Due {
        let mut due = Due {
            readers: Vec::new(),
            missed: 0,
        };
        let moved = (offset(&now) - self.offset).unsigned_abs() >= TOLERANCE.as_nanos() as u64;
        self.offset = offset(&now);
        for (place, timer) in self.timers.iter_mut().enumerate() {
            let is_due = timer.deadline <= now.monotonic + TOLERANCE;
            if is_due {
                due.missed = due.missed.max(timer.missed(&now));
                due.readers.push(place);
                timer.last = Some(now);
            }
            if is_due || moved {
                timer.aim(&now);
            }
        }
        due
    }
}

impl Timer {
    /// The next aligned tick that is at least half an interval after the last one: aligning anew makes no tiny windows.
    fn aim(&mut self, now: &Moment) {
        let earliest = match &self.last {
            Some(last) => {
                let since = nanoseconds(now.monotonic.saturating_sub(last.monotonic));
                now.wall - since + nanoseconds(self.interval) / 2
            }
            None => now.wall,
        };
        self.deadline = on_monotonic(aligned(earliest.max(now.wall + 1), self.interval), now);
    }

    /// Ticks between the last one and now, by the clock that goes on while the machine is suspended.
    fn missed(&self, now: &Moment) -> u64 {
        let Some(last) = &self.last else { return 0 };
        let elapsed = now.boot.saturating_sub(last.boot) + self.interval / 2;
        let ticks = elapsed.as_nanos() / self.interval.as_nanos().max(1);
        u64::try_from(ticks).unwrap_or(u64::MAX).saturating_sub(1)
    }
}

/// The first multiple of the interval since the epoch that is not before `time`.
fn aligned(time: WallTime, interval: Duration) -> WallTime {
    let interval = nanoseconds(interval).max(1);
    (time + interval - 1).div_euclid(interval) * interval
}

fn on_monotonic(time: WallTime, now: &Moment) -> Duration {
    let ahead = u64::try_from(time - now.wall).unwrap_or(0);
    now.monotonic + Duration::from_nanos(ahead)
}

fn offset(now: &Moment) -> i64 {
    now.wall - nanoseconds(now.monotonic)
}
