//! Kernel arrays mapped into the probe: read with plain loads, no system call.

use std::{
    marker::PhantomData,
    os::fd::AsFd,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::Context as _;
use aya::maps::{Map, MapData};
use dataflux_common::shared::Shared;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// An array map of `T`, mapped. The kernel may write any word at any time, so values are read word by word, and what is read
/// together may be torn between words: each only grows, and the next read has the rest.
pub struct MappedArray<T> {
    words: NonNull<AtomicU64>,
    bytes: usize,
    entries: usize,
    /// Keeps the map alive, though the mapping would too.
    _map: MapData,
    _entry: PhantomData<T>,
}

// SAFETY: the mapping is plain memory that is only accessed through atomics.
unsafe impl<T> Send for MappedArray<T> {}

const WORD: usize = size_of::<u64>();

impl<T: Shared> MappedArray<T> {
    /// Maps an array map that was created with `BPF_F_MMAPABLE`.
    ///
    /// # Errors
    /// The map is not an array of `T`, or the kernel refuses to map it.
    pub fn new(map: Map) -> anyhow::Result<Self> {
        const {
            assert!(
                size_of::<T>().is_multiple_of(WORD),
                "map values are whole words"
            )
        };
        let Map::Array(map) = map else {
            anyhow::bail!("not an array map")
        };
        let info = map.info()?;
        anyhow::ensure!(
            info.value_size() as usize == size_of::<T>(),
            "value of {} bytes, not {}: the object is of another version than the probe; `cargo xtask build-ebpf`, then build the probe again",
            info.value_size(),
            size_of::<T>()
        );
        let entries = info.max_entries() as usize;
        let bytes = entries * size_of::<T>();
        // SAFETY: a new shared mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                map.fd().as_fd(),
                0,
            )
        }
        .context("mapping a kernel array")?;
        let words = NonNull::new(start.cast()).context("mapped at address 0")?;
        Ok(Self {
            words,
            bytes,
            entries,
            _map: map,
            _entry: PhantomData,
        })
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Bytes of the mapping, which count in the probe's RSS once they are touched.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The word at an offset (`offset_of!`) within an entry.
    #[must_use]
    pub fn word(&self, entry: usize, offset: usize) -> u64 {
        self.words(entry, offset, 1)[0].load(Ordering::Relaxed)
    }

    /// Adds the words from an offset within an entry to `sums`, as many as there are sums.
    pub fn add_to(&self, sums: &mut [u64], entry: usize, offset: usize) {
        let words = self.words(entry, offset, sums.len());
        for (sum, word) in sums.iter_mut().zip(words) {
            *sum = sum.wrapping_add(word.load(Ordering::Relaxed));
        }
    }

    /// Clears a part of an entry whose owner is gone, last word first, so that a tag in the first word keeps the place until
    /// all behind it is 0.
    pub fn clear(&self, entry: usize, offset: usize, bytes: usize) {
        for word in self.words(entry, offset, bytes / WORD).iter().rev() {
            word.store(0, Ordering::Release);
        }
    }

    fn words(&self, entry: usize, offset: usize, count: usize) -> &[AtomicU64] {
        assert!(
            entry < self.entries
                && offset.is_multiple_of(WORD)
                && offset + count * WORD <= size_of::<T>(),
            "within an entry"
        );
        // SAFETY: the assertion keeps the range within the mapping, which lives as long as `self`, is aligned to a page, and
        // whose every bit pattern is a valid u64.
        unsafe {
            std::slice::from_raw_parts(
                self.words
                    .as_ptr()
                    .add((entry * size_of::<T>() + offset) / WORD),
                count,
            )
        }
    }
}

impl<T> Drop for MappedArray<T> {
    fn drop(&mut self) {
        // SAFETY: exactly what was mapped, and no slice of it outlives `self`.
        if let Err(error) = unsafe { munmap(self.words.as_ptr().cast(), self.bytes) } {
            tracing::debug!("unmapping a kernel array: {error}");
        }
    }
}
