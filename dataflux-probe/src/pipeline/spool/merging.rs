//! What an output's `resolution` has not completed yet: a file of its own keeps it until it gets a number.
//!
//! It is a segment, written anew and renamed after every tick. Its records have the numbers that come next in their streams,
//! so that one that was numbered and appended meanwhile is known for stale.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::{
    codec::Codec,
    segment::{Head, Kind, OpenError, ReadError, Segment},
};
use crate::model::{Envelope, Numbered};

/// The name of the file.
pub(super) const FILE: &str = "merging.seg";

/// The file that keeps it.
pub(super) struct Merging {
    folder: PathBuf,
    output: String,
    codec: Codec,
    /// What was written last; `None` if there is no such file.
    written: Option<Segment>,
    /// Whether [`Merging::sync`] has something to do.
    dirty: bool,
}

/// What the file holds of an earlier start, and what is wrong with it, for people.
#[derive(Default)]
pub(super) struct Found {
    pub(super) records: Vec<(Head, Envelope)>,
    pub(super) damage: Vec<String>,
}

impl Merging {
    pub(super) fn new(folder: PathBuf, output: String) -> Self {
        Self {
            folder,
            output,
            codec: Codec::new(),
            written: None,
            dirty: false,
        }
    }

    /// Keeps these and nothing else. A kill leaves either what was kept before or these.
    pub(super) fn keep<'a>(
        &mut self,
        records: impl Iterator<Item = &'a Numbered>,
    ) -> io::Result<()> {
        let mut records = records.peekable();
        if records.peek().is_none() {
            return self.clear();
        }
        let path = self.folder.join("merging.new");
        remove(&path)?;
        let mut segment = Segment::create(&path, Kind::Envelopes, &self.output)?;
        for record in records {
            let head = Head {
                stream: record.stream.id.clone(),
                range: record.range.clone(),
                time: record.envelope.window.stop,
            };
            segment.append(&head, self.codec.encode(&record.envelope))?;
        }
        fs::rename(&path, self.folder.join(FILE))?;
        (self.written, self.dirty) = (Some(segment), true);
        Ok(())
    }

    /// Keeps nothing.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.written = None;
        self.dirty = false;
        remove(&self.folder.join(FILE))
    }

    /// Makes what is kept survive a power cut.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if let Some(segment) = self.written.as_ref().filter(|_| self.dirty) {
            segment.sync()?;
            File::open(&self.folder)?.sync_all()?;
            self.dirty = false;
        }
        Ok(())
    }

    /// Bytes that the disk needs for it, while it is written anew.
    pub(super) fn bytes(&self) -> u64 {
        2 * self.written.as_ref().map_or(0, Segment::length)
    }
}

/// Reads what an earlier start left.
pub(super) fn read(folder: &Path, output: &str) -> io::Result<Found> {
    let mut found = Found::default();
    let segment = match Segment::open(&folder.join(FILE), Kind::Envelopes, output) {
        Ok(segment) => segment,
        Err(OpenError::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(OpenError::Io(error)) => return Err(error),
        Err(error) => {
            found.damage.push(format!("{FILE} is not read: {error}"));
            return Ok(found);
        }
    };
    let mut places = Vec::new();
    let end = segment.scan(&mut |place, _| places.push(place))?;
    if end.skipped_bytes + end.torn_bytes > 0 {
        found.damage.push(format!("{FILE}: a part is damaged"));
    }
    let (mut codec, mut buffer) = (Codec::new(), Vec::new());
    for place in places {
        let record = match segment.read(place, &mut buffer) {
            Ok(record) => codec
                .decode(record.body)
                .map(|envelope| (record.head, envelope))
                .map_err(|damaged| damaged.0),
            Err(ReadError::Io(error)) => return Err(error),
            Err(ReadError::Damaged(reason)) => Err(reason),
        };
        match record {
            Ok(record) => found.records.push(record),
            Err(reason) => found.damage.push(format!("{FILE}: {reason}")),
        }
    }
    Ok(found)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
