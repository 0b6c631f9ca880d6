//! Opens a spool: finds out what is still to be delivered, what is lost, and what of both was known.

use std::{
    collections::{BTreeMap, VecDeque},
    fs, io,
    path::Path,
};

use super::{
    Out, Recovered, Settings, Spool, Ticket,
    index::{Entry, Waiting},
    journal::{self, Journal},
    ledger::{Event, Handed, Key, Ledger},
    merging::{self, Merging},
    ranges::Ranges,
    segment::{Head, OpenError, ScanEnd},
    store::{self, Spot, Store},
};
use crate::{
    model::{Cause, Envelope, WallTime},
    pipeline::streams::{Earlier, End, Ends, is_of},
};

/// Everything that is found in the segments, stream by stream.
type Records = BTreeMap<Key, Vec<Entry>>;

impl Spool {
    /// Opens the spool in its folder, which is made if it is not there. `past` is what is known of the streams from
    /// elsewhere. Whatever the files hold, this succeeds unless the file system refuses.
    pub(in crate::pipeline) fn open(
        settings: Settings,
        past: &Ends,
    ) -> io::Result<(Self, Recovered)> {
        fs::create_dir_all(&settings.folder)?;
        let found = journal::read(&settings.folder, &settings.boot_id);
        let mut recovery = Recovery {
            ledger: found.ledger.clone(),
            store: Store::new(
                settings.folder.clone(),
                settings.output.clone(),
                settings.segment_bytes(),
            ),
            newest: BTreeMap::new(),
            notes: found.damage.clone().into_iter().collect(),
        };
        let mut records = recovery.scan(&settings.folder)?;
        if found.generation == 0 && found.damage.is_none() && !records.is_empty() {
            let note = "there is no journal: everything that is found is sent again";
            recovery.notes.push(note.to_owned());
        }
        for (key, entries) in &mut records {
            recovery.sort_out(*key, entries);
        }
        let merging = merging::read(&settings.folder, &settings.output)?;
        recovery.notes.extend(merging.damage);
        for (head, _) in &merging.records {
            recovery.key(head);
        }
        recovery.remember_streams(&settings.output, past);
        let damaged = recovery.find_missing(&records, past);
        for (head, envelope) in &merging.records {
            recovery.number_merged(head, envelope, &mut records)?;
        }
        // Marks may be missing after a power cut, and what was handed over must never merge.
        let trusted = found.same_boot && found.damage.is_none();
        let (handed, waiting, order) = recovery.line_up(records, trusted);
        let Recovery {
            mut ledger,
            store,
            newest,
            notes,
        } = recovery;
        ledger.forget_settled(|key| store.has_stream(key));
        let journal_bytes = settings.journal_bytes();
        let journal = Journal::begin(
            &settings.folder,
            journal_bytes,
            &settings.boot_id,
            found.generation,
            &ledger,
        )?;
        let recovered = Recovered {
            earlier: earlier(&ledger, &newest),
            damaged,
            notes,
        };
        let mut spool = Self {
            merging: Merging::new(settings.folder.clone(), settings.output.clone()),
            store,
            journal,
            ledger,
            ticket: handed.len() as u64,
            handed,
            waiting,
            tail: VecDeque::new(),
            order,
            merged: 0,
            newest: 0,
            unnoted: Vec::new(),
            exposed: false,
            moved: false,
            settings: settings.clone(),
        };
        spool.trim()?;
        if settings.syncs {
            spool.sync()?;
        }
        spool.merging.clear()?;
        Ok((spool, recovered))
    }
}

/// Work in progress.
struct Recovery {
    ledger: Ledger,
    store: Store,
    /// Of each stream the highest number in the segments, and where its window stopped.
    newest: BTreeMap<Key, (u64, WallTime)>,
    notes: Vec<String>,
}

impl Recovery {
    /// Finds every record of every segment.
    fn scan(&mut self, folder: &Path) -> io::Result<Records> {
        let mut numbers: Vec<u32> = Vec::new();
        for entry in fs::read_dir(folder)? {
            numbers.extend(store::number(&entry?.path()));
        }
        numbers.sort_unstable();
        let mut records = Records::new();
        for number in numbers {
            let mut heads = Vec::new();
            let end = match self.store.open(number) {
                Ok(segment) => {
                    let end = segment.scan(&mut |place, head| heads.push((place, head)))?;
                    if end.torn_bytes > 0 {
                        segment.truncate(end.valid_length)?;
                    }
                    end
                }
                Err(OpenError::Io(error)) => {
                    let message = format!("segment {number}: {error}");
                    return Err(io::Error::new(error.kind(), message));
                }
                Err(error @ OpenError::Blank) => {
                    self.notes
                        .push(format!("segment {number} is deleted: {error}"));
                    self.store.remove(number)?;
                    continue;
                }
                Err(error) => {
                    self.notes
                        .push(format!("segment {number} is left alone: {error}"));
                    continue;
                }
            };
            self.note_damage(number, &end);
            for (place, head) in heads {
                let Ok(offset) = u32::try_from(place.offset) else {
                    continue;
                };
                let spot = Spot {
                    segment: number,
                    offset,
                    length: place.length,
                };
                self.take_in(head, spot, &mut records);
            }
        }
        Ok(records)
    }

    fn note_damage(&mut self, number: u32, end: &ScanEnd) {
        for (bytes, what) in [
            (end.skipped_bytes, "between records are none"),
            (end.torn_bytes, "at the end are no whole record"),
        ] {
            if bytes > 0 {
                self.notes
                    .push(format!("segment {number}: {bytes} bytes {what}"));
            }
        }
        // It was numbered, so it must be accounted for.
        if let Some(torn) = &end.torn {
            let key = self.key(torn);
            self.see(key, *torn.range.end(), torn.time);
        }
    }

    fn take_in(&mut self, head: Head, spot: Spot, records: &mut Records) {
        let key = self.key(&head);
        self.see(key, *head.range.end(), head.time);
        self.store.note_key(spot.segment, key);
        records.entry(key).or_default().push(Entry {
            order: 0,
            first: *head.range.start(),
            last: *head.range.end(),
            spot,
        });
    }

    fn key(&mut self, head: &Head) -> Key {
        let name = head
            .stream
            .rsplit_once('-')
            .map_or(&*head.stream, |(name, _)| name);
        let (key, born) = self.ledger.key(&head.stream, name);
        if let Some(born) = born {
            self.ledger.apply(&born);
        }
        key
    }

    fn see(&mut self, key: Key, last: u64, time: WallTime) {
        let newest = self.newest.entry(key).or_insert((last, time));
        if last > newest.0 {
            *newest = (last, time);
        }
    }

    /// Leaves what is to be delivered, sorted. Of records with common numbers the widest wins: a crash left a merged one
    /// beside its parts. Of copies the last one wins.
    fn sort_out(&self, key: Key, entries: &mut Vec<Entry>) {
        let done = self.ledger.account(key).map(|account| &account.done);
        entries.retain(|entry| !done.is_some_and(|done| done.contains(&entry.range())));
        entries.sort_by_key(|entry| {
            (
                entry.first,
                u64::MAX - entry.last,
                u32::MAX - entry.spot.segment,
            )
        });
        let mut last = 0;
        entries.retain(|entry| {
            let fresh = entry.first > last;
            last = last.max(entry.last);
            fresh
        });
    }

    /// Makes known what an earlier start had here, where the files know of no stream of that name any more.
    fn remember_streams(&mut self, output: &str, past: &Ends) {
        for (name, End { stream, .. }) in past
            .iter()
            .filter(|(name, end)| end.spooled && is_of(output, name))
        {
            let mut known = self.ledger.accounts.iter();
            if known.all(|account| account.name != *name)
                && let (_, Some(born)) = self.ledger.key(&stream.id, name)
            {
                self.ledger.apply(&born);
            }
        }
    }

    /// Notes as lost what is neither there nor done, and says how many numbers that is.
    fn find_missing(&mut self, records: &Records, past: &Ends) -> u64 {
        let mut damaged = 0;
        for account in self.ledger.accounts.clone() {
            let key = account.key;
            let (newest, stop_time) = self
                .newest
                .get(&key)
                .copied()
                .unwrap_or((account.last, account.stop_time));
            let handed = account.handed.iter().map(|handed| *handed.range.end());
            let known = handed.max().unwrap_or(0).max(newest).max(account.last);
            let mut noted = past.values().map(|end| &end.stream);
            let noted = noted.find(|end| end.id == account.id);
            let last = noted.map_or(known, |end| end.last.max(known));
            let stop_time = noted
                .filter(|end| end.last > known)
                .map_or(stop_time, |end| end.stop_time);
            self.newest.insert(key, (last, stop_time));
            let mut there: Ranges = account.done.clone();
            for entry in records.get(&key).into_iter().flatten() {
                there.insert(&entry.range());
            }
            for missing in there.missing(last) {
                damaged += missing.end() - missing.start() + 1;
                // What the spool never had went with the process; the rest it had and did not keep.
                let (first, end) = missing.into_inner();
                let parts = [
                    (first..=end.min(known), Cause::Damaged),
                    (first.max(known + 1)..=end, Cause::Stopped),
                ];
                for (range, cause) in parts.into_iter().filter(|(range, _)| !range.is_empty()) {
                    self.ledger.apply(&Event::Lost {
                        key,
                        range,
                        stop_time: None,
                        cause,
                    });
                }
            }
        }
        damaged
    }

    /// Appends what was being merged under the number that it was to have, unless something has got that number.
    fn number_merged(
        &mut self,
        head: &Head,
        envelope: &Envelope,
        records: &mut Records,
    ) -> io::Result<()> {
        let key = self.key(head);
        let last = self.newest.get(&key).map_or(0, |(last, _)| *last);
        if *head.range.start() == last + 1 && head.range.start() == head.range.end() {
            let spot = self.store.append(key, head, envelope)?;
            self.take_in(head.clone(), spot, records);
        }
        Ok(())
    }

    /// Puts the records in the order in which they leave: streams of one start together, the oldest start first.
    fn line_up(&mut self, records: Records, trusted: bool) -> (VecDeque<Out>, Waiting, u64) {
        let mut starts: Vec<&str> = Vec::new();
        let mut start_of = BTreeMap::new();
        for account in &self.ledger.accounts {
            let start = account.id.rsplit_once('-').map_or("", |(_, start)| start);
            let place = starts.iter().position(|known| *known == start);
            start_of.insert(account.key, place.unwrap_or(starts.len()));
            if place.is_none() {
                starts.push(start);
            }
        }
        let mut all: Vec<(Key, Entry)> = records
            .into_iter()
            .flat_map(|(key, entries)| entries.into_iter().map(move |entry| (key, entry)))
            .collect();
        all.sort_by_key(|(key, entry)| (start_of.get(key).copied(), entry.first, *key));
        let (mut handed, mut waiting, mut order) = (VecDeque::new(), Waiting::default(), 0);
        for (key, mut entry) in all {
            order += 1;
            entry.order = order;
            self.store.claim(key, entry.spot);
            let marked = self
                .ledger
                .account(key)
                .is_some_and(|account| account.handed(&entry.range()).is_some());
            if marked || !trusted {
                if !marked {
                    self.mark(key, &entry);
                }
                handed.push_back(Out {
                    ticket: Ticket(handed.len() as u64),
                    key,
                    entry,
                    out: false,
                });
            } else {
                waiting.push(key, entry);
            }
        }
        (handed, waiting, order)
    }

    fn mark(&mut self, key: Key, entry: &Entry) {
        self.ledger.apply(&Event::Handed {
            key,
            handed: Handed {
                range: entry.range(),
                gaps: Vec::new(),
                previous: None,
            },
        });
    }
}

fn earlier(ledger: &Ledger, newest: &BTreeMap<Key, (u64, WallTime)>) -> Vec<Earlier> {
    let accounts = ledger.accounts.iter().map(|account| {
        let known = (account.last, account.stop_time);
        let (last, stop_time) = newest.get(&account.key).copied().unwrap_or(known);
        Earlier {
            id: account.id.clone(),
            name: account.name.clone(),
            introduced: account.introduced,
            last,
            stop_time,
            gaps: account.gaps.clone(),
        }
    });
    accounts.collect()
}
