//! The segments of a spool: where records are written, read, and what of the files is still needed.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};

use super::{
    codec::{Body, Codec},
    ledger::Key,
    segment::{Head, Kind, OpenError, Place, ReadError, Segment},
};
use crate::model::Envelope;

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) segment: u32,
    pub(super) offset: u32,
    pub(super) length: u32,
}

/// The segment files of one output.
pub(super) struct Store {
    folder: PathBuf,
    output: String,
    /// A segment of this size is full.
    segment_bytes: u64,
    /// By number; the last one is written to.
    segments: BTreeMap<u32, Held>,
    /// Whether `sync` has something to do.
    dirty: Vec<u32>,
    /// Whether that includes the names of files.
    renamed: bool,
    reserve: Option<File>,
    codec: Codec,
    buffer: Vec<u8>,
    /// Bytes of records that were written, copies included.
    #[cfg(test)]
    written: u64,
}

struct Held {
    segment: Segment,
    /// Bytes of records that are still needed.
    live: u64,
    /// The streams of its records.
    keys: Vec<Key>,
}

/// The name of a segment's file.
fn file_name(number: u32) -> String {
    format!("{number:010}.seg")
}

/// The number of a segment by the name of its file.
pub(super) fn number(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?.strip_suffix(".seg")?;
    (name.len() == 10).then(|| name.parse().ok()).flatten()
}

const RESERVE: &str = "reserve";

impl Store {
    pub(super) fn new(folder: PathBuf, output: String, segment_bytes: u64) -> Self {
        Self {
            folder,
            output,
            segment_bytes,
            segments: BTreeMap::new(),
            dirty: Vec::new(),
            renamed: true,
            reserve: None,
            codec: Codec::new(),
            buffer: Vec::new(),
            #[cfg(test)]
            written: 0,
        }
    }

    /// Opens a segment that is there.
    pub(super) fn open(&mut self, number: u32) -> Result<&mut Segment, OpenError> {
        let path = self.folder.join(file_name(number));
        let held = Held {
            segment: Segment::open(&path, Kind::Envelopes, &self.output)?,
            live: 0,
            keys: Vec::new(),
        };
        Ok(&mut self.segments.entry(number).or_insert(held).segment)
    }

    /// Counts a record of a segment as needed.
    pub(super) fn claim(&mut self, key: Key, spot: Spot) {
        if let Some(held) = self.segments.get_mut(&spot.segment) {
            held.live += u64::from(spot.length);
        }
        self.note_key(spot.segment, key);
    }

    /// Notes that a segment has a record of this stream.
    pub(super) fn note_key(&mut self, number: u32, key: Key) {
        if let Some(held) = self.segments.get_mut(&number)
            && !held.keys.contains(&key)
        {
            held.keys.push(key);
        }
    }

    /// Writes a record, if the disk is full to the reserve.
    pub(super) fn append(
        &mut self,
        key: Key,
        head: &Head,
        envelope: &Envelope,
    ) -> io::Result<Spot> {
        match self.write(key, head, envelope) {
            Err(error) if is_full(&error) && self.release_reserve() => {
                self.write(key, head, envelope)
            }
            written => written,
        }
    }

    fn write(&mut self, key: Key, head: &Head, envelope: &Envelope) -> io::Result<Spot> {
        let number = self.active()?;
        // As long as everything leaves soon, compressing it costs more than it saves.
        let leaves_soon = self.live() < self.segment_bytes;
        let Self {
            segments, codec, ..
        } = self;
        let held = segments.get_mut(&number).ok_or(io::ErrorKind::NotFound)?;
        let body = if leaves_soon {
            codec.encode_plain(envelope)
        } else {
            codec.encode(envelope)
        };
        let place = held.segment.append(head, body)?;
        self.wrote(number, key, place)
    }

    /// Bytes of a record with this envelope, its head left out.
    pub(super) fn length(&mut self, envelope: &Envelope) -> u64 {
        self.codec.encode(envelope).bytes.len() as u64
    }

    /// Writes a record of another segment once more, if the disk is full to the reserve.
    pub(super) fn copy(&mut self, key: Key, from: Spot) -> Result<Spot, ReadError> {
        match self.write_again(key, from) {
            Err(ReadError::Io(error)) if is_full(&error) && self.release_reserve() => {
                self.write_again(key, from)
            }
            written => written,
        }
    }

    fn write_again(&mut self, key: Key, from: Spot) -> Result<Spot, ReadError> {
        let number = self.active()?;
        let place = {
            let source = self.segments.get(&from.segment).ok_or(MISSING)?;
            let record = source.segment.read(place(from), &mut self.buffer)?;
            let (head, compressed) = (record.head, record.body.compressed);
            let bytes = record.body.bytes.to_vec();
            let body = Body {
                bytes: &bytes,
                compressed,
            };
            let held = self.segments.get_mut(&number).ok_or(MISSING)?;
            held.segment.append(&head, body)?
        };
        Ok(self.wrote(number, key, place)?)
    }

    fn wrote(&mut self, number: u32, key: Key, place: Place) -> io::Result<Spot> {
        let spot = Spot {
            segment: number,
            offset: u32::try_from(place.offset).map_err(io::Error::other)?,
            length: place.length,
        };
        if self.dirty.last() != Some(&number) {
            self.dirty.push(number);
        }
        #[cfg(test)]
        {
            self.written += u64::from(place.length);
        }
        self.claim(key, spot);
        Ok(spot)
    }

    /// The segment to write to: a new one if the last is full, gone or not there.
    fn active(&mut self) -> io::Result<u32> {
        let last = self.segments.last_key_value();
        if let Some((&number, held)) = last
            && held.segment.length() < self.segment_bytes
            && !held.segment.header_is_damaged()
            && held.segment.is_linked()?
        {
            return Ok(number);
        }
        let mut number = last.map_or(0, |(&number, _)| number.wrapping_add(1));
        let segment = loop {
            let path = self.folder.join(file_name(number));
            match Segment::create(&path, Kind::Envelopes, &self.output) {
                Ok(segment) => break segment,
                // Something that is not ours, or was left alone at the start.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < u32::MAX => {
                    number += 1;
                }
                Err(error) => return Err(error),
            }
        };
        self.renamed = true;
        self.segments.insert(
            number,
            Held {
                segment,
                live: 0,
                keys: Vec::new(),
            },
        );
        Ok(number)
    }

    /// Reads a record and checks it.
    pub(super) fn read(&mut self, spot: Spot) -> Result<Envelope, ReadError> {
        let held = self.segments.get(&spot.segment).ok_or(MISSING)?;
        let record = held.segment.read(place(spot), &mut self.buffer)?;
        self.codec
            .decode(record.body)
            .map_err(|damaged| ReadError::Damaged(damaged.0))
    }

    /// A record is not needed any more.
    pub(super) fn free(&mut self, spot: Spot) {
        if let Some(held) = self.segments.get_mut(&spot.segment) {
            held.live = held.live.saturating_sub(u64::from(spot.length));
        }
    }

    /// Whether a segment other than the one written to holds nothing that is needed.
    pub(super) fn has_dead(&self) -> bool {
        let active = self.segments.keys().next_back();
        self.segments
            .iter()
            .any(|(number, held)| held.live == 0 && Some(number) != active)
    }

    /// Deletes segments that hold nothing that is needed. What makes them superfluous must be durable before.
    pub(super) fn delete_dead(&mut self) -> io::Result<()> {
        let active = self.segments.keys().next_back().copied();
        let dead: Vec<u32> = self
            .segments
            .iter()
            .filter(|&(&number, held)| held.live == 0 && Some(number) != active)
            .map(|(&number, _)| number)
            .collect();
        for number in dead {
            self.remove(number)?;
            self.segments.remove(&number);
            self.dirty.retain(|&dirty| dirty != number);
        }
        Ok(())
    }

    /// Deletes the file of a segment.
    pub(super) fn remove(&self, number: u32) -> io::Result<()> {
        match fs::remove_file(self.folder.join(file_name(number))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The segment that most can be won by copying what is needed of it: none of those whose live bytes are more than
    /// `most` of 8.
    pub(super) fn sparsest(&self, most: u64) -> Option<u32> {
        let active = self.segments.keys().next_back();
        let share = |held: &Held| held.live * 8 / held.segment.length().max(1);
        self.segments
            .iter()
            .filter(|&(number, held)| Some(number) != active && held.live > 0 && share(held) < most)
            .min_by_key(|(_, held)| share(held))
            .map(|(&number, _)| number)
    }

    /// The segments whose files were deleted by somebody else.
    pub(super) fn unlinked(&self) -> io::Result<Vec<u32>> {
        let mut unlinked = Vec::new();
        for (&number, held) in &self.segments {
            if !held.segment.is_linked()? {
                unlinked.push(number);
            }
        }
        Ok(unlinked)
    }

    /// Forgets segments whose records were copied.
    pub(super) fn forget(&mut self, numbers: &[u32]) {
        self.segments.retain(|number, _| !numbers.contains(number));
        self.dirty.retain(|number| !numbers.contains(number));
    }

    /// Whether a power cut may take what was written to a segment.
    pub(super) fn is_dirty(&self, number: u32) -> bool {
        self.dirty.contains(&number)
    }

    /// Makes everything written survive a power cut, the names of the files included.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.dirty.is_empty() {
            return Ok(());
        }
        for number in &self.dirty {
            if let Some(held) = self.segments.get(number) {
                held.segment.sync()?;
            }
        }
        if self.renamed {
            File::open(&self.folder)?.sync_all()?;
            self.renamed = false;
        }
        self.dirty.clear();
        Ok(())
    }

    /// Takes room on the disk that others cannot take away, if there is some, unless it has it already.
    pub(super) fn hold_reserve(&mut self) -> io::Result<()> {
        if self.reserve.is_none() {
            let path = self.folder.join(RESERVE);
            let mut options = File::options();
            let file = options
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)?;
            match fallocate(&file, FallocateFlags::empty(), 0, self.segment_bytes) {
                Ok(()) => self.reserve = Some(file),
                // There may be room for a record all the same.
                Err(Errno::NOSPC | Errno::DQUOT) => fs::remove_file(path)?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Gives the reserve back to the disk; false if there is none.
    pub(super) fn release_reserve(&mut self) -> bool {
        self.reserve = None;
        fs::remove_file(self.folder.join(RESERVE)).is_ok()
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.segments
            .values()
            .map(|held| held.segment.length())
            .sum()
    }

    /// Bytes of records that are needed.
    pub(super) fn live(&self) -> u64 {
        self.segments.values().map(|held| held.live).sum()
    }

    /// Whether a record of this stream is in any file, needed or not.
    pub(super) fn has_stream(&self, key: Key) -> bool {
        self.segments.values().any(|held| held.keys.contains(&key))
    }

    /// Bytes of records that were written, copies included.
    #[cfg(test)]
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }
}

const MISSING: ReadError = ReadError::Damaged("its segment is missing");

/// Whether a disk has no room, or its file system gives this user no more of it.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn place(spot: Spot) -> Place {
    Place {
        offset: u64::from(spot.offset),
        length: spot.length,
    }
}
