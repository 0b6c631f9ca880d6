//! `cgroup` against the files of cgroups that the tests make, with a load that is known.

use std::fs;

use crate::{
    group::{Group, section, until},
    harness::{Attached, machine},
};

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
