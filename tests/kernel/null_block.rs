//! `block_io` on a device of null_blk, which answers each request after a known time.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
};

use dataflux_probe::model::{Entity, EntityKey, EntityKind};

use crate::{
    block_io::with_aligned,
    harness::{Attached, machine, skipped_outside_guests},
};

const DEVICE: &str = "/dev/nullb0";
/// From issue to completion, by a timer, in ns. As guests load the module.
const ANSWERS_AFTER: u64 = 2_000_000;

/// Scenario: blocks are read and written, one after the other, on a device that answers 2 ms after a request was issued.
/// Guarantees: exactly these requests are counted and timed, none of them shorter than that.
#[test]
fn no_request_is_shorter_than_its_device_takes() {
    const REQUESTS: u64 = 97;
    const BYTES: u64 = 4096;
    let Some(_machine) = machine() else { return };
    if skipped_outside_guests("null_blk with an answer after 2 ms", is_there()) {
        return;
    }
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(DEVICE)
        .expect("opening the device");
    let mut reader = Attached::new("block_io", "");
    with_aligned(BYTES as usize, |buffer| {
        for index in 0..REQUESTS {
            device.read_exact_at(buffer, index * BYTES).expect("a read");
            device.write_all_at(buffer, index * BYTES).expect("a write");
        }
    });
    let totals = reader.read();
    let entity = entity(&device);
    for operation in ["read", "write"] {
        let counted = |metric| totals.counter(metric, Some(&entity), &[operation]);
        assert_eq!(counted("block_io.requests"), REQUESTS, "{operation}");
        assert_eq!(counted("block_io.bytes"), REQUESTS * BYTES, "{operation}");
        for metric in ["block_io.device_time", "block_io.latency"] {
            let (count, sum) = totals.histogram(metric, Some(&entity), &[operation]);
            assert_eq!(count, REQUESTS, "{metric} of {operation}");
            let shortest = totals.shortest(metric, &entity);
            println!("{metric} of {operation}: {count}, {sum} ns together, shortest {shortest} ns");
            assert!(sum >= REQUESTS * ANSWERS_AFTER, "{metric}: {sum}");
            assert!(shortest >= ANSWERS_AFTER, "{metric}: {shortest}");
        }
    }
}

/// Whether null_blk was loaded so that it answers by a timer, after this time.
fn is_there() -> bool {
    let parameter = |name: &str| {
        let text = fs::read_to_string(format!("/sys/module/null_blk/parameters/{name}"));
        text.ok()?.trim().parse::<u64>().ok()
    };
    const TIMER: u64 = 2;
    parameter("irqmode") == Some(TIMER) && parameter("completion_nsec") == Some(ANSWERS_AFTER)
}

fn entity(device: &File) -> Entity {
    let number = device.metadata().expect("the device").rdev();
    Entity {
        kind: EntityKind::Device,
        key: EntityKey::Id((libc::major(number) << 20 | libc::minor(number)).into()),
    }
}
