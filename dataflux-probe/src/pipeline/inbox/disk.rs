//! The side of an inbox that the thread of its spool sees.

use std::{
    collections::{HashMap, VecDeque},
    ops::RangeInclusive,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use super::{BATCH, Held, Inbox, STUCK};
use crate::{
    model::{Cause, Gap, Numbered, Stream, WallTime},
    pipeline::{
        resolution::Resolution,
        spool::{self, Loss, Recovered, worker::Settled},
    },
};

/// What is known of a record of the disk that is with the delivery.
pub(super) struct HandedOver {
    pub(super) stream: Arc<Stream>,
    pub(super) range: RangeInclusive<u64>,
    pub(super) gaps: Vec<Gap>,
    pub(super) stop_time: WallTime,
}

impl HandedOver {
    pub(super) fn new(record: &Numbered) -> Self {
        Self {
            stream: Arc::clone(&record.stream),
            range: record.range.clone(),
            gaps: record.gaps.clone(),
            stop_time: record.envelope.window.stop,
        }
    }
}

/// What the delivery and the spool's thread tell each other.
#[derive(Default)]
pub(super) struct Disk {
    pub(super) ready: VecDeque<(spool::Ticket, Numbered)>,
    /// With the delivery. The disk has their envelopes.
    pub(super) out: HashMap<spool::Ticket, HandedOver>,
    pub(super) settled: Vec<Settled>,
    /// How many records the delivery would take now.
    pub(super) wanted: usize,
    /// Grows with what gets through, from 0 while nothing does.
    pub(super) batch: usize,
    /// With the spool's thread, on the way to the disk.
    pub(super) taken: usize,
    /// Records and bytes on the disk.
    pub(super) len: usize,
    pub(super) bytes: u64,
    /// The disk fails: records leave from memory.
    pub(super) broken: bool,
    /// It takes nothing more until something is settled; what is in memory merges.
    pub(super) full: bool,
    /// What is being merged has changed since the disk was told.
    pub(super) merging_changed: bool,
    /// Since when the thread has been at the disk.
    pub(super) busy: Option<Instant>,
    /// People know that it is stuck there.
    pub(super) stuck_is_told: bool,
    pub(super) finish: bool,
    /// Its thread waits to be woken.
    pub(super) asleep: bool,
}

impl Disk {
    /// How many records to have ready at once.
    pub(super) fn batch(&self) -> usize {
        self.batch.clamp(1, BATCH)
    }

    /// Whether its thread has nothing to do, with this many records in memory.
    pub(super) fn is_idle(&self, waiting: usize) -> bool {
        let more = self.len > self.out.len() + self.ready.len();
        // Several at a time cost less.
        let asked = 2 * self.wanted > self.batch() && more
            || waiting > 0 && !self.full
            || waiting == 0 && self.merging_changed;
        !self.finish && (self.broken || self.settled.is_empty() && !asked)
    }

    /// Whether records go past it.
    pub(super) fn is_passed_by(&self) -> bool {
        self.broken || self.is_stuck()
    }

    pub(super) fn is_stuck(&self) -> bool {
        self.busy.is_some_and(|since| since.elapsed() > STUCK)
    }
}

/// For the spool's thread.
#[derive(Default)]
pub(in crate::pipeline) struct Work {
    /// With the name of their stream.
    pub(in crate::pipeline) incoming: Vec<(String, Numbered)>,
    /// What is being merged, under the numbers that come next, if the disk is to keep it.
    pub(in crate::pipeline) merging: Option<Vec<(String, Numbered)>>,
    pub(in crate::pipeline) settled: Vec<Settled>,
    /// How many records to have ready.
    pub(in crate::pipeline) wanted: usize,
    /// Nothing comes after this.
    pub(in crate::pipeline) finish: bool,
}

impl Inbox {
    /// Waits until there is something to do, or for this long.
    pub(in crate::pipeline) fn work(&self, patience: Duration) -> Work {
        let idle = |held: &mut Held| {
            let waiting = held.queue.waiting();
            held.disk.as_mut().is_some_and(|disk| {
                disk.asleep = disk.is_idle(waiting);
                disk.asleep
            })
        };
        let held = self.lock();
        let waited = self.work.wait_timeout_while(held, patience, idle);
        let (mut held, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let Held {
            resolution,
            streams,
            queue,
            disk,
        } = &mut *held;
        let Some(disk) = disk else {
            return Work::default();
        };
        let limit = if disk.finish { usize::MAX } else { BATCH };
        let incoming: Vec<_> = std::iter::from_fn(|| queue.take_waiting())
            .take(limit)
            .map(|record| {
                (
                    streams
                        .name(&record.stream.id)
                        .unwrap_or_default()
                        .to_owned(),
                    record,
                )
            })
            .collect();
        // What has its number is appended before: the disk must never hold the same windows twice.
        let merging = (disk.merging_changed && queue.waiting() == 0).then(|| {
            disk.merging_changed = false;
            let pending = resolution.iter().flat_map(Resolution::pending);
            pending.map(|shaped| streams.preview(shaped)).collect()
        });
        disk.asleep = false;
        disk.full &= disk.settled.is_empty();
        disk.taken = incoming.len();
        disk.busy = Some(Instant::now());
        Work {
            incoming,
            merging,
            settled: std::mem::take(&mut disk.settled),
            wanted: disk.wanted,
            finish: disk.finish,
        }
    }

    /// What could not be taken in, because the spool is full or the disk fails.
    pub(in crate::pipeline) fn give_back(
        &self,
        incoming: Vec<(String, Numbered)>,
        settled: Vec<Settled>,
        full: bool,
    ) {
        let mut held = self.lock();
        for (_, record) in incoming.into_iter().rev() {
            held.queue.put_back(record);
        }
        held.merging_changed();
        if let Some(disk) = &mut held.disk {
            disk.taken = 0;
            disk.full = full;
            disk.settled.splice(0..0, settled);
        }
    }

    /// What the disk holds, at the end of a piece of work.
    pub(in crate::pipeline) fn publish_disk(&self, holds: Option<(usize, u64)>) {
        let mut held = self.lock();
        if let Some(disk) = &mut held.disk {
            (disk.busy, disk.taken) = (None, 0);
            if std::mem::take(&mut disk.stuck_is_told) {
                let output = &self.output;
                tracing::info!(output, "the disk of the spool answers again");
            }
            (disk.len, disk.bytes) = holds.unwrap_or_default();
        }
        self.publish(&mut held);
        let news = held
            .disk
            .as_ref()
            .is_none_or(|disk| disk.len == 0 || disk.is_passed_by() || !disk.ready.is_empty());
        if news {
            self.filled.notify_one();
        }
    }

    /// Whether records have to leave from memory.
    pub(in crate::pipeline) fn set_broken(&self, broken: bool) {
        let mut held = self.lock();
        if let Some(disk) = &mut held.disk {
            disk.broken = broken;
        }
        if broken {
            held.merging_changed();
        }
    }

    /// Lets a record announce what was lost before it.
    pub(in crate::pipeline) fn announce(&self, record: Numbered) -> Numbered {
        self.lock().streams.announce(record)
    }

    /// Records that the delivery may have now.
    pub(in crate::pipeline) fn ready(&self, records: Vec<(spool::Ticket, Numbered)>) {
        if let Some(disk) = &mut self.lock().disk {
            disk.wanted = disk.wanted.saturating_sub(records.len());
            disk.ready.extend(records);
        }
    }

    /// What the spool knows of earlier starts.
    pub(in crate::pipeline) fn recovered(&self, recovered: Recovered) {
        self.counters.lose(Cause::Damaged, recovered.damaged);
        self.lock().streams.recover(recovered.earlier);
    }

    /// A record that the spool lost.
    pub(in crate::pipeline) fn lost_on_disk(&self, loss: &Loss) {
        self.counters
            .lose(loss.cause, loss.range.end() - loss.range.start() + 1);
        self.lock().streams.lose_range(
            &loss.stream,
            &loss.range,
            loss.cause,
            &loss.gaps,
            loss.previous.as_ref(),
        );
    }

    /// Those that were handed over from memory, at the end.
    pub(in crate::pipeline) fn take_handed(&self) -> Vec<(String, Numbered)> {
        let mut held = self.lock();
        let Held { streams, queue, .. } = &mut *held;
        let handed = queue.take_handed().into_iter();
        handed
            .map(|record| {
                (
                    streams
                        .name(&record.stream.id)
                        .unwrap_or_default()
                        .to_owned(),
                    record,
                )
            })
            .collect()
    }

    /// The delivery is over: what is left goes to the disk, and the thread ends.
    pub(in crate::pipeline) fn finish(&self) {
        match &mut self.lock().disk {
            Some(disk) => disk.finish = true,
            None => self.reject_no_more(),
        }
        self.work.notify_all();
    }

    /// No record will be rejected any more.
    pub(in crate::pipeline) fn reject_no_more(&self) {
        *self.dead_letters() = None;
    }
}
