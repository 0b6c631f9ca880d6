//! Keeps what an output rejected for people to look at, bounded in bytes: the oldest go first.
//!
//! Nothing depends on it. A disk that fails is told once and never stops the output.

use std::{
    collections::VecDeque,
    fs::{self, DirBuilder},
    io::{self, ErrorKind},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::mpsc::{SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, bail};

use super::{
    codec::Codec,
    segment::{Head, Kind, Segment},
};
use crate::{
    config::now,
    model::{Cause, Numbered},
};

/// Parts of the bound that are deleted at once.
const SEGMENTS: u64 = 8;
/// Smaller files would be more trouble than they save.
const SMALLEST_SEGMENT: u64 = 64 << 10;
/// More than a record's head takes without the id of its stream.
const HEAD: u64 = 64;

/// The rejected records of one output.
pub(in crate::pipeline) struct DeadLetters {
    folder: PathBuf,
    output: String,
    bytes: u64,
    /// `None` until there is something to write, and after an error.
    files: Option<Files>,
    codec: Codec,
    /// The last record could not be kept, which was told.
    failing: bool,
}

/// What is in the folder.
struct Files {
    /// Number and length of those that are not written to any more, oldest first.
    full: VecDeque<(u32, u64)>,
    number: u32,
    segment: Segment,
}

/// A record, its cause and what the other end said.
pub(in crate::pipeline) type Letter = (Numbered, Cause, String);

/// How many letters may wait for the disk.
const WAITING: usize = 64;

impl DeadLetters {
    /// Starts a thread that keeps what it is sent until the sender is dropped.
    pub(in crate::pipeline) fn start(
        mut self,
    ) -> anyhow::Result<(SyncSender<Letter>, JoinHandle<()>)> {
        let (sender, letters) = sync_channel::<Letter>(WAITING);
        let thread = thread::Builder::new()
            .name("dead-letters".to_owned())
            .spawn(move || {
                for (record, cause, reason) in letters {
                    self.put(&record, cause, &reason);
                }
            })
            .context("starting the thread of the dead letters")?;
        Ok((sender, thread))
    }

    /// Will keep at most `bytes` in `folder`, which is made when it is needed.
    pub(in crate::pipeline) fn new(folder: PathBuf, output: String, bytes: u64) -> Self {
        Self {
            folder,
            output,
            bytes,
            files: None,
            codec: Codec::new(),
            failing: false,
        }
    }

    /// Keeps a record, with what the other end said.
    fn put(&mut self, record: &Numbered, cause: Cause, reason: &str) {
        match self.try_put(record, cause, reason) {
            Ok(()) => self.failing = false,
            Err(error) => {
                // What is true of the folder is found out anew.
                self.files = None;
                if !self.failing {
                    tracing::warn!(
                        "cannot keep what output {} rejected in {}: {error:#}",
                        self.output,
                        self.folder.display()
                    );
                }
                self.failing = true;
            }
        }
    }

    fn try_put(&mut self, record: &Numbered, cause: Cause, reason: &str) -> anyhow::Result<()> {
        let head = Head {
            stream: record.stream.id.clone(),
            range: record.range.clone(),
            time: now(),
        };
        let body = self.codec.encode_letter(reason, cause, &record.envelope);
        let length = HEAD + (head.stream.len() + body.bytes.len()) as u64;
        let files = match &mut self.files {
            Some(files) if files.segment.is_linked()? => files,
            files => files.insert(Files::open(&self.folder, &self.output)?),
        };
        if files.segment.length() + length > (self.bytes / SEGMENTS).max(SMALLEST_SEGMENT) {
            files.begin(&self.folder, &self.output)?;
        }
        files.make_room(&self.folder, self.bytes, length)?;
        files.segment.append(&head, body).context("cannot write")?;
        Ok(())
    }
}

impl Files {
    /// Goes on with the newest file, if it is one of this output.
    fn open(folder: &Path, output: &str) -> anyhow::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .context("cannot make the folder")?;
        let mut full = Vec::new();
        let mut newest = 0;
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let Some(number) = number(&path) else {
                continue;
            };
            newest = newest.max(number);
            // What is not ours is not ours to delete.
            if let Ok(segment) = Segment::view(&path, Kind::DeadLetters) {
                full.push((number, segment.length()));
            }
        }
        full.sort_unstable();
        let mut full = VecDeque::from(full);
        let opened = Segment::open(&path(folder, newest), Kind::DeadLetters, output);
        if let Ok(mut segment) = opened
            && !segment.header_is_damaged()
        {
            let end = segment.scan(&mut |_, _| ())?;
            segment.truncate(end.valid_length)?;
            full.pop_back();
            return Ok(Self {
                full,
                number: newest,
                segment,
            });
        }
        let number = newest + 1;
        Ok(Self {
            full,
            number,
            segment: create(folder, number, output)?,
        })
    }

    /// Begins the next file, unless nothing is in this one yet.
    fn begin(&mut self, folder: &Path, output: &str) -> io::Result<()> {
        if self.segment.is_empty() {
            return Ok(());
        }
        let next = create(folder, self.number + 1, output)?;
        self.full.push_back((self.number, self.segment.length()));
        self.segment = next;
        self.number += 1;
        Ok(())
    }

    /// Deletes the oldest files until `length` more bytes fit into `bytes`.
    fn make_room(&mut self, folder: &Path, bytes: u64, length: u64) -> anyhow::Result<()> {
        let mut held =
            self.segment.length() + self.full.iter().map(|&(_, length)| length).sum::<u64>();
        if self.segment.length() + length > bytes {
            bail!("a record of {length} bytes is too large for dead_letter_bytes = {bytes}");
        }
        while held + length > bytes
            && let Some((oldest, gone)) = self.full.pop_front()
        {
            match fs::remove_file(path(folder, oldest)) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).context("cannot delete the oldest");
                }
                _ => held -= gone,
            }
        }
        Ok(())
    }
}

fn create(folder: &Path, number: u32, output: &str) -> io::Result<Segment> {
    Segment::create(&path(folder, number), Kind::DeadLetters, output)
}

fn path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number:010}.seg"))
}

/// The number of a file, if it is named like one of these.
fn number(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?.strip_suffix(".seg")?;
    (name.len() == 10).then(|| name.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        model::{Envelope, Part, Stream, Window},
        pipeline::fakes::source,
    };

    fn record(number: u64, series: u64) -> Numbered {
        // Values that do not compress away.
        let values: Vec<u64> = (0..series)
            .map(|at| (number * series + at).wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .collect();
        Numbered {
            stream: Arc::new(Stream {
                id: "main-1".into(),
                previous: None,
            }),
            range: number..=number,
            part: Part::WHOLE,
            gaps: Vec::new(),
            envelope: Arc::new(Envelope {
                window: Window::default(),
                metadata: Arc::default(),
                sources: vec![source("fake", Window::default(), &values)],
            }),
        }
    }

    /// The numbers that are kept, and the bytes of the files.
    fn kept(folder: &Path) -> (Vec<u64>, u64) {
        let mut paths: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        let (mut numbers, mut bytes) = (Vec::new(), 0);
        let (mut codec, mut buffer) = (Codec::new(), Vec::new());
        for path in paths {
            bytes += fs::metadata(&path).unwrap().len();
            let segment = Segment::view(&path, Kind::DeadLetters).unwrap();
            segment
                .scan(&mut |place, head| {
                    let record = segment.read(place, &mut buffer).unwrap();
                    let letter = codec.decode_letter(record.body).unwrap();
                    assert_eq!(letter.cause, Cause::Rejected);
                    assert_eq!(letter.reason, format!("no {}", head.range.start()));
                    numbers.push(*head.range.start());
                })
                .unwrap();
        }
        (numbers, bytes)
    }

    fn put(letters: &mut DeadLetters, number: u64, series: u64) {
        letters.put(
            &record(number, series),
            Cause::Rejected,
            &format!("no {number}"),
        );
    }

    #[test]
    fn the_oldest_go_when_the_bound_is_reached() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("dead_letters/main");
        let bytes = 256 << 10;
        let new = || DeadLetters::new(folder.clone(), "main".to_owned(), bytes);
        let mut letters = new();
        assert!(
            !folder.exists(),
            "nothing is written before something is rejected"
        );
        for number in 1..=60 {
            put(&mut letters, number, 500);
            let (numbers, held) = kept(&folder);
            assert!(held <= bytes, "{held}");
            assert_eq!(numbers.last(), Some(&number));
            // Another start goes on where this one was.
            if number % 13 == 0 {
                letters = new();
            }
        }
        let (numbers, held) = kept(&folder);
        assert!(numbers[0] > 1 && held > bytes / 2, "{held}");
        assert!(numbers.iter().copied().eq(numbers[0]..=60));
    }

    #[test]
    fn an_error_stops_nothing_and_what_comes_later_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("main");
        fs::write(&folder, "in the way").unwrap();
        let mut letters = DeadLetters::new(folder.clone(), "main".to_owned(), 1 << 20);
        put(&mut letters, 1, 1);
        fs::remove_file(&folder).unwrap();
        put(&mut letters, 2, 1);
        assert_eq!(kept(&folder).0, [2]);
        fs::remove_dir_all(&folder).unwrap();
        put(&mut letters, 3, 1);
        assert_eq!(kept(&folder).0, [3]);
        put(&mut letters, 4, 1 << 19);
        put(&mut letters, 5, 1);
        assert_eq!(
            kept(&folder).0,
            [3, 5],
            "the fourth is larger than the bound"
        );
        // A file of somebody else is left alone.
        let next = path(&folder, 9);
        fs::write(&next, "mine").unwrap();
        let mut letters = DeadLetters::new(folder.clone(), "main".to_owned(), 1 << 20);
        put(&mut letters, 6, 1);
        assert_eq!(fs::read(&next).unwrap(), b"mine");
        fs::remove_file(&next).unwrap();
        assert_eq!(kept(&folder).0, [3, 5, 6]);
    }

    #[test]
    fn a_torn_record_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let new = || DeadLetters::new(folder.path().to_owned(), "main".to_owned(), 1 << 20);
        let mut letters = new();
        put(&mut letters, 1, 9);
        put(&mut letters, 2, 9);
        let file = path(folder.path(), 1);
        let torn = fs::read(&file).unwrap();
        fs::write(&file, &torn[..torn.len() - 1]).unwrap();
        put(&mut new(), 3, 9);
        assert_eq!(kept(folder.path()).0, [1, 3]);
    }
}
