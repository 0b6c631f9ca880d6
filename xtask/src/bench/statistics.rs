//! Medians, their spread, and what a figure says about its bar.

use serde::Serialize;

/// The middle of several measurements of one thing, and how far they lie apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    /// A quarter of the measurements is below.
    pub(super) lower_quartile: f64,
    /// A quarter of the measurements is above.
    pub(super) upper_quartile: f64,
    pub(super) measurements: usize,
}

impl Spread {
    /// `None` without measurements.
    pub(super) fn of(measurements: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = measurements.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            median: quantile(&sorted, 0.5)?,
            lower_quartile: quantile(&sorted, 0.25)?,
            upper_quartile: quantile(&sorted, 0.75)?,
            measurements: sorted.len(),
        })
    }

    /// From the lower to the upper quartile.
    pub(super) fn width(self) -> f64 {
        self.upper_quartile - self.lower_quartile
    }
}

/// Interpolates between the two measurements nearest to the share `at` of them.
fn quantile(sorted: &[f64], at: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = at * last as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    Some(sorted[below] + (sorted[above] - sorted[below]) * place.fract())
}

/// Which side of a bar is good.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Bar {
    AtMost(f64),
    AtLeast(f64),
}

/// What a figure says about its bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Met,
    /// By less than the measurements lie apart.
    MissedWithinSpread,
    Missed,
}

impl Bar {
    /// Judges a figure whose measurements lie `spread` apart.
    pub(super) fn judge(self, figure: f64, spread: f64) -> Verdict {
        let missed_by = match self {
            Self::AtMost(bar) => figure - bar,
            Self::AtLeast(bar) => bar - figure,
        };
        if missed_by <= 0.0 {
            Verdict::Met
        } else if missed_by < spread {
            Verdict::MissedWithinSpread
        } else {
            Verdict::Missed
        }
    }

    /// Judges a median by its quartiles.
    pub(super) fn judge_median(self, figures: Spread) -> Verdict {
        self.judge(figures.median, figures.width())
    }

    /// The bar itself.
    pub(super) fn value(self) -> f64 {
        match self {
            Self::AtMost(bar) | Self::AtLeast(bar) => bar,
        }
    }
}

impl Verdict {
    /// As the table says it.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::MissedWithinSpread => "MISSED, by less than the spread",
            Self::Missed => "MISSED",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_the_measurements() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0]).expect("four measurements");
        assert_eq!(
            (spread.lower_quartile, spread.median, spread.upper_quartile),
            (1.75, 2.5, 3.25)
        );
        assert_eq!(Spread::of([]), None);
        let one = Spread::of([7.0]).expect("one measurement");
        assert_eq!((one.median, one.width()), (7.0, 0.0));
    }

    #[test]
    fn a_bar_missed_by_less_than_the_spread_is_told_apart() {
        assert_eq!(Bar::AtMost(90.0).judge(90.0, 0.0), Verdict::Met);
        assert_eq!(
            Bar::AtMost(90.0).judge(92.0, 5.0),
            Verdict::MissedWithinSpread
        );
        assert_eq!(Bar::AtMost(90.0).judge(96.0, 5.0), Verdict::Missed);
        assert_eq!(Bar::AtLeast(0.93).judge(0.95, 0.0), Verdict::Met);
        assert_eq!(
            Bar::AtLeast(0.93).judge(0.92, 0.02),
            Verdict::MissedWithinSpread
        );
        assert_eq!(Bar::AtLeast(0.93).judge(0.90, 0.02), Verdict::Missed);
    }
}
