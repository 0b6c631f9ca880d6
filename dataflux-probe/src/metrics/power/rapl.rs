//! Zones of `/sys/class/powercap`, and what their counters of energy come to, which run over every few minutes to hours.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

use crate::{
    host_file::{ValueFile, first_line},
    metrics::hwmon::{entries, worsen},
    model::{LabelValue, MetricDef, Snapshot, Status},
};

/// No zone uses more, W: processors and their memory stay below, and counters of whole machines count in larger units.
const MOST_WATTS: u128 = 1_000;

/// Differences between two clocks below this come from reading them one after the other.
const NOISE: Duration = Duration::from_millis(10);

/// When a read began: by CLOCK_BOOTTIME, and by CLOCK_MONOTONIC, which stands still while the machine is suspended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    boot: Duration,
    monotonic: Duration,
}

/// What the clocks say.
pub(super) fn now() -> Now {
    let read = |clock| {
        let time = clock_gettime(clock);
        // Neither has been negative since the machine was started.
        Duration::try_from(time).unwrap_or_default()
    };
    Now {
        monotonic: read(ClockId::Monotonic),
        boot: read(ClockId::Boottime),
    }
}

/// All zones, which are looked for again when some come or go.
pub(super) struct Zones {
    folder: PathBuf,
    entries: BTreeSet<String>,
    /// By their folders' names.
    found: BTreeMap<String, Zone>,
}

struct Zone {
    labels: [String; 2],
    energy: ValueFile,
    /// What the counter goes up to.
    range: u64,
    counter: Option<Counter>,
}

impl Zones {
    pub(super) fn new(sys: &Path) -> Self {
        Self {
            folder: sys.join("class/powercap"),
            entries: BTreeSet::new(),
            found: BTreeMap::new(),
        }
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Adds the total of each zone. A zone whose total does not go on from the last one is left out once, and begins anew.
    pub(super) fn read(&mut self, def: &'static MetricDef, now: Now, out: &mut Snapshot) {
        let entries = entries(&self.folder);
        if self.entries != entries {
            self.search(&entries);
            self.entries = entries;
        }
        for zone in self.found.values_mut() {
            match zone.energy.numbers() {
                Ok([energy]) => match zone.advance(energy.unsigned_abs(), now) {
                    Some(total) => {
                        let labels = zone.labels.each_ref().map(|label| label.clone().into());
                        out.counter::<LabelValue>(def, None, labels, total);
                    }
                    None => worsen(
                        out,
                        Status::Degraded,
                        "energy begins anew: too long since the last read to know how often a counter ran over, or it was set back",
                    ),
                },
                Err(error) => {
                    zone.counter = None;
                    complain(&zone.energy, &error, out);
                }
            }
        }
    }

    fn search(&mut self, entries: &BTreeSet<String>) {
        let mut before = std::mem::take(&mut self.found);
        let mut taken = BTreeSet::new();
        for entry in entries {
            let folder = self.folder.join(entry);
            let Some((control, _)) = entry.split_once(':') else {
                continue;
            };
            if !folder.join("energy_uj").exists() {
                continue;
            }
            let mut name = self.name(entry);
            if !taken.insert((control.to_owned(), name.clone())) {
                name = format!("{name} ({entry})");
            }
            let range = first_line(&folder.join("max_energy_range_uj"));
            let zone = Zone {
                labels: [control.to_owned(), name],
                energy: ValueFile::new(folder.join("energy_uj")),
                range: range.and_then(|range| range.parse().ok()).unwrap_or(0),
                counter: before.remove(entry).and_then(|zone| zone.counter),
            };
            self.found.insert(entry.clone(), zone);
        }
    }

    /// Of a zone `intel-rapl:0:1`: the names of `intel-rapl:0` and of its own.
    fn name(&self, entry: &str) -> String {
        let own = first_line(&self.folder.join(entry).join("name"));
        let own = own.unwrap_or_else(|| entry.to_owned());
        match entry.rsplit_once(':') {
            Some((outer, _)) if outer.contains(':') => format!("{}/{own}", self.name(outer)),
            _ => own,
        }
    }
}

fn complain(file: &ValueFile, error: &io::Error, out: &mut Snapshot) {
    let path = file.path().display();
    if error.kind() == io::ErrorKind::PermissionDenied {
        let what =
            format!("{path} is closed to this user; an administrator can open it by its mode");
        worsen(out, Status::Denied, &what);
    } else {
        worsen(out, Status::Degraded, &format!("{path}: {error}"));
    }
}

/// A counter that was read before.
#[derive(Debug, Clone, Copy)]
struct Counter {
    /// What it stood at.
    energy: u64,
    /// What it would stand at had it never run over.
    total: u64,
    at: Now,
}

impl Zone {
    /// The total now, in uJ. `None` if it cannot be told how it goes on from the last one: then this is the new beginning.
    ///
    /// A counter runs over to 0 one unit above its range (61 uJ, or less), which is lost.
    fn advance(&mut self, energy: u64, now: Now) -> Option<u64> {
        let last = self.counter.replace(Counter {
            energy,
            total: energy,
            at: now,
        });
        let Some(last) = last else {
            return Some(energy);
        };
        let elapsed = now.boot.saturating_sub(last.at.boot);
        let awake = now.monotonic.saturating_sub(last.at.monotonic);
        // W and us give uJ.
        let most = elapsed.as_micros() * MOST_WATTS;
        let used = match energy.checked_sub(last.energy) {
            Some(used) => used,
            None => self.range.checked_sub(last.energy)?.checked_add(energy)?,
        };
        let fell = energy < last.energy;
        let slept = elapsed.saturating_sub(awake) > NOISE;
        if slept || most > u128::from(self.range) || fell && u128::from(used) > most {
            return None;
        }
        let total = last.total.checked_add(used)?;
        self.counter = Some(Counter {
            energy,
            total,
            at: now,
        });
        Some(total)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{Health, Kind, Total, Unit};

    const RANGE: u64 = 262_143_328_850;

    fn zone(range: u64) -> Zone {
        Zone {
            labels: ["intel-rapl".to_owned(), "package-0".to_owned()],
            energy: ValueFile::new("/nowhere".into()),
            range,
            counter: None,
        }
    }

    /// So many seconds after the start, some of them asleep.
    fn at(seconds: u64, asleep: u64) -> Now {
        Now {
            boot: Duration::from_secs(seconds),
            monotonic: Duration::from_secs(seconds - asleep),
        }
    }

    #[test]
    fn a_counter_that_runs_over_goes_on() {
        let mut zone = zone(RANGE);
        assert_eq!(zone.advance(RANGE - 500, at(10, 0)), Some(RANGE - 500));
        assert_eq!(zone.advance(700, at(20, 0)), Some(RANGE + 700));
        assert_eq!(zone.advance(900, at(30, 0)), Some(RANGE + 900));
    }

    #[test]
    fn one_that_was_set_back_is_not_taken_for_one_that_ran_over() {
        let mut zone = zone(RANGE);
        assert_eq!(zone.advance(RANGE / 2, at(10, 0)), Some(RANGE / 2));
        assert_eq!(zone.advance(5, at(20, 0)), None, "131 kJ in 10 s");
        assert_eq!(zone.advance(9, at(30, 0)), Some(9));
    }

    #[test]
    fn nothing_is_claimed_about_time_asleep_or_too_long() {
        let mut slept = zone(RANGE);
        slept.advance(10, at(10, 0));
        assert_eq!(slept.advance(20, at(20, 3)), None, "suspended");
        assert_eq!(slept.advance(30, at(30, 3)), Some(30));
        assert_eq!(slept.advance(40, at(400, 3)), None, "it may have run over");
        let mut unknown = zone(0);
        unknown.advance(10, at(10, 0));
        assert_eq!(unknown.advance(20, at(20, 0)), None, "no range");
    }

    static ENERGY: MetricDef = MetricDef {
        name: "power.energy",
        kind: Kind::Gauge,
        unit: Unit::Microjoules,
        help: "For tests.",
        labels: &["control", "zone"],
    };

    #[test]
    fn zones_come_and_go_and_those_that_stay_go_on() {
        let sys = tempfile::tempdir().unwrap();
        let make = |name: &str, energy: u64| {
            let folder = sys.path().join("class/powercap").join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("name"), "psys\n").unwrap();
            fs::write(folder.join("max_energy_range_uj"), format!("{RANGE}\n")).unwrap();
            fs::write(folder.join("energy_uj"), format!("{energy}\n")).unwrap();
        };
        let mut zones = Zones::new(sys.path());
        let mut read = |seconds| {
            let mut snapshot = Snapshot::default();
            zones.read(&ENERGY, at(seconds, 0), &mut snapshot);
            let series = snapshot.series.iter();
            let series = series.map(|it| (it.labels.join(" "), it.value.clone()));
            assert_eq!(snapshot.health, Health::default());
            series.collect::<Vec<_>>()
        };
        make("intel-rapl:0", RANGE - 1);
        let first = ("intel-rapl psys".to_owned(), Total::Counter(RANGE - 1));
        assert_eq!(read(10), [first]);
        make("intel-rapl:0", 3);
        make("intel-rapl:1", 7);
        let expected = [
            ("intel-rapl psys".to_owned(), Total::Counter(RANGE + 3)),
            (
                "intel-rapl psys (intel-rapl:1)".to_owned(),
                Total::Counter(7),
            ),
        ];
        assert_eq!(read(20), expected);
        fs::remove_dir_all(sys.path().join("class/powercap/intel-rapl:1")).unwrap();
        assert_eq!(read(30).len(), 1);
    }

    #[test]
    fn what_is_closed_is_denied_and_what_is_broken_degraded() {
        let file = ValueFile::new("/energy".into());
        for (kind, status) in [
            (io::ErrorKind::PermissionDenied, Status::Denied),
            (io::ErrorKind::InvalidData, Status::Degraded),
        ] {
            let mut snapshot = Snapshot::default();
            complain(&file, &kind.into(), &mut snapshot);
            assert_eq!(snapshot.health.status, status);
            assert!(snapshot.health.reason.contains("/energy"));
        }
    }

    proptest! {
        #[test]
        fn totals_are_what_was_used(start in 0..RANGE, steps in prop::collection::vec(0u64..9_000_000_000, 1..60)) {
            // Up to 900 W, read every 10 s.
            let mut zone = zone(RANGE);
            let mut energy = start;
            zone.advance(energy, at(0, 0));
            let mut total = start;
            for (step, used) in (1..).zip(steps) {
                total += used;
                energy = (energy + used) % RANGE;
                prop_assert_eq!(zone.advance(energy, at(10 * step, 0)), Some(total));
            }
        }

        #[test]
        fn totals_never_fall(reads in prop::collection::vec((any::<u64>(), 0u64..1000, 0u64..20), 0..30), range: u64) {
            let mut zone = zone(range);
            let (mut last, mut time) = (None, 0);
            for (energy, seconds, asleep) in reads {
                time += seconds;
                let total = zone.advance(energy, at(time + 20, asleep));
                if let (Some(last), Some(total)) = (last, total) {
                    prop_assert!(total >= last);
                }
                last = total;
            }
        }
    }
}
