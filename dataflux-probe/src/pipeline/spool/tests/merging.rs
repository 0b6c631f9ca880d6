//! What a resolution is merging outlives the process under the number that it would have had, once.

use super::*;

/// Puts in 1 to 3, and keeps two windows as what is to become the next number.
fn interrupted(settings: &Settings) -> u64 {
    let (mut spool, _) = open(settings);
    for number in 1..=3 {
        put(&mut spool, number, 3);
    }
    keep(&mut spool, 4, 5);
    keep(&mut spool, 4, 7)
}

/// Keeps a record with this many series instead of the last one; gives its sum.
fn keep(spool: &mut Spool, number: u64, series: usize) -> u64 {
    let (record, sum) = record("out-1", number, series);
    spool
        .keep_merging(&[("out".to_owned(), record)])
        .expect("it is kept");
    sum
}

fn numbers(given: &[(RangeInclusive<u64>, u64)]) -> Vec<u64> {
    given.iter().flat_map(|(range, _)| range.clone()).collect()
}

#[test]
fn what_was_being_merged_is_the_last_record_of_its_stream() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 1 << 20);
    let sum = interrupted(&settings);
    let (spool, recovered) = open(&settings);
    assert_eq!(recovered.notes, Vec::<String>::new());
    assert_eq!((recovered.damaged, recovered.earlier[0].last), (0, 4));
    drop(spool);
    // Killed again before anything was handed over.
    let (mut spool, _) = open(&settings);
    let given = drain(&mut spool);
    assert_eq!(numbers(&given), [1, 2, 3, 4]);
    assert_eq!(given[3].1, sum, "what was kept last");
}

#[test]
fn a_number_that_was_given_is_not_given_again() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 1 << 20);
    interrupted(&settings);
    let path = folder
        .path()
        .join("spool")
        .join(super::super::merging::FILE);
    let stale = fs::read(&path).unwrap();
    let (mut spool, _) = open(&settings);
    assert!(!path.exists());
    let (ticket, _) = give(&mut spool).unwrap();
    spool.delivered(ticket, 1);
    spool.note().unwrap();
    drop(spool);
    // As if the kill had come between the two.
    fs::write(&path, &stale).unwrap();
    let (mut spool, _) = open(&settings);
    assert_eq!(numbers(&drain(&mut spool)), [2, 3, 4]);
    spool.note().unwrap();
    drop(spool);
    fs::write(&path, &stale).unwrap();
    let (mut spool, recovered) = open(&settings);
    assert_eq!(
        (numbers(&drain(&mut spool)), recovered.damaged),
        (vec![], 0)
    );
}

#[test]
fn a_stream_may_have_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 1 << 20);
    let (mut spool, _) = open(&settings);
    let sum = keep(&mut spool, 1, 4);
    drop(spool);
    let (mut spool, recovered) = open(&settings);
    assert_eq!(recovered.earlier[0].last, 1);
    assert_eq!(drain(&mut spool), [(1..=1, sum)]);
}

#[test]
fn after_a_power_cut_it_counts_as_handed_over_and_never_merges() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path(), 1 << 20);
    interrupted(&settings);
    settings.boot_id = "boot-2".to_owned();
    let (spool, _) = open(&settings);
    assert_eq!((spool.handed.len(), spool.waiting.len()), (4, 0));
}

#[test]
fn damage_is_told_and_loses_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 1 << 20);
    let path = folder
        .path()
        .join("spool")
        .join(super::super::merging::FILE);
    for (cut, replaced) in [(20, None), (0, None), (0, Some("#!/bin/sh\n".repeat(20)))] {
        fs::remove_dir_all(folder.path().join("spool")).ok();
        interrupted(&settings);
        let whole = fs::read(&path).unwrap();
        let bytes = match &replaced {
            Some(foreign) => foreign.as_bytes(),
            None if cut == 0 => &[],
            None => &whole[..whole.len() - cut],
        };
        fs::write(&path, bytes).unwrap();
        let (mut spool, recovered) = open(&settings);
        assert_eq!(recovered.notes.len(), 1, "{:?}", recovered.notes);
        assert_eq!(numbers(&drain(&mut spool)), [1, 2, 3]);
    }
}
