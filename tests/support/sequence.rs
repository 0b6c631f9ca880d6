//! What a consumer does with the envelopes it gets: proves that no number is missing without being told.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::RangeInclusive,
    path::Path,
};

use serde_json::Value;

/// The envelopes of a file, in its order. Only lines that are ended count.
///
/// # Panics
/// An ended line is not JSON.
#[must_use]
pub fn envelopes(file: &Path) -> Vec<Value> {
    let text = fs::read(file).unwrap_or_default();
    let ended = text
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |at| at + 1);
    text[..ended]
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            serde_json::from_slice(line).unwrap_or_else(|error| {
                panic!(
                    "{}: {error}: {}",
                    file.display(),
                    String::from_utf8_lossy(line)
                )
            })
        })
        .collect()
}

/// The series of a metric in an envelope; empty if it is not there.
#[must_use]
pub fn series(envelope: &Value, metric: &str) -> Vec<Value> {
    let sources = envelope["sources"].as_array().into_iter().flatten();
    sources
        .flat_map(|source| source["metrics"].as_array().into_iter().flatten())
        .filter(|found| found["name"] == metric)
        .flat_map(|found| found["series"].as_array().cloned().unwrap_or_default())
        .collect()
}

/// What came of one stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// The ranges covered, in the order of their numbers; complete ones only.
    pub ranges: Vec<RangeInclusive<u64>>,
    /// The numbers that gaps name and no range covers.
    pub lost: BTreeSet<u64>,
    /// Causes of the gaps.
    pub causes: BTreeSet<String>,
}

impl Stream {
    /// The highest number that is covered or named by a gap.
    #[must_use]
    pub fn last(&self) -> u64 {
        let covered = self.ranges.last().map_or(0, |range| *range.end());
        covered.max(self.lost.last().copied().unwrap_or(0))
    }

    /// How many ranges stand for more than one number.
    #[must_use]
    pub fn merged(&self) -> usize {
        let merged = self
            .ranges
            .iter()
            .filter(|range| range.start() < range.end());
        merged.count()
    }
}

/// Accounts for every number of every stream, by the stream's id, with what `previous` says of streams before, and before those.
///
/// # Errors
/// A number from 1 to the highest is neither covered nor named by a gap, two ranges overlap, or two neighbours do not meet
/// in time.
pub fn account(envelopes: &[Value]) -> Result<BTreeMap<String, Stream>, String> {
    let mut received: BTreeMap<&str, Received> = BTreeMap::new();
    for envelope in envelopes {
        let stream = &envelope["stream"];
        received.entry(id(stream)?).or_default().add(envelope)?;
        let mut before = stream.get("previous");
        while let Some(previous) = before {
            let known = received.entry(id(previous)?).or_default();
            known.last = known.last.max(number(previous, "last")?);
            known.lose(previous)?;
            before = previous.get("previous");
        }
    }
    received
        .into_iter()
        .map(|(id, received)| {
            let stream = received
                .account()
                .map_err(|error| format!("{id}: {error}"))?;
            Ok((id.to_owned(), stream))
        })
        .collect()
}

fn id(stream: &Value) -> Result<&str, String> {
    stream["id"]
        .as_str()
        .ok_or_else(|| format!("no id in {stream}"))
}

fn number(object: &Value, name: &str) -> Result<u64, String> {
    object[name]
        .as_u64()
        .ok_or_else(|| format!("no number {name} in {object}"))
}

/// As [`account`], for envelopes of one stream.
///
/// # Panics
/// What [`account`] calls an error, or there is not exactly one stream.
#[must_use]
pub fn one_stream(envelopes: &[Value]) -> Stream {
    let mut streams = account(envelopes).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(streams.len(), 1, "{streams:?}");
    streams.pop_first().expect("there is one").1
}

/// Start and stop of a window, as text.
type Times = (String, String);

#[derive(Default)]
struct Received {
    /// The parts that came of each range and way of cutting it: first, last, parts.
    parts: BTreeMap<(u64, u64, u64), BTreeSet<u64>>,
    /// The windows of ranges.
    times: BTreeMap<(u64, u64), Times>,
    gaps: Vec<(u64, u64, String)>,
    /// The highest number that a later stream knows of.
    last: u64,
}

impl Received {
    fn add(&mut self, envelope: &Value) -> Result<(), String> {
        let stream = &envelope["stream"];
        let text = |name: &str| envelope[name].as_str().unwrap_or_default().to_owned();
        let (first, last) = (number(stream, "first")?, number(stream, "last")?);
        self.times
            .insert((first, last), (text("start_time"), text("stop_time")));
        self.parts
            .entry((first, last, number(stream, "parts")?))
            .or_default()
            .insert(number(stream, "part")?);
        self.lose(stream)
    }

    fn lose(&mut self, stream: &Value) -> Result<(), String> {
        for gap in stream["gaps"].as_array().ok_or("no gaps")? {
            let cause = gap["cause"].as_str().ok_or("a gap without a cause")?;
            self.gaps.push((
                number(gap, "first")?,
                number(gap, "last")?,
                cause.to_owned(),
            ));
        }
        Ok(())
    }

    fn account(mut self) -> Result<Stream, String> {
        let whole: BTreeSet<_> = self
            .parts
            .into_iter()
            .filter(|((_, _, parts), came)| came.len() as u64 == *parts)
            .map(|((first, last, _), _)| (first, last))
            .collect();
        let complete: Vec<_> = whole
            .into_iter()
            .map(|range| (range, self.times.remove(&range).unwrap_or_default()))
            .collect();
        for pair in complete.windows(2) {
            let [(a, (_, a_stop)), (b, (b_start, _))] = pair else {
                continue;
            };
            if b.0 <= a.1 {
                return Err(format!("{a:?} and {b:?} overlap"));
            }
            if b.0 == a.1 + 1 && a_stop != b_start {
                return Err(format!(
                    "{a:?} stops at {a_stop}, {b:?} starts at {b_start}"
                ));
            }
        }
        let covered: BTreeSet<u64> = complete
            .iter()
            .flat_map(|&((first, last), _)| first..=last)
            .collect();
        let named = self.gaps.iter().flat_map(|&(first, last, _)| first..=last);
        let stream = Stream {
            lost: named.filter(|number| !covered.contains(number)).collect(),
            ranges: complete
                .into_iter()
                .map(|((first, last), _)| first..=last)
                .collect(),
            causes: self.gaps.into_iter().map(|(_, _, cause)| cause).collect(),
        };
        let last = stream.last().max(self.last);
        match (1..=last).find(|number| !covered.contains(number) && !stream.lost.contains(number)) {
            Some(number) => Err(format!(
                "{number} of {last} is neither covered nor in a gap"
            )),
            None => Ok(stream),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn envelope(first: u64, last: u64, part: u64, parts: u64, gaps: &[(u64, u64)]) -> Value {
        let gaps: Vec<_> = gaps
            .iter()
            .map(|(first, last)| json!({"first": first, "last": last, "cause": "queue_full"}))
            .collect();
        json!({
            "stream": {"id": "a-1", "first": first, "last": last, "part": part, "parts": parts, "gaps": gaps},
            "start_time": (first - 1).to_string(), "stop_time": last.to_string(),
        })
    }

    fn error(envelopes: &[Value]) -> String {
        account(envelopes).unwrap_err()
    }

    #[test]
    fn whole_merged_split_repeated_and_lost_numbers_are_accounted_for() {
        let stream = one_stream(&[
            envelope(1, 1, 1, 1, &[]),
            envelope(2, 4, 1, 1, &[]),
            envelope(1, 1, 1, 1, &[]),
            envelope(7, 7, 2, 2, &[(5, 6)]),
            envelope(7, 7, 1, 2, &[(5, 6), (7, 7)]),
        ]);
        assert_eq!(stream.ranges, [1..=1, 2..=4, 7..=7]);
        assert_eq!(stream.lost, [5, 6].into(), "covered wins over a gap");
        assert_eq!((stream.last(), stream.merged()), (7, 1));
    }

    #[test]
    fn a_number_that_nobody_mentions_is_found() {
        assert_eq!(
            error(&[envelope(1, 1, 1, 1, &[]), envelope(3, 3, 1, 1, &[])]),
            "a-1: 2 of 3 is neither covered nor in a gap"
        );
        assert!(
            error(&[envelope(2, 2, 1, 1, &[])]).contains("1 of 2"),
            "streams begin at 1"
        );
    }

    #[test]
    fn half_of_a_split_envelope_covers_nothing() {
        let half = [envelope(1, 1, 1, 2, &[]), envelope(2, 2, 1, 1, &[])];
        assert!(error(&half).contains("1 of 2"));
    }

    #[test]
    fn what_a_later_stream_knows_of_earlier_ones_counts() {
        let later = |last: u64, gaps: Value| {
            let mut later = envelope(1, 1, 1, 1, &[]);
            later["stream"]["id"] = json!("b-1");
            let before = json!({"id": "0-1", "last": 1, "gaps": [{"first": 1, "last": 1, "cause": "damaged"}]});
            later["stream"]["previous"] =
                json!({"id": "a-1", "last": last, "gaps": gaps, "previous": before});
            later
        };
        let told = json!([{"first": 2, "last": 3, "cause": "stopped"}]);
        let streams = account(&[envelope(1, 1, 1, 1, &[]), later(3, told)]).unwrap();
        assert_eq!(streams["a-1"].lost, [2, 3].into());
        assert_eq!(streams["0-1"].lost, [1].into());
        let silent = [envelope(1, 1, 1, 1, &[]), later(2, json!([]))];
        assert!(error(&silent).contains("a-1: 2 of 2"));
    }

    #[test]
    fn a_repeat_may_be_cut_differently() {
        let parts =
            [(1, 2), (1, 3), (2, 3), (3, 3)].map(|(part, parts)| envelope(1, 1, part, parts, &[]));
        assert_eq!(one_stream(&parts).ranges, [1..=1]);
    }

    #[test]
    fn overlapping_ranges_and_torn_windows_are_found() {
        assert!(error(&[envelope(1, 3, 1, 1, &[]), envelope(3, 4, 1, 1, &[])]).contains("overlap"));
        let mut late = envelope(2, 2, 1, 1, &[]);
        late["start_time"] = json!("1.5");
        assert!(error(&[envelope(1, 1, 1, 1, &[]), late]).contains("stops at 1"));
    }
}
