//! Keeps the ledger on disk, in two files that take turns.
//!
//! A file begins with a header and a snapshot of the ledger; events follow. When one is full, the other gets the next
//! generation. Both are allocated in advance, so a full disk keeps nobody from noting what was handed over, and at any
//! moment one of them is whole. They grow only for very many streams, and shrink again after them.

use std::{
    fs::File,
    io::{self, Error, ErrorKind},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FallocateFlags, fallocate, fstat};

use super::ledger::{Event, Ledger};

const MAGIC: &[u8; 8] = b"DFPJRNL1";
/// Magic, generation, boot id, CRC32C of these.
const HEADER: usize = 8 + 8 + BOOT_ID + 4;
/// As text, zeros after it.
const BOOT_ID: usize = 40;
/// Length and CRC32C before each entry.
const FRAME: usize = 8;

/// The files, by turn.
pub(super) const NAMES: [&str; 2] = ["journal-0", "journal-1"];

/// What the journal says.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) ledger: Ledger,
    /// Whether it was written since the machine started; if not, the last of it may be missing.
    pub(super) same_boot: bool,
    /// What is wrong with it.
    pub(super) damage: Option<String>,
    /// Of the newest file; 0 if there is none.
    pub(super) generation: u64,
}

/// The journal, open for writing.
pub(super) struct Journal {
    files: [File; 2],
    boot_id: String,
    generation: u64,
    /// Where the next event goes.
    end: u64,
    /// Of the files, by turn.
    sizes: [u64; 2],
    /// What they should have.
    usual: u64,
    buffer: Vec<u8>,
}

/// Reads the journal of a spool without changing anything.
pub(super) fn read(folder: &Path, boot_id: &str) -> Found {
    let mut newest = Found::default();
    let mut there = false;
    for path in paths(folder) {
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => {
                newest.damage = Some(format!("cannot read {}: {error}", path.display()));
                continue;
            }
        };
        // A start that was cut off leaves empty files.
        if bytes.iter().all(|&byte| byte == 0) {
            continue;
        }
        there = true;
        if let Some(found) =
            parse(&bytes, boot_id).filter(|found| found.generation > newest.generation)
        {
            newest = found;
        }
    }
    if there && newest.generation == 0 {
        newest.damage = Some(format!(
            "no file of the journal in {} is whole",
            folder.display()
        ));
    }
    newest
}

/// What one file says; `None` if its header or its snapshot is damaged.
pub(super) fn parse(bytes: &[u8], boot_id: &str) -> Option<Found> {
    let header = bytes.get(..HEADER)?;
    let (checked, crc) = header.split_at(HEADER - 4);
    if &header[..8] != MAGIC || crc32c::crc32c(checked).to_le_bytes() != crc {
        return None;
    }
    let generation = u64::from_le_bytes(header[8..16].try_into().ok()?);
    let text = &header[16..16 + BOOT_ID];
    let written = &text[..text.iter().position(|&byte| byte == 0).unwrap_or(BOOT_ID)];
    let (snapshot, mut rest) = entry(&bytes[HEADER..], generation)?;
    let mut ledger: Ledger = postcard::from_bytes(snapshot).ok()?;
    while let Some((event, after)) = entry(rest, generation) {
        let Ok(event) = postcard::from_bytes::<Event>(event) else {
            break;
        };
        ledger.apply(&event);
        rest = after;
    }
    let clean = rest.len() >= FRAME && rest[..FRAME] == [0; FRAME];
    Some(Found {
        ledger,
        same_boot: written == boot_id.as_bytes(),
        damage: (!clean).then(|| "the journal ends within an entry".to_owned()),
        generation,
    })
}

/// The next entry and what follows it.
fn entry(bytes: &[u8], generation: u64) -> Option<(&[u8], &[u8])> {
    let length = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
    let crc = u32::from_le_bytes(bytes.get(4..FRAME)?.try_into().ok()?);
    let (body, rest) = bytes[FRAME..].split_at_checked(usize::try_from(length).ok()?)?;
    (length > 0 && crc == checksum(generation, body)).then_some((body, rest))
}

/// With the generation in it, so that what an earlier turn of the file left is never taken for an entry.
fn checksum(generation: u64, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&generation.to_le_bytes()), body)
}

/// Makes the checksums of what stands in the place of a header and of entries fit.
pub(super) fn seal(bytes: &mut [u8]) {
    let Some((header, mut rest)) = bytes.split_at_mut_checked(HEADER) else {
        return;
    };
    let (checked, crc) = header.split_at_mut(HEADER - 4);
    crc.copy_from_slice(&crc32c::crc32c(checked).to_le_bytes());
    let generation = checked[8..16]
        .first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes));
    while let Some((frame, after)) = rest.split_at_mut_checked(FRAME) {
        let length = frame
            .first_chunk()
            .map_or(0, |bytes| u32::from_le_bytes(*bytes));
        let Some((body, next)) = after.split_at_mut_checked(length as usize) else {
            return;
        };
        // The end.
        if length == 0 {
            return;
        }
        frame[4..].copy_from_slice(&checksum(generation, body).to_le_bytes());
        rest = next;
    }
}

fn paths(folder: &Path) -> [PathBuf; 2] {
    NAMES.map(|name| folder.join(name))
}

impl Journal {
    /// Opens or makes the files, each of `size` bytes, and begins with a snapshot of the next generation. What there was goes
    /// on being valid until that is written.
    pub(super) fn begin(
        folder: &Path,
        size: u64,
        boot_id: &str,
        generation: u64,
        ledger: &Ledger,
    ) -> io::Result<Self> {
        let open = |path: &PathBuf| -> io::Result<File> {
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)?;
            fallocate(&file, FallocateFlags::empty(), 0, size)?;
            Ok(file)
        };
        let [first, second] = paths(folder);
        let files = [open(&first)?, open(&second)?];
        let sizes = [files[0].metadata()?.len(), files[1].metadata()?.len()];
        let mut journal = Self {
            files,
            boot_id: boot_id.to_owned(),
            generation,
            end: 0,
            sizes,
            usual: size,
            buffer: Vec::new(),
        };
        journal.snapshot(ledger)?;
        Ok(journal)
    }

    /// Notes events that `ledger` has taken in already.
    pub(super) fn note(&mut self, events: &[Event], ledger: &Ledger) -> io::Result<()> {
        self.buffer.clear();
        for event in events {
            push(&mut self.buffer, event, self.generation)?;
        }
        // The zeros after the last entry are its end.
        if self.end + (self.buffer.len() + FRAME) as u64 > self.size() {
            return self.snapshot(ledger);
        }
        self.file().write_all_at(&self.buffer, self.end)?;
        self.end += self.buffer.len() as u64;
        Ok(())
    }

    /// Begins the other file.
    pub(super) fn snapshot(&mut self, ledger: &Ledger) -> io::Result<()> {
        let generation = self.generation + 1;
        let mut header = MAGIC.to_vec();
        header.extend(generation.to_le_bytes());
        header.extend(
            self.boot_id
                .bytes()
                .chain(std::iter::repeat(0))
                .take(BOOT_ID),
        );
        header.extend(crc32c::crc32c(&header).to_le_bytes());
        push(&mut header, ledger, generation)?;
        let size = usize::try_from(self.fit(turn(generation), header.len())?);
        let size = size.map_err(Error::other)?;
        let end = header.len() as u64;
        header.resize(size, 0);
        // The header last: without it the file does not count.
        let next = &self.files[turn(generation)];
        next.write_all_at(&[0; HEADER], 0)?;
        next.write_all_at(&header[HEADER..], HEADER as u64)?;
        next.write_all_at(&header[..HEADER], 0)?;
        (self.generation, self.end) = (generation, end);
        Ok(())
    }

    /// Gives a file room for a snapshot of this length and for events after it, and says how much it has.
    fn fit(&mut self, turn: usize, snapshot: usize) -> io::Result<u64> {
        let least = (snapshot + FRAME) as u64;
        let size = self.usual.max(least + least / 4);
        let file = &self.files[turn];
        if size > self.sizes[turn] {
            match fallocate(file, FallocateFlags::empty(), 0, size) {
                Ok(()) => self.sizes[turn] = size,
                // A full disk has no room for more events, but perhaps for the snapshot.
                Err(_) if least <= self.sizes[turn] => {}
                Err(error) => return Err(error.into()),
            }
        } else if size < self.sizes[turn] {
            file.set_len(size)?;
            self.sizes[turn] = size;
        }
        Ok(self.sizes[turn])
    }

    /// Bytes of both files, and of what the next one may have more.
    pub(super) fn bytes(&self) -> u64 {
        let growth = if 2 * self.end > self.size() {
            self.size()
        } else {
            0
        };
        self.sizes[0] + self.sizes[1] + growth
    }

    fn size(&self) -> u64 {
        self.sizes[turn(self.generation)]
    }

    /// Of the file that counts.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Makes what was noted survive a power cut.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file().sync_data()
    }

    /// Whether its files are still in the folder.
    pub(super) fn is_linked(&self) -> io::Result<bool> {
        for file in &self.files {
            if fstat(file)?.st_nlink == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn file(&self) -> &File {
        &self.files[turn(self.generation)]
    }
}

/// The file of a generation.
fn turn(generation: u64) -> usize {
    usize::from(generation % 2 == 1)
}

fn push<T: serde::Serialize>(out: &mut Vec<u8>, value: &T, generation: u64) -> io::Result<()> {
    let body = postcard::to_stdvec(value).map_err(Error::other)?;
    let length = u32::try_from(body.len()).map_err(Error::other)?;
    out.extend(length.to_le_bytes());
    out.extend(checksum(generation, &body).to_le_bytes());
    out.extend(body);
    Ok(())
}
