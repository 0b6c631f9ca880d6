//! How metrics and labels are called: the one rule for all of them.

use crate::model::{Kind, MetricDef, Unit};

/// Before every name, so that none can be another exporter's: `memory.free` would be anybody's `memory_free_bytes`.
const PREFIX: &str = "dataflux_";

/// `dataflux_cpu_time_seconds`: the metric's family, without what a counter's samples have at their end. A name that ends
/// with its unit does not get it twice.
pub(super) fn family(def: &MetricDef) -> String {
    let mut name: String = PREFIX
        .chars()
        .chain(def.name.chars().map(allowed))
        .collect();
    if matches!(def.kind, Kind::Counter { .. })
        && let Some(without) = name.strip_suffix("_total")
    {
        name.truncate(without.len());
    }
    if let Some(unit) = unit(def.unit)
        && name.rsplit('_').next() != Some(unit)
    {
        name.push('_');
        name.push_str(unit);
    }
    name
}

/// The base unit that values are given in.
pub(super) const fn unit(unit: Unit) -> Option<&'static str> {
    match unit {
        Unit::Nanoseconds => Some("seconds"),
        Unit::Bytes => Some("bytes"),
        Unit::Count => None,
        Unit::Celsius => Some("celsius"),
        Unit::Ratio => Some("ratio"),
        Unit::Watts => Some("watts"),
        Unit::Microjoules => Some("joules"),
    }
}

/// How many decimals a whole number of the unit has in its base unit.
pub(super) const fn decimals(unit: Unit) -> u8 {
    match unit {
        Unit::Nanoseconds => 9,
        Unit::Microjoules => 6,
        Unit::Bytes | Unit::Count | Unit::Celsius | Unit::Ratio | Unit::Watts => 0,
    }
}

/// Appends a name with `_` for every character that names cannot have.
pub(super) fn label(name: &str, out: &mut Vec<u8>) {
    let is_plain = |byte: u8| byte == b'_' || byte.is_ascii_alphanumeric();
    if name.bytes().all(is_plain) {
        out.extend_from_slice(name.as_bytes());
    } else {
        out.extend(name.chars().map(|c| allowed(c) as u8));
    }
}

/// The character itself, or what stands in its place; ASCII.
const fn allowed(c: char) -> char {
    if c.is_ascii_alphanumeric() { c } else { '_' }
}
