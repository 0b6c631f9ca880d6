//! `block_io` against `/proc/diskstats`, on a loop device of its own.

use std::{
    fs::{self, File, OpenOptions},
    os::{
        fd::AsRawFd as _,
        unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use dataflux_probe::model::{Entity, EntityKey, EntityKind};
use tempfile::TempDir;

use crate::{
    harness::{Attached, Totals, machine},
    hidden::{process_1_is_hidden, switches_of_process_1},
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
            after.since(&before, 0),
        ),
        (
            "write",
            WRITES * THREADS,
            WRITES * THREADS * WRITE_BYTES,
            after.since(&before, 1),
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

fn load(device: &File, thread: u64) {
    // Direct I/O wants aligned memory.
    let mut buffer = vec![0u8; (WRITE_BYTES + 4096) as usize];
    let aligned = buffer.as_ptr().align_offset(4096);
    let buffer = &mut buffer[aligned..][..WRITE_BYTES as usize];
    let area = DEVICE_BYTES / THREADS;
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
}

/// Reads and writes of one device: completed requests and sectors (Documentation/admin-guide/iostats.rst).
#[derive(PartialEq)]
struct DiskStats([(u64, u64); 2]);

impl DiskStats {
    /// The kernel counts a request after it has told its owner: waits until nothing changes any more.
    fn settled(device: &LoopDevice) -> Self {
        let mut last = Self::read(device);
        loop {
            thread::sleep(Duration::from_millis(5));
            let now = Self::read(device);
            if now == last {
                return now;
            }
            last = now;
        }
    }

    fn read(device: &LoopDevice) -> Self {
        let (major, minor) = device.number;
        let text = fs::read_to_string("/proc/diskstats").expect("/proc/diskstats");
        let fields = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let wanted =
            |fields: &Vec<&str>| fields[0] == major.to_string() && fields[1] == minor.to_string();
        let fields = fields
            .into_iter()
            .find(wanted)
            .expect("the loop device is in diskstats");
        let number = |index: usize| fields[index].parse::<u64>().expect("a number");
        Self([(number(3), number(5)), (number(7), number(9))])
    }

    /// Requests and bytes since then.
    fn since(&self, before: &Self, operation: usize) -> (u64, u64) {
        let (now, then) = (self.0[operation], before.0[operation]);
        (now.0 - then.0, (now.1 - then.1) * 512)
    }
}

/// A loop device on a file of its own; gone when dropped.
struct LoopDevice {
    path: String,
    file: File,
    number: (u32, u32),
    _folder: TempDir,
}

impl LoopDevice {
    fn new(bytes: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let backing = folder.path().join("disk");
        // Written, so that the file system below has nothing to allocate later.
        fs::write(&backing, vec![1; bytes as usize]).expect("a file of 64 MiB");
        let output = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(&backing)
            .output()
            .expect("losetup of util-linux");
        assert!(
            output.status.success(),
            "losetup: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let path = String::from_utf8(output.stdout)
            .expect("a path")
            .trim()
            .to_owned();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_DIRECT)
            .open(&path)
            .expect("opening the loop device");
        assert!(file.as_raw_fd() >= 0);
        let device = fs::metadata(Path::new(&path))
            .expect("the loop device")
            .rdev();
        Self {
            path,
            file,
            number: (libc::major(device), libc::minor(device)),
            _folder: folder,
        }
    }

    fn entity(&self) -> Entity {
        Entity {
            kind: EntityKind::Device,
            key: EntityKey::Id(self.number.0 << 20 | self.number.1),
        }
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let detached = Command::new("losetup")
            .args(["--detach", &self.path])
            .status();
        assert!(
            detached.is_ok_and(|status| status.success()) || thread::panicking(),
            "losetup --detach {}",
            self.path
        );
    }
}
