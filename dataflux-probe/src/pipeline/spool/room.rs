//! Makes room in a full spool: old windows merge, or the oldest or the newest records go.
//!
//! A merged record is written before its parts are given up, and what is needed of a sparse segment before the segment is.
//! Live records take at most [`MOST_LIVE`] eighths of the room, so that a segment can always be found of which three
//! eighths are won by copying the rest. A byte accepted is written once; about one more is a merged record's; and for each
//! of these two at most five thirds are copied: in all less than six times, and less than twice while nothing is full.
//! That holds where windows have their series in common, so that two of them merged take the room of one. Where they do
//! not, a byte is merged again whenever its record's size has doubled, until that is [`LARGEST_MERGED`] of the room.

use std::io;

use super::{
    Loss, Spool,
    index::{Entry, Pair},
    ledger::Key,
    segment::ReadError,
    store::Spot,
};
use crate::{
    model::{Cause, Numbered},
    pipeline::{WhenFull, merge},
};

/// Of the room, in eighths, what live records may take.
const MOST_LIVE: u64 = 5;

/// A merged record takes at most the room divided by this: if it would take more, the oldest goes instead.
const LARGEST_MERGED: u64 = 4;

impl Spool {
    /// Whether a record may not come in: it is to be dropped, or nothing that is held may merge or go.
    pub(super) fn is_full(&self) -> bool {
        self.store.live() > self.live_bound()
            && (self.settings.when_full == WhenFull::DropNewest || self.waiting.len() == 0)
    }

    /// Bytes that the segments may take. Two of them are spare: the reserve, and one into which another is copied.
    pub(super) fn bound(&self) -> u64 {
        let spare = 2 * self.store.segment_bytes() + self.journal.bytes();
        self.settings
            .bytes
            .saturating_sub(spare + self.merging.bytes())
    }

    fn live_bound(&self) -> u64 {
        self.bound() / 8 * MOST_LIVE
    }

    /// Brings the files below the bound, and adds what goes for it to `losses`, also before an error.
    pub(super) fn make_room(&mut self, losses: &mut Vec<Loss>) -> io::Result<()> {
        while self.store.bytes() > self.bound() || self.store.live() > self.live_bound() {
            if self.store.live() > self.live_bound() && self.shrink(losses)? {
                continue;
            }
            if self.store.bytes() <= self.bound() {
                break;
            }
            if self.store.has_dead() {
                self.trim()?;
            } else if let Some(sparse) = self.store.sparsest(8) {
                self.empty(&[sparse], losses)?;
            } else {
                break;
            }
        }
        Ok(())
    }

    /// Makes less of what waits; false if nothing can.
    fn shrink(&mut self, losses: &mut Vec<Loss>) -> io::Result<bool> {
        if self.settings.when_full == WhenFull::Coalesce
            && let Some(pair) = self.waiting.pair()
        {
            self.merge(&pair, losses)?;
            return Ok(true);
        }
        // A record that waits alone is kept: a spool too small for it would never deliver anything.
        if self.waiting.len() <= 1 || self.settings.when_full == WhenFull::DropNewest {
            return Ok(false);
        }
        if let Some((key, entry)) = self.waiting.pop() {
            self.store.free(entry.spot);
            losses.push(self.lose_entry(key, &entry.range(), None, Cause::QueueFull));
        }
        Ok(true)
    }

    fn merge(&mut self, pair: &Pair, losses: &mut Vec<Loss>) -> io::Result<()> {
        let Pair {
            key, older, newer, ..
        } = *pair;
        let Some(first) = self.readable(key, older, losses)? else {
            return Ok(());
        };
        let Some(second) = self.readable(key, newer, losses)? else {
            return Ok(());
        };
        let merged = merge::records(first, second);
        let parts = u64::from(older.spot.length) + u64::from(newer.spot.length);
        let largest = (self.bound() / LARGEST_MERGED).max(2 * u64::from(self.newest));
        if parts > largest && self.store.length(&merged.envelope) > largest {
            self.waiting.remove(key, &older);
            self.store.free(older.spot);
            losses.push(self.lose_entry(key, &older.range(), None, Cause::QueueFull));
            return Ok(());
        }
        let spot = self.write(key, &merged.stream.id, &merged.range, &merged.envelope)?;
        self.moved = true;
        self.waiting.merge(pair, spot);
        self.store.free(older.spot);
        self.store.free(newer.spot);
        self.merged += 1;
        Ok(())
    }

    /// A record that waits; one that is damaged is lost instead.
    fn readable(
        &mut self,
        key: Key,
        entry: Entry,
        losses: &mut Vec<Loss>,
    ) -> io::Result<Option<Numbered>> {
        match self.record(key, entry) {
            Ok(record) => Ok(Some(record)),
            Err(ReadError::Io(error)) => Err(error),
            Err(error) => {
                self.waiting.remove(key, &entry);
                losses.push(self.damaged(key, entry, &error));
                Ok(None)
            }
        }
    }

    /// Copies what is needed of some segments, which are superfluous then.
    pub(super) fn empty(&mut self, segments: &[u32], losses: &mut Vec<Loss>) -> io::Result<()> {
        let of_these = |spot: Spot| segments.contains(&spot.segment);
        let handed = self.handed.iter().map(|out| (out.key, out.entry));
        let waiting = self.waiting.iter();
        let entries: Vec<(Key, Entry)> = handed
            .chain(waiting)
            .filter(|(_, entry)| of_these(entry.spot))
            .collect();
        for (key, entry) in entries {
            match self.store.copy(key, entry.spot) {
                Ok(spot) => self.move_entry(key, entry, spot),
                Err(ReadError::Io(error)) => return Err(error),
                Err(error) => {
                    self.waiting.remove(key, &entry);
                    self.handed
                        .retain(|out| (out.key, out.entry) != (key, entry));
                    losses.push(self.damaged(key, entry, &error));
                }
            }
        }
        Ok(())
    }

    fn move_entry(&mut self, key: Key, entry: Entry, spot: Spot) {
        self.moved = true;
        let handed = self
            .handed
            .iter_mut()
            .find(|out| (out.key, out.entry) == (key, entry));
        match handed {
            Some(out) => out.entry.spot = spot,
            None => self.waiting.move_to(key, &entry, spot),
        }
        self.store.free(entry.spot);
    }
}
