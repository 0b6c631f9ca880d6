//! The queue of an output on disk: the same contract as the one in memory, and it outlives the process.
//!
//! Records are appended to segments; a journal keeps what has become of them. Everything here blocks, and runs on a thread
//! of its own.

mod codec;
pub(super) mod dead_letters;
#[doc(hidden)]
pub mod benching;
#[doc(hidden)]
pub mod fuzzing;
pub(crate) mod reading;
mod segment;
mod ranges;
mod ledger;
mod journal;
mod store;
mod merging;
mod index;
mod hand_over;
mod room;
mod recovery;
pub(super) mod worker;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, io, ops::RangeInclusive, path::PathBuf, sync::Arc};

use super::{WhenFull, streams::Earlier};
use crate::model::{Cause, Envelope, Gap, Numbered, Previous};
use index::{Entry, Waiting};
use journal::Journal;
use ledger::{Event, Key, Ledger};
use merging::Merging;
use segment::{Head, ReadError};
use store::{Spot, Store};

/// How a spool is set up.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// Its own folder.
    pub(super) folder: PathBuf,
    /// The output it belongs to.
    pub(super) output: String,
    /// Bound of all its files.
    pub(super) bytes: u64,
    pub(super) when_full: WhenFull,
    /// Whether something is ever made to survive a power cut.
    pub(super) syncs: bool,
    /// Tells one start of the machine from another.
    pub(super) boot_id: String,
}

/// Names a record from its first hand-over until it is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ticket(u64);

impl Settings {
    /// A segment of this size is full. There are never more than about 64 of them, and all are kept open.
    fn segment_bytes(&self) -> u64 {
        (self.bytes / 64).max(32 << 10)
    }

    /// The size of each of the journal's two files.
    fn journal_bytes(&self) -> u64 {
        (self.bytes / 64).clamp(64 << 10, 1 << 20)
    }
}

/// The spool of one output.
pub(super) struct Spool {
    settings: Settings,
    store: Store,
    merging: Merging,
    journal: Journal,
    ledger: Ledger,
    /// Handed over at least once, oldest first.
    handed: VecDeque<Out>,
    /// Never handed over.
    waiting: Waiting,
    /// Envelopes that were written last, so that they need not be read.
    tail: VecDeque<(Spot, Arc<Envelope>)>,
    order: u64,
    ticket: u64,
    merged: u64,
    /// Bytes of the record that came in last.
    newest: u32,
    /// Events that are not in the journal yet.
    unnoted: Vec<Event>,
    /// A merged record is about to leave of which a power cut would leave the parts.
    exposed: bool,
    /// Whether records were written anew, merged or not, since the last [`Spool::sync`].
    moved: bool,
}

struct Out {
    ticket: Ticket,
    key: Key,
    entry: Entry,
    /// Whether it is with the logger now.
    out: bool,
}

/// How many envelopes are kept in memory beside the disk, while no more than that wait.
const TAIL: usize = 128;

/// A record that is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) stream: Arc<str>,
    pub(super) range: RangeInclusive<u64>,
    pub(super) cause: Cause,
    /// What it had announced, which another record has to do now.
    pub(super) gaps: Vec<Gap>,
    pub(super) previous: Option<Previous>,
}

/// What the spool gives to be handed over.
#[derive(Debug)]
pub(super) enum Next {
    Record(Ticket, Numbered),
    /// The disk did not keep it.
    Lost(Loss),
    Nothing,
}

/// What was found when a spool was opened.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    /// The streams of earlier starts, in the order of their births.
    pub(super) earlier: Vec<Earlier>,
    /// Numbers newly found lost.
    pub(super) damaged: u64,
    /// What is wrong with the files, for people.
    pub(super) notes: Vec<String>,
}

impl Spool {
    /// Takes a record of a stream with this name; [`Spool::make_room`] is to follow. Gives back the loss if it is dropped.
    ///
    /// # Errors
    /// The disk does not take it: [`io::ErrorKind::QuotaExceeded`], of no operating system, if that is for the spool's own
    /// bound, because nothing that it holds may merge or go.
    pub(super) fn append(&mut self, name: &str, record: &Numbered) -> io::Result<Vec<Loss>> {
        let key = self.key(&record.stream.id, name);
        let stop_time = Some(record.envelope.window.stop);
        if self.is_full() {
            if self.settings.when_full == WhenFull::Coalesce {
                return Err(io::ErrorKind::QuotaExceeded.into());
            }
            let loss = self.lose_entry(key, &record.range, stop_time, Cause::QueueFull);
            return Ok(vec![loss]);
        }
        let spot = self.write(key, &record.stream.id, &record.range, &record.envelope)?;
        self.newest = spot.length;
        self.order += 1;
        let entry = Entry {
            order: self.order,
            first: *record.range.start(),
            last: *record.range.end(),
            spot,
        };
        self.waiting.push(key, entry);
        self.remember(spot, Arc::clone(&record.envelope));
        Ok(Vec::new())
    }

    fn key(&mut self, id: &Arc<str>, name: &str) -> Key {
        let (key, born) = self.ledger.key(id, name);
        if let Some(born) = born {
            self.apply(born);
        }
        key
    }

    fn write(
        &mut self,
        key: Key,
        id: &Arc<str>,
        range: &RangeInclusive<u64>,
        envelope: &Envelope,
    ) -> io::Result<Spot> {
        let head = Head {
            stream: Arc::clone(id),
            range: range.clone(),
            time: envelope.window.stop,
        };
        self.store.append(key, &head, envelope)
    }

    /// With more of them waiting, those that leave next would not be among the last ones.
    fn remember(&mut self, spot: Spot, envelope: Arc<Envelope>) {
        if self.waiting.len() > TAIL {
            self.tail = VecDeque::new();
            return;
        }
        self.tail.push_back((spot, envelope));
        if self.tail.len() > TAIL {
            self.tail.pop_front();
        }
    }

    /// From the tail or from the disk.
    fn read(&mut self, spot: Spot) -> Result<Arc<Envelope>, ReadError> {
        if let Some(place) = self.tail.iter().position(|(known, _)| *known == spot)
            && let Some((_, envelope)) = self.tail.remove(place)
        {
            return Ok(envelope);
        }
        self.store.read(spot).map(Arc::new)
    }

    /// Keeps what the output's resolution is merging, instead of what it was merging before. Everything that was numbered
    /// must have been appended, or a kill could leave a number to two envelopes.
    pub(super) fn keep_merging(&mut self, records: &[(String, Numbered)]) -> io::Result<()> {
        let mut keep = || self.merging.keep(records.iter().map(|(_, record)| record));
        match keep() {
            Err(error) if store::is_full(&error) && self.store.release_reserve() => keep(),
            kept => kept,
        }
    }

    /// Writes what has happened to the journal. After a kill nothing of it is forgotten.
    pub(super) fn note(&mut self) -> io::Result<()> {
        if self.exposed {
            self.store.sync()?;
            self.exposed = false;
        }
        if !self.unnoted.is_empty() {
            self.journal.note(&self.unnoted, &self.ledger)?;
            self.unnoted.clear();
        }
        Ok(())
    }

    /// Deletes what is not needed any more. What makes it superfluous is made durable before.
    pub(super) fn trim(&mut self) -> io::Result<()> {
        if self.store.has_dead() {
            self.note()?;
            if self.settings.syncs {
                // Where nothing stands in another place now, the journal says everything: the segments can wait.
                if self.moved {
                    self.sync()?;
                } else {
                    self.journal.sync()?;
                }
            }
            self.store.delete_dead()?;
            let store = &self.store;
            self.ledger.forget_settled(|key| store.has_stream(key));
        }
        Ok(())
    }

    /// Makes everything survive a power cut.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.note()?;
        self.store.sync()?;
        self.journal.sync()?;
        self.merging.sync()?;
        self.moved = false;
        Ok(())
    }

    /// Mends what somebody has deleted, and takes the reserve back. Adds what cannot be mended to `losses`, also before an
    /// error.
    pub(super) fn check(&mut self, losses: &mut Vec<Loss>) -> io::Result<()> {
        let unlinked = self.store.unlinked()?;
        if !unlinked.is_empty() || !self.journal.is_linked()? {
            std::fs::create_dir_all(&self.settings.folder)?;
            tracing::warn!(
                output = self.settings.output,
                "somebody has deleted files of the spool in {}: writing them again",
                self.settings.folder.display()
            );
            // The file that is still there must not count for more than the new one.
            self.journal = Journal::begin(
                &self.settings.folder,
                self.settings.journal_bytes(),
                &self.settings.boot_id,
                self.journal.generation(),
                &self.ledger,
            )?;
            self.unnoted.clear();
            self.empty(&unlinked, losses)?;
            self.store.forget(&unlinked);
            self.store.release_reserve();
        }
        self.store.hold_reserve()
    }

    /// Leaves everything as safe as the settings ask for.
    pub(super) fn close(&mut self) -> io::Result<()> {
        self.trim()?;
        self.note()?;
        if self.settings.syncs {
            self.sync()?;
        }
        Ok(())
    }

    /// Merges since it was opened.
    pub(super) fn merged(&self) -> u64 {
        self.merged
    }

    /// Records held.
    pub(super) fn len(&self) -> usize {
        self.handed.len() + self.waiting.len()
    }

    /// Bytes of the records held.
    pub(super) fn live(&self) -> u64 {
        self.store.live()
    }
}
