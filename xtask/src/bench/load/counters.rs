//! Counts of finished operations, in memory that a load's processes share with the bench.

use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
    ptr,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::Context;
use rustix::{
    fs::{MemfdFlags, ftruncate, memfd_create},
    mm::{MapFlags, ProtFlags, mmap},
};

/// Workers that a load may have.
const WORKERS: usize = 256;

/// One worker's count, on a cache line of its own.
#[repr(C, align(64))]
#[derive(Debug)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    /// One more operation is finished. Only one worker writes a counter.
    pub(super) fn add(&self) {
        self.0
            .store(self.0.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

/// The counters of all workers of a load.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counters(&'static [Counter; WORKERS]);

impl Counters {
    /// Zeroed counters, and the file that a load's process finds them in.
    pub(super) fn create() -> anyhow::Result<(Self, OwnedFd)> {
        let file = memfd_create("bench", MemfdFlags::CLOEXEC).context("creating shared memory")?;
        ftruncate(&file, size_of::<[Counter; WORKERS]>() as u64).context("sizing shared memory")?;
        Ok((Self::map(&file)?, file))
    }

    /// The counters in a file made by [`Self::create`].
    pub(super) fn open(file: impl AsFd) -> anyhow::Result<Self> {
        let length = File::from(file.as_fd().try_clone_to_owned()?)
            .metadata()?
            .len();
        anyhow::ensure!(
            length == size_of::<[Counter; WORKERS]>() as u64,
            "standard input does not hold a load's counters"
        );
        Self::map(file)
    }

    fn map(file: impl AsFd) -> anyhow::Result<Self> {
        // SAFETY: the kernel chooses an unused place for a new mapping.
        let memory = unsafe {
            mmap(
                ptr::null_mut(),
                size_of::<[Counter; WORKERS]>(),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file,
                0,
            )
        }
        .context("mapping shared memory")?;
        // SAFETY: the mapping is page aligned, as long as the array, never unmapped, and holds atomics, which any bytes are.
        Ok(Self(unsafe { &*memory.cast::<[Counter; WORKERS]>() }))
    }

    /// The counter of one worker, below 256.
    pub(super) fn worker(self, index: usize) -> &'static Counter {
        &self.0[index]
    }

    /// Operations finished by all workers.
    pub(super) fn total(self) -> u64 {
        self.0
            .iter()
            .map(|counter| counter.0.load(Ordering::Relaxed))
            .sum()
    }
}
