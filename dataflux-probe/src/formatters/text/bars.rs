//! Histograms as people see them: by powers of two, as bars.

use std::io::{self, Write as _};

use dataflux_common::histogram;

use super::scale::amount;
use crate::model::{Buckets, Unit};

/// From none to most. A power of two that has values at all is never shown as none.
const LEVELS: &[u8; 8] = b" .:-=+*#";
/// How wide the longest bar is.
const WIDTH: usize = 40;

/// The powers of two in use, the first and the last one and all between, with how many values each has. Power n is the
/// values of n bits: 0 for 0, from `2^(n-1)` on else.
struct Powers {
    first: usize,
    counts: Vec<u64>,
}

impl Powers {
    /// `None` for no values.
    fn new(buckets: &Buckets) -> Option<Self> {
        let power = |index: u16| {
            let lowest = histogram::lowest(usize::from(index));
            (u64::BITS - lowest.leading_zeros()) as usize
        };
        let (first, last) = (buckets.counts.first()?.0, buckets.counts.last()?.0);
        let first = power(first);
        let mut counts = vec![0; power(last) - first + 1];
        for &(index, count) in &buckets.counts {
            counts[power(index) - first] += count;
        }
        Some(Self { first, counts })
    }

    /// The size of a bar for every power, rounded up, so that only none is 0.
    fn sizes(&self, longest: usize) -> impl Iterator<Item = usize> + '_ {
        let most = u128::from(self.counts.iter().copied().max().unwrap_or(1)).max(1);
        self.counts.iter().map(move |&count| {
            let size = (u128::from(count) * longest as u128).div_ceil(most);
            usize::try_from(size).unwrap_or(longest)
        })
    }
}

/// One character for each power of two from the lowest to the highest value: `|.:#=. |`.
pub(super) fn line(buckets: &Buckets) -> String {
    let Some(powers) = Powers::new(buckets) else {
        return String::new();
    };
    let levels = powers.sizes(LEVELS.len() - 1);
    let bar: String = levels.map(|level| char::from(LEVELS[level])).collect();
    format!("|{bar}|")
}

/// One row for each power of two from the lowest to the highest value: its bounds, its count, its bar.
pub(super) fn write_rows(unit: Unit, buckets: &Buckets, out: &mut Vec<u8>) -> io::Result<()> {
    let Some(powers) = Powers::new(buckets) else {
        return Ok(());
    };
    for ((power, count), size) in (powers.first..)
        .zip(&powers.counts)
        .zip(powers.sizes(WIDTH))
    {
        let (lowest, highest) = bounds(power);
        writeln!(
            out,
            "{:>20} .. {:<9} {count:>12} |{:<width$}|",
            amount(unit, lowest),
            amount(unit, highest),
            "*".repeat(size),
            width = WIDTH,
        )?;
    }
    Ok(())
}

/// The lowest value of a power, and the lowest of the next one; both 0 and 1 for 0 alone.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "a power is at most 64"
)]
fn bounds(power: usize) -> (f64, f64) {
    let next = 2f64.powi(power as i32);
    (if power == 0 { 0.0 } else { next / 2.0 }, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(values: &[u64]) -> Buckets {
        let mut dense = vec![0; histogram::BUCKETS];
        for &value in values {
            dense[histogram::bucket(value)] += 1;
        }
        Buckets::from_dense(0, dense)
    }

    #[test]
    fn a_line_has_a_character_for_each_power_and_shows_the_rarest_one() {
        let mut values = vec![5; 1000];
        values.extend([16, 17, 70]);
        assert_eq!(line(&buckets(&values)), "|# . .|");
        assert_eq!(line(&buckets(&[0, 1, u64::MAX])).len(), 65 + 2);
        assert_eq!(line(&Buckets::default()), "");
    }

    #[test]
    fn rows_have_bounds_that_meet_and_bars_in_proportion() {
        let mut out = Vec::new();
        write_rows(Unit::Bytes, &buckets(&[0, 1, 1, 1, 1, 3, 2]), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let rows: Vec<_> = text
            .lines()
            .map(|row| row.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            rows,
            [
                "0B .. 1B 1 |********** |",
                "1B .. 2B 4 |****************************************|",
                "2B .. 4B 2 |******************** |",
            ]
        );
    }
}
