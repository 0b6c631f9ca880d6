//! The pipeline's counters of itself, which the `probe` reader reports.

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dataflux_common::histogram;

use crate::model::{Buckets, Cause};

/// All counters of one start of the probe.
#[derive(Debug, Default)]
pub struct Counters {
    /// Ticks that passed while the one before was still at work, or while the machine slept.
    pub missed_ticks: Counter,
    /// Reloads of the configuration that were put in force.
    pub reloads: Counter,
    /// Reloads that were refused as a whole.
    pub reloads_refused: Counter,
    /// Bytes of all kernel maps.
    pub kernel_map_bytes: Counter,
    /// Bytes of all kernel programs.
    pub kernel_program_bytes: Counter,
    /// Bytes of kernel maps that are mapped into the probe, which count in its RSS.
    pub mapped_bytes: Counter,
    programs: Mutex<Vec<RunningProgram>>,
    readers: Mutex<Vec<(&'static str, Arc<ReaderCounters>)>>,
    outputs: Mutex<Vec<(String, Arc<OutputCounters>)>>,
    kafka: Mutex<Vec<(String, Arc<KafkaCounters>)>>,
}

/// A kernel program that is attached, for as long as its reader has it.
#[derive(Debug, Clone)]
pub struct RunningProgram {
    /// Its reader.
    pub reader: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What `/proc/self/fdinfo` tells of it.
    pub descriptor: Weak<OwnedFd>,
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
    /// Entities that are only reported together, now.
    pub other_entities: Counter,
    /// 1 once there was one.
    pub is_bounded: Counter,
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
    /// Bytes in the queue, or in the totals, now.
    pub queue_bytes: Counter,
    /// Series that the totals have no room for now.
    pub left_out: Counter,
    /// Envelopes in the queue now.
    pub queue_envelopes: Counter,
    /// Payloads handed over and not acknowledged now.
    pub in_flight: Counter,
}

/// Of one output's Kafka client.
#[derive(Debug, Default)]
pub struct KafkaCounters {
    /// Producers made: one, and one more whenever it had to be replaced.
    pub producers: Counter,
    /// Records sent, repeats by librdkafka included.
    pub messages: Counter,
    /// Their bytes.
    pub message_bytes: Counter,
    /// Requests sent to brokers.
    pub requests: Counter,
    /// Their bytes, which are compressed.
    pub request_bytes: Counter,
    /// Requests that librdkafka sent again.
    pub retries: Counter,
    /// Requests that could not be sent, had no answer in time, or one that made no sense.
    pub errors: Counter,
    /// Connections tried.
    pub connects: Counter,
    /// Connections closed.
    pub disconnects: Counter,
    /// Records in librdkafka's queues now.
    pub queue_messages: Counter,
    /// Their bytes.
    pub queue_bytes: Counter,
    latencies: Mutex<Latencies>,
    brokers: Mutex<Vec<KafkaBroker>>,
}

/// A broker as librdkafka sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaBroker {
    /// Its id in the cluster.
    pub id: i64,
    /// Whether there is a connection that works.
    pub up: bool,
    /// Mean, 99th percentile and longest round trip of late, ns; `None` if there was none.
    pub latency: Option<[u64; 3]>,
    /// Longest time of late that it made the client wait, ns.
    pub throttle_ns: u64,
}

/// How long acknowledgements took.
#[derive(Debug)]
struct Latencies {
    sum: u64,
    counts: [u64; histogram::BUCKETS],
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            sum: 0,
            counts: [0; histogram::BUCKETS],
        }
    }
}

impl KafkaCounters {
    /// A record was acknowledged so long after it was handed over.
    pub fn acknowledge(&self, latency: Duration) {
        let latency = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        let mut latencies = lock(&self.latencies);
        latencies.sum = latencies.sum.wrapping_add(latency);
        latencies.counts[histogram::bucket(latency)] += 1;
    }

    /// Times from hand-over to acknowledgement, ns.
    pub fn latencies(&self) -> Buckets {
        let latencies = lock(&self.latencies);
        Buckets::from_dense(latencies.sum, latencies.counts)
    }

    /// Replaces what is known of the brokers.
    pub fn set_brokers(&self, brokers: Vec<KafkaBroker>) {
        *lock(&self.brokers) = brokers;
    }

    /// What is known of the brokers.
    pub fn brokers(&self) -> Vec<KafkaBroker> {
        lock(&self.brokers).clone()
    }
}

impl OutputCounters {
    /// Counts numbers that are lost.
    pub fn lose(&self, cause: Cause, numbers: u64) {
        let counter = match cause {
            Cause::QueueFull => &self.lost_queue_full,
            Cause::Rejected => &self.lost_rejected,
            Cause::Unformattable => &self.lost_unformattable,
            Cause::Damaged => &self.lost_damaged,
            // Counted by nobody: the process ends.
            Cause::Stopped => return,
        };
        counter.add(numbers);
    }
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
    /// Notes a kernel program that runs from now on.
    pub fn add_program(&self, program: RunningProgram) {
        lock(&self.programs).push(program);
    }

    /// The kernel programs that run.
    #[must_use]
    pub fn programs(&self) -> Vec<RunningProgram> {
        lock(&self.programs).clone()
    }

    /// The counters of a reader, made on first use.
    pub fn reader(&self, name: &'static str) -> Arc<ReaderCounters> {
        entry(&mut lock(&self.readers), name)
    }

    /// The counters of an output, made on first use.
    pub fn output(&self, name: &str) -> Arc<OutputCounters> {
        entry(&mut lock(&self.outputs), name.to_owned())
    }

    /// The counters of an output's Kafka client, made on first use.
    pub fn kafka(&self, output: &str) -> Arc<KafkaCounters> {
        entry(&mut lock(&self.kafka), output.to_owned())
    }

    /// Forgets readers and outputs but these: they are gone for good.
    pub fn retain(&self, reader: impl Fn(&str) -> bool, output: impl Fn(&str) -> bool) {
        lock(&self.readers).retain(|(name, _)| reader(name));
        lock(&self.outputs).retain(|(name, _)| output(name));
        lock(&self.kafka).retain(|(name, _)| output(name));
    }

    /// The counters of every Kafka client, by its output.
    pub fn kafkas(&self) -> Vec<(String, Arc<KafkaCounters>)> {
        lock(&self.kafka).clone()
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
