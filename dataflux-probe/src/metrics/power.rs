//! `power`: energy of processors and memory by RAPL (`/sys/class/powercap`), and power as hwmon sensors measure it.

mod rapl;

use serde::Deserialize;

use super::{
    MetricReader,
    hwmon::{self, Sensors, worsen},
};
use crate::{
    model::{Born, Fall, Kind, MetricDef, Snapshot, Status, Unit},
    plugin::{Context, Needs, Plugin},
};
use rapl::Zones;

pub(super) static PLUGIN: Plugin<dyn MetricReader> = Plugin {
    name: "power",
    summary: "energy of processors and memory by RAPL, power where sensors measure it",
    needs: Needs {
        kernel: "/sys/class/powercap (energy_uj is open to root alone since Linux 5.10, unless its mode is changed), /sys/class/hwmon",
        ..Needs::NOTHING
    },
    example: "\
enabled = false         # virtual machines have nothing that measures it; switch it on where there is something
# Counters of energy run over: with an `interval` of more than a minute there may be no way to tell how often, and no energy.
# max_sensors = 256     # of hwmon; more are left out and the source is degraded; default 256
",
    metrics: &[&ENERGY, &SENSOR],
    build: |section, context| Ok(Box::new(Power::new(&section.parse()?, context))),
};

/// Restart: it would be another counter.
static ENERGY: MetricDef = MetricDef {
    name: "power.energy",
    kind: Kind::Counter {
        born: Born::Past,
        fall: Fall::Restart,
    },
    unit: Unit::Microjoules,
    help: "Energy that a zone used; one within another (package-0/core) is part of it. The same zone can be there by two controls.",
    labels: &["control", "zone"],
};
static SENSOR: MetricDef = MetricDef {
    name: "power.sensor",
    kind: Kind::Gauge,
    unit: Unit::Watts,
    help: "Power at a sensor of a hardware monitoring chip, at this moment or as an average of the chip's own over some time.",
    labels: hwmon::LABELS,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default = "default_max_sensors")]
    max_sensors: usize,
}

const fn default_max_sensors() -> usize {
    256
}

struct Power {
    zones: Zones,
    sensors: Sensors,
}

impl Power {
    fn new(config: &Config, context: &Context) -> Self {
        let sys = &context.roots.sys;
        let kind = hwmon::Kind {
            prefix: "power",
            values: &["input", "average"],
        };
        Self {
            zones: Zones::new(sys),
            sensors: Sensors::new(sys, kind, config.max_sensors),
        }
    }
}

impl MetricReader for Power {
    fn read(&mut self, out: &mut Snapshot) -> anyhow::Result<()> {
        self.zones.read(&ENERGY, rapl::now(), out);
        for reading in self.sensors.read(out) {
            // Files are in millionths.
            out.gauge(&SENSOR, None, reading.labels, reading.value as f64 / 1e6);
        }
        if self.zones.is_empty() {
            out.unsupported.push(&ENERGY);
        }
        if self.sensors.is_empty() {
            out.unsupported.push(&SENSOR);
        }
        if self.zones.is_empty() && self.sensors.is_empty() {
            let why = "no zone in /sys/class/powercap and no sensor of power in /sys/class/hwmon";
            worsen(out, Status::Unsupported, why);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        host_file::testing::total,
        model::Total,
        plugin::testing::{context, fixtures},
    };

    #[test]
    fn zones_are_named_by_those_they_are_in() {
        let mut reader = PLUGIN.build_from("", &context(fixtures())).unwrap();
        let mut snapshot = Snapshot::default();
        reader.read(&mut snapshot).unwrap();
        let energy = |zone| total(&snapshot, "power.energy", &["intel-rapl", zone]);
        assert_eq!(energy("package-0"), Some(Total::Counter(52_100_987_654)));
        assert_eq!(energy("package-0/core"), Some(Total::Counter(1000)));
        assert_eq!(
            energy("package-0/dram"),
            Some(Total::Counter(65_712_999_000))
        );
        let meter = ["power_meter", "ACPI000D:00", "power1"];
        let sensor = total(&snapshot, "power.sensor", &meter);
        assert_eq!(sensor, Some(Total::Gauge(132.5)));
        assert_eq!(snapshot.series.len(), 4);
        assert_eq!(snapshot.health.status, Status::Ok);
    }

    #[test]
    fn a_machine_that_measures_nothing_is_unsupported() {
        let folder = tempfile::tempdir().unwrap();
        let mut reader = PLUGIN.build_from("", &context(folder.path())).unwrap();
        let mut snapshot = Snapshot::default();
        reader.read(&mut snapshot).unwrap();
        assert_eq!(snapshot.unsupported, PLUGIN.metrics);
        assert_eq!(snapshot.health.status, Status::Unsupported);
    }
}
