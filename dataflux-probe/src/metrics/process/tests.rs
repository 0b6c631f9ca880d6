//! Processes that tests make up, and those of this machine.

use std::{fs, path::Path, process::Command};

use proptest::prelude::*;

use super::*;
use crate::{
    metrics::MetricReader,
    model::Total,
    plugin::testing::{context, fixtures},
};

/// A folder with a `/proc` in it, whose processes tests write.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        machine.runs(1, "init", 10, [1, 2, 0], 100);
        machine.thread_of_the_kernel();
        machine
    }

    fn thread_of_the_kernel(&self) {
        self.write(2, &line(2, "kthreadd", 3, [0, 0, 0], 0, 0x20_8040));
    }

    fn runs(&self, pid: u32, command: &str, started: u64, counted: [u64; 3], pages: u64) {
        self.write(pid, &line(pid, command, started, counted, pages, 0));
    }

    fn write(&self, pid: u32, stat: &str) {
        let folder = self.folder(pid);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("stat"), stat).unwrap();
        fs::write(folder.join("cgroup"), format!("0::/slice/{pid}\n")).unwrap();
    }

    fn ends(&self, pid: u32) {
        fs::remove_dir_all(self.folder(pid)).unwrap();
    }

    fn folder(&self, pid: u32) -> std::path::PathBuf {
        self.0.path().join("proc").join(pid.to_string())
    }

    fn reader(&self, config: &str) -> Box<dyn MetricReader> {
        PLUGIN.build_from(config, &context(self.0.path())).unwrap()
    }
}

fn line(
    pid: u32,
    command: &str,
    started: u64,
    counted: [u64; 3],
    pages: u64,
    flags: u64,
) -> String {
    let [user, system, faults] = counted;
    format!(
        "{pid} ({command}) S 0 0 0 0 -1 {flags} 1 1 {faults} 1 {user} {system} 0 0 20 0 2 0 {started} 4096 {pages} \
         18446744073709551615 0 0\n"
    )
}

fn read(reader: &mut Box<dyn MetricReader>) -> Snapshot {
    let mut snapshot = Snapshot::default();
    reader.read(&mut snapshot).unwrap();
    snapshot
}

/// The first label and the last of the series of a metric, and their values.
fn values(series: &[Series], def: &MetricDef) -> Vec<(String, u64)> {
    let of_metric = series.iter().filter(|series| std::ptr::eq(series.def, def));
    let value = |series: &Series| {
        let value = match series.value {
            Total::Counter(value) => value,
            Total::Gauge(value) => value as u64,
            Total::Histogram(_) => panic!("no histogram"),
        };
        let (first, last) = (series.labels.first(), series.labels.last());
        let name = format!("{} {}", first.unwrap(), last.unwrap());
        (name, value)
    };
    of_metric.map(value).collect()
}

fn ms(name: &str, ticks: u64) -> (String, u64) {
    (name.to_owned(), nanoseconds(ticks))
}

#[test]
fn states_and_threads_are_those_of_all_processes() {
    let machine = Machine::new();
    let zombie = line(9, "gone", 50, [0; 3], 0, 0).replace(") S", ") Z");
    machine.write(9, &zombie);
    let snapshot = read(&mut machine.reader("top_memory = 0"));
    assert_eq!(snapshot.health, Health::default());
    let states = values(&snapshot.series, &PROCESSES);
    let expected = [0, 2, 0, 0, 0, 0, 1, 0].into_iter().zip(State::NAMES);
    let expected: Vec<_> = expected
        .map(|(count, name)| (format!("{name} {name}"), count))
        .collect();
    assert_eq!(states, expected);
    assert_eq!(
        snapshot.series.len(),
        9,
        "with the first read nobody has used any time"
    );
    assert_eq!(snapshot.series[8].value, Total::Gauge(6.0));
}

#[test]
fn who_comes_among_the_first_brings_what_it_was_before() {
    let machine = Machine::new();
    machine.runs(7, "busy", 20, [100, 100, 1], 0);
    let mut reader = machine.reader("top_memory = 0\ntop_cpu = 1");
    read(&mut reader);
    machine.runs(7, "busy", 20, [140, 110, 3], 0);
    let told = read(&mut reader);
    assert_eq!(
        values(&told.earlier, &CPU_TIME),
        [ms("7 user", 100), ms("7 system", 100)]
    );
    assert_eq!(
        values(&told.series, &CPU_TIME),
        [ms("7 user", 140), ms("7 system", 110)]
    );
    assert_eq!(
        values(&told.earlier, &MAJOR_FAULTS),
        [("7 /slice/7".to_owned(), 1)]
    );
    assert_eq!(
        values(&told.series, &MAJOR_FAULTS),
        [("7 /slice/7".to_owned(), 3)]
    );
    machine.runs(7, "busy", 20, [150, 110, 3], 0);
    let again = read(&mut reader);
    assert!(again.earlier.is_empty(), "the last snapshot had it");
    machine.runs(1, "init", 10, [90, 2, 0], 100);
    let other = read(&mut reader);
    assert_eq!(
        values(&other.earlier, &CPU_TIME),
        [ms("1 user", 1), ms("1 system", 2)]
    );
}

#[test]
fn a_process_under_a_pid_that_another_had_begins_at_0() {
    let machine = Machine::new();
    machine.runs(7, "first", 20, [500, 0, 0], 0);
    let config = "top_memory = 0\ncommands = [\"first\"]";
    let mut reader = machine.reader(config);
    read(&mut reader);
    machine.ends(7);
    // Newer than everything: it began in this window.
    machine.runs(7, "first", u64::MAX, [600, 0, 0], 0);
    let told = read(&mut reader);
    assert_eq!(
        values(&told.earlier, &CPU_TIME),
        [ms("7 user", 0), ms("7 system", 0)]
    );
    assert_eq!(values(&told.series, &CPU_TIME)[0], ms("7 user", 600));
}

#[test]
fn a_program_that_another_one_replaces_is_another_series_with_the_same_past() {
    let machine = Machine::new();
    machine.runs(7, "sh", 20, [5, 0, 0], 0);
    let mut reader = machine.reader("top_memory = 0\ncommands = [\"sh\", \"server\"]");
    read(&mut reader);
    machine.runs(7, "server", 20, [9, 0, 0], 0);
    let told = read(&mut reader);
    assert_eq!(values(&told.earlier, &CPU_TIME)[0], ms("7 user", 5));
    let named = told
        .series
        .iter()
        .filter(|series| series.labels.get(1).is_some_and(|it| it == "server"));
    assert_eq!(named.count(), 5);
}

#[test]
fn what_ended_is_none_and_what_is_hidden_is_said() {
    let machine = Machine::new();
    let mut reader = machine.reader("");
    fs::create_dir(machine.folder(33)).unwrap();
    assert_eq!(read(&mut reader).health, Health::default());
    machine.ends(2);
    let of_a_container = read(&mut reader);
    assert!(of_a_container.health.reason.contains("container"));
    assert_eq!(of_a_container.unsupported.len(), 2);
    assert_eq!(values(&of_a_container.series, &RESIDENT).len(), 1);
    machine.thread_of_the_kernel();
    machine.ends(1);
    let hidden = read(&mut reader);
    assert!(hidden.health.reason.contains("hidepid"));
    assert_eq!(values(&hidden.series, &PROCESSES), []);
    fs::remove_dir_all(machine.0.path().join("proc")).unwrap();
    let error = reader.read(&mut Snapshot::default()).unwrap_err();
    assert!(format!("{error:#}").contains("/proc"));
}

#[test]
fn limits_and_patterns_are_checked() {
    let build = |config| PLUGIN.build_from(config, &context(fixtures())).map(drop);
    for wrong in [
        "top_cpu = 1001",
        "max_commands = 10001",
        "commands = [\"\"]",
    ] {
        let error = build(wrong).unwrap_err().to_string();
        let key = wrong.split(' ').next().unwrap();
        assert!(error.contains(key), "{error}");
    }
    build("top_cpu = 0\ntop_memory = 1000\ncommands = [\"a*\"]").unwrap();
}

#[test]
fn this_test_is_told_with_its_user_and_its_time() {
    let mut context = context(Path::new("/"));
    context.roots.root = "/".into();
    let config = "top_cpu = 0\ntop_memory = 0\ncommands = [\"*\"]\nmax_commands = 10000";
    let mut reader = PLUGIN.build_from(config, &context).unwrap();
    let pid = std::process::id().to_string();
    let user = Command::new("id").args(["-u", "-n"]).output().unwrap();
    let user = String::from_utf8(user.stdout).unwrap();
    read(&mut reader);
    let snapshot = read(&mut reader);
    let own = |series: &&Series| series.labels.first().is_some_and(|label| *label == pid);
    let own: Vec<_> = snapshot.series.iter().filter(own).collect();
    assert_eq!(own.len(), 5);
    assert_eq!(own[0].labels[2], user.trim());
    assert!(own[0].labels[3].starts_with('/'));
    let resident = own.iter().find(|series| series.def == &RESIDENT).unwrap();
    assert!(matches!(resident.value, Total::Gauge(bytes) if bytes > 1e6));
}

proptest! {
    #[test]
    fn damage_is_an_error_that_names_the_file(at: prop::sample::Index, flip: u8, cut: prop::sample::Index) {
        let machine = Machine::new();
        let mut stat = line(7, "seven", 20, [1, 2, 3], 4, 0).into_bytes();
        let place = at.index(stat.len());
        stat[place] ^= flip;
        stat.truncate(cut.index(stat.len()) + 1);
        machine.runs(7, "seven", 20, [0; 3], 0);
        fs::write(machine.folder(7).join("stat"), stat).unwrap();
        if let Err(error) = machine.reader("").read(&mut Snapshot::default()) {
            let error = format!("{error:#}");
            prop_assert!(error.contains("/proc/7/stat"));
        }
    }
}
