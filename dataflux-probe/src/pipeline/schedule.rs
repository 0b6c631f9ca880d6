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
    /// Which multiple of the interval that was; the nearest one if the wall clock had been set just before.
    place: i64,
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
                place: 0,
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

    /// Goes on with other readers: for each, the place that it had, if it runs already, and its interval. One whose interval
    /// is new begins at an aligned tick at least half of it after its last one, or after now.
    pub(super) fn change(
        &mut self,
        readers: impl IntoIterator<Item = (Option<usize>, Duration)>,
        now: Moment,
    ) {
        let mut old: Vec<_> = std::mem::take(&mut self.timers)
            .into_iter()
            .map(Some)
            .collect();
        for (place, interval) in readers {
            let timer = match place.and_then(|place| old[place].take()) {
                Some(timer) if timer.interval == interval => timer,
                other => {
                    let last = other.and_then(|timer| timer.last).unwrap_or(now);
                    Timer::begun(interval, last, &now)
                }
            };
            self.timers.push(timer);
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
                due.missed = due.missed.max(timer.hold(now));
                due.readers.push(place);
            }
            if is_due || moved {
                timer.aim(&now);
            }
        }
        due
    }
}

impl Timer {
    /// One whose last tick was at `last`, whatever its interval was then.
    fn begun(interval: Duration, last: Moment, now: &Moment) -> Self {
        let mut timer = Self {
            interval,
            deadline: Duration::ZERO,
            last: Some(last),
            place: 0,
        };
        timer.aim(now);
        // The tick before the first one that is aimed at was not missed.
        let ahead = nanoseconds(timer.deadline.saturating_sub(now.monotonic));
        let first = now.wall + ahead + nanoseconds(TOLERANCE);
        timer.place = first.div_euclid(nanoseconds(interval).max(1)) - 1;
        timer
    }

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

    /// Takes the tick of now, and gives how many there were since the last one, suspension included, that were not held. By
    /// their places on the grid, so that a late tick cannot hide one that was left out; by the time that passed if the wall
    /// clock was set meanwhile.
    fn hold(&mut self, now: Moment) -> u64 {
        let interval = nanoseconds(self.interval).max(1);
        let tolerance = nanoseconds(TOLERANCE);
        let on_grid = (now.wall + tolerance).div_euclid(interval);
        let Some(last) = self.last.replace(now) else {
            self.place = on_grid;
            return 0;
        };
        let passed = nanoseconds(now.boot.saturating_sub(last.boot));
        let was_set = (now.wall - last.wall - passed).abs() >= tolerance;
        let ticks = if was_set {
            self.place = (now.wall + interval / 2).div_euclid(interval);
            (passed + interval / 2) / interval
        } else {
            on_grid - std::mem::replace(&mut self.place, on_grid)
        };
        u64::try_from(ticks - 1).unwrap_or(0)
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Clocks at this time since boot, with the wall clock ahead by some.
    fn at(milliseconds: u64, wall_ahead: i64) -> Moment {
        let boot = Duration::from_millis(milliseconds);
        Moment {
            wall: nanoseconds(boot) + wall_ahead * 1_000_000,
            monotonic: boot,
            boot,
        }
    }

    fn due(readers: &[usize], missed: u64) -> Due {
        Due {
            readers: readers.to_vec(),
            missed,
        }
    }

    fn next(schedule: &Schedule) -> u128 {
        schedule.next().expect("has readers").as_millis()
    }

    #[test]
    fn all_begin_at_the_first_tick_of_the_shortest_interval() {
        let mut schedule = Schedule::new([SECOND, 3 * SECOND, 10 * SECOND], at(2_300, 100));
        assert_eq!(next(&schedule), 2_900);
        assert_eq!(schedule.fire(at(2_901, 100)), due(&[0, 1, 2], 0));
        // 3 s on the wall was the baseline: the next multiples at least half an interval later are 4, 6 and 10.
        assert_eq!(next(&schedule), 3_900);
        assert_eq!(schedule.fire(at(3_900, 100)), due(&[0], 0));
        assert_eq!(schedule.fire(at(4_901, 100)), due(&[0], 0));
        assert_eq!(schedule.fire(at(5_900, 100)), due(&[0, 1], 0));
        for second in 6..9 {
            schedule.fire(at(second * 1_000 + 900, 100));
        }
        assert_eq!(schedule.fire(at(9_900, 100)), due(&[0, 2], 0));
    }

    #[test]
    fn intervals_that_do_not_divide_each_other_keep_their_own_multiples() {
        let mut schedule = Schedule::new([SECOND, SECOND * 3 / 2], at(500, 0));
        let mut ticks = Vec::new();
        for _ in 0..6 {
            let time = u64::try_from(next(&schedule)).expect("is small");
            ticks.push((time, schedule.fire(at(time, 0)).readers));
        }
        let expected: [(u64, &[usize]); 6] = [
            (1_000, &[0, 1]),
            (2_000, &[0]),
            (3_000, &[0, 1]),
            (4_000, &[0]),
            (4_500, &[1]),
            (5_000, &[0]),
        ];
        assert_eq!(
            ticks,
            expected.map(|(time, readers)| (time, readers.to_vec()))
        );
    }

    #[test]
    fn ticks_that_could_not_be_held_are_counted_and_skipped() {
        let mut schedule = Schedule::new([SECOND], at(500, 0));
        schedule.fire(at(1_000, 0));
        assert_eq!(schedule.fire(at(4_200, 0)), due(&[0], 2));
        assert_eq!(next(&schedule), 5_000);
        // So late that the tick after is skipped as well.
        assert_eq!(schedule.fire(at(7_700, 0)), due(&[0], 2));
        assert_eq!(next(&schedule), 9_000);
        assert_eq!(schedule.fire(at(9_000, 0)), due(&[0], 1));
        // A late one, one so late that the tick after is skipped, and the next: never more than 1.4 intervals apart.
        assert_eq!(schedule.fire(at(10_400, 0)), due(&[0], 0));
        assert_eq!(schedule.fire(at(11_600, 0)), due(&[0], 0));
        assert_eq!(next(&schedule), 13_000);
        assert_eq!(schedule.fire(at(13_000, 0)), due(&[0], 1));
    }

    #[test]
    fn a_step_of_the_wall_clock_moves_all_deadlines_at_the_next_tick() {
        for step in [250, -250, 3_600_250, -3_600_250] {
            let mut schedule = Schedule::new([SECOND, 10 * SECOND], at(4_000_000, 0));
            schedule.fire(at(4_001_000, 0));
            assert_eq!(schedule.fire(at(4_002_000, step)), due(&[0], 0));
            let wall = |time: u128| i64::try_from(time).expect("is small") + step;
            let soon = next(&schedule);
            assert_eq!(wall(soon) % 1_000, 0, "{step}");
            assert!((4_002_500..=4_003_500).contains(&soon), "{step}: {soon}");
            let second = schedule.timers[1].deadline.as_millis();
            assert_eq!(wall(second) % 10_000, 0, "{step}");
            assert!(
                (4_006_000..=4_016_000).contains(&second),
                "{step}: {second}"
            );
        }
    }

    #[test]
    fn readers_that_go_on_keep_their_ticks_and_new_ones_begin_with_half_an_interval_at_least() {
        let mut schedule = Schedule::new([SECOND, 4 * SECOND, 2 * SECOND], at(500, 0));
        for second in 1..=3 {
            schedule.fire(at(second * 1_000, 0));
        }
        // The one of 1 s goes on, that of 4 s gets 2 s, that of 2 s is gone, one of 2 s is new.
        let now = at(3_600, 0);
        let changed = [(Some(1), 2 * SECOND), (Some(0), SECOND), (None, 2 * SECOND)];
        schedule.change(changed, now);
        assert_eq!(next(&schedule), 4_000);
        // Its last tick was the first one, at 1 s.
        assert_eq!(schedule.fire(at(4_000, 0)), due(&[0, 1], 0));
        assert_eq!(schedule.fire(at(5_000, 0)), due(&[1], 0));
        // 4 s came less than half an interval after it began.
        assert_eq!(schedule.fire(at(6_000, 0)), due(&[0, 1, 2], 0));
        assert_eq!(schedule.fire(at(7_000, 0)), due(&[1], 0));
        assert_eq!(schedule.fire(at(8_000, 0)), due(&[0, 1, 2], 0));
    }

    #[test]
    fn without_readers_there_is_no_tick() {
        assert_eq!(Schedule::new([], at(0, 0)).next(), None);
    }
}
