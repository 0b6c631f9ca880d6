//! What a scrape may say, worked out from the envelopes of another output of the same run.

use std::collections::BTreeMap;

use dataflux_common::histogram::highest;
use serde_json::Value;

/// A name and its labels.
pub(crate) type Series = (String, BTreeMap<String, String>);

/// Every value that each series had at some tick, in order.
pub(crate) type Values = BTreeMap<Series, Vec<f64>>;

/// What each sample of a histogram has come to.
type Histograms = BTreeMap<Series, (u64, BTreeMap<u64, u64>)>;

/// The values that follow from envelopes with zeros in them; for histograms those of `_sum`, `_count` and, as `_bucket`
/// with `le`, the count at every bound that is the end of a bucket.
pub(crate) fn values(envelopes: &[Value]) -> Values {
    let (mut values, mut histograms) = (Values::new(), Histograms::new());
    for metric in envelopes
        .iter()
        .flat_map(|envelope| each(&envelope["sources"]))
        .flat_map(|source| each(&source["metrics"]))
    {
        let unit = metric["unit"].as_str().expect("a unit");
        let name = family(metric["name"].as_str().expect("a name"), unit);
        for one in each(&metric["series"]) {
            let labels = labels(one);
            match metric["kind"].as_str() {
                Some("counter") => {
                    let total = exact(one["total"].as_u64().expect("a total"), unit);
                    let series = (format!("{name}_total"), labels);
                    values.entry(series).or_default().push(total);
                }
                Some("gauge") => {
                    let value = one["value"].as_f64().unwrap_or(f64::NAN);
                    let scale = 10_f64.powi(decimals(unit).try_into().expect("few"));
                    values
                        .entry((name.clone(), labels))
                        .or_default()
                        .push(value / scale);
                }
                _ => grow(
                    &mut values,
                    &mut histograms,
                    (name.clone(), labels),
                    one,
                    unit,
                ),
            }
        }
    }
    values
}

fn grow(values: &mut Values, known: &mut Histograms, series: Series, one: &Value, unit: &str) {
    let (name, labels) = series.clone();
    let (sum, counts) = known.entry(series).or_default();
    *sum += one["sum"].as_u64().expect("a sum");
    for (index, count) in each(&one["index"]).zip(each(&one["counts"])) {
        let index = index.as_u64().expect("an index");
        *counts.entry(index).or_default() += count.as_u64().expect("a count");
    }
    let mut tell = |suffix: &str, bound: Option<f64>, value: f64| {
        let mut labels = labels.clone();
        labels.extend(bound.map(|bound| ("le".to_owned(), bound.to_string())));
        values
            .entry((format!("{name}{suffix}"), labels))
            .or_default()
            .push(value);
    };
    tell("_sum", None, exact(*sum, unit));
    let mut below = 0;
    for index in 0..496 {
        below += counts.get(&index).copied().unwrap_or(0);
        let end = highest(usize::try_from(index).expect("small"));
        tell("_bucket", Some(exact(end, unit)), below as f64);
    }
    tell("_bucket", Some(f64::INFINITY), below as f64);
    tell("_count", None, below as f64);
}

/// `dataflux_cpu_time_seconds` for `cpu.time` in ns.
fn family(name: &str, unit: &str) -> String {
    let name = format!("dataflux_{}", name.replace('.', "_"));
    let suffix = match unit {
        "ns" => "_seconds",
        "bytes" => "_bytes",
        "celsius" => "_celsius",
        "ratio" => "_ratio",
        "watts" => "_watts",
        "uJ" => "_joules",
        _ => "",
    };
    if name.ends_with(suffix) {
        name
    } else {
        name + suffix
    }
}

fn decimals(unit: &str) -> usize {
    match unit {
        "ns" => 9,
        "uJ" => 6,
        _ => 0,
    }
}

/// The number that is nearest to a whole one in the base unit, by way of its decimals.
fn exact(value: u64, unit: &str) -> f64 {
    let decimals = decimals(unit);
    let digits = format!("{value:0>width$}", width = decimals + 1);
    let (whole, rest) = digits.split_at(digits.len() - decimals);
    format!("{whole}.{rest}").parse().expect("a number")
}

fn labels(series: &Value) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let own = series.get("labels").and_then(Value::as_object);
    for (name, value) in own.into_iter().flatten() {
        labels.insert(name.clone(), text(value));
    }
    for kind in ["cgroup", "device", "interface"] {
        let Some(entity) = series.get(kind) else {
            continue;
        };
        let id = entity.get("id").map(text);
        let name = entity.get("name").map(text);
        labels.extend(id.map(|id| (format!("{kind}_id"), id)));
        labels.extend(name.map(|name| (kind.to_owned(), name)));
        if entity.get("other").is_some() {
            labels.insert(format!("{kind}_other"), "true".to_owned());
        }
    }
    labels.retain(|_, value| !value.is_empty());
    labels
}

fn each(array: &Value) -> impl Iterator<Item = &Value> {
    array.as_array().into_iter().flatten()
}
