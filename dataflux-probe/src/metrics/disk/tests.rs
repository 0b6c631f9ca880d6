//! Tests of what is read of `/proc/diskstats`.

use std::{collections::BTreeSet, fs};

use super::*;
use crate::{
    host_file::testing::survives_damage,
    model::Total,
    plugin::testing::{context, fixtures},
};

fn read(config: &str, context: &Context) -> Snapshot {
    let mut snapshot = Snapshot::default();
    PLUGIN
        .build_from(config, context)
        .unwrap()
        .read(&mut snapshot)
        .unwrap();
    snapshot
}

/// Of one device, in the order of its series.
fn values(snapshot: &Snapshot, id: u64) -> Vec<u64> {
    let key = EntityKey::Id(id);
    let own = snapshot
        .series
        .iter()
        .filter(|series| series.entity.as_ref().is_some_and(|it| it.key == key));
    let values = own.map(|series| match series.value {
        Total::Counter(value) => value,
        Total::Gauge(value) => value as u64,
        Total::Histogram(_) => panic!("{} is no histogram", series.def.name),
    });
    values.collect()
}

fn devices(snapshot: &Snapshot) -> Vec<String> {
    let keys = snapshot
        .series
        .iter()
        // A tmpfs is on none.
        .filter_map(|series| match series.entity.as_ref()?.key {
            EntityKey::Id(id) => Some(id),
            _ => panic!("by id"),
        });
    let ids: BTreeSet<u64> = keys.collect();
    ids.into_iter()
        .map(|id| EntityKind::Device.format_id(id))
        .collect()
}

#[test]
fn sectors_become_bytes_and_milliseconds_nanoseconds() {
    let snapshot = read("", &context(fixtures()));
    let ms = 1_000_000;
    let vda = [
        [60_686, 21_868, 9447, 1267].as_slice(),
        &[11_992, 55_950, 12],
        &[7_976_362 * 512, 19_205_696 * 512, 1_931_904 * 512],
        &[20_613 * ms, 62_413 * ms, 788 * ms, 45 * ms],
        &[2, 14_868 * ms, 83_861 * ms],
    ];
    assert_eq!(values(&snapshot, 254 << 20), vda.concat());
}

#[test]
fn partitions_are_left_out_unless_wanted() {
    let whole = devices(&read("", &context(fixtures())));
    let all = devices(&read("partitions = true", &context(fixtures())));
    let partitions: Vec<_> = all.iter().filter(|disk| !whole.contains(disk)).collect();
    assert_eq!(partitions, ["254:1"]);
}

#[test]
fn a_device_that_never_did_anything_has_counters_at_0_and_no_gauge() {
    let snapshot = read("", &context(fixtures()));
    let idle = values(&snapshot, 7 << 20);
    assert_eq!(idle, [0; 16]);
}

#[test]
fn times_that_ran_over_go_on_unless_the_disk_is_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let context = context(folder.path());
    let device = context.roots.sys.join("dev/block/8:0");
    fs::create_dir_all(&device).unwrap();
    fs::create_dir_all(&context.roots.proc).unwrap();
    let mut reader = PLUGIN.build_from("file_systems = false", &context).unwrap();
    let mut look = |disk: u64, requests: u64, ms: u64| {
        fs::write(device.join("diskseq"), format!("{disk}\n")).unwrap();
        let line = format!("8 0 sda {requests} 0 0 {ms} 0 0 0 0 0 {ms} {ms} 0 0 0 0 0 0\n");
        fs::write(context.roots.proc.join("diskstats"), line).unwrap();
        let mut snapshot = Snapshot::default();
        reader.read(&mut snapshot).unwrap();
        let time = crate::host_file::testing::total(&snapshot, "disk.time", &["read"]);
        let busy = crate::host_file::testing::total(&snapshot, "disk.busy", &[]);
        assert_eq!(time, busy);
        match time {
            Some(Total::Counter(ns)) => ns / 1_000_000,
            other => panic!("{other:?}"),
        }
    };
    let last = u64::from(u32::MAX);
    assert_eq!(look(3, 9, last), last);
    assert_eq!(look(3, 10, 41), last + 42);
    assert_eq!(look(4, 10, 40), 40, "another disk");
}

#[test]
fn without_sysfs_it_does_not_guess() {
    let mut context = context(fixtures());
    context.roots.sys = "/nowhere".into();
    let mut reader = PLUGIN.build_from("", &context).unwrap();
    let error = reader
        .read(&mut Snapshot::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("/nowhere/dev/block"), "{error}");
    assert_eq!(devices(&read("partitions = true", &context)).len(), 6);
}

#[test]
fn this_machine_lies_between_two_looks_at_it() {
    let look = || -> Vec<Vec<u64>> {
        let text = fs::read_to_string("/proc/diskstats").unwrap();
        let numbers = |line: &str| {
            line.split_ascii_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect()
        };
        text.lines().map(numbers).collect()
    };
    let mut context = context(fixtures());
    context.roots.proc = "/proc".into();
    let before = look();
    let snapshot = read("partitions = true", &context);
    for (before, after) in before.iter().zip(look()) {
        let id = before[0] << 20 | before[1];
        let values = values(&snapshot, id);
        for (column, at, scale) in [(2, 0, 1), (6, 1, 1), (17, 3, 1), (4, 7, 512), (8, 8, 512)] {
            let range = before[column] * scale..=after[column] * scale;
            assert!(range.contains(&values[at]), "{before:?} {values:?}");
        }
    }
}

#[test]
fn damage_is_an_error_that_names_the_file() {
    survives_damage(&PLUGIN, &["diskstats"]);
}
