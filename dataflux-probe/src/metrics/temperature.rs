//! `temperature`: of processors, drives, boards and whatever else has a sensor, from hwmon and thermal zones.
//!
//! Many thermal zones are hwmon chips as well, and have their temperature in both metrics.

use std::{collections::BTreeSet, path::PathBuf};

use rustix::io::Errno;
use serde::Deserialize;

use super::{
    MetricReader,
    hwmon::{self, Sensors, entries, worsen},
};
use crate::{
    host_file::{ValueFile, first_line},
    model::{LabelValue, MetricDef, Snapshot, Status, Unit},
    plugin::{Context, Needs, Plugin},
};

pub(super) static PLUGIN: Plugin<dyn MetricReader> = Plugin {
    name: "temperature",
    summary: "temperatures of processors, drives and boards, where there are sensors",
    needs: Needs {
        kernel: "/sys/class/hwmon, /sys/class/thermal",
        ..Needs::NOTHING
    },
    example: "\
enabled = false         # virtual machines have no sensors; switch it on where there are some
# max_sensors = 256     # of hwmon, and as many thermal zones; more are left out and the source is degraded; default 256
",
    metrics: &[&SENSOR, &CRITICAL, &ZONE],
    build: |section, context| Ok(Box::new(Temperatures::new(&section.parse()?, context))),
};

static SENSOR: MetricDef = gauge(
    "temperature.sensor",
    "Temperature at a sensor of a hardware monitoring chip.",
    hwmon::LABELS,
);
static CRITICAL: MetricDef = gauge(
    "temperature.critical",
    "Temperature that the sensor must not reach; only where it says so.",
    hwmon::LABELS,
);
static ZONE: MetricDef = gauge(
    "temperature.zone",
    "Temperature of a thermal zone, by its name and its type.",
    &["zone", "type"],
);

const fn gauge(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
) -> MetricDef {
    MetricDef::gauge(name, Unit::Celsius, help, labels)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default = "default_max_sensors")]
    max_sensors: usize,
}

const fn default_max_sensors() -> usize {
    256
}

struct Temperatures {
    sensors: Sensors,
    zones: Zones,
}

impl Temperatures {
    fn new(config: &Config, context: &Context) -> Self {
        let sys = &context.roots.sys;
        let kind = hwmon::Kind {
            prefix: "temp",
            values: &["input"],
        };
        Self {
            sensors: Sensors::new(sys, kind, config.max_sensors),
            zones: Zones {
                folder: sys.join("class/thermal"),
                most: config.max_sensors,
                entries: BTreeSet::new(),
                found: Vec::new(),
            },
        }
    }
}

impl MetricReader for Temperatures {
    fn read(&mut self, out: &mut Snapshot) -> anyhow::Result<()> {
        let mut has_critical = false;
        for reading in self.sensors.read(out) {
            if let Some(critical) = reading.critical {
                has_critical = true;
                out.gauge(&CRITICAL, None, reading.labels.clone(), celsius(critical));
            }
            out.gauge(&SENSOR, None, reading.labels, celsius(reading.value));
        }
        self.zones.read(out);
        if self.sensors.is_empty() {
            out.unsupported.push(&SENSOR);
        }
        if !has_critical {
            out.unsupported.push(&CRITICAL);
        }
        if self.zones.found.is_empty() {
            out.unsupported.push(&ZONE);
        }
        if self.sensors.is_empty() && self.zones.found.is_empty() {
            let why = "no sensor in /sys/class/hwmon and no zone in /sys/class/thermal";
            worsen(out, Status::Unsupported, why);
        }
        Ok(())
    }
}

/// Files are in thousandths.
fn celsius(value: i64) -> f64 {
    value as f64 / 1000.0
}

/// What stands in a zone's file while it has no temperature (`THERMAL_TEMP_INVALID`), and all that is as cold.
const ABSOLUTE_ZERO: i64 = -273_150;

/// The thermal zones, which are looked for again when some come or go.
struct Zones {
    folder: PathBuf,
    most: usize,
    entries: BTreeSet<String>,
    found: Vec<Zone>,
}

struct Zone {
    labels: [String; 2],
    temperature: ValueFile,
}

impl Zones {
    fn read(&mut self, out: &mut Snapshot) {
        let entries = entries(&self.folder);
        if self.entries != entries {
            self.search(&entries);
            self.entries = entries;
        }
        for zone in self.found.iter_mut().take(self.most) {
            match zone.temperature.numbers() {
                Ok([value]) if value > ABSOLUTE_ZERO => {
                    let labels = zone.labels.each_ref().map(|label| label.clone().into());
                    out.gauge::<LabelValue>(&ZONE, None, labels, celsius(value));
                }
                Ok(_) => {}
                Err(error) => match Errno::from_io_error(&error) {
                    // It is switched off, or has not been measured yet.
                    Some(Errno::NODATA | Errno::AGAIN) => {}
                    Some(Errno::NODEV | Errno::NOENT) => self.entries = BTreeSet::new(),
                    _ => {
                        let what = format!("{}: {error}", zone.temperature.path().display());
                        worsen(out, Status::Degraded, &what);
                    }
                },
            }
        }
        let left_out = self.found.len().saturating_sub(self.most);
        if left_out > 0 {
            let what = format!("{left_out} thermal zones beyond max_sensors");
            worsen(out, Status::Degraded, &what);
        }
    }

    /// The folder has cooling devices as well.
    fn search(&mut self, entries: &BTreeSet<String>) {
        let zones = entries
            .iter()
            .filter(|name| name.starts_with("thermal_zone"));
        let zone = |name: &String| {
            let folder = self.folder.join(name);
            let kind = first_line(&folder.join("type")).unwrap_or_default();
            Zone {
                labels: [name.clone(), kind],
                temperature: ValueFile::new(folder.join("temp")),
            }
        };
        self.found = zones.map(zone).collect();
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::Path};

    use proptest::prelude::*;

    use super::*;
    use crate::{
        host_file::testing::total,
        model::Total,
        plugin::testing::{context, fixtures},
    };

    fn reader(config: &str, folder: &Path) -> Box<dyn MetricReader> {
        PLUGIN.build_from(config, &context(folder)).unwrap()
    }

    fn read(reader: &mut Box<dyn MetricReader>) -> Snapshot {
        let mut snapshot = Snapshot::default();
        reader.read(&mut snapshot).unwrap();
        snapshot
    }

    fn gauges(snapshot: &Snapshot) -> Vec<String> {
        let line = |series: &crate::model::Series| match series.value {
            Total::Gauge(value) => {
                format!("{} {} {value}", series.def.name, series.labels.join(","))
            }
            _ => panic!("{} is a gauge", series.def.name),
        };
        snapshot.series.iter().map(line).collect()
    }

    /// A chip with files, on a device.
    fn chip(folder: &Path, name: &str, files: &[(&str, &str)]) {
        let chip = folder.join("sys/class/hwmon").join(name);
        fs::create_dir_all(&chip).unwrap();
        for (file, text) in files {
            fs::write(chip.join(file), format!("{text}\n")).unwrap();
        }
    }

    #[test]
    fn sensors_are_named_by_driver_device_and_label() {
        let snapshot = read(&mut reader("", fixtures()));
        assert_eq!(
            gauges(&snapshot),
            [
                "temperature.critical coretemp,coretemp.0,Package id 0 100",
                "temperature.sensor coretemp,coretemp.0,Package id 0 45.5",
                "temperature.sensor coretemp,coretemp.0,Core 0 -3",
                "temperature.critical nvme,nvme0,Composite 84.85",
                "temperature.sensor nvme,nvme0,Composite 38.85",
                "temperature.sensor nvme,nvme0,temp2 0",
                "temperature.zone thermal_zone0,x86_pkg_temp 46",
            ]
        );
        assert!(snapshot.unsupported.is_empty());
        assert_eq!(snapshot.health.status, Status::Ok);
    }

    #[test]
    fn a_machine_without_sensors_is_unsupported() {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = read(&mut reader("", folder.path()));
        assert_eq!(snapshot.unsupported, PLUGIN.metrics);
        assert_eq!(snapshot.health.status, Status::Unsupported);
    }

    #[test]
    fn chips_come_and_go_and_take_the_numbers_of_others() {
        let folder = tempfile::tempdir().unwrap();
        let mut reader = reader("", folder.path());
        assert!(read(&mut reader).series.is_empty());
        chip(
            folder.path(),
            "hwmon0",
            &[("name", "one"), ("temp1_input", "1000")],
        );
        assert_eq!(
            gauges(&read(&mut reader)),
            ["temperature.sensor one,hwmon0,temp1 1"]
        );
        chip(
            folder.path(),
            "hwmon1",
            &[("name", "two"), ("temp1_input", "2000")],
        );
        assert_eq!(read(&mut reader).series.len(), 2);
        fs::remove_dir_all(folder.path().join("sys/class/hwmon/hwmon0")).unwrap();
        assert_eq!(
            gauges(&read(&mut reader)),
            ["temperature.sensor two,hwmon1,temp1 2"]
        );
        symlink(
            "../../../devices/pci0/nvme7",
            folder.path().join("sys/class/hwmon/hwmon1/device"),
        )
        .unwrap();
        chip(folder.path(), "hwmon2", &[("name", "three")]);
        assert_eq!(
            gauges(&read(&mut reader)),
            ["temperature.sensor two,nvme7,temp1 2"]
        );
    }

    #[test]
    fn what_is_not_connected_has_no_temperature_and_what_is_wrong_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let files = [
            ("name", "board"),
            ("temp1_input", "127000"),
            ("temp1_fault", "1"),
            ("temp2_input", "41000"),
            ("temp2_fault", "0"),
            ("temp3_input", "hot"),
        ];
        chip(folder.path(), "hwmon0", &files);
        let snapshot = read(&mut reader("", folder.path()));
        assert_eq!(
            gauges(&snapshot),
            ["temperature.sensor board,hwmon0,temp2 41"]
        );
        assert_eq!(snapshot.health.status, Status::Degraded);
        assert!(
            snapshot.health.reason.contains("temp3_input"),
            "{}",
            snapshot.health
        );
    }

    #[test]
    fn equal_labels_are_told_apart_and_more_than_the_bound_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let files = [
            ("name", "board"),
            ("temp1_input", "1"),
            ("temp1_label", "CPU"),
            ("temp2_input", "2"),
            ("temp2_label", "CPU"),
            ("temp3_input", "3"),
        ];
        chip(folder.path(), "hwmon0", &files);
        let snapshot = read(&mut reader("max_sensors = 2", folder.path()));
        let second = ["board", "hwmon0", "CPU (temp2_input)"];
        let value = total(&snapshot, "temperature.sensor", &second);
        assert_eq!(value, Some(Total::Gauge(0.002)));
        assert_eq!(snapshot.series.len(), 2);
        assert_eq!(&*snapshot.health.reason, "1 sensors beyond max_sensors");
    }

    #[test]
    fn a_zone_without_a_temperature_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let zone = folder.path().join("sys/class/thermal/thermal_zone3");
        fs::create_dir_all(&zone).unwrap();
        fs::write(zone.join("temp"), "-274000\n").unwrap();
        let snapshot = read(&mut reader("", folder.path()));
        assert!(snapshot.series.is_empty());
        assert_eq!(snapshot.health.status, Status::Ok);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_temperature_or_told(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let folder = tempfile::tempdir().unwrap();
            chip(folder.path(), "hwmon0", &[("name", "x")]);
            fs::write(folder.path().join("sys/class/hwmon/hwmon0/temp1_input"), &bytes).unwrap();
            let snapshot = read(&mut reader("", folder.path()));
            prop_assert_eq!(snapshot.series.len() == 1, snapshot.health.status == Status::Ok);
        }
    }
}
