//! Tests with the files of the fixtures, in which no number stands twice, and with this machine's own.

use std::{collections::BTreeSet, fs};

use super::*;
use crate::{
    host_file::testing::{survives_damage, total},
    model::Total,
    plugin::testing::{context, fixtures},
};

fn read(proc: &Path) -> Snapshot {
    let mut snapshot = Snapshot::default();
    NetworkStack::new(proc).read(&mut snapshot).unwrap();
    snapshot
}

/// What the files say, found by another way than the reader's: by group and name.
fn said(net: &Path, group: &str, name: &str) -> Option<u64> {
    let text = |file: &str| fs::read_to_string(net.join(file)).unwrap();
    let words =
        |line: &str| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
    for file in ["snmp", "netstat"] {
        let text = text(file);
        let mut lines = text
            .lines()
            .filter(|line| line.starts_with(&format!("{group}: ")));
        if let (Some(names), Some(values)) = (lines.next(), lines.next()) {
            let at = words(names).iter().position(|word| word == name)?;
            return words(values)[at].parse().ok();
        }
    }
    if let Some(line) = text("snmp6")
        .lines()
        .find(|line| words(line)[0] == format!("{group}{name}"))
    {
        return words(line)[1].parse().ok();
    }
    let sockets = text("sockstat") + &text("sockstat6");
    let line = words(
        sockets
            .lines()
            .find(|line| line.starts_with(&format!("{group}: ")))?,
    );
    let at = line.iter().position(|word| word == name)?;
    line[at + 1].parse().ok()
}

fn value(snapshot: &Snapshot, field: &fields::Field) -> u64 {
    match total(snapshot, field.def.name, field.labels) {
        Some(Total::Counter(value)) => value,
        Some(Total::Gauge(value)) => value as u64,
        other => panic!("{}{}: {other:?}", field.group, field.name),
    }
}

#[test]
fn every_field_is_where_its_metric_says() {
    let snapshot = read(&fixtures().join("proc"));
    let net = fixtures().join("proc/1/net");
    let mut seen = BTreeSet::new();
    for field in &FIELDS {
        let expected = said(&net, field.group, field.name).unwrap();
        let scale = if field.pages {
            rustix::param::page_size() as u64
        } else {
            1
        };
        assert_eq!(
            value(&snapshot, field),
            expected * scale,
            "{}{}",
            field.group,
            field.name
        );
        assert!(seen.insert(expected), "{expected} stands twice");
    }
    assert!(
        snapshot.unsupported.is_empty(),
        "{:?}",
        snapshot.unsupported
    );
    let events = parse::EVENTS.len();
    assert_eq!(snapshot.series.len(), FIELDS.len() + 2 + events);
}

#[test]
fn every_metric_has_fields_and_no_two_fields_one_series() {
    let mut series = BTreeSet::new();
    for field in &FIELDS {
        assert!(
            series.insert((field.def.name, field.labels)),
            "{}",
            field.name
        );
        assert!(METRICS.contains(&field.def), "{}", field.def.name);
    }
    let mut names: Vec<_> = FIELDS.iter().map(|field| field.def.name).collect();
    names.dedup();
    let metrics: Vec<_> = METRICS.iter().map(|def| def.name).collect();
    assert_eq!(names, metrics[..names.len()], "together and in order");
    assert_eq!(
        metrics.len(),
        names.len() + 3,
        "and those of tracked connections"
    );
}

#[test]
fn tracked_connections_are_those_of_process_1() {
    let snapshot = read(&fixtures().join("proc"));
    let entries = total(&snapshot, "network_stack.conntrack_entries", &[]);
    assert_eq!(entries, Some(Total::Gauge(211.0)));
    let limit = total(&snapshot, "network_stack.conntrack_limit", &[]);
    assert_eq!(limit, Some(Total::Gauge(262_144.0)));
    let early = total(&snapshot, "network_stack.conntrack_events", &["early_drop"]);
    assert_eq!(early, Some(Total::Counter(19)));
}

/// A host with these of the fixtures' files.
fn host(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let net = folder.path().join("proc/1/net");
    fs::create_dir_all(&net).unwrap();
    for file in files {
        fs::copy(fixtures().join("proc/1/net").join(file), net.join(file)).unwrap();
    }
    folder
}

#[test]
fn without_ipv6_and_a_firewall_there_are_no_series_of_them() {
    let folder = host(&["snmp", "netstat", "sockstat"]);
    let snapshot = read(&folder.path().join("proc"));
    let ipv6 = snapshot
        .series
        .iter()
        .filter(|it| it.labels.iter().any(|label| label == "ipv6"));
    assert_eq!(ipv6.count(), 0);
    let names: Vec<_> = snapshot.unsupported.iter().map(|def| def.name).collect();
    let expected = ["conntrack_entries", "conntrack_limit", "conntrack_events"];
    assert_eq!(names, expected.map(|name| format!("network_stack.{name}")));
}

#[test]
fn a_field_that_an_older_kernel_lacks_is_not_there_and_its_metric_is_unsupported_only_without_any()
{
    let folder = host(&["snmp", "netstat", "sockstat"]);
    let path = folder.path().join("proc/1/net/netstat");
    let text = fs::read_to_string(&path).unwrap();
    let text = text
        .replace(" BeyondWindow", " Unknown1")
        .replace(" TCPOFOQueue", " Unknown2");
    fs::write(&path, text).unwrap();
    let mut reader = NetworkStack::new(&folder.path().join("proc"));
    for _ in 0..2 {
        let mut snapshot = Snapshot::default();
        reader.read(&mut snapshot).unwrap();
        let names: Vec<_> = snapshot.unsupported.iter().map(|def| def.name).collect();
        assert!(
            names.contains(&"network_stack.tcp_out_of_order"),
            "{names:?}"
        );
        assert!(!names.contains(&"network_stack.tcp_drops"), "{names:?}");
        let drops = |reason| total(&snapshot, "network_stack.tcp_drops", &[reason]);
        assert_eq!(drops("beyond_window"), None);
        assert!(drops("backlog").is_some());
    }
}

/// The kernel's order can only change with the kernel, but the places that are remembered must never lie.
#[test]
fn fields_that_change_places_are_found_again() {
    let folder = host(&["snmp", "netstat", "sockstat"]);
    let proc = folder.path().join("proc");
    let path = proc.join("1/net/snmp");
    let mut reader = NetworkStack::new(&proc);
    reader.read(&mut Snapshot::default()).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let turned = text.replace("Udp: InDatagrams NoPorts", "Udp: NoPorts InDatagrams");
    assert_ne!(text, turned);
    fs::write(&path, turned).unwrap();
    let mut snapshot = Snapshot::default();
    reader.read(&mut snapshot).unwrap();
    let net = proc.join("1/net");
    fs::write(net.join("snmp6"), "").unwrap();
    fs::write(net.join("sockstat6"), "").unwrap();
    for field in FIELDS.iter().filter(|field| field.group == "Udp") {
        let expected = said(&net, field.group, field.name).unwrap();
        assert_eq!(value(&snapshot, field), expected, "{}", field.name);
    }
}

#[test]
fn a_level_below_0_is_0() {
    for (text, expected) in [("-3", 0), ("18446744073709551615", 0), ("5", 5)] {
        let folder = host(&["snmp", "netstat", "sockstat"]);
        let path = folder.path().join("proc/1/net/sockstat");
        fs::write(path, format!("sockets: used {text}\n")).unwrap();
        let snapshot = read(&folder.path().join("proc"));
        let used = total(&snapshot, "network_stack.sockets_used", &[]);
        assert_eq!(used, Some(Total::Gauge(f64::from(expected))), "{text}");
    }
}

#[test]
fn this_machine_lies_between_two_looks_at_it() {
    let net = Path::new("/proc/1/net");
    if fs::metadata(net.join("snmp6")).is_err() {
        return;
    }
    let counters = || FIELDS.iter().filter(|field| field.def.kind != Kind::Gauge);
    let look = || -> Vec<_> { counters().map(|it| said(net, it.group, it.name)).collect() };
    let before = look();
    let snapshot = read(Path::new("/proc"));
    let after = look();
    for ((field, before), after) in counters().zip(before).zip(after) {
        let (Some(before), Some(after)) = (before, after) else {
            continue;
        };
        let value = value(&snapshot, field);
        assert!(
            (before..=after).contains(&value),
            "{}{}: {before} {value} {after}",
            field.group,
            field.name
        );
    }
}

#[test]
fn damage_is_an_error_that_names_the_file() {
    survives_damage(&PLUGIN, &["1/net/snmp", "1/net/netstat", "1/net/sockstat"]);
    let folder = host(&["snmp", "netstat", "sockstat"]);
    let mut reader = PLUGIN.build_from("", &context(folder.path())).unwrap();
    for file in ["snmp6", "sockstat6"] {
        let path = folder.path().join("proc/1/net").join(file);
        fs::write(&path, "Ip6InReceives\n").unwrap();
        let error = format!("{:#}", reader.read(&mut Snapshot::default()).unwrap_err());
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        fs::remove_file(&path).unwrap();
    }
}
