//! What a spool holds, merges, gives and finds again, against what was put in.

mod churn;
mod merging;
mod starts;

use std::{fs, ops::RangeInclusive, path::Path, sync::Arc};

use super::{
    super::{
        WhenFull,
        fakes::{Random, source},
        streams::{End, Ends},
    },
    Loss, Next, Recovered, Settings, Spool, Ticket,
};
use crate::model::{Cause, Envelope, Gap, Numbered, Part, Previous, Stream, Value, Window};

const BOOT: &str = "boot-1";

fn settings(folder: &Path, bytes: u64) -> Settings {
    Settings {
        folder: folder.join("spool"),
        output: "out".to_owned(),
        bytes,
        when_full: WhenFull::Coalesce,
        syncs: false,
        boot_id: BOOT.to_owned(),
    }
}

fn open(settings: &Settings) -> (Spool, Recovered) {
    Spool::open(settings.clone(), &Ends::new()).unwrap()
}

/// A record whose counters are incompressible numbers that are told by their sum.
fn record(stream: &str, number: u64, series: usize) -> (Numbered, u64) {
    let mut random = Random(number + 1);
    let values: Vec<u64> = (0..series).map(|_| random.below(1 << 44)).collect();
    let window = Window {
        stop: i64::try_from(number).unwrap(),
        ..Window::default()
    };
    let record = Numbered {
        stream: Arc::new(Stream {
            id: stream.into(),
            previous: None,
        }),
        range: number..=number,
        part: Part::WHOLE,
        gaps: Vec::new(),
        envelope: Arc::new(Envelope {
            window,
            metadata: Arc::default(),
            sources: vec![source("alpha", window, &values)],
        }),
    };
    (record, values.iter().sum())
}

/// Puts a record in; gives its sum.
fn put(spool: &mut Spool, number: u64, series: usize) -> (u64, Vec<Loss>) {
    let (record, sum) = record("out-1", number, series);
    let mut losses = spool.append("out", &record).unwrap();
    spool.make_room(&mut losses).unwrap();
    spool.note().unwrap();
    spool.trim().unwrap();
    (sum, losses)
}

fn give(spool: &mut Spool) -> Option<(Ticket, Numbered)> {
    let next = spool.next(|record| record);
    spool.note().unwrap();
    match next {
        Next::Record(ticket, record) => Some((ticket, record)),
        Next::Lost(loss) => panic!("{loss:?}"),
        Next::Nothing => None,
    }
}

fn sum(record: &Numbered) -> u64 {
    let metrics = record
        .envelope
        .sources
        .iter()
        .flat_map(|source| &source.metrics);
    metrics
        .map(|metric| match metric.value {
            Value::Counter { value, .. } => value.unwrap_or(0),
            _ => 0,
        })
        .sum()
}

/// The numbers of everything that is left, those that turn out to be damaged included.
fn account(spool: &mut Spool) -> Vec<u64> {
    let mut numbers = Vec::new();
    loop {
        match spool.next(|record| record) {
            Next::Record(ticket, record) => {
                spool.delivered(ticket, 0);
                numbers.extend(record.range);
            }
            Next::Lost(loss) => {
                assert_eq!(loss.cause, Cause::Damaged);
                numbers.extend(loss.range);
            }
            Next::Nothing => return numbers,
        }
    }
}

/// Everything that is left, in order.
fn drain(spool: &mut Spool) -> Vec<(RangeInclusive<u64>, u64)> {
    std::iter::from_fn(|| {
        let (ticket, record) = give(spool)?;
        spool.delivered(ticket, record.envelope.window.stop);
        Some((record.range.clone(), sum(&record)))
    })
    .collect()
}

fn disk_usage(folder: &Path) -> u64 {
    fs::read_dir(folder.join("spool"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum()
}

#[test]
fn an_outage_far_longer_than_the_spool_keeps_every_count() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 1 << 20);
    let (mut spool, _) = open(&settings);
    let (mut expected, mut largest) = (0, 0);
    // Ten times what there is room for.
    for number in 1..=6_000 {
        let (sum, losses) = put(&mut spool, number, 200);
        assert_eq!(losses, []);
        expected += sum;
        if number % 100 == 0 {
            largest = disk_usage(folder.path()).max(largest);
        }
    }
    assert!(largest <= 1 << 20, "{largest} bytes on disk");
    let given = drain(&mut spool);
    let mut next = 1;
    for (range, _) in &given {
        assert_eq!(*range.start(), next, "no number twice, none missing");
        next = range.end() + 1;
    }
    assert_eq!(next, 6_001);
    assert_eq!(given.iter().map(|(_, sum)| sum).sum::<u64>(), expected);
    let (oldest, newest) = (&given[0].0, &given[given.len() - 1].0);
    assert!(
        oldest.clone().count() > 1 && newest.clone().count() == 1,
        "the newest stay fine"
    );
    let once = 6_000 * u64::from(largest_record(&given));
    assert!(
        spool.store.written() < 6 * once,
        "{} for {once}",
        spool.store.written()
    );
}

/// Bytes of an ordinary record of that test.
fn largest_record(_: &[(RangeInclusive<u64>, u64)]) -> u32 {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(&settings(folder.path(), 1 << 20));
    put(&mut spool, 1, 200);
    u32::try_from(spool.store.written()).unwrap()
}

#[test]
fn after_a_kill_only_the_unacknowledged_repeat_and_say_the_same_again() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 1 << 20);
    let (mut spool, _) = open(&settings);
    for number in 1..=6 {
        put(&mut spool, number, 3);
    }
    let gaps = vec![Gap {
        first: 9,
        last: 9,
        cause: Cause::Rejected,
    }];
    let previous = Previous {
        id: "out-0".into(),
        last: 4,
        stop_time: 7,
        gaps: Vec::new(),
        previous: None,
    };
    let (first, _) = give(&mut spool).unwrap();
    let Next::Record(..) = spool.next(|record| Numbered {
        gaps: gaps.clone(),
        stream: Arc::new(Stream {
            id: Arc::clone(&record.stream.id),
            previous: Some(previous.clone()),
        }),
        ..record
    }) else {
        panic!("there is one");
    };
    let (third, _) = give(&mut spool).unwrap();
    spool.delivered(first, 1);
    spool.delivered(third, 3);
    spool.note().unwrap();
    // As a kill leaves it.
    std::mem::forget(spool);

    let (mut spool, recovered) = open(&settings);
    assert_eq!((recovered.damaged, recovered.notes.len()), (0, 0));
    assert_eq!(recovered.earlier[0].last, 6);
    let (_, again) = give(&mut spool).unwrap();
    assert_eq!((again.range, again.gaps), (2..=2, gaps));
    assert_eq!(again.stream.previous, Some(previous));
    let rest: Vec<_> = drain(&mut spool)
        .into_iter()
        .map(|(range, _)| range)
        .collect();
    assert_eq!(rest, [4..=4, 5..=5, 6..=6]);
}

#[test]
fn after_a_power_cut_everything_counts_as_handed_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path(), 1 << 20);
    let (mut spool, _) = open(&settings);
    for number in 1..=4 {
        put(&mut spool, number, 3);
    }
    drop(spool);
    settings.boot_id = "boot-2".to_owned();
    let (mut spool, _) = open(&settings);
    assert_eq!((spool.handed.len(), spool.waiting.len()), (4, 0));
    assert_eq!(drain(&mut spool).len(), 4);
}

#[test]
fn what_the_disk_did_not_keep_is_declared() {
    type Damage = fn(&Path);
    let cases: [(&str, Damage); 5] = [
        ("a missing segment", |folder| {
            fs::remove_file(folder.join("0000000001.seg")).unwrap();
        }),
        ("a torn tail", |folder| {
            let last = segments(folder).pop().unwrap();
            let length = fs::metadata(&last).unwrap().len();
            fs::File::options()
                .write(true)
                .open(&last)
                .unwrap()
                .set_len(length - 5)
                .unwrap();
        }),
        ("a zeroed tail", |folder| {
            let last = segments(folder).pop().unwrap();
            let mut bytes = fs::read(&last).unwrap();
            let length = bytes.len();
            bytes[length - 700..].fill(0);
            fs::write(&last, bytes).unwrap();
        }),
        ("no segment at all", |folder| {
            segments(folder)
                .iter()
                .for_each(|path| fs::remove_file(path).unwrap());
        }),
        ("nothing at all", |folder| {
            fs::remove_dir_all(folder).unwrap();
        }),
    ];
    for (name, damage) in cases {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path(), 1 << 20);
        let (mut spool, _) = open(&settings);
        for number in 1..=300 {
            put(&mut spool, number, 40);
        }
        // Numbers that were known in the journal as well.
        let (ticket, _) = give(&mut spool).unwrap();
        spool.delivered(ticket, 1);
        spool.note().unwrap();
        drop(spool);
        damage(&settings.folder);
        let past = noted(301);
        let (mut spool, recovered) = Spool::open(settings.clone(), &past).unwrap();
        assert!(recovered.damaged > 0, "{name}");
        let mut accounted: Vec<u64> = vec![1];
        accounted.extend(account(&mut spool));
        let gaps = &recovered.earlier[0].gaps;
        accounted.extend(gaps.iter().flat_map(|gap| gap.first..=gap.last));
        accounted.sort_unstable();
        // Without a journal nobody knows what was delivered.
        accounted.dedup();
        assert_eq!(accounted, (1..=301).collect::<Vec<_>>(), "{name}");
        assert_eq!(
            gaps.last().map(|gap| (gap.last, gap.cause)),
            Some((301, Cause::Stopped)),
            "{name}"
        );
    }
}

/// What `streams.json` says of a stream with so many numbers.
fn noted(last: u64) -> Ends {
    let end = End {
        stream: Previous {
            id: "out-1".into(),
            last,
            stop_time: 301,
            gaps: Vec::new(),
            previous: None,
        },
        earlier: Vec::new(),
        spooled: true,
    };
    Ends::from([("out".to_owned(), end)])
}

fn segments(folder: &Path) -> Vec<std::path::PathBuf> {
    let paths = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "seg"))
        .collect();
    segments.sort();
    segments
}

#[test]
fn damaged_journals_and_foreign_files_are_no_reason_to_stop() {
    for damage in 0..6 {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path(), 1 << 20);
        let (mut spool, _) = open(&settings);
        for number in 1..=5 {
            put(&mut spool, number, 3);
        }
        let (ticket, _) = give(&mut spool).unwrap();
        spool.delivered(ticket, 1);
        spool.note().unwrap();
        drop(spool);
        let at = |name: &str| settings.folder.join(name);
        match damage {
            0 => fs::remove_file(at("journal-0")).unwrap(),
            1 => fs::remove_file(at("journal-1")).unwrap(),
            2 => {
                fs::write(at("journal-0"), b"DFPJRNL1 not").unwrap();
                fs::write(at("journal-1"), [7; 300]).unwrap();
            }
            3 => {
                for name in ["journal-0", "journal-1"] {
                    fs::File::options()
                        .write(true)
                        .open(at(name))
                        .unwrap()
                        .set_len(130)
                        .unwrap();
                }
            }
            4 => fs::write(at("0000000007.seg"), b"#!/bin/sh\necho foreign\n").unwrap(),
            _ => fs::write(at("notes.txt"), b"mine").unwrap(),
        }
        let (mut spool, recovered) = open(&settings);
        let given: Vec<_> = drain(&mut spool)
            .into_iter()
            .map(|(range, _)| *range.start())
            .collect();
        // 1 may repeat where its acknowledgement was in what is damaged; nothing else may be missing.
        assert!(given.ends_with(&[2, 3, 4, 5]), "{damage}: {given:?}");
        assert_eq!(recovered.damaged, 0, "{damage}");
        let (mut spool, _) = open(&settings);
        assert_eq!(put(&mut spool, 6, 3).1, [], "{damage}: goes on");
    }
}

#[test]
fn the_oldest_or_the_newest_go_where_that_is_wanted() {
    for when_full in [WhenFull::DropOldest, WhenFull::DropNewest] {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            when_full,
            ..settings(folder.path(), 1 << 20)
        };
        let (mut spool, _) = open(&settings);
        let mut lost: Vec<u64> = Vec::new();
        for number in 1..=2_000 {
            let (_, losses) = put(&mut spool, number, 200);
            lost.extend(losses.into_iter().flat_map(|loss| loss.range));
        }
        let kept: Vec<u64> = drain(&mut spool)
            .into_iter()
            .flat_map(|(range, _)| range)
            .collect();
        let mut all = [lost.clone(), kept.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, (1..=2_000).collect::<Vec<_>>());
        assert!(!lost.is_empty());
        assert_eq!(kept.contains(&2_000), when_full == WhenFull::DropOldest);
        assert_eq!(kept.contains(&1), when_full == WhenFull::DropNewest);
    }
}

#[test]
fn a_deleted_folder_is_written_again_from_the_open_files() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 1 << 20);
    let (mut spool, _) = open(&settings);
    for number in 1..=100 {
        put(&mut spool, number, 40);
    }
    fs::remove_dir_all(&settings.folder).unwrap();
    let mut losses = Vec::new();
    spool.check(&mut losses).unwrap();
    assert_eq!(losses, []);
    put(&mut spool, 101, 40);
    std::mem::forget(spool);
    let (mut spool, recovered) = open(&settings);
    assert_eq!(recovered.damaged, 0);
    assert_eq!(drain(&mut spool).len(), 101);
}
