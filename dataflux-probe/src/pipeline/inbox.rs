//! Where ticks hand envelopes to an output: numbers and queues them, and never waits.

mod disk;

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::SyncSender,
    },
    time::Duration,
};

use tokio::sync::Notify;

use super::{
    counters::OutputCounters,
    envelope::{Shaped, Tick},
    queue::{self, Queue, width},
    resolution::Resolution,
    shape::{Entities, Shape},
    spool::{self, dead_letters::Letter, worker::Settled},
    streams::{Ends, Streams},
};
use crate::model::{Cause, Numbered, Stream};
pub(super) use disk::Work;
use disk::{Disk, HandedOver};

/// The spool's thread takes in this many records at once, and has at most this many ready.
pub(super) const BATCH: usize = 32;

/// A disk that has not answered for this long is as good as broken.
const STUCK: Duration = Duration::from_secs(2);

/// Names a record from its first hand-over until it is delivered or lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Ticket {
    Memory(queue::Ticket),
    Disk(spool::Ticket),
}

/// One output's numbers and queue, shared by the ticks, which fill it, the delivery, which empties it, and the thread of its
/// spool, if it has one.
pub(super) struct Inbox {
    output: String,
    shape: Arc<Shape>,
    entities: Entities,
    held: Mutex<Held>,
    /// Where rejected records go.
    dead_letters: Mutex<Option<SyncSender<Letter>>>,
    /// There is something to do for the spool's thread.
    work: Condvar,
    /// There is something new to deliver.
    pub(super) filled: Notify,
    /// The logger is to open its files anew.
    pub(super) reopen: Notify,
    /// How long after a tick sends begin, in ns.
    spread: AtomicU64,
    /// What must outlive the process has changed.
    changed: Arc<Notify>,
    pub(super) counters: Arc<OutputCounters>,
}

struct Held {
    /// What is not numbered yet.
    resolution: Option<Resolution>,
    streams: Streams,
    /// In memory: everything, or what the spool has not taken yet.
    queue: Queue,
    disk: Option<Disk>,
}

impl Held {
    fn merging_changed(&mut self) {
        if let (Some(disk), Some(_)) = (&mut self.disk, &self.resolution) {
            disk.merging_changed = true;
        }
    }
}

impl Inbox {
    /// `changed` is told whenever [`Inbox::ends`] says something else. With a spool, its thread is to ask for work.
    pub(super) fn new(
        output: &super::Output,
        streams: Streams,
        changed: Arc<Notify>,
        counters: Arc<OutputCounters>,
        spooled: bool,
    ) -> Self {
        let inbox = Self {
            output: output.name.clone(),
            shape: Arc::clone(&output.shape),
            entities: output.entities,
            held: Mutex::new(Held {
                resolution: output
                    .resolution
                    .map(|length| Resolution::new(length, output.queue_bytes)),
                streams,
                queue: Queue::new(output.queue_bytes, output.when_full),
                disk: spooled.then(Disk::default),
            }),
            dead_letters: Mutex::new(None),
            work: Condvar::new(),
            filled: Notify::new(),
            reopen: Notify::new(),
            spread: AtomicU64::new(0),
            changed,
            counters,
        };
        inbox.set_spread(output.spread);
        inbox
    }

    /// Sends begin this long after a tick.
    pub(super) fn set_spread(&self, spread: Duration) {
        let spread = u64::try_from(spread.as_nanos()).unwrap_or(u64::MAX);
        self.spread.store(spread, Ordering::Relaxed);
    }

    /// How long after a tick sends begin.
    pub(super) fn spread(&self) -> Duration {
        Duration::from_nanos(self.spread.load(Ordering::Relaxed))
    }

    /// Where rejected records go from now on.
    pub(super) fn send_rejected_to(&self, letters: SyncSender<Letter>) {
        *self.dead_letters() = Some(letters);
    }

    /// Accepts what a tick gave.
    pub(super) fn accept(&self, tick: &mut Tick) {
        let mut held = self.lock();
        for shaped in tick.shape(&self.shape) {
            match &mut held.resolution {
                None => self.push(&mut held, shaped),
                Some(resolution) => {
                    if let Some(merged) = resolution.take(shaped.clone()) {
                        self.push(&mut held, &merged);
                    }
                }
            }
        }
        if let Some(disk) = &mut held.disk
            && disk.is_stuck()
            && !std::mem::replace(&mut disk.stuck_is_told, true)
        {
            let output = &self.output;
            tracing::warn!(
                output,
                "the disk of the spool does not answer, going on in memory"
            );
        }
        held.merging_changed();
        self.publish(&mut held);
        self.filled.notify_one();
    }

    /// Accepts what is still being merged: there will be no other tick.
    pub(super) fn flush(&self) {
        let mut held = self.lock();
        let rest = held.resolution.as_mut().map(Resolution::finish);
        for shaped in rest.unwrap_or_default() {
            self.push(&mut held, &shaped);
        }
        held.merging_changed();
        self.publish(&mut held);
        self.filled.notify_one();
    }

    /// Accepts what is still being merged of the stream of a reader that is gone.
    pub(super) fn flush_of(&self, reader: &str) {
        let mut held = self.lock();
        let rest = held.resolution.as_mut();
        if let Some(shaped) = rest.and_then(|resolution| resolution.finish_of(reader)) {
            self.push(&mut held, &shaped);
            held.merging_changed();
            self.publish(&mut held);
            self.filled.notify_one();
        }
    }

    fn push(&self, held: &mut Held, shaped: &Shaped) {
        let record = held.streams.number(shaped);
        self.counters.envelopes.add(1);
        let pushed = held.queue.push(record, shaped.weight);
        self.counters.merged.add(pushed.merged);
        for lost in pushed.lost {
            self.forget(held, &lost, Cause::QueueFull);
        }
    }

    /// The next record to hand over, with what it is to announce.
    pub(super) fn next(&self) -> Option<(Ticket, Numbered)> {
        let mut held = self.lock();
        let Held {
            streams,
            queue,
            disk,
            ..
        } = &mut *held;
        let next = match disk {
            None => memory(queue.next(|record| streams.announce(record))),
            Some(disk) => {
                let next = memory(queue.next_again()).or_else(|| {
                    let (ticket, record) = disk.ready.pop_front()?;
                    disk.out.insert(ticket, HandedOver::new(&record));
                    Some((Ticket::Disk(ticket), record))
                });
                match next {
                    None if disk.is_passed_by() => {
                        memory(queue.next(|record| streams.announce(record)))
                    }
                    next => {
                        disk.wanted = disk.batch().saturating_sub(disk.ready.len());
                        self.wake(disk, queue.waiting());
                        next
                    }
                }
            }
        };
        let (ticket, record) = next?;
        Some((ticket, self.entities.render(record)))
    }

    /// A record that goes again.
    pub(super) fn again(&self, ticket: Ticket) {
        let mut held = self.lock();
        match (ticket, &mut held.disk) {
            (Ticket::Disk(ticket), Some(disk)) => {
                disk.batch = 1;
                if disk.out.remove(&ticket).is_some() {
                    disk.settled.push(Settled::Again(ticket));
                }
                // In their turn, behind this one.
                let ready = disk.ready.drain(..);
                disk.settled
                    .extend(ready.map(|(ticket, _)| Settled::Again(ticket)));
            }
            (Ticket::Memory(ticket), _) => held.queue.again(ticket),
            (Ticket::Disk(_), None) => {}
        }
    }

    /// A record that is safe at the other end.
    pub(super) fn delivered(&self, ticket: Ticket) {
        let mut held = self.lock();
        match (ticket, &mut held.disk) {
            (Ticket::Disk(ticket), Some(disk)) => {
                disk.batch = (disk.batch + 1).min(BATCH);
                if let Some(handed) = disk.out.remove(&ticket) {
                    disk.settled
                        .push(Settled::Delivered(ticket, handed.stop_time));
                }
            }
            (Ticket::Memory(ticket), _) => {
                if let Some(record) = held.queue.remove(ticket) {
                    pass(&mut held, record, None);
                }
            }
            (Ticket::Disk(_), None) => {}
        }
    }

    /// A record that will never be delivered, and why, for people.
    pub(super) fn lose(&self, ticket: Ticket, cause: Cause, reason: &str) {
        tracing::debug!(output = self.output, ?ticket, "lost: {reason}");
        let mut held = self.lock();
        match (ticket, &mut held.disk) {
            (Ticket::Disk(ticket), Some(disk)) => {
                if let Some(handed) = disk.out.remove(&ticket) {
                    disk.settled.push(Settled::Lost {
                        ticket,
                        stop_time: handed.stop_time,
                        cause,
                        reason: reason.to_owned(),
                    });
                    let numbers = handed.range.end() - handed.range.start() + 1;
                    self.counters.lose(cause, numbers);
                    let Stream { id, previous } = &*handed.stream;
                    let previous = previous.as_ref();
                    held.streams
                        .lose_range(id, &handed.range, cause, &handed.gaps, previous);
                }
            }
            (Ticket::Memory(ticket), _) => {
                if let Some(record) = held.queue.remove(ticket) {
                    self.forget(&mut held, &record, cause);
                    self.keep_rejected(record, cause, reason.to_owned());
                }
            }
            (Ticket::Disk(_), None) => {}
        }
    }

    /// Lets everyone know what has become of records: once for all that settled at the same time.
    pub(super) fn settled(&self) {
        let mut held = self.lock();
        self.publish(&mut held);
    }

    /// Whether rejected records are kept.
    pub(super) fn keeps_rejected(&self) -> bool {
        self.dead_letters().is_some()
    }

    /// Keeps a record for people to look at, where that is wanted.
    pub(super) fn keep_rejected(&self, record: Numbered, cause: Cause, reason: String) {
        if let Some(letters) = &*self.dead_letters()
            && letters.try_send((record, cause, reason)).is_err()
        {
            tracing::warn!("a rejected envelope is not kept: those before it are not written yet");
        }
    }

    fn dead_letters(&self) -> MutexGuard<'_, Option<SyncSender<Letter>>> {
        let letters = self.dead_letters.lock();
        letters.unwrap_or_else(PoisonError::into_inner)
    }

    /// How the output's streams would end if the process ended now.
    pub(super) fn ends(&self) -> Ends {
        let held = self.lock();
        held.streams.ends(&held.queue, held.disk.is_some())
    }

    /// Takes in what earlier starts left, if that could not be known at the start.
    pub(super) fn recall(&self, past: &Ends) {
        self.lock().streams.recall(past);
    }

    /// How many records are neither delivered nor lost.
    pub(super) fn left(&self) -> usize {
        let held = self.lock();
        let disk = held.disk.as_ref().map_or(0, |disk| disk.len + disk.taken);
        held.queue.len() + disk
    }

    /// How many of them are not on a disk.
    pub(super) fn in_memory(&self) -> usize {
        let held = self.lock();
        held.queue.len() + held.disk.as_ref().map_or(0, |disk| disk.taken)
    }

    /// Whether what is left outlives the process.
    pub(super) fn is_durable(&self) -> bool {
        let held = self.lock();
        held.disk.as_ref().is_some_and(|disk| !disk.is_passed_by())
    }

    /// A record that is lost in memory.
    fn forget(&self, held: &mut Held, record: &Numbered, cause: Cause) {
        self.count_lost(record, cause);
        held.streams.lose(record, cause);
        pass(held, record.clone(), Some(cause));
    }

    fn count_lost(&self, record: &Numbered, cause: Cause) {
        self.counters.lose(cause, width(record));
    }

    fn publish(&self, held: &mut Held) {
        let (len, bytes) = held
            .disk
            .as_ref()
            .map_or((0, 0), |disk| (disk.len + disk.taken, disk.bytes));
        let pending = held.resolution.iter().flat_map(Resolution::pending);
        let pending: u64 = pending.map(|shaped| shaped.weight).sum();
        self.counters
            .queue_bytes
            .set(held.queue.bytes() + pending + bytes);
        self.counters
            .queue_envelopes
            .set((held.queue.len() + len) as u64);
        self.changed.notify_one();
        let waiting = held.queue.waiting();
        if let Some(disk) = &mut held.disk {
            self.wake(disk, waiting);
        }
    }

    /// Wakes the spool's thread if it sleeps and has something to do now.
    fn wake(&self, disk: &mut Disk, waiting: usize) {
        if disk.asleep && !disk.is_idle(waiting) {
            disk.asleep = false;
            self.work.notify_one();
        }
    }

    /// A panic while this is held is a broken invariant of the pipeline itself; going on is still the best to be done.
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn memory(next: Option<(queue::Ticket, Numbered)>) -> Option<(Ticket, Numbered)> {
    next.map(|(ticket, record)| (Ticket::Memory(ticket), record))
}

/// Lets the spool know of a record that never was on the disk.
fn pass(held: &mut Held, record: Numbered, lost: Option<Cause>) {
    let Held { streams, disk, .. } = held;
    if let (Some(disk), Some(name)) = (disk, streams.name(&record.stream.id)) {
        disk.settled.push(Settled::Passed {
            name: name.to_owned(),
            record,
            lost,
        });
    }
}
