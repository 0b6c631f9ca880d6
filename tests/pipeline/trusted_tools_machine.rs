//! What the probe says of the machine and its disks, beside what the tools say that people trust, at the same moment.

use std::{collections::BTreeMap, process::Command};

use dataflux_tests::{
    sequence::series,
    tools::{measured, printed, printed_json},
};
use serde_json::Value;

/// The rows of `df` by mount point: bytes and inodes, each all, used, free.
fn df() -> Option<BTreeMap<String, [u64; 6]>> {
    let columns = "--output=size,used,avail,itotal,iused,iavail,target";
    let text = printed("df", &["-a", "-B1", columns])?;
    let row = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (numbers, target) = words.split_at_checked(6)?;
        let numbers: Vec<u64> = numbers
            .iter()
            .map(|word| word.parse().unwrap_or(0))
            .collect();
        Some((target.join(" "), numbers.try_into().ok()?))
    };
    Some(text.lines().skip(1).filter_map(row).collect())
}

/// Scenario: `df`, the probe, `df`, on a machine whose other processes write all the time.
/// Guarantees: each file system of the probe is as large as `df` says, and has so much used and available as it says before and
/// after, give or take what is written in a second; the states add up to all of it.
#[test]
fn file_systems_are_those_of_df() {
    const SLACK: [u64; 2] = [512 << 20, 50_000];
    let Some(before) = df() else { return };
    let envelope =
        measured("[metrics.disk]\nexclude_types = ['proc', 'sysfs', 'devpts', 'overlay']");
    let Some(after) = df() else { return };
    for (metric, at, slack) in [("disk.space", 0, SLACK[0]), ("disk.inodes", 3, SLACK[1])] {
        let mut found: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for series in series(&envelope, metric) {
            let label = |name: &str| {
                series["labels"][name]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            };
            let value = series["value"].as_f64().expect("a number") as u64;
            found
                .entry(label("mount_point"))
                .or_default()
                .insert(label("state"), value);
        }
        assert!(
            found.contains_key("/") || !before.contains_key("/"),
            "{envelope}"
        );
        for (point, states) in found {
            let (Some(before), Some(after)) = (before.get(&point), after.get(&point)) else {
                panic!("df has no {point}");
            };
            assert_eq!(
                states.values().sum::<u64>(),
                before[at],
                "{metric} of {point}"
            );
            let free = if at == 0 { "available" } else { "free" };
            for (state, column) in [("used", at + 1), (free, at + 2)] {
                let (low, high) = (
                    before[column].min(after[column]),
                    before[column].max(after[column]),
                );
                let range = low.saturating_sub(slack)..=high + slack;
                assert!(
                    range.contains(&states[state]),
                    "{metric} {state} of {point}: {states:?} {range:?}"
                );
            }
        }
    }
}

/// Scenario: `iostat`, the probe, `iostat`.
/// Guarantees: each disk that moved something has read and written as much as `iostat` says, by then.
#[test]
fn disks_are_those_of_iostat() {
    let look = || {
        let text = printed_json("iostat", &["-d", "-k", "-o", "JSON"])?;
        let disks = text["sysstat"]["hosts"][0]["statistics"][0]["disk"]
            .as_array()?
            .clone();
        let moved = |disk: &Value, key: &str| disk[key].as_u64().unwrap_or_default();
        let row = |disk: Value| {
            let name = disk["disk_device"].as_str().unwrap_or_default().to_owned();
            (name, [moved(&disk, "kB_read"), moved(&disk, "kB_wrtn")])
        };
        Some(disks.into_iter().map(row).collect::<BTreeMap<_, _>>())
    };
    let Some(before) = look() else { return };
    let envelope = measured("[metrics.disk]\nfile_systems = false");
    let Some(after) = look() else { return };
    for series in series(&envelope, "disk.bytes") {
        let operation = series["labels"]["operation"].as_str().unwrap_or_default();
        let Some(column) = ["read", "write"]
            .iter()
            .position(|known| *known == operation)
        else {
            continue;
        };
        let name = series["device"]["name"].as_str().unwrap_or_default();
        let total = series["total"].as_u64().expect("a counter has a total") / 1024;
        let range = before[name][column]..=after[name][column];
        assert!(
            range.contains(&total),
            "{name} {operation}: {total} {range:?}"
        );
    }
}

/// Scenario: `lscpu` and the probe.
/// Guarantees: both count the same sockets, cores, threads, NUMA nodes and caches, and name the same model.
#[test]
fn the_processor_is_that_of_lscpu() {
    let Some(listed) = printed_json("lscpu", &["-J"]) else {
        return;
    };
    let Some(caches) = printed_json("lscpu", &["-C", "-J", "-B"]) else {
        return;
    };
    let envelope = measured("[metadata.processor]\n[metrics.cpu]");
    let own = &envelope["header"]["processor"];
    fn find<'a>(rows: &'a Value, name: &str) -> Option<&'a str> {
        rows.as_array()?.iter().find_map(|row| {
            let own = row["field"].as_str()?.trim_end_matches(':') == name;
            let own = own.then(|| row["data"].as_str()).flatten();
            own.or_else(|| find(&row["children"], name))
        })
    }
    let number = |name| find(&listed["lscpu"], name).and_then(|text| text.parse::<u64>().ok());
    let (Some(sockets), Some(cores), Some(threads)) = (
        number("Socket(s)"),
        number("Core(s) per socket"),
        number("Thread(s) per core"),
    ) else {
        return;
    };
    assert_eq!(own["sockets"], sockets, "{own}");
    assert_eq!(own["cores"], sockets * cores, "{own}");
    assert_eq!(own["threads"], sockets * cores * threads, "{own}");
    if let Some(nodes) = number("NUMA node(s)") {
        assert_eq!(own["numa_nodes"], nodes, "{own}");
    }
    if let Some(model) = find(&listed["lscpu"], "Model name") {
        assert_eq!(own["model"], model, "{own}");
    }
    for cache in caches["caches"].as_array().into_iter().flatten() {
        let bytes = |key: &str| {
            let value = &cache[key];
            value.as_u64().or_else(|| value.as_str()?.parse().ok())
        };
        let (Some(one), Some(all)) = (bytes("one-size"), bytes("all-size")) else {
            continue;
        };
        let kind = cache["type"].as_str().unwrap_or_default().to_lowercase();
        let level = cache["level"]
            .as_u64()
            .or_else(|| cache["level"].as_str()?.parse().ok());
        let same = |known: &&Value| known["level"].as_u64() == level && known["type"] == kind;
        let known = own["caches"].as_array().into_iter().flatten().find(same);
        let Some(known) = known else {
            panic!("no {cache} in {own}");
        };
        assert_eq!(known["size_bytes"], one, "{cache}");
        assert_eq!(known["instances"], all / one, "{cache}");
    }
}

/// Scenario: `lsblk` and the probe.
/// Guarantees: each disk of the probe has the size, model, serial number and kind that `lsblk` says.
#[test]
fn drives_are_those_of_lsblk() {
    let columns = "NAME,SIZE,ROTA,RM,MODEL,SERIAL";
    let Some(listed) = printed_json("lsblk", &["-J", "-b", "-d", "-o", columns]) else {
        return;
    };
    let envelope = measured("[metadata.drives]\n[metrics.cpu]");
    let disks = envelope["header"]["drives"]["disks"]
        .as_object()
        .expect("disks");
    for (name, own) in disks {
        let rows = listed["blockdevices"].as_array().into_iter().flatten();
        let row = rows.clone().find(|row| row["name"] == name.as_str());
        // lsblk leaves out disks without a medium.
        let Some(row) = row else {
            assert_eq!(own["size_bytes"], 0, "{name}");
            continue;
        };
        for (key, column) in [
            ("size_bytes", "size"),
            ("rotational", "rota"),
            ("removable", "rm"),
        ] {
            assert_eq!(own[key], row[column], "{key} of {name}");
        }
        // Without udev's database lsblk does not know these.
        for key in ["model", "serial"] {
            if let Some(known) = row[key].as_str() {
                assert_eq!(own[key].as_str(), Some(known.trim()), "{key} of {name}");
            }
        }
    }
}

/// What a program of systemd prints, which says no by its exit status, too.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (!text.is_empty()).then_some(text)
}

/// Scenario: `systemd-detect-virt` and, where systemd runs, `hostnamectl`; and the probe.
/// Guarantees: virtualization, chassis, name, boot id, machine id, system and kernel are the same.
#[test]
#[expect(clippy::print_stdout, reason = "the test says what it skipped")]
fn the_host_is_that_of_systemd() {
    let envelope = measured("[metadata.host]\n[metadata.os]\n[metrics.cpu]");
    let (own, os) = (&envelope["header"]["host"], &envelope["header"]["os"]);
    if let Some(kind) = said("systemd-detect-virt", &["--vm"])
        && !own["virtualization"].is_null()
    {
        assert_eq!(own["virtualization"], kind.trim(), "{own}");
    }
    let Some(text) = said("hostnamectl", &["status"]) else {
        println!(
            "skipped: no hostnamectl, or no systemd that it could ask (`xtask package life` has one)"
        );
        return;
    };
    let line = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(": "));
        let (_, said) = lines.find(|(key, _)| key.trim() == name)?;
        Some(said.trim().to_owned())
    };
    let plain = |value: &Value| value.as_str().unwrap_or_default().replace('-', "");
    for (name, key) in [
        ("Machine ID", "machine_id"),
        ("Boot ID", "boot_id"),
        ("Chassis", "chassis"),
    ] {
        // A picture may follow the chassis.
        let word = line(name).and_then(|said| Some(said.split_whitespace().next()?.to_owned()));
        if let Some(said) = word {
            assert_eq!(plain(&own[key]), said.replace('-', ""), "{name}");
        }
    }
    let name = line("Transient hostname").or(line("Static hostname"));
    if let Some(name) = name {
        assert_eq!(own["name"], name);
    }
    let kernel = os["kernel"].as_str().unwrap_or_default();
    assert_eq!(line("Kernel"), Some(format!("Linux {kernel}")));
    let system = line("Operating System").unwrap_or_default();
    for key in ["name", "version"] {
        if let Some(known) = os[key].as_str() {
            assert!(system.contains(known), "{system} {os}");
        }
    }
}
