//! The queue of an output on disk: the same contract as the one in memory, and it outlives the process.
//!
//! Records are appended to segments; a journal keeps what has become of them. Everything here blocks, and runs on a thread
//! of its own.

mod codec;
mod dead_letters;
pub(crate) mod reading;
mod segment;
mod ranges;
mod ledger;
mod journal;
mod store;
mod index;
mod room;
mod recovery;
pub(super) mod worker;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, io, ops::RangeInclusive, path::PathBuf, sync::Arc};

use super::{WhenFull, streams::Earlier};
use crate::model::{Cause, Envelope, Gap, Numbered, Part, Previous, Stream, WallTime};
use index::{Entry, Waiting};
use journal::Journal;
use ledger::{Event, Handed, Key, Ledger};
use segment::{Head, ReadError};
use store::{Spot, Store};
use worker::Settled;

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
    /// Events that are not in the journal yet.
    unnoted: Vec<Event>,
}

struct Out {
    ticket: Ticket,
    key: Key,
    entry: Entry,
    /// Whether it is with the logger now.
    out: bool,
}

/// How many envelopes are kept in memory beside the disk.
const TAIL: usize = 32;

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
    /// The disk does not take it: [`io::ErrorKind::QuotaExceeded`] if that is for the spool's own bound, because nothing
    /// that it holds may merge or go.
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
        match self.store.append(key, &head, envelope) {
            // What the reserve holds back is for this.
            Err(error)
                if error.kind() == io::ErrorKind::StorageFull && self.store.release_reserve() =>
            {
                self.store.append(key, &head, envelope)
            }
            result => result,
        }
    }

    fn remember(&mut self, spot: Spot, envelope: Arc<Envelope>) {
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

    /// The oldest record that is not with the logger. One that leaves for the first time goes through `prepare`, and the
    /// result is noted: it counts as handed over once [`Spool::note`] has succeeded, and must not leave before.
    pub(super) fn next(&mut self, prepare: impl FnOnce(Numbered) -> Numbered) -> Next {
        if let Some(place) = self.handed.iter().position(|handed| !handed.out) {
            return self.next_again(place);
        }
        let Some((key, entry)) = self.waiting.pop() else {
            return Next::Nothing;
        };
        let record = match self.record(key, entry) {
            Ok(record) => prepare(record),
            Err(error) => return Next::Lost(self.damaged(key, entry, &error)),
        };
        self.apply(Event::Handed {
            key,
            handed: Handed {
                range: entry.range(),
                gaps: record.gaps.clone(),
                previous: record.stream.previous.clone(),
            },
        });
        self.ticket += 1;
        let ticket = Ticket(self.ticket);
        self.handed.push_back(Out {
            ticket,
            key,
            entry,
            out: true,
        });
        Next::Record(ticket, record)
    }

    /// A repeat says what was said before.
    fn next_again(&mut self, place: usize) -> Next {
        let Out {
            ticket, key, entry, ..
        } = self.handed[place];
        match self.record(key, entry) {
            Ok(mut record) => {
                self.handed[place].out = true;
                let account = self.ledger.account(key);
                if let Some(handed) = account.and_then(|account| account.handed(&record.range)) {
                    record.gaps.clone_from(&handed.gaps);
                    if handed.previous.is_some() {
                        record.stream = Arc::new(Stream {
                            id: Arc::clone(&record.stream.id),
                            previous: handed.previous.clone(),
                        });
                    }
                }
                Next::Record(ticket, record)
            }
            Err(error) => {
                self.handed.remove(place);
                Next::Lost(self.damaged(key, entry, &error))
            }
        }
    }

    fn record(&mut self, key: Key, entry: Entry) -> Result<Numbered, ReadError> {
        let id = self.id(key);
        Ok(Numbered {
            stream: Arc::new(Stream { id, previous: None }),
            range: entry.range(),
            part: Part::WHOLE,
            gaps: Vec::new(),
            envelope: self.read(entry.spot)?,
        })
    }

    fn id(&self, key: Key) -> Arc<str> {
        let account = self.ledger.account(key);
        account.map_or_else(|| "".into(), |account| Arc::clone(&account.id))
    }

    fn damaged(&mut self, key: Key, entry: Entry, error: &ReadError) -> Loss {
        tracing::warn!(
            output = self.settings.output,
            "{} {}..{} cannot be read from {}: {error}",
            self.id(key),
            entry.first,
            entry.last,
            self.store.folder().display()
        );
        self.store.free(entry.spot);
        self.lose_entry(key, &entry.range(), None, Cause::Damaged)
    }

    /// Everything that was handed over and never acknowledged goes again, in its turn.
    pub(super) fn again(&mut self, ticket: Ticket) {
        if let Some(handed) = self
            .handed
            .iter_mut()
            .find(|handed| handed.ticket == ticket)
        {
            handed.out = false;
        }
    }

    /// A record that is safe at the other end.
    pub(super) fn delivered(&mut self, ticket: Ticket, stop_time: WallTime) {
        if let Some(Out { key, entry, .. }) = self.take(ticket) {
            self.apply(Event::Delivered {
                key,
                range: entry.range(),
                stop_time,
            });
        }
    }

    /// A record that was handed over and will never be delivered.
    pub(super) fn lose(&mut self, ticket: Ticket, stop_time: WallTime, cause: Cause) {
        if let Some(Out { key, entry, .. }) = self.take(ticket) {
            self.lose_entry(key, &entry.range(), Some(stop_time), cause);
        }
    }

    fn take(&mut self, ticket: Ticket) -> Option<Out> {
        let place = self
            .handed
            .iter()
            .position(|handed| handed.ticket == ticket)?;
        let out = self.handed.remove(place)?;
        self.store.free(out.entry.spot);
        Some(out)
    }

    fn lose_entry(
        &mut self,
        key: Key,
        range: &RangeInclusive<u64>,
        stop_time: Option<WallTime>,
        cause: Cause,
    ) -> Loss {
        let account = self.ledger.account(key);
        let handed = account.and_then(|account| account.handed(range).cloned());
        self.apply(Event::Lost {
            key,
            range: range.clone(),
            stop_time,
            cause,
        });
        let (gaps, previous) =
            handed.map_or_else(Default::default, |handed| (handed.gaps, handed.previous));
        Loss {
            stream: self.id(key),
            range: range.clone(),
            cause,
            gaps,
            previous,
        }
    }

    /// Takes in what has become of a record.
    pub(super) fn settle(&mut self, settled: Settled) {
        match settled {
            Settled::Again(ticket) => self.again(ticket),
            Settled::Delivered(ticket, stop_time) => self.delivered(ticket, stop_time),
            Settled::Lost(ticket, stop_time, cause) => self.lose(ticket, stop_time, cause),
            Settled::Passed { name, record, lost } => self.passed(&name, &record, lost),
        }
    }

    /// Takes a record that was handed over from memory and is not settled.
    pub(super) fn append_handed(&mut self, name: &str, record: &Numbered) -> io::Result<()> {
        let key = self.key(&record.stream.id, name);
        self.write(key, &record.stream.id, &record.range, &record.envelope)?;
        self.apply(Event::Handed {
            key,
            handed: Handed {
                range: record.range.clone(),
                gaps: record.gaps.clone(),
                previous: record.stream.previous.clone(),
            },
        });
        self.note()
    }

    /// A record that never was on the disk and is delivered (`None`) or lost.
    fn passed(&mut self, name: &str, record: &Numbered, lost: Option<Cause>) {
        let key = self.key(&record.stream.id, name);
        let (range, stop_time) = (record.range.clone(), record.envelope.window.stop);
        self.apply(match lost {
            None => Event::Delivered {
                key,
                range,
                stop_time,
            },
            Some(cause) => Event::Lost {
                key,
                range,
                stop_time: Some(stop_time),
                cause,
            },
        });
    }

    fn apply(&mut self, event: Event) {
        self.ledger.apply(&event);
        self.unnoted.push(event);
    }

    /// Writes what has happened to the journal. After a kill nothing of it is forgotten.
    pub(super) fn note(&mut self) -> io::Result<()> {
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
                self.sync()?;
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
        self.journal.sync()
    }

    /// Mends what somebody has deleted, and takes the reserve back.
    pub(super) fn check(&mut self) -> io::Result<Vec<Loss>> {
        let mut losses = Vec::new();
        let unlinked = self.store.unlinked()?;
        if !unlinked.is_empty() || !self.journal.is_linked()? {
            tracing::warn!(
                output = self.settings.output,
                "somebody has deleted files of the spool in {}: writing them again",
                self.settings.folder.display()
            );
            std::fs::create_dir_all(&self.settings.folder)?;
            let found = journal::Found::default();
            self.journal = Journal::begin(
                &self.settings.folder,
                self.settings.journal_bytes(),
                &self.settings.boot_id,
                &found,
                &self.ledger,
            )?;
            self.unnoted.clear();
            self.empty(&unlinked, &mut losses)?;
            self.store.forget(&unlinked);
        }
        self.store.hold_reserve()?;
        Ok(losses)
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
