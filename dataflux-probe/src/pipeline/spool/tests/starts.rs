//! Many starts, and starts after a power cut.

use std::collections::BTreeMap;

use super::{super::store, *};

#[test]
fn streams_of_many_starts_find_room_in_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 1 << 20);
    // An output per reader, and a probe that is killed again and again while nothing gets through.
    let (mut expected, mut lost) = (0, 0);
    for start in 0..40 {
        let (mut spool, recovered) = open(&settings);
        assert_eq!((recovered.damaged, recovered.notes.len()), (0, 0));
        for reader in 0..50 {
            let (record, sum) = record(&format!("out/{reader}-{start:016x}"), 1, 2);
            let losses = spool.append(&format!("out/{reader}"), &record).unwrap();
            assert_eq!(losses, []);
            let mut losses = Vec::new();
            spool.make_room(&mut losses).unwrap();
            lost += losses.len();
            spool.note().unwrap();
            expected += sum;
        }
        assert!(disk_usage(folder.path()) <= 1 << 20);
        std::mem::forget(spool);
    }
    let (mut spool, _) = open(&settings);
    let given = drain(&mut spool);
    assert_eq!((given.len(), lost), (40 * 50, 0));
    assert_eq!(given.iter().map(|(_, sum)| sum).sum::<u64>(), expected);
}

/// The files of a spool.
fn files(settings: &Settings) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(&settings.folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    paths
        .map(|path| (name(&path), fs::read(&path).unwrap()))
        .collect()
}

#[test]
fn after_a_power_cut_no_number_is_in_two_ranges() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = Settings {
        syncs: true,
        ..settings(folder.path(), 1 << 20)
    };
    let (mut spool, _) = open(&settings);
    let (mut number, mut synced) = (0, BTreeMap::new());
    while spool.merged() == 0 {
        spool.sync().unwrap();
        synced = files(&settings);
        number += 1;
        put(&mut spool, number, 200);
    }
    let (_, given) = give(&mut spool).unwrap();
    assert_eq!(given.range, 1..=2);
    // What was not made to survive is as it was before, or not there.
    for (name, written) in files(&settings) {
        let number = store::number(Path::new(&name));
        let survives = number.is_some_and(|number| !spool.store.is_dirty(number));
        let path = settings.folder.join(&name);
        match synced.get(&name) {
            _ if survives => fs::write(path, written).unwrap(),
            Some(before) => fs::write(path, before).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
    }
    std::mem::forget(spool);
    settings.boot_id = "boot-2".to_owned();
    let (mut spool, recovered) = open(&settings);
    assert_eq!(recovered.damaged, 0);
    let ranges: Vec<_> = drain(&mut spool)
        .into_iter()
        .map(|(range, _)| range)
        .collect();
    assert_eq!(ranges[0], given.range, "{ranges:?}");
}

#[test]
fn what_was_noted_before_a_file_was_deleted_does_not_count_again() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 1 << 20);
    drop(open(&settings));
    let (mut spool, _) = open(&settings);
    for number in 1..=100 {
        put(&mut spool, number, 40);
    }
    fs::remove_file(&segments(&settings.folder)[0]).unwrap();
    let mut losses = Vec::new();
    spool.check(&mut losses).unwrap();
    assert_eq!(losses, []);
    for _ in 0..50 {
        let (ticket, _) = give(&mut spool).unwrap();
        spool.delivered(ticket, 0);
    }
    let (_, out) = give(&mut spool).unwrap();
    std::mem::forget(spool);
    let (mut spool, _) = open(&settings);
    let handed: Vec<_> = spool.handed.iter().map(|out| out.entry.range()).collect();
    assert_eq!(handed, [out.range]);
    assert_eq!(account(&mut spool), (51..=100).collect::<Vec<_>>());
}
