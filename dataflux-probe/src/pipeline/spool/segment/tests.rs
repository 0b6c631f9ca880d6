//! Records survive whatever happens to the bytes around them.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const OUTPUT: &str = "main";

fn head(number: u64) -> Head {
    Head {
        stream: if number < 3 { "main-1" } else { "main-2" }.into(),
        range: number..=number + 1,
        time: -7,
    }
}

fn body_of(number: u64) -> Vec<u8> {
    let length = 37 * number % 101;
    (0..length).map(|at| (at * number % 251) as u8).collect()
}

fn append(segment: &mut Segment, number: u64) -> Place {
    let bytes = body_of(number);
    let body = Body {
        bytes: &bytes,
        compressed: number % 2 == 1,
    };
    segment.append(&head(number), body).unwrap()
}

/// A segment with records 1 to `records`.
fn example(records: u64) -> (TempDir, PathBuf, Vec<Place>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.seg");
    let mut segment = Segment::create(&path, Kind::Envelopes, OUTPUT).unwrap();
    let places = (1..=records)
        .map(|number| append(&mut segment, number))
        .collect();
    (folder, path, places)
}

/// The places of what a scan finds and what it says at its end.
fn scan(segment: &Segment) -> (Vec<(Place, Head)>, ScanEnd) {
    let mut found = Vec::new();
    let end = segment
        .scan(&mut |place, head| found.push((place, head)))
        .unwrap();
    (found, end)
}

/// The first numbers of the records that can be read, and how many cannot.
fn readable(segment: &Segment) -> (Vec<u64>, usize) {
    let mut buffer = Vec::new();
    let (mut good, mut bad) = (Vec::new(), 0);
    for (place, head) in scan(segment).0 {
        match segment.read(place, &mut buffer) {
            Ok(record) => {
                let number = *head.range.start();
                assert_eq!(record.head, head);
                assert_eq!(record.body.bytes, body_of(number));
                assert_eq!(record.body.compressed, number % 2 == 1);
                good.push(number);
            }
            Err(ReadError::Damaged(_)) => bad += 1,
            Err(ReadError::Io(error)) => panic!("{error}"),
        }
    }
    (good, bad)
}

fn open(path: &Path) -> Result<Segment, OpenError> {
    Segment::open(path, Kind::Envelopes, OUTPUT)
}

#[test]
fn what_is_appended_is_found_and_read() {
    let (_folder, path, places) = example(9);
    let mut segment = open(&path).unwrap();
    assert_eq!(segment.output(), OUTPUT);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let (found, end) = scan(&segment);
    let expected = places.iter().copied().zip((1..).map(head));
    assert!(found.iter().cloned().eq(expected));
    let whole = fs::metadata(&path).unwrap().len();
    let clean = ScanEnd {
        valid_length: whole,
        ..ScanEnd::default()
    };
    assert_eq!(end, clean);
    // Heads share the id of their stream.
    assert!(Arc::ptr_eq(&found[0].1.stream, &found[1].1.stream));
    append(&mut segment, 10);
    assert_eq!(readable(&segment), ((1..=10).collect(), 0));
    assert!(segment.is_linked().unwrap());
    fs::remove_file(&path).unwrap();
    assert!(!segment.is_linked().unwrap());
}

#[test]
fn a_tail_torn_anywhere_loses_only_what_was_torn() {
    let (_folder, path, places) = example(5);
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let header = places[0].offset as usize;
        let mut segment = match open(&path) {
            Err(OpenError::Blank) => {
                assert!(length < header, "{length}");
                continue;
            }
            result => result.unwrap(),
        };
        assert!(length >= header, "{length}");
        let (found, end) = scan(&segment);
        let ends = places
            .iter()
            .map(|place| place.offset + u64::from(place.length));
        let kept = ends.filter(|&end| end <= length as u64).count();
        assert_eq!(found.len(), kept);
        assert_eq!(end.valid_length + end.torn_bytes, length as u64);
        assert_eq!(end.skipped_bytes, 0);
        if let Some(torn) = &end.torn {
            assert_eq!(*torn, head(kept as u64 + 1));
        }
        segment.truncate(end.valid_length).unwrap();
        append(&mut segment, 6);
        let expected = (1..=kept as u64).chain([6]).collect();
        assert_eq!(readable(&open(&path).unwrap()), (expected, 0));
    }
    // The head is there before the body.
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert_eq!(scan(&open(&path).unwrap()).1.torn, Some(head(5)));
}

#[test]
fn a_tail_of_zeros_ends_the_scan_and_a_file_of_zeros_is_blank() {
    let (_folder, path, places) = example(4);
    let whole = fs::read(&path).unwrap();
    for start in 0..whole.len() {
        let mut zeroed = whole.clone();
        zeroed[start..].fill(0);
        zeroed.extend(vec![0; 5_000]);
        fs::write(&path, &zeroed).unwrap();
        let segment = match open(&path) {
            Err(OpenError::Blank) => {
                assert_eq!(start, 0);
                continue;
            }
            // A header cut off by zeros cannot be told from something else.
            Err(OpenError::Foreign(_)) => {
                assert!((start as u64) < places[0].offset);
                continue;
            }
            result => result.unwrap(),
        };
        let (good, _) = readable(&segment);
        let ends = places
            .iter()
            .map(|place| place.offset + u64::from(place.length));
        // A body that ends in zeros is whole if it only lost those.
        let kept = ends.filter(|&end| end <= start as u64).count() as u64;
        assert!(good.iter().copied().eq(1..=good.len() as u64) && good.len() as u64 >= kept);
    }
}

#[test]
fn a_flipped_byte_loses_one_record_at_most_and_shows() {
    let (_folder, path, places) = example(6);
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(&path, &flipped).unwrap();
        let segment = open(&path).unwrap();
        let (good, bad) = readable(&segment);
        let end = scan(&segment).1;
        let lost = places.iter().position(|place| {
            (place.offset..place.offset + u64::from(place.length)).contains(&(at as u64))
        });
        let expected = (1..=6).filter(|&number| lost != Some(number as usize - 1));
        assert!(good.iter().copied().eq(expected), "{at}: {good:?}");
        assert_eq!(segment.header_is_damaged(), lost.is_none());
        if let Some(lost) = lost {
            let shows = bad == 1 || end.skipped_bytes == u64::from(places[lost].length);
            assert!(shows || (lost == 5 && end.torn_bytes > 0), "{at}");
        }
    }
}

#[test]
fn what_is_no_segment_of_this_output_is_left_alone() {
    let (folder, path, _) = example(1);
    let foreign = |result: Result<Segment, OpenError>| {
        let Err(OpenError::Foreign(message)) = result else {
            panic!("{result:?}")
        };
        message
    };
    let message = foreign(Segment::open(&path, Kind::Envelopes, "other"));
    assert_eq!(message, "it belongs to the output \"main\"");
    let message = foreign(Segment::open(&path, Kind::DeadLetters, OUTPUT));
    assert_eq!(message, "there is another kind of records in it");
    let other = folder.path().join("2.seg");
    for bytes in [&b"#!/bin/sh\n"[..], &[0, 0, 7], &[0xdf; 70_000]] {
        fs::write(&other, bytes).unwrap();
        assert_eq!(foreign(open(&other)), "it is no segment");
        assert_eq!(fs::read(&other).unwrap(), bytes);
    }
    assert_eq!(foreign(open(folder.path())), "it is not a regular file");
    assert!(matches!(
        open(&folder.path().join("3.seg")),
        Err(OpenError::Io(_))
    ));
    let pipe = folder.path().join("4.seg");
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
    )
    .unwrap();
    assert_eq!(foreign(open(&pipe)), "it is not a regular file");
}

#[test]
fn another_version_is_named() {
    let (_folder, path, _) = example(2);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 2;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..60]), OUTPUT.as_bytes());
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(open(&path), Err(OpenError::Version(2))));
}

#[test]
fn what_cannot_be_found_again_is_not_written() {
    let (_folder, path, _) = example(1);
    let mut segment = open(&path).unwrap();
    let length = segment.length();
    let body = Body {
        bytes: b"x",
        compressed: false,
    };
    let long = Head {
        stream: "x".repeat(format::LONGEST_STREAM + 1).into(),
        ..head(2)
    };
    assert!(segment.append(&long, body).is_err());
    assert_eq!(fs::metadata(&path).unwrap().len(), length);
    let name = "x".repeat(256);
    assert!(Segment::create(&path.with_extension("2"), Kind::Envelopes, &name).is_err());
}

#[test]
fn a_reader_beside_the_writer_sees_whole_records_in_order() {
    let (_folder, path, _) = example(1);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut segment = open(&path).unwrap();
            for number in 2..2_000 {
                append(&mut segment, number);
            }
            done.store(true, Ordering::Release);
        });
        loop {
            let last = done.load(Ordering::Acquire);
            let view = Segment::view(&path, Kind::Envelopes).unwrap();
            let (good, bad) = readable(&view);
            assert_eq!(bad, 0);
            assert!(good.iter().copied().eq(1..=good.len() as u64));
            if last {
                assert_eq!(good.len(), 1_999);
                break;
            }
        }
    });
}

proptest! {
    #[test]
    fn any_bytes_are_records_or_damage(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        headed: bool,
    ) {
        let (_folder, path, _) = example(1);
        let mut content = if headed { fs::read(&path).unwrap() } else { Vec::new() };
        content.extend(bytes);
        fs::write(&path, &content).unwrap();
        if let Ok(segment) = open(&path) {
            let (good, _) = readable(&segment);
            prop_assert_eq!(good, [1]);
        } else {
            prop_assert!(!headed);
        }
    }
}
