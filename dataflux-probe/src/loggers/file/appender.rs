//! One file that only grows by whole records: appends, closes it when it is full or its time is over, and mends what a crash
//! left.

use std::{
    fs::{self, File, TryLockError},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};

use super::{
    Settings, closed,
    end::{Note, mend},
    names::Values,
};
use crate::model::WallTime;

const MILLISECOND: WallTime = 1_000_000;

/// What is appended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    /// What a file begins with.
    pub(super) header: &'a [u8],
    pub(super) bytes: &'a [u8],
    /// Whether it is made of lines.
    pub(super) is_text: bool,
}

/// The file that one host's records of one reader go to. Every error may heal, and leaves nothing of its record behind.
pub(super) struct Appender {
    settings: Arc<Settings>,
    host: String,
    reader: String,
    /// `None` until opened, and after an error, so that the file is looked at anew.
    current: Option<Current>,
    /// The latest time in the name of a closed file; `None` until it is looked for.
    newest: Option<WallTime>,
}

/// An open file, locked against other writers.
struct Current {
    file: File,
    values: Values,
    path: PathBuf,
    device: u64,
    inode: u64,
    /// When it was last written to.
    written: WallTime,
    note: Note,
    state: State,
}

/// What is known of an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing: an earlier probe may have left anything.
    Fresh,
    /// It begins with the header and ends after a record.
    Whole,
    /// It can't be appended to.
    Foreign,
}

impl Appender {
    /// Opens nothing.
    pub(super) const fn new(settings: Arc<Settings>, host: String, reader: String) -> Self {
        Self {
            settings,
            host,
            reader,
            current: None,
            newest: None,
        }
    }

    /// Whether it is this one's.
    pub(super) fn is_of(&self, host: &str, reader: &str) -> bool {
        self.host == host && self.reader == reader
    }

    /// Opens the file; makes it if it is missing, and its folder if only that is missing.
    pub(super) fn open(&mut self, now: WallTime) -> anyhow::Result<()> {
        let (values, path) = self.place(now);
        let (current, _) = self.take(values, &path)?;
        self.current = Some(current);
        Ok(())
    }

    /// Closes the file: the next record opens what has its name then.
    pub(super) fn close(&mut self) {
        self.current = None;
    }

    /// Appends one record; a file that begins with it gets the header first. Gives whether another file was closed for good.
    pub(super) fn append(&mut self, now: WallTime, record: Record<'_>) -> anyhow::Result<bool> {
        let (values, path) = self.place(now);
        let mut closed = self.leave(&path)?;
        let (mut current, mut length) = self.take(values.clone(), &path)?;
        length = self.examine(&mut current, length, record)?;
        if length > 0 && self.is_over(&current, length, record, now) {
            self.roll(current)?;
            closed = true;
            (current, length) = self.take(values, &path)?;
            length = self.examine(&mut current, length, record)?;
        }
        let begins = length == 0 && !record.header.is_empty();
        let whole = begins.then(|| [record.header, record.bytes].concat());
        let bytes = whole.as_deref().unwrap_or(record.bytes);
        let settings = &self.settings;
        if current.note.is_needed(record.bytes, record.is_text) {
            let many = bytes.len() as u64;
            current
                .note
                .announce(current.inode, length, many, settings.modes)?;
        }
        if let Err(error) = current.append(bytes, settings.sync) {
            // If this fails too, the next open finds the torn record.
            current
                .file
                .set_len(length)
                .with_context(|| format!("{}: {error}; cutting off the rest", path.display()))?;
            return Err(error).with_context(|| format!("writing to {}", path.display()));
        }
        current.written = now;
        self.current = Some(current);
        Ok(closed)
    }

    fn place(&self, now: WallTime) -> (Values, PathBuf) {
        let values = Values::new(&self.host, &self.reader, now);
        let path = self.settings.template.path(&values);
        (values, path)
    }

    /// Closes the file of another day.
    fn leave(&mut self, path: &Path) -> anyhow::Result<bool> {
        match self.current.take_if(|current| current.path != path) {
            None => Ok(false),
            Some(mut left) => left.note.remove().map(|()| true),
        }
    }

    /// The open file and its length; anew if it was not open, or is no longer what its path names (logrotate).
    fn take(&mut self, values: Values, path: &Path) -> anyhow::Result<(Current, u64)> {
        if let Some(current) = self.current.take()
            && let Ok(named) = fs::metadata(path)
            && (named.dev(), named.ino()) == (current.device, current.inode)
        {
            return Ok((current, named.len()));
        }
        let opening = || format!("opening {}", path.display());
        let (current, length) = open(&self.settings, values, path).with_context(opening)?;
        if self.settings.sync && length == 0 {
            closed::sync_folder(path).with_context(|| format!("syncing {}", path.display()))?;
        }
        Ok((current, length))
    }

    /// Mends a file that was just opened. Gives its length then.
    fn examine(
        &self,
        current: &mut Current,
        length: u64,
        record: Record<'_>,
    ) -> anyhow::Result<u64> {
        if current.state != State::Fresh {
            return Ok(length);
        }
        let opening = || format!("opening {}", current.path.display());
        let mended = mend(
            &current.file,
            &current.path,
            &mut current.note,
            record.is_text,
        )
        .with_context(opening)?;
        let whole = mended.unwrap_or(length);
        let mut begin = vec![0; record.header.len()];
        let same = whole == 0
            || current.file.read_exact_at(&mut begin, 0).is_ok() && begin == record.header;
        current.state = match mended {
            Some(_) if same => State::Whole,
            _ => State::Foreign,
        };
        Ok(whole)
    }

    /// Whether a file that is not empty must be closed before this record.
    fn is_over(&self, current: &Current, length: u64, record: Record<'_>, now: WallTime) -> bool {
        let Settings {
            roll_bytes,
            roll_every,
            ..
        } = *self.settings;
        let is_full = roll_bytes > 0 && length + record.bytes.len() as u64 > roll_bytes;
        let period = |time: WallTime| roll_every.map(|every| time.div_euclid(every));
        is_full || period(now) > period(current.written) || current.state == State::Foreign
    }

    /// Gives the file the name of a closed one, or removes it if none is kept.
    fn roll(&mut self, mut current: Current) -> anyhow::Result<()> {
        let rolling = || format!("closing {}", current.path.display());
        let settings = &self.settings;
        if settings.limits.keep == Some(0) && current.state == State::Whole {
            fs::remove_file(&current.path).with_context(rolling)?;
        } else {
            let newest = match self.newest {
                Some(newest) => newest,
                None => closed::newest(settings, &current.values).with_context(rolling)?,
            };
            let mut time = current.written.max(newest.saturating_add(MILLISECOND));
            let mut named = settings.template.closed(&current.values, time);
            while fs::symlink_metadata(&named).is_ok() {
                time += MILLISECOND;
                named = settings.template.closed(&current.values, time);
            }
            fs::rename(&current.path, &named).with_context(rolling)?;
            self.newest = Some(time);
        }
        if settings.sync {
            closed::sync_folder(&current.path).with_context(rolling)?;
        }
        current.note.remove()
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

fn open(settings: &Settings, values: Values, path: &Path) -> anyhow::Result<(Current, u64)> {
    let file = match settings.modes.append_to(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            settings
                .modes
                .make_folders(settings.template.base(), path)?;
            settings.modes.append_to(path)?
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
    let current = Current {
        file,
        values,
        path: path.to_owned(),
        device: metadata.dev(),
        inode: metadata.ino(),
        written: closed::modified(&metadata),
        note: Note::of(path),
        state: State::Fresh,
    };
    Ok((current, metadata.len()))
}
