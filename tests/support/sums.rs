//! What counters and histograms of a stream add up to, so that two outputs of one probe can be compared to the last count.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
};

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
    let name = |what: &dyn Display| name(metric, series, what);
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

/// Of a series, or of something in it.
fn name(metric: &Value, series: &Value, what: &dyn Display) -> String {
    let Value::String(metric) = &metric["name"] else {
        panic!("no name in {metric}");
    };
    let entity = ["device", "interface", "labels"].map(|key| series[key].to_string());
    format!("{metric} {} {what}", entity.join(" "))
}

/// Follows the running total of every counter through its stream: in each window it has grown by exactly the window's value.
/// Gives how many windows of how many counters were compared.
///
/// # Panics
/// A total and a value do not fit, which one that is lost would show as well; or an envelope came in parts.
#[must_use]
pub fn totals<'a>(envelopes: impl IntoIterator<Item = &'a Value>) -> usize {
    let mut windows: BTreeMap<(&str, u128), &Value> = BTreeMap::new();
    for envelope in envelopes {
        let stream = &envelope["stream"];
        assert_eq!(stream["parts"], 1, "{stream}");
        let id = stream["id"].as_str().unwrap_or_default();
        windows.insert((id, number(&stream["first"])), envelope);
    }
    let mut known: BTreeMap<(&str, String), u128> = BTreeMap::new();
    let mut compared = 0;
    for ((id, first), envelope) in windows {
        for metric in each(&envelope["sources"]).flat_map(|source| each(&source["metrics"])) {
            for series in each(&metric["series"]).filter(|_| metric["kind"] == "counter") {
                let (name, total) = (name(metric, series, &"total"), number(&series["total"]));
                let before = known.insert((id, name.clone()), total);
                if let (Some(before), false) = (before, series["value"].is_null()) {
                    let sum = before + number(&series["value"]);
                    assert_eq!(sum, total, "{name} in {first} of {id}");
                    compared += 1;
                }
            }
        }
    }
    compared
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

    fn counted(first: u64, value: &Value, total: u64) -> Value {
        let counter =
            json!({"name": "a.b", "kind": "counter", "series": [{"value": value, "total": total}]});
        json!({"stream": {"id": "s-1", "first": first, "parts": 1}, "sources": [{"metrics": [counter]}]})
    }

    #[test]
    fn totals_grow_by_the_values() {
        let baseline = counted(1, &Value::Null, 90);
        let windows = [
            baseline,
            counted(4, &json!(7), 107),
            counted(2, &json!(10), 100),
        ];
        assert_eq!(totals(&windows), 2);
    }

    #[test]
    #[should_panic(expected = "a.b null null null total in 3 of s-1")]
    fn a_count_that_comes_twice_is_found() {
        assert_eq!(
            totals(&[counted(1, &json!(1), 1), counted(3, &json!(2), 2)]),
            0
        );
    }
}
