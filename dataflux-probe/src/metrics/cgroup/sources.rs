//! What the files of cgroups are, and where their values go.

use std::collections::BTreeSet;

use super::{
    definitions::{TASKS, TASKS_LIMIT, TASKS_REFUSED},
    text::{self, Device},
};
use crate::model::{Entity, LabelValue, MetricDef, Snapshot, Total};

/// One file of every cgroup of a hierarchy.
pub(super) struct Source {
    pub(super) file: &'static str,
    /// Whether a look now and then will do: it changes only when somebody sets it.
    pub(super) is_setting: bool,
    pub(super) part: Part,
    pub(super) metrics: &'static [&'static MetricDef],
    /// Adds what the file says.
    pub(super) push: fn(&[u8], &mut Out<'_>) -> anyhow::Result<()>,
}

/// What can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Part {
    Cpu,
    Memory,
    Io,
    Tasks,
    Pressure,
}

impl Part {
    pub(super) const ALL: [Self; 5] = [
        Self::Cpu,
        Self::Memory,
        Self::Io,
        Self::Tasks,
        Self::Pressure,
    ];
}

/// Where the values of one cgroup go.
pub(super) struct Out<'a> {
    pub(super) snapshot: &'a mut Snapshot,
    pub(super) entity: Entity,
    /// Whether the cgroup was made after the last read: then all that it counted belongs to this window.
    pub(super) is_new: bool,
    pub(super) devices: &'a mut Devices,
    /// The period of v1's limit of processor time, in microseconds.
    pub(super) period: Option<u64>,
}

impl Out<'_> {
    pub(super) fn counter<const N: usize>(
        &mut self,
        def: &'static MetricDef,
        labels: [LabelValue; N],
        value: u64,
    ) {
        if self.is_new {
            let (entity, labels) = (Some(self.entity.clone()), Box::new(labels.clone()));
            self.snapshot.earlier.push(crate::model::Series {
                def,
                entity,
                labels,
                value: Total::Counter(0),
            });
        }
        self.snapshot
            .counter(def, Some(self.entity.clone()), labels, value);
    }

    pub(super) fn gauge<const N: usize>(
        &mut self,
        def: &'static MetricDef,
        labels: [LabelValue; N],
        value: f64,
    ) {
        self.snapshot
            .gauge(def, Some(self.entity.clone()), labels, value);
    }

    pub(super) fn one(&mut self, def: &'static MetricDef, value: Option<u64>) {
        if let Some(value) = value {
            self.counter(def, [], value);
        }
    }

    pub(super) fn each<const N: usize>(
        &mut self,
        def: &'static MetricDef,
        labels: [&'static str; N],
        values: [Option<u64>; N],
    ) {
        for (label, value) in labels.into_iter().zip(values) {
            if let Some(value) = value {
                self.counter(def, [label.into()], value);
            }
        }
    }

    pub(super) fn level(
        &mut self,
        def: &'static MetricDef,
        label: &'static str,
        value: Option<u64>,
    ) {
        if let Some(value) = value {
            self.gauge(def, [label.into()], value as f64);
        }
    }

    pub(super) fn by_device(&mut self, def: &'static MetricDef, device: Device, values: [u64; 3]) {
        if !self.devices.admit(device) {
            return;
        }
        let (major, minor) = device;
        for (operation, value) in ["read", "write", "discard"].into_iter().zip(values) {
            let device = LabelValue::Owned(format!("{major}:{minor}"));
            self.counter(def, [device, operation.into()], value);
        }
    }
}

/// The block devices that have series of their own: the first that were seen, so that they keep them.
#[derive(Debug)]
pub(super) struct Devices {
    most: usize,
    admitted: BTreeSet<Device>,
    refused: BTreeSet<Device>,
}

impl Devices {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            admitted: BTreeSet::new(),
            refused: BTreeSet::new(),
        }
    }

    fn admit(&mut self, device: Device) -> bool {
        if self.admitted.contains(&device) {
            return true;
        }
        if self.admitted.len() < self.most {
            self.admitted.insert(device);
            return true;
        }
        self.refused.insert(device);
        false
    }

    /// How many devices were left out since the last call.
    pub(super) fn take_refused(&mut self) -> usize {
        std::mem::take(&mut self.refused).len()
    }
}

pub(super) const fn source(
    file: &'static str,
    part: Part,
    metrics: &'static [&'static MetricDef],
    push: fn(&[u8], &mut Out<'_>) -> anyhow::Result<()>,
) -> Source {
    Source {
        file,
        is_setting: false,
        part,
        metrics,
        push,
    }
}

pub(super) const fn setting(
    file: &'static str,
    part: Part,
    metrics: &'static [&'static MetricDef],
    push: fn(&[u8], &mut Out<'_>) -> anyhow::Result<()>,
) -> Source {
    Source {
        is_setting: true,
        ..source(file, part, metrics, push)
    }
}

// Files that v1 and v2 have alike.

pub(super) fn tasks(file: &[u8], out: &mut Out<'_>) -> anyhow::Result<()> {
    out.gauge(&TASKS, [], text::number(file)? as f64);
    Ok(())
}

pub(super) fn tasks_refused(file: &[u8], out: &mut Out<'_>) -> anyhow::Result<()> {
    let [refused] = text::values(file, ["max"])?;
    out.one(&TASKS_REFUSED, refused);
    Ok(())
}

pub(super) fn tasks_limit(file: &[u8], out: &mut Out<'_>) -> anyhow::Result<()> {
    if let Some(limit) = text::limit(file)? {
        out.gauge(&TASKS_LIMIT, [], limit as f64);
    }
    Ok(())
}
