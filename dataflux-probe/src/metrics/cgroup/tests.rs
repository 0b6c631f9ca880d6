//! Hierarchies that tests make up.

use std::{fs, path::Path};

use proptest::prelude::*;

use super::*;
use crate::{
    model::{EntityKey, Series, Total},
    plugin::testing::context,
};

/// A folder with a `/sys` in it, whose cgroups tests write.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new(signs: &[&str]) -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        for sign in signs {
            machine.write(sign, "");
        }
        machine
    }

    fn of_v2() -> Self {
        let machine = Self::new(&["cgroup.controllers"]);
        machine.write("cpu.stat", "usage_usec 9\nuser_usec 9\nsystem_usec 0\n");
        machine
    }

    fn folder(&self) -> PathBuf {
        self.0.path().join("sys/fs/cgroup")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.folder().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn reader(&self, config: &str) -> Box<dyn MetricReader> {
        PLUGIN.build_from(config, &context(self.0.path())).unwrap()
    }
}

fn read(reader: &mut Box<dyn MetricReader>) -> Snapshot {
    let mut snapshot = Snapshot::default();
    reader.read(&mut snapshot).unwrap();
    snapshot
}

/// `metric label label: value` of the series of an entity.
fn told(series: &[Series], of: impl Fn(&EntityKey) -> bool) -> Vec<String> {
    let own = |series: &&Series| series.entity.as_ref().is_some_and(|it| of(&it.key));
    let text = |series: &Series| {
        let value = match series.value {
            Total::Counter(value) => value.to_string(),
            Total::Gauge(value) => value.to_string(),
            Total::Histogram(_) => panic!("no histogram"),
        };
        let name = series.def.name.strip_prefix("cgroup.").unwrap();
        let labels: Vec<&str> = series.labels.iter().map(|label| &**label).collect();
        format!("{name} {}: {value}", labels.join(" "))
    };
    series.iter().filter(own).map(text).collect()
}

fn named(name: &str) -> impl Fn(&EntityKey) -> bool {
    move |key| matches!(key, EntityKey::Name(it) if **it == *name)
}

fn paths_of_v1(snapshot: &Snapshot) -> Vec<String> {
    let names = snapshot
        .series
        .iter()
        .filter_map(|series| match &series.entity.as_ref()?.key {
            EntityKey::Name(name) => Some(name.to_string()),
            other => panic!("{other:?}"),
        });
    let mut names: Vec<_> = names.collect();
    names.dedup();
    names
}

#[test]
fn v2_is_told_by_id_in_bytes_nanoseconds_and_processors() {
    let machine = Machine::of_v2();
    let write = |file: &str, text: &str| machine.write(&format!("app.slice/{file}"), text);
    write(
        "cpu.stat",
        "usage_usec 70\nuser_usec 40\nsystem_usec 30\nnr_periods 5\nnr_throttled 2\nthrottled_usec 8\n",
    );
    write("cpu.max", "150000 100000\n");
    write("memory.current", "4096\n");
    write("memory.peak", "8192\n");
    write("memory.stat", "anon 1\nfile 2\nkernel 3\nkernel_stack 4\n");
    write(
        "memory.events",
        "low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\noom_group_kill 0\n",
    );
    write("memory.swap.current", "0\n");
    write("memory.max", "1048576\n");
    write("memory.high", "max\n");
    write("memory.swap.max", "0\n");
    write(
        "io.stat",
        "254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n",
    );
    write("pids.current", "7\n");
    write("pids.events", "max 1\n");
    write("pids.max", "100\n");
    for resource in ["cpu", "io", "memory"] {
        write(
            &format!("{resource}.pressure"),
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=2\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n",
        );
    }
    let snapshot = read(&mut machine.reader(""));
    let id = std::os::unix::fs::MetadataExt::ino(
        &fs::metadata(machine.folder().join("app.slice")).unwrap(),
    );
    let told = told(&snapshot.series, |key| *key == EntityKey::Id(id));
    let expected = "cpu_usage : 70000\ncpu_time user: 40000\ncpu_time system: 30000\ncpu_periods : 5\n\
        cpu_throttled_periods : 2\ncpu_throttled : 8000\ncpu_limit : 1.5\nmemory_used : 4096\nmemory_peak : 8192\n\
        memory_by_use anon: 1\nmemory_by_use file: 2\nmemory_by_use kernel: 3\nmemory_events low: 0\n\
        memory_events high: 1\nmemory_events max: 2\nmemory_events oom: 3\nmemory_events oom_kill: 4\nswap_used : 0\n\
        memory_limit max: 1048576\nmemory_limit swap: 0\nio_transferred 254:0 read: 1\nio_transferred 254:0 write: 2\n\
        io_transferred 254:0 discard: 5\nio_operations 254:0 read: 3\nio_operations 254:0 write: 4\n\
        io_operations 254:0 discard: 6\ntasks : 7\ntasks_refused : 1\ntasks_limit : 100\ncpu_pressure some: 2000\n\
        cpu_pressure full: 1000\nio_pressure some: 2000\nio_pressure full: 1000\nmemory_pressure some: 2000\n\
        memory_pressure full: 1000";
    assert_eq!(told, expected.lines().collect::<Vec<_>>());
    assert_eq!(snapshot.unsupported, [] as [&MetricDef; 0]);
    assert_eq!(snapshot.series.len(), told.len() + 4, "and the four states");
}

#[test]
fn v1_is_told_by_path_and_v2_only_what_v1_has_not() {
    let machine = Machine::new(&[
        "cpu/cpu.shares",
        "cpuacct/cpuacct.usage",
        "memory/memory.usage_in_bytes",
        "blkio/blkio.throttle.io_serviced_recursive",
        "pids/cgroup.procs",
        "unified/cgroup.controllers",
    ]);
    let write = |file: &str, text: &str| machine.write(file, text);
    write(
        "cpu/a/cpu.stat",
        "nr_periods 5\nnr_throttled 2\nthrottled_time 8\n",
    );
    write("cpu/a/cpu.cfs_period_us", "100000\n");
    write("cpu/a/cpu.cfs_quota_us", "50000\n");
    write("cpu/b/cpu.cfs_period_us", "100000\n");
    write("cpu/b/cpu.cfs_quota_us", "-1\n");
    write("cpuacct/a/cpuacct.usage", "70\n");
    write("cpuacct/a/cpuacct.stat", "user 4\nsystem 3\n");
    write("memory/a/memory.usage_in_bytes", "4096\n");
    write(
        "memory/a/memory.stat",
        "cache 0\nrss 0\ntotal_cache 2\ntotal_rss 1\ntotal_swap 5\n",
    );
    write("memory/a/memory.failcnt", "6\n");
    write(
        "memory/a/memory.oom_control",
        "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
    );
    write("memory/a/memory.limit_in_bytes", "9223372036854771712\n");
    write(
        "blkio/a/blkio.throttle.io_service_bytes_recursive",
        "254:0 Read 1\n254:0 Write 2\n254:0 Sync 3\n254:0 Async 0\n254:0 Discard 4\n254:0 Total 7\nTotal 7\n",
    );
    write("pids/a/pids.current", "7\n");
    write("pids/a/pids.max", "max\n");
    write(
        "unified/a/cpu.stat",
        "usage_usec 1\nuser_usec 1\nsystem_usec 0\n",
    );
    write(
        "unified/a/io.pressure",
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=2\n",
    );
    let snapshot = read(&mut machine.reader(""));
    let second = 1_000_000_000 / procfs::ticks_per_second();
    let expected = format!(
        "cpu_usage : 70\ncpu_time user: {}\ncpu_time system: {}\ncpu_periods : 5\ncpu_throttled_periods : 2\n\
        cpu_throttled : 8\ncpu_limit : 0.5\nmemory_used : 4096\nmemory_by_use anon: 1\nmemory_by_use file: 2\n\
        swap_used : 5\nmemory_events max: 6\nmemory_events oom_kill: 3\nio_transferred 254:0 read: 1\n\
        io_transferred 254:0 write: 2\nio_transferred 254:0 discard: 4\ntasks : 7",
        4 * second,
        3 * second
    );
    let of_v1 = told(&snapshot.series, named("/a"));
    assert_eq!(of_v1, expected.lines().collect::<Vec<_>>());
    assert_eq!(
        told(&snapshot.series, named("/b")),
        [] as [&str; 0],
        "no limit"
    );
    let of_v2 = told(&snapshot.series, |key| matches!(key, EntityKey::Id(_)));
    assert_eq!(of_v2, ["io_pressure some: 2000"]);
    let unsupported: Vec<_> = snapshot.unsupported.iter().map(|def| def.name).collect();
    let expected = [
        "memory_peak",
        "io_operations",
        "tasks_refused",
        "cpu_pressure",
        "memory_pressure",
    ];
    assert_eq!(unsupported, expected.map(|name| format!("cgroup.{name}")));
}

#[test]
fn what_is_not_wanted_is_counted_and_not_read() {
    let machine = Machine::new(&["pids/cgroup.procs"]);
    for path in ["b", "b/x", "b/x/deep", "a", "a/y", "b.mount"] {
        machine.write(&format!("pids/{path}/pids.current"), "1\n");
    }
    machine.write("pids/b.mount/pids.current", "no number");
    let reads = |config: &str| {
        let snapshot = read(&mut machine.reader(config));
        let counts = snapshot
            .series
            .iter()
            .take(4)
            .map(|series| match series.value {
                Total::Gauge(count) => count as u64,
                _ => panic!("a gauge"),
            });
        (paths_of_v1(&snapshot), counts.collect::<Vec<_>>())
    };
    let (mut paths, counts) = reads("exclude = [\"*.mount\"]\nmax_depth = 2\nmax_cgroups = 3");
    assert_eq!(counts, [3, 1, 1, 1]);
    paths.retain(|path| path != "/a" && path != "/b");
    assert_eq!(paths.len(), 1, "those near the root come first");
    let (paths, counts) = reads("include = [\"/a*\"]");
    assert_eq!(
        (paths, counts),
        (vec!["/a".into(), "/a/y".into()], vec![2, 4, 0, 0])
    );
    let error = machine
        .reader("")
        .read(&mut Snapshot::default())
        .unwrap_err();
    assert!(
        format!("{error:#}").contains("b.mount/pids.current"),
        "{error:#}"
    );
}

#[test]
fn who_is_reported_stays_and_who_ends_makes_room() {
    let machine = Machine::new(&["pids/cgroup.procs"]);
    let make = |path: &str| machine.write(&format!("pids/{path}/pids.current"), "1\n");
    make("slice/first");
    make("slice/second");
    let mut reader = machine.reader("max_cgroups = 3");
    assert_eq!(
        read(&mut reader).series.len(),
        4 + 2 + 1 - 1,
        "the slice has no file of its own"
    );
    make("nearer");
    let paths = paths_of_v1(&read(&mut reader));
    assert!(!paths.contains(&"/nearer".to_owned()), "{paths:?}");
    fs::rename(
        machine.folder().join("pids/slice/first"),
        machine.0.path().join("gone"),
    )
    .unwrap();
    let paths = paths_of_v1(&read(&mut reader));
    assert!(paths.contains(&"/nearer".to_owned()), "{paths:?}");
}

#[test]
fn one_that_is_made_anew_begins_at_0() {
    let machine = Machine::new(&["cpuacct/cpuacct.usage"]);
    machine.write("cpuacct/a/cpuacct.usage", "500\n");
    let mut reader = machine.reader("");
    assert!(read(&mut reader).earlier.is_empty(), "it has a past");
    assert!(read(&mut reader).earlier.is_empty());
    let folder = machine.folder().join("cpuacct/a");
    fs::rename(&folder, machine.0.path().join("gone")).unwrap();
    machine.write("cpuacct/a/cpuacct.usage", "600\n");
    let snapshot = read(&mut reader);
    assert_eq!(told(&snapshot.earlier, named("/a")), ["cpu_usage : 0"]);
    assert_eq!(told(&snapshot.series, named("/a")), ["cpu_usage : 600"]);
    machine.write("cpuacct/a/cpuacct.usage", "wrong\n");
    reader.read(&mut Snapshot::default()).unwrap_err();
    machine.write("cpuacct/a/cpuacct.usage", "700\n");
    assert!(read(&mut reader).earlier.is_empty());
}

#[test]
fn devices_keep_their_places_and_the_rest_is_said() {
    let machine = Machine::of_v2();
    machine.write("a/io.stat", "8:0 rbytes=1\n8:16 rbytes=2\n");
    let mut reader = machine.reader("max_devices = 1\nparts = [\"io\"]");
    let device = |snapshot: &Snapshot| told(&snapshot.series, |_| true)[0].clone();
    let first = read(&mut reader);
    assert_eq!(device(&first), "io_transferred 8:0 read: 1");
    assert!(
        first.health.reason.contains("1 devices"),
        "{}",
        first.health
    );
    machine.write("a/io.stat", "8:16 rbytes=2\n8:0 rbytes=3\n");
    assert_eq!(device(&read(&mut reader)), "io_transferred 8:0 read: 3");
}

#[test]
fn no_hierarchy_is_an_error_and_keys_are_checked() {
    let machine = Machine::new(&[]);
    let error = machine
        .reader("")
        .read(&mut Snapshot::default())
        .unwrap_err();
    assert!(format!("{error:#}").contains("sys/fs/cgroup"), "{error:#}");
    for wrong in [
        "max_depth = 0",
        "max_cgroups = 10001",
        "parts = []",
        "parts = [\"disk\"]",
    ] {
        let built = PLUGIN
            .build_from(wrong, &context(Path::new("/nowhere")))
            .map(drop);
        let error = built.unwrap_err().to_string();
        assert!(error.contains(wrong.split(' ').next().unwrap()), "{error}");
    }
}

proptest! {
    #[test]
    fn damage_is_an_error_that_names_the_file(
        file in prop::sample::select(vec!["cpu.stat", "memory.current", "io.stat", "cpu.max", "io.pressure", "memory.events"]),
        bytes: Vec<u8>,
    ) {
        let machine = Machine::of_v2();
        machine.write("a/keep", "");
        fs::write(machine.folder().join("a").join(file), bytes).unwrap();
        if let Err(error) = machine.reader("").read(&mut Snapshot::default()) {
            let error = format!("{error:#}");
            prop_assert!(error.contains(&format!("a/{file}")), "{}", error);
        }
    }
}
