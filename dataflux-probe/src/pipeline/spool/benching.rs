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
    /// Of that, until all were appended.
    pub appended: Duration,
    /// Of the records that were written.
    pub bytes: u64,
}

/// Once a second, as the sync policy `interval` has it.
const SYNC: Duration = Duration::from_secs(1);

/// Appends `count` envelopes to a new spool, these again and again, then reads each, marks it as handed over and delivered,
/// and trims, in the batches and with the notes and syncs that the probe's own thread makes with the sync policy `interval`.
///
/// # Errors
/// The file system's, or the spool did not give back what it was given.
pub fn pass(folder: &Path, envelopes: &[Arc<Envelope>], count: u64) -> io::Result<Passed> {
    let settings = Settings {
        folder: folder.to_owned(),
        output: "bench".to_owned(),
        bytes: 16 << 30,
        when_full: WhenFull::Coalesce,
        syncs: true,
        boot_id: "bench".to_owned(),
    };
    let (mut spool, _) = Spool::open(settings, &Ends::new())?;
    let stream = Arc::new(Stream {
        id: "bench-0".into(),
        previous: None,
    });
    let begin = Instant::now();
    let mut synced = begin;
    for (number, envelope) in (1..=count).zip(envelopes.iter().cycle()) {
        let record = Numbered {
            stream: Arc::clone(&stream),
            range: number..=number,
            part: Part::WHOLE,
            gaps: Vec::new(),
            envelope: Arc::clone(envelope),
        };
        spool.append("bench", &record)?;
        if number % BATCH as u64 == 0 || number == count {
            spool.make_room(&mut Vec::new())?;
            turn(&mut spool, &mut synced)?;
        }
    }
    let bytes = spool.live();
    let appended = begin.elapsed();
    let mut expected = 0;
    while expected < count {
        let mut settled = Vec::new();
        while settled.len() < BATCH {
            match spool.next(|record| record) {
                Next::Record(ticket, record) => {
                    expected += 1;
                    if record.range != (expected..=expected) {
                        return Err(io::Error::other("the spool gives another record"));
                    }
                    settled.push((ticket, record.envelope.window.stop));
                }
                Next::Lost(_) => return Err(io::Error::other("the spool lost a record")),
                Next::Nothing => break,
            }
        }
        // Marked before it leaves.
        spool.note()?;
        for (ticket, stop_time) in settled {
            spool.delivered(ticket, stop_time);
        }
        turn(&mut spool, &mut synced)?;
    }
    spool.close()?;
    Ok(Passed {
        took: begin.elapsed(),
        appended,
        bytes,
    })
}

/// The end of a turn of the probe's thread.
fn turn(spool: &mut Spool, synced: &mut Instant) -> io::Result<()> {
    spool.note()?;
    spool.trim()?;
    if synced.elapsed() >= SYNC {
        *synced = Instant::now();
        spool.check(&mut Vec::new())?;
        spool.sync()?;
    }
    Ok(())
}
