//! Which bounds a histogram has. They are the same for all series of a unit and at all times, or they could not be added up.

use dataflux_common::histogram::{bucket, highest};

use super::{names::decimals, numbers};
use crate::model::Unit;

/// What is below the first bound is counted by it, what is above the last one by `+Inf`. Bounds lie on those of
/// `log_linear/3`, one below a power of two or an eighth, quarter or half between two, so no count is an estimate.
pub(super) struct Bounds(Vec<(Unit, Vec<Bound>)>);

/// One bound.
pub(super) struct Bound {
    /// The last bucket of `log_linear/3` below it.
    pub(super) bucket: u16,
    /// The highest value of that bucket, in the base unit.
    pub(super) text: String,
}

/// Half a microsecond to half a minute.
const NANOSECONDS: [u32; 2] = [9, 35];
/// A minimal packet to a very large request.
const BYTES: [u32; 2] = [6, 24];
/// A handful to a million.
const OTHERS: [u32; 2] = [3, 20];

impl Bounds {
    /// So many for each power of two: 1, 2, 4 or 8.
    pub(super) fn new(each: u16) -> Self {
        let of = |unit| {
            let range = match unit {
                Unit::Nanoseconds => NANOSECONDS,
                Unit::Bytes => BYTES,
                _ => OTHERS,
            };
            (unit, between(range, each, unit))
        };
        Self(Unit::ALL.map(of).into())
    }

    /// Those of a unit, ascending.
    pub(super) fn of(&self, unit: Unit) -> &[Bound] {
        let mut units = self.0.iter();
        units
            .find(|(known, _)| *known == unit)
            .map_or(&[], |(_, bounds)| bounds)
    }
}

fn between([first, last]: [u32; 2], each: u16, unit: Unit) -> Vec<Bound> {
    let index = |power: u32| u16::try_from(bucket((1 << power) - 1)).unwrap_or(u16::MAX);
    let step = usize::from(8 / each);
    let bound = |bucket: u16| Bound {
        bucket,
        text: numbers::bound(highest(bucket.into()), decimals(unit)),
    };
    (index(first)..=index(last))
        .step_by(step)
        .map(bound)
        .collect()
}
