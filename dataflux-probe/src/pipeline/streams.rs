//! The streams of one output: gives numbers, and knows which numbers are lost until an envelope has said so.

use std::{collections::BTreeMap, sync::Arc};

use super::{envelope::Shaped, queue::Queue};
use crate::model::{Cause, Gap, Numbered, Part, Previous, Stream, WallTime};

/// What each stream of all outputs came to, by `output` or `output/reader`.
pub(super) type Ends = BTreeMap<String, Previous>;

/// The streams of one output of one start.
pub(super) struct Streams {
    output: String,
    start: u64,
    /// What the start before left.
    past: Ends,
    streams: Vec<Numbering>,
}

struct Numbering {
    reader: Option<&'static str>,
    /// `output` or `output/reader`.
    name: String,
    /// Without its past.
    stream: Arc<Stream>,
    /// The past, until an envelope has taken it along.
    previous: Option<Previous>,
    last: u64,
    stop_time: WallTime,
    /// Losses, until an envelope has taken them along.
    gaps: Vec<Gap>,
}

impl Streams {
    /// `start` is the random id of this start of the probe, `past` what earlier starts left for any output.
    pub(super) fn new(output: String, start: u64, past: Ends) -> Self {
        Self {
            output,
            start,
            past,
            streams: Vec::new(),
        }
    }

    /// Gives an envelope the next number of its stream.
    pub(super) fn number(&mut self, shaped: &Shaped) -> Numbered {
        let place = self
            .streams
            .iter()
            .position(|stream| stream.reader == shaped.reader);
        let place = place.unwrap_or_else(|| {
            let new = self.begin(shaped.reader);
            self.streams.push(new);
            self.streams.len() - 1
        });
        let numbering = &mut self.streams[place];
        numbering.last += 1;
        numbering.stop_time = shaped.envelope.window.stop;
        Numbered {
            stream: Arc::clone(&numbering.stream),
            range: numbering.last..=numbering.last,
            part: Part::WHOLE,
            gaps: Vec::new(),
            envelope: Arc::clone(&shaped.envelope),
        }
    }

    fn begin(&mut self, reader: Option<&'static str>) -> Numbering {
        let name = match reader {
            Some(reader) => format!("{}/{reader}", self.output),
            None => self.output.clone(),
        };
        Numbering {
            reader,
            stream: Arc::new(Stream {
                id: format!("{name}-{:016x}", self.start).into(),
                previous: None,
            }),
            previous: self.past.remove(&name),
            name,
            last: 0,
            stop_time: 0,
            gaps: Vec::new(),
        }
    }

    /// Lets a record that leaves for the first time say what was lost before it, and, if it is the first of its stream, what
    /// was before the stream.
    pub(super) fn announce(&mut self, mut record: Numbered) -> Numbered {
        if let Some(numbering) = self.of(&record) {
            record.gaps = std::mem::take(&mut numbering.gaps);
            if let Some(previous) = numbering.previous.take() {
                record.stream = Arc::new(Stream {
                    id: Arc::clone(&record.stream.id),
                    previous: Some(previous),
                });
            }
        }
        record
    }

    /// The numbers of this record are lost, and what it would have announced is left to the next one.
    pub(super) fn lose(&mut self, record: &Numbered, cause: Cause) {
        if let Some(numbering) = self.of(record) {
            numbering.gaps.extend_from_slice(&record.gaps);
            numbering.gaps.push(gap(record, cause));
            join(&mut numbering.gaps);
            if record.stream.previous.is_some() {
                numbering.previous.clone_from(&record.stream.previous);
            }
        }
    }

    /// How the streams would end if everything in the queue were lost now. Streams that numbered nothing are left out.
    pub(super) fn ends(&self, queue: &Queue) -> Ends {
        let end = |numbering: &Numbering| {
            let mut gaps = numbering.gaps.clone();
            for record in queue.records() {
                if record.stream.id == numbering.stream.id {
                    gaps.extend_from_slice(&record.gaps);
                    gaps.push(gap(record, Cause::Stopped));
                }
            }
            join(&mut gaps);
            let previous = Previous {
                id: Arc::clone(&numbering.stream.id),
                last: numbering.last,
                stop_time: numbering.stop_time,
                gaps,
                previous: None,
            };
            (numbering.name.clone(), previous)
        };
        self.streams.iter().map(end).collect()
    }

    fn of(&mut self, record: &Numbered) -> Option<&mut Numbering> {
        self.streams
            .iter_mut()
            .find(|numbering| numbering.stream.id == record.stream.id)
    }
}

fn gap(record: &Numbered, cause: Cause) -> Gap {
    Gap {
        first: *record.range.start(),
        last: *record.range.end(),
        cause,
    }
}

/// Sorts gaps, and joins neighbours with the same cause.
fn join(gaps: &mut Vec<Gap>) {
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
