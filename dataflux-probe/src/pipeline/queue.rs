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
    /// Where windows have so little in common that merging them takes more than the bound, the oldest go.
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
        let largest = self.bound.max(2 * weight);
        while self.bytes > self.bound && self.len() > 1 {
            if self.when_full == WhenFull::Coalesce {
                if let Some((older, newer)) = self.pair() {
                    match self.merge(older, newer, largest) {
                        None => pushed.merged += 1,
                        Some(lost) => pushed.lost.push(lost),
                    }
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

    /// Gives the older record back if both merged would be larger than that.
    fn merge(&mut self, older: usize, newer: usize, largest: u64) -> Option<Numbered> {
        let parts = [&self.waiting[older], &self.waiting[newer]];
        let [first, second] = parts.map(|part| part.record.clone());
        let merged = merge::records(first, second);
        let weight = envelope::weight(&merged.envelope);
        if weight > largest {
            let lost = self.waiting.remove(older)?;
            self.bytes -= lost.weight;
            return Some(lost.record);
        }
        let newer = self.waiting.remove(newer)?;
        let older = &mut self.waiting[older];
        self.bytes = self.bytes + weight - older.weight - newer.weight;
        *older = Entry {
            record: merged,
            weight,
        };
        None
    }
}

/// How many numbers a record covers.
pub(super) fn width(record: &Numbered) -> u64 {
    record.range.end() - record.range.start() + 1
}

#[cfg(test)]
mod tests;
