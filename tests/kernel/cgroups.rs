//! `cgroup` against the files of cgroups that the tests make, with a load that is known.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use dataflux_probe::model::{Entity, EntityKey, EntityKind};
use rustix::process::{Pid, Signal, kill_process};

use super::harness::{Attached, machine};

/// How long anything may take before a test calls it hung.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cgroup of the test's own, in every hierarchy. Its children and it are gone when dropped.
struct Group {
    path: String,
    /// One for v2, or one for each controller of v1.
    folders: Vec<PathBuf>,
    is_v2: bool,
    children: Vec<Child>,
}

impl Group {
    /// `None` where there are no cgroups that can be made, which it says.
    fn new(name: &str) -> Option<Self> {
        let path = format!("/dataflux-test-{}-{name}", std::process::id());
        let root = Path::new("/sys/fs/cgroup");
        let is_v2 = root.join("cgroup.controllers").exists();
        let mut roots = vec![root.to_owned()];
        if is_v2 {
            // Without it the root gives its children processor time only.
            drop(fs::write(
                root.join("cgroup.subtree_control"),
                "+cpu +memory +pids",
            ));
        } else {
            roots = ["cpu", "cpuacct", "memory", "pids"]
                .map(|it| root.join(it))
                .into();
            roots.retain(|root| root.join("cgroup.procs").exists());
        }
        let folders: Vec<_> = roots.iter().map(|root| root.join(&path[1..])).collect();
        let made = folders.iter().all(|folder| fs::create_dir(folder).is_ok());
        if folders.is_empty() || !made {
            println!("skipped: this machine has no cgroups that a test can make");
            return None;
        }
        Some(Self {
            path,
            folders,
            is_v2,
            children: Vec::new(),
        })
    }

    /// Of whichever hierarchy has it.
    fn file(&self, v2: &str, v1: &str) -> Option<PathBuf> {
        let name = if self.is_v2 { v2 } else { v1 };
        let mut files = self.folders.iter().map(|folder| folder.join(name));
        files.find(|file| file.exists())
    }

    fn set(&self, v2: &str, v1: &str, value: &str) {
        if let Some(file) = self.file(v2, v1) {
            fs::write(&file, value).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        }
    }

    /// A number in a file: the whole, or that of the line which begins with a name.
    fn number(&self, (v2, v2_name): (&str, &str), (v1, v1_name): (&str, &str)) -> Option<u64> {
        let text = fs::read_to_string(self.file(v2, v1)?).expect("the cgroup is there");
        let name = if self.is_v2 { v2_name } else { v1_name };
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(name))?.trim();
        Some(value.parse().expect("a number"))
    }

    /// Starts a program in it.
    fn run(&mut self, script: &str) {
        let mut child = Command::new("sh")
            .args(["-c", &format!("read go; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("a shell");
        for folder in &self.folders {
            fs::write(folder.join("cgroup.procs"), child.id().to_string()).expect("it moves");
        }
        let mut stdin = child.stdin.take().expect("a pipe");
        writeln!(stdin).expect("it waits for that");
        self.children.push(child);
    }

    /// Nothing in it runs from now on.
    fn stop(&self) {
        for pid in self.processes() {
            kill_process(pid, Signal::STOP).expect("it runs");
        }
        // The kernel goes on counting periods of the limit for one or two of them, each a tenth of a second.
        let counted = || {
            let periods = self.file("cpu.stat", "cpu.stat").map(fs::read_to_string);
            (self.usage(), periods.and_then(Result::ok))
        };
        until(|| {
            let before = counted();
            thread::sleep(Duration::from_millis(350));
            before == counted()
        });
    }

    /// Of these cgroups alone.
    fn processes(&self) -> Vec<Pid> {
        let text = |folder: &PathBuf| fs::read_to_string(folder.join("cgroup.procs"));
        let all = self.folders.first().and_then(|folder| text(folder).ok());
        let pids = all.unwrap_or_default();
        pids.lines()
            .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
            .collect()
    }

    /// Nanoseconds.
    fn usage(&self) -> Option<u64> {
        let usage = self.number(("cpu.stat", "usage_usec "), ("cpuacct.usage", ""))?;
        Some(if self.is_v2 { usage * 1000 } else { usage })
    }

    fn entity(&self) -> Entity {
        let key = if self.is_v2 {
            let folder = fs::metadata(&self.folders[0]).expect("it is there");
            EntityKey::Id(folder.ino())
        } else {
            EntityKey::Name(self.path.as_str().into())
        };
        Entity {
            kind: EntityKind::Cgroup,
            key,
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let begun = Instant::now();
        while !self.processes().is_empty() && begun.elapsed() < PATIENCE {
            for pid in self.processes() {
                kill_process(pid, Signal::KILL).ok();
            }
            for child in &mut self.children {
                drop(child.try_wait());
            }
            thread::sleep(Duration::from_millis(10));
        }
        for child in &mut self.children {
            drop(child.wait());
        }
        for folder in &self.folders {
            remove(folder);
        }
    }
}

/// With the cgroups in it; their files go by themselves.
fn remove(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    drop(fs::remove_dir(folder));
}

fn until(mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "hangs");
        thread::sleep(Duration::from_millis(20));
    }
}

fn section(group: &Group) -> String {
    format!("include = ['{}*']", group.path)
}

/// Scenario: a cgroup with a fifth of a processor runs a loop for some periods, then stands still.
/// Guarantees: processor time, periods, throttled periods and time are those of the kernel's own files, and the limit is known.
#[test]
fn a_loop_in_a_cgroup_is_throttled_as_the_kernel_says() {
    let Some(_machine) = machine() else { return };
    let Some(mut group) = Group::new("cpu") else {
        return;
    };
    group.set(
        "cpu.max",
        "cpu.cfs_quota_us",
        if group.is_v2 { "20000 100000" } else { "20000" },
    );
    let mut reader = Attached::new("cgroup", &section(&group));
    let entity = group.entity();
    let first = reader.read_in_part();
    group.run("while :; do :; done");
    let has_limit = group.file("cpu.max", "cpu.cfs_quota_us").is_some();
    until(|| {
        let throttled = group.number(("cpu.stat", "nr_throttled "), ("cpu.stat", "nr_throttled "));
        let used = group.usage();
        used.is_none_or(|used| used > 60_000_000)
            && (!has_limit || throttled.is_none_or(|throttled| throttled >= 3))
    });
    group.stop();
    let last = reader.read_in_part();
    let count = |metric: &str| last.counter(metric, Some(&entity), &[]);
    if let Some(usage) = group.usage() {
        assert_eq!(count("cgroup.cpu_usage"), usage);
        let rise = usage - first.counter("cgroup.cpu_usage", Some(&entity), &[]);
        assert!(rise > 50_000_000, "{rise}");
        // Told in ticks by v1, and the kernel divides up what it measured.
        let (times, tick) = (count("cgroup.cpu_time"), 40_000_000);
        assert!(times.abs_diff(usage) <= tick, "{times} is not {usage}");
    }
    if has_limit {
        let own = |name: &str| group.number(("cpu.stat", name), ("cpu.stat", name));
        assert_eq!(Some(count("cgroup.cpu_periods")), own("nr_periods "));
        assert_eq!(
            Some(count("cgroup.cpu_throttled_periods")),
            own("nr_throttled ")
        );
        let time = group.number(
            ("cpu.stat", "throttled_usec "),
            ("cpu.stat", "throttled_time "),
        );
        let unit = if group.is_v2 { 1000 } else { 1 };
        assert_eq!(
            Some(count("cgroup.cpu_throttled")),
            time.map(|time| time * unit)
        );
        assert!(count("cgroup.cpu_throttled") > 0);
        assert_eq!(
            last.gauge("cgroup.cpu_limit", Some(&entity), &[]),
            Some(0.2)
        );
    }
}

/// Scenario: a program in a cgroup with limits keeps 32 MiB.
/// Guarantees: the memory is between two looks at the kernel's file, the limits and the number of tasks are known.
#[test]
fn the_memory_and_the_tasks_of_a_cgroup_are_what_is_in_it() {
    let Some(_machine) = machine() else { return };
    let Some(mut group) = Group::new("memory") else {
        return;
    };
    group.set("memory.max", "memory.limit_in_bytes", "268435456");
    group.set("pids.max", "pids.max", "50");
    group.run("(head -c 33554432 /dev/zero; exec sleep 600) | tail -c 33554432");
    let entity = group.entity();
    let mut reader = Attached::new("cgroup", &section(&group));
    let used = || group.number(("memory.current", ""), ("memory.usage_in_bytes", ""));
    until(|| used().is_none_or(|used| used > 32 << 20));
    group.stop();
    let before = used();
    let read = reader.read_in_part();
    let gauge = |metric: &str, labels: &[&str]| read.gauge(metric, Some(&entity), labels);
    if let (Some(before), Some(after)) = (before, used()) {
        // The kernel reclaims what it likes.
        let range = before.min(after) as f64..=before.max(after) as f64;
        let value = gauge("cgroup.memory_used", &[]).expect("memory is counted");
        assert!(range.contains(&value), "{range:?} {value}");
        let anon = gauge("cgroup.memory_by_use", &["anon"]).expect("by use");
        assert!((30e6..=value).contains(&anon), "{anon}");
        let limit = gauge("cgroup.memory_limit", &["max"]);
        assert_eq!(limit, Some(268_435_456.0));
    }
    if group.file("pids.current", "pids.current").is_some() {
        let tasks = group.processes().len() as f64;
        assert_eq!(gauge("cgroup.tasks", &[]), Some(tasks));
        assert!(tasks >= 3.0, "{tasks}");
        assert_eq!(gauge("cgroup.tasks_limit", &[]), Some(50.0));
    }
}

/// Scenario: cgroups in a cgroup come and go between reads, as many as before; one is made anew under its path.
/// Guarantees: those that are there have series, the others none; who is new has 0 as its past.
#[test]
fn cgroups_that_come_and_go_are_found() {
    let Some(_machine) = machine() else { return };
    let Some(group) = Group::new("tree") else {
        return;
    };
    let Some(usage) = group.file("cpu.stat", "cpuacct.usage") else {
        return;
    };
    let folder = usage.parent().expect("a folder").to_owned();
    let mut reader = Attached::new("cgroup", &section(&group));
    let mut found = |paths: &[&str]| {
        let read = reader.read_in_part();
        let (all, new) = (
            read.entities("cgroup.cpu_usage"),
            read.begun("cgroup.cpu_usage"),
        );
        assert_eq!(all.len(), paths.len() + 1, "{all:?} and not {paths:?}");
        new.len()
    };
    let make = |name: &str| fs::create_dir(folder.join(name)).expect("it can be made");
    let remove = |name: &str| fs::remove_dir(folder.join(name)).expect("it is empty");
    make("a");
    make("a/x");
    assert_eq!(found(&["a", "a/x"]), 0, "they may have a past");
    assert_eq!(found(&["a", "a/x"]), 0);
    remove("a/x");
    make("b");
    assert_eq!(found(&["a", "b"]), 1);
    remove("a");
    make("a");
    assert_eq!(found(&["a", "b"]), 1, "another one");
    remove("b");
    make("a/y");
    assert_eq!(found(&["a", "a/y"]), 1);
    remove("a/y");
    remove("a");
    assert_eq!(found(&[]), 0);
}
