//! Where ticks hand envelopes to an output: numbers and queues them, and never waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{
    counters::OutputCounters,
    envelope::Tick,
    queue::{Queue, Ticket, width},
    shape::{Entities, Shape},
    streams::{Ends, Streams},
};
use crate::model::{Cause, Numbered};

/// One output's numbers and queue, shared by the ticks, which fill it, and the delivery, which empties it.
pub(super) struct Inbox {
    shape: Arc<Shape>,
    entities: Entities,
    held: Mutex<Held>,
    /// There is something new to deliver.
    pub(super) filled: Notify,
    /// What must outlive the process has changed.
    changed: Arc<Notify>,
    pub(super) counters: Arc<OutputCounters>,
}

struct Held {
    streams: Streams,
    queue: Queue,
}

impl Inbox {
    /// `changed` is told whenever [`Inbox::ends`] says something else.
    pub(super) fn new(
        output: &super::Output,
        streams: Streams,
        changed: Arc<Notify>,
        counters: Arc<OutputCounters>,
    ) -> Self {
        Self {
            shape: Arc::clone(&output.shape),
            entities: output.entities,
            held: Mutex::new(Held {
                streams,
                queue: Queue::new(output.queue_bytes, output.when_full),
            }),
            filled: Notify::new(),
            changed,
            counters,
        }
    }

    /// Accepts what a tick gave.
    pub(super) fn accept(&self, tick: &mut Tick) {
        let mut held = self.lock();
        for shaped in tick.shape(&self.shape) {
            let record = held.streams.number(shaped);
            self.counters.envelopes.add(1);
            let pushed = held.queue.push(record, shaped.weight);
            self.counters.merged.add(pushed.merged);
            for lost in pushed.lost {
                self.count_lost(&lost, Cause::QueueFull);
                held.streams.lose(&lost, Cause::QueueFull);
            }
        }
        self.publish(&held);
        self.filled.notify_one();
    }

    /// The next record to hand over, with what it is to announce.
    pub(super) fn next(&self) -> Option<(Ticket, Numbered)> {
        let mut held = self.lock();
        let Held { streams, queue } = &mut *held;
        let (ticket, record) = queue.next(|record| streams.announce(record))?;
        Some((ticket, self.entities.render(record)))
    }

    /// A record that goes again.
    pub(super) fn again(&self, ticket: Ticket) {
        self.lock().queue.again(ticket);
    }

    /// A record that is safe at the other end.
    pub(super) fn delivered(&self, ticket: Ticket) {
        let mut held = self.lock();
        held.queue.remove(ticket);
        self.publish(&held);
    }

    /// A record that will never be delivered, and why, for people.
    pub(super) fn lose(&self, ticket: Ticket, cause: Cause, reason: &str) {
        let mut held = self.lock();
        if let Some(record) = held.queue.remove(ticket) {
            tracing::debug!(stream = %record.stream.id, first = record.range.start(), "lost: {reason}");
            self.count_lost(&record, cause);
            held.streams.lose(&record, cause);
        }
        self.publish(&held);
    }

    /// How the output's streams would end if the process ended now.
    pub(super) fn ends(&self) -> Ends {
        let held = self.lock();
        held.streams.ends(&held.queue)
    }

    /// How many records are neither delivered nor lost.
    pub(super) fn left(&self) -> usize {
        self.lock().queue.len()
    }

    fn count_lost(&self, record: &Numbered, cause: Cause) {
        let counter = match cause {
            Cause::QueueFull => &self.counters.lost_queue_full,
            Cause::Rejected => &self.counters.lost_rejected,
            Cause::Unformattable => &self.counters.lost_unformattable,
            Cause::Damaged => &self.counters.lost_damaged,
            // Counted by nobody: the process ends.
            Cause::Stopped => return,
        };
        counter.add(width(record));
    }

    fn publish(&self, held: &Held) {
        self.counters.queue_bytes.set(held.queue.bytes());
        self.counters.queue_envelopes.set(held.queue.len() as u64);
        self.changed.notify_one();
    }

    /// A panic while this is held is a broken invariant of the pipeline itself; going on is still the best to be done.
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
