//! Compresses closed files.

use std::{
    fs::{self, File, TryLockError},
    io::{self, BufReader, Write},
    path::Path,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use serde::Deserialize;

use super::{closed::sync_folder, modes::Modes, names};

/// A file that can be read until that is to end.
struct Until<'a> {
    source: &'a File,
    ending: &'a AtomicBool,
}

/// Why there is no more of it.
#[derive(Debug, thiserror::Error)]
#[error("left for the next start")]
struct Left;

impl io::Read for Until<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.ending.load(Relaxed) {
            return Err(io::Error::other(Left));
        }
        self.source.read(bytes)
    }
}

/// How much is read at once.
const STEP: usize = 64 << 10;

/// What is done with closed files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Compress {
    /// They stay as they are.
    #[default]
    None,
    /// Any tool can read them.
    Gzip,
    /// Smaller and quicker.
    Zstd,
}

impl Compress {
    /// What compressed files end in.
    pub(super) const fn suffix(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip => Some(".gz"),
            Self::Zstd => Some(".zst"),
        }
    }

    /// Puts a compressed file in the place of a file, if nobody has locked that; leaves it when `ending` becomes true. At no
    /// time are the records in neither of them, whatever happens; what is left of an interruption has a name of its own, or
    /// the same time of its last change as the file. Gives whether it was done.
    pub(super) fn replace(
        self,
        path: &Path,
        modes: Modes,
        ending: &AtomicBool,
    ) -> io::Result<bool> {
        let Some(suffix) = self.suffix().filter(|_| !ending.load(Relaxed)) else {
            return Ok(false);
        };
        let source = File::open(path)?;
        if matches!(source.try_lock(), Err(TryLockError::WouldBlock)) {
            return Ok(false);
        }
        let packed = names::packed(path, suffix);
        let part = names::part(&packed);
        let written = self
            .write(&source, &part, modes, ending)
            .and_then(|()| fs::rename(&part, &packed));
        if let Err(error) = written {
            // What cannot be removed now is removed later on; the error counts.
            fs::remove_file(&part).ok();
            return match error.downcast::<Left>() {
                Ok(Left) => Ok(false),
                Err(error) => Err(error),
            };
        }
        sync_folder(path)?;
        fs::remove_file(path)?;
        Ok(true)
    }

    fn write(
        self,
        source: &File,
        part: &Path,
        modes: Modes,
        ending: &AtomicBool,
    ) -> io::Result<()> {
        let file = modes.write_to(part)?;
        if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            return Err(io::Error::other("somebody else compresses it"));
        }
        file.set_len(0)?;
        let mut from = BufReader::with_capacity(STEP, Until { source, ending });
        if self == Self::Gzip {
            let mut encoder = flate2::write::GzEncoder::new(&file, flate2::Compression::default());
            io::copy(&mut from, &mut encoder)?;
            encoder.finish()?.flush()?;
        } else {
            let level = zstd::DEFAULT_COMPRESSION_LEVEL;
            let mut encoder = zstd::stream::write::Encoder::new(&file, level)?;
            encoder.include_checksum(true)?;
            io::copy(&mut from, &mut encoder)?;
            encoder.finish()?.flush()?;
        }
        file.set_modified(source.metadata()?.modified()?)?;
        file.sync_all()
    }
}
