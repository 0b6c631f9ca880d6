//! The end of a file: where its last whole record ends, also after a kill in the middle of a write.
//!
//! What ends in its only newline needs nothing more: a torn record is what follows the last newline. Records of several lines and
//! of other bytes are announced before they are written, in a small file beside: which file, how long it is, how long the record.
//! Whoever opens the file again sees by its length that nothing was written, or all, or only a part, which is cut off.

use std::{
    fs::{self, File},
    io::ErrorKind,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use super::{modes::Modes, names};

/// How long the last line of a file may be. A torn record is shorter, so a file with a longer one is none of ours.
const LONGEST_TORN: u64 = 64 << 20;
/// How much is read at once when looking for the last line's begin.
const STEP: u64 = 64 << 10;

/// Where whole records end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// After so many bytes.
    At(u64),
    /// Nobody can tell: nothing may be appended.
    Unknown,
}

/// The file beside a file that announces its records.
#[derive(Debug)]
pub(super) struct Note {
    path: PathBuf,
    /// Open once something was announced.
    file: Option<File>,
}

/// A record that is about to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Announced {
    inode: u64,
    start: u64,
    length: u64,
}

impl Note {
    pub(super) fn of(path: &Path) -> Self {
        Self {
            path: names::note(path),
            file: None,
        }
    }

    /// Whether this record has to be announced. Once one was, so is every later one: what was announced last must be true.
    pub(super) fn is_needed(&self, record: &[u8], is_text: bool) -> bool {
        let is_line = || {
            let newline = record.iter().position(|&byte| byte == b'\n');
            is_text && newline.is_some_and(|newline| newline + 1 == record.len())
        };
        self.file.is_some() || !is_line()
    }

    /// Announces that `length` bytes are going to be written after `start`. One small write, which no kill can tear.
    pub(super) fn announce(
        &mut self,
        inode: u64,
        start: u64,
        length: u64,
        modes: Modes,
    ) -> anyhow::Result<()> {
        let writing = || format!("writing to {}", self.path.display());
        let file = match self.file.take() {
            Some(file) => file,
            None => modes.write_to(&self.path).with_context(writing)?,
        };
        let announced = Announced {
            inode,
            start,
            length,
        };
        file.write_all_at(&announced.encode(), 0)
            .with_context(writing)?;
        self.file = Some(file);
        Ok(())
    }

    /// Where whole records end in a file that was just opened.
    ///
    /// # Errors
    /// It cannot be read, or is none of ours.
    pub(super) fn find_end(&mut self, file: &File, is_text: bool) -> anyhow::Result<End> {
        let metadata = file.metadata()?;
        let length = metadata.len();
        let (noted, announced) = self.read()?;
        let announced = announced.filter(|announced| {
            let written = announced.start..=announced.start.saturating_add(announced.length);
            announced.inode == metadata.ino() && written.contains(&length)
        });
        let Some(announced) = announced else {
            // What it says of another file, or of times long gone, must not be believed later on.
            self.remove()?;
            return match () {
                () if length == 0 => Ok(End::At(0)),
                () if is_text => whole_lines(file, length).map(End::At),
                () => Ok(End::Unknown),
            };
        };
        self.file = noted;
        let is_whole = length == announced.start.saturating_add(announced.length);
        Ok(End::At(if is_whole { length } else { announced.start }))
    }

    /// Removes it: the file gets no more records.
    pub(super) fn remove(&mut self) -> anyhow::Result<()> {
        self.file = None;
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }

    fn read(&self) -> anyhow::Result<(Option<File>, Option<Announced>)> {
        let opened = File::options().read(true).write(true).open(&self.path);
        let reading = || format!("reading {}", self.path.display());
        let file = match opened {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok((None, None)),
            opened => opened.with_context(reading)?,
        };
        let mut bytes = [0; Announced::BYTES];
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => Ok((Some(file), Announced::decode(&bytes))),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok((Some(file), None)),
            Err(error) => Err(error).with_context(reading),
        }
    }
}

impl Announced {
    const MAGIC: &[u8; 8] = b"records\x01";
    const BYTES: usize = 8 + 3 * 8 + 4;

    /// Three numbers, little-endian, between a magic word and a CRC32C: a power cut may leave anything.
    fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let numbers = [self.inode, self.start, self.length].map(u64::to_le_bytes);
        bytes[..8].copy_from_slice(Self::MAGIC);
        bytes[8..32].copy_from_slice(numbers.as_flattened());
        let sum = crc32c::crc32c(&bytes[..32]);
        bytes[32..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let (numbers, _) = bytes[8..32].as_chunks::<8>();
        let &[inode, start, length] = numbers else {
            return None;
        };
        let [inode, start, length] = [inode, start, length].map(u64::from_le_bytes);
        let announced = Self {
            inode,
            start,
            length,
        };
        (announced.encode() == *bytes).then_some(announced)
    }
}

/// Cuts off what a crash left torn. `None` if nobody can tell whether that is so; else how long the file is then.
pub(super) fn mend(
    file: &File,
    path: &Path,
    note: &mut Note,
    is_text: bool,
) -> anyhow::Result<Option<u64>> {
    let end = note
        .find_end(file, is_text)
        .context("looking for a torn record")?;
    let End::At(whole) = end else {
        return Ok(None);
    };
    let length = file.metadata()?.len();
    if whole < length {
        file.set_len(whole).context("cutting off a torn record")?;
        tracing::warn!(
            path = %path.display(),
            bytes = length - whole,
            "cut off a record that an earlier crash had left torn"
        );
    }
    Ok(Some(whole))
}

/// How many bytes of the file are whole lines.
fn whole_lines(file: &File, length: u64) -> anyhow::Result<u64> {
    let mut end = length;
    let mut buffer = Vec::new();
    while end > 0 {
        if length - end >= LONGEST_TORN {
            bail!("its last line is longer than any record: is this the right file?");
        }
        let start = end.saturating_sub(if end == length { 1 } else { STEP });
        buffer.resize(usize::try_from(end - start)?, 0);
        file.read_exact_at(&mut buffer, start)?;
        if let Some(newline) = buffer.iter().rposition(|&byte| byte == b'\n') {
            return Ok(start + newline as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
