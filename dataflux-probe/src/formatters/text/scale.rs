//! Numbers as people read them: three digits and a unit that fits.

use std::time::Duration;

use crate::model::Unit;

const COUNTS: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
const BYTES: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
const TIMES: [&str; 4] = ["ns", "us", "ms", "s"];
const WATTS: [&str; 3] = ["W", "kW", "MW"];
const MICROJOULES: [&str; 6] = ["uJ", "mJ", "J", "kJ", "MJ", "GJ"];
const MICROWATTS: [&str; 5] = ["uW", "mW", "W", "kW", "MW"];

/// Whole counts below this are not scaled.
const EXACT: f64 = 10_000.0;
/// What has no unit that fits is written with an exponent from here on.
const HUGE: f64 = 1e6;

/// A value of a unit: `120`, `48.2k`, `1.50KiB`, `45.1us`.
pub(in crate::formatters) fn amount(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Count if value.fract() == 0.0 && value.abs() < EXACT => format!("{value}"),
        Unit::Count => scale(value, 1000.0, &COUNTS),
        Unit::Bytes => scale(value, 1024.0, &BYTES),
        Unit::Nanoseconds => scale(value, 1000.0, &TIMES),
        Unit::Celsius => scale(value, 1000.0, &["C"]),
        Unit::Ratio => scale(value, 1000.0, &[""]),
        Unit::Watts => scale(value, 1000.0, &WATTS),
        Unit::Microjoules => scale(value, 1000.0, &MICROJOULES),
    }
}

/// A value per second: `48.2k/s`, `1.50KiB/s`. Time per time is a share: `12.3%`, of one CPU, device or whatever was busy;
/// energy per time is power: `4.50W`.
pub(super) fn rate(unit: Unit, per_second: f64) -> String {
    match unit {
        Unit::Nanoseconds => format!("{:.1}%", per_second / 1e7),
        Unit::Microjoules => scale(per_second, 1000.0, &MICROWATTS),
        _ => amount(unit, per_second) + "/s",
    }
}

/// A length of time: `3.00s`.
pub(super) fn time(duration: Duration) -> String {
    amount(Unit::Nanoseconds, duration.as_secs_f64() * 1e9)
}

/// Divides until the number is below the base, or the units end.
fn scale(value: f64, base: f64, units: &[&str]) -> String {
    let (mut value, mut unit) = (value, 0);
    // What would be rounded up to the base belongs to the next unit.
    while value.is_finite() && value.abs() >= base - 0.5 && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    let whole = unit == 0 && value.fract() == 0.0;
    let decimals = match value.abs() {
        _ if whole => 0,
        size if size < 9.995 => 2,
        size if size < 99.95 => 1,
        size if size >= HUGE && size.is_finite() => return format!("{value:.2e}{}", units[unit]),
        _ => 0,
    };
    format!("{value:.decimals$}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_three_digits_and_the_unit_that_fits() {
        for (unit, value, text) in [
            (Unit::Count, 0.0, "0"),
            (Unit::Count, 7.0, "7"),
            (Unit::Count, 0.25, "0.25"),
            (Unit::Count, 999.0, "999"),
            (Unit::Count, 1203.0, "1203"),
            (Unit::Count, 1203.5, "1.20k"),
            (Unit::Count, 12_345.0, "12.3k"),
            (Unit::Count, 9_999.5, "10.0k"),
            (Unit::Count, -12_345_678.0, "-12.3M"),
            (Unit::Count, 18_446_744_073_709_551_615.0, "18.4E"),
            (Unit::Bytes, 1023.0, "1023B"),
            (Unit::Bytes, 1536.0, "1.50KiB"),
            (Unit::Bytes, 1_073_741_824.0, "1.00GiB"),
            (Unit::Nanoseconds, 640.0, "640ns"),
            (Unit::Nanoseconds, 51_199.5, "51.2us"),
            (Unit::Nanoseconds, 999_400_000.0, "999ms"),
            (Unit::Nanoseconds, 999_600_000.0, "1.00s"),
            (Unit::Bytes, 1_048_500.0, "1.00MiB"),
            (Unit::Nanoseconds, 1e13, "10000s"),
            (Unit::Nanoseconds, 1e18, "1.00e9s"),
            (Unit::Count, -1e300, "-1.00e282E"),
            (Unit::Count, f64::NAN, "NaN"),
            (Unit::Bytes, f64::INFINITY, "infB"),
            (Unit::Celsius, 45.5, "45.5C"),
            (Unit::Celsius, -40.0, "-40C"),
            (Unit::Ratio, 0.253, "0.25"),
            (Unit::Ratio, 1203.5, "1204"),
            (Unit::Watts, 12.25, "12.2W"),
            (Unit::Watts, 1500.0, "1.50kW"),
            (Unit::Microjoules, 4_500_000.0, "4.50J"),
        ] {
            assert_eq!(amount(unit, value), text);
        }
    }

    #[test]
    fn rates_are_per_second_and_those_of_time_are_shares() {
        assert_eq!(rate(Unit::Count, 41.5), "41.5/s");
        assert_eq!(rate(Unit::Bytes, 2048.0), "2.00KiB/s");
        assert_eq!(rate(Unit::Nanoseconds, 123_000_000.0), "12.3%");
        assert_eq!(rate(Unit::Microjoules, 4_500_000.0), "4.50W");
    }
}
