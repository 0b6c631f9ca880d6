//! `pressure`: how long tasks waited for processors, memory, I/O and interrupts, from `/proc/pressure`.
//!
//! Only the running totals are taken: the averages that the files have as well follow from them for any window.

use std::{io, path::Path};

use anyhow::Context as _;
use rustix::io::Errno;
use serde::Deserialize;

use super::MetricReader;
use crate::{
    host_file::ValueFile,
    model::{Born, Fall, Health, Kind, MetricDef, Snapshot, Status, Unit},
    plugin::{Needs, Plugin},
};

pub(super) static PLUGIN: Plugin<dyn MetricReader> = Plugin {
    name: "pressure",
    summary: "time that tasks were stalled for want of processors, memory or I/O (PSI)",
    needs: Needs {
        kernel: "/proc/pressure (CONFIG_PSI, with psi=1 at boot where it is off by default)",
        ..Needs::NOTHING
    },
    example: "",
    metrics: &[
        &RESOURCES[0].def,
        &RESOURCES[1].def,
        &RESOURCES[2].def,
        &RESOURCES[3].def,
    ],
    build: |section, context| {
        let Config {} = section.parse()?;
        Ok(Box::new(Pressure::new(&context.roots.proc)))
    },
};

/// One file of `/proc/pressure`.
struct Resource {
    def: MetricDef,
    file: &'static str,
    /// The lines that mean something: processors cannot stall all tasks of a machine (the kernel writes zeros), and time
    /// for interrupts is taken from all at once.
    extents: &'static [&'static str],
}

static RESOURCES: [Resource; 4] = [
    resource(
        "pressure.cpu",
        "cpu",
        "Time in which some task that was ready to run waited for a processor.",
        &["some"],
    ),
    resource(
        "pressure.io",
        "io",
        "Time in which some, or all tasks that were not idle (full), waited for I/O; full is part of some.",
        &["some", "full"],
    ),
    resource(
        "pressure.irq",
        "irq",
        "Time in which all tasks that were ready to run waited because a processor served interrupts.",
        &["full"],
    ),
    resource(
        "pressure.memory",
        "memory",
        "Time in which some, or all tasks that were not idle (full), waited for memory; full is part of some.",
        &["some", "full"],
    ),
];

/// Restart: the kernel only adds. It counts microseconds.
const fn resource(
    name: &'static str,
    file: &'static str,
    help: &'static str,
    extents: &'static [&'static str],
) -> Resource {
    Resource {
        def: MetricDef {
            name,
            kind: Kind::Counter {
                born: Born::Past,
                fall: Fall::Restart,
            },
            unit: Unit::Nanoseconds,
            help,
            labels: &["extent"],
        },
        file,
        extents,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

struct Pressure {
    /// In the order of [`RESOURCES`].
    files: [ValueFile; RESOURCES.len()],
}

impl Pressure {
    fn new(proc: &Path) -> Self {
        let folder = proc.join("pressure");
        Self {
            files: RESOURCES
                .each_ref()
                .map(|resource| ValueFile::new(folder.join(resource.file))),
        }
    }
}

impl MetricReader for Pressure {
    fn read(&mut self, out: &mut Snapshot) -> anyhow::Result<()> {
        for (resource, file) in RESOURCES.iter().zip(&mut self.files) {
            let stalled = file.read(|text| {
                let line = |extent: &&str| stalled_ns(text, extent);
                resource
                    .extents
                    .iter()
                    .map(line)
                    .collect::<Option<Vec<_>>>()
            });
            match stalled {
                Ok(stalled) => {
                    for (&extent, ns) in resource.extents.iter().zip(stalled) {
                        out.counter(&resource.def, None, [extent], ns);
                    }
                }
                Err(error) if is_switched_off(&error) => out.unsupported.push(&resource.def),
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("cannot read {}", file.path().display()));
                }
            }
        }
        if out.unsupported.len() == RESOURCES.len() {
            out.health = Health::new(
                Status::Unsupported,
                "this kernel does not account pressure: CONFIG_PSI, or psi=1 at boot",
            );
        }
        Ok(())
    }
}

/// Kernels have no file for what they were built without, and refuse to read it where it is off.
fn is_switched_off(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOENT | Errno::OPNOTSUPP)
    )
}

/// The total of the line `EXTENT avg10=.. avg60=.. avg300=.. total=MICROSECONDS`.
fn stalled_ns(text: &str, extent: &str) -> Option<u64> {
    let whole = text.strip_suffix('\n')?;
    let mut lines = whole.lines().filter_map(|line| line.split_once(' '));
    let (_, figures) = lines.find(|(first, _)| *first == extent)?;
    let (_, total) = figures.rsplit_once(" total=")?;
    total.parse::<u64>().ok()?.checked_mul(1000)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        host_file::testing::total,
        model::Total,
        plugin::testing::{context, fixtures},
    };

    fn read(proc: &Path) -> Snapshot {
        let mut context = context(fixtures());
        context.roots.proc = proc.into();
        let mut snapshot = Snapshot::default();
        PLUGIN
            .build_from("", &context)
            .unwrap()
            .read(&mut snapshot)
            .unwrap();
        snapshot
    }

    fn counters(snapshot: &Snapshot) -> Vec<(&str, &str, u64)> {
        let counter = |series: &crate::model::Series| match series.value {
            Total::Counter(value) => value,
            _ => panic!("{} is a counter", series.def.name),
        };
        let all = snapshot.series.iter();
        all.map(|series| (series.def.name, &*series.labels[0], counter(series)))
            .collect()
    }

    #[test]
    fn microseconds_become_nanoseconds_and_what_means_nothing_is_left_out() {
        let snapshot = read(&fixtures().join("proc"));
        assert_eq!(
            counters(&snapshot),
            [
                ("pressure.cpu", "some", 19_149_663_123_000),
                ("pressure.io", "some", 1_125_733_138_000),
                ("pressure.io", "full", 207_084_372_000),
                ("pressure.irq", "full", 33_000),
                ("pressure.memory", "some", 7_291_636_000),
                ("pressure.memory", "full", 4_790_779_000),
            ]
        );
        assert!(snapshot.unsupported.is_empty());
    }

    #[test]
    fn a_kernel_without_it_is_unsupported_and_not_at_zero() {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = read(folder.path());
        assert_eq!(snapshot.health.status, Status::Unsupported);
        assert_eq!(snapshot.unsupported, PLUGIN.metrics);
        assert!(snapshot.series.is_empty());
    }

    #[test]
    fn one_resource_that_is_missing_is_unsupported_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("pressure")).unwrap();
        let from = fixtures().join("proc/pressure");
        for name in ["cpu", "io", "memory"] {
            fs::copy(from.join(name), folder.path().join("pressure").join(name)).unwrap();
        }
        let snapshot = read(folder.path());
        assert_eq!(snapshot.health.status, Status::Ok);
        assert_eq!(snapshot.unsupported, [&RESOURCES[2].def]);
        assert_eq!(snapshot.series.len(), 5);
    }

    #[test]
    fn only_off_is_unsupported() {
        let off = |errno: Errno| is_switched_off(&errno.into());
        assert!(off(Errno::OPNOTSUPP) && off(Errno::NOENT));
        assert!(!off(Errno::ACCESS) && !off(Errno::IO));
    }

    #[test]
    fn this_machine_lies_between_two_looks_at_it() {
        let look = || -> Option<u64> {
            let text = fs::read_to_string("/proc/pressure/cpu").ok()?;
            let total = text.lines().next()?.split('=').next_back()?;
            total.parse().ok()
        };
        let Some(before) = look() else {
            // This kernel does not account pressure.
            return;
        };
        let snapshot = read(Path::new("/proc"));
        let Some(Total::Counter(ns)) = total(&snapshot, "pressure.cpu", &["some"]) else {
            panic!("it is there")
        };
        let range = before * 1000..=look().unwrap() * 1000;
        assert!(range.contains(&ns), "{ns} {range:?}");
    }

    #[test]
    fn damage_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("pressure")).unwrap();
        let path = folder.path().join("pressure/io");
        let good = fs::read(fixtures().join("proc/pressure/io")).unwrap();
        let long = [b"some ".as_slice(), &[b'x'; 1000], b"\n"].concat();
        for bad in [
            b"".as_slice(),
            &good[..good.len() - 1],
            &good[..20],
            &long,
            b"\xff\n",
        ] {
            fs::write(&path, bad).unwrap();
            let mut reader = Pressure::new(folder.path());
            let error = format!("{:#}", reader.read(&mut Snapshot::default()).unwrap_err());
            assert!(error.contains(path.to_str().unwrap()), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_a_time_or_none(text in "(some|full| |avg10=|total=|[0-9]{1,25}|\\n){0,12}") {
            stalled_ns(&text, "some");
        }

        #[test]
        fn what_the_kernel_writes_is_understood(some in 0u64..=u64::MAX / 1000, full in 0u64..=u64::MAX / 1000) {
            let line = |extent, total| format!("{extent} avg10=0.00 avg60=100.00 avg300=1.20 total={total}\n");
            let text = line("some", some) + &line("full", full);
            prop_assert_eq!(stalled_ns(&text, "some"), Some(some * 1000));
            prop_assert_eq!(stalled_ns(&text, "full"), Some(full * 1000));
        }
    }
}
