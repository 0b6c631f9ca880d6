//! A file of records that are appended, read and found again after any damage. The format stands in `docs/spool.md`.
//!
//! Whatever the bytes are, reading gives records or damage: no panic, and no allocation beyond the size of the file.

pub(super) mod format;
mod scan;

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind},
    ops::RangeInclusive,
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
};

use super::codec::Body;
use crate::model::WallTime;
use format::{HEADER, HeaderError, Parsed};

/// What is in a segment's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Envelopes.
    Envelopes,
    /// Rejected envelopes, and why.
    DeadLetters,
}

/// What is known of a record without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// The id of its stream, of at most [`format::LONGEST_STREAM`] bytes.
    pub(super) stream: Arc<str>,
    /// Its numbers.
    pub(super) range: RangeInclusive<u64>,
    /// Where its window stopped; of a dead letter, when it was rejected.
    pub(super) time: WallTime,
}

/// Where a record stands, its head included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// From the start of the file.
    pub(super) offset: u64,
    /// In bytes.
    pub(super) length: u32,
}

/// A record as it was read.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) head: Head,
    pub(super) body: Body<'a>,
}

/// What a scan came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ScanEnd {
    /// Where the last whole record ends; the rest of the file is a torn or zeroed tail.
    pub(super) valid_length: u64,
    /// Bytes before that which belong to no record.
    pub(super) skipped_bytes: u64,
    /// Bytes behind it.
    pub(super) torn_bytes: u64,
    /// The head of the record that the tail is torn in, where that much is left of it.
    pub(super) torn: Option<Head>,
}

/// Why a file cannot be opened as a segment.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    /// The file system says so.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is something else, or of another output: better left alone.
    #[error("{0}")]
    Foreign(String),
    /// Another version of the probe wrote it.
    #[error("it has version {0} of the format, which this version of the probe does not know")]
    Version(u32),
    /// It is empty, a part of a header, or zeros: its creation was cut off, and nothing was ever in it.
    #[error("it is empty: its creation was cut off")]
    Blank,
}

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// The file system says so.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// There is something else in its place.
    #[error("{0}")]
    Damaged(&'static str),
}

/// An open segment.
#[derive(Debug)]
pub(super) struct Segment {
    file: File,
    output: String,
    /// Where records begin.
    start: u64,
    /// Where the next record goes.
    length: u64,
    buffer: Vec<u8>,
}

impl Segment {
    /// Makes a new file for its owner alone. `output` has at most 255 bytes.
    pub(super) fn create(path: &Path, kind: Kind, output: &str) -> io::Result<Self> {
        let header = format::header(kind, output)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        if let Err(error) = file.write_all_at(&header, 0) {
            // Nothing is lost with it, and an empty file is no use to anybody.
            drop(std::fs::remove_file(path));
            return Err(error);
        }
        let start = header.len() as u64;
        Ok(Self {
            file,
            output: output.to_owned(),
            start,
            length: start,
            buffer: Vec::new(),
        })
    }

    /// Opens a file of this output to append to it.
    pub(super) fn open(path: &Path, kind: Kind, output: &str) -> Result<Self, OpenError> {
        let segment = Self::open_with(OpenOptions::new().read(true).write(true), path, kind)?;
        // The name of a damaged header is not known; the file stands in the folder of this output.
        if !segment.output.is_empty() && segment.output != output {
            let message = format!("it belongs to the output {:?}", segment.output);
            return Err(OpenError::Foreign(message));
        }
        Ok(segment)
    }

    /// Opens a file of any output to read what is in it now.
    pub(super) fn view(path: &Path, kind: Kind) -> Result<Self, OpenError> {
        Self::open_with(OpenOptions::new().read(true), path, kind)
    }

    fn open_with(options: &mut OpenOptions, path: &Path, kind: Kind) -> Result<Self, OpenError> {
        // A pipe by that name is refused, not waited for.
        let other = || OpenError::Foreign("it is not a regular file".to_owned());
        let file = match options.custom_flags(libc::O_NONBLOCK).open(path) {
            Err(error) if error.kind() == ErrorKind::IsADirectory => return Err(other()),
            file => file?,
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(other());
        }
        let mut segment = Self {
            file,
            output: String::new(),
            start: 0,
            length: metadata.len(),
            buffer: Vec::new(),
        };
        segment.check_header(kind)?;
        Ok(segment)
    }

    fn check_header(&mut self, kind: Kind) -> Result<(), OpenError> {
        let mut bytes = [0; HEADER + format::LONGEST_OUTPUT];
        let got = scan::read_at(&self.file, &mut bytes, 0)?;
        match format::parse_header(&bytes[..got]) {
            Ok(header) if header.version != format::VERSION => {
                Err(OpenError::Version(header.version))
            }
            Ok(header) if header.kind != format::kind_code(kind) => Err(OpenError::Foreign(
                "there is another kind of records in it".to_owned(),
            )),
            Ok(header) => {
                header.output.clone_into(&mut self.output);
                self.start = header.length as u64;
                Ok(())
            }
            Err(error) => {
                // A damaged header must not take the records with it: they identify themselves.
                if self.has_record()? {
                    return Ok(());
                }
                match error {
                    HeaderError::Cut => Err(OpenError::Blank),
                    HeaderError::Wrong if self.is_zero()? => Err(OpenError::Blank),
                    HeaderError::Wrong => Err(OpenError::Foreign("it is no segment".to_owned())),
                }
            }
        }
    }

    /// The output in the header; empty if the header is damaged.
    #[cfg(test)]
    pub(super) fn output(&self) -> &str {
        &self.output
    }

    /// Whether only the header is damaged.
    pub(super) fn header_is_damaged(&self) -> bool {
        self.start == 0
    }

    /// Appends a record with one write. If that is cut short the file stays as it was: the disk is full.
    pub(super) fn append(&mut self, head: &Head, body: Body<'_>) -> io::Result<Place> {
        self.buffer.clear();
        format::record(head, body, &mut self.buffer)?;
        let place = Place {
            offset: self.length,
            length: u32::try_from(self.buffer.len())
                .map_err(|_| io::Error::from(ErrorKind::FileTooLarge))?,
        };
        let result = match self.file.write_at(&self.buffer, self.length) {
            Ok(written) if written == self.buffer.len() => {
                self.length += u64::from(place.length);
                Ok(place)
            }
            Ok(_) => Err(io::Error::from(ErrorKind::StorageFull)),
            Err(error) => Err(error),
        };
        if result.is_err() {
            // If this fails too, the next record overwrites what is there.
            drop(self.file.set_len(self.length));
        }
        self.buffer.shrink_to(1 << 20);
        result
    }

    /// Reads a record into `buffer`, and checks it.
    pub(super) fn read<'a>(
        &self,
        place: Place,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Record<'a>, ReadError> {
        let end = place.offset.checked_add(u64::from(place.length));
        if end.is_none_or(|end| end > self.length) {
            return Err(ReadError::Damaged("it ends beyond the file"));
        }
        buffer.clear();
        buffer.resize(place.length as usize, 0);
        let got = scan::read_at(&self.file, buffer, place.offset)?;
        let Parsed::Head(head) = format::parse(&buffer[..got]) else {
            return Err(ReadError::Damaged("its head is damaged"));
        };
        let body = &buffer[head.length..got];
        if body.len() != head.body_length as usize || !head.fits(body) {
            return Err(ReadError::Damaged("its body is damaged"));
        }
        Ok(Record {
            head: head.to_head(None),
            body: Body {
                bytes: body,
                compressed: head.compressed,
            },
        })
    }

    /// Makes what was written survive a power cut.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Cuts off what is behind the last whole record, so that appending goes on there.
    pub(super) fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)?;
        self.length = length;
        Ok(())
    }

    /// Bytes up to where the next record goes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Whether no record was written yet.
    pub(super) fn is_empty(&self) -> bool {
        self.length == self.start
    }

    /// Whether the file still has a name: nobody finds what is written to one that was deleted.
    pub(super) fn is_linked(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.nlink() > 0)
    }
}

#[cfg(test)]
mod tests;
