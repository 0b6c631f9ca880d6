//! What is written, against the rules of both syntaxes.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::Path,
};

use proptest::prelude::*;

use super::*;
use crate::{
    metrics,
    model::{Buckets, arbitrary::numbered},
    plugin::testing,
};
use dataflux_common::histogram::{BUCKETS, highest};

fn format(config: &str, numbered: &Numbered) -> String {
    let context = testing::context(Path::new("/nowhere"));
    let formatter = PLUGIN.build_from(config, &context).unwrap();
    let mut bytes = Vec::new();
    formatter.format(numbered, 0, &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// One sample: its name, its labels, its value.
type Sample = (String, BTreeMap<String, String>, String);

/// Splits a line by the grammar of the formats, strictly.
fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).unwrap();
    let name = line[..end].to_owned();
    let mut labels = BTreeMap::new();
    let mut rest = &line[end..];
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, quoted) = rest.split_once("=\"").unwrap();
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            assert!(label.chars().all(plain) && !label.starts_with(|c: char| c.is_ascii_digit()));
            let (mut value, mut characters) = (String::new(), quoted.char_indices());
            let end = loop {
                match characters.next().unwrap() {
                    (_, '\\') => match characters.next().unwrap().1 {
                        'n' => value.push('\n'),
                        c @ ('\\' | '"') => value.push(c),
                        c => panic!("{c} has no escape"),
                    },
                    (at, '"') => break at,
                    (_, '\n') => panic!("a line ends in a value"),
                    (_, c) => value.push(c),
                }
            };
            assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
            rest = &quoted[end + 1..];
            match rest.split_at(1) {
                (",", more) => rest = more,
                ("}", more) => {
                    rest = more;
                    break;
                }
                _ => panic!("{line}"),
            }
        }
    }
    let value = rest.strip_prefix(' ').unwrap();
    assert!(value.parse::<f64>().is_ok(), "{line}");
    (name, labels, value.to_owned())
}

/// All samples by family, checked: families once, their metadata first, no sample twice.
fn parse(text: &str) -> BTreeMap<String, Vec<Sample>> {
    let mut families: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
    let mut current = String::new();
    let mut seen = HashSet::new();
    for line in text.split_terminator('\n') {
        if let Some(help) = line.strip_prefix("# HELP ") {
            current = help.split(' ').next().unwrap().to_owned();
            assert!(
                families.insert(current.clone(), Vec::new()).is_none(),
                "{current} twice"
            );
        } else if let Some(metadata) = line.strip_prefix("# ") {
            assert!(
                metadata == "EOF" || metadata.contains(&format!(" {current} ")),
                "{line}"
            );
        } else {
            let (name, labels, value) = sample(line);
            assert!(name.starts_with(&current), "{line} is not of {current}");
            assert!(seen.insert((name.clone(), labels.clone())), "{line} twice");
            families
                .get_mut(&current)
                .unwrap()
                .push((name, labels, value));
        }
    }
    families
}

fn all_definitions() -> impl Iterator<Item = &'static MetricDef> {
    let own = [&STATUS, &COVERED, &LOST, &UNSUPPORTED].into_iter();
    let plugins = metrics::REGISTRY.iter();
    plugins
        .flat_map(|plugin| plugin.metrics)
        .copied()
        .chain(own)
}

#[test]
fn no_two_metrics_have_a_name_in_common_and_none_reads_as_another_kind() {
    let mut names = BTreeSet::from(["target_info".to_owned()]);
    for def in all_definitions() {
        let family = names::family(def);
        let suffixes: &[&str] = match def.kind {
            Kind::Counter { .. } => &["", "_total", "_created"],
            Kind::Gauge => &[""],
            Kind::Histogram => &["", "_bucket", "_count", "_sum", "_created"],
        };
        for suffix in suffixes {
            let name = format!("{family}{suffix}");
            assert!(
                names.insert(name.clone()),
                "{name} is also another metric's"
            );
        }
        // What OpenMetrics keeps for samples of other kinds, and promtool complains of.
        if !matches!(def.kind, Kind::Counter { .. }) {
            for reserved in ["_total", "_created", "_bucket", "_count", "_sum", "_info"] {
                assert!(!family.ends_with(reserved), "{family}");
            }
        }
        assert!(!def.labels.contains(&"le"), "{family}");
    }
}

#[test]
fn names_have_their_base_unit_once() {
    let named =
        |name: &'static str, kind, unit| names::family(&about_source(name, kind, unit, "", &[]));
    for (name, kind, unit, expected) in [
        (
            "cpu.time",
            COUNTER,
            Unit::Nanoseconds,
            "dataflux_cpu_time_seconds",
        ),
        (
            "block_io.bytes",
            COUNTER,
            Unit::Bytes,
            "dataflux_block_io_bytes",
        ),
        (
            "probe.output.queue_size",
            Kind::Gauge,
            Unit::Bytes,
            "dataflux_probe_output_queue_size_bytes",
        ),
        (
            "memory.total",
            Kind::Gauge,
            Unit::Bytes,
            "dataflux_memory_total_bytes",
        ),
        ("a.total", COUNTER, Unit::Count, "dataflux_a"),
        (
            "network.packets",
            COUNTER,
            Unit::Count,
            "dataflux_network_packets",
        ),
    ] {
        assert_eq!(named(name, kind, unit), expected);
    }
}

#[test]
fn whole_numbers_lose_no_digit() {
    let written = |value, decimals| {
        let mut out = Vec::new();
        numbers::whole(value, decimals, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(written(u64::MAX, 9), "18446744073.709551615");
    assert_eq!(written(u64::MAX, 0), "18446744073709551615");
    assert_eq!(written(1, 9), "0.000000001");
    assert_eq!(written(2_500_000_000, 9), "2.5");
    assert_eq!(written(3_000_000_000, 9), "3");
    assert_eq!(written(0, 9), "0");
}

#[test]
fn bounds_read_as_prometheus_writes_them() {
    // As Go's strconv.FormatFloat(bound, 'g', -1, 64) writes these, with `.0` where it is a whole number.
    for (value, decimals, expected) in [
        (511, 9, "5.11e-07"),
        (1_023, 9, "1.023e-06"),
        (131_071, 9, "0.000131071"),
        (1_073_741_823, 9, "1.073741823"),
        (34_359_738_367, 9, "34.359738367"),
        (63, 0, "63.0"),
        (524_287, 0, "524287.0"),
        (1_048_575, 0, "1.048575e+06"),
        (16_777_215, 0, "1.6777215e+07"),
    ] {
        assert_eq!(numbers::bound(value, decimals), expected);
    }
}

#[test]
fn every_bound_lies_between_two_buckets_and_they_are_few() {
    for (each, most) in [(1, 28), (2, 54), (4, 106), (8, 210)] {
        let bounds = Bounds::new(each);
        for unit in [Unit::Nanoseconds, Unit::Bytes, Unit::Count] {
            let own = bounds.of(unit);
            assert!(
                (10..=most).contains(&own.len()),
                "{} of {unit:?}",
                own.len()
            );
            assert!(own.is_sorted_by_key(|bound| bound.bucket));
            for bound in own {
                let exact = numbers::bound(highest(bound.bucket.into()), names::decimals(unit));
                assert_eq!(bound.text, exact);
            }
            // One below a power of two is among them, whatever the number.
            assert!(
                own.iter()
                    .any(|bound| highest(bound.bucket.into()) == 0xffff)
            );
        }
    }
}

#[test]
fn only_one_two_four_or_eight_bounds() {
    let context = testing::context(Path::new("/nowhere"));
    for wrong in [
        "buckets = 0",
        "buckets = 3",
        "buckets = 16",
        "syntax = 'xml'",
    ] {
        assert!(PLUGIN.build_from(wrong, &context).is_err(), "{wrong}");
    }
}

/// How many values are at or below a bound, counted from the histogram itself.
fn at_or_below(buckets: &Buckets, bound: f64, unit: Unit) -> u64 {
    let scale = 10_f64.powi(names::decimals(unit).into());
    let within = |index: usize| highest(index) as f64 / scale <= bound;
    let counts = buckets.counts.iter();
    counts
        .filter(|(index, _)| within((*index).into()))
        .map(|(_, count)| count)
        .sum()
}

proptest! {
    #[test]
    fn anything_is_written_by_the_grammar(numbered in numbered(), openmetrics: bool, each in 0..4) {
        let syntax = if openmetrics { "openmetrics" } else { "text" };
        let config = format!("syntax = '{syntax}'\nbuckets = {}", 1 << each);
        let text = format(&config, &numbered);
        prop_assert_eq!(text.ends_with("# EOF\n"), openmetrics);
        prop_assert_eq!(text.matches("# EOF").count(), usize::from(openmetrics));
        let families = parse(&text);
        for (family, samples) in families {
            prop_assert!(!samples.is_empty(), "{} has no sample", family);
        }
    }

    #[test]
    fn histograms_are_cumulative_and_exact(
        sum: u64,
        counts in proptest::collection::btree_map(0..BUCKETS as u16, 1..1_000_000_u64, 0..60),
        each in 0..4,
        unit in prop_oneof![Just(Unit::Nanoseconds), Just(Unit::Bytes), Just(Unit::Count)],
    ) {
        let buckets = Buckets { sum, counts: counts.into_iter().collect() };
        let def = about_source("reader.values", Kind::Histogram, unit, "Help.", &[]);
        let mut out = Vec::new();
        let mut exposition = Exposition::new(Syntax::Text, &mut out);
        exposition.begin(&def);
        exposition.end_of_labels();
        exposition.histogram(0, Bounds::new(1_u16 << each).of(unit), &buckets);
        let text = String::from_utf8(out).unwrap();
        let samples = parse(&text).into_values().next().unwrap();
        let mut before = 0;
        for (name, labels, value) in samples {
            let Some(bound) = labels.get("le") else {
                let expected = if name.ends_with("_count") { buckets.count().to_string() } else { value.clone() };
                prop_assert_eq!(value, expected);
                continue;
            };
            let value: u64 = value.parse().unwrap();
            prop_assert!(value >= before);
            before = value;
            let expected = match &**bound {
                "+Inf" => buckets.count(),
                bound => at_or_below(&buckets, bound.parse().unwrap(), unit),
            };
            prop_assert_eq!(value, expected, "le {}", bound);
        }
    }
}
