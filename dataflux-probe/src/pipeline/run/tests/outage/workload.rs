//! Readers like those of a busy host: devices, interfaces that come and go, histograms that move, reads that fail.

use std::{collections::BTreeMap, time::Duration};

use super::super::{MS, reader};
use crate::{
    model::{Buckets, Entity, EntityKey, EntityKind, MetricDef, Snapshot},
    pipeline::{
        Reader,
        fakes::{EVENTS, FakeReader, JITTER, LEVEL, PAST, Random, SIZES},
    },
};

const INTERVAL: Duration = MS.saturating_mul(100);

static DEFS: &[&MetricDef] = &[&EVENTS, &JITTER, &LEVEL, &PAST, &SIZES];

type Read = Box<dyn FnMut(&mut Snapshot) -> anyhow::Result<()> + Send>;

/// `pace` is called before each round of reads.
pub(super) fn readers(pace: impl Fn() + Send + 'static) -> Vec<Reader> {
    let mut devices = Devices::new();
    let mut links = Links::new();
    let mut tasks = Tasks::new();
    let reads: [(_, Read); 3] = [
        (
            "devices",
            Box::new(move |out| {
                pace();
                devices.read(out);
                Ok(())
            }),
        ),
        (
            "links",
            Box::new(move |out| {
                links.read(out);
                Ok(())
            }),
        ),
        ("tasks", Box::new(move |out| tasks.read(out))),
    ];
    let reads = reads.into_iter();
    reads
        .map(|(name, read)| Reader {
            metrics: DEFS,
            ..reader(name, INTERVAL, Box::new(FakeReader(read)))
        })
        .collect()
}

/// What a kernel map holds of a histogram.
#[derive(Default)]
struct Growing {
    sum: u64,
    counts: BTreeMap<u16, u64>,
}

impl Growing {
    /// Some values around a bucket.
    fn grow(&mut self, random: &mut Random, around: u64) {
        for _ in 0..random.below(16) {
            let bucket = u16::try_from(around + random.below(20)).unwrap();
            *self.counts.entry(bucket).or_default() += 1 + random.below(5_000);
            self.sum += random.below(1 << 33);
        }
    }

    fn buckets(&self) -> Buckets {
        Buckets {
            sum: self.sum,
            counts: self
                .counts
                .iter()
                .map(|(&bucket, &count)| (bucket, count))
                .collect(),
        }
    }
}

/// Block devices: some idle, all the time the same ones.
struct Devices {
    random: Random,
    ticks: u64,
    counters: [[u64; 4]; 4],
    times: [[Growing; 2]; 4],
}

impl Devices {
    fn new() -> Self {
        Self {
            random: Random(7),
            ticks: 0,
            counters: [[0; 4]; 4],
            times: Default::default(),
        }
    }

    fn read(&mut self, out: &mut Snapshot) {
        self.ticks += 1;
        for (place, counters) in self.counters.iter_mut().enumerate() {
            let id = (8 << 20) + 16 * place as u64;
            let device = Some(Entity {
                kind: EntityKind::Device,
                key: EntityKey::Id(id),
            });
            let idle = self.random.percent(25);
            for (label, count) in ["reads", "writes", "read", "written"].iter().zip(counters) {
                *count += if idle { 0 } else { self.random.below(1 << 28) };
                out.counter(&EVENTS, device.clone(), [*label], *count);
            }
            for (label, times) in ["read", "write"].iter().zip(&mut self.times[place]) {
                if !idle {
                    // What is slow changes in the course of minutes.
                    times.grow(&mut self.random, 60 + self.ticks / 1_000);
                }
                out.histogram(&SIZES, device.clone(), [*label], times.buckets());
            }
            let level = self.random.below(1 << 40);
            out.gauge(&LEVEL, device, ["in flight"], level as f64 / 8.0);
        }
    }
}

/// Interfaces, one of which is replaced by another now and then.
struct Links {
    random: Random,
    next: u64,
    links: Vec<(u64, [u64; 4])>,
}

impl Links {
    fn new() -> Self {
        Self {
            random: Random(11),
            next: 6,
            links: (1..6).map(|id| (id, [0; 4])).collect(),
        }
    }

    fn read(&mut self, out: &mut Snapshot) {
        let entity = |id| Entity {
            kind: EntityKind::Interface,
            key: EntityKey::Id(id),
        };
        if self.random.percent(2) {
            let gone = self.random.below(self.links.len() as u64);
            let (id, counts) = &mut self.links[usize::try_from(gone).unwrap()];
            out.ended.push(entity(*id));
            (*id, *counts) = (self.next, [0; 4]);
            self.next = self.next % 60 + 1;
        }
        for (id, counts) in &mut self.links {
            for (place, count) in counts.iter_mut().enumerate() {
                *count += self.random.below(1 << 30);
                let label = ["received", "sent", "bytes received", "bytes sent"][place];
                let def = if place < 2 { &EVENTS } else { &PAST };
                out.counter(def, Some(entity(*id)), [label], *count);
            }
        }
    }
}

/// CPUs, whose reader fails now and then and loses events.
struct Tasks {
    random: Random,
    ticks: u64,
    lost: u64,
    slices: [Growing; 4],
    idle: [u64; 4],
}

impl Tasks {
    fn new() -> Self {
        Self {
            random: Random(13),
            ticks: 0,
            lost: 0,
            slices: Default::default(),
            idle: [0; 4],
        }
    }

    fn read(&mut self, out: &mut Snapshot) -> anyhow::Result<()> {
        self.ticks += 1;
        self.lost += self.random.below(3);
        out.lost = self.lost;
        for (cpu, label) in ["0", "1", "2", "3"].into_iter().enumerate() {
            self.slices[cpu].grow(&mut self.random, 120 + self.ticks / 300 % 15);
            out.histogram(&SIZES, None, [label], self.slices[cpu].buckets());
            // As the kernel's own idle time, it seems to fall at times.
            self.idle[cpu] += self.random.below(1 << 20);
            let seen = self.idle[cpu] - self.idle[cpu].min(self.random.below(1 << 12));
            out.counter(&JITTER, None, [label], seen);
        }
        anyhow::ensure!(!self.random.percent(1), "cannot be read just now");
        Ok(())
    }
}
