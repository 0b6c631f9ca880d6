//! `block_io`: what its kernel programs keep, and the kernel facts they need.

use crate::{
    histogram::Histogram,
    kernel_fields,
    kernel_fields::{Lookup, argument, member},
    limits::DEVICES,
    shared,
};

kernel_fields! {
    /// The queue of a request.
    REQUEST_QUEUE = member("request", &["q"], 8);
    /// Small dense number of a queue, lowest free first.
    QUEUE_ID = member("request_queue", &["id"], 4);
    /// The disk of a queue (5.14).
    QUEUE_DISK = member("request_queue", &["disk"], 8);
    /// The disk of a request, before queues knew theirs.
    REQUEST_DISK = member("request", &["rq_disk"], 8);
    /// Major device number of a disk.
    DISK_MAJOR = member("gendisk", &["major"], 4);
    /// Minor device number of a whole disk.
    DISK_MINOR = member("gendisk", &["first_minor"], 4);
    /// Operation (low 8 bits) and flags of a request.
    REQUEST_COMMAND = member("request", &["cmd_flags"], 4);
    /// The block layer's own state flags of a request.
    REQUEST_FLAGS = member("request", &["rq_flags"], 4);
    /// When the request was allocated, CLOCK_MONOTONIC ns; 0 = the queue keeps no statistics.
    REQUEST_START = member("request", &["start_time_ns"], 8);
    /// When it was issued to the driver, CLOCK_MONOTONIC ns; 0 = never, or the queue keeps no statistics.
    REQUEST_ISSUE = member("request", &["io_start_time_ns"], 8);
    /// Bytes that are left to complete.
    REQUEST_LENGTH = member("request", &["__data_len"], 4);
    /// Sectors of the whole request, valid when it has an issue stamp.
    REQUEST_SECTORS = member("request", &["stats_sectors"], 2);
    /// Bit of `RQF_FLUSH_SEQ`: part of a flush sequence that will complete again. A macro with bit 4 until it became an
    /// enumerator in 6.12 (include/linux/blk-mq.h, before 5.18 include/linux/blkdev.h).
    FLUSH_SEQUENCE_BIT = Lookup::Enumerator { of: "rqf_flags", named: "__RQF_FLUSH_SEQ" }, or Lookup::Otherwise(4);
    /// The request among the arguments of its completion.
    COMPLETE_REQUEST = argument("block_rq_complete", "struct request *", &[0]);
    /// Argument with a block status (5.16).
    COMPLETE_STATUS = argument("block_rq_complete", "blk_status_t", &[1]);
    /// Argument with a negative error number instead.
    COMPLETE_ERROR = argument("block_rq_complete", "int", &[1]);
    /// Bytes that complete.
    COMPLETE_BYTES = argument("block_rq_complete", "unsigned int", &[2]);
    /// The request among the arguments of its issue: behind the queue before 5.11.
    ISSUE_REQUEST = argument("block_rq_issue", "struct request *", &[0, 1]);
}

/// Reads.
pub const READ: usize = 0;
/// Writes and zone appends.
pub const WRITE: usize = 1;
/// Discards.
pub const DISCARD: usize = 2;
/// Cache flushes that the block layer sends by itself for a flush sequence.
pub const FLUSH: usize = 3;
/// Everything else: secure erase, write zeroes, zone management, pass-through.
pub const OTHER: usize = 4;
/// How many operations are told apart.
pub const OPERATIONS: usize = 5;

/// Statuses told apart: `BLK_STS_*` of include/linux/blk_types.h by number; the last one is everything from 15 up.
pub const STATUSES: usize = 16;

/// Size histogram buckets: reach 4 GiB, and a request's length is a 32-bit number.
pub const SIZE_BUCKETS: usize = 240;

shared! {
    /// Counters and histograms of one operation on one device, shared by all CPUs through atomic adds. What follows from
    /// others is not added again: every completed request is in `latency`, `unstamped_start` or `disordered_start`.
    pub struct Operation {
        /// Completed bytes, of requests completed in part as well.
        pub bytes: u64,
        /// Those of completions that were not the last of their request.
        pub bytes_in_part: u64,
        /// Bytes of requests in `sizes` that had completed before their last completion. So the sum of `sizes` is
        /// `bytes - bytes_in_part + bytes_before`.
        pub bytes_before: u64,
        /// Completions with an error, by status; status 0 is none.
        pub errors: [u64; STATUSES],
        /// Completed requests without a start stamp: in no time histogram.
        pub unstamped_start: u64,
        /// Completed requests with a start stamp later than their completion: in no time histogram.
        pub disordered_start: u64,
        /// Completed requests with a start stamp but without an issue stamp: in `latency` only.
        pub unstamped_issue: u64,
        /// Completed requests whose issue stamp contradicts the others: in `latency` only.
        pub disordered_issue: u64,
        /// Whole requests by size in bytes.
        pub sizes: [u64; SIZE_BUCKETS],
        /// Start to completion, ns. Its sum is that of the requests that are in no other time histogram.
        pub latency: Histogram,
        /// Issue to completion, ns.
        pub device_time: Histogram,
        /// Start to issue, ns.
        pub queue_time: Histogram,
    }

    /// One device. The slot is the device's until userspace clears it.
    pub struct Device {
        /// Kernel device number, major << 20 | minor, plus 1; 0 = free.
        pub tag: u64,
        /// By operation.
        pub operations: [Operation; OPERATIONS],
    }

    /// Events of no device.
    pub struct Totals {
        /// Issue stamps overwritten by another request that shares their place: that request completes without an issue stamp.
        pub overwritten: u64,
    }

    /// The issue stamp of one request.
    pub struct Issued {
        /// Address of the request; 0 = free.
        pub request: u64,
        /// When it was issued, CLOCK_MONOTONIC ns.
        pub at: u64,
    }
}

/// Bytes of all devices, for the budget of kernel memory.
pub const DEVICES_BYTES: usize = size_of::<Device>() * DEVICES;
const _: () = assert!(
    size_of::<Device>() < 4 << 20,
    "an array value may not exceed 4 MiB on 5.10"
);
