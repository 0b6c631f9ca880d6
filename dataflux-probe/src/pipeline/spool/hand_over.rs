//! Gives records to be handed over, and takes in what becomes of them.

use std::{io, ops::RangeInclusive, sync::Arc};

use super::{
    Loss, Next, Out, Spool, Ticket,
    index::Entry,
    ledger::{Event, Handed, Key},
    segment::ReadError,
    worker::Settled,
};
use crate::model::{Cause, Numbered, Part, Stream, WallTime};

impl Spool {
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
        // A number that had left in one range must not come back in another.
        self.exposed |= self.settings.syncs
            && entry.first < entry.last
            && self.store.is_dirty(entry.spot.segment);
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

    pub(super) fn record(&mut self, key: Key, entry: Entry) -> Result<Numbered, ReadError> {
        let id = self.id(key);
        Ok(Numbered {
            stream: Arc::new(Stream { id, previous: None }),
            range: entry.range(),
            part: Part::WHOLE,
            gaps: Vec::new(),
            envelope: self.read(entry.spot)?,
        })
    }

    pub(super) fn id(&self, key: Key) -> Arc<str> {
        let account = self.ledger.account(key);
        account.map_or_else(|| "".into(), |account| Arc::clone(&account.id))
    }

    pub(super) fn damaged(&mut self, key: Key, entry: Entry, error: &ReadError) -> Loss {
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

    /// A record that was handed over, as far as it stands in the spool.
    pub(super) fn handed(&mut self, ticket: Ticket) -> Option<Result<Numbered, ReadError>> {
        let handed = self.handed.iter().find(|handed| handed.ticket == ticket)?;
        let (key, entry) = (handed.key, handed.entry);
        Some(self.record(key, entry))
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

    pub(super) fn lose_entry(
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
            Settled::Lost {
                ticket,
                stop_time,
                cause,
                ..
            } => self.lose(ticket, stop_time, cause),
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

    pub(super) fn apply(&mut self, event: Event) {
        self.ledger.apply(&event);
        self.unnoted.push(event);
    }
}
