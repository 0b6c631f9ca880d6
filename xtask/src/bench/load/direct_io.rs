//! Random reads and writes of 4 KiB, past the page cache, on a loop device of its own.
//!
//! The device's file has no name any more and the device detaches itself with its last user, so nothing is left behind
//! however this process ends.

use std::{
    fs::{File, OpenOptions},
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, OpenOptionsExt},
    },
    path::Path,
    thread,
};

use anyhow::Context;

use super::{counters::Counters, workers};

/// Requests under way at once, one thread each.
const QUEUE_DEPTH: usize = 8;
const BLOCK: usize = 4096;
const BLOCKS: u64 = 16 * 1024;

/// What it does, in one line.
pub(super) fn summary() -> String {
    format!(
        "random reads and writes of {BLOCK} bytes on a loop device, {QUEUE_DEPTH} threads with one request each"
    )
}

/// Runs until it is killed; counts requests. The device's file lives in `folder`.
pub(super) fn run(counters: Counters, folder: &Path) -> anyhow::Result<()> {
    let device = attach(&backing_file(folder)?)?;
    for worker in 0..QUEUE_DEPTH {
        let device = device.try_clone()?;
        thread::spawn(move || {
            if let Err(error) = read_and_write(&device, counters, worker) {
                super::complain(&error);
            }
        });
    }
    workers::wait_forever()
}

fn read_and_write(device: &File, counters: Counters, worker: usize) -> anyhow::Result<()> {
    #[repr(align(4096))]
    struct Block([u8; BLOCK]);
    let mut block = Box::new(Block([0x5a; BLOCK]));
    let finished = counters.worker(worker);
    let mut random = worker as u64 + 1;
    loop {
        // Xorshift: as random as places on a device need to be.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let at = (random >> 8) % BLOCKS * BLOCK as u64;
        if random & 1 == 0 {
            device.read_exact_at(&mut block.0, at)?;
        } else {
            device.write_all_at(&block.0, at)?;
        }
        finished.add();
    }
}

/// A file without a name, filled so that no request meets a hole.
fn backing_file(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join("disk");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .with_context(|| format!("creating {}", path.display()))?;
    std::fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
    for block in 0..BLOCKS {
        file.write_all_at(&[0x5a; BLOCK], block * BLOCK as u64)
            .with_context(|| format!("filling a file in {}", folder.display()))?;
    }
    file.sync_data()?;
    Ok(file)
}

/// A free loop device with this file, opened past the page cache.
fn attach(file: &File) -> anyhow::Result<File> {
    let control = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/loop-control")
        .context("opening /dev/loop-control")?;
    for _ in 0..10 {
        // SAFETY: LOOP_CTL_GET_FREE takes no argument.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        anyhow::ensure!(
            number >= 0,
            "no free loop device: {}",
            std::io::Error::last_os_error()
        );
        let path = format!("/dev/loop{number}");
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_DIRECT)
            .open(&path)
            .with_context(|| format!("opening {path}"))?;
        let config = LoopConfig {
            file: u32::try_from(file.as_raw_fd())?,
            block_size: BLOCK as u32,
            unused_head: [0; 13],
            flags: LO_FLAGS_AUTOCLEAR,
            unused_tail: [0; 30],
        };
        // SAFETY: LOOP_CONFIGURE reads a `struct loop_config`, which outlives the call.
        if unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) } == 0 {
            return Ok(device);
        }
        let error = std::io::Error::last_os_error();
        // Somebody else took the free device in between.
        anyhow::ensure!(
            error.raw_os_error() == Some(libc::EBUSY),
            "configuring {path}: {error}"
        );
    }
    anyhow::bail!("every free loop device was taken by somebody else")
}

const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4c82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4c0a;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `struct loop_config` of linux/loop.h, 304 bytes; what is not used here is zero.
#[repr(C)]
struct LoopConfig {
    file: u32,
    block_size: u32,
    unused_head: [u32; 13],
    /// `info.lo_flags`.
    flags: u32,
    unused_tail: [u64; 30],
}
const _: () = assert!(size_of::<LoopConfig>() == 304);
