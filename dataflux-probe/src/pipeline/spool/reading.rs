//! Reads the files of a spool, or of dead letters, also while a probe writes them: changes nothing, takes no lock.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    fs,
    io::{self, ErrorKind},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use super::{
    codec::Codec,
    journal,
    ledger::Ledger,
    merging,
    segment::{self, OpenError, Place, ReadError, ScanEnd, Segment},
};
use crate::model::{Cause, Envelope, Gap, Previous, WallTime};

pub(crate) use segment::Kind;

impl Kind {
    /// The folder in `state_dir` that has a folder of these for each output.
    pub(crate) const fn folder(self) -> &'static str {
        match self {
            Self::Envelopes => "spool",
            Self::DeadLetters => "dead_letters",
        }
    }
}

/// One file of a folder.
#[derive(Debug)]
pub(crate) struct File {
    /// Without its folder.
    pub(crate) name: String,
    /// Its length.
    pub(crate) bytes: u64,
    /// Why nothing can be read of it; `None` if it is a segment.
    pub(crate) refused: Option<String>,
    /// Whether what names its output is damaged.
    pub(crate) header_is_damaged: bool,
    /// Bytes between records that belong to none.
    pub(crate) skipped_bytes: u64,
    /// Bytes behind the last whole record.
    pub(crate) torn_bytes: u64,
    /// In the order of the file.
    pub(crate) records: Vec<Record>,
    segment: Option<Segment>,
}

/// A record whose head is whole.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// The id of its stream.
    pub(crate) stream: Arc<str>,
    /// Its numbers.
    pub(crate) range: RangeInclusive<u64>,
    /// Where its window stopped; of a dead letter, when it was rejected.
    pub(crate) time: WallTime,
    /// Where it begins in its file.
    pub(crate) offset: u64,
    /// With its head.
    pub(crate) bytes: u32,
}

/// What a record carries.
#[derive(Debug)]
pub(crate) struct Content {
    /// The envelope.
    pub(crate) envelope: Envelope,
    /// Of a dead letter: why it is lost, and what the other end said.
    pub(crate) rejected: Option<(Cause, String)>,
}

/// Reads records one by one.
pub(crate) struct Reader {
    kind: Kind,
    codec: Codec,
    buffer: Vec<u8>,
}

/// What has become of the records that were handed over.
pub(crate) struct Journal {
    /// Whether there is one.
    pub(crate) is_there: bool,
    /// What is wrong with it.
    pub(crate) problem: Option<String>,
    /// What it knows of each stream, in the order of their births.
    pub(crate) accounts: Vec<Account>,
}

/// What the journal knows of a stream.
pub(crate) struct Account {
    /// The stream's id.
    pub(crate) stream: Arc<str>,
    /// Numbers that are delivered or lost, lowest first.
    pub(crate) done: Vec<RangeInclusive<u64>>,
    /// Records that were handed over and are neither, with what each of them announces.
    pub(crate) handed_over: Vec<HandedOver>,
    /// Numbers that are lost, which no record that was handed over says.
    pub(crate) gaps: Vec<Gap>,
}

/// A record that was handed over.
pub(crate) struct HandedOver {
    /// Its numbers.
    pub(crate) range: RangeInclusive<u64>,
    /// Losses before it.
    pub(crate) gaps: Vec<Gap>,
    /// The stream before its own.
    pub(crate) previous: Option<Previous>,
}

/// A torn tail may be a record that is being written: so often it is looked at again,
const LOOKS: u32 = 5;
/// after so long each.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// The outputs that have files of this kind in a `state_dir`, by name, and their folders.
pub(crate) fn outputs(state_dir: &Path, kind: Kind) -> io::Result<BTreeMap<String, PathBuf>> {
    let entries = match fs::read_dir(state_dir.join(kind.folder())) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries?,
    };
    let mut outputs = BTreeMap::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let name = entry.file_name().to_string_lossy().into_owned();
            outputs.insert(name, entry.path());
        }
    }
    Ok(outputs)
}

/// The segments of one output as they are now: what is being merged, then the others, oldest first.
pub(crate) fn files(folder: &Path, kind: Kind) -> io::Result<Vec<File>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".seg") {
            names.push(name);
        }
    }
    // What is being merged counts least: it may have been numbered and appended meanwhile.
    names.sort_unstable_by(|one, other| {
        (one != merging::FILE, one).cmp(&(other != merging::FILE, other))
    });
    let mut files = Vec::new();
    for name in names {
        match file(folder, &name, kind) {
            // It was trimmed meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            found => files.push(found?),
        }
    }
    Ok(files)
}

fn file(folder: &Path, name: &str, kind: Kind) -> io::Result<File> {
    let path = folder.join(name);
    let mut found = File::look(&path, name, kind)?;
    for _ in 1..LOOKS {
        if found.torn_bytes == 0 {
            break;
        }
        thread::sleep(BETWEEN_LOOKS);
        found = File::look(&path, name, kind)?;
    }
    Ok(found)
}

impl File {
    fn look(path: &Path, name: &str, kind: Kind) -> io::Result<Self> {
        let mut file = Self {
            name: name.to_owned(),
            bytes: 0,
            refused: None,
            header_is_damaged: false,
            skipped_bytes: 0,
            torn_bytes: 0,
            records: Vec::new(),
            segment: None,
        };
        match Segment::view(path, kind) {
            Ok(segment) => {
                let ScanEnd {
                    skipped_bytes,
                    torn_bytes,
                    ..
                } = segment.scan(&mut |place, head| {
                    file.records.push(Record {
                        stream: head.stream,
                        range: head.range,
                        time: head.time,
                        offset: place.offset,
                        bytes: place.length,
                    });
                })?;
                (file.skipped_bytes, file.torn_bytes) = (skipped_bytes, torn_bytes);
                file.bytes = segment.length();
                file.header_is_damaged = segment.header_is_damaged();
                file.segment = Some(segment);
            }
            // Nothing was ever in it.
            Err(OpenError::Blank) => file.bytes = fs::metadata(path)?.len(),
            Err(OpenError::Io(error)) if error.kind() == ErrorKind::NotFound => return Err(error),
            Err(error) => {
                file.bytes = fs::symlink_metadata(path)?.len();
                file.refused = Some(error.to_string());
            }
        }
        Ok(file)
    }
}

impl Reader {
    /// For files of this kind.
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            codec: Codec::new(),
            buffer: Vec::new(),
        }
    }

    /// Reads and checks a record of a file.
    ///
    /// # Errors
    /// It is damaged, or the file cannot be read: for people.
    pub(crate) fn read(&mut self, file: &File, record: &Record) -> Result<Content, String> {
        let segment = file.segment.as_ref().ok_or("its file cannot be read")?;
        let place = Place {
            offset: record.offset,
            length: record.bytes,
        };
        let found = segment
            .read(place, &mut self.buffer)
            .map_err(|error: ReadError| error.to_string())?;
        let content = match self.kind {
            Kind::Envelopes => self.codec.decode(found.body).map(|envelope| Content {
                envelope,
                rejected: None,
            }),
            Kind::DeadLetters => self.codec.decode_letter(found.body).map(|letter| Content {
                envelope: letter.envelope,
                rejected: Some((letter.cause, letter.reason)),
            }),
        };
        content.map_err(|damaged| damaged.to_string())
    }
}

/// The journal of a folder. Read it after the files: what is delivered in between counts as that.
pub(crate) fn journal(folder: &Path) -> Journal {
    let read = || journal::read(folder, "");
    let mut found = read();
    // As with files, an entry may be half written.
    for _ in 1..LOOKS {
        if found.damage.is_none() {
            break;
        }
        thread::sleep(BETWEEN_LOOKS);
        found = read();
    }
    Journal {
        is_there: found.generation > 0 || found.damage.is_some(),
        problem: found.damage,
        accounts: accounts(found.ledger),
    }
}

fn accounts(ledger: Ledger) -> Vec<Account> {
    let account = |account: super::ledger::Account| Account {
        stream: account.id,
        done: account.done.iter().collect(),
        handed_over: account
            .handed
            .into_iter()
            .map(|handed| HandedOver {
                range: handed.range,
                gaps: handed.gaps,
                previous: handed.previous,
            })
            .collect(),
        gaps: account.gaps,
    };
    ledger.accounts.into_iter().map(account).collect()
}

impl Journal {
    /// What is known of this stream.
    pub(crate) fn account(&self, stream: &str) -> Option<&Account> {
        self.accounts
            .iter()
            .find(|account| &*account.stream == stream)
    }

    fn is_done(&self, record: &Record) -> bool {
        let within = |done: &RangeInclusive<u64>| {
            done.contains(record.range.start()) && done.contains(record.range.end())
        };
        self.account(&record.stream)
            .is_some_and(|account| account.done.iter().any(within))
    }

    /// What is known of a record that was handed over.
    pub(crate) fn handed_over(&self, record: &Record) -> Option<&HandedOver> {
        let account = self.account(&record.stream)?;
        account
            .handed_over
            .iter()
            .find(|handed| handed.range == record.range)
    }
}

/// What is still to be delivered of these files of a folder, by stream and number. Where records have numbers in common, as
/// after a crash within a merge, the widest counts, and of copies the last one.
pub(crate) fn pending<'a>(files: &'a [File], journal: &Journal) -> Vec<(&'a File, &'a Record)> {
    let all = files
        .iter()
        .enumerate()
        .flat_map(|(place, file)| file.records.iter().map(move |record| (place, record)));
    let mut pending: Vec<_> = all.filter(|(_, record)| !journal.is_done(record)).collect();
    // Streams in the order of their births, or without a journal in that of the disk.
    let mut births: BTreeMap<&str, usize> = BTreeMap::new();
    for account in &journal.accounts {
        let next = births.len();
        births.entry(&account.stream).or_insert(next);
    }
    for (_, record) in &pending {
        let next = births.len();
        births.entry(&record.stream).or_insert(next);
    }
    pending.sort_by_key(|(place, record)| {
        let (first, last) = (*record.range.start(), *record.range.end());
        (
            births[&*record.stream],
            first,
            Reverse(last),
            Reverse((*place, record.offset)),
        )
    });
    let mut before: Option<(&str, u64)> = None;
    pending.retain(|(_, record)| {
        let fresh = before
            .is_none_or(|(stream, last)| stream != &*record.stream || *record.range.start() > last);
        if fresh {
            before = Some((&record.stream, *record.range.end()));
        }
        fresh
    });
    pending
        .into_iter()
        .map(|(place, record)| (&files[place], record))
        .collect()
}

#[cfg(test)]
pub(crate) mod testing {
    use super::{
        super::segment::Head, Arc, Cause, Codec, Envelope, Kind, Path, RangeInclusive, Segment,
    };

    /// Makes a segment of records with these numbers, all written at the time 0. Those of dead letters were too large.
    pub(crate) fn write(
        path: &Path,
        kind: Kind,
        stream: &str,
        ranges: &[RangeInclusive<u64>],
        envelope: &Envelope,
    ) {
        let mut segment = Segment::create(path, kind, "main").unwrap();
        let mut codec = Codec::new();
        for range in ranges {
            let head = Head {
                stream: Arc::from(stream),
                range: range.clone(),
                time: 0,
            };
            let body = match kind {
                Kind::Envelopes => codec.encode(envelope),
                Kind::DeadLetters => {
                    codec.encode_letter("too \"large\"", Cause::Rejected, envelope)
                }
            };
            segment.append(&head, body).unwrap();
        }
    }
}
