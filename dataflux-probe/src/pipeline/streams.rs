//! The streams of one output: gives numbers, and knows which numbers are lost until an envelope has said so.

use std::{collections::BTreeMap, ops::RangeInclusive, sync::Arc};

use super::{envelope::Shaped, queue::Queue};
use crate::model::{Cause, Gap, Numbered, Part, Previous, Stream, WallTime};

/// So many gaps, and so many streams before its own, are told by one record at most; the next ones tell the rest. A record that
/// told more could be too large for its receiver, and so could all that come after it.
const GAPS_AT_ONCE: usize = 32;
const STREAMS_AT_ONCE: usize = 8;

/// What each stream of all outputs came to, by `output` or `output/reader`.
pub(super) type Ends = BTreeMap<String, End>;

/// What the last stream of its name that numbered anything came to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct End {
    #[serde(flatten)]
    pub(super) stream: Previous,
    /// Streams before it of which something is lost that nothing has said yet that was delivered, oldest first.
    #[serde(default)]
    pub(super) earlier: Vec<Previous>,
    /// Whether it had a spool: then its gaps name only what is not on the disk.
    #[serde(default)]
    pub(super) spooled: bool,
}

/// The streams of one output: of this start, and those of earlier starts about which something is left to say.
pub(super) struct Streams {
    output: String,
    start: u64,
    /// In the order of their births.
    streams: Vec<Numbering>,
}

struct Numbering {
    /// The reader, in `per_reader`.
    reader: Option<&'static str>,
    /// Whether this start gives its numbers.
    live: bool,
    /// `output` or `output/reader`.
    name: String,
    /// Without its past.
    stream: Arc<Stream>,
    /// Whether an envelope has said what was before it.
    introduced: bool,
    last: u64,
    stop_time: WallTime,
    /// Losses, until an envelope has taken them along.
    gaps: Vec<Gap>,
}

/// A stream of an earlier start.
#[derive(Debug, Clone)]
pub(super) struct Earlier {
    pub(super) id: Arc<str>,
    /// `output` or `output/reader`.
    pub(super) name: String,
    pub(super) introduced: bool,
    pub(super) last: u64,
    pub(super) stop_time: WallTime,
    /// What no envelope has named yet.
    pub(super) gaps: Vec<Gap>,
}

impl Streams {
    /// `start` is the random id of this start of the probe, `past` what earlier starts left for any output.
    pub(super) fn new(output: String, start: u64, past: &Ends) -> Self {
        let mut streams = Self {
            streams: Vec::new(),
            output,
            start,
        };
        streams.recall(past);
        streams
    }

    /// Takes in what earlier starts left for any output, unless the disk said it already.
    pub(super) fn recall(&mut self, past: &Ends) {
        let own = past.iter().filter(|(name, _)| is_of(&self.output, name));
        let all = own.flat_map(|(name, end)| {
            let streams = end.earlier.iter().chain([&end.stream]);
            streams.map(move |end| (name, end))
        });
        let earlier: Vec<_> = all
            .filter(|(_, end)| self.place(&end.id).is_none())
            .map(|(name, end)| {
                Numbering::earlier(Earlier {
                    id: Arc::clone(&end.id),
                    name: name.clone(),
                    introduced: true,
                    last: end.last,
                    stop_time: end.stop_time,
                    gaps: end.gaps.clone(),
                })
            })
            .collect();
        self.streams.splice(0..0, earlier);
    }

    /// Takes in what the disk knows of earlier starts; it knows better than what [`Streams::new`] was given.
    pub(super) fn recover(&mut self, earlier: Vec<Earlier>) {
        let known = |numbering: &Numbering| earlier.iter().any(|one| one.id == numbering.stream.id);
        self.streams.retain(|numbering| !known(numbering));
        self.streams
            .splice(0..0, earlier.into_iter().map(Numbering::earlier));
    }

    /// Gives an envelope the next number of its stream.
    pub(super) fn number(&mut self, shaped: &Shaped) -> Numbered {
        let place = self.live(shaped).unwrap_or_else(|| {
            let new = self.begin(shaped.reader);
            self.streams.push(new);
            self.streams.len() - 1
        });
        let numbering = &mut self.streams[place];
        numbering.last += 1;
        numbering.stop_time = shaped.envelope.window.stop;
        numbering.record(numbering.last, shaped)
    }

    /// What an envelope would become if it got its number now, with the name of its stream.
    pub(super) fn preview(&self, shaped: &Shaped) -> (String, Numbered) {
        match self.live(shaped) {
            Some(place) => {
                let numbering = &self.streams[place];
                let record = numbering.record(numbering.last + 1, shaped);
                (numbering.name.clone(), record)
            }
            None => {
                let numbering = self.begin(shaped.reader);
                let record = numbering.record(1, shaped);
                (numbering.name, record)
            }
        }
    }

    fn live(&self, shaped: &Shaped) -> Option<usize> {
        let mut streams = self.streams.iter();
        streams.position(|stream| stream.live && stream.reader == shaped.reader)
    }

    fn begin(&self, reader: Option<&'static str>) -> Numbering {
        let name = match reader {
            Some(reader) => format!("{}/{reader}", self.output),
            None => self.output.clone(),
        };
        Numbering {
            reader,
            live: true,
            stream: Arc::new(Stream {
                id: format!("{name}-{:016x}", self.start).into(),
                previous: None,
            }),
            introduced: false,
            name,
            last: 0,
            stop_time: 0,
            gaps: Vec::new(),
        }
    }

    /// Lets a record that leaves for the first time say what was lost before it, if it is the first of its stream what was
    /// before the stream, and in any case what is newly known to be lost of the streams before.
    pub(super) fn announce(&mut self, mut record: Numbered) -> Numbered {
        let Some(place) = self.place(&record.stream.id) else {
            return record;
        };
        let (earlier, rest) = self.streams.split_at_mut(place);
        let own = &mut rest[0];
        let mut room = GAPS_AT_ONCE;
        record.gaps = take(&mut own.gaps, &mut room);
        let mut first = !std::mem::replace(&mut own.introduced, true);
        let mut told = Vec::new();
        for stream in earlier.iter_mut().rev() {
            if told.len() == STREAMS_AT_ONCE {
                break;
            }
            let untold = room > 0 && !stream.gaps.is_empty();
            let follows = stream.name == own.name;
            // It will have no successor: the output had an envelope per reader then and has not now, or the other way round.
            let orphan = !follows && (own.reader.is_none() || stream.name == self.output);
            if follows && std::mem::take(&mut first) || (follows || orphan) && untold {
                let gaps = take(&mut stream.gaps, &mut room);
                told.push(Previous {
                    gaps,
                    ..stream.end(None)
                });
            }
        }
        let chain = told.into_iter().rev().reduce(|older, newer| Previous {
            previous: Some(Box::new(older)),
            ..newer
        });
        if chain.is_some() {
            record.stream = Arc::new(Stream {
                id: Arc::clone(&record.stream.id),
                previous: chain,
            });
        }
        record
    }

    /// The numbers of this record are lost, and what it would have announced is left to the next one.
    pub(super) fn lose(&mut self, record: &Numbered, cause: Cause) {
        let previous = record.stream.previous.as_ref();
        self.lose_range(
            &record.stream.id,
            &record.range,
            cause,
            &record.gaps,
            previous,
        );
    }

    /// As [`Streams::lose`], for a record of which no more than this is known.
    pub(super) fn lose_range(
        &mut self,
        id: &str,
        range: &RangeInclusive<u64>,
        cause: Cause,
        gaps: &[Gap],
        mut earlier: Option<&Previous>,
    ) {
        self.add_gaps(id, gaps);
        self.add_gaps(id, &[gap(range, cause)]);
        if let (Some(_), Some(place)) = (earlier, self.place(id)) {
            self.streams[place].introduced = false;
        }
        while let Some(previous) = earlier {
            self.add_gaps(&previous.id, &previous.gaps);
            earlier = previous.previous.as_deref();
        }
    }

    fn add_gaps(&mut self, id: &str, gaps: &[Gap]) {
        if let Some(place) = self.place(id) {
            let own = &mut self.streams[place].gaps;
            own.extend_from_slice(gaps);
            join(own);
        }
    }

    /// How the streams would end if everything in the queue were lost now. Streams that numbered nothing are left out.
    pub(super) fn ends(&self, queue: &Queue, spooled: bool) -> Ends {
        let live = self.streams.iter().filter(|numbering| numbering.live);
        live.map(|numbering| {
            let end = End {
                stream: numbering.end(Some(queue)),
                earlier: self.untold(&numbering.name, queue),
                spooled,
            };
            (numbering.name.clone(), end)
        })
        .collect()
    }

    /// The streams of earlier starts of which something is lost that would be told by nothing then.
    fn untold(&self, name: &str, queue: &Queue) -> Vec<Previous> {
        let earlier = self.streams.iter().filter(|numbering| !numbering.live);
        let ends = earlier.filter(|numbering| numbering.name == name);
        ends.map(|numbering| {
            let mut end = numbering.end(None);
            for record in queue.records() {
                let mut told = record.stream.previous.as_ref();
                while let Some(previous) = told {
                    if previous.id == end.id {
                        end.gaps.extend_from_slice(&previous.gaps);
                    }
                    told = previous.previous.as_deref();
                }
            }
            join(&mut end.gaps);
            end
        })
        .filter(|end| !end.gaps.is_empty())
        .collect()
    }

    /// The name of a stream: `output` or `output/reader`.
    pub(super) fn name(&self, id: &str) -> Option<&str> {
        self.place(id)
            .map(|place| self.streams[place].name.as_str())
    }

    fn place(&self, id: &str) -> Option<usize> {
        self.streams
            .iter()
            .position(|numbering| *numbering.stream.id == *id)
    }
}

impl Numbering {
    fn earlier(earlier: Earlier) -> Self {
        let Earlier {
            id,
            name,
            introduced,
            last,
            stop_time,
            gaps,
        } = earlier;
        Self {
            reader: None,
            live: false,
            name,
            stream: Arc::new(Stream { id, previous: None }),
            introduced,
            last,
            stop_time,
            gaps,
        }
    }

    fn record(&self, number: u64, shaped: &Shaped) -> Numbered {
        Numbered {
            stream: Arc::clone(&self.stream),
            range: number..=number,
            part: Part::WHOLE,
            gaps: Vec::new(),
            envelope: Arc::clone(&shaped.envelope),
        }
    }

    /// What it came to, if everything in this queue were lost.
    fn end(&self, queue: Option<&Queue>) -> Previous {
        let mut gaps = self.gaps.clone();
        for record in queue.into_iter().flat_map(Queue::records) {
            if record.stream.id == self.stream.id {
                gaps.extend_from_slice(&record.gaps);
                gaps.push(gap(&record.range, Cause::Stopped));
            }
        }
        join(&mut gaps);
        Previous {
            id: Arc::clone(&self.stream.id),
            last: self.last,
            stop_time: self.stop_time,
            gaps,
            previous: None,
        }
    }
}

/// The oldest gaps, for as many as there is room.
fn take(gaps: &mut Vec<Gap>, room: &mut usize) -> Vec<Gap> {
    let taken: Vec<_> = gaps.drain(..gaps.len().min(*room)).collect();
    *room -= taken.len();
    taken
}

/// Whether streams of this name are an output's.
pub(super) fn is_of(output: &str, name: &str) -> bool {
    let rest = name.strip_prefix(output);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

pub(super) fn gap(range: &RangeInclusive<u64>, cause: Cause) -> Gap {
    Gap {
        first: *range.start(),
        last: *range.end(),
        cause,
    }
}

/// Sorts gaps, and joins neighbours with the same cause.
pub(super) fn join(gaps: &mut Vec<Gap>) {
    gaps.sort_by_key(|gap| gap.first);
    gaps.dedup_by(|later, earlier| {
        let joined = later.cause == earlier.cause && later.first <= earlier.last.saturating_add(1);
        if joined {
            earlier.last = earlier.last.max(later.last);
        }
        joined
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(of: &[(u64, u64, Cause)]) -> Vec<Gap> {
        let gap = |&(first, last, cause)| Gap { first, last, cause };
        of.iter().map(gap).collect()
    }

    #[test]
    fn gaps_join_where_they_touch_for_the_same_cause() {
        use Cause::{QueueFull, Rejected};
        let mut several = gaps(&[
            (9, 9, QueueFull),
            (1, 2, QueueFull),
            (4, 4, Rejected),
            (3, 3, QueueFull),
            (5, 6, Rejected),
            (10, 12, QueueFull),
        ]);
        join(&mut several);
        assert_eq!(
            several,
            gaps(&[(1, 3, QueueFull), (4, 6, Rejected), (9, 12, QueueFull)])
        );
    }
}
