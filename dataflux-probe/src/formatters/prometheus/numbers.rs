//! Numbers in base units: whole ones exactly, others as the shortest text that is the same number again.

use std::io::{self, Write as _};

/// A whole number, moved by so many decimals: every digit of it is written.
pub(super) fn whole(value: u64, decimals: u8, out: &mut Vec<u8>) -> io::Result<()> {
    let one = 10_u64.pow(decimals.into());
    write!(out, "{}", value / one)?;
    let rest = value % one;
    if rest > 0 {
        write!(out, ".{rest:0width$}", width = usize::from(decimals))?;
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    Ok(())
}

/// A number of any kind, moved by so many decimals.
pub(super) fn float(value: f64, decimals: u8, out: &mut Vec<u8>) -> io::Result<()> {
    let value = value / 10_f64.powi(decimals.into());
    if value.is_nan() {
        out.write_all(b"NaN")
    } else if value.is_infinite() {
        out.write_all(if value > 0.0 { b"+Inf" } else { b"-Inf" })
    } else if value.fract() == 0.0 && value.abs() < 1e15 {
        write!(out, "{value}")
    } else {
        write!(out, "{value:?}")
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
