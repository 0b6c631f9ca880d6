//! Waits for a producer's events without asking again and again: `poll` of the client alone keeps a core busy for up to a
//! millisecond before it returns.

use std::{io, os::fd::OwnedFd, ptr, ptr::NonNull, time::Duration};

use rdkafka::{
    bindings::{
        rd_kafka_queue_destroy, rd_kafka_queue_get_main, rd_kafka_queue_io_event_enable,
        rd_kafka_queue_length, rd_kafka_queue_t,
    },
    producer::Producer as _,
};
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    io::read,
};

use super::client::Producer;

/// Events that are taken at once, before the caller looks around.
const AT_ONCE: usize = 64;

/// Rings when a producer's queue of events is not empty any more.
pub(super) struct Bell<'a> {
    producer: &'a Producer,
    queue: NonNull<rd_kafka_queue_t>,
    /// What librdkafka writes to.
    event: OwnedFd,
}

impl<'a> Bell<'a> {
    pub(super) fn new(producer: &'a Producer) -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let one = 1_u64.to_ne_bytes();
        // SAFETY: the producer lives as long as its pointer is used, which is no longer than this.
        let queue = unsafe { rd_kafka_queue_get_main(producer.client().native_ptr()) };
        let queue = NonNull::new(queue).ok_or_else(|| io::Error::other("no queue of events"))?;
        // SAFETY: the queue was just given; librdkafka copies the bytes; the descriptor is open until `drop` takes it back.
        unsafe {
            use std::os::fd::AsRawFd as _;
            let fd = event.as_raw_fd();
            rd_kafka_queue_io_event_enable(queue.as_ptr(), fd, one.as_ptr().cast(), one.len());
        }
        Ok(Self {
            producer,
            queue,
            event,
        })
    }

    /// Serves what events there are, or waits for some, for so long at most.
    pub(super) fn serve(&self, patience: Duration) {
        if self.is_quiet() {
            let timeout = Timespec::try_from(patience).ok();
            // An error, such as a signal, is an early return.
            poll(
                &mut [PollFd::new(&self.event, PollFlags::IN)],
                timeout.as_ref(),
            )
            .ok();
        }
        // Nothing to read means that nothing has rung.
        read(&self.event, &mut [0; 8]).ok();
        for _ in 0..AT_ONCE {
            // Once in any case: that lets it ring again.
            self.producer.poll(Duration::ZERO);
            if self.is_quiet() {
                break;
            }
        }
    }

    fn is_quiet(&self) -> bool {
        // SAFETY: the queue is given back in `drop` only.
        unsafe { rd_kafka_queue_length(self.queue.as_ptr()) == 0 }
    }
}

impl Drop for Bell<'_> {
    fn drop(&mut self) {
        // SAFETY: the queue is not used after this, and nobody writes to the descriptor that is closed next.
        unsafe {
            rd_kafka_queue_io_event_enable(self.queue.as_ptr(), -1, ptr::null(), 0);
            rd_kafka_queue_destroy(self.queue.as_ptr());
        }
    }
}
