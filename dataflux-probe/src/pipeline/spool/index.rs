//! Where the records of a spool stand, in the order in which they leave, and which two of them merge next.

use std::collections::{BTreeMap, VecDeque};

use super::{ledger::Key, store::Spot};

/// A record on disk. Kept small: a spool may hold hundreds of thousands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Records leave in ascending order of this.
    pub(super) order: u64,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) spot: Spot,
}

impl Entry {
    fn width(&self) -> u64 {
        self.last - self.first + 1
    }

    pub(super) fn range(&self) -> std::ops::RangeInclusive<u64> {
        self.first..=self.last
    }
}

/// Records that were never handed over.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    streams: BTreeMap<Key, Line>,
    len: usize,
}

/// Those of one stream, oldest first.
#[derive(Debug, Default)]
struct Line {
    entries: VecDeque<Entry>,
    /// No two neighbours before this place are of equal width.
    searched: usize,
}

impl Waiting {
    /// Adds the newest record of its stream.
    pub(super) fn push(&mut self, key: Key, entry: Entry) {
        self.streams
            .entry(key)
            .or_default()
            .entries
            .push_back(entry);
        self.len += 1;
    }

    /// The oldest record.
    pub(super) fn front(&self) -> Option<(Key, Entry)> {
        let fronts = self
            .streams
            .iter()
            .filter_map(|(&key, line)| Some((key, *line.entries.front()?)));
        fronts.min_by_key(|(_, entry)| entry.order)
    }

    /// Takes the oldest record out.
    pub(super) fn pop(&mut self) -> Option<(Key, Entry)> {
        let (key, _) = self.front()?;
        let line = self.streams.get_mut(&key)?;
        let entry = line.entries.pop_front()?;
        line.searched = line.searched.saturating_sub(1);
        if line.entries.is_empty() {
            self.streams.remove(&key);
        }
        self.len -= 1;
        Some((key, entry))
    }

    /// The two records to merge: the oldest neighbours in one stream that cover equally many numbers, else the oldest
    /// neighbours. `None` if no two records are neighbours.
    pub(super) fn pair(&mut self) -> Option<Pair> {
        let mut equal: Option<Pair> = None;
        let mut any: Option<Pair> = None;
        for (&key, line) in &mut self.streams {
            let neighbours =
                (0..line.entries.len().saturating_sub(1)).find(|&place| line.adjacent(place));
            any = older(any, neighbours.map(|place| line.pair(key, place)));
            let alike = line.search();
            equal = older(equal, alike.map(|place| line.pair(key, place)));
        }
        equal.or(any)
    }

    /// Puts what two records became in their place.
    pub(super) fn merge(&mut self, pair: &Pair, spot: Spot) {
        let Some(line) = self.streams.get_mut(&pair.key) else {
            return;
        };
        line.entries[pair.place] = Entry {
            last: pair.newer.last,
            spot,
            ..pair.older
        };
        line.entries.remove(pair.place + 1);
        line.searched = line.searched.min(pair.place.saturating_sub(1));
        self.len -= 1;
    }

    /// Says where a record stands now.
    pub(super) fn move_to(&mut self, key: Key, entry: &Entry, spot: Spot) {
        if let Some((line, place)) = self.find(key, entry) {
            line.entries[place].spot = spot;
        }
    }

    /// Takes a record out.
    pub(super) fn remove(&mut self, key: Key, entry: &Entry) {
        if let Some((line, place)) = self.find(key, entry) {
            line.entries.remove(place);
            line.searched = line.searched.min(place.saturating_sub(1));
            if line.entries.is_empty() {
                self.streams.remove(&key);
            }
            self.len -= 1;
        }
    }

    fn find(&mut self, key: Key, entry: &Entry) -> Option<(&mut Line, usize)> {
        let line = self.streams.get_mut(&key)?;
        let search = line
            .entries
            .binary_search_by_key(&entry.first, |entry| entry.first);
        Some((line, search.ok()?))
    }

    /// Every record, by stream.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, Entry)> {
        self.streams
            .iter()
            .flat_map(|(&key, line)| line.entries.iter().map(move |&entry| (key, entry)))
    }

    /// How many records there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

/// Two neighbours of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) key: Key,
    place: usize,
    pub(super) older: Entry,
    pub(super) newer: Entry,
}

fn older(a: Option<Pair>, b: Option<Pair>) -> Option<Pair> {
    match (a, b) {
        (Some(a), Some(b)) if b.older.order < a.older.order => Some(b),
        (a, b) => a.or(b),
    }
}

impl Line {
    /// The record at this place and the next.
    fn pair(&self, key: Key, place: usize) -> Pair {
        Pair {
            key,
            place,
            older: self.entries[place],
            newer: self.entries[place + 1],
        }
    }

    /// Whether nothing is missing between the record at this place and the next.
    fn adjacent(&self, place: usize) -> bool {
        self.entries[place].last + 1 == self.entries[place + 1].first
    }

    /// The place of the oldest of two neighbours of equal width.
    fn search(&mut self) -> Option<usize> {
        let places = self.searched..self.entries.len().saturating_sub(1);
        let equal = |&place: &usize| {
            self.adjacent(place) && self.entries[place].width() == self.entries[place + 1].width()
        };
        let found = places.into_iter().find(equal);
        self.searched = found.unwrap_or(self.entries.len().saturating_sub(1));
        found
    }
}
