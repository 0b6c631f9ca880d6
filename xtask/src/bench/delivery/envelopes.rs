//! Envelopes of real size: what the default configuration's readers tell of this machine.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use dataflux_probe::{
    config::{Config, Registries},
    health::Pulse,
    kernel::Kernel,
    metadata::names::Names,
    model::{EntityKey, EntityKind, Envelope, Metric, Value},
    pipeline::{Output, Pipeline},
};

use crate::workspace;

/// Disks and interfaces of the machine that the bars are for.
const DISKS: usize = 2;
const INTERFACES: usize = 3;

/// The configuration that the probe comes with.
fn configuration() -> anyhow::Result<Config> {
    let path = workspace::root().join("deploy/probe.toml");
    Ok(Config::load(&path, Registries::BUILT_IN)?)
}

/// The envelope as most ticks give it: without the readers that this configuration reads less often than others.
///
/// # Errors
/// The configuration is wrong.
pub(super) fn of_most_ticks(envelope: &Envelope) -> anyhow::Result<Envelope> {
    let config = configuration()?;
    let mut envelope = envelope.clone();
    envelope.sources.retain(|source| {
        let mut readers = config.readers.iter();
        readers.any(|reader| reader.name == source.reader && reader.interval == config.interval)
    });
    Ok(envelope)
}

/// One window of this length, read by the readers of `deploy/probe.toml`, without what has not changed.
///
/// # Errors
/// The configuration is wrong, or the readers do not run.
pub(in super::super) fn read(window: Duration) -> anyhow::Result<Envelope> {
    read_for(Vec::new(), window)
}

/// The same as the first of these outputs would get it.
///
/// # Errors
/// As [`read`].
pub(in super::super) fn read_for(
    outputs: Vec<Output>,
    window: Duration,
) -> anyhow::Result<Envelope> {
    let config = configuration()?;
    let kernel = Kernel::new(
        config.context.roots.clone(),
        Arc::clone(&config.context.counters),
    );
    let mut readers = config.readers;
    for reader in &mut readers {
        reader
            .reader
            .attach(&kernel)
            .with_context(|| format!("attaching {}", reader.name))?;
    }
    let pipeline = Pipeline {
        readers,
        metadata: config.metadata,
        outputs,
        names: Names::new(config.context.roots.sys),
        counters: config.context.counters,
        state_dir: None,
        place: 0,
        pulse: Pulse::default(),
        drain_limit: Duration::ZERO,
    };
    Ok(Arc::unwrap_or_clone(pipeline.once(window)?.envelope))
}

/// The envelope as a machine with two disks and three interfaces has it: with the busiest of each here, and with copies of
/// the busiest one where there are fewer.
pub(in super::super) fn scaled(envelope: &Envelope) -> Envelope {
    let mut scaled = envelope.clone();
    for source in &mut scaled.sources {
        keep_busiest(&mut source.metrics, EntityKind::Device, DISKS);
        keep_busiest(&mut source.metrics, EntityKind::Interface, INTERFACES);
    }
    scaled
}

/// Leaves so many entities of this kind, those with the most series.
fn keep_busiest(metrics: &mut Vec<Metric>, kind: EntityKind, count: usize) {
    let of_kind = |metric: &Metric| {
        let entity = metric.entity.as_ref()?;
        (entity.kind == kind && entity.key != EntityKey::Other).then(|| entity.clone())
    };
    let mut series: BTreeMap<_, usize> = BTreeMap::new();
    for entity in metrics.iter().filter_map(of_kind) {
        *series.entry(entity).or_default() += 1;
    }
    let mut series: Vec<_> = series.into_iter().collect();
    series.sort_by_key(|(_, series)| std::cmp::Reverse(*series));
    series.truncate(count);
    let copies = count - series.len();
    let mut kept = Vec::new();
    for metric in metrics.drain(..) {
        let Some(entity) = of_kind(&metric) else {
            kept.push(metric);
            continue;
        };
        let place = series.iter().position(|(kept, _)| *kept == entity);
        let more = if place == Some(0) { copies } else { 0 };
        if place.is_some() {
            kept.extend((0..=more).map(|copy| renamed(&metric, copy)));
        }
    }
    *metrics = kept;
}

/// The series as that of another entity.
fn renamed(metric: &Metric, copy: usize) -> Metric {
    let mut metric = metric.clone();
    if copy == 0 {
        return metric;
    }
    let other = |name: &str| -> Arc<str> { format!("{}{copy}", &name[..name.len() - 1]).into() };
    let more = (copy as u64) << 4;
    metric.entity_id = metric.entity_id.map(|id| id + more);
    metric.entity_name = metric.entity_name.as_deref().map(other);
    if let Some(entity) = &mut metric.entity {
        entity.key = match &entity.key {
            EntityKey::Id(id) => EntityKey::Id(id + more),
            EntityKey::Name(name) => EntityKey::Name(other(name)),
            EntityKey::Other => EntityKey::Other,
        };
    }
    metric
}

/// Envelopes with the same series and other values, so that compression meets no repeats that reality does not have.
pub(super) fn varied(envelope: &Envelope, count: usize) -> Vec<Arc<Envelope>> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut last = envelope.clone();
    let vary = |_| {
        for source in &mut last.sources {
            for (metric, like) in source.metrics.iter_mut().zip(
                envelope
                    .sources
                    .iter()
                    .find(|one| one.reader == source.reader)
                    .map_or(&[][..], |one| &one.metrics),
            ) {
                vary(&mut metric.value, &like.value, &mut random);
            }
        }
        Arc::new(last.clone())
    };
    (0..count).map(vary).collect()
}

/// Around that of `like`; totals go on growing.
fn vary(value: &mut Value, like: &Value, random: &mut Random) {
    match (value, like) {
        (Value::Counter { value, total }, Value::Counter { value: like, .. }) => {
            // Readers leave out what has not changed.
            *value = like.map(|like| random.around(like).max(like.min(1)));
            *total = total.wrapping_add(value.unwrap_or(0));
        }
        (Value::Gauge { value, min, max }, Value::Gauge { value: like, .. }) => {
            *value = if like.fract() == 0.0 && *like >= 0.0 {
                random.around(*like as u64) as f64
            } else {
                like * (0.5 + random.next() as f64 / u64::MAX as f64)
            };
            (*min, *max) = (*value, *value);
        }
        (Value::Histogram(buckets), Value::Histogram(like)) => {
            buckets.sum = random.around(like.sum);
            for ((_, count), (_, like)) in buckets.counts.iter_mut().zip(&like.counts) {
                *count = random.around(*like).max(1);
            }
        }
        _ => {}
    }
}

/// xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// From half to one and a half times as much.
    fn around(&mut self, value: u64) -> u64 {
        value / 2 + self.next() % (value + 1)
    }
}
