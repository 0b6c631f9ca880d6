//! What `cargo xtask bench` measures of a spool by itself.

use std::{
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Next, Settings, Spool};
use crate::{
    model::{Envelope, Numbered, Part, Stream},
    pipeline::{WhenFull, inbox::BATCH, streams::Ends},
};

/// What it took to pass envelopes through a spool.
#[derive(Debug, Clone, Copy)]
pub struct Passed {
    /// Until the last one was trimmed and everything was on the disk.
    pub took: Duration,
    /// Of the records that were written.
    pub bytes: u64,
}

/// Once a second, as the sync policy `interval` has it.
const SYNC: Duration = Duration::from_secs(1);
/// The bound of the spool.
const BOUND: u64 = 1 << 30;

/// Passes `count` envelopes through a new spool, these again and again: each is appended, read when so many (`lag`) have been
/// appended behind it, marked as handed over and delivered, and trimmed; in the batches and with the notes and syncs that the
/// probe's own thread makes with the sync policy `interval`.
///
/// # Errors
/// The file system's, or the spool did not give back what it was given.
pub fn pass(
    folder: &Path,
    envelopes: &[Arc<Envelope>],
    count: u64,
    lag: u64,
) -> io::Result<Passed> {
    let settings = Settings {
        folder: folder.to_owned(),
        output: "bench".to_owned(),
        bytes: BOUND,
        when_full: WhenFull::Coalesce,
        syncs: true,
        boot_id: "bench".to_owned(),
    };
    let (spool, _) = Spool::open(settings, &Ends::new())?;
    let begin = Instant::now();
    let mut passing = Passing {
        spool,
        synced: begin,
        appended: 0,
        read: 0,
        bytes: 0,
        stream: Arc::new(Stream {
            id: "bench-0".into(),
            previous: None,
        }),
    };
    let mut left = envelopes
        .iter()
        .cycle()
        .take(usize::try_from(count).unwrap_or(0));
    while passing.read < count {
        passing.append(left.by_ref().take(BATCH))?;
        let due = if passing.appended == count {
            count
        } else {
            passing.appended.saturating_sub(lag)
        };
        passing.read(due.saturating_sub(passing.read).min(BATCH as u64))?;
        passing.turn()?;
    }
    passing.spool.close()?;
    if passing.spool.merged() > 0 {
        return Err(io::Error::other("the spool was too small"));
    }
    Ok(Passed {
        took: begin.elapsed(),
        bytes: passing.bytes,
    })
}

/// A spool with envelopes on their way.
struct Passing {
    spool: Spool,
    synced: Instant,
    appended: u64,
    read: u64,
    bytes: u64,
    stream: Arc<Stream>,
}

impl Passing {
    fn append<'a>(&mut self, envelopes: impl Iterator<Item = &'a Arc<Envelope>>) -> io::Result<()> {
        let before = self.spool.live();
        for envelope in envelopes {
            self.appended += 1;
            let record = Numbered {
                stream: Arc::clone(&self.stream),
                range: self.appended..=self.appended,
                part: Part::WHOLE,
                gaps: Vec::new(),
                envelope: Arc::clone(envelope),
            };
            self.spool.append("bench", &record)?;
        }
        self.bytes += self.spool.live() - before;
        self.spool.make_room(&mut Vec::new())?;
        self.spool.note()
    }

    fn read(&mut self, count: u64) -> io::Result<()> {
        let mut settled = Vec::new();
        for _ in 0..count {
            let Next::Record(ticket, record) = self.spool.next(|record| record) else {
                return Err(io::Error::other("the spool does not give back a record"));
            };
            self.read += 1;
            if record.range != (self.read..=self.read) {
                return Err(io::Error::other("the spool gives another record"));
            }
            settled.push((ticket, record.envelope.window.stop));
        }
        // Marked before it leaves.
        self.spool.note()?;
        for (ticket, stop_time) in settled {
            self.spool.delivered(ticket, stop_time);
        }
        Ok(())
    }

    /// The end of a turn of the probe's thread.
    fn turn(&mut self) -> io::Result<()> {
        self.spool.note()?;
        self.spool.trim()?;
        if self.synced.elapsed() >= SYNC {
            self.synced = Instant::now();
            self.spool.check(&mut Vec::new())?;
            self.spool.sync()?;
        }
        Ok(())
    }
}
