//! Appending: what ends where, when a file is closed and what it is called then.

use super::*;

/// What the closed files and the open one hold, by name.
fn contents(path: &Path) -> Vec<String> {
    let folder = path.parent().unwrap();
    let names = listed(folder)
        .into_iter()
        .filter(|name| !name.starts_with('.'));
    names.map(|name| text(&folder.join(name))).collect()
}

#[test]
fn a_file_is_closed_before_the_record_that_would_exceed() {
    let (folder, _) = folder();
    let path = folder.path().join("log.csv");
    let mut appender = appender(&path, "roll_bytes = 20");
    for number in 0..3 {
        let now = START + number * MINUTE;
        append(&mut appender, now, "head\n", &format!("record {number}\n")).unwrap();
    }
    // 5 bytes of header and 9 of a record leave no room for a second record of 9.
    assert_eq!(
        listed(folder.path()),
        [
            "log-20261121T220000.000Z.csv",
            "log-20261121T220100.000Z.csv",
            "log.csv"
        ],
        "named by the last record, the open one last"
    );
    let expected = ["head\nrecord 0\n", "head\nrecord 1\n", "head\nrecord 2\n"];
    assert_eq!(contents(&path), expected);

    let large = "x".repeat(100) + "\n";
    append(&mut appender, START, "", &large).unwrap();
    assert_eq!(
        text(&path),
        large,
        "a record larger than a file has one for itself"
    );
}

#[test]
fn files_are_closed_at_full_hours() {
    let (folder, path) = folder();
    let mut first = appender(&path, "roll_every = '1h'");
    for (time, record) in [
        (START + 50 * MINUTE, "1\n"),
        (START + 59 * MINUTE, "2\n"),
        (START + HOUR, "3\n"),
        // The clock goes back: that is no new hour.
        (START + 30 * MINUTE, "4\n"),
    ] {
        append(&mut first, time, "", record).unwrap();
    }
    assert_eq!(listed(folder.path()), ["log", "log-20261121T225900.000Z"]);
    assert_eq!(contents(&path), ["3\n4\n", "1\n2\n"]);
    drop(first);

    // After a restart the file itself says when it was written to.
    let days_ago = SystemTime::now() - Duration::from_secs(3 * 86_400);
    fs::File::options()
        .append(true)
        .open(&path)
        .unwrap()
        .set_modified(days_ago)
        .unwrap();
    append(&mut appender(&path, "roll_every = '1h'"), now(), "", "5\n").unwrap();
    assert_eq!(listed(folder.path()).len(), 3);
    assert_eq!(text(&path), "5\n");
}

#[test]
fn names_sort_by_writing_whatever_the_clock_does() {
    let (folder, path) = folder();
    let options = "roll_bytes = 5\nkeep = 100";
    let mut expected = Vec::new();
    let steps = [0, 5 * MINUTE, -HOUR, -HOUR, -HOUR, 6 * MINUTE, -2 * HOUR];
    for (number, step) in (0..).zip(steps) {
        // A restart each time.
        let mut appender = appender(&path, options);
        let record = format!("{number:04}\n");
        append(&mut appender, START + step, "", &record).unwrap();
        expected.push(record);
    }
    let mut names = listed(folder.path());
    names.rotate_left(1);
    let found: Vec<_> = names
        .iter()
        .map(|name| text(&folder.path().join(name)))
        .collect();
    assert_eq!(found, expected, "{names:?}");
}

#[test]
fn each_day_has_its_file() {
    let (folder, _) = folder();
    let path = folder.path().join("{date}/{host}-{reader}.csv");
    let mut appender = appender(&path, "");
    for (time, record) in [
        (0, "1\n2\n"),
        (HOUR, "3\n"),
        (3 * HOUR, "4\n"),
        (4 * HOUR, "5\n"),
    ] {
        append(&mut appender, START + time, "head\n", record).unwrap();
    }
    assert_eq!(listed(folder.path()), ["2026-11-21", "2026-11-22"]);
    let of_day = |day: &str| folder.path().join(day).join("web-cpu.csv");
    assert_eq!(text(&of_day("2026-11-21")), "head\n1\n2\n3\n");
    assert_eq!(text(&of_day("2026-11-22")), "head\n4\n5\n");
    let left = listed(&folder.path().join("2026-11-21"));
    assert_eq!(
        left,
        ["web-cpu.csv"],
        "nothing is announced for it any more"
    );
}

#[test]
fn keep_0_keeps_none() {
    let (folder, path) = folder();
    let mut appender = appender(&path, "roll_bytes = 5\nkeep = 0");
    append(&mut appender, START, "", "0005\n").unwrap();
    append(&mut appender, START, "", "0006\n").unwrap();
    assert_eq!(listed(folder.path()), ["log"]);
    assert_eq!(text(&path), "0006\n");
}

#[test]
fn a_torn_tail_is_cut_off_and_whole_records_stay() {
    let (_folder, path) = folder();
    let long = "y".repeat(200_000);
    for (left, kept) in [
        ("", ""),
        ("torn", ""),
        ("whole\n", "whole\n"),
        ("whole\n\n", "whole\n\n"),
        ("whole\ntorn", "whole\n"),
        (&*format!("whole\n{long}"), "whole\n"),
        (&*long, ""),
        (&*format!("{long}\ntorn"), &*format!("{long}\n")),
    ] {
        fs::write(&path, left).unwrap();
        append(&mut appender(&path, ""), START, "", "next\n").unwrap();
        assert!(
            text(&path) == format!("{kept}next\n"),
            "{} bytes",
            left.len()
        );
    }
}

/// Every length that a kill can leave, for records whose ends cannot be seen.
#[test]
fn records_of_several_lines_and_of_any_bytes_are_there_or_not() {
    let first: &[u8] = b"1 a\n1 b\n";
    let second: &[u8] = b"2 a\n2 b\n2 c\n";
    for is_text in [true, false] {
        for written in 0..=second.len() {
            let (folder, path) = folder();
            let record = |bytes| Record {
                header: b"head\n",
                bytes,
                is_text,
            };
            let mut before = appender(&path, "");
            before.append(START, record(first)).unwrap();
            before.append(START, record(second)).unwrap();
            drop(before);
            let length = fs::metadata(&path).unwrap().len();
            let torn = fs::File::options().write(true).open(&path).unwrap();
            torn.set_len(length - second.len() as u64 + written as u64)
                .unwrap();

            let third: &[u8] = b"3\n";
            appender(&path, "").append(START, record(third)).unwrap();
            let whole = written == second.len();
            let kept = if whole { second } else { b"" };
            let expected = [b"head\n", first, kept, third].concat();
            assert_eq!(
                fs::read(&path).unwrap(),
                expected,
                "{written} bytes were written"
            );
            assert_eq!(listed(folder.path()), [".log.end", "log"]);
        }
    }
}

#[test]
fn what_was_announced_before_a_single_line_is_not_believed_after_it() {
    let (_folder, path) = folder();
    append(&mut appender(&path, ""), START, "", "one\n").unwrap();
    append(
        &mut appender(&path, ""),
        START,
        "",
        "a longer record\nof two lines\n",
    )
    .unwrap();
    append(&mut appender(&path, ""), START, "", "two\n").unwrap();
    let torn = fs::File::options().write(true).open(&path).unwrap();
    let length = torn.metadata().unwrap().len();
    torn.set_len(length - 2).unwrap();
    append(&mut appender(&path, ""), START, "", "three\n").unwrap();
    assert_eq!(text(&path), "one\na longer record\nof two lines\nthree\n");
}

#[test]
fn where_nobody_knows_the_last_record_a_new_file_begins() {
    for announced in [false, true] {
        let (folder, path) = folder();
        let options = "keep = 0\nroll_bytes = 0";
        let bytes = |bytes| Record {
            header: b"",
            bytes,
            is_text: false,
        };
        appender(&path, options)
            .append(START, bytes(b"\x81\xa1\n"))
            .unwrap();
        if announced {
            // Of a file that is longer than what was announced: somebody else wrote to it.
            let mut file = fs::File::options().append(true).open(&path).unwrap();
            std::io::Write::write_all(&mut file, b"foreign").unwrap();
        } else {
            fs::remove_file(names::note(&path)).unwrap();
        }
        let mut second = appender(&path, options);
        second.append(START, bytes(b"\xc0")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"\xc0");
        assert_eq!(listed(folder.path()).len(), 3, "what was there is kept");
        second.append(START, bytes(b"\xc1")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"\xc0\xc1");
    }
}

#[test]
fn a_file_with_another_header_is_closed() {
    let (folder, path) = folder();
    let options = "roll_bytes = 0";
    append(&mut appender(&path, options), START, "a,b\n", "1,2\n").unwrap();
    append(&mut appender(&path, options), START, "a,b\n", "3,4\n").unwrap();
    append(&mut appender(&path, options), START, "a,b,c\n", "5,6,7\n").unwrap();
    assert_eq!(text(&path), "a,b,c\n5,6,7\n");
    let closed = &listed(folder.path())[1];
    assert_eq!(text(&folder.path().join(closed)), "a,b\n1,2\n3,4\n");
}

#[test]
fn what_is_no_file_of_lines_is_left_alone() {
    let (folder, path) = folder();
    let error = |path: &Path| {
        let error = append(&mut appender(path, ""), START, "", "line\n").unwrap_err();
        format!("{error:#}")
    };
    let foreign = fs::File::create(&path).unwrap();
    foreign.set_len(80 << 20).unwrap();
    let told = error(&path);
    assert!(told.contains("is this the right file?"), "{told}");
    assert_eq!(foreign.metadata().unwrap().len(), 80 << 20);
    let later = |name: &str| {
        let path = folder.path().join(name);
        (appender(&path, ""), path)
    };
    let (mut appender, link) = later("link");
    std::os::unix::fs::symlink("/dev/null", link).unwrap();
    let error = append(&mut appender, START, "", "line\n").unwrap_err();
    let told = format!("{error:#}");
    assert!(told.contains("not a regular file"), "{told}");
    let (mut appender, late) = later("late");
    fs::create_dir(&late).unwrap();
    let error = format!("{:#}", appender.open(START).unwrap_err());
    assert!(error.contains("Is a directory"), "{error}");
}

#[test]
fn a_file_has_one_writer() {
    let (_folder, path) = folder();
    let mut first = appender(&path, "");
    append(&mut first, START, "", "first\n").unwrap();
    let mut second = appender(&path, "");
    let error = append(&mut second, START, "", "second\n").unwrap_err();
    assert!(format!("{error:#}").contains("has locked it"), "{error:#}");
    drop(first);
    append(&mut second, START, "", "second\n").unwrap();
    assert_eq!(text(&path), "first\nsecond\n");
}

#[test]
fn a_file_that_was_moved_deleted_or_emptied_is_noticed() {
    let (folder, path) = folder();
    let mut appender = appender(&path, "roll_bytes = 15");
    let mut next = |record| {
        append(&mut appender, START, "head\n", record)
            .map(drop)
            .unwrap()
    };
    next("one\n");
    let moved = path.with_extension("moved");
    fs::rename(&path, &moved).unwrap();
    next("two\n");
    let both = (text(&moved), text(&path));
    assert_eq!(both, ("head\none\n".into(), "head\ntwo\n".into()));

    fs::remove_file(&path).unwrap();
    next("three\n");
    assert_eq!(text(&path), "head\nthree\n");

    fs::rename(&moved, &path).unwrap();
    next("four\n");
    assert_eq!(
        text(&path),
        "head\none\nfour\n",
        "another file was put in its place"
    );

    fs::write(&path, "").unwrap();
    next("five\n");
    assert_eq!(text(&path), "head\nfive\n");
    assert_eq!(
        listed(folder.path()),
        ["log"],
        "each was below the size to roll at"
    );
}
