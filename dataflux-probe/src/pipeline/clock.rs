//! Reads the three clocks that a window needs, and measures windows between two readings.

use std::{sync::Arc, time::Duration};

use rustix::time::{ClockId, clock_gettime};

use crate::model::{WallTime, Window};

/// Differences between the clocks below this come from reading them one after the other: no step and no suspension.
const NOISE: Duration = Duration::from_millis(1);

/// A reading whose clocks were read within this is good enough.
const CLOSE: Duration = Duration::from_micros(20);

/// Where the pipeline gets its time from: the system, or a script in tests.
pub(super) type Clock = Arc<dyn Fn() -> Moment + Send + Sync>;

/// One reading of three clocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Moment {
    /// CLOCK_REALTIME: people's time, which may be set.
    pub(super) wall: WallTime,
    /// CLOCK_MONOTONIC: stands still while the machine is suspended.
    pub(super) monotonic: Duration,
    /// CLOCK_BOOTTIME: CLOCK_MONOTONIC and the time suspended.
    pub(super) boot: Duration,
}

impl Moment {
    /// The window from this reading to a later one.
    pub(super) fn window_to(&self, stop: &Self) -> Window {
        let duration = stop.monotonic.saturating_sub(self.monotonic);
        let elapsed = stop.boot.saturating_sub(self.boot);
        let suspended = elapsed.saturating_sub(duration);
        let clock_step = stop.wall - self.wall - nanoseconds(elapsed);
        Window {
            start: self.wall,
            stop: stop.wall,
            duration,
            suspended: if suspended < NOISE {
                Duration::ZERO
            } else {
                suspended
            },
            clock_step: if clock_step.abs() < nanoseconds(NOISE) {
                0
            } else {
                clock_step
            },
        }
    }
}

/// A duration as signed nanoseconds, for sums with wall-clock times.
pub(super) fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// The clocks of the system.
pub(super) fn system() -> Clock {
    Arc::new(now)
}

/// Reads all clocks as nearly at once as a few attempts allow: a thread may be interrupted between two reads.
fn now() -> Moment {
    let mut best = read();
    for _ in 0..4 {
        if best.1 <= CLOSE {
            break;
        }
        let again = read();
        if again.1 < best.1 {
            best = again;
        }
    }
    best.0
}

/// One reading and how long it took.
fn read() -> (Moment, Duration) {
    let before = since_start(ClockId::Monotonic);
    let wall = since_start(ClockId::Realtime);
    let boot = since_start(ClockId::Boottime);
    let took = since_start(ClockId::Monotonic).saturating_sub(before);
    let moment = Moment {
        wall: nanoseconds(wall),
        monotonic: before + took / 2,
        boot,
    };
    (moment, took)
}

/// A clock's time since its zero, which for none of the three can be negative on a running system.
fn since_start(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn moment(wall: i64, monotonic_ms: u64, boot_ms: u64) -> Moment {
        Moment {
            wall,
            monotonic: Duration::from_millis(monotonic_ms),
            boot: Duration::from_millis(boot_ms),
        }
    }

    #[test]
    fn an_ordinary_window_has_no_step_and_no_suspension() {
        let window =
            moment(SECOND, 500, 800).window_to(&moment(11 * SECOND + 40_000, 10_500, 10_800));
        assert_eq!(
            window,
            Window {
                start: SECOND,
                stop: 11 * SECOND + 40_000,
                duration: Duration::from_secs(10),
                suspended: Duration::ZERO,
                clock_step: 0
            }
        );
    }

    #[test]
    fn a_clock_step_does_not_change_the_length() {
        let window = moment(100 * SECOND, 0, 0).window_to(&moment(50 * SECOND, 10_000, 10_000));
        assert_eq!(window.duration, Duration::from_secs(10));
        assert_eq!(window.clock_step, -60 * SECOND);
        assert_eq!(window.suspended, Duration::ZERO);
        assert_eq!(window.stop, 50 * SECOND);
    }

    #[test]
    fn suspension_is_told_apart_from_length_and_step() {
        let window = moment(0, 0, 0).window_to(&moment(72 * SECOND, 10_000, 70_000));
        assert_eq!(window.duration, Duration::from_secs(10));
        assert_eq!(window.suspended, Duration::from_secs(60));
        assert_eq!(window.clock_step, 2 * SECOND);
    }

    #[test]
    fn the_system_clocks_move_together() {
        let start = now();
        std::thread::sleep(Duration::from_millis(5));
        let window = start.window_to(&now());
        assert!(window.duration >= Duration::from_millis(5), "{window:?}");
        assert!(window.stop > window.start, "{window:?}");
    }
}
