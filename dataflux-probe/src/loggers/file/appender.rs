//! A file of lines that only grows by whole records: appends, rolls, and cuts off what a crash left torn.

use std::{
    borrow::Cow,
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

/// How long the last line of a file may be. A torn record is shorter, so a file with a longer one is none of ours.
const LONGEST_TORN: u64 = 64 << 20;
/// How much is read at once when looking for the last line's begin.
const STEP: u64 = 64 << 10;

/// The file at one path, and its rolled predecessors. Every error may heal, and leaves nothing of its record behind.
pub(super) struct Appender {
    path: PathBuf,
    roll_bytes: u64,
    keep: u16,
    sync: bool,
    /// `None` until opened, and after an error, so that the file is looked at anew.
    current: Option<Current>,
}

/// An open file, locked against other writers.
struct Current {
    file: File,
    device: u64,
    inode: u64,
}

impl Appender {
    /// Opens nothing. `roll_bytes` 0 means never to roll; `sync`, that every record goes to the disk before its append
    /// returns.
    pub(super) const fn new(path: PathBuf, roll_bytes: u64, keep: u16, sync: bool) -> Self {
        Self {
            path,
            roll_bytes,
            keep,
            sync,
            current: None,
        }
    }

    /// Opens the file; makes it if it is missing, and its folder if only that is missing.
    pub(super) fn open(&mut self) -> anyhow::Result<()> {
        let (current, _) = self.take()?;
        self.current = Some(current);
        Ok(())
    }

    /// Appends one record, which ends in a newline; a file that begins with it gets the header first.
    pub(super) fn append(&mut self, header: &[u8], record: &[u8]) -> anyhow::Result<()> {
        let (mut current, mut length) = self.take()?;
        if self.roll_bytes > 0 && length > 0 && length + record.len() as u64 > self.roll_bytes {
            self.roll()?;
            (current, length) = self.take()?;
        }
        let bytes = if length == 0 && !header.is_empty() {
            Cow::Owned([header, record].concat())
        } else {
            Cow::Borrowed(record)
        };
        if let Err(error) = current.append(&bytes, self.sync) {
            // If this fails too, the next open finds the torn record.
            current
                .file
                .set_len(length)
                .with_context(|| format!("{}: {error}; cutting off the rest", self.shown()))?;
            return Err(error).with_context(|| format!("writing to {}", self.shown()));
        }
        self.current = Some(current);
        Ok(())
    }

    /// The open file and its length; anew if it was not open, or is no longer what its path names (logrotate).
    fn take(&mut self) -> anyhow::Result<(Current, u64)> {
        if let Some(current) = self.current.take()
            && let Ok(named) = fs::metadata(&self.path)
            && (named.dev(), named.ino()) == (current.device, current.inode)
        {
            return Ok((current, named.len()));
        }
        let (current, length) =
            open(&self.path).with_context(|| format!("opening {}", self.shown()))?;
        if self.sync && length == 0 {
            sync_folder(&self.path).with_context(|| format!("syncing {}", self.shown()))?;
        }
        Ok((current, length))
    }

    /// Moves the file out of the way, up to the first number that is free, else over the oldest one.
    fn roll(&self) -> anyhow::Result<()> {
        let moved = || format!("rolling {}", self.shown());
        if self.keep == 0 {
            return fs::remove_file(&self.path).with_context(moved);
        }
        let free = (1..self.keep)
            .find(|&number| fs::symlink_metadata(rolled(&self.path, number)).is_err())
            .unwrap_or(self.keep);
        for number in (1..free).rev() {
            fs::rename(rolled(&self.path, number), rolled(&self.path, number + 1))
                .with_context(moved)?;
        }
        fs::rename(&self.path, rolled(&self.path, 1)).with_context(moved)
    }

    fn shown(&self) -> impl std::fmt::Display + '_ {
        self.path.display()
    }
}

impl Current {
    /// One `write(2)`: whatever happens, no other record comes between its bytes, and a short one is seen here.
    fn append(&self, bytes: &[u8], sync: bool) -> io::Result<()> {
        let written = (&self.file).write(bytes)?;
        if written < bytes.len() {
            return Err(io::Error::new(
                ErrorKind::StorageFull,
                format!("only {written} of {} bytes fitted", bytes.len()),
            ));
        }
        if sync { self.file.sync_data() } else { Ok(()) }
    }
}

impl Drop for Current {
    /// Closing alone would leave the file locked for as long as a process that is being started has inherited it.
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            tracing::debug!("unlocking a file: {error}");
        }
    }
}

/// The name of a rolled file: `path.1` is the newest.
pub(super) fn rolled(path: &Path, number: u16) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    name.into()
}

fn open(path: &Path) -> anyhow::Result<(Current, u64)> {
    let file = match open_or_make(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make_folder(path)?;
            open_or_make(path)?
        }
        result => result?,
    };
    if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
        bail!("something else writes to it and has locked it");
    }
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        bail!("it is not a regular file");
    }
    let whole = whole_length(&file, metadata.len()).context("looking for a torn record")?;
    if whole < metadata.len() {
        file.set_len(whole).context("cutting off a torn record")?;
        tracing::warn!(
            path = %path.display(),
            bytes = metadata.len() - whole,
            "cut off a record that an earlier crash had left torn"
        );
    }
    let current = Current {
        file,
        device: metadata.dev(),
        inode: metadata.ino(),
    };
    Ok((current, whole))
}

fn open_or_make(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o640)
        // A pipe by that name is refused, not waited for.
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
}

/// Makes the file's folder, but not the folder that one is in: a missing mount point or a typing error stays visible.
fn make_folder(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().context("it has no folder")?;
    match DirBuilder::new().mode(0o750).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("making the folder {}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent()
        .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// How many bytes of the file are whole lines.
fn whole_length(file: &File, length: u64) -> anyhow::Result<u64> {
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
