//! Finds the records of a segment by their heads alone, and goes on behind what is damaged.

use std::{
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt as _,
    sync::Arc,
};

use super::{
    Head, Place, ScanEnd, Segment,
    format::{MAGIC, Parsed, RawHead, parse},
};

/// How many bytes are read for a head, where the bodies between are worth skipping.
const STEP: usize = 256;
/// How many bytes are read at once otherwise.
const CHUNK: usize = 64 << 10;
/// Reading such a body costs less than another system call.
const SHORT: u32 = 4_096;

impl Segment {
    /// Gives the place and the head of every record, in the order of the file. A body may be damaged all the same.
    pub(in crate::pipeline::spool) fn scan(
        &self,
        each: &mut dyn FnMut(Place, Head),
    ) -> io::Result<ScanEnd> {
        let mut bytes = Bytes::new(&self.file, self.length);
        let mut end = ScanEnd {
            valid_length: self.start.min(self.length),
            ..ScanEnd::default()
        };
        let mut stream: Option<Arc<str>> = None;
        let mut at = end.valid_length;
        while at < self.length {
            if let Some(raw) = bytes.head(at)? {
                let head = raw.to_head(stream.as_ref());
                let (length, body_length) = (raw.record_length(), raw.body_length);
                stream = Some(Arc::clone(&head.stream));
                if at + u64::from(length) <= self.length {
                    bytes.step = if body_length > SHORT { STEP } else { CHUNK };
                    end.skipped_bytes += at - end.valid_length;
                    let place = Place { offset: at, length };
                    at += u64::from(length);
                    end.valid_length = at;
                    end.torn = None;
                    each(place, head);
                    continue;
                }
                end.torn.get_or_insert(head);
            }
            match bytes.search(at + 1)? {
                Some(next) => at = next,
                None => break,
            }
        }
        end.torn_bytes = self.length - end.valid_length;
        Ok(end)
    }

    /// Whether there is a record anywhere.
    pub(super) fn has_record(&self) -> io::Result<bool> {
        let mut bytes = Bytes::new(&self.file, self.length);
        Ok(bytes.head(0)?.is_some() || bytes.search(1)?.is_some())
    }

    /// Whether there is nothing but zeros.
    pub(super) fn is_zero(&self) -> io::Result<bool> {
        let mut bytes = Bytes::new(&self.file, self.length);
        bytes.step = CHUNK;
        let mut at = 0;
        while at < self.length {
            let chunk = bytes.at(at, 1)?;
            if chunk.is_empty() {
                break;
            }
            if chunk.iter().any(|&byte| byte != 0) {
                return Ok(false);
            }
            at += chunk.len() as u64;
        }
        Ok(true)
    }
}

/// Fills `buffer` from this place of the file, as far as the file goes.
pub(super) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], offset + got as u64) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

/// The bytes of a file up to `end`, of which a piece is kept.
struct Bytes<'a> {
    file: &'a File,
    end: u64,
    /// Bytes to read at once.
    step: usize,
    buffer: Vec<u8>,
    /// Of the file's bytes in the buffer.
    start: u64,
}

impl<'a> Bytes<'a> {
    fn new(file: &'a File, end: u64) -> Self {
        Self {
            file,
            end,
            step: STEP,
            buffer: Vec::new(),
            start: 0,
        }
    }

    /// What is known from this place on, but at least `want` bytes unless the file ends before.
    fn at(&mut self, offset: u64, want: usize) -> io::Result<&[u8]> {
        let left = usize::try_from(self.end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let want = want.min(left);
        let known = offset
            .checked_sub(self.start)
            .and_then(|skip| usize::try_from(skip).ok())
            .filter(|skip| skip + want <= self.buffer.len());
        let skip = match known {
            Some(skip) => skip,
            None => {
                self.buffer.resize(self.step.max(want).min(left), 0);
                let got = read_at(self.file, &mut self.buffer, offset)?;
                self.buffer.truncate(got);
                self.start = offset;
                0
            }
        };
        Ok(&self.buffer[skip..])
    }

    /// The head at this place, if there is one.
    fn head(&mut self, at: u64) -> io::Result<Option<RawHead<'_>>> {
        let mut want = 1;
        while let Parsed::Cut(length) = parse(self.at(at, want)?) {
            if length <= want {
                return Ok(None);
            }
            want = length;
        }
        Ok(match parse(self.at(at, want)?) {
            Parsed::Head(head) => Some(head),
            _ => None,
        })
    }

    /// Where the next head begins, at `from` or behind it.
    fn search(&mut self, from: u64) -> io::Result<Option<u64>> {
        self.step = CHUNK;
        let mut at = from;
        while at < self.end {
            let bytes = self.at(at, MAGIC.len())?;
            match bytes.iter().position(|&byte| byte == MAGIC[0]) {
                Some(skip) => {
                    at += skip as u64;
                    if self.head(at)?.is_some() {
                        return Ok(Some(at));
                    }
                    at += 1;
                }
                None if bytes.is_empty() => break,
                None => at += bytes.len() as u64,
            }
        }
        Ok(None)
    }
}
