//! Holds what an output has accepted until it is delivered: in memory, bounded in bytes.
//!
//! Records leave in the order of their births. Once handed over, a record is never merged and never dropped, since the other
//! end may have it already.

use std::collections::VecDeque;

use super::{WhenFull, envelope, merge};
use crate::model::Numbered;

/// Names a record from its first hand-over until it is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ticket(u64);

/// The queue of one output.
pub(super) struct Queue {
    bound: u64,
    when_full: WhenFull,
    /// Handed over at least once, oldest first.
    handed: VecDeque<Handed>,
    /// Never handed over, oldest first.
    waiting: VecDeque<Entry>,
    /// Of all records.
    bytes: u64,
    /// Of those handed over.
    handed_bytes: u64,
    next_ticket: u64,
}

struct Entry {
    record: Numbered,
    weight: u64,
}

struct Handed {
    ticket: Ticket,
    entry: Entry,
    /// Whether it is with the logger now.
    out: bool,
}

/// What it took to make room.
#[derive(Debug, Default)]
pub(super) struct Pushed {
    /// How many merges.
    pub(super) merged: u64,
    /// What is lost.
    pub(super) lost: Vec<Numbered>,
}

impl Queue {
    /// Holds at most `bound` bytes. With [`WhenFull::Coalesce`], records that were handed over can keep it from merging: then
    /// one more record of each stream waits beyond the bound, into which the incoming ones merge. A record that is larger than
    /// the bound is taken if nothing else is held (with [`WhenFull::Coalesce`]: waits): else nothing would ever get through.
    pub(super) fn new(bound: u64, when_full: WhenFull) -> Self {
        Self {
            bound,
            when_full,
            handed: VecDeque::new(),
            waiting: VecDeque::new(),
            bytes: 0,
            handed_bytes: 0,
            next_ticket: 0,
        }
    }

    /// Takes a record of this many bytes, and makes room if there is none.
    pub(super) fn push(&mut self, record: Numbered, weight: u64) -> Pushed {
        let mut pushed = Pushed::default();
        if self.when_full == WhenFull::DropNewest
            && self.bytes + weight > self.bound
            && self.len() > 0
        {
            pushed.lost.push(record);
            return pushed;
        }
        self.bytes += weight;
        self.waiting.push_back(Entry { record, weight });
        while self.bytes > self.bound && self.len() > 1 {
            if self.when_full == WhenFull::Coalesce {
                if let Some((older, newer)) = self.pair() {
                    self.merge(older, newer);
                    pushed.merged += 1;
                    continue;
                }
                let waiting: u64 = self.waiting.iter().map(|entry| entry.weight).sum();
                if waiting <= self.bound || self.waiting.len() == 1 {
                    break;
                }
            }
            let Some(oldest) = self.waiting.pop_front() else {
                break;
            };
            self.bytes -= oldest.weight;
            pushed.lost.push(oldest.record);
        }
        pushed
    }

    /// The oldest record that is not with the logger, which counts as handed over from now on. At its first time it goes
    /// through `prepare`, whose result every repeat has too. `None` as well if those handed over fill the queue: a record that
    /// waits beyond the bound has to go on merging.
    pub(super) fn next(
        &mut self,
        prepare: impl FnOnce(Numbered) -> Numbered,
    ) -> Option<(Ticket, Numbered)> {
        if let Some(again) = self.next_again() {
            return Some(again);
        }
        let handed_bytes = self.handed_bytes + self.waiting.front()?.weight;
        if handed_bytes > self.bound && !self.handed.is_empty() {
            return None;
        }
        let mut entry = self.waiting.pop_front()?;
        self.handed_bytes = handed_bytes;
        entry.record = prepare(entry.record);
        let record = entry.record.clone();
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.handed.push_back(Handed {
            ticket,
            entry,
            out: true,
        });
        Some((ticket, record))
    }

    /// As [`Queue::next`], but only what was handed over before.
    pub(super) fn next_again(&mut self) -> Option<(Ticket, Numbered)> {
        let again = self.handed.iter_mut().find(|handed| !handed.out)?;
        again.out = true;
        Some((again.ticket, again.entry.record.clone()))
    }

    /// Takes the oldest record out that was never handed over.
    pub(super) fn take_waiting(&mut self) -> Option<Numbered> {
        let entry = self.waiting.pop_front()?;
        self.bytes -= entry.weight;
        Some(entry.record)
    }

    /// Puts a record back that was taken out.
    pub(super) fn put_back(&mut self, record: Numbered) {
        let weight = envelope::weight(&record.envelope);
        self.bytes += weight;
        self.waiting.push_front(Entry { record, weight });
    }

    /// Takes everything out that was handed over.
    pub(super) fn take_handed(&mut self) -> Vec<Numbered> {
        self.bytes -= std::mem::take(&mut self.handed_bytes);
        let handed = self.handed.drain(..);
        handed.map(|handed| handed.entry.record).collect()
    }

    /// How many records were never handed over.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The logger does not have it any more: it goes again, in its turn.
    pub(super) fn again(&mut self, ticket: Ticket) {
        if let Some(handed) = self
            .handed
            .iter_mut()
            .find(|handed| handed.ticket == ticket)
        {
            handed.out = false;
        }
    }

    /// Takes a record out that was handed over: it is delivered, or it never can be.
    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Numbered> {
        let place = self
            .handed
            .iter()
            .position(|handed| handed.ticket == ticket)?;
        let handed = self.handed.remove(place)?;
        self.bytes -= handed.entry.weight;
        self.handed_bytes -= handed.entry.weight;
        Some(handed.entry.record)
    }

    /// Everything that is not delivered, oldest first.
    pub(super) fn records(&self) -> impl Iterator<Item = &Numbered> {
        let handed = self.handed.iter().map(|handed| &handed.entry);
        handed.chain(&self.waiting).map(|entry| &entry.record)
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Records held.
    pub(super) fn len(&self) -> usize {
        self.handed.len() + self.waiting.len()
    }

    /// The places of the records to merge: the oldest neighbours in one stream that cover equally many numbers, else the oldest
    /// neighbours.
    fn pair(&self) -> Option<(usize, usize)> {
        let mut last_of_stream: Vec<usize> = Vec::new();
        let mut oldest = None;
        for (place, Entry { record, .. }) in self.waiting.iter().enumerate() {
            let last = last_of_stream
                .iter_mut()
                .find(|last| self.waiting[**last].record.stream.id == record.stream.id);
            let Some(last) = last else {
                last_of_stream.push(place);
                continue;
            };
            let older = std::mem::replace(last, place);
            let neighbour = &self.waiting[older].record;
            if neighbour.range.end() + 1 == *record.range.start() {
                if width(neighbour) == width(record) {
                    return Some((older, place));
                }
                oldest = oldest.or(Some((older, place)));
            }
        }
        oldest
    }

    fn merge(&mut self, older: usize, newer: usize) {
        let Some(newer) = self.waiting.remove(newer) else {
            return;
        };
        let older = &mut self.waiting[older];
        self.bytes -= older.weight + newer.weight;
        older.record = merge::records(older.record.clone(), newer.record);
        older.weight = envelope::weight(&older.record.envelope);
        self.bytes += older.weight;
    }
}

/// How many numbers a record covers.
pub(super) fn width(record: &Numbered) -> u64 {
    record.range.end() - record.range.start() + 1
}

#[cfg(test)]
mod tests {
    use std::{ops::RangeInclusive, sync::Arc};

    use proptest::prelude::*;

    use super::{
        super::fakes::{Random, source},
        *,
    };
    use crate::model::{Envelope, Part, Stream, Window};

    /// A record of one series, so that merging two halves their weight.
    fn record(stream: &str, number: u64) -> Numbered {
        Numbered {
            stream: Arc::new(Stream {
                id: stream.into(),
                previous: None,
            }),
            range: number..=number,
            part: Part::WHOLE,
            gaps: Vec::new(),
            envelope: Arc::new(Envelope {
                window: Window::default(),
                metadata: Arc::default(),
                sources: vec![source("alpha", Window::default(), &[number])],
            }),
        }
    }

    fn weight() -> u64 {
        envelope::weight(&record("s", 1).envelope)
    }

    /// With room for this many records.
    fn queue(room: u64, when_full: WhenFull) -> Queue {
        Queue::new(room * weight(), when_full)
    }

    fn push(queue: &mut Queue, number: u64) -> Pushed {
        queue.push(record("s", number), weight())
    }

    fn hand_over(queue: &mut Queue) -> (Ticket, RangeInclusive<u64>) {
        let (ticket, record) = queue.next(|record| record).unwrap();
        (ticket, record.range)
    }

    fn ranges(queue: &Queue) -> Vec<(u64, u64)> {
        let ranges = queue.records().map(|record| record.range.clone());
        ranges.map(RangeInclusive::into_inner).collect()
    }

    fn lost(pushed: &Pushed) -> Vec<u64> {
        pushed
            .lost
            .iter()
            .map(|record| *record.range.start())
            .collect()
    }

    #[test]
    fn full_queue_merges_the_oldest_pair_of_equal_width() {
        let mut queue = queue(4, WhenFull::Coalesce);
        let mut steps = Vec::new();
        for number in 1..=12 {
            assert_eq!(lost(&push(&mut queue, number)), [0; 0]);
            assert!(queue.bytes() <= 4 * weight());
            steps.push(ranges(&queue));
        }
        assert_eq!(steps[4], [(1, 2), (3, 3), (4, 4), (5, 5)]);
        assert_eq!(steps[5], [(1, 2), (3, 4), (5, 5), (6, 6)]);
        assert_eq!(steps[6], [(1, 4), (5, 5), (6, 6), (7, 7)]);
        assert_eq!(steps[7], [(1, 4), (5, 6), (7, 7), (8, 8)]);
        assert_eq!(steps[11], [(1, 8), (9, 10), (11, 11), (12, 12)]);
    }

    #[test]
    fn without_equal_widths_the_oldest_pair_merges() {
        let mut queue = queue(2, WhenFull::Coalesce);
        for number in 1..=7 {
            push(&mut queue, number);
        }
        assert_eq!(ranges(&queue), [(1, 6), (7, 7)]);
    }

    #[test]
    fn what_was_handed_over_is_neither_merged_nor_dropped() {
        for when_full in [
            WhenFull::Coalesce,
            WhenFull::DropOldest,
            WhenFull::DropNewest,
        ] {
            let mut queue = queue(2, when_full);
            push(&mut queue, 1);
            push(&mut queue, 2);
            let (first, _) = hand_over(&mut queue);
            hand_over(&mut queue);
            queue.again(first);
            let gone: Vec<_> = (3..=6)
                .flat_map(|number| lost(&push(&mut queue, number)))
                .collect();
            assert_eq!(ranges(&queue)[..2], [(1, 1), (2, 2)]);
            if when_full == WhenFull::Coalesce {
                // One pending record takes what comes.
                assert_eq!((ranges(&queue)[2], queue.len()), ((3, 6), 3));
                assert_eq!(gone, [0; 0]);
                assert!(queue.bytes() <= 3 * weight());
            } else {
                assert_eq!(gone, [3, 4, 5, 6]);
                assert_eq!(queue.bytes(), 2 * weight());
            }
        }
    }

    #[test]
    fn a_record_larger_than_the_bound_gets_through() {
        for when_full in [
            WhenFull::Coalesce,
            WhenFull::DropOldest,
            WhenFull::DropNewest,
        ] {
            let mut queue = Queue::new(1, when_full);
            assert_eq!(lost(&push(&mut queue, 1)), [0; 0]);
            let (ticket, range) = hand_over(&mut queue);
            assert_eq!(range, 1..=1);
            let gone: Vec<_> = (2..=4)
                .flat_map(|number| lost(&push(&mut queue, number)))
                .collect();
            if when_full == WhenFull::Coalesce {
                assert_eq!((ranges(&queue), gone.len()), (vec![(1, 1), (2, 4)], 0));
            } else {
                assert_eq!((ranges(&queue), gone), (vec![(1, 1)], vec![2, 3, 4]));
            }
            queue.remove(ticket);
            assert_eq!(lost(&push(&mut queue, 5)), [0; 0]);
        }
    }

    #[test]
    fn full_queue_gives_up_the_oldest_or_the_newest() {
        let mut oldest = queue(2, WhenFull::DropOldest);
        let mut newest = queue(2, WhenFull::DropNewest);
        for number in 1..=2 {
            push(&mut oldest, number);
            push(&mut newest, number);
        }
        assert_eq!(lost(&push(&mut oldest, 3)), [1]);
        assert_eq!(ranges(&oldest), [(2, 2), (3, 3)]);
        assert_eq!(lost(&push(&mut newest, 3)), [3]);
        assert_eq!(ranges(&newest), [(1, 1), (2, 2)]);
    }

    #[test]
    fn only_neighbours_of_one_stream_merge() {
        let mut queue = queue(3, WhenFull::Coalesce);
        for (stream, number) in [("a", 1), ("b", 1), ("a", 2), ("b", 2)] {
            queue.push(record(stream, number), weight());
        }
        assert_eq!(ranges(&queue), [(1, 2), (1, 1), (2, 2)]);
        assert!(
            queue
                .records()
                .all(|record| record.range.end() - record.range.start() < 2)
        );
    }

    #[test]
    fn records_go_again_in_order_before_new_ones() {
        let mut queue = queue(9, WhenFull::Coalesce);
        for number in 1..=4 {
            push(&mut queue, number);
        }
        let tickets: Vec<_> = (0..3).map(|_| hand_over(&mut queue).0).collect();
        queue.again(tickets[2]);
        queue.again(tickets[0]);
        assert!(queue.remove(tickets[1]).is_some());
        assert!(queue.remove(tickets[1]).is_none());
        let order: Vec<_> = (0..3).map(|_| hand_over(&mut queue).1).collect();
        assert_eq!(order, [1..=1, 3..=3, 4..=4]);
        assert!(queue.next(|record| record).is_none());
        assert_eq!(queue.bytes(), 3 * weight());
    }

    proptest! {
        /// Whatever happens, each number is in the queue, lost or removed, exactly once; and the bytes are those of the records.
        #[test]
        fn every_number_is_somewhere(seed in 1..u64::MAX, room in 1..6_u64, policy in 0..3_usize) {
            let policies = [WhenFull::Coalesce, WhenFull::DropOldest, WhenFull::DropNewest];
            let mut queue = queue(room, policies[policy]);
            let mut random = Random(seed);
            let mut out = Vec::new();
            let mut gone: Vec<u64> = Vec::new();
            for number in 1..=60 {
                for lost in push(&mut queue, number).lost {
                    gone.extend(lost.range);
                }
                if random.percent(40) && let Some((ticket, _)) = queue.next(|record| record) {
                    out.push(ticket);
                }
                if random.percent(30) && !out.is_empty() {
                    let ticket = out.swap_remove(random.below(out.len() as u64) as usize);
                    if random.percent(50) {
                        queue.again(ticket);
                    } else if let Some(removed) = queue.remove(ticket) {
                        gone.extend(removed.range);
                    }
                }
                let held = queue.records().flat_map(|record| record.range.clone());
                let mut all: Vec<u64> = held.chain(gone.iter().copied()).collect();
                all.sort_unstable();
                prop_assert_eq!(all, (1..=number).collect::<Vec<_>>());
                let weights = queue.records().map(|record| envelope::weight(&record.envelope));
                prop_assert_eq!(queue.bytes(), weights.sum::<u64>());
                prop_assert!(queue.bytes() <= (room + 1) * weight());
            }
        }
    }
}
