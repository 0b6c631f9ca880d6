//! Closed files: finding them, and which of them are too many.

use std::{
    collections::HashMap,
    fs::{self, File, Metadata},
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{
    Settings,
    names::{Found, Kind, Values, stamp, time_of},
};
use crate::model::WallTime;

const SECOND: WallTime = 1_000_000_000;

/// How many closed files may stay.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// So many of each reader that has files of its own.
    pub(super) keep: Option<u32>,
    /// Those that were last written to so long ago, in ns.
    pub(super) age: Option<WallTime>,
    /// So many bytes of all.
    pub(super) bytes: Option<u64>,
}

/// A file that gets no more records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Closed {
    pub(super) path: PathBuf,
    /// When it was last written to, as it would stand in its name.
    pub(super) time: String,
    /// Whose it is: empty where its name does not say it.
    pub(super) values: Values,
    pub(super) bytes: u64,
    pub(super) packed: bool,
    /// Whether its name has a time in it.
    pub(super) is_named: bool,
    /// Of its last change.
    pub(super) modified: WallTime,
}

/// What is in an output's folders beside the files that are being written.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// The oldest first.
    pub(super) closed: Vec<Closed>,
    /// What compressions had not finished.
    pub(super) parts: Vec<PathBuf>,
    /// The files of other days in which the last records were announced.
    pub(super) noted: Vec<PathBuf>,
}

/// Looks through the folders. `own` has the host and the day of today, whose files are being written.
///
/// # Errors
/// A folder cannot be read; one that is missing has nothing in it.
pub(super) fn list(settings: &Settings, own: &Values) -> io::Result<Listing> {
    let mut listing = Listing::default();
    let found = Found::default();
    walk(
        settings,
        own,
        settings.template.base(),
        0,
        &found,
        &mut listing,
    )?;
    listing
        .closed
        .sort_by(|one, other| (&one.time, &one.path).cmp(&(&other.time, &other.path)));
    Ok(listing)
}

fn walk(
    settings: &Settings,
    own: &Values,
    folder: &Path,
    depth: usize,
    known: &Found,
    listing: &mut Listing,
) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    let template = &settings.template;
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if depth < template.depth() {
            if let Some(found) = template.folder(depth, &name, &own.host, known)
                && entry.file_type()?.is_dir()
            {
                walk(settings, own, &entry.path(), depth + 1, &found, listing)?;
            }
            continue;
        }
        let is_past = |found: &Found| found.date.as_ref().is_some_and(|date| *date < own.date);
        match template.file(folder, &name, &own.host, known) {
            Some(Kind::Records { found, packed }) if found.time.is_some() || is_past(&found) => {
                listing.closed.extend(closed(&entry, found, packed, own)?);
            }
            Some(Kind::Part) => listing.parts.push(entry.path()),
            Some(Kind::Note { of, found }) if is_past(&found) => listing.noted.push(of),
            _ => {}
        }
    }
    Ok(())
}

/// `None` if it is gone, or no file.
fn closed(
    entry: &fs::DirEntry,
    found: Found,
    packed: bool,
    own: &Values,
) -> io::Result<Option<Closed>> {
    let metadata = match entry.metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        metadata => metadata?,
    };
    let modified = modified(&metadata);
    Ok(metadata.is_file().then(|| Closed {
        path: entry.path(),
        is_named: found.time.is_some(),
        time: found.time.unwrap_or_else(|| stamp(modified)),
        values: Values {
            host: own.host.clone(),
            date: found.date.unwrap_or_default(),
            reader: found.reader.unwrap_or_default().to_owned(),
        },
        bytes: metadata.len(),
        packed,
        modified,
    }))
}

/// The latest time in the name of a closed file of this reader.
pub(super) fn newest(settings: &Settings, own: &Values) -> io::Result<WallTime> {
    let listing = list(settings, own)?;
    let has_reader = settings.template.has_reader();
    let is_own = |closed: &&Closed| !has_reader || closed.values.reader == own.reader;
    let named = listing.closed.iter().filter(|closed| closed.is_named);
    let newest = named
        .filter(is_own)
        .filter_map(|closed| time_of(&closed.time))
        .max();
    Ok(newest.unwrap_or(WallTime::MIN))
}

/// Which of these, the oldest being first, are more than may stay.
pub(super) fn surplus(closed: &[Closed], limits: Limits, now: WallTime) -> Vec<&Closed> {
    let oldest = limits.age.map(|age| stamp(now.saturating_sub(age)));
    let mut of_reader: HashMap<_, u32> = HashMap::new();
    let mut bytes = 0_u64;
    let newest_first = closed.iter().rev();
    let mut surplus: Vec<_> = newest_first
        .filter(|closed| {
            let number = of_reader.entry(&closed.values.reader).or_default();
            *number += 1;
            let one_of_many = limits.keep.is_some_and(|keep| *number > keep);
            let is_old = oldest.as_ref().is_some_and(|oldest| closed.time < *oldest);
            if one_of_many || is_old {
                return true;
            }
            bytes = bytes.saturating_add(closed.bytes);
            limits.bytes.is_some_and(|limit| bytes > limit)
        })
        .collect();
    surplus.reverse();
    surplus
}

/// When a file was last written to.
pub(super) fn modified(metadata: &Metadata) -> WallTime {
    metadata
        .mtime()
        .saturating_mul(SECOND)
        .saturating_add(metadata.mtime_nsec())
}

/// Makes the names in a file's folder survive a power cut.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent()
        .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
