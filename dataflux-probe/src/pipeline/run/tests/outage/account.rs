//! What a consumer adds up of a stream, from the lines that arrived.

use std::{collections::BTreeMap, ops::RangeInclusive};

use serde::{Deserialize, de::IgnoredAny};
use serde_json::Number;

/// Of the numbers from 1 to the last one asked for.
pub(super) struct Account {
    /// Counters, sums and buckets of histograms, what was lost and covered, by what they belong to.
    sums: BTreeMap<String, u128>,
    /// The smallest and the largest value of gauges.
    extremes: BTreeMap<String, (f64, f64)>,
    /// The ranges in order.
    ranges: Vec<RangeInclusive<u64>>,
    duration: u128,
    pub(super) suspended: u128,
    pub(super) clock_step: i128,
    /// Start and stop of the whole.
    times: (String, String),
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    stream: Stream<'a>,
    start_time: &'a str,
    stop_time: &'a str,
    duration_ns: u64,
    suspended_ns: u64,
    clock_step_ns: i64,
    sources: Vec<Source<'a>>,
}

#[derive(Deserialize)]
struct Stream<'a> {
    first: u64,
    last: u64,
    parts: u64,
    gaps: Vec<IgnoredAny>,
    previous: Option<IgnoredAny>,
    #[serde(borrow)]
    id: &'a str,
}

#[derive(Deserialize)]
struct Source<'a> {
    reader: &'a str,
    covered_ns: u64,
    lost: u64,
    metrics: Vec<Metric<'a>>,
}

#[derive(Deserialize)]
struct Metric<'a> {
    name: &'a str,
    kind: &'a str,
    #[serde(borrow)]
    series: Vec<Series<'a>>,
}

#[derive(Deserialize)]
struct Series<'a> {
    #[serde(borrow)]
    device: Option<Entity<'a>>,
    #[serde(borrow)]
    interface: Option<Entity<'a>>,
    #[serde(borrow)]
    labels: BTreeMap<&'a str, &'a str>,
    value: Option<Number>,
    min: Option<f64>,
    max: Option<f64>,
    #[serde(default)]
    sum: u64,
    #[serde(default)]
    index: Vec<u16>,
    #[serde(default)]
    counts: Vec<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entity<'a> {
    id: &'a str,
}

impl Account {
    /// Of the lines up to this number, which one of them has to end with. A repeat counts once.
    pub(super) fn new<'a>(lines: impl Iterator<Item = &'a [u8]>, last: u64) -> Self {
        let mut account = Self {
            sums: BTreeMap::new(),
            extremes: BTreeMap::new(),
            ranges: Vec::new(),
            duration: 0,
            suspended: 0,
            clock_step: 0,
            times: Default::default(),
        };
        let mut id: Option<&str> = None;
        for line in lines {
            let line: Line<'_> = serde_json::from_slice(line).unwrap();
            let Stream {
                first,
                last: end,
                parts,
                gaps,
                previous,
                id: own,
            } = &line.stream;
            assert_eq!(*id.get_or_insert(own), *own, "one stream");
            assert_eq!((*parts, gaps.len(), previous.is_none()), (1, 0, true));
            let range = *first..=*end;
            let before = account.ranges.last().map_or(0, |before| *before.end());
            if *first > last || *first <= before && account.ranges.contains(&range) {
                continue;
            }
            assert_eq!(
                before + 1,
                *first,
                "no number is missing and none comes twice"
            );
            account.ranges.push(range);
            account.add(&line);
        }
        assert_eq!(account.ranges.last().map(RangeInclusive::end), Some(&last));
        account
    }

    fn add(&mut self, line: &Line<'_>) {
        if self.ranges.len() == 1 {
            line.start_time.clone_into(&mut self.times.0);
        } else {
            assert_eq!(self.times.1, line.start_time, "windows follow each other");
        }
        line.stop_time.clone_into(&mut self.times.1);
        self.duration += u128::from(line.duration_ns);
        self.suspended += u128::from(line.suspended_ns);
        self.clock_step += i128::from(line.clock_step_ns);
        for source in &line.sources {
            self.count(format!("{} lost", source.reader), source.lost);
            self.count(format!("{} covered", source.reader), source.covered_ns);
            for metric in &source.metrics {
                for series in &metric.series {
                    self.add_series(metric, series);
                }
            }
        }
    }

    fn add_series(&mut self, metric: &Metric<'_>, series: &Series<'_>) {
        let entities = [&series.device, &series.interface];
        let entities = entities.map(|entity| entity.as_ref().map_or("", |entity| entity.id));
        let name = format!("{} {entities:?} {:?}", metric.name, series.labels);
        let value = series.value.as_ref();
        match metric.kind {
            // A baseline has no value.
            "counter" => self.count(name, value.map_or(0, |value| value.as_u64().unwrap())),
            "gauge" => {
                let value = value.unwrap().as_f64().unwrap();
                let (min, max) = (series.min.unwrap_or(value), series.max.unwrap_or(value));
                let known = self.extremes.entry(name).or_insert((min, max));
                *known = (known.0.min(min), known.1.max(max));
            }
            _ => {
                for (index, &count) in series.index.iter().zip(&series.counts) {
                    self.count(format!("{name} {index}"), count);
                }
                self.count(format!("{name} sum"), series.sum);
            }
        }
    }

    fn count(&mut self, name: String, value: u64) {
        *self.sums.entry(name).or_default() += u128::from(value);
    }

    /// How many numbers each of the ranges stands for that lie among these.
    pub(super) fn widths(&self, numbers: &RangeInclusive<u64>) -> Vec<usize> {
        let within = |range: &&RangeInclusive<u64>| {
            numbers.contains(range.start()) && numbers.contains(range.end())
        };
        let ranges = self.ranges.iter().filter(within);
        ranges.map(|range| range.clone().count()).collect()
    }

    /// Both say the same, to the last count.
    pub(super) fn assert_equals(&self, other: &Self) {
        for (name, sum) in &self.sums {
            assert_eq!(Some(sum), other.sums.get(name), "{name}");
        }
        assert_eq!(self.sums.len(), other.sums.len(), "series are missing");
        assert_eq!(self.extremes, other.extremes);
        assert_eq!(self.duration, other.duration);
        assert_eq!(self.suspended, other.suspended);
        assert_eq!(self.clock_step, other.clock_step);
        assert_eq!(self.times, other.times);
    }
}
