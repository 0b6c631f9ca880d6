//! Numbers in base units: whole ones exactly, others as the shortest text that is the same number again.

use std::io::Write as _;

use crate::formatters::numbers::{LONGEST, put, unsigned};

/// A whole number, moved by so many decimals: every digit of it is written.
pub(super) fn whole(value: u64, decimals: u8, out: &mut Vec<u8>) {
    let one = 10_u64.pow(decimals.into());
    unsigned(value / one, out);
    let rest = value % one;
    if rest > 0 {
        // The one more in front brings the zeros after the point along, and has the place of the point.
        let mut digits = [0; LONGEST];
        let mut length = put(one + rest, &mut digits);
        digits[0] = b'.';
        while digits[length - 1] == b'0' {
            length -= 1;
        }
        out.extend_from_slice(&digits[..length]);
    }
}

/// A number of any kind, moved by so many decimals.
pub(super) fn float(value: f64, decimals: u8, out: &mut Vec<u8>) {
    let value = value / 10_f64.powi(decimals.into());
    if value.fract() == 0.0 && value.abs() < 1e15 {
        if value.is_sign_negative() {
            out.push(b'-');
        }
        unsigned(value.abs() as u64, out);
    } else if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    } else {
        write!(out, "{value:?}").expect("a vector takes everything");
    }
}

/// A bound of a histogram in the one way that Prometheus itself writes it: series are told apart by this text.
#[expect(clippy::cast_precision_loss, reason = "a bound is a label's text")]
pub(super) fn bound(value: u64, decimals: u8) -> String {
    let value = value as f64 / 10_f64.powi(decimals.into());
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>().unwrap_or(0) {
        -4..=5 if value.fract() == 0.0 => format!("{value}.0"),
        -4..=5 => value.to_string(),
        exponent if exponent < 0 => format!("{digits}e-{:02}", -exponent),
        exponent => format!("{digits}e+{exponent:02}"),
    }
}
