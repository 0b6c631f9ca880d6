//! What counters and histograms of a stream add up to, so that two outputs of one probe can be compared to the last count.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// By metric, entity, labels and bucket (or `value`, `sum`).
pub type Sums = BTreeMap<String, u128>;

/// Adds up a stream's envelopes from number 1 to `last`; repeats count once.
///
/// # Panics
/// A range reaches beyond `last`, an envelope came in parts, or something has no number where it must.
#[must_use]
pub fn sums<'a>(envelopes: impl IntoIterator<Item = &'a Value>, last: u64) -> Sums {
    let mut sums = Sums::new();
    let mut seen = BTreeSet::new();
    for envelope in envelopes {
        let stream = &envelope["stream"];
        let range = (number(&stream["first"]), number(&stream["last"]));
        assert_eq!(stream["parts"], 1, "{stream}");
        if range.0 > u128::from(last) || !seen.insert(range) {
            continue;
        }
        assert!(
            range.1 <= u128::from(last),
            "{range:?} reaches beyond {last}"
        );
        for metric in each(&envelope["sources"]).flat_map(|source| each(&source["metrics"])) {
            for series in each(&metric["series"]) {
                add(&mut sums, metric, series);
            }
        }
    }
    // A series that only says 0 is the same as one that is left out.
    sums.retain(|_, sum| *sum > 0);
    sums
}

fn add(sums: &mut Sums, metric: &Value, series: &Value) {
    let name = |what: &dyn std::fmt::Display| {
        let Value::String(metric) = &metric["name"] else {
            panic!("no name in {metric}");
        };
        let entity = ["device", "interface", "labels"].map(|key| series[key].to_string());
        format!("{metric} {} {what}", entity.join(" "))
    };
    match metric["kind"].as_str() {
        Some("counter") if !series["value"].is_null() => {
            *sums.entry(name(&"value")).or_default() += number(&series["value"]);
        }
        Some("histogram") => {
            *sums.entry(name(&"sum")).or_default() += number(&series["sum"]);
            for (index, count) in each(&series["index"]).zip(each(&series["counts"])) {
                *sums.entry(name(index)).or_default() += number(count);
            }
        }
        _ => {}
    }
}

fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn number(value: &Value) -> u128 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("no number: {value}"))
        .into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn envelope(first: u64, last: u64, value: u64, count: u64) -> Value {
        json!({
            "stream": {"first": first, "last": last, "parts": 1},
            "sources": [{"metrics": [
                {"name": "a.b", "kind": "counter", "series": [{"labels": {"c": "d"}, "value": value}]},
                {"name": "a.e", "kind": "histogram", "series": [{"sum": 7 * count, "index": [7], "counts": [count]}]},
                {"name": "a.g", "kind": "gauge", "series": [{"value": 1.5}]},
            ]}],
        })
    }

    #[test]
    fn merged_windows_have_the_sums_of_single_ones() {
        let single = [
            envelope(1, 1, 2, 1),
            envelope(2, 2, 0, 3),
            envelope(3, 3, 4, 0),
        ];
        let merged = [
            envelope(1, 1, 2, 1),
            envelope(2, 3, 4, 3),
            envelope(1, 1, 2, 1),
            envelope(4, 4, 9, 9),
        ];
        assert_eq!(sums(&single, 3), sums(&merged, 3));
        assert_ne!(sums(&single, 2), sums(&merged[..1], 2));
    }
}
