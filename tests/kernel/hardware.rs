//! What guests are made of, which is known: memory in one module and two nodes, a disk with a serial number.

use std::{collections::BTreeMap, fs, path::Path};

use dataflux_tests::tools;

use crate::{
    group::{Group, until},
    harness::{Attached, header, machine, skipped_outside_guests},
};

const MIB: u64 = 1 << 20;

/// The nodes that the kernel lists, with the numbers of a file of each by the names of its lines; bytes where they are kB.
fn nodes(file: &str) -> BTreeMap<String, BTreeMap<String, u64>> {
    let mut nodes = BTreeMap::new();
    for entry in fs::read_dir("/sys/devices/system/node")
        .into_iter()
        .flatten()
    {
        let folder = entry.expect("a node").path();
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let Some(number) = name.strip_prefix("node") else {
            continue;
        };
        let text = fs::read_to_string(folder.join(file)).expect("a node's file");
        let line = |line: &str| {
            let own = line
                .strip_prefix(&format!("Node {number} "))
                .unwrap_or(line);
            let (name, value) = own.split_once([':', ' '])?;
            let value = value.trim();
            let (digits, scale) = match value.strip_suffix(" kB") {
                Some(digits) => (digits, 1024),
                None => (value, 1),
            };
            Some((name.to_owned(), digits.parse::<u64>().ok()? * scale))
        };
        nodes.insert(number.to_owned(), text.lines().filter_map(line).collect());
    }
    nodes
}

/// Scenario: a program that may use the memory of node 1 alone keeps 32 MiB.
/// Guarantees: each node has the memory that the kernel says, all have what the machine has, and the 32 MiB are node 1's: in
/// what is used, and in what was allocated there as was wanted.
#[test]
fn memory_is_on_the_node_that_it_was_taken_from() {
    const KEPT: u64 = 32 * MIB;
    /// As many bytes as the kernel may allocate at once here: what it counts are allocations.
    const LARGEST: u64 = 2 * MIB;
    let Some(_machine) = machine() else { return };
    if skipped_outside_guests("two NUMA nodes", nodes("meminfo").len() > 1) {
        return;
    }
    let Some(mut group) = Group::new("node") else {
        return;
    };
    if !group.is_v2 || group.file("cpuset.mems", "cpuset.mems").is_none() {
        return println!("skipped: no controller of cpusets of v2 here");
    }
    group.set("cpuset.mems", "", "1");
    let mut reader = Attached::new("memory", "");
    let mut look = |node: &str| {
        let before = nodes("numastat");
        let read = reader.read_in_part();
        let after = nodes("numastat");
        for (node, lines) in nodes("meminfo") {
            let total = read.gauge("memory.node_total", None, &[&node]);
            assert_eq!(total, Some(lines["MemTotal"] as f64), "node {node}");
            for (outcome, line) in [("hit", "numa_hit"), ("other", "other_node")] {
                let told = read.counter("memory.node_allocations", None, &[&node, outcome]);
                let range = before[&node][line]..=after[&node][line];
                assert!(range.contains(&told), "node {node}: {told} {range:?}");
            }
        }
        let all = nodes("meminfo").into_keys();
        let sum: f64 = all
            .filter_map(|node| read.gauge("memory.node_total", None, &[&node]))
            .sum();
        assert_eq!(Some(sum), read.gauge("memory.total", None, &[]));
        let anonymous = read.gauge("memory.node_anonymous", None, &[node]);
        let hits = read.counter("memory.node_allocations", None, &[node, "hit"]);
        (anonymous.expect("each node has it") as u64, hits)
    };
    let (far, _) = look("0");
    let (anonymous, hits) = look("1");
    group.run("(head -c 33554432 /dev/zero; exec sleep 600) | tail -c 33554432");
    let used = || group.number(("memory.current", ""), ("", ""));
    until(|| used().is_some_and(|used| used > KEPT));
    group.stop();
    let (anonymous_after, hits_after) = look("1");
    let (far_after, _) = look("0");
    let (near, allocations) = (anonymous_after.saturating_sub(anonymous), hits_after - hits);
    println!("node 1: {near} bytes more in {allocations} allocations");
    assert!(near > KEPT - 4 * MIB, "{near}");
    assert!(allocations >= KEPT / LARGEST, "{allocations}");
    let strayed = far_after.saturating_sub(far);
    assert!(strayed < KEPT / 4, "{strayed} bytes on node 0");
}

/// Scenario: the processor's section of the header.
/// Guarantees: it has the nodes that the kernel lists.
#[test]
fn the_processor_has_the_nodes_that_the_kernel_lists() {
    let Some(_machine) = machine() else { return };
    let processor = header("processor").expect("the reader reads");
    let listed = nodes("meminfo").len();
    if skipped_outside_guests("two NUMA nodes", listed > 1) {
        return;
    }
    assert_eq!(processor["numa_nodes"], listed, "{processor:?}");
}

/// The modules that `dmidecode` shows, in bytes.
fn modules_of_dmidecode() -> Option<Vec<u64>> {
    let text = tools::printed("dmidecode", &["--type", "17"])?;
    let size = |line: &str| {
        let (number, unit) = line.trim().strip_prefix("Size: ")?.split_once(' ')?;
        let shift = match unit {
            "kB" => 10,
            "MB" => 20,
            "GB" => 30,
            "TB" => 40,
            _ => return None,
        };
        Some(number.parse::<u64>().ok()? << shift)
    };
    Some(text.lines().filter_map(size).collect())
}

/// Scenario: the firmware's table of memory; of a guest it is known what is in it.
/// Guarantees: modules are of the size that was asked for, or that `dmidecode` says, and hold what the kernel manages.
#[test]
fn modules_of_memory_are_those_that_are_plugged_in() {
    let Some(_machine) = machine() else { return };
    let table = Path::new("/sys/firmware/dmi/tables/DMI").exists();
    // Guests of Arm boot without firmware.
    let is_there = table || cfg!(target_arch = "aarch64");
    if skipped_outside_guests("table of the firmware", is_there) {
        return;
    }
    if !table {
        return println!("skipped: this guest has no firmware");
    }
    let ram = header("ram").expect("the reader reads");
    let modules = ram["modules"].as_array().expect("modules");
    let size = |module: &serde_json::Value| module["size_bytes"].as_u64().unwrap_or_default();
    let sizes: Vec<_> = modules.iter().map(size).collect();
    println!("{ram:?}");
    assert_eq!(ram["installed_bytes"], sizes.iter().sum::<u64>());
    let managed = ram["total_bytes"].as_u64().expect("the kernel says it");
    assert!(managed <= sizes.iter().sum(), "{ram:?}");
    if std::env::var_os("DATAFLUX_GUEST").is_some() {
        // As `cargo xtask kernel-test` makes them.
        assert_eq!(sizes, [1024 * MIB]);
        let module = &modules[0];
        assert_eq!(module["locator"], "SLOT 0");
        assert_eq!(module["manufacturer"], "Example");
        assert_eq!(module["part_number"], "GUEST-1");
        assert_eq!(module["speed_mts"], 3200);
        assert_eq!(module["type"], "RAM");
    } else if let Some(known) = modules_of_dmidecode() {
        assert_eq!(sizes, known);
    }
}

/// Scenario: the disk of a guest.
/// Guarantees: it has the size and the serial number that it was made with; loops are no drives.
#[test]
fn the_disk_of_a_guest_has_its_size_and_serial_number() {
    let Some(_machine) = machine() else { return };
    let drives = header("drives").expect("the reader reads");
    let disks = drives["disks"].as_object().expect("disks");
    assert!(
        disks.keys().all(|name| !name.starts_with("loop")),
        "{drives:?}"
    );
    let is_guest = std::env::var_os("DATAFLUX_GUEST").is_some();
    if skipped_outside_guests("disk of a known size", is_guest) {
        return;
    }
    let disk = &drives["disks"]["vda"];
    assert_eq!(disk["serial"], "data", "{drives:?}");
    assert_eq!(disk["size_bytes"], 64 * MIB, "{drives:?}");
}
