//! `block_io` against `/proc/diskstats`, on a loop device of its own.

use std::{collections::BTreeSet, fs::File, os::unix::fs::FileExt as _, thread};

use crate::{
    harness::{Attached, Totals, machine},
    hidden::{process_1_is_hidden, switches_of_process_1},
    loop_device::{DISCARD, DiskStats, FLUSH, LoopDevice, READ, WRITE},
};

const ROUNDS: usize = 20;
const THREADS: u64 = 4;
/// Of each thread and round: reads and writes, and their sizes.
const READS: u64 = 150;
const READ_BYTES: u64 = 4 << 10;
const WRITES: u64 = 100;
const WRITE_BYTES: u64 = 64 << 10;
const DEVICE_BYTES: u64 = 64 << 20;

/// Scenario: threads read and write known sizes directly on a private loop device, twenty times over; once with the
/// kernel's own issue stamps, once with ours.
/// Guarantees: exactly these requests and bytes are counted, exactly as in `/proc/diskstats`, each in every histogram.
#[test]
fn requests_and_bytes_are_exact() {
    let Some(_machine) = machine() else { return };
    let device = LoopDevice::new(DEVICE_BYTES);
    for section in ["", "issue_stamps = \"always\""] {
        let mut reader = Attached::new("block_io", section);
        let mut repeated = 0;
        let mut round = 0;
        while round < ROUNDS {
            match one_round(&device, &mut reader) {
                Ok(()) => round += 1,
                Err(why) => {
                    // A completion that interrupts the hidden process is no event for any tracer.
                    assert!(
                        why.hidden_ran && process_1_is_hidden(),
                        "round {round}: {}",
                        why.text
                    );
                    repeated += 1;
                    println!("round {round} again: {}", why.text);
                    assert!(repeated < ROUNDS, "too many rounds repeated");
                }
            }
        }
        println!("{ROUNDS} rounds exact, {repeated} repeated, with {section:?}");
    }
}

struct Inexact {
    text: String,
    hidden_ran: bool,
}

fn one_round(device: &LoopDevice, reader: &mut Attached) -> Result<(), Inexact> {
    let entity = device.entity();
    let hidden = switches_of_process_1();
    let (before, first) = (DiskStats::settled(device), reader.read());
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let file = &device.file;
            scope.spawn(move || load(file, thread));
        }
    });
    let (after, last) = (DiskStats::settled(device), reader.read());
    let rise = |metric: &str, labels: &[&str]| {
        let of = |totals: &Totals| totals.counter(metric, Some(&entity), labels);
        of(&last) - of(&first)
    };
    let recorded = |metric: &str, operation: &str| {
        let of = |totals: &Totals| totals.histogram(metric, Some(&entity), &[operation]).0;
        of(&last) - of(&first)
    };
    for (operation, requests, bytes, kernel) in [
        (
            "read",
            READS * THREADS,
            READS * THREADS * READ_BYTES,
            after.since(&before, READ),
        ),
        (
            "write",
            WRITES * THREADS,
            WRITES * THREADS * WRITE_BYTES,
            after.since(&before, WRITE),
        ),
    ] {
        assert_eq!(
            kernel,
            (requests, bytes),
            "somebody else uses the {operation}s of the test's device"
        );
        let counted = (
            rise("block_io.requests", &[operation]),
            rise("block_io.bytes", &[operation]),
        );
        if counted != kernel {
            let lost = last.lost() - first.lost();
            let text = format!(
                "{operation}s {counted:?}, the kernel has {kernel:?}, {lost} declared lost"
            );
            return Err(Inexact {
                text,
                hidden_ran: switches_of_process_1() > hidden,
            });
        }
        let sum = |metric: &str| {
            let of = |totals: &Totals| totals.histogram(metric, Some(&entity), &[operation]).1;
            of(&last) - of(&first)
        };
        assert_eq!(
            sum("block_io.size"),
            bytes,
            "sizes of {operation}s add up to their bytes"
        );
        let parts = sum("block_io.device_time") + sum("block_io.queue_time");
        assert!(
            sum("block_io.latency") >= parts,
            "{operation}: latency contains its parts"
        );
        for histogram in ["latency", "device_time", "queue_time", "size"] {
            let metric = format!("block_io.{histogram}");
            let disordered = if histogram == "size" {
                0
            } else {
                rise("block_io.disordered", &[operation])
            };
            let unstamped = if histogram == "size" {
                0
            } else {
                rise("block_io.unstamped", &[operation])
            };
            let count = recorded(&metric, operation);
            assert!(
                count <= requests && count + disordered + unstamped >= requests,
                "{metric} of {operation}: {count} of {requests}"
            );
        }
    }
    Ok(())
}

/// Scenario: the device's cache is flushed, and parts of it are discarded.
/// Guarantees: flushes, the empty writes that ask for them, and discards with their bytes are those of `/proc/diskstats`.
#[test]
fn flushes_and_discards_are_exact() {
    const TIMES: u64 = 23;
    const DISCARDED: u64 = 1 << 20;
    let Some(_machine) = machine() else { return };
    let device = LoopDevice::new(DEVICE_BYTES);
    let entity = device.entity();
    let mut reader = Attached::new("block_io", "");
    for attempt in 1.. {
        let hidden = switches_of_process_1();
        let (before, first) = (DiskStats::settled(&device), reader.read());
        for index in 0..TIMES {
            device.file.sync_all().expect("flushing the loop device");
            device.discard(index * DISCARDED, DISCARDED);
        }
        let (after, last) = (DiskStats::settled(&device), reader.read());
        assert_eq!(
            after.since(&before, DISCARD),
            (TIMES, TIMES * DISCARDED),
            "discards of the kernel"
        );
        assert_eq!(
            after.since(&before, FLUSH),
            (TIMES, 0),
            "flushes of the kernel"
        );
        let rise = |metric: &str, operation: &str| {
            last.counter(metric, Some(&entity), &[operation])
                - first.counter(metric, Some(&entity), &[operation])
        };
        let exact = [("write", WRITE), ("discard", DISCARD), ("flush", FLUSH)].map(
            |(operation, kernel)| {
                let counted = (
                    rise("block_io.requests", operation),
                    rise("block_io.bytes", operation),
                );
                (counted, after.since(&before, kernel))
            },
        );
        if exact.iter().all(|(counted, kernel)| counted == kernel) {
            return;
        }
        let forgiven = switches_of_process_1() > hidden && process_1_is_hidden();
        assert!(
            forgiven && attempt < ROUNDS,
            "writes, discards, flushes: {exact:?}"
        );
    }
}

/// Scenario: the file system below the loop device is full, so that writes fail.
/// Guarantees: each failed write is counted as an error with the block layer's status for it, and as a request.
#[test]
fn errors_are_counted_by_status() {
    const FAILING: u64 = 23;
    let Some(_machine) = machine() else { return };
    let device = LoopDevice::on_a_full_file_system(DEVICE_BYTES);
    let entity = device.entity();
    let mut reader = Attached::new("block_io", "");
    let first = reader.read();
    let mut said = BTreeSet::new();
    with_aligned(READ_BYTES as usize, |buffer| {
        for index in 0..FAILING {
            let error = device
                .file
                .write_all_at(buffer, index * READ_BYTES)
                .expect_err("there is no room");
            said.insert(error.raw_os_error());
        }
    });
    let last = reader.read();
    // Older loop devices answer whatever happened below them with the status for which the kernel says EIO.
    let status = match said.into_iter().collect::<Vec<_>>()[..] {
        [Some(libc::ENOSPC)] => "critical_space_allocation",
        [Some(libc::EIO)] => "io",
        ref other => panic!("the writes failed with {other:?}"),
    };
    let errors =
        |totals: &Totals| totals.counter("block_io.errors", Some(&entity), &["write", status]);
    let counted = errors(&last) - errors(&first);
    let all = last.counter("block_io.errors", Some(&entity), &[])
        - first.counter("block_io.errors", Some(&entity), &[]);
    assert!(
        counted == FAILING || process_1_is_hidden() && counted < FAILING,
        "{counted} errors, not {FAILING}"
    );
    assert_eq!(counted, all, "no other status");
}

fn load(device: &File, thread: u64) {
    let area = DEVICE_BYTES / THREADS;
    with_aligned(WRITE_BYTES as usize, |buffer| {
        for index in 0..READS.max(WRITES) {
            let at = thread * area + index * WRITE_BYTES % area;
            if index < READS {
                device
                    .read_exact_at(&mut buffer[..READ_BYTES as usize], at)
                    .expect("reading the loop device");
            }
            if index < WRITES {
                device
                    .write_all_at(buffer, at)
                    .expect("writing the loop device");
            }
        }
    });
}

/// Direct I/O wants memory that is aligned to the device's blocks.
pub(crate) fn with_aligned(bytes: usize, act: impl FnOnce(&mut [u8])) {
    const ALIGNMENT: usize = 4096;
    let mut buffer = vec![0u8; bytes + ALIGNMENT];
    let start = buffer.as_ptr().align_offset(ALIGNMENT);
    act(&mut buffer[start..][..bytes]);
}
