//! `block_io`: requests, bytes, errors, times and sizes by device and operation.
//!
//! Hooks: block_rq_complete and, where the kernel does not stamp the issue of requests itself,
//! block_rq_issue; as BTF tracepoints (5.10 and later). Work per completion: one clock read, one look-up in an array of
//! devices; with own issue stamps one in an array of requests as well.
//!
//! What is counted: bytes at every completion, whole or partial; the request, its times and size when its last byte
//! completes. A request that needs flushes around it completes twice: its bytes count the first time, it and its times,
//! which contain the flushes, the second time. Merged requests are one, split ones several, requeued ones count at
//! completion only, and their device time begins at the last issue. Pass-through requests are `other`.
//!
//! Races: completions run on any CPU, in task and interrupt context, so everything is added atomically. The kernel does not
//! run a program that is already running on the same CPU: a completion in an interrupt that finds another one at work is
//! skipped, and the kernel counts it (`recursion_misses`), which userspace reports as lost.
// SPDX-License-Identifier: MIT OR GPL-2.0
#![no_std]
#![no_main]

use core::ptr::{addr_of_mut, read_volatile, write_volatile};

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    helpers::bpf_ktime_get_ns,
    macros::{btf_tracepoint, map},
    maps::{Array, PerCpuArray},
    programs::BtfTracePointContext,
};
use aya_log_ebpf::info;
use dataflux_common::{
    block_io::*,
    histogram::bucket,
    limits::{DEVICES, ISSUED_REQUESTS, OTHER_DEVICE},
};
use dataflux_ebpf::{add_shared, constant, count_shared, field, has, load, record_shared};

/// The kernel's facts; see `dataflux_common::block_io`.
#[unsafe(no_mangle)]
static FIELDS: [u32; dataflux_common::block_io::FIELDS] = [0; dataflux_common::block_io::FIELDS];

/// 1 if the issue hook is attached. Set by userspace.
#[unsafe(no_mangle)]
static ISSUE_STAMPS: u32 = 0;

/// By queue id; the last one is that of all other devices. Userspace reads it through a mapping.
#[map]
static DEVICES_BY_QUEUE: Array<Device> = Array::with_max_entries(DEVICES as u32, BPF_F_MMAPABLE);

/// Events of no device.
#[map]
static TOTALS: Array<Totals> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// By a hash of the request's address.
#[map]
static ISSUED: Array<Issued> = Array::with_max_entries(ISSUED_REQUESTS as u32, 0);

/// Where a request's address becomes a number.
#[map]
static ADDRESS: PerCpuArray<u64> = PerCpuArray::with_max_entries(2, 0);

/// `REQ_OP_*` of include/linux/blk_types.h.
mod op {
    pub(super) const READ: u32 = 0;
    pub(super) const WRITE: u32 = 1;
    pub(super) const FLUSH: u32 = 2;
    pub(super) const DISCARD: u32 = 3;
    pub(super) const ZONE_APPEND: u32 = 7;
    pub(super) const MASK: u32 = 0xff;
}

#[inline(always)]
fn operation(command: u32) -> usize {
    match command & op::MASK {
        op::READ => READ,
        op::WRITE | op::ZONE_APPEND => WRITE,
        op::DISCARD => DISCARD,
        op::FLUSH => FLUSH,
        _ => OTHER,
    }
}

/// The place of a completion's error: its block status, or the status that stands for its error number on kernels that pass
/// one (`blk_errors` of block/blk-core.c).
#[inline(always)]
fn status(argument: u64) -> usize {
    if has(&FIELDS, COMPLETE_STATUS) {
        return (argument & 0xff) as usize;
    }
    match (argument as i32).wrapping_neg() {
        0 => 0,
        95 => 1,
        110 => 2,
        28 => 3,
        67 => 4,
        121 => 5,
        52 => 6,
        61 => 7,
        84 => 8,
        12 => 9,
        5 => 10,
        11 => 12,
        16 => 13,
        _ => STATUSES - 1,
    }
}

/// The place of the request's device. A place that belongs to another device is left alone: the request goes to the others.
///
/// # Safety
/// `request` is a `struct request`.
#[inline(always)]
unsafe fn device(context: &BtfTracePointContext, request: *const u8) -> Option<*mut Device> {
    // SAFETY: upheld by the caller; pointers that are null read as 0.
    unsafe {
        let queue: *const u8 = load(request, field(&FIELDS, REQUEST_QUEUE));
        let disk: *const u8 = if has(&FIELDS, QUEUE_DISK) {
            load(queue, field(&FIELDS, QUEUE_DISK))
        } else {
            load(request, field(&FIELDS, REQUEST_DISK))
        };
        let id = load::<u32>(queue, field(&FIELDS, QUEUE_ID));
        if disk.is_null() || id as usize >= OTHER_DEVICE {
            return other(context, id);
        }
        let (major, minor) = (
            load::<u32>(disk, field(&FIELDS, DISK_MAJOR)),
            load::<u32>(disk, field(&FIELDS, DISK_MINOR)),
        );
        let tag = u64::from(major << 20 | minor & 0xf_ffff) + 1;
        let device = DEVICES_BY_QUEUE.get_ptr_mut(id)?;
        if (*device).tag == 0 {
            (*device).tag = tag;
        } else if (*device).tag != tag {
            return other(context, id);
        }
        Some(device)
    }
}

/// The place of the devices that have none of their own. Says so the first time.
///
/// # Safety
/// Called in a program on block_rq_complete.
#[inline(always)]
unsafe fn other(context: &BtfTracePointContext, queue: u32) -> Option<*mut Device> {
    let device = DEVICES_BY_QUEUE.get_ptr_mut(OTHER_DEVICE as u32)?;
    // SAFETY: the pointer comes from a map look-up.
    unsafe {
        if (*device).tag == 0 {
            (*device).tag = 1;
            info!(
                context,
                "block_io: queue {} has no place of its own: counted among the other devices",
                queue
            );
        }
    }
    Some(device)
}

/// A request's address as a number. The verifier allows no arithmetic on a pointer to a kernel struct, but forgets what it is
/// on the way through a map value. Each program has a place of its own, so that none interrupts another between the two.
///
/// # Safety
/// Called in the program that `place` belongs to.
#[inline(always)]
unsafe fn address(request: *const u8, place: u32) -> u64 {
    let Some(scratch) = ADDRESS.get_ptr_mut(place) else {
        return 0;
    };
    // SAFETY: the pointer comes from a map look-up of this CPU's value.
    unsafe {
        write_volatile(scratch, request as u64);
        read_volatile(scratch)
    }
}

/// Place of [`block_rq_issue`] in [`ADDRESS`].
const OF_ISSUE: u32 = 0;
/// Place of [`block_rq_complete`] in [`ADDRESS`].
const OF_COMPLETION: u32 = 1;

/// The place of a request's issue stamp.
#[inline(always)]
fn issued(address: u64) -> Option<*mut Issued> {
    // Requests are at least 64 bytes apart; the multiplication spreads them (Fibonacci hashing).
    let hash = (address >> 6).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    ISSUED.get_ptr_mut(hash as u32 & (ISSUED_REQUESTS as u32 - 1))
}

/// Takes a request's own issue stamp out; 0 = there is none.
///
/// # Safety
/// The program runs for this request's completion.
#[inline(always)]
unsafe fn take_issue_stamp(address: u64) -> u64 {
    let Some(entry) = issued(address) else {
        return 0;
    };
    // SAFETY: the entry comes from a map look-up; it is this request's until its address is taken out.
    unsafe {
        if read_volatile(addr_of_mut!((*entry).request)) != address {
            return 0;
        }
        let at = read_volatile(addr_of_mut!((*entry).at));
        write_volatile(addr_of_mut!((*entry).request), 0);
        at
    }
}

/// `block_rq_issue(struct request *rq)`, before 5.11 `(struct request_queue *q, struct request *rq)`
#[btf_tracepoint(function = "block_rq_issue")]
pub fn block_rq_issue(context: BtfTracePointContext) -> i32 {
    let request = if field(&FIELDS, ISSUE_REQUEST) == 0 {
        context.arg::<*const u8>(0)
    } else {
        context.arg::<*const u8>(1)
    };
    // SAFETY: this is the issue program.
    let address = unsafe { address(request, OF_ISSUE) };
    let Some(entry) = issued(address) else {
        return 0;
    };
    // SAFETY: the entry comes from a map look-up, the helper has no preconditions.
    unsafe {
        let owner = read_volatile(addr_of_mut!((*entry).request));
        if owner != 0
            && owner != address
            && let Some(totals) = TOTALS.get_ptr_mut(0)
        {
            add_shared(addr_of_mut!((*totals).overwritten), 1);
        }
        write_volatile(addr_of_mut!((*entry).at), bpf_ktime_get_ns());
        write_volatile(addr_of_mut!((*entry).request), address);
    }
    0
}

/// `block_rq_complete(struct request *rq, blk_status_t error, unsigned int nr_bytes)`
#[btf_tracepoint(function = "block_rq_complete")]
pub fn block_rq_complete(context: BtfTracePointContext) -> i32 {
    let request = context.arg::<*const u8>(0);
    let completed = u64::from(context.arg::<u64>(2) as u32);
    // SAFETY: the tracepoint passes a request; map values are shared and added to atomically.
    unsafe {
        let Some(device) = device(&context, request) else {
            return 0;
        };
        let kind = operation(load(request, field(&FIELDS, REQUEST_COMMAND)));
        let operation = addr_of_mut!((*device).operations)
            .cast::<Operation>()
            .add(kind);
        add_shared(addr_of_mut!((*operation).bytes), completed);
        let status = status(context.arg::<u64>(1));
        if status != 0 {
            count_shared(addr_of_mut!((*operation).errors), status);
        }
        let left = u64::from(load::<u32>(request, field(&FIELDS, REQUEST_LENGTH)));
        let in_flush_sequence = load::<u32>(request, field(&FIELDS, REQUEST_FLAGS))
            >> (field(&FIELDS, FLUSH_SEQUENCE_BIT) & 31)
            & 1
            != 0;
        if completed < left || in_flush_sequence && kind != FLUSH {
            if completed > 0 {
                add_shared(addr_of_mut!((*operation).bytes_in_part), completed);
            }
            return 0;
        }
        let stamped: u64 = load(request, field(&FIELDS, REQUEST_ISSUE));
        size(request, operation, completed, stamped);
        times(request, operation, stamped);
    }
    0
}

/// Records the size of a request whose last byte completes.
///
/// # Safety
/// `request` is a `struct request`, `operation` a place in the map.
#[inline(always)]
unsafe fn size(request: *const u8, operation: *mut Operation, completed: u64, stamped: u64) {
    // SAFETY: upheld by the caller.
    unsafe {
        // The sectors are stamped with the issue; they are more than what is completed now if parts were completed before.
        let sectors = if stamped == 0 {
            0
        } else {
            load::<u16>(request, field(&FIELDS, REQUEST_SECTORS))
        };
        let bytes = completed.max(u64::from(sectors) << 9);
        if bytes > 0 {
            count_shared(addr_of_mut!((*operation).sizes), bucket(bytes));
        }
        if bytes > completed {
            add_shared(addr_of_mut!((*operation).bytes_before), bytes - completed);
        }
    }
}

/// Records the times of a request whose last byte completes.
///
/// # Safety
/// `request` is a `struct request`, `operation` a place in the map.
#[inline(always)]
unsafe fn times(request: *const u8, operation: *mut Operation, stamped: u64) {
    // SAFETY: upheld by the caller; the helper has no preconditions.
    unsafe {
        let mut issue = stamped;
        if constant(&ISSUE_STAMPS) != 0 {
            let own = take_issue_stamp(address(request, OF_COMPLETION));
            if issue == 0 {
                issue = own;
            }
        }
        let start: u64 = load(request, field(&FIELDS, REQUEST_START));
        if start == 0 {
            add_shared(addr_of_mut!((*operation).unstamped_start), 1);
            return;
        }
        let now = bpf_ktime_get_ns();
        if now < start {
            add_shared(addr_of_mut!((*operation).disordered_start), 1);
            return;
        }
        let latency = addr_of_mut!((*operation).latency);
        let device_time = addr_of_mut!((*operation).device_time);
        count_shared(addr_of_mut!((*latency).counts), bucket(now - start));
        if issue == 0 {
            add_shared(addr_of_mut!((*latency).sum), now - start);
            add_shared(addr_of_mut!((*operation).unstamped_issue), 1);
            return;
        }
        // Since 6.9 the kernel may stamp with a time that it read once for a batch of requests.
        if issue < start || issue > now {
            add_shared(addr_of_mut!((*latency).sum), now - start);
            add_shared(addr_of_mut!((*operation).disordered_issue), 1);
            return;
        }
        record_shared(device_time, now - issue);
        record_shared(addr_of_mut!((*operation).queue_time), issue - start);
    }
}
