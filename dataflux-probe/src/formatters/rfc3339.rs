//! Wall-clock times as envelopes write them: RFC 3339 in UTC with nine digits of nanoseconds.

use std::fmt;

use super::numbers::all_three;
use crate::model::WallTime;

const NANOSECONDS: i64 = 1_000_000_000;
const DAY_SECONDS: i64 = 86_400;
/// The calendar repeats after this many days, which are 400 years.
const CYCLE_DAYS: i64 = 146_097;
/// From 0000-03-01 to 1970-01-01.
const EPOCH_DAYS: i64 = 719_468;

/// What a time looks like; its digits are filled in.
const TEMPLATE: [u8; 30] = *b"0000-00-00T00:00:00.000000000Z";

/// Displays any wall time as `2026-03-01T12:00:03.000018211Z`; times before 1970 too, unlike what works on `SystemTime`.
#[derive(Clone, Copy)]
pub(crate) struct Rfc3339(pub(crate) WallTime);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(str::from_utf8(&text(self.0)).map_err(|_| fmt::Error)?)
    }
}

impl serde::Serialize for Rfc3339 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The time as text.
pub(super) fn text(time: WallTime) -> [u8; 30] {
    let (seconds, nanoseconds) = (time.div_euclid(NANOSECONDS), time.rem_euclid(NANOSECONDS));
    let (year, month, day) = date(seconds.div_euclid(DAY_SECONDS));
    let second = seconds.rem_euclid(DAY_SECONDS);
    let mut text = TEMPLATE;
    for (place, value) in [
        (1..4, year % 1000),
        (5..7, month),
        (8..10, day),
        (11..13, second / 3600),
        (14..16, second / 60 % 60),
        (17..19, second % 60),
        (20..23, nanoseconds / 1_000_000),
        (23..26, nanoseconds / 1000 % 1000),
        (26..29, nanoseconds % 1000),
    ] {
        let digits = all_three(value.unsigned_abs());
        let start = digits.len() - place.len();
        text[place].copy_from_slice(&digits[start..]);
    }
    // 64 bits of nanoseconds reach from 1677 to 2262.
    text[0] = if year < 2000 { b'1' } else { b'2' };
    text
}

/// Year, month and day of a day counted from 1970-01-01. Years begin in March inside, so that a leap day is the last day
/// of its year, and of its 4 and its 400 years.
fn date(days: i64) -> (i64, i64, i64) {
    let cycle = (days + EPOCH_DAYS).div_euclid(CYCLE_DAYS);
    let mut day = (days + EPOCH_DAYS).rem_euclid(CYCLE_DAYS);
    let mut year = cycle * 400;
    for (length, years, most) in [(36_524, 100, 3), (1_461, 4, 24), (365, 1, 3)] {
        let times = (day / length).min(most);
        day -= times * length;
        year += times * years;
    }
    // Months of 31 30 31 30 31 days follow each other, twice and a bit: 153 days are five of them.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    if month < 10 {
        (year, month + 3, day)
    } else {
        (year + 1, month - 9, day)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn times_at_the_edges_of_the_calendar_are_right() {
        for (time, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (i64::MIN, "1677-09-21T00:12:43.145224192Z"),
            (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
            (951_782_400 * NANOSECONDS, "2000-02-29T00:00:00.000000000Z"),
            (951_868_800 * NANOSECONDS, "2000-03-01T00:00:00.000000000Z"),
            (
                -2_203_891_200 * NANOSECONDS,
                "1900-03-01T00:00:00.000000000Z",
            ),
            (
                -2_203_977_600 * NANOSECONDS,
                "1900-02-28T00:00:00.000000000Z",
            ),
        ] {
            assert_eq!(Rfc3339(time).to_string(), text);
        }
    }

    #[test]
    fn every_day_agrees_with_another_implementation() {
        for day in 0..106_000 {
            let time = day * DAY_SECONDS;
            let other = UNIX_EPOCH + Duration::from_secs(time.unsigned_abs());
            assert_eq!(
                Rfc3339(time * NANOSECONDS).to_string(),
                humantime::format_rfc3339_nanos(other).to_string()
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn every_instant_since_1970_agrees_with_another_implementation(time in 0..i64::MAX) {
            let other = UNIX_EPOCH + Duration::from_nanos(time.unsigned_abs());
            assert_eq!(Rfc3339(time).to_string(), humantime::format_rfc3339_nanos(other).to_string());
        }
    }
}
