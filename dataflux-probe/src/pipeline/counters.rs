//! The pipeline's counters of itself, which the `probe` reader reports.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// All counters of one start of the probe.
#[derive(Debug, Default)]
pub struct Counters {
    /// Ticks that passed while the one before was still at work, or while the machine slept.
    pub missed_ticks: Counter,
    /// Bytes of all kernel maps.
    pub kernel_map_bytes: Counter,
    /// Bytes of all kernel programs.
    pub kernel_program_bytes: Counter,
    /// Bytes of kernel maps that are mapped into the probe, which count in its RSS.
    pub mapped_bytes: Counter,
    readers: Mutex<Vec<(&'static str, Arc<ReaderCounters>)>>,
    outputs: Mutex<Vec<(String, Arc<OutputCounters>)>>,
}

/// Of one reader.
#[derive(Debug, Default)]
pub struct ReaderCounters {
    /// Successful reads.
    pub reads: Counter,
    /// Failed reads.
    pub failures: Counter,
    /// Reads that were not done when their envelope had to leave.
    pub late: Counter,
    /// Time spent in reads, ns.
    pub read_ns: Counter,
}

/// Of one output.
#[derive(Debug, Default)]
pub struct OutputCounters {
    /// Envelopes accepted and numbered.
    pub envelopes: Counter,
    /// Payloads acknowledged.
    pub delivered: Counter,
    /// Bytes of the payloads acknowledged.
    pub delivered_bytes: Counter,
    /// Attempts that failed and are repeated.
    pub retries: Counter,
    /// Merges of two envelopes because the queue was full.
    pub merged: Counter,
    /// Numbers lost because the queue was full.
    pub lost_queue_full: Counter,
    /// Numbers lost because the transport will never take them.
    pub lost_rejected: Counter,
    /// Numbers lost because they could not be formatted.
    pub lost_unformattable: Counter,
    /// Numbers lost because the disk did not keep them.
    pub lost_damaged: Counter,
    /// Bytes in the queue now.
    pub queue_bytes: Counter,
    /// Envelopes in the queue now.
    pub queue_envelopes: Counter,
    /// Payloads handed over and not acknowledged now.
    pub in_flight: Counter,
}

/// One counter or level.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts on.
    pub fn add(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    /// Sets a level.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    /// The counters of a reader, made on first use.
    pub fn reader(&self, name: &'static str) -> Arc<ReaderCounters> {
        entry(&mut lock(&self.readers), name)
    }

    /// The counters of an output, made on first use.
    pub fn output(&self, name: &str) -> Arc<OutputCounters> {
        entry(&mut lock(&self.outputs), name.to_owned())
    }

    /// Every reader's counters.
    pub fn readers(&self) -> Vec<(&'static str, Arc<ReaderCounters>)> {
        lock(&self.readers).clone()
    }

    /// Every output's counters.
    pub fn outputs(&self) -> Vec<(String, Arc<OutputCounters>)> {
        lock(&self.outputs).clone()
    }
}

fn entry<K: PartialEq, V: Default>(entries: &mut Vec<(K, Arc<V>)>, key: K) -> Arc<V> {
    if let Some((_, found)) = entries.iter().find(|(known, _)| *known == key) {
        return Arc::clone(found);
    }
    let new = Arc::<V>::default();
    entries.push((key, Arc::clone(&new)));
    new
}

/// Counters stay valid when a thread panics while it holds the list.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
